//! `daylight controller`.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use clap::Args;
use daylight_planner::Margins;

use super::Failed;
use super::connect::Connection;
use super::serve::{Authority, Listen, duration, listen, shutdown};
use crate::controller::executor::Limits;
use crate::controller::lease::LeaseConfig;
use crate::controller::run::{self, Settings};

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Who claims the lease; must differ between replicas. Default: the host's name and a random
    /// suffix
    #[arg(long, env = "DAYLIGHT_IDENTITY")]
    identity: Option<String>,
    /// The Lease by which replicas elect who writes
    #[arg(long, env = "DAYLIGHT_LEASE_NAME", default_value = "daylight-controller")]
    lease_name: String,
    /// How long the lease holds without renewal
    #[arg(long, env = "DAYLIGHT_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    lease_duration: Duration,
    /// How often the leader renews it
    #[arg(long, env = "DAYLIGHT_LEASE_RENEW", default_value = "5s", value_parser = duration)]
    lease_renew: Duration,
    /// How often the others look at it
    #[arg(long, env = "DAYLIGHT_LEASE_RETRY", default_value = "500ms", value_parser = duration)]
    lease_retry: Duration,
    /// The longest that a request may take
    #[arg(long, env = "DAYLIGHT_REQUEST_TIMEOUT", default_value = "4s", value_parser = duration)]
    request_timeout: Duration,
    /// Requests that change something, under way at once
    #[arg(long, env = "DAYLIGHT_CONCURRENCY", default_value_t = 64)]
    concurrency: u16,
    /// Such requests a second; 0 means as many as the API server takes
    #[arg(long, env = "DAYLIGHT_RATE", default_value_t = 0)]
    rate: u32,
    /// How long changes are gathered before the next plan
    #[arg(long, env = "DAYLIGHT_DEBOUNCE", default_value = "50ms", value_parser = duration)]
    debounce: Duration,
    /// How long a miner's pod that failed by itself is kept, so that its log can be read
    #[arg(long, env = "DAYLIGHT_FAILED_PODS_KEPT", default_value = "1m", value_parser = duration)]
    failed_pods_kept: Duration,
    /// Let an auditor take the end of each miner's pod on record before the pod goes
    #[arg(long, env = "DAYLIGHT_METERED")]
    metered: bool,
    /// How long miners with Daylight's agent work on when no auditor asks them any more, as on a node
    /// that is cut off; at least 2m, or 0s for as long as they are let
    #[arg(long, env = "DAYLIGHT_AGENT_LEASE", default_value = "0s", value_parser = agent_lease)]
    agent_lease: Duration,
    /// How long an auditor may take for that, before the end is written down in a `LeaseRecord`
    /// and the pod is let go
    #[arg(long, env = "DAYLIGHT_RECORD_AFTER", default_value = "1m", value_parser = duration)]
    record_after: Duration,
    #[command(flatten)]
    authority: Authority,
    /// A meter's reading older than this lets no more miners start under an energy limit
    #[arg(long, env = "DAYLIGHT_METER_STALE", default_value = "5m", value_parser = duration)]
    meter_stale: Duration,
    /// A miner starts only if the energy left of its limit lets all run so long
    #[arg(long, env = "DAYLIGHT_ENERGY_AHEAD", default_value = "10m", value_parser = duration)]
    energy_ahead: Duration,
    /// Where /metrics, /livez and /readyz are served; `none` for nowhere
    #[arg(long, env = "DAYLIGHT_LISTEN", default_value = "0.0.0.0:8080", value_parser = listen)]
    listen: Listen,
}

impl Flags {
    fn settings(self, namespace: &str) -> Settings {
        Settings {
            namespace: namespace.into(),
            authority_keys: self.authority.authority_keys,
            require_signature: self.authority.require_signature,
            lease: LeaseConfig {
                namespace: namespace.into(),
                name: self.lease_name,
                identity: self.identity.unwrap_or_else(identity),
                duration: self.lease_duration,
                renew_every: self.lease_renew,
                retry_every: self.lease_retry,
                request_timeout: self.request_timeout,
            },
            margins: Margins { meter_stale: self.meter_stale, energy_ahead: self.energy_ahead },
            limits: Limits {
                concurrency: usize::from(self.concurrency.max(1)),
                per_second: self.rate,
                metered: self.metered,
                agent_lease: Some(self.agent_lease).filter(|lease| !lease.is_zero()),
                failed_pods_kept: self.failed_pods_kept,
                record_after: self.record_after,
            },
            listen: self.listen.0,
            debounce: self.debounce,
        }
    }
}

/// Auditors ask every minute, if they are not told otherwise.
fn agent_lease(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        lease if lease.is_zero() || lease >= Duration::from_mins(2) => Ok(lease),
        _ => Err("it must be at least 2m, since auditors ask every minute; 0s for no lease".into()),
    }
}

/// The host's name, in a pod the pod's, and a suffix, since a container that is started again
/// has the same name and must wait for the lease of the one before it.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").ok().or_else(|| {
        std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned())
    });
    let random = RandomState::new().build_hasher().finish();
    format!("{}_{random:016x}", host.unwrap_or_else(|| "daylight".into()))
}

pub(super) async fn run(connection: &Connection, flags: Flags) -> Result<(), Failed> {
    let config = connection.config().await?;
    let settings = flags.settings(&connection.namespace);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), identity = %settings.lease.identity,
        server = %config.cluster_url, "Starting."
    );
    let shutdown = shutdown()?;
    let done = Box::pin(run::run(config, settings, shutdown)).await;
    done.map_err(|error| Failed::new(error.to_string()))
}
