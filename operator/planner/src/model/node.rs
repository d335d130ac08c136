//! Nodes, with the pools that match them.

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::HugePages;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub name: Name,
    /// The pools whose selector matches it.
    pub pools: Vec<Membership>,
    pub gpus: Vec<(Name, u32)>,
    /// GPUs that the node has or had, and does not offer now.
    pub lost: Vec<(Name, u32)>,
    /// Allocatable CPU, in thousandths.
    pub cpu_milli: u64,
    /// Allocatable memory, in bytes.
    pub memory: u64,
    pub huge_pages: HugePages,
    pub pod_slots: u32,
    pub condition: NodeCondition,
    /// An autoscaler created it and may remove it.
    pub autoscaled: bool,
    /// End of the last AI pod on it.
    pub ai_released_at: Option<Timestamp>,
    /// Start of a loss of allocatable GPUs that still lasts.
    pub shrunk_at: Option<Timestamp>,
    /// No miner is granted here before, since miners of several tenants failed here.
    pub quarantined_until: Option<Timestamp>,
    /// Miners that are not granted here before, since they failed here.
    pub closed_to: Vec<(Name, Timestamp)>,
}

/// A pool whose selector matches a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub pool: Name,
    /// The pool's tolerations, and those of its `RuntimeClass`, cover the node's taints.
    pub tolerated: bool,
    /// The pool's `RuntimeClass`, which its miners have, may run there.
    pub runs_miners: bool,
}

/// Ability of a node to take and run pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeCondition {
    #[default]
    Ready,
    /// Cordoned: nothing new is bound.
    Cordoned,
    /// The kubelet reports that it is not ready.
    NotReady,
    /// The kubelet does not report.
    Unreachable,
}
