//! Stratum v1: one JSON object a line, as Bitcoin's pools speak it (`mining.subscribe` and so on),
//! with version rolling as in BIP 310.

mod notice;
mod reply;
mod request;
mod session;

pub use notice::{FromPool, Job, Notice, Question, Redirect};
pub use reply::{Configured, Reply, Subscribed};
pub use request::{Call, Request, Submit, VersionRolling};
pub use session::{Session, Share, Work};
