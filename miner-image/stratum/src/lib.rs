//! Mining protocols, and the proof of work that they are tested with.
//!
//! # Protocols
//!
//! - [`v1`], [`monero`] and [`ethash`] are the dialects: typed messages, and a [`Session`] that turns
//!   lines into work and shares into lines, without I/O.
//! - [`client`] keeps a connection to one of several pools, whatever the dialect.
//! - [`proxy`] is a pool for engines in the same pod. It passes their work and shares through
//!   clients, so that an engine never learns the wallet.
//! - `pool` and `loopback` (feature `loopback`) are the pool's side, for tests.
//!
//! # SHA-256d
//!
//! [`sha256d`] is Bitcoin's proof of work in two parts:
//!
//! - the reference, [`sha256d::sha256d`] and [`sha256d::merkle_root`], by which a [`v1::Work`]
//!   becomes a header and a pool judges a share;
//! - the engine, [`sha256d::Engine`], which searches for shares on CPUs and serves the GPU engine as
//!   the reference to check its results against.
//!
//! The dependency has one direction: the engine uses the work, the shares and the client of the
//! protocols, which in turn know no hash. Only the pool for tests uses the reference.

pub mod client;
mod difficulty;
mod endpoint;
pub mod ethash;
mod lines;
mod live_jobs;
#[cfg(feature = "loopback")]
pub mod loopback;
mod malformed;
mod message;
pub mod monero;
#[cfg(feature = "loopback")]
pub mod pool;
pub mod proxy;
mod session;
pub mod sha256d;
mod tls;
pub mod v1;

pub use daylight_sha256d::Target;
pub use difficulty::Difficulty;
pub use endpoint::{Endpoint, EndpointError, Tls};
pub use lines::{LINE_TIME, LineError, Lines};
pub use malformed::{MAX_LINE, Malformed};
pub use message::{Failure, Id};
pub use session::{Login, Received, Session, Submission, hide, places_of};
