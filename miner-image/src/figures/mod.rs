//! Figures of an engine at one moment, in one form for all engines.

mod paths;
mod prometheus;

use bytes::Bytes;
use serde::Serialize;

use crate::config::{FigureSource, Format};

/// Figures of an engine at one moment. What the engine does not report is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    pub(crate) connected: Option<bool>,
    /// Whether the pool accepted the login.
    pub(crate) authorised: Option<bool>,
    /// Hashes per second.
    pub(crate) hashrate: Option<f64>,
    /// Hashes since the engine started.
    pub(crate) hashes: Option<f64>,
    /// Shares since the engine started that the pool accepted.
    pub(crate) shares_accepted: Option<u64>,
    pub(crate) shares_rejected: Option<u64>,
    /// Shares that arrived too late.
    pub(crate) shares_stale: Option<u64>,
    /// Shares that were sent and never answered.
    pub(crate) shares_lost: Option<u64>,
    /// The difficulty of a share.
    pub(crate) difficulty: Option<f64>,
    /// The agent's own view of the pools, where it is logged in itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<PoolFigures>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<Device>,
}

impl Figures {
    /// Whether the engine hashes, if it reports its hashrate.
    pub(crate) fn hashing(&self) -> Option<bool> {
        self.hashrate.map(|rate| rate > 0.0)
    }

    /// Shares that the engine has found, whatever became of them, if it reports them.
    pub(crate) fn shares(&self) -> Option<u64> {
        let of = |shares: Option<u64>| shares.unwrap_or(0);
        let rest = of(self.shares_rejected) + of(self.shares_stale) + of(self.shares_lost);
        self.shares_accepted.map(|accepted| accepted + rest)
    }
}

/// The agent's own view of the pools, since the engine started.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PoolFigures {
    pub(crate) logins: u64,
    /// Times that another pool than before took over.
    pub(crate) failovers: u64,
    /// Redirects to hosts that are not declared.
    pub(crate) refused_redirects: u64,
    /// Lines that could not be read and were passed over.
    pub(crate) unread_lines: u64,
    /// Time from the last request to its reply.
    pub(crate) latency_seconds: Option<f64>,
    /// The last fault, as a sentence.
    pub(crate) fault: Option<String>,
    /// The faults that still stand, by pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<String>,
    /// Why the pool last rejected a share, or called it stale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rejection: Option<String>,
    /// The pool's last message to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    /// Engines at the agent's port, where the engine is a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) engines: Option<usize>,
}

impl PoolFigures {
    /// Whether an engine is there to hash.
    pub(crate) fn has_engine(&self) -> bool {
        self.engines != Some(0)
    }
}

/// Figures of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    /// The engine's index of it.
    pub(crate) index: u64,
    pub(crate) name: Option<String>,
    /// Hashes per second.
    pub(crate) hashrate: Option<f64>,
    /// Degrees Celsius.
    pub(crate) temperature: Option<f64>,
    /// Watts.
    pub(crate) power: Option<f64>,
}

impl FigureSource {
    /// Reads the figures in an engine's answer.
    ///
    /// # Errors
    ///
    /// One sentence, if the answer is not in the configured format.
    pub(crate) fn parse(&self, body: &Bytes) -> Result<Figures, String> {
        match self.format {
            Format::Json => paths::json(self, body),
            Format::Prometheus => paths::prometheus(self, body),
        }
    }
}
