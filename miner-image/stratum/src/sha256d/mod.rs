//! SHA-256d, Bitcoin's proof of work: the reference ([`sha256d`], [`merkle_root`]) and an engine on
//! CPUs, see the crate's documentation.
//!
//! The [`Engine`] takes a job's [`Unit`]s, and searches each by a [`Kernel`]. Kernels test only the
//! upper 32 bits of a hash; [`Scan::proved`] computes the remaining candidates again by the reference.

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
