//! Reasons for the state of an object: words for machines, sentences for people.

mod sentence;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::Approval;
use daylight_base::{Name, Timestamp};

/// The reason for the state of an object.
///
/// [`Reason::code`] is the machine-readable word, `Display` the sentence,
/// [`Reason::earliest`] the first moment at which it may change by itself.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr, Serialize, Deserialize)]
#[cfg_attr(test, derive(strum::VariantNames))]
#[allow(missing_docs)]
pub enum Reason {
    // Good states.
    Filling,
    Running,
    Active { until: Timestamp },
    Finished,
    // Whole site or pool.
    EmergencyStop { by: Arc<str>, reason: Arc<str> },
    Observing { would_mine: u32 },
    Holding { pool: Name },
    JournalFull { pool: Name },
    Draining { pool: Name },
    WindowClosed { pool: Name, opens: Option<Timestamp> },
    Overlapping { pool: Name, nodes: u32 },
    NoNodes,
    NoGpus { resource: Name },
    GpusUnavailable { gpus: u32 },
    GpusBeyondNodes { gpus: u32 },
    GpusByClaim { gpus: u32 },
    Invalid { problem: Arc<str> },
    // Registrations and classes.
    RegistrationMissing { registration: Name },
    AwaitingApproval { registration: Name },
    ApprovalVoided { registration: Name, change: Arc<str> },
    NotApproved { registration: Name, approval: Approval },
    SignatureMissing { registration: Name },
    SignatureInvalid { registration: Name },
    NotYetValid { registration: Name, from: Timestamp },
    Expired { registration: Name, at: Timestamp },
    MirrorPending { registration: Name },
    MirrorFull { registration: Name },
    ClassUnknown { class: Name },
    ClassProhibited { class: Name },
    ClassNotForMining { class: Name },
    ClassNotForJobs { class: Name },
    PoolUnknown { pool: Name },
    PoolNotRegistered { registration: Name },
    // Caps.
    PoolGpuLimit { pool: Name, limit: u32 },
    PowerBudget { pool: Name, watts: u64 },
    Headroom { pool: Name, gpus: u32 },
    RegistrationGpuLimit { registration: Name, limit: u32 },
    RegistrationPowerLimit { registration: Name, watts: u64 },
    OwnerGpuLimit { limit: u32 },
    OwnerPowerLimit { watts: u64 },
    EnergyLimit { registration: Name },
    MeterUnavailable { registration: Name },
    MeterStale { registration: Name, metered_until: Timestamp },
    // Waiting for capacity.
    PoolObserves { pool: Name },
    NothingWanted,
    Stopping { replicas: u32 },
    ReplicasGated { replicas: u32, gates: Vec<Name> },
    WaitingForIdleGpus { gpus: u32 },
    KeptForPods { gpus: u32 },
    KeptForMiner { miner: Name },
    NodesClosed { gpus: u32 },
    NoNodeFits { gpus: u32 },
    IdleDelay { until: Timestamp },
    Quarantined { until: Timestamp },
    // AI jobs and pods.
    WaitingForDrain { gpus: u32 },
    Starting { bound: u32, workers: u32 },
    WaitingForCapacity { gpus: u32, available: u32, at: Option<Timestamp> },
    PodNotStopping { pod: Name, node: Name, gone_by: Timestamp },
    BehindJob { job: Name },
    WouldDelay { job: Name },
    NoNodeLargeEnough { gpus: u32 },
    PoolTooSmall { gpus: u32, most: u32 },
    GangBackoff { until: Timestamp },
    RequestsChanged { change: Arc<str> },
    JobSuspended { manager: Name, job: Name },
    WorkersMissing { bound: u32, workers: u32 },
    External { queue: Name, why: Option<Arc<str>> },
    Gated { gates: Vec<Name> },
    SchedulerDecides,
    SchedulerFirst { until: Timestamp },
    RoomKept,
    NotPreempting,
}

impl Reason {
    /// The machine-readable word, in the form of a condition's reason.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotApproved { approval: Approval::Rejected, .. } => "Rejected",
            Self::NotApproved { approval: Approval::Suspended, .. } => "Suspended",
            Self::NotApproved { approval: Approval::Revoked, .. } => "Revoked",
            _ => self.into(),
        }
    }

    /// The first moment at which the reason may change by itself, where one is known.
    pub const fn earliest(&self) -> Option<Timestamp> {
        match self {
            Self::WindowClosed { opens, .. } => *opens,
            Self::WaitingForCapacity { at, .. } => *at,
            Self::NotYetValid { from, .. } => Some(*from),
            Self::IdleDelay { until }
            | Self::Quarantined { until }
            | Self::GangBackoff { until }
            | Self::SchedulerFirst { until } => Some(*until),
            _ => None,
        }
    }
}
