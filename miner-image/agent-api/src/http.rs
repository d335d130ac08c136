//! HTTP interface of the agent.

/// The agent's port. The image exposes it, probes and scrapes go to it.
pub const PORT: u16 = 9735;

/// Metrics in the Prometheus text format: see [`crate::metrics`].
pub const METRICS_PATH: &str = "/metrics";

/// The agent's state as JSON, for people.
pub const STATUS_PATH: &str = "/status";

/// 200 while the engine is connected, authorised and hashing, else 503: see [`crate::NotReady`].
pub const READY_PATH: &str = "/readyz";

/// 200 while the agent answers.
pub const LIVE_PATH: &str = "/livez";

/// Header that renews the agent's lease if its value is [`LEASE_RENEW`], on a request to any path.
pub const LEASE_HEADER: &str = "daylight-lease";

/// Value of [`LEASE_HEADER`].
pub const LEASE_RENEW: &str = "renew";
