//! The contract between Daylight's operator and the agent in a miner's pod.
//!
//! The operator sets the agent's environment ([`mod@env`]), probes and scrapes it over HTTP ([`http`],
//! [`metrics`]), and reads its record of work from the container's termination message
//! ([`WorkRecord`]). Each name that crosses this boundary is spelled here and nowhere else. The
//! documents for images with agents of their own are `docs/miner.md` and `docs/metering.md`.

pub mod env;
pub mod http;
pub mod metrics;
mod outcome;
mod record;
mod words;

pub use outcome::{NotReady, Outcome};
pub use record::{Evidence, LastWords, RECORD_KEY, Version, Work, WorkRecord, find_record};
