//! `daylight controller`: decides and writes.

pub mod events;
pub mod executor;
pub mod fence;
pub mod http;
pub mod lease;
pub mod metrics;
pub mod status;
