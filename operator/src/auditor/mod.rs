//! The auditor: sees who has which GPU, reads what the devices draw, keeps the books, and lets
//! pods go once their end is on record. It decides nothing, and writes nothing in the cluster but
//! what it found.
//!
//! The path of data: watches and exporters feed [`books`], which feeds the meter; the meter's
//! entries go to the journal; once they are durable, pods are let go and statuses written.

pub mod agents;
pub mod batch;
pub mod books;
pub mod exporter;
pub mod journal;
pub mod metrics;
mod miners;
pub mod pseudonyms;
mod register;
pub mod run;
mod say;
mod work;
mod writer;
