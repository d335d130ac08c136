//! What the planner is told: the objects of a site, reduced to what decides an
//! assignment.
//!
//! The index of the controller makes these from Kubernetes objects; a simulator
//! or a test makes them directly. Keys of namespaced objects are
//! `namespace/name`.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use daylight_base::{Name, Timestamp};

use crate::windows::Windows;

/// A set of nodes and one extended resource on them, with the rules for mining.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub name: Name,
    /// Where two pools claim the same resource of a node, the older one has it.
    pub created: Timestamp,
    /// The extended resource, such as `nvidia.com/gpu`.
    pub resource: Name,
    /// Whether and how idle GPUs are given to miners.
    pub policy: MiningPolicy,
    /// When mining is allowed.
    pub windows: Windows,
    /// The most GPUs that may mine at once.
    pub max_gpus: Option<u32>,
    /// GPUs kept idle, so that the next AI job starts without a drain.
    pub headroom: Headroom,
    /// The most watts, as declared by the miners, that may mine at once.
    pub power_budget_watts: Option<u64>,
    /// How long a GPU rests after AI work before it may mine.
    pub idle_delay: Duration,
    /// How long a miner runs before another miner may displace it.
    pub min_run_time: Duration,
    /// The longest a miner may take to stop.
    pub drain_timeout: Duration,
    /// What is cleared when AI needs GPUs.
    pub reclaim_unit: ReclaimUnit,
    /// Whether nodes that an autoscaler manages may mine.
    pub autoscaled_nodes: AutoscaledNodes,
    /// How AI jobs queue.
    pub queueing: Queueing,
    /// Whether what happens in it is taken on record.
    pub recording: Recording,
    /// What is wrong with the object, in one sentence. Such a pool serves AI
    /// jobs and holds mining.
    pub problem: Option<Arc<str>>,
}

/// Whether the auditor takes on record what happens in a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recording {
    /// As far as it says.
    #[default]
    Works,
    /// It can take nothing more.
    Full,
}

/// Whether and how a pool's idle GPUs are given to miners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MiningPolicy {
    /// Plan and explain, change nothing.
    #[default]
    Observe,
    /// Give idle GPUs to miners.
    Fill,
    /// Keep the miners that run, add none.
    Hold,
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
    /// The GPUs to keep idle of `usable` GPUs.
    pub fn of(self, usable: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (u64::from(usable) * u64::from(percent)).div_ceil(100) as u32,
        }
    }
}

/// What is cleared when AI needs GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReclaimUnit {
    /// As many miners as needed.
    #[default]
    Gpu,
    /// Every miner of a node that gives a GPU to an AI job.
    Node,
}

/// Whether nodes that an autoscaler manages may mine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AutoscaledNodes {
    #[default]
    Skip,
    Use,
}

/// How AI jobs of a pool queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Queueing {
    /// By priority, then age; none passes another.
    StrictFifo,
    /// A later job may pass if it does not delay the first (EASY).
    #[default]
    Backfill,
}

/// One entry of the positive list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    pub name: Name,
    /// What it may be given.
    pub assignment: ClassAssignment,
    /// Among miners, a higher rank is served first.
    pub rank: u32,
}

/// What a class may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClassAssignment {
    /// GPUs on demand: AI.
    Guaranteed,
    /// Idle GPUs only: mining.
    IdleOnly,
    /// Nothing: the class is prohibited.
    Prohibited,
}

/// A registered activity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// `namespace/name`.
    pub key: Name,
    /// The owner's pseudonym; owner limits hold over all its registrations.
    pub owner: Option<Name>,
    /// The class it was filed for.
    pub class: Name,
    /// The pools it was filed for.
    pub pools: Vec<Name>,
    /// From when it holds.
    pub valid_from: Timestamp,
    /// Until when it holds.
    pub valid_until: Timestamp,
    /// What the compliance officer said.
    pub approval: Approval,
    /// Limits over all miners of this registration.
    pub limits: Limits,
    /// Limits over all registrations of the owner.
    pub owner_limits: Limits,
    /// What the meter has counted in the current period.
    pub usage: Option<Usage>,
    /// Whether that is all, but for what miners draw that are still there.
    #[serde(default)]
    pub reading: Reading,
    /// When the period of the energy limit ends, if there is one.
    #[serde(default)]
    pub energy_resets: Option<Timestamp>,
    /// Whether admission knows it.
    #[serde(default)]
    pub mirrored: Mirrored,
    /// What is wrong with the object, in one sentence.
    pub problem: Option<Arc<str>>,
}

