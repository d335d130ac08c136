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
    /// Workers that have succeeded, and need no GPUs any more.
    pub succeeded: u32,
    /// Field manager, other than Daylight, that keeps its Job suspended.
    pub suspended_by: Option<Name>,
    /// One sentence about requests that its pods have and it does not set.
    pub requests_changed: Option<Arc<str>>,
    /// One sentence about an invalid object.
    pub problem: Option<Arc<str>>,
}

/// Workers of a job on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub node: Name,
    pub workers: u32,
}

/// Progress of a job that another queueing system starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExternalStage {
    /// It is not admitted; with the reason, if the other system states one.
    Waiting(Option<Arc<str>>),
    /// It is admitted; its workers are being bound.
    Starting,
    /// All workers were bound.
    Running,
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
    External {
        /// The queue there, `namespace/name`.
        queue: Name,
        stage: ExternalStage,
    },
    Finished,
}

/// The transitions of a job. The planner, the executor and every simulated site use these, so that
/// none of them can read an action differently.
impl JobState {
    /// Returns the releases that were not bound in time.
    pub const fn attempts(&self) -> u32 {
        match self {
            Self::Queued { attempts, .. }
            | Self::Reserved { attempts, .. }
            | Self::Released { attempts, .. } => *attempts,
            Self::Running { .. } | Self::External { .. } | Self::Finished => 0,
        }
    }

    /// Returns the state once nodes are reserved.
    #[must_use]
    pub fn reserved(&self, placement: &[Placement]) -> Self {
        Self::Reserved { placement: placement.to_vec(), attempts: self.attempts() }
    }

    /// Returns the state once a reservation was given up.
    #[must_use]
    pub const fn requeued(&self) -> Self {
        Self::Queued { attempts: self.attempts(), suspended_at: None }
    }

    /// Returns the state once the pods were released.
    #[must_use]
    pub fn released(&self, placement: &[Placement], at: Timestamp) -> Self {
        Self::Released { placement: placement.to_vec(), at, attempts: self.attempts() }
    }

    /// Returns the state once a release failed.
    #[must_use]
    pub const fn suspended(&self, at: Timestamp) -> Self {
        Self::Queued { attempts: self.attempts().saturating_add(1), suspended_at: Some(at) }
    }
}
