//! The `RandomX` engine: hashes, by the reference library, what a pool in Monero's dialect offers.
//!
//! [`Engine`] is what the agent runs. It makes the memory that a job's seed asks for, starts the
//! threads, and does so again when a job names another seed. [`Memory`] and [`Hasher`] are its
//! parts, for those who only want hashes.
//!
//! [`Mode::Light`] computes with a cache of 256 MiB; [`Mode::Fast`] with a dataset of 2080 MiB,
//! which takes a while to make, and for that while needs the cache, too. All threads share them;
//! each has 2 MiB of its own.
//!
//! Building it takes cmake and a C++ compiler. A static binary needs nothing beside
//! `-C target-feature=+crt-static`: the build script finds the archive of the C++ library.

mod engine;
mod error;
mod job;
mod lane;
#[expect(unsafe_code, reason = "the reference library has a C interface")]
mod library;
mod limits;
mod memory;
mod pages;

pub use engine::{Engine, Feed, State};
pub use error::Error;
pub use job::Refusal;
pub use memory::{Hasher, Memory, Mode, Options, Ready, Tell};
pub use pages::{NoHugePages, Pages};
