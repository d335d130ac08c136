//! What the planner decided, and why: actions, and one explanation per object.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Approval, Name, Placement};
use crate::time::Timestamp;

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
        /// The job.
        job: Name,
        /// Its nodes.
        placement: Vec<Placement>,
        /// How many miners are displaced for it from now on.
        displaced: u32,
    },
    /// Let a job's pods go to kube-scheduler.
    Release {
        /// The job.
        job: Name,
        /// The nodes to prefer; empty if it asks for no GPUs.
        placement: Vec<Placement>,
    },
    /// Suspend a job whose gang was not bound in time; it queues again.
    Suspend {
        /// The job.
        job: Name,
    },
    /// Stop a miner's pod.
    Evict {
        /// The pod, `namespace/name`.
        pod: Name,
        /// Why.
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
    /// The miner.
    pub miner: Name,
    /// The pool.
    pub pool: Name,
    /// The node.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// The emergency stop.
    EmergencyStop,
}

impl ReclaimReason {
    /// All reasons, for tables and metrics.
    pub const ALL: [Self; 14] = [
        Self::AiDemand,
        Self::Headroom,
        Self::WindowClosed,
        Self::GpuLimit,
        Self::PowerBudget,
        Self::EnergyBudget,
        Self::RegistrationInactive,
        Self::ClassInactive,
        Self::PoolDrained,
        Self::NodeUnavailable,
        Self::Rebalance,
        Self::ScaledDown,
        Self::Updated,
        Self::EmergencyStop,
    ];

    /// The machine-readable word.
    pub const fn code(self) -> &'static str {
        match self {
            Self::AiDemand => "AiDemand",
            Self::Headroom => "Headroom",
            Self::WindowClosed => "WindowClosed",
            Self::GpuLimit => "GpuLimit",
            Self::PowerBudget => "PowerBudget",
            Self::EnergyBudget => "EnergyBudget",
            Self::RegistrationInactive => "RegistrationInactive",
            Self::ClassInactive => "ClassInactive",
            Self::PoolDrained => "PoolDrained",
            Self::NodeUnavailable => "NodeUnavailable",
            Self::Rebalance => "Rebalance",
            Self::ScaledDown => "ScaledDown",
            Self::Updated => "Updated",
            Self::EmergencyStop => "EmergencyStop",
        }
    }
}

impl fmt::Display for ReclaimReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Why an object is as it is.
///
/// [`Reason::code`] is the machine-readable word, `Display` the sentence,
/// [`Reason::earliest`] the first moment at which it may change by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    Draining { pool: Name },
    WindowClosed { pool: Name, opens: Option<Timestamp> },
    Overlapping { pool: Name, nodes: u32 },
    NoNodes,
    Invalid { problem: Arc<str> },
    // Registrations and classes.
    RegistrationMissing { registration: Name },
    AwaitingApproval { registration: Name },
    ApprovalVoided { registration: Name },
    NotApproved { registration: Name, approval: Approval },
    NotYetValid { registration: Name, from: Timestamp },
    Expired { registration: Name, at: Timestamp },
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
    BehindJob { job: Name },
    WouldDelay { job: Name },
    NoNodeLargeEnough { gpus: u32 },
    PoolTooSmall { gpus: u32, most: u32 },
    GangBackoff { until: Timestamp },
    External,
    SchedulerDecides,
    SchedulerFirst { until: Timestamp },
    RoomKept,
    NotPreempting,
}

/// Dates in sentences: UTC, to the second, as RFC 3339 has them.
struct At(Timestamp);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Days to civil date after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
        let seconds = self.0.0.div_euclid(1000);
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
        let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second_of_day / 3600,
            second_of_day / 60 % 60,
            second_of_day % 60
        )
    }
}

