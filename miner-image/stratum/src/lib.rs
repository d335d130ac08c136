//! How a miner talks with its pools, and what it hashes for them.
//!
//! - [`v1`] and [`monero`] are the protocols: typed messages, and a [`Session`] that turns lines
//!   into work and shares into lines, without I/O.

pub mod client;
mod difficulty;
mod endpoint;
mod lines;
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

pub use difficulty::{Difficulty, Target};
pub use endpoint::{Endpoint, EndpointError, Tls};
pub use lines::{Broken, LINE_TIME, Lines};
pub use malformed::{MAX_LINE, Malformed};
pub use message::{Failure, Id};
pub use session::{Heard, Login, Session, Submission};
