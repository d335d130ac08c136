//! Miners, and the shape of one pod.

use std::sync::Arc;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};

/// A tenant's miner: replicas that take idle GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miner {
    /// `namespace/name`.
    pub key: Name,
    /// `namespace/name` of its registration.
    pub registration: Name,
    /// Of equal claims, the older miner is served first.
    pub created: Timestamp,
    pub replicas: u32,
    /// Requests of one replica.
    pub shape: Shape,
    /// Its share among miners of the same rank; at least 1.
    pub weight: u32,
    /// Declared watts of one replica.
    pub watts: u64,
    /// Time that one replica takes to stop.
    pub drain_timeout: Duration,
    /// In order of preference; empty means those of the registration.
    pub pools: Vec<Name>,
    /// Changes when its pods have to be replaced.
    pub revision: u64,
    /// One sentence about requests that its pods have and it does not set.
    pub requests_changed: Option<Arc<str>>,
    /// One sentence about an invalid object.
    pub problem: Option<Arc<str>>,
}

/// Requests of one pod, with one extended resource.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Shape {
    pub gpus: u32,
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    pub huge_pages: HugePages,
}

/// Bytes of huge pages: those of 2 MiB, and those of 1 GiB.
pub type HugePages = [u64; 2];
