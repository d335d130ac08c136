//! Pods, with their role for Daylight.

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};

/// A pod that is not terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// `namespace/name`.
    pub key: Name,
    /// The node it is bound to; for a miner, the one it is pinned to.
    pub node: Option<Name>,
    /// The node that kube-scheduler clears for it.
    pub nominated: Option<Name>,
    /// Requested extended resources.
    pub gpus: Vec<(Name, u32)>,
    /// Requested thousandths of a CPU.
    pub cpu_milli: u64,
    /// Requested bytes.
    pub memory: u64,
    pub created: Timestamp,
    pub deleting: bool,
    pub role: Role,
}

/// Role of a pod for Daylight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A replica of a miner, with its lease.
    Miner {
        /// `namespace/name` of the miner.
        miner: Name,
        /// `namespace/name` of the registration it was granted under.
        registration: Name,
        /// The pool it was granted in.
        pool: Name,
        /// The slot on its node.
        slot: u32,
        /// Revision of the miner when the pod was created.
        revision: u64,
        /// Watts declared for it when it was granted.
        watts: u64,
    },
    /// A worker of an AI job.
    Worker {
        /// `namespace/name` of the job.
        job: Name,
    },
    Other {
        /// The declared class; a pod without one is undeclared.
        class: Option<Name>,
        /// The component that makes room for it.
        preemption: Preemption,
    },
}

/// The component that makes room for a pending pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preemption {
    /// kube-scheduler preempts for it; Daylight does nothing.
    ByScheduler,
    /// It has `preemptionPolicy: Never`, and these nodes pass all its other filters: Daylight
    /// makes room.
    ByDaylight {
        /// `None` means any node.
        allowed_nodes: Option<Vec<Name>>,
    },
    /// It has `preemptionPolicy: Never` and filters that are not evaluated here: nothing is
    /// displaced for it.
    Never,
}
