//! The auditor: observes which pod holds which GPUs, reads what the devices draw, keeps the books,
//! and releases a pod once the end of its lease is in the journal. It decides nothing, and writes
//! in the cluster only what it found.
//!
//! The path of data: watches and exporters feed the `bookkeeper`, which feeds the meter; the
//! meter's entries go to the [`journal`]; once they are durable, pods are released and metrics
//! published.

mod admission;
mod agents;
pub mod batch;
mod bookkeeper;
mod cluster_writes;
pub mod cosigning;
mod declarations;
pub mod exporter;
pub mod journal;
pub mod kept_checkpoint;
pub mod ledger_key;
mod metered;
pub mod metrics;
mod miner_work;
mod other_watches;
pub mod poll;
pub mod pseudonyms;
mod publish;
mod release;
pub mod run;
mod steady_clock;
mod usage;
mod work;
mod writer;
