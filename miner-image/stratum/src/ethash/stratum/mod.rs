//! The dialects with Stratum's methods: EthereumStratum/1.0.0 and Ravencoin's Stratum for `KawPow`.
//!
//! The messages show which of the two they belong to, so that both have one codec. What it does not
//! have in common with Stratum v1 is here; the rest is that of [`crate::v1`].

mod notice;
mod request;
mod session;

pub use notice::{FromPool, Subscribed};
pub use request::{Call, Request, Submit};
pub use session::{EthereumStratum, Kawpow, Session, Variant};
