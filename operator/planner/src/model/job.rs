//! AI jobs: gangs of workers, all or none.

use std::sync::Arc;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::Shape;

/// A gang of AI workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// `namespace/name`.
    pub key: Name,
    /// Of jobs with the same priority, the older one is first.
    pub created: Timestamp,
    /// A higher priority is first.
    pub priority: i32,
    /// Size of the gang.
    pub workers: u32,
    /// Requests of one worker.
    pub shape: Shape,
    pub class: Name,
    /// The extended resource that the workers request.
    pub resource: Name,
    /// The only pool that it may run in, if restricted.
    pub pool: Option<Name>,
    /// The only nodes that the pod template allows, if restricted.
    pub allowed_nodes: Option<Vec<Name>>,
    /// Longest run time, if declared.
    pub max_run_time: Option<Duration>,
    /// Time for all workers to be bound after the release.
    pub gang_timeout: Duration,
    pub state: JobState,
    /// One sentence about an invalid object.
    pub problem: Option<Arc<str>>,
}

/// Workers of a job on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub node: Name,
    pub workers: u32,
}

/// Progress of an AI job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Waits for GPUs.
    Queued {
        /// Releases that were not bound in time.
        attempts: u32,
        /// Time of the last suspension for that.
        suspended_at: Option<Timestamp>,
    },
    /// Nodes were chosen; miners on them drain.
    Reserved {
        placement: Vec<Placement>,
        /// Releases that were not bound in time.
        attempts: u32,
    },
    /// The pods were released to kube-scheduler.
    Released {
        /// The nodes that the pods prefer.
        placement: Vec<Placement>,
        at: Timestamp,
        /// Earlier releases that were not bound in time.
        attempts: u32,
    },
    /// All workers were bound.
    Running {
        since: Timestamp,
    },
    /// Another queueing system (Kueue) starts it.
    External,
    Finished,
}
