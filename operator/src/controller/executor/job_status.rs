//! Progress of an AIJob: the part of its status that the executor writes as it acts, and reads back
//! after a restart.

use daylight_base::{Name, Timestamp};
use daylight_crds::{AiJob, AiJobState, AiJobStatus, CONDITION_ADMITTED, Placement};
use daylight_planner::model;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::conditions::{Conditions, ReasonText, time};

/// One step of an AIJob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The job joins the queue.
    Queue,
    /// Nodes are reserved, and miners leave them.
    Reserve {
        placement: Vec<model::Placement>,
        pool: Option<String>,
        /// Miners that are displaced for the job in all.
        displaced: u32,
    },
    /// The pods of the job may start.
    Release {
        /// The nodes to prefer.
        placement: Vec<model::Placement>,
        pool: Option<String>,
    },
    /// The reservation is given up.
    Requeue,
    /// The gang was not bound in time.
    Suspend,
    /// Another client suspended the Job.
    Withdraw { manager: Name },
    /// The Job was resumed without a record of it in the status: by a process that ended before it
    /// wrote the record, or by another client.
    Adopt,
    /// Its queue, such as Kueue, admitted the job.
    Start,
    /// All workers are bound.
    Run,
    /// The job ended.
    Finish {
        /// `true` if all workers succeeded.
        well: bool,
        at: Option<Timestamp>,
        /// The reason as one word.
        word: String,
        /// The reason as a sentence.
        sentence: String,
    },
}

impl Transition {
    /// The state after the step.
    pub fn state(&self) -> AiJobState {
        match self {
            Self::Queue | Self::Requeue | Self::Suspend | Self::Withdraw { .. } => {
                AiJobState::Queued
            }
            Self::Reserve { .. } => AiJobState::Reserved,
            Self::Release { .. } | Self::Adopt | Self::Start => AiJobState::Starting,
            Self::Run => AiJobState::Running,
            Self::Finish { well: true, .. } => AiJobState::Succeeded,
            Self::Finish { well: false, .. } => AiJobState::Failed,
        }
    }

    /// The status after the step: those of its fields that belong to this field manager.
    pub fn status(&self, job: &AiJob, now: Timestamp) -> AiJobStatus {
        let known = job.status.clone().unwrap_or_default();
        let now_time: Option<Time> = time(now);
        let observed = known.conditions;
        let mut status = AiJobStatus {
            state: Some(self.state()),
            pool: known.pool,
            placement: known.placement,
            queued_at: known.queued_at.or_else(|| now_time.clone()),
            reserved_at: known.reserved_at,
            released_at: known.released_at,
            started_at: known.started_at,
            finished_at: known.finished_at,
            attempts: known.attempts,
            displaced: known.displaced,
            ..AiJobStatus::default()
        };
        let suspended_by;
        let (admitted, word, sentence) = match self {
            Self::Queue => {
                status = AiJobStatus { queued_at: status.queued_at, ..AiJobStatus::default() };
                status.state = Some(AiJobState::Queued);
                (false, "Queued", "Waiting to start; the condition Ready explains the wait.")
            }
            Self::Reserve { placement, pool, displaced } => {
                status.placement = places(placement);
                status.pool.clone_from(pool);
                status.displaced = Some(*displaced);
                status.reserved_at = now_time;
                (false, "Reserved", "Nodes are reserved; waiting for their miners to stop.")
            }
            Self::Release { placement, pool } => {
                status.placement = places(placement);
                status.pool = pool.clone().or(status.pool);
                status.attempts = Some(status.attempts.unwrap_or(0).saturating_add(1));
                status.released_at = now_time;
                (true, "Released", "GPUs for the whole gang are free; starting its pods.")
            }
            Self::Requeue => {
                status.placement = Vec::new();
                status.reserved_at = None;
                let sentence = "The reserved nodes cannot take the whole gang any more; the job is \
                                queued again.";
                (false, "ReservationLost", sentence)
            }
            Self::Suspend => {
                status.placement = Vec::new();
                status.queued_at = now_time;
                status.reserved_at = None;
                let sentence = "Not all workers were bound within spec.gangTimeout; the job is \
                                suspended and queued again.";
                (false, "GangTimeout", sentence)
            }
            Self::Withdraw { manager } => {
                status.placement = Vec::new();
                status.queued_at = now_time;
                status.reserved_at = None;
                suspended_by = format!(
                    "{manager} suspended the Job; set its spec.suspend to false to resume it."
                );
                (false, "JobSuspended", &*suspended_by)
            }
            Self::Adopt => {
                status.attempts = Some(status.attempts.unwrap_or(0).saturating_add(1));
                status.released_at = now_time;
                (true, "Released", "The Job is not suspended any more; starting its pods.")
            }
            Self::Start => {
                status.released_at = now_time;
                (true, "Released", "The job's queue admitted it; starting its pods.")
            }
            Self::Run => {
                status.started_at = now_time;
                (true, "Running", "All workers are bound.")
            }
            Self::Finish { at, word, sentence, .. } => {
                status.finished_at = at.and_then(time).or(now_time);
                (false, word.as_str(), sentence.as_str())
            }
        };
        // The back-off is counted from this condition's transition, so each suspension sets it.
        let suspended = matches!(self, Self::Suspend | Self::Withdraw { .. });
        let observed = if suspended { Vec::new() } else { observed };
        let why = ReasonText::new(word, sentence);
        let conditions =
            Conditions { observed: &observed, generation: job.metadata.generation, now };
        status.conditions = vec![conditions.make(CONDITION_ADMITTED, admitted, &why)];
        status
    }
}

