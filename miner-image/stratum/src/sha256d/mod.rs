//! SHA-256d, Bitcoin's proof of work: headers ([`merkle_root`]) and an engine on CPUs, on the kernels of
//! `daylight-sha256d`. The [`Engine`] takes a job's [`Unit`]s, and searches each by a [`Kernel`].

mod engine;
mod header;
mod unit;

pub use daylight_sha256d::{INITIAL, K, Kernel, Scan, sha256d};
pub use engine::{Engine, Feed};
pub use header::merkle_root;
pub use unit::Unit;
