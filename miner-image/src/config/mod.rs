//! The configuration: one typed file, over it the environment and flags. `docs/miner.md` has the
//! reference.

mod check;
mod flags;
mod read;
mod span;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub(crate) use check::{Mistake, host_and_port, listen, loopback};
pub(crate) use flags::Flags;
pub(crate) use span::Span;

/// Everything that the agent can be told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) engine: EngineConfig,
    /// For whom it works.
    pub(crate) pool: Pool,
    pub(crate) drain: Drain,
    /// What happens when it ends unasked.
    pub(crate) restart: Restart,
    /// How much it may say.
    pub(crate) log: Log,
    /// Where the agent answers.
    pub(crate) http: Http,
    /// What the agent leaves behind.
    pub(crate) record: Record,
    /// Until when it may work.
    pub(crate) lease: Option<Lease>,
    /// What the agent itself may use.
    pub(crate) agent: Agent,
}

/// `[engine]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EngineConfig {
    /// Which engine: its command line and its figures follow from that.
    pub(crate) name: EngineName,
    /// The program and its first arguments.
    pub(crate) command: Vec<String>,
    /// Further arguments, after those that the agent makes.
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    /// The algorithm, in the engine's own writing.
    pub(crate) algorithm: Option<String>,
    /// For engines that are built in: how many threads hash; as many as there are processors, where
    /// it is left out.
    pub(crate) threads: Option<NonZeroUsize>,
    /// How much memory RandomX takes.
    pub(crate) mode: RandomxMode,
    /// Whether RandomX uses huge pages.
    pub(crate) huge_pages: bool,
    /// Which GPUs hash, by their numbers; all of them where it is left out.
    pub(crate) devices: Vec<usize>,
    /// The part of the work that the engine does for its author, from 0 to 1.
    pub(crate) dev_fee: Option<f64>,
    /// A file in which `{wallet}`, `{password}`, `{worker}`, `{pool}`, `{host}` and `{port}` are
    /// filled in. The result's path is what `{config}` means in `command` and `args`.
    pub(crate) config_template: Option<PathBuf>,
    /// The loopback port on which the engine gives its figures.
    pub(crate) api_port: u16,
    /// How long it may take until it hashes for the first time.
    pub(crate) start_within: Span,
    /// How long it may stay without hashing after that, before it is started again.
    pub(crate) stalled_after: Span,
    /// How often its figures are read.
    pub(crate) figures_every: Span,
    /// Where a `command` gives its figures.
    pub(crate) figures: Option<FigureSource>,
    /// What says that the pool refused the login.
    pub(crate) login_refused: Sign,
    /// What says that a device is lost.
    pub(crate) device_lost: Sign,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            name: EngineName::default(),
            command: Vec::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            algorithm: None,
            threads: None,
            mode: RandomxMode::default(),
            huge_pages: false,
            devices: Vec::new(),
            dev_fee: None,
            config_template: None,
            api_port: 14_067,
            start_within: Span::secs(600),
            stalled_after: Span::secs(600),
            figures_every: Span::secs(10),
            figures: None,
            login_refused: Sign::default(),
            device_lost: Sign::default(),
        }
    }
}

impl EngineConfig {
    /// The engine's name and command, for people.
    pub(crate) fn display(&self) -> String {
        match (self.name.built_in(), self.command.first()) {
            (Some(_), _) => self.name.to_string(),
            (None, command) => {
                format!("{} ({})", self.name, command.map_or("no command", String::as_str))
            }
        }
    }
}

/// The engines that the agent knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineName {
    /// Any program, run as it is told.
    #[default]
    Command,
    Xmrig,
    Trex,
    Rigel,
    /// `GMiner`.
    Gminer,
    Lolminer,
    Srbminer,
    Bzminer,
    /// SHA-256d on the processor, built in.
    Sha256d,
    /// RandomX on the processor, built in.
    Randomx,
    /// SHA-256d on GPUs, built in.
    #[serde(rename = "sha256d-gpu")]
    Sha256dGpu,
}

/// How much memory RandomX takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RandomxMode {
    /// 256 MiB.
    #[default]
    Light,
    /// 2336 MiB, for several times as many hashes.
    Fast,
}

