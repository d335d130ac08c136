//! What engines tell of themselves, in one vocabulary.

mod paths;
mod prometheus;

use bytes::Bytes;
use serde::Serialize;

use crate::config::{FigureSource, Format};
use crate::pool::Seen;

/// What an engine told at one moment. What it does not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    /// Whether it is connected to a pool.
    pub(crate) connected: Option<bool>,
    /// Whether the pool took the login.
    pub(crate) authorised: Option<bool>,
    /// Hashes per second.
    pub(crate) hashrate: Option<f64>,
    /// Hashes since the engine began.
    pub(crate) hashes: Option<f64>,
    /// Shares since the engine began that the pool took.
    pub(crate) shares_accepted: Option<u64>,
    /// Shares that it did not take.
    pub(crate) shares_rejected: Option<u64>,
    /// Shares that came too late.
    pub(crate) shares_stale: Option<u64>,
    /// Shares that were sent, and of which the pool said nothing.
    pub(crate) shares_lost: Option<u64>,
    /// The difficulty of a share.
    pub(crate) difficulty: Option<f64>,
    /// What the agent saw of the pools, where it stands in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<Seen>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<Device>,
}

impl Figures {
    /// Whether it hashes, where the engine tells.
    pub(crate) fn hashing(&self) -> Option<bool> {
        self.hashrate.map(|rate| rate > 0.0)
    }
}

/// What an engine tells of a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    /// The engine's own number of it.
    pub(crate) index: u64,
    /// What the engine calls it.
    pub(crate) name: Option<String>,
    /// Hashes per second.
    pub(crate) hashrate: Option<f64>,
    /// Degrees Celsius.
    pub(crate) temperature: Option<f64>,
    /// Watts.
    pub(crate) power: Option<f64>,
}

impl FigureSource {
    /// Reads the figures out of an engine's answer.
    ///
    /// # Errors
    ///
    /// One sentence, where the answer is not in the format that was promised.
    pub(crate) fn parse(&self, body: &Bytes) -> Result<Figures, String> {
        match self.format {
            Format::Json => paths::json(self, body),
            Format::Prometheus => paths::prometheus(self, body),
        }
    }
}
