//! What the planner decided, and why: actions, and one explanation per object.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Placement;
pub use crate::reason::Reason;
use daylight_base::{Name, Timestamp};

/// What to do now, what to say of each object, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Changes to make, in this order: a reservation stands before the
    /// evictions that serve it, and evictions before grants.
    pub actions: Vec<Action>,
    /// Every pool, by name.
    pub pools: Vec<PoolReport>,
    /// Every registration, by key.
    pub registrations: Vec<RegistrationReport>,
    /// Every miner, by key.
    pub miners: Vec<MinerReport>,
    /// Every job, by key.
    pub jobs: Vec<JobReport>,
    /// The pods that ask for GPUs and wait, and are neither miners nor workers, by key.
    pub waiting_pods: Vec<PodReport>,
    /// When the same site would be planned differently, at the latest.
    pub wake_at: Option<Timestamp>,
}

/// One change to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Write the nodes that a job was given into its status.
    Reserve {
        job: Name,
        placement: Vec<Placement>,
        /// How many miners are displaced for it from now on.
        displaced: u32,
    },
    /// Let a job's pods go to kube-scheduler.
    Release {
        job: Name,
        /// The nodes to prefer; empty if it asks for no GPUs.
        placement: Vec<Placement>,
    },
    /// Suspend a job whose gang was not bound in time; it queues again.
    Suspend { job: Name },
    /// Stop a miner's pod.
    Evict {
        /// The pod, `namespace/name`.
        pod: Name,
        reason: ReclaimReason,
        /// Whom it makes room for: a job, a pod or a miner.
        beneficiary: Option<Name>,
        /// How long it may take to stop.
        grace: Duration,
    },
    /// Start one replica of a miner.
    Grant(Grant),
}

/// One replica of a miner on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub miner: Name,
    /// The registration that it is granted under.
    pub registration: Name,
    pub pool: Name,
    pub node: Name,
    /// The slot on the node: no two live grants of a node share one.
    pub slot: u32,
    /// How long it may take to stop: the smaller of the miner's and the pool's.
    pub grace: Duration,
    /// When it must have stopped by itself, if ever: the end of the window or
    /// of the registration.
    pub until: Option<Timestamp>,
}

/// Why GPUs are taken back from a miner.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::Display,
    strum::IntoStaticStr,
    strum::VariantArray,
    Serialize,
    Deserialize,
)]
pub enum ReclaimReason {
    /// An AI job or pod needs them.
    AiDemand,
    /// The idle reserve of the pool must be restored.
    Headroom,
    /// The mining window ends.
    WindowClosed,
    /// More GPUs mine than the pool, the registration or the owner allows.
    GpuLimit,
    /// More watts than the pool, the registration or the owner allows.
    PowerBudget,
    /// The energy of the period is used up.
    EnergyBudget,
    /// The registration is not in force.
    RegistrationInactive,
    /// The class is not on the positive list as one that may mine.
    ClassInactive,
    /// The pool's policy is `Drain`, or the node is no longer in the pool.
    PoolDrained,
    /// The node lost the GPUs.
    NodeUnavailable,
    /// Another miner has a better claim.
    Rebalance,
    /// The miner wants fewer replicas, or is gone.
    ScaledDown,
    /// The miner's pod has to be made anew.
    Updated,
    EmergencyStop,
}

impl ReclaimReason {
    /// All reasons, for tables and metrics.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The machine-readable word.
    pub fn code(self) -> &'static str {
        self.into()
    }
}

/// GPUs of a pool by state; they add up to `total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolGpus {
    /// Allocatable GPUs on the pool's nodes, those held beyond included.
    pub total: u32,
    /// Held by classed pods and AI jobs, or promised to a job.
    pub ai: u32,
    /// Held by miners, those that are stopping included.
    pub mining: u32,
    /// Held by pods without a class.
    pub undeclared: u32,
    /// Idle, and open to mining.
    pub idle: u32,
    /// Idle, and kept so for AI.
    pub headroom: u32,
    /// Idle on nodes where pods cannot be bound.
    pub unavailable: u32,
    /// Idle, and closed to miners since miners failed there.
    pub quarantined: u32,
}

/// What there is to say of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    pub pool: Name,
    pub nodes: u32,
    pub gpus: PoolGpus,
    /// Whether it mines, and why not.
    pub mining: Reason,
    /// Nodes that an older pool has as well, if any.
    pub overlap: Option<Reason>,
}

/// What there is to say of a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationReport {
    /// `namespace/name`.
    pub registration: Name,
    /// Whether it is in force, and why not.
    pub state: Reason,
    /// GPUs that its miners hold.
    pub gpus: u32,
    /// Watts declared for them.
    pub watts: u64,
    /// A limit of it or its owner that is passed now.
    pub over: Option<Reason>,
    /// When an energy limit will be met at the present rate, if in the present period.
    pub forecast: Option<Forecast>,
}

/// When an energy limit will be met if nothing changes. Mining stops before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    pub at: Timestamp,
    /// The rate: the larger of declared and measured, in watts.
    pub watts: u64,
    /// The limit, in millijoules.
    pub limit_mj: u64,
    /// Whether it is the owner's, over all registrations.
    pub of_owner: bool,
}

/// What there is to say of a miner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinerReport {
    /// `namespace/name`.
    pub miner: Name,
    pub wanted: u32,
    /// Replicas held after this plan, those that are stopping not included.
    pub held: u32,
    /// Replicas that are stopping.
    pub stopping: u32,
    /// `Running`, or why not all that is wanted is held.
    pub reason: Reason,
}

/// What there is to say of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// `namespace/name`.
    pub job: Name,
    /// Workers bound to nodes.
    pub bound: u32,
    /// `Running`, or what it waits for.
    pub reason: Reason,
}

/// What there is to say of a waiting pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodReport {
    /// `namespace/name`.
    pub pod: Name,
    /// What it waits for.
    pub reason: Reason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_reclaim_reasons_are_fixed() {
        let words: Vec<_> = ReclaimReason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(
            words,
            [
                "AiDemand",
                "Headroom",
                "WindowClosed",
                "GpuLimit",
                "PowerBudget",
                "EnergyBudget",
                "RegistrationInactive",
                "ClassInactive",
                "PoolDrained",
                "NodeUnavailable",
                "Rebalance",
                "ScaledDown",
                "Updated",
                "EmergencyStop",
            ]
        );
        for reason in ReclaimReason::ALL {
            assert_eq!(reason.to_string(), reason.code());
        }
    }
}
