//! Objects that Daylight creates.

pub mod gang;
mod miner_container;
pub mod miner_pod;
