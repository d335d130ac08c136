//! `daylight auditor`: flags and start of the auditor.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use daylight_base::duration;

use super::connect::Connection;
use super::error::{CommandError, ErrorCode};
use super::serve::{Authority, Listen, listen, shutdown};
use crate::auditor::cosigning::CosigningSettings;
use crate::auditor::exporter::discovery::ExporterName;
use crate::auditor::kept_checkpoint::CheckpointPlace;
use crate::auditor::ledger_key::LedgerKeyPlace;
use crate::auditor::poll::PollSettings;
use crate::auditor::run::{self, Settings};
use daylight_cluster::quantity::Quantity;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the journal; no other process may use it
    #[arg(long, env = "DAYLIGHT_DATA_DIR", value_name = "DIRECTORY", overrides_with = "data_dir")]
    data_dir: PathBuf,
    /// Data directory of a journal whose key is lost, or which is an old copy: where this one is empty, it
    /// continues the books of that one as a ledger of another key, which begins with its last checkpoint
    #[arg(long, env = "DAYLIGHT_CONTINUES", value_name = "DIRECTORY")]
    continues: Option<PathBuf>,
    /// Write nothing in the cluster, in which another auditor runs: only watch it, and keep a ledger of its
    /// own, which `daylight ledger diff` compares. Name a file with --ledger-key
    #[arg(long, env = "DAYLIGHT_READ_ONLY")]
    read_only: bool,
    /// Place of the key that signs the ledger, made when it is missing: `secret/NAME` for a Secret in
    /// Daylight's namespace, or a file outside of the data directory
    #[arg(
        long,
        env = "DAYLIGHT_LEDGER_KEY",
        value_name = "PLACE",
        default_value = "secret/daylight-ledger-key"
    )]
    ledger_key: LedgerKeyPlace,
    /// Place of the key that will replace that of the ledger, made when it is missing. It signs as well, so
    /// that readers can follow before the other one is given up
    #[arg(long, env = "DAYLIGHT_LEDGER_NEXT_KEY", value_name = "PLACE")]
    ledger_next_key: Option<LedgerKeyPlace>,
    /// Place outside of the data directory that keeps the last checkpoint, which the journal must
    /// continue at the next start: `configmap/NAME` in Daylight's namespace, or a file. By default
    /// `configmap/daylight-ledger`, or a file next to that of the key
    #[arg(long, env = "DAYLIGHT_LEDGER_CHECKPOINT", value_name = "PLACE")]
    ledger_checkpoint: Option<CheckpointPlace>,
    /// File with the witnesses that cosign the ledger's checkpoints, each with its address, and the quorum
    /// of them that makes a checkpoint count, in the form of C2SP tlog-policy
    #[arg(long, env = "DAYLIGHT_WITNESS_POLICY", value_name = "FILE")]
    witness_policy: Option<PathBuf>,
    /// Names of the site's own witnesses in that policy, which may be requested often; with commas or the
    /// flag again
    #[arg(long, env = "DAYLIGHT_OWN_WITNESS", value_name = "NAMES", value_delimiter = ',')]
    own_witness: Vec<String>,
    /// Interval at which all witnesses are requested
    #[arg(long, env = "DAYLIGHT_WITNESS_EVERY", default_value = "1h", value_parser = duration::parse)]
    witness_every: Duration,
    /// Interval at which the site's own witnesses are requested while there are new entries
    #[arg(long, env = "DAYLIGHT_OWN_WITNESS_EVERY", default_value = "10s", value_parser = duration::parse)]
    own_witness_every: Duration,
    /// Exporter of the devices' energy: its DaemonSet and the port of its pods, as
    /// NAMESPACE/NAME:PORT; of several vendors, each for the nodes on which it runs, with commas or
    /// the flag again. Without one, energy is what miners declare
    #[arg(long, env = "DAYLIGHT_EXPORTER", value_name = "EXPORTERS", value_delimiter = ',')]
    exporter: Vec<ExporterName>,
    /// Interval at which each exporter is scraped
    #[arg(long, env = "DAYLIGHT_SCRAPE_EVERY", default_value = "15s", value_parser = duration::parse)]
    scrape_every: Duration,
    /// Interval at which the exporter refreshes its figures, and so their maximum age
    #[arg(long, env = "DAYLIGHT_EXPORTER_REFRESH", default_value = "30s", value_parser = duration::parse)]
    exporter_refresh: Duration,
    /// Power limit in watts of a device whose exporter reports none
    #[arg(long, env = "DAYLIGHT_DEVICE_WATTS", default_value_t = 1500)]
    device_watts: u32,
    /// Extended resources that are GPUs, in addition to those that pools name; a `*` at the end matches
    /// any text
    #[arg(
        long,
        env = "DAYLIGHT_GPU_RESOURCES",
        value_delimiter = ',',
        default_value = "nvidia.com/gpu,amd.com/gpu"
    )]
    gpu_resources: Vec<String>,
    /// Trusted images, with `*` for any rest: shares that their agents saw a pool accept are booked as
    /// seen. Those that other images report are booked as claimed
    #[arg(long, env = "DAYLIGHT_AGENT_IMAGES", value_name = "PATTERNS", value_delimiter = ',')]
    agent_images: Vec<String>,
    /// Port at which running agents are scraped for their work; 0 disables scraping
    #[arg(long, env = "DAYLIGHT_AGENT_PORT", default_value_t = 9735)]
    agent_port: u16,
    /// Interval at which each agent is scraped
    #[arg(long, env = "DAYLIGHT_AGENT_EVERY", default_value = "1m", value_parser = duration::parse)]
    agent_every: Duration,
    /// Interval at which a node's books are written while nothing happens on it
    #[arg(long, env = "DAYLIGHT_BOOK_EVERY", default_value = "1m", value_parser = duration::parse)]
    book_every: Duration,
    /// Interval at which nodes on which nothing happens have an entry in the ledger
    #[arg(long, env = "DAYLIGHT_QUIET_EVERY", default_value = "15m", value_parser = duration::parse)]
    quiet_every: Duration,
    /// Interval at which the ledger's entries are closed with the sums of all accounts, at its multiples
    /// since 1970 (UTC)
    #[arg(long, env = "DAYLIGHT_CLOSE_EVERY", default_value = "24h", value_parser = duration::parse)]
    close_every: Duration,
    /// Interval at which declarations are compared with the ledger
    #[arg(long, env = "DAYLIGHT_DECLARE_EVERY", default_value = "10m", value_parser = duration::parse)]
    declare_every: Duration,
    /// Interval at which each registration's energy use is written to its status
    #[arg(long, env = "DAYLIGHT_USAGE_EVERY", default_value = "10s", value_parser = duration::parse)]
    usage_every: Duration,
    #[command(flatten)]
    authority: Authority,
    /// Mode with which the admission policies are installed, which the journal records
    #[arg(long, env = "DAYLIGHT_ADMISSION_MODE", value_name = "MODE")]
    admission_mode: Option<String>,
    /// Memory for entries while the journal cannot be written, in bytes
    #[arg(long, env = "DAYLIGHT_MEMORY", default_value = "64Mi")]
    memory: Quantity,
    /// Address that serves /metrics, /livez and /readyz, by default over IPv6 and IPv4; `none` serves
    /// nothing
    #[arg(long, env = "DAYLIGHT_LISTEN", default_value = "[::]:8081", value_parser = listen)]
    listen: Listen,
}