fn plural(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

impl Reason {
    /// The machine-readable word, in the form of a condition's reason.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Filling => "Filling",
            Self::Running => "Running",
            Self::Active { .. } => "Active",
            Self::Finished => "Finished",
            Self::EmergencyStop { .. } => "EmergencyStop",
            Self::Observing { .. } => "Observing",
            Self::Holding { .. } => "Holding",
            Self::Draining { .. } => "Draining",
            Self::WindowClosed { .. } => "WindowClosed",
            Self::Overlapping { .. } => "Overlapping",
            Self::NoNodes => "NoNodes",
            Self::Invalid { .. } => "Invalid",
            Self::RegistrationMissing { .. } => "RegistrationMissing",
            Self::AwaitingApproval { .. } => "AwaitingApproval",
            Self::ApprovalVoided { .. } => "ApprovalVoided",
            Self::NotApproved { approval, .. } => match approval {
                Approval::Rejected => "Rejected",
                Approval::Suspended => "Suspended",
                Approval::Revoked => "Revoked",
                Approval::Pending | Approval::Approved | Approval::Voided => "NotApproved",
            },
            Self::NotYetValid { .. } => "NotYetValid",
            Self::Expired { .. } => "Expired",
            Self::ClassUnknown { .. } => "ClassUnknown",
            Self::ClassProhibited { .. } => "ClassProhibited",
            Self::ClassNotForMining { .. } => "ClassNotForMining",
            Self::ClassNotForJobs { .. } => "ClassNotForJobs",
            Self::PoolUnknown { .. } => "PoolUnknown",
            Self::PoolNotRegistered { .. } => "PoolNotRegistered",
            Self::PoolGpuLimit { .. } => "PoolGpuLimit",
            Self::PowerBudget { .. } => "PowerBudget",
            Self::Headroom { .. } => "Headroom",
            Self::RegistrationGpuLimit { .. } => "RegistrationGpuLimit",
            Self::RegistrationPowerLimit { .. } => "RegistrationPowerLimit",
            Self::OwnerGpuLimit { .. } => "OwnerGpuLimit",
            Self::OwnerPowerLimit { .. } => "OwnerPowerLimit",
            Self::EnergyLimit { .. } => "EnergyLimit",
            Self::MeterUnavailable { .. } => "MeterUnavailable",
            Self::MeterStale { .. } => "MeterStale",
            Self::PoolObserves { .. } => "PoolObserves",
            Self::NothingWanted => "NothingWanted",
            Self::Stopping { .. } => "Stopping",
            Self::WaitingForIdleGpus { .. } => "WaitingForIdleGpus",
            Self::KeptForPods { .. } => "KeptForPods",
            Self::KeptForMiner { .. } => "KeptForMiner",
            Self::NodesClosed { .. } => "NodesClosed",
            Self::NoNodeFits { .. } => "NoNodeFits",
            Self::IdleDelay { .. } => "IdleDelay",
            Self::Quarantined { .. } => "Quarantined",
            Self::WaitingForDrain { .. } => "WaitingForDrain",
            Self::Starting { .. } => "Starting",
            Self::WaitingForCapacity { .. } => "WaitingForCapacity",
            Self::BehindJob { .. } => "BehindJob",
            Self::WouldDelay { .. } => "WouldDelay",
            Self::NoNodeLargeEnough { .. } => "NoNodeLargeEnough",
            Self::PoolTooSmall { .. } => "PoolTooSmall",
            Self::GangBackoff { .. } => "GangBackoff",
            Self::External => "External",
            Self::SchedulerDecides => "SchedulerDecides",
            Self::SchedulerFirst { .. } => "SchedulerFirst",
            Self::RoomKept => "RoomKept",
            Self::NotPreempting => "NotPreempting",
        }
    }

    /// The first moment at which it may change by itself, where one is known.
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

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filling => write!(f, "Idle GPUs go to registered miners."),
            Self::Running => write!(f, "All of it runs."),
            Self::Active { until } => write!(f, "In force until {}.", At(*until)),
            Self::Finished => write!(f, "It is over."),
            Self::EmergencyStop { by, reason } => write!(
                f,
                "Emergency stop by {by} ({reason}); mining resumes after `daylight resume`."
            ),
            Self::Observing { would_mine } => write!(
                f,
                "The policy is Observe, so nothing is changed; with Fill, {} more would mine now.",
                plural(*would_mine, "GPU")
            ),
            Self::Holding { pool } => {
                write!(f, "Pool {pool} holds mining: running miners stay, none is added.")
            }
            Self::Draining { pool } => write!(f, "Pool {pool} drains mining."),
            Self::WindowClosed { pool, opens: Some(at) } => {
                write!(f, "The mining window of pool {pool} is closed; it opens at {}.", At(*at))
            }
            Self::WindowClosed { pool, opens: None } => write!(
                f,
                "The mining window of pool {pool} is closed, and none opens within the next weeks."
            ),
            Self::Overlapping { pool, nodes } => write!(
                f,
                "{} of it {} to the older pool {pool} as well, and there {}; make the node selectors disjoint.",
                plural(*nodes, "node"),
                if *nodes == 1 { "belongs" } else { "belong" },
                if *nodes == 1 { "it counts" } else { "they count" },
            ),
            Self::NoNodes => {
                write!(
                    f,
                    "No node matches the selector; check spec.nodeSelector against the nodes' labels."
                )
            }
            Self::Invalid { problem } => write!(f, "{problem}"),
            Self::RegistrationMissing { registration } => write!(
                f,
                "There is no Registration {registration}; spec.registration must name one in the miner's namespace."
            ),
            Self::AwaitingApproval { registration } => {
                write!(f, "Registration {registration} awaits approval.")
            }
            Self::ApprovalVoided { registration } => write!(
                f,
                "Registration {registration} was edited after its approval, which voids it; it must be approved again."
            ),
            Self::NotApproved { registration, approval } => {
                let word = match approval {
                    Approval::Rejected => "rejected",
                    Approval::Suspended => "suspended",
                    Approval::Revoked => "revoked",
                    Approval::Pending | Approval::Approved | Approval::Voided => "not approved",
                };
                write!(f, "Registration {registration} is {word}.")
            }
            Self::NotYetValid { registration, from } => {
                write!(f, "Registration {registration} holds from {} on.", At(*from))
            }
            Self::Expired { registration, at } => {
                write!(f, "Registration {registration} is valid until {} only; renew it.", At(*at))
            }
            Self::ClassUnknown { class } => write!(
                f,
                "There is no ActivityClass {class}; the positive list must have it first."
            ),
            Self::ClassProhibited { class } => write!(f, "ActivityClass {class} is prohibited."),
            Self::ClassNotForMining { class } => write!(
                f,
                "ActivityClass {class} is not IdleOnly, so miners cannot be assigned under it."
            ),
            Self::ClassNotForJobs { class } => write!(
                f,
                "ActivityClass {class} is not Guaranteed, so AI jobs cannot run under it."
            ),
            Self::PoolUnknown { pool } => write!(f, "There is no GpuPool {pool}."),
            Self::PoolNotRegistered { registration } => write!(
                f,
                "Registration {registration} names none of the pools that the miner wants, or none that exists."
            ),
            Self::PoolGpuLimit { pool, limit } => {
                write!(f, "Pool {pool} lets at most {} mine.", plural(*limit, "GPU"))
            }
            Self::PowerBudget { pool, watts } => {
                write!(f, "Pool {pool} lets at most {watts} W mine.")
            }
            Self::Headroom { pool, gpus } => {
                write!(f, "Pool {pool} keeps {} idle for AI.", plural(*gpus, "GPU"))
            }
            Self::RegistrationGpuLimit { registration, limit } => {
                write!(f, "Registration {registration} allows at most {}.", plural(*limit, "GPU"))
            }
            Self::RegistrationPowerLimit { registration, watts } => {
                write!(f, "Registration {registration} allows at most {watts} W.")
            }
            Self::OwnerGpuLimit { limit } => write!(
                f,
                "All registrations of the owner together allow at most {}.",
                plural(*limit, "GPU")
            ),
            Self::OwnerPowerLimit { watts } => {
                write!(f, "All registrations of the owner together allow at most {watts} W.")
            }
            Self::EnergyLimit { registration } => write!(
                f,
                "The energy limit of registration {registration} would be passed before the next meter reading."
            ),
            Self::MeterUnavailable { registration } => write!(
                f,
                "Registration {registration} has an energy limit, and no meter reports for it; mining waits for the auditor."
            ),
            Self::MeterStale { registration, metered_until } => write!(
                f,
                "The meter of registration {registration} last reported at {}; mining waits for a fresh reading.",
                At(*metered_until)
            ),
            Self::PoolObserves { pool } => {
                write!(f, "Pool {pool} only observes; its policy Fill would let miners in.")
            }
            Self::NothingWanted => write!(f, "No replicas are wanted."),
            Self::Stopping { replicas: 1 } => {
                write!(f, "1 replica is stopping; then it is started again where GPUs are idle.")
            }
            Self::Stopping { replicas } => write!(
                f,
                "{replicas} replicas are stopping; then they are started again where GPUs are idle."
            ),
            Self::WaitingForIdleGpus { gpus } => {
                write!(f, "No node has {} idle.", plural(*gpus, "GPU"))
            }
            Self::KeptForPods { gpus } => {
                write!(f, "kube-scheduler is about to place pods on {}.", plural(*gpus, "idle GPU"))
            }
            Self::KeptForMiner { miner } => write!(
                f,
                "Idle GPUs await others on their node for a larger replica of miner {miner}, whose turn it is."
            ),
            Self::NodesClosed { gpus } => write!(
                f,
                "Nodes have {} idle, but are closed to mining: an autoscaler manages them, they lost GPUs, or they are kept clear for AI.",
                plural(*gpus, "GPU")
            ),
            Self::NoNodeFits { gpus } => write!(
                f,
                "Nodes have {} idle, but not the CPU, memory or pod slots beside.",
                plural(*gpus, "GPU")
            ),
            Self::IdleDelay { until } => {
                write!(f, "GPUs rest after AI work until {}.", At(*until))
            }
            Self::Quarantined { until } => write!(
                f,
                "Miners failed on the nodes with idle GPUs; they are tried again from {}.",
                At(*until)
            ),
            Self::WaitingForDrain { gpus: 0 } => {
                write!(f, "Waits for miners to leave CPU, memory or a pod slot.")
            }
            Self::WaitingForDrain { gpus } => {
                write!(f, "Waits for miners to leave {}.", plural(*gpus, "GPU"))
            }
            Self::Starting { bound, workers } => {
                write!(f, "{bound} of {} bound to nodes.", plural(*workers, "worker"))
            }
            Self::WaitingForCapacity { gpus, available, at } => {
                write!(
                    f,
                    "Asks for {}; {available} can be had now, miners' GPUs included.",
                    plural(*gpus, "GPU")
                )?;
                match at {
                    Some(at) => write!(f, " Running jobs end by {} at the latest.", At(*at)),
                    None => Ok(()),
                }
            }
            Self::BehindJob { job } => write!(f, "Job {job} is first in the queue."),
            Self::WouldDelay { job } => write!(
                f,
                "Starting now could delay job {job}, which is first in the queue; a shorter maxRunTime may help."
            ),
            Self::NoNodeLargeEnough { gpus } => write!(
                f,
                "No node that it may use is large enough for one pod: {} and the CPU and memory beside.",
                plural(*gpus, "GPU")
            ),
            Self::PoolTooSmall { gpus, most } => write!(
                f,
                "Asks for {}; the nodes that it may use hold {most} at most.",
                plural(*gpus, "GPU")
            ),
            Self::GangBackoff { until } => write!(
                f,
                "Its workers were not all bound in time; it queues again at {}.",
                At(*until)
            ),
            Self::External => write!(f, "Another queue decides when it starts."),
            Self::SchedulerDecides => write!(f, "kube-scheduler makes room for it."),
            Self::SchedulerFirst { until } => write!(
                f,
                "It never preempts; from {} on miners make room for it, unless kube-scheduler finds some before.",
                At(*until)
            ),
            Self::RoomKept => {
                write!(f, "What it asks for is free and kept for it; kube-scheduler binds it.")
            }
            Self::NotPreempting => write!(
                f,
                "It has preemptionPolicy Never and filters that are not evaluated here, so nothing is displaced for it."
            ),
        }
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
    /// Its name.
    pub pool: Name,
    /// Its nodes.
    pub nodes: u32,
    /// Its GPUs.
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
}

/// What there is to say of a miner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinerReport {
    /// `namespace/name`.
    pub miner: Name,
    /// Replicas wanted.
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
