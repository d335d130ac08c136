//! The auditor: sees who has which GPU, reads what the devices draw, and keeps the books.

pub mod exporter;
pub mod journal;
