//! The result of planning: actions, and one explanation per object.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{JobState, Placement};
pub use crate::reason::Reason;
use daylight_base::{Name, Timestamp};

/// Actions to take now, a report on each object, and the time to plan again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Changes to make, in this order: a reservation precedes the evictions that serve it, and evictions
    /// precede grants.
    pub actions: Vec<Action>,
    /// Every pool, by name.
    pub pools: Vec<PoolReport>,
    /// Every registration, by key.
    pub registrations: Vec<RegistrationReport>,
    /// Every miner, by key.
    pub miners: Vec<MinerReport>,
    /// Every job, by key.
    pub jobs: Vec<JobReport>,
    /// Waiting pods that request GPUs and are neither miners nor workers, by key.
    pub waiting_pods: Vec<PodReport>,
    /// The time before which the same site gives the same plan; `None` if it always does.
    pub wake_at: Option<Timestamp>,
}

/// One change to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Write the nodes of a job into its status.
    Reserve {
        job: Name,
        placement: Vec<Placement>,
        /// Number of miners displaced for it from now on.
        displaced: u32,
    },
    /// Release a job's pods to kube-scheduler.
    Release {
        job: Name,
        /// The nodes to prefer; empty if it requests no GPUs.
        placement: Vec<Placement>,
    },
    /// Delete the reservation of a job, which queues again: its nodes cannot take the whole gang any
    /// more, and no others can.
    Requeue { job: Name },
    /// Suspend a job whose gang was not bound in time; it queues again.
    Suspend { job: Name },
    /// Stop a miner's pod.
    Evict {
        /// The pod, `namespace/name`.
        pod: Name,
        reason: ReclaimReason,
        /// The job, pod or miner that it makes room for.
        beneficiary: Option<Name>,
        /// Time that it has to stop.
        grace: Duration,
    },
    /// Start one replica of a miner.
    Grant(Grant),
}

impl Action {
    /// Returns the job that the action advances, with its state afterwards, given the job's state
    /// `before`; `None` if the action concerns no job.
    pub fn advances(
        &self,
        before: impl FnOnce(&Name) -> JobState,
        now: Timestamp,
    ) -> Option<(&Name, JobState)> {
        Some(match self {
            Self::Reserve { job, placement, .. } => (job, before(job).reserved(placement)),
            Self::Release { job, placement } => (job, before(job).released(placement, now)),
            Self::Requeue { job } => (job, before(job).requeued()),
            Self::Suspend { job } => (job, before(job).suspended(now)),
            Self::Evict { .. } | Self::Grant(_) => return None,
        })
    }
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
    /// Time that it has to stop: the shorter drain timeout of miner and pool.
    pub grace: Duration,
    /// Time by which it must have stopped by itself, if any: the end of the window or of the
    /// registration.
    pub until: Option<Timestamp>,
}

/// The reason for reclaiming GPUs from a miner.
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
    /// The miner's pod has to be replaced.
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
    /// Allocatable GPUs on the pool's nodes, and those held beyond that.
    pub total: u32,
    /// Held by classed pods and AI jobs, or promised to a job.
    pub ai: u32,
    /// Held by miners, those that are stopping included.
    pub mining: u32,
    /// Held by pods without a class.
    pub undeclared: u32,
    /// Held by pods whose class does not exist, or is prohibited.
    pub unlisted: u32,
    /// Idle, and open to mining.
    pub idle: u32,
    /// Idle, and kept so for AI.
    pub headroom: u32,
    /// Idle on nodes where pods cannot be bound, and GPUs that nodes lost.
    pub unavailable: u32,
    /// Idle, and closed to miners since miners failed there.
    pub quarantined: u32,
}

/// Report on a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    pub pool: Name,
    pub nodes: u32,
    pub gpus: PoolGpus,
    /// Watts that count for its miners: the larger of declared and measured.
    pub watts: u64,
    /// Miners' pods that should have stopped and have not.
    pub overdue: u32,
    /// `Filling`, or the reason why it does not.
    pub mining: Reason,
    /// Nodes that belong to an older pool, if any.
    pub overlap: Option<Reason>,
}

/// Report on a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationReport {
    /// `namespace/name`.
    pub registration: Name,
    /// `Active`, or the reason why it is not in force.
    pub state: Reason,
    /// GPUs that its miners hold.
    pub gpus: u32,
    /// Watts that count for them: the larger of declared and measured.
    pub watts: u64,
    /// A limit of it or its owner that is exceeded now.
    pub over: Option<Reason>,
    /// When an energy limit will be reached at the present rate, if in the present period.
    pub forecast: Option<Forecast>,
}

/// Forecast of when an energy limit will be reached if nothing changes. Mining stops before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    pub at: Timestamp,
    /// The rate: the larger of declared and measured, in watts.
    pub watts: u64,
    /// The limit, in millijoules.
    pub limit_mj: u64,
    /// The limit is the owner's, over all registrations.
    pub of_owner: bool,
}

/// Report on a miner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinerReport {
    /// `namespace/name`.
    pub miner: Name,
    pub wanted: u32,
    /// Replicas held after this plan, those that are stopping not included.
    pub held: u32,
    /// Replicas that are stopping.
    pub stopping: u32,
    /// `Running`, or the reason why it holds fewer replicas than wanted.
    pub reason: Reason,
}

/// Report on a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// `namespace/name`.
    pub job: Name,
    /// Workers bound to nodes.
    pub bound: u32,
    /// `Running`, or the reason why it waits.
    pub reason: Reason,
}

/// Report on a waiting pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodReport {
    /// `namespace/name`.
    pub pod: Name,
    /// The reason why it waits.
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
