//! `daylight auditor`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Failed;
use super::connect::Connection;
use super::serve::{Authority, Listen, duration, listen, shutdown};
use crate::auditor::agents::AgentSettings;
use crate::auditor::exporter::found::ExporterName;
use crate::auditor::run::{self, Settings};
use daylight_cluster::quantity::Quantity;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Where the journal is kept; no other process may use it
    #[arg(long, env = "DAYLIGHT_DATA_DIR", value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// The exporter of the devices' energy: the `DaemonSet`, and the port of its pods, as
    /// NAMESPACE/NAME:PORT; without one, energy is what miners declare
    #[arg(long, env = "DAYLIGHT_EXPORTER", value_name = "EXPORTER")]
    exporter: Option<ExporterName>,
    /// How often each exporter is asked
    #[arg(long, env = "DAYLIGHT_SCRAPE_EVERY", default_value = "15s", value_parser = duration)]
    scrape_every: Duration,
    /// How old an exporter's figures may be: how often it refreshes them
    #[arg(long, env = "DAYLIGHT_EXPORTER_REFRESH", default_value = "30s", value_parser = duration)]
    exporter_refresh: Duration,
    /// The most watts that a device draws whose exporter does not say
    #[arg(long, env = "DAYLIGHT_DEVICE_WATTS", default_value_t = 1500)]
    device_watts: u32,
    /// Extended resources that are GPUs, beside those that pools name
    #[arg(
        long,
        env = "DAYLIGHT_GPU_RESOURCES",
        value_delimiter = ',',
        default_value = "nvidia.com/gpu,amd.com/gpu"
    )]
    gpu_resources: Vec<String>,
    /// Images, with `*` for any rest, whose agents are believed when they say that they saw a pool
    /// take shares; what others say is claimed
    #[arg(long, env = "DAYLIGHT_AGENT_IMAGES", value_name = "PATTERNS", value_delimiter = ',')]
    agent_images: Vec<String>,
    /// The port at which those are asked of their work while they run; 0 asks none
    #[arg(long, env = "DAYLIGHT_AGENT_PORT", default_value_t = 9735)]
    agent_port: u16,
    /// How often each is asked
    #[arg(long, env = "DAYLIGHT_AGENT_EVERY", default_value = "1m", value_parser = duration)]
    agent_every: Duration,
    /// How often a node's books are written when nothing happens on it
    #[arg(long, env = "DAYLIGHT_BOOK_EVERY", default_value = "1m", value_parser = duration)]
    book_every: Duration,
    /// How often registrations are told what they have used
    #[arg(long, env = "DAYLIGHT_USAGE_EVERY", default_value = "10s", value_parser = duration)]
    usage_every: Duration,
    #[command(flatten)]
    authority: Authority,
    /// Entries that are kept in memory while the journal cannot be written, in bytes
    #[arg(long, env = "DAYLIGHT_MEMORY", default_value = "64Mi")]
    memory: Quantity,
    /// Where /metrics, /livez and /readyz are served; `none` for nowhere
    #[arg(long, env = "DAYLIGHT_LISTEN", default_value = "0.0.0.0:8081", value_parser = listen)]
    listen: Listen,
}

pub(super) async fn run(connection: &Connection, flags: Flags) -> Result<(), Failed> {
    let config = connection.config().await?;
    let settings = Settings {
        namespace: connection.namespace.clone(),
        authority_keys: flags.authority.authority_keys,
        require_signature: flags.authority.require_signature,
        data_dir: flags.data_dir,
        listen: flags.listen.0,
        exporter: flags.exporter,
        scrape_every: flags.scrape_every,
        refresh: flags.exporter_refresh,
        device_watts: flags.device_watts,
        resources: flags.gpu_resources,
        agents: flags.agent_images,
        ask_agents: (flags.agent_port != 0).then_some(AgentSettings {
            port: flags.agent_port,
            every: flags.agent_every,
            timeout: Duration::from_secs(5),
        }),
        book_every: flags.book_every,
        memory: usize::try_from(flags.memory.units()).unwrap_or(usize::MAX),
        usage_every: flags.usage_every,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), data = %settings.data_dir.display(),
        server = %config.cluster_url, "Starting."
    );
    let shutdown = shutdown()?;
    let done = Box::pin(run::run(config, settings, shutdown)).await;
    done.map_err(|error| Failed::new(error.to_string()))
}
