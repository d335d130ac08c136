//! `daylight controller`: flags and start of the controller.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use clap::Args;
use daylight_base::duration;
use daylight_planner::Margins;

use super::connect::Connection;
use super::error::CommandError;
use super::serve::{Authority, Listen, listen, shutdown};
use crate::controller::executor::Limits;
use crate::controller::lease::LeaseConfig;
use crate::controller::run::{self, Settings};

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Name by which this replica claims the lease; must differ between replicas. Default: the host
    /// name and a random suffix
    #[arg(long, env = "DAYLIGHT_IDENTITY")]
    identity: Option<String>,
    /// Lease by which the replicas elect a leader
    #[arg(long, env = "DAYLIGHT_LEASE_NAME", default_value = "daylight-controller")]
    lease_name: String,
    /// Time for which the lease holds without renewal
    #[arg(long, env = "DAYLIGHT_LEASE_DURATION", default_value = "15s", value_parser = duration::parse)]
    lease_duration: Duration,
    /// Interval at which the leader renews the lease
    #[arg(long, env = "DAYLIGHT_LEASE_RENEW", default_value = "5s", value_parser = duration::parse)]
    lease_renew: Duration,
    /// Interval at which the other replicas check the lease
    #[arg(long, env = "DAYLIGHT_LEASE_RETRY", default_value = "500ms", value_parser = duration::parse)]
    lease_retry: Duration,
    /// Time limit of each request
    #[arg(long, env = "DAYLIGHT_REQUEST_TIMEOUT", default_value = "4s", value_parser = duration::parse)]
    request_timeout: Duration,
    /// Maximum number of concurrent writes
    #[arg(long, env = "DAYLIGHT_CONCURRENCY", default_value_t = 64)]
    concurrency: u16,
    /// Maximum number of writes per second; 0 sets no limit
    #[arg(long, env = "DAYLIGHT_RATE", default_value_t = 0)]
    rate: u32,
    /// Minimum time between two plans; changes in between are gathered
    #[arg(long, env = "DAYLIGHT_DEBOUNCE", default_value = "50ms", value_parser = duration::parse)]
    debounce: Duration,
    /// Time for which a miner's failed pod is kept, so that its log can be read
    #[arg(long, env = "DAYLIGHT_FAILED_PODS_KEPT", default_value = "1m", value_parser = duration::parse)]
    failed_pods_kept: Duration,
    /// Keep the pods that Daylight created until an auditor has recorded their end; needs an auditor
    #[arg(long, env = "DAYLIGHT_METERED")]
    metered: bool,
    /// Time after which miners with Daylight's agent stop when no auditor scrapes them any more, as on
    /// a node that is cut off: at least 2m; 0s disables the lease
    #[arg(long, env = "DAYLIGHT_AGENT_LEASE", default_value = "0s", value_parser = agent_lease)]
    agent_lease: Duration,
    /// Time that an auditor has to record a pod's end, before the controller writes a LeaseRecord and
    /// releases the pod
    #[arg(long, env = "DAYLIGHT_RECORD_AFTER", default_value = "1m", value_parser = duration::parse)]
    record_after: Duration,
    /// Extended resources that admission takes for GPUs, as in the chart's gpuResources: a pool of
    /// another one is not ready. Unset, none is checked
    #[arg(long, env = "DAYLIGHT_GPU_RESOURCES", value_delimiter = ',')]
    gpu_resources: Vec<String>,
    #[command(flatten)]
    authority: Authority,
    /// Maximum age of a meter reading; with older ones, no miner starts under an energy limit
    #[arg(long, env = "DAYLIGHT_METER_STALE", default_value = "5m", value_parser = duration::parse)]
    meter_stale: Duration,
    /// Time for which the rest of an energy limit must last for all its miners before another starts
    #[arg(long, env = "DAYLIGHT_ENERGY_AHEAD", default_value = "10m", value_parser = duration::parse)]
    energy_ahead: Duration,
    /// Address that serves /metrics, /livez and /readyz, by default over IPv6 and IPv4; `none` serves
    /// nothing
    #[arg(long, env = "DAYLIGHT_LISTEN", default_value = "[::]:8080", value_parser = listen)]
    listen: Listen,
}

impl Flags {
    fn settings(self, namespace: &str) -> Settings {
        Settings {
            namespace: namespace.into(),
            authority_keys: self.authority.authority_keys,
            require_signature: self.authority.require_signature,
            gpu_resources: self.gpu_resources,
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

/// Reads a lease for agents: none, or at least two of the intervals at which auditors scrape them by
/// default, so that one failed scrape does not stop a miner.
fn agent_lease(text: &str) -> Result<Duration, String> {
    match duration::parse(text).map_err(|error| error.to_string())? {
        lease if lease.is_zero() || lease >= Duration::from_mins(2) => Ok(lease),
        _ => {
            Err("auditors scrape agents once a minute: write at least 2m, or 0s for no lease"
                .into())
        }
    }
}

/// Returns the host name, which in a pod is the pod's, and a suffix: a restarted container has the
/// same host name and must wait for the lease of the one before it.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").ok().or_else(|| {
        std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned())
    });
    let random = RandomState::new().build_hasher().finish();
    format!("{}_{random:016x}", host.unwrap_or_else(|| "daylight".into()))
}

pub(super) async fn run(connection: &Connection, flags: Flags) -> Result<(), CommandError> {
    let config = connection.config().await?;
    let settings = flags.settings(&connection.namespace);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), identity = %settings.lease.identity,
        server = %config.cluster_url, "Starting."
    );
    let shutdown = shutdown()?;
    let done = Box::pin(run::run(config, settings, shutdown)).await;
    done.map_err(|error| CommandError::new("The controller stopped").because(error))
}
