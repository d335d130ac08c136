//! SHA-256d on processors: the reference ([`sha256d`]), and the search for nonces of a header that reach
//! a [`Target`], by a [`Kernel`].
//!
//! Kernels test only the upper 32 bits of a hash; [`Scan::proved`] computes the remaining candidates
//! again by the reference.
//!
//! The unrolled kernels take a minute to compile. They are a crate of their own so that nothing else
//! waits for them.

mod constants;
mod kernel;
mod lanes;
mod target;

use sha2::{Digest as _, Sha256};

pub use constants::{INITIAL, K};
pub use kernel::{BATCH, Kernel, Scan};
pub use target::Target;

/// Returns SHA-256 of SHA-256.
pub fn sha256d(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}
