//! SHA-256d, Bitcoin's proof of work, on CPUs.

mod constants;
mod engine;
mod header;
mod kernel;
mod lanes;
mod unit;

pub use constants::{INITIAL, K};
pub use engine::{Engine, Feed};
pub use header::{merkle_root, sha256d};
pub use kernel::{Kernel, Scan};
pub use unit::Unit;
