//! How far an AIJob is: the part of its status that the executor writes as it acts, and reads
//! back after a restart.

use daylight_base::Timestamp;
use daylight_crds::{AiJob, AiJobState, AiJobStatus, CONDITION_ADMITTED, Placement};
use daylight_planner::model;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::conditions::{Conditions, Why, time};

/// One step of an AIJob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It joins the queue.
    Queue,
    /// Nodes were chosen, and miners leave them.
    Reserve {
        placement: Vec<model::Placement>,
        /// The pool they belong to.
        pool: Option<String>,
        /// How many miners are displaced for it in all.
        displaced: u32,
    },
    /// Its pods were let go.
    Release {
        /// The nodes to prefer.
        placement: Vec<model::Placement>,
        /// The pool they belong to.
        pool: Option<String>,
    },
    /// Its gang was not bound in time.
    Suspend,
    /// Another queue let it go.
    Start,
    /// All workers are bound.
    Run,
    /// It ended, well or not.
    Finish {
        /// Whether all workers ended well.
        well: bool,
        at: Option<Timestamp>,
        /// Why, in one word.
        word: String,
        /// Why, in a sentence.
        sentence: String,
    },
}

impl Transition {
    /// The state that it leads to.
    pub fn state(&self) -> AiJobState {
        match self {
            Self::Queue | Self::Suspend => AiJobState::Queued,
            Self::Reserve { .. } => AiJobState::Reserved,
            Self::Release { .. } | Self::Start => AiJobState::Starting,
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
        let (admitted, why) = match self {
            Self::Queue => {
                status = AiJobStatus { queued_at: status.queued_at, ..AiJobStatus::default() };
                status.state = Some(AiJobState::Queued);
                (false, Why::new("Queued", "It waits for GPUs."))
            }
            Self::Reserve { placement, pool, displaced } => {
                status.placement = places(placement);
                status.pool.clone_from(pool);
                status.displaced = Some(*displaced);
                status.reserved_at = now_time;
                (false, Why::new("Reserved", "Its nodes are chosen; miners leave them."))
            }
            Self::Release { placement, pool } => {
                status.placement = places(placement);
                status.pool = pool.clone().or(status.pool);
                status.attempts = Some(status.attempts.unwrap_or(0).saturating_add(1));
                status.released_at = now_time;
                (true, Why::new("Released", "The whole gang has its GPUs."))
            }
            Self::Suspend => {
                status.placement = Vec::new();
                status.queued_at = now_time;
                status.reserved_at = None;
                (false, Why::new("GangTimeout", "Not all workers were bound in time."))
            }
            Self::Start => {
                status.released_at = now_time;
                (true, Why::new("Released", "Its queue let it start."))
            }
            Self::Run => {
                status.started_at = now_time;
                (true, Why::new("Running", "All workers are bound."))
            }
            Self::Finish { at, word, sentence, .. } => {
                status.finished_at = at.and_then(time).or(now_time);
                (false, Why::new(word, sentence))
            }
        };
        // The moment of suspension starts the back-off, so it is set anew each time.
        let observed = if matches!(self, Self::Suspend) { Vec::new() } else { observed };
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
