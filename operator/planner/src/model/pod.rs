//! Pods, with their role for Daylight.

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{HugePages, Miner, Pool, Shape};

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
    /// Those of them that a DRA driver allocated for it: its node does not offer them.
    pub by_claim: Vec<Name>,
    /// Requested thousandths of a CPU.
    pub cpu_milli: u64,
    /// Requested bytes.
    pub memory: u64,
    /// Requested huge pages.
    pub huge_pages: HugePages,
    pub created: Timestamp,
    pub deleting: bool,
    /// Time by which a pod that is being deleted has to be gone, once the API server has set it.
    pub gone_by: Option<Timestamp>,
    /// The scheduling gates that keep it from being bound. While a miner's pod has one, it holds
    /// nothing on its node but its slot.
    pub gates: Vec<Name>,
    pub role: Role,
}

impl Pod {
    /// Returns a replica of a miner in a slot of a pool, as it is when it is granted.
    pub fn replica(key: Name, miner: &Miner, pool: &Pool, slot: u32, created: Timestamp) -> Self {
        let Shape { gpus, cpu_milli, memory, huge_pages } = miner.shape;
        Self {
            key,
            node: None,
            nominated: None,
            gpus: vec![(pool.resource.clone(), gpus)],
            by_claim: Vec::new(),
            cpu_milli,
            memory,
            huge_pages,
            created,
            deleting: false,
            gone_by: None,
            gates: Vec::new(),
            role: Role::Miner {
                miner: miner.key.clone(),
                registration: miner.registration.clone(),
                pool: pool.name.clone(),
                slot,
                revision: miner.revision,
                watts: miner.watts,
            },
        }
    }

    /// Returns whether kube-scheduler does not consider it.
    pub fn is_gated(&self) -> bool {
        !self.gates.is_empty()
    }
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
        /// The component that makes room for it, if Daylight does not start the job.
        preemption: Preemption,
    },
    Other {
        activity: Activity,
        /// The component that makes room for it.
        preemption: Preemption,
    },
}

/// What foreign work declares to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// It has no class.
    Undeclared,
    /// It has a class that does not exist, or is prohibited.
    Unlisted,
    /// It is of this class, which is on the positive list.
    Listed(Name),
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
