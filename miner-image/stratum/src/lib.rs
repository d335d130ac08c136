//! How a miner talks with its pools, and what it hashes for them.
//!
//! - [`v1`] and [`monero`] are the protocols: typed messages, and a [`Session`] that turns lines
//!   into work and shares into lines, without I/O.

mod difficulty;
mod malformed;
mod message;
pub mod monero;
mod session;
pub mod v1;

pub use difficulty::{Difficulty, Target};
pub use malformed::{MAX_LINE, Malformed};
pub use message::{Failure, Id};
pub use session::{Heard, Login, Session, Submission};