/// Whether a meter's reading can be built on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reading {
    #[default]
    Counts,
    /// Miners may have ended since that nobody here saw: no more are started on it.
    Partial,
}

/// Whether admission knows a registration, so that pods under it are let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mirrored {
    #[default]
    Holds,
    Pending,
    /// There is no room left for it.
    Full,
}

/// What the compliance officer said of a registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Approval {
    #[default]
    Pending,
    /// Approved as it stands.
    Approved,
    /// It was approved, and its spec was edited since.
    Voided,
    /// It was approved without the authority's signature, which is required.
    Unsigned,
    /// It was approved with a signature that is not the authority's, or for something else.
    WronglySigned,
    Rejected,
    /// Suspended for a while.
    Suspended,
    Revoked,
}

/// Limits of a registration or an owner; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// GPUs held at once.
    pub gpus: Option<u32>,
    /// Watts at once.
    pub watts: Option<u64>,
    /// Millijoules in a period (1 kWh = 3,600,000,000 mJ).
    pub energy_mj: Option<u64>,
}

/// What the meter has counted for a registration in the current period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Everything up to this moment is counted.
    pub metered_until: Timestamp,
    /// Millijoules of the period so far, the upper bound.
    pub millijoules: u64,
    /// The larger of declared and measured peak, in watts, for one replica, if measured.
    pub peak_watts: Option<u64>,
}

/// A tenant's miner: replicas that take idle GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miner {
    /// `namespace/name`.
    pub key: Name,
    /// `namespace/name` of its registration.
    pub registration: Name,
    /// Among equals, the older one is served first.
    pub created: Timestamp,
    /// How many replicas are wanted.
    pub replicas: u32,
    /// What one replica asks for.
    pub shape: Shape,
    /// Its share among miners of the same rank; at least 1.
    pub weight: u32,
    /// Declared watts of one replica.
    pub watts: u64,
    /// How long it takes to stop.
    pub drain: Duration,
    /// The pools it wants, in order; empty means those of the registration.
    pub pools: Vec<Name>,
    /// Changes when its pods would have to be made anew.
    pub revision: u64,
    /// What is wrong with the object, in one sentence.
    pub problem: Option<Arc<str>>,
}

/// What one pod asks for, of one extended resource.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Shape {
    pub gpus: u32,
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
}

/// A gang of AI workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// `namespace/name`.
    pub key: Name,
    /// Among jobs of the same priority, the older one is first.
    pub created: Timestamp,
    /// A higher priority is first.
    pub priority: i32,
    /// How many workers, all or none.
    pub workers: u32,
    /// What one worker asks for.
    pub shape: Shape,
    pub class: Name,
    /// The extended resource that its workers ask for.
    pub resource: Name,
    /// The pool it must run in, if it names one.
    pub pool: Option<Name>,
    /// The only nodes that its pod template allows, if it restricts them.
    pub allowed_nodes: Option<Vec<Name>>,
    /// The longest it runs, if it says so.
    pub max_run_time: Option<Duration>,
    /// How long its workers may take to be bound once released.
    pub gang_timeout: Duration,
    /// How far it is.
    pub state: JobState,
    /// What is wrong with the object, in one sentence.
    pub problem: Option<Arc<str>>,
}

/// Workers of a job on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub node: Name,
    /// How many workers it takes.
    pub workers: u32,
}