/// The engines that are part of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltInName {
    /// SHA-256d on the processor.
    Sha256d,
    /// RandomX on the processor.
    Randomx,
    /// SHA-256d on GPUs.
    Sha256dGpu,
}

impl BuiltInName {
    /// What it computes, in the writing of its pools.
    pub(crate) fn algorithm(self) -> &'static str {
        match self {
            Self::Sha256d | Self::Sha256dGpu => "sha256d",
            Self::Randomx => "rx/0",
        }
    }

    /// What its pools speak.
    fn protocol(self) -> Protocol {
        match self {
            Self::Sha256d | Self::Sha256dGpu => Protocol::StratumV1,
            Self::Randomx => Protocol::Monero,
        }
    }

    /// Whether this agent has it.
    fn is_here(self) -> bool {
        match self {
            Self::Sha256d => true,
            Self::Randomx => cfg!(feature = "randomx"),
            Self::Sha256dGpu => cfg!(feature = "gpu"),
        }
    }
}

impl EngineName {
    /// Which of the engines that are part of the agent it is, if it is one.
    pub(crate) fn built_in(self) -> Option<BuiltInName> {
        match self {
            Self::Sha256d => Some(BuiltInName::Sha256d),
            Self::Randomx => Some(BuiltInName::Randomx),
            Self::Sha256dGpu => Some(BuiltInName::Sha256dGpu),
            Self::Command
            | Self::Xmrig
            | Self::Trex
            | Self::Rigel
            | Self::Gminer
            | Self::Lolminer
            | Self::Srbminer
            | Self::Bzminer => None,
        }
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "command",
            Self::Xmrig => "xmrig",
            Self::Trex => "trex",
            Self::Rigel => "rigel",
            Self::Gminer => "gminer",
            Self::Lolminer => "lolminer",
            Self::Srbminer => "srbminer",
            Self::Bzminer => "bzminer",
            Self::Sha256d => "sha256d",
            Self::Randomx => "randomx",
            Self::Sha256dGpu => "sha256d-gpu",
        })
    }
}

/// `[engine.figures]`: an address on loopback, and where in its answer each figure stands. Paths
/// are JSON pointers (RFC 6901), or Prometheus series such as `shares_total{result="ok"}`, of which
/// all that match are added up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FigureSource {
    /// `http://127.0.0.1:PORT/PATH`
    pub(crate) address: String,
    /// How the answer is written.
    pub(crate) format: Format,
    /// By what the hashrate is multiplied to give hashes per second.
    #[serde(default = "one")]
    pub(crate) hashrate_scale: f64,
    pub(crate) hashrate: Option<String>,
    /// All hashes since the engine began.
    pub(crate) hashes: Option<String>,
    /// Shares that the pool took since the engine began.
    pub(crate) shares_accepted: Option<String>,
    /// Shares that it did not.
    pub(crate) shares_rejected: Option<String>,
    /// Shares that came too late.
    pub(crate) shares_stale: Option<String>,
    /// The difficulty that the pool set.
    pub(crate) difficulty: Option<String>,
    /// Whether the pool is connected: a truth value, or a number that is not 0.
    pub(crate) connected: Option<String>,
    /// Whether the pool took the login.
    pub(crate) authorised: Option<String>,
}

fn one() -> f64 {
    1.0
}

/// How an engine writes its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Json,
    /// The Prometheus text format.
    Prometheus,
}

/// What an engine says, or ends with, when something happened.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sign {
    /// Pieces of text in a line of its log.
    pub(crate) log: Vec<String>,
    pub(crate) exit: Vec<i32>,
}

/// `[pool]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pool {
    /// `host:port` or `scheme://host:port`, in the order of preference.
    pub(crate) endpoints: Vec<String>,
    /// The file with the wallet or the account's name.
    pub(crate) wallet_file: Option<PathBuf>,
    /// The file with the password.
    pub(crate) password_file: Option<PathBuf>,
    /// What the pool calls this worker; the pod's name where it is left out.
    pub(crate) worker: Option<String>,
    /// What the agent logs in with, in which `{wallet}` and `{worker}` are filled in.
    pub(crate) login: Option<String>,
    /// What the agent speaks with the pool, where it stands between the pool and an engine.
    pub(crate) protocol: Option<Protocol>,
    /// SHA-256 of the certificates that pools have to show, in hexadecimal, by `host:port`.
    pub(crate) pins: BTreeMap<String, String>,
    /// What the wallet has to be: `sha256:` and SHA-256 over salt and wallet in hexadecimal.
    pub(crate) wallet_commitment: Option<String>,
    /// The file with the salt of that.
    pub(crate) wallet_salt_file: Option<PathBuf>,
}

