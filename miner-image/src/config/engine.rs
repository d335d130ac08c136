//! Types of the section `[engine]`.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use daylight_agent_api::Outcome;
use serde::{Deserialize, Serialize};

use super::read::duration;
use crate::adapters::CUDA_LOST;

/// `[engine]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EngineConfig {
    pub(crate) name: EngineName,
    /// Program and its first arguments.
    pub(crate) command: Vec<String>,
    /// Further arguments, after those that the agent adds.
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    /// Algorithm in the engine's own spelling.
    pub(crate) algorithm: Option<String>,
    /// Threads of a built-in engine or of xmrig; if it is left out, one per processor or as many as
    /// xmrig chooses.
    pub(crate) threads: Option<NonZeroUsize>,
    /// Light if it is left out; `xmrig` chooses by itself.
    pub(crate) mode: Option<RandomxMode>,
    /// Whether RandomX, or xmrig, uses huge pages.
    pub(crate) huge_pages: bool,
    /// Indices of the GPUs that hash; empty for all.
    pub(crate) devices: Vec<usize>,
    /// Share of the work that the engine does for its author, from 0 to 1.
    pub(crate) dev_fee: Option<f64>,
    /// File in which `{wallet}`, `{password}`, `{worker}`, `{algorithm}`, `{pool}`, `{host}` and
    /// `{port}` are filled in. `{config}` in `command` and `args` is the path of the result.
    pub(crate) config_template: Option<PathBuf>,
    /// Loopback port on which the engine serves its figures.
    pub(crate) api_port: u16,
    /// Time that the engine has until it hashes for the first time.
    #[serde(deserialize_with = "duration")]
    pub(crate) start_within: Duration,
    /// Time without hashing after that until the engine is restarted.
    #[serde(deserialize_with = "duration")]
    pub(crate) stalled_after: Duration,
    /// Interval between two readings of the figures.
    #[serde(deserialize_with = "duration")]
    pub(crate) figures_every: Duration,
    pub(crate) figures: Option<FigureSource>,
    /// Signs that the pool refused the login.
    pub(crate) login_refused: Sign,
    /// Signs that a device is lost.
    pub(crate) device_lost: Sign,
}

impl EngineConfig {
    /// Returns the signs that end the run: those that are configured, and those known of the engine.
    pub(crate) fn signs(&self) -> [(Sign, Outcome); 2] {
        let (mut login_refused, mut device_lost) =
            (self.login_refused.clone(), self.device_lost.clone());
        if let Some(adapter) = self.name.adapter() {
            let owned = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect::<Vec<_>>();
            login_refused.log.extend(owned(adapter.signs.login_refused));
            device_lost.log.extend(owned(adapter.signs.device_lost));
            device_lost.log.extend(owned(CUDA_LOST));
            device_lost.exit.extend(adapter.signs.device_lost_exit);
        }
        [(login_refused, Outcome::LoginRefused), (device_lost, Outcome::DeviceLost)]
    }
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
            mode: None,
            huge_pages: false,
            devices: Vec::new(),
            dev_fee: None,
            config_template: None,
            api_port: 14_067,
            start_within: Duration::from_mins(10),
            stalled_after: Duration::from_mins(10),
            figures_every: Duration::from_secs(10),
            figures: None,
            login_refused: Sign::default(),
            device_lost: Sign::default(),
        }
    }
}

/// Engines that the agent knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineName {
    /// Any program, started as configured.
    #[default]
    Command,
    Xmrig,
    Trex,
    Rigel,
    Gminer,
    Lolminer,
    Srbminer,
    Bzminer,
    /// SHA-256d on processors, built in.
    Sha256d,
    /// RandomX on processors, built in.
    Randomx,
    /// SHA-256d on GPUs, built in.
    #[serde(rename = "sha256d-gpu")]
    Sha256dGpu,
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Memory that RandomX takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RandomxMode {
    /// 256 MiB.
    #[default]
    Light,
    /// 2336 MiB, for several times as many hashes.
    Fast,
}

/// `[engine.figures]`: an address on loopback, and the place of each figure in its answer.
///
/// Places are JSON pointers (RFC 6901), or Prometheus series such as `shares_total{result="ok"}`, of
/// which all that match are added up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FigureSource {
    /// `http://127.0.0.1:PORT/PATH`
    pub(crate) address: String,
    pub(crate) format: Format,
    /// Factor that converts `hashrate` into hashes per second.
    #[serde(default = "one")]
    pub(crate) hashrate_scale: f64,
    pub(crate) hashrate: Option<String>,
    /// Hashes since the engine started.
    pub(crate) hashes: Option<String>,
    /// Shares since the engine started that the pool accepted.
    pub(crate) shares_accepted: Option<String>,
    /// Shares that the pool rejected.
    pub(crate) shares_rejected: Option<String>,
    /// Shares that arrived too late.
    pub(crate) shares_stale: Option<String>,
    /// Difficulty that the pool set.
    pub(crate) difficulty: Option<String>,
    /// Whether the pool is connected: a boolean, or a number other than 0.
    pub(crate) connected: Option<String>,
    /// Whether the pool accepted the login: a boolean, or a number other than 0.
    pub(crate) authorised: Option<String>,
}

fn one() -> f64 {
    1.0
}

/// Format of an engine's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Json,
    /// The Prometheus text format.
    Prometheus,
}

/// Signs of an event in the engine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sign {
    /// Texts in a line of its log.
    pub(crate) log: Vec<String>,
    /// Exit codes.
    pub(crate) exit: Vec<i32>,
}