/// How far an AI job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// It waits for GPUs.
    Queued {
        /// How often its gang was not bound in time.
        attempts: u32,
        /// When it was suspended for that the last time.
        suspended_at: Option<Timestamp>,
    },
    /// Nodes were chosen; miners on them drain.
    Reserved {
        placement: Vec<Placement>,
        /// How often its gang was not bound in time.
        attempts: u32,
    },
    /// Its pods were let go to kube-scheduler.
    Released {
        /// The nodes that it prefers.
        placement: Vec<Placement>,
        at: Timestamp,
        /// How often its gang was not bound in time before.
        attempts: u32,
    },
    /// All workers were bound.
    Running {
        since: Timestamp,
    },
    /// Another queue (Kueue) decides when it starts.
    External,
    Finished,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub name: Name,
    /// The pools whose selector matches.
    pub pools: Vec<Membership>,
    pub gpus: Vec<(Name, u32)>,
    /// Allocatable CPU, in thousandths.
    pub cpu_milli: u64,
    /// Allocatable memory, in bytes.
    pub memory: u64,
    pub pod_slots: u32,
    /// Whether pods can be bound and run.
    pub condition: NodeCondition,
    /// Whether an autoscaler made it and may remove it.
    pub autoscaled: bool,
    /// When an AI pod last left it.
    pub ai_released_at: Option<Timestamp>,
    /// Since when its allocatable GPUs are fewer than they were.
    pub shrunk_at: Option<Timestamp>,
    /// No miner is granted here before this moment, since miners failed here.
    pub quarantined_until: Option<Timestamp>,
    /// The same for single slots.
    pub quarantined_slots: Vec<(u32, Timestamp)>,
}

/// A pool whose selector matches a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub pool: Name,
    /// Whether the pool's tolerations cover the node's taints.
    pub tolerated: bool,
}

/// Whether pods can be bound to a node and run there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeCondition {
    #[default]
    Ready,
    /// Cordoned: nothing new is bound.
    Cordoned,
    /// The kubelet says that it is not ready.
    NotReady,
    /// The kubelet does not report.
    Unreachable,
}

/// A pod that is not terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// `namespace/name`.
    pub key: Name,
    /// The node it is bound to; for a miner, the one it is pinned to.
    pub node: Option<Name>,
    /// The node that kube-scheduler clears for it.
    pub nominated: Option<Name>,
    /// Extended resources that it asks for.
    pub gpus: Vec<(Name, u32)>,
    /// CPU that it asks for, in thousandths.
    pub cpu_milli: u64,
    /// Memory that it asks for, in bytes.
    pub memory: u64,
    /// When it was created.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What it is to Daylight.
    pub role: Role,
}

/// What a pod is to Daylight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A miner's replica: a lease.
    Miner {
        /// `namespace/name` of the miner.
        miner: Name,
        /// `namespace/name` of the registration it was granted under.
        registration: Name,
        /// The pool it was granted in.
        pool: Name,
        /// The slot on its node.
        slot: u32,
        /// The miner's revision it was made from.
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
        /// Its class, if it declares one.
        class: Option<Name>,
        /// Whether kube-scheduler makes room for it.
        preemption: Preemption,
    },
}

/// Whether kube-scheduler makes room for a pending pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preemption {
    /// It does: Daylight leaves the pod alone.
    ByScheduler,
    /// It does not (`preemptionPolicy: Never`), and these nodes pass all its
    /// other filters: Daylight makes room.
    ByDaylight {
        /// The nodes; `None` is any node.
        allowed_nodes: Option<Vec<Name>>,
    },
    /// It does not, and whether a node passes the pod's other filters is not
    /// known here: nothing is displaced for it.
    Never,
}

/// The emergency stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyStop {
    pub by: Arc<str>,
    pub reason: Arc<str>,
}

/// One change of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, clippy::large_enum_variant)]
pub enum Delta {
    Pool(Pool),
    PoolGone(Name),
    Class(Class),
    ClassGone(Name),
    Registration(Registration),
    RegistrationGone(Name),
    Miner(Miner),
    MinerGone(Name),
    Job(Job),
    JobGone(Name),
    Node(Node),
    NodeGone(Name),
    Pod(Pod),
    PodGone(Name),
    EmergencyStop(Option<EmergencyStop>),
}

/// A whole site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Snapshot {
    pub emergency_stop: Option<EmergencyStop>,
    pub pools: Vec<Pool>,
    pub classes: Vec<Class>,
    pub registrations: Vec<Registration>,
    pub miners: Vec<Miner>,
    pub jobs: Vec<Job>,
    pub nodes: Vec<Node>,
    pub pods: Vec<Pod>,
}
