//! SHA-256d, Bitcoin's proof of work, on CPUs.

mod engine;
mod header;
mod kernel;
mod lanes;

pub use engine::{Engine, Feed};
pub use header::{merkle_root, sha256d};
pub use kernel::{Kernel, Scan};
