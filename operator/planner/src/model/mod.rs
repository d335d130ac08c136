//! The objects of a site, reduced to what decides an assignment.
//!
//! The controller makes them from Kubernetes objects; a simulator or a test makes them directly.
//! Keys of namespaced objects are `namespace/name`.

mod class;
mod delta;
mod job;
mod miner;
mod node;
mod pod;
mod pool;
mod registration;

pub use class::{Class, ClassAssignment};
pub use delta::{Delta, EmergencyStop, Snapshot};
pub use job::{ExternalStage, Job, JobState, Placement};
pub use miner::{HugePages, Miner, Shape};
pub use node::{Membership, Node, NodeCondition};
pub use pod::{Activity, Pod, Preemption, Role};
pub use pool::{AutoscaledNodes, Headroom, MiningPolicy, Pool, Queueing, ReclaimUnit, Recording};
pub use registration::{
    Approval, EnergyPeriod, Limits, Mirrored, PeriodUse, Reading, Registration, Usage,
};
