//! The `RandomX` engine, for pools in Monero's dialect, with the reference library.
//!
//! The agent runs the [`Engine`]. It fills the memory for a job's seed, starts the threads, and
//! repeats both when a job has another seed. [`Memory`] and [`Hasher`] are its parts, for hashes
//! without a pool.
//!
//! [`Mode::Light`] computes with a cache of 256 MiB. [`Mode::Fast`] computes with a dataset of 2080 MiB,
//! and needs the cache, too, while it fills the dataset. All threads share them; each has another
//! 2 MiB.
//!
//! The build needs cmake and a C++ compiler. A static binary needs only
//! `-C target-feature=+crt-static`: the build script finds the archive of the C++ library.

mod engine;
mod error;
mod job;
#[expect(unsafe_code, reason = "the reference library has a C interface")]
mod library;
mod limits;
mod memory;
mod pages;
mod worker;

pub use engine::{Engine, Feed, State};
pub use error::Error;
pub use job::UnsupportedJob;
pub use memory::{Hasher, Memory, Mode, Options, Progress, Ready};
pub use pages::{NoHugePages, Pages};
