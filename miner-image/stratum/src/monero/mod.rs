//! The dialect of Monero's pools: JSON-RPC 2.0, one object a line (`login`, `job`, `submit`,
//! `keepalived`), whatever the algorithm.

mod pool;
mod request;
mod session;

pub use pool::{FromPool, Job, LoggedIn, Reply};
pub use request::{Call, Request, Submit};
pub(crate) use session::{KEEPALIVE, NICEHASH};
pub use session::{Session, Share, Work};
