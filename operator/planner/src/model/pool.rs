//! Pools, with the rules for mining in them.

use std::sync::Arc;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::windows::Windows;

/// A set of nodes and one extended resource on them, with the rules for mining.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub name: Name,
    /// Of two pools that claim the same resource of a node, the older one gets it.
    pub created: Timestamp,
    /// The extended resource, such as `nvidia.com/gpu`.
    pub resource: Name,
    pub policy: MiningPolicy,
    pub windows: Windows,
    /// The most GPUs that may mine at once.
    pub max_gpus: Option<u32>,
    /// Kept idle, so that the next AI job starts without a drain.
    pub headroom: Headroom,
    /// The most watts that may mine at once: the larger of declared and measured.
    pub power_budget_watts: Option<u64>,
    /// Time that a GPU stays idle after AI work before it may mine.
    pub idle_delay: Duration,
    /// Time that a miner runs before another miner may displace it.
    pub min_run_time: Duration,
    /// Longest time that a miner may take to stop.
    pub drain_timeout: Duration,
    pub reclaim_unit: ReclaimUnit,
    pub autoscaled_nodes: AutoscaledNodes,
    pub queueing: Queueing,
    /// State of the audit record for this pool.
    pub recording: Recording,
    /// One sentence about an invalid object. Such a pool serves AI jobs and
    /// holds mining.
    pub problem: Option<Arc<str>>,
}

/// State of the auditor's record of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recording {
    #[default]
    Works,
    /// Nothing more can be recorded.
    Full,
}

/// Policy for the idle GPUs of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MiningPolicy {
    /// Plan and explain, change nothing.
    #[default]
    Observe,
    /// Give idle GPUs to miners.
    Fill,
    /// Keep the miners that run, add none.
    Hold,
    /// Stop all miners.
    Drain,
}

/// GPUs kept idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Headroom {
    /// A number of GPUs.
    Count(u32),
    /// Percent of the pool's usable GPUs, rounded up.
    Percent(u32),
}

impl Headroom {
    /// Returns the GPUs to keep idle of `usable` GPUs: all of them at most.
    pub fn of(self, usable: u32) -> u32 {
        match self {
            Self::Count(count) => count.min(usable),
            Self::Percent(percent) => {
                let gpus = (u64::from(usable) * u64::from(percent)).div_ceil(100);
                u32::try_from(gpus).unwrap_or(u32::MAX).min(usable)
            }
        }
    }
}

/// Extent of what is cleared when AI needs GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReclaimUnit {
    /// As many miners as needed.
    #[default]
    Gpu,
    /// Every miner of a node that gives a GPU to an AI job.
    Node,
}

/// Policy for nodes that an autoscaler manages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AutoscaledNodes {
    #[default]
    Skip,
    Use,
}

/// Order of the AI jobs of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Queueing {
    /// By priority, then age; no job overtakes another.
    StrictFifo,
    /// A later job may overtake if it does not delay the first (EASY).
    #[default]
    Backfill,
}