/// What is spoken with a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Protocol {
    /// Stratum v1, as Bitcoin's pools speak it.
    #[serde(rename = "stratum-v1")]
    StratumV1,
    /// The dialect of Monero's pools.
    #[serde(rename = "monero")]
    Monero,
    /// None that the agent knows: the engine connects to the pool by itself.
    #[serde(rename = "none")]
    Unknown,
}

impl Config {
    /// What the agent speaks with the pools, if it does.
    pub(crate) fn spoken(&self) -> Option<Protocol> {
        if let Some(name) = self.engine.name.built_in() {
            return Some(name.protocol());
        }
        let by_engine = match self.engine.name {
            // Its own KawPow speaks another language.
            EngineName::Xmrig if self.engine.algorithm.as_deref() != Some("kawpow") => {
                Some(Protocol::Monero)
            }
            _ => None,
        };
        self.pool.protocol.or(by_engine).filter(|protocol| *protocol != Protocol::Unknown)
    }
}

/// `[drain]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Drain {
    /// The pod's grace period.
    pub(crate) grace: Span,
    /// How long before its end everything is killed.
    pub(crate) margin: Span,
    /// A command that asks the engine to stop.
    pub(crate) hook: Vec<String>,
    /// The signal that asks it.
    pub(crate) signal: StopSignal,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            grace: Span::secs(10),
            margin: Span::secs(1),
            hook: Vec::new(),
            signal: StopSignal::Term,
        }
    }
}

impl Drain {
    /// How long an engine may take to end in good order.
    pub(crate) fn gently(&self) -> Duration {
        let grace = self.grace.0;
        grace.saturating_sub(self.margin.0).max(grace / 2)
    }
}

/// A signal on which engines stop in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum StopSignal {
    /// What most expect.
    #[serde(rename = "TERM")]
    Term,
    /// As if Ctrl-C was pressed.
    #[serde(rename = "INT")]
    Int,
    /// What some servers take for a stop in good order.
    #[serde(rename = "QUIT")]
    Quit,
}

/// `[restart]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Restart {
    /// The first pause; each one after it is twice as long.
    pub(crate) backoff: Span,
    pub(crate) longest: Span,
    /// With so many ends within `window` the agent gives up.
    pub(crate) limit: u32,
    /// The time in which ends are counted.
    pub(crate) window: Span,
}

impl Default for Restart {
    fn default() -> Self {
        Self { backoff: Span::secs(1), longest: Span::secs(60), limit: 5, window: Span::secs(600) }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// Lines of the engine that are passed on each second; unused ones add up to ten seconds'.
    pub(crate) lines_per_second: u32,
    /// Bytes of a line that are passed on.
    pub(crate) line_bytes: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self { lines_per_second: 20, line_bytes: 2048 }
    }
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// `address:port`, or `pod:port` for the pod's own address.
    pub(crate) listen: String,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9735)).to_string() }
    }
}

/// `[record]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Record {
    /// Where the record of work is left.
    pub(crate) file: PathBuf,
}

impl Default for Record {
    fn default() -> Self {
        Self { file: "/dev/termination-log".into() }
    }
}

/// `[lease]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lease {
    /// The file that whoever grants the device touches. Where it is left out, the lease is renewed by
    /// requests with the header `daylight-lease: renew`.
    pub(crate) file: Option<PathBuf>,
    /// How old it may get.
    pub(crate) lapses_after: Span,
}

/// `[agent]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Agent {
    /// Memory that the agent may write to, in MiB. The engine is not held to it.
    pub(crate) memory_mib: u64,
    /// A directory in memory for files with secrets.
    pub(crate) run_dir: PathBuf,
}

impl Default for Agent {
    fn default() -> Self {
        Self { memory_mib: 64, run_dir: "/dev/shm/daylight-miner".into() }
    }
}
