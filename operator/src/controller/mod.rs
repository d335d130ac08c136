//! `daylight controller`: decides and writes.

pub mod fence;
pub mod lease;
