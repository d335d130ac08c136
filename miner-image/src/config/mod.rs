//! Types of the configuration: one TOML file, overridden by the environment, overridden by flags.
//! `docs/miner.md` is the reference.

mod check;
mod derived;
mod engine;
mod flags;
mod read;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use daylight_agent_api::http::PORT;
use serde::Deserialize;

pub(crate) use check::{Mistake, host_and_port, listen, loopback};
pub(crate) use derived::scheme_protocol;
pub(crate) use engine::{EngineConfig, EngineName, FigureSource, Format, RandomxMode};
pub(crate) use flags::{Flags, RECORD};
use read::duration;

/// The whole configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) engine: EngineConfig,
    pub(crate) pool: Pool,
    pub(crate) drain: Drain,
    pub(crate) restart: Restart,
    pub(crate) log: Log,
    pub(crate) http: Http,
    pub(crate) record: Record,
    pub(crate) lease: Option<Lease>,
    pub(crate) agent: Agent,
}

/// `[pool]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pool {
    /// `host:port` or `scheme://host:port`, in order of preference.
    pub(crate) endpoints: Vec<String>,
    /// File with the wallet or the account's name.
    pub(crate) wallet_file: Option<PathBuf>,
    pub(crate) password_file: Option<PathBuf>,
    /// Name of this worker at the pool; the pod's name if it is left out.
    pub(crate) worker: Option<String>,
    /// Login of the agent, in which `{wallet}` and `{worker}` are filled in.
    pub(crate) login: Option<String>,
    /// Protocol that the agent speaks with the pool.
    pub(crate) protocol: Option<Protocol>,
    /// SHA-256 of the pools' certificates or public keys in hexadecimal, by `host:port`.
    pub(crate) pins: BTreeMap<String, Pins>,
    /// `sha256:` and SHA-256 over salt and wallet in hexadecimal.
    pub(crate) wallet_commitment: Option<String>,
    pub(crate) wallet_salt_file: Option<PathBuf>,
}

/// The pins of a pool, of which it has to match one.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Pins {
    One(String),
    Several(Vec<String>),
}

impl Pins {
    pub(crate) fn all(&self) -> &[String] {
        match self {
            Self::One(pin) => std::slice::from_ref(pin),
            Self::Several(pins) => pins,
        }
    }
}

/// Protocol between agent and pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Protocol {
    /// Stratum v1, as Bitcoin's pools speak it.
    #[serde(rename = "stratum-v1")]
    StratumV1,
    /// The dialect of Monero's pools.
    #[serde(rename = "monero")]
    Monero,
    /// EthereumStratum/1.0.0, as `NiceHash` wrote it down for Ethash.
    #[serde(rename = "ethereum-stratum")]
    EthereumStratum,
    /// The node's `eth_getWork` and `eth_submitWork` with a login.
    #[serde(rename = "ethproxy")]
    EthProxy,
    /// Ravencoin's Stratum.
    #[serde(rename = "kawpow")]
    Kawpow,
    /// Unknown to the agent: the engine itself connects to the pool.
    #[serde(rename = "none")]
    Unknown,
}

/// `[drain]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Drain {
    /// The pod's grace period.
    #[serde(deserialize_with = "duration")]
    pub(crate) grace: Duration,
    /// Time before the end of the grace period at which everything is killed.
    #[serde(deserialize_with = "duration")]
    pub(crate) margin: Duration,
    /// Command that stops the engine.
    pub(crate) hook: Vec<String>,
    pub(crate) signal: StopSignal,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            margin: Duration::from_secs(1),
            hook: Vec::new(),
            signal: StopSignal::Term,
        }
    }
}

impl Drain {
    /// Time from the stop request until an engine that has not ended is killed. The margin takes at
    /// most half of a short grace period.
    pub(crate) fn until_kill(&self) -> Duration {
        self.grace.saturating_sub(self.margin).max(self.grace / 2)
    }
}

/// Signal on which an engine stops in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum StopSignal {
    Term,
    /// As if Ctrl-C was pressed.
    Int,
    /// For servers such as nginx that take it as a graceful stop.
    Quit,
}

/// `[restart]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Restart {
    /// First pause; each following one is twice as long, up to `longest`.
    #[serde(deserialize_with = "duration")]
    pub(crate) backoff: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) longest: Duration,
    /// Ends of the engine within `window` at which the agent gives up.
    pub(crate) limit: u32,
    #[serde(deserialize_with = "duration")]
    pub(crate) window: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            backoff: Duration::from_secs(1),
            longest: Duration::from_mins(1),
            limit: 5,
            window: Duration::from_mins(10),
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// Lines of the engine that are logged per second. Unused ones add up to ten seconds' worth.
    pub(crate) lines_per_second: u32,
    /// Bytes of a line that are logged.
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
        Self { listen: format!("127.0.0.1:{PORT}") }
    }
}

/// `[record]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Record {
    /// File for the record of work.
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
    /// File whose modification time renews the lease. Without it, requests with the header
    /// `daylight-lease: renew` do.
    pub(crate) file: Option<PathBuf>,
    /// Lifetime of the lease without a renewal.
    #[serde(deserialize_with = "duration")]
    pub(crate) lapses_after: Duration,
}

/// `[agent]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Agent {
    /// Memory that the agent may write to, in MiB. The limit does not apply to the engine.
    pub(crate) memory_mib: u64,
    /// Directory in memory for files with secrets.
    pub(crate) run_dir: PathBuf,
}

impl Default for Agent {
    fn default() -> Self {
        Self { memory_mib: 64, run_dir: "/dev/shm/daylight-miner".into() }
    }
}