fn places(placement: &[model::Placement]) -> Vec<Placement> {
    placement
        .iter()
        .map(|place| Placement { node: place.node.to_string(), workers: place.workers })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job() -> AiJob {
        serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "AIJob",
            "metadata": {"name": "llm", "namespace": "team-b", "uid": "77aa", "generation": 1},
            "spec": {
                "workers": 2, "activityClass": "ai-training",
                "template": {"spec": {"containers": [{"name": "train"}]}},
            },
        }))
        .unwrap()
    }

    fn walk(steps: &[Transition]) -> Vec<AiJobStatus> {
        let mut job = job();
        let mut seen = Vec::new();
        for (minute, step) in (0_i64..).zip(steps) {
            let now = Timestamp::from_seconds(1_700_000_000 + minute * 60);
            let status = step.status(&job, now);
            job.status = Some(status.clone());
            seen.push(status);
        }
        seen
    }

    #[test]
    fn a_job_that_waits_for_miners_runs_and_ends() {
        let placement = vec![model::Placement { node: "gpu-1".into(), workers: 2 }];
        let pool = Some("hall-1".to_owned());
        insta::assert_yaml_snapshot!(walk(&[
            Transition::Queue,
            Transition::Reserve { placement: placement.clone(), pool: pool.clone(), displaced: 2 },
            Transition::Release { placement, pool },
            Transition::Run,
            Transition::Finish {
                well: true,
                at: Some(Timestamp::from_seconds(1_700_001_000)),
                word: "CompletionsReached".into(),
                sentence: "Reached expected number of succeeded pods".into(),
            },
        ]));
    }

    #[test]
    fn a_gang_that_was_not_bound_queues_again_and_its_attempts_are_counted() {
        let release = || Transition::Release {
            placement: vec![model::Placement { node: "gpu-1".into(), workers: 2 }],
            pool: Some("hall-1".to_owned()),
        };
        let seen = walk(&[
            Transition::Queue,
            release(),
            Transition::Suspend,
            release(),
            Transition::Suspend,
        ]);
        let attempts: Vec<_> = seen.iter().map(|status| status.attempts).collect();
        assert_eq!(attempts, [None, Some(1), Some(1), Some(2), Some(2)]);
        let last = seen.last().unwrap();
        assert_eq!((last.state, last.placement.len()), (Some(AiJobState::Queued), 0));
        let at = time(Timestamp::from_seconds(1_700_000_240));
        assert_eq!(Some(last.conditions[0].last_transition_time.clone()), at);
        assert_eq!(last.queued_at, at);
    }
}