pub(super) async fn run(connection: &Connection, flags: Flags) -> Result<(), CommandError> {
    let kept = flags.ledger_checkpoint.unwrap_or_else(|| CheckpointPlace::of(&flags.ledger_key));
    let keys = [Some(&flags.ledger_key), flags.ledger_next_key.as_ref()];
    if flags.read_only
        && (keys.into_iter().flatten().any(|key| matches!(key, LedgerKeyPlace::Secret(_)))
            || matches!(kept, CheckpointPlace::ConfigMap(_)))
    {
        return Err(CommandError::new("A read-only auditor writes neither Secrets nor ConfigMaps")
            .code(ErrorCode::Invalid)
            .remedy(
                "Name files with --ledger-key, and with --ledger-next-key and --ledger-checkpoint where \
                 they are used",
            ));
    }
    let config = connection.config().await?;
    let cosigning = match &flags.witness_policy {
        None => None,
        Some(path) => Some(CosigningSettings {
            policy: super::ledger::read_policy(path)?,
            own: flags.own_witness,
            every: flags.witness_every,
            own_every: flags.own_witness_every,
        }),
    };
    let settings = Settings {
        namespace: connection.namespace.clone(),
        read_only: flags.read_only,
        authority_keys: flags.authority.authority_keys,
        require_signature: flags.authority.require_signature,
        admission_mode: flags.admission_mode,
        data_dir: flags.data_dir,
        continues: flags.continues,
        ledger_checkpoint: kept,
        ledger_key: flags.ledger_key,
        ledger_next_key: flags.ledger_next_key,
        cosigning,
        listen: flags.listen.0,
        exporters: flags.exporter,
        scrape_every: flags.scrape_every,
        refresh: flags.exporter_refresh,
        device_watts: flags.device_watts,
        resources: flags.gpu_resources,
        trusted_images: flags.agent_images,
        agents: (flags.agent_port != 0).then_some(PollSettings {
            port: flags.agent_port,
            every: flags.agent_every,
            timeout: Duration::from_secs(5),
            renews: !flags.read_only,
        }),
        book_every: flags.book_every,
        quiet_every: flags.quiet_every,
        close_every: flags.close_every,
        declare_every: flags.declare_every,
        memory: usize::try_from(flags.memory.units()).unwrap_or(usize::MAX),
        usage_every: flags.usage_every,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), data = %settings.data_dir.display(),
        server = %config.cluster_url, "Starting."
    );
    let shutdown = shutdown()?;
    let done = Box::pin(run::run(config, settings, shutdown)).await;
    done.map_err(|error| CommandError::new("The auditor stopped").because(error))
}
