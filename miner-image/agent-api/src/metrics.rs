//! Metrics of the agent that the operator reads. `docs/miner.md` lists the others.

/// 1, with the label [`EVIDENCE`].
pub const INFO: &str = "daylight_miner_info";

/// 1 with the label [`REASON`] while the agent is not ready; no sample otherwise.
pub const NOT_READY: &str = "daylight_miner_not_ready";

/// Current hashes per second.
pub const HASHRATE: &str = "daylight_miner_hashrate";

/// Hashes since the agent started.
pub const HASHES: &str = "daylight_miner_hashes_total";

/// Shares since the agent started, by [`RESULT`].
pub const SHARES: &str = "daylight_miner_shares_total";

/// Label of [`INFO`]: a word of [`crate::Evidence`].
pub const EVIDENCE: &str = "evidence";

/// Label of [`NOT_READY`]: a word of [`crate::NotReady`].
pub const REASON: &str = "reason";

/// Label of [`SHARES`]. Every result other than [`ACCEPTED`] earns nothing.
pub const RESULT: &str = "result";

/// Value of [`RESULT`] for the shares that the pool accepted.
pub const ACCEPTED: &str = "accepted";
