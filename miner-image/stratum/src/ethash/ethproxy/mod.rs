//! `EthProxy`: the node's `eth_getWork` and `eth_submitWork` over a lasting connection, with a login, and
//! with new jobs pushed as results of no request.

mod notice;
mod request;
mod session;

pub use notice::FromPool;
pub use request::{Call, Request, Submit};
pub use session::Session;
