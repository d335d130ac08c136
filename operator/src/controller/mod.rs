//! `daylight controller`: decides and writes.

pub mod executor;
pub mod fence;
pub mod lease;
