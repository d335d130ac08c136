//! The only place that writes.

pub mod gang;
pub mod miner_pod;
pub mod send;
