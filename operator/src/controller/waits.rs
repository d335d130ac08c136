//! Time that AI work waited, and the share of it for miners, as metrics report it.

use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_planner::model::{Delta, Job, JobState, Role};
use rustc_hash::FxHashMap;

/// AI work that waits.
#[derive(Debug, Default)]
pub struct Waits {
    /// AIJobs that do not run yet, and the time since when they wait.
    jobs: FxHashMap<Name, Timestamp>,
    /// Pods for which kube-scheduler displaces others, and the time since when.
    displacing: FxHashMap<Name, Timestamp>,
}

/// Kubernetes writes the time of creation in whole seconds: an object seen within this time of it
/// was created when it was seen.
const JUST_CREATED: Duration = Duration::from_secs(2);

impl Waits {
    /// Takes in what the planner receives.
    pub fn note(&mut self, delta: &Delta, now: Timestamp) {
        match delta {
            Delta::Job(job) => self.note_job(job, now),
            Delta::JobGone(key) => {
                self.jobs.remove(key);
            }
            Delta::Pod(pod) => {
                let other = matches!(pod.role, Role::Other { .. });
                if other && pod.node.is_none() && pod.nominated.is_some() {
                    self.displacing.entry(pod.key.clone()).or_insert(now);
                }
            }
            Delta::PodGone(key) => {
                self.displacing.remove(key);
            }
            _ => {}
        }
    }

    fn note_job(&mut self, job: &Job, now: Timestamp) {
        if matches!(job.state, JobState::Running { .. } | JobState::Finished) {
            return;
        }
        let just_created = now.since(job.created) < JUST_CREATED;
        let since = if just_created { now } else { job.created };
        self.jobs.entry(job.key.clone()).or_insert(since);
    }

    /// Ends the wait of an AIJob that begins to run, and returns it.
    pub fn job_runs(&mut self, job: &str, now: Timestamp) -> Option<Duration> {
        self.jobs.remove(job).map(|since| now.since(since))
    }

    /// Ends the wait of a pod that is bound, and returns how long kube-scheduler waited for the
    /// pods that it displaced for it.
    pub fn pod_bound(&mut self, pod: &str, now: Timestamp) -> Duration {
        self.displacing.remove(pod).map_or(Duration::ZERO, |since| now.since(since))
    }
}
