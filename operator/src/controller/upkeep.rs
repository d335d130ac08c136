//! Changes in addition to the plan's: `AIJobs` get their Jobs, follow the progress of their pods, and
//! are deleted when they expire; miners' pods that have ended are removed.

use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_crds::{AiJob, AiJobState};
use daylight_planner::explain::Plan;
use rustc_hash::FxHashMap;

use super::executor::Limits;
use super::lapses;
use crate::controller::executor::job_status::Transition;
use crate::controller::executor::queue::Change;
use crate::view::{Leftover, LeftoverReason, View};
use daylight_cluster::slim::{BatchJob, Phase};

/// Changes that are due, and the time of the next.
#[derive(Debug, Default)]
pub struct Upkeep {
    pub changes: Vec<Change>,
    /// The earliest time at which another change is due.
    pub wake_at: Option<Timestamp>,
}

impl Upkeep {
    /// Returns the changes that are due at `now`.
    pub fn of(view: &View, plan: &Plan, now: Timestamp, limits: &Limits) -> Self {
        let mut upkeep = Self::default();
        let bound: FxHashMap<&Name, u32> =
            plan.jobs.iter().map(|report| (&report.job, report.bound)).collect();
        let mut jobs: Vec<_> = view.cluster().ai_jobs().collect();
        jobs.sort_unstable_by_key(|(key, _)| *key);
        for (key, job) in jobs {
            let state = job.status.as_ref().and_then(|status| status.state);
            if job.metadata.deletion_timestamp.is_some() {
                continue;
            }
            if matches!(state, Some(AiJobState::Succeeded | AiJobState::Failed)) {
                upkeep.finished(key, job, view.finished_since(key), now);
                continue;
            }
            let bound = bound.get(key).copied().unwrap_or(0);
            let external = view.queue_of(key, job).is_some();
            upkeep.job(key, job, state, view.cluster().batch_job(key), (bound, external));
        }
        for (registration, lapse) in lapses::all(view, plan, now) {
            for pod in lapse.evicted {
                let registration = registration.clone();
                upkeep.changes.push(Change::EvictLapsed { pod, registration });
            }
        }
        for leftover in view.leftovers() {
            upkeep.leftover(leftover, now, limits.failed_pods_kept);
        }
        for (pod, since) in view.unreleased() {
            upkeep.unreleased(&pod.key, since + limits.record_after, now);
        }
        upkeep
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    fn job(
        &mut self,
        key: &Name,
        job: &AiJob,
        state: Option<AiJobState>,
        batch: Option<&BatchJob>,
        (bound, external): (u32, bool),
    ) {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        // A Job of another owner is in the way until it is deleted; the attempt to create ours reports
        // that.
        let Some(batch) = batch.filter(|batch| *batch.owner == *uid) else {
            if !matches!(state, None | Some(AiJobState::Queued | AiJobState::Reserved)) {
                self.advance(key, Transition::Queue);
            }
            self.changes.push(Change::MakeGang { job: key.clone() });
            if state.is_none() {
                self.advance(key, Transition::Queue);
            }
            return;
        };
        match next_step(job, state, batch, bound, external) {
            // With its request to the Job, which has no effect on one that is suspended already.
            Some(Transition::Suspend) => self.changes.push(Change::Suspend { job: key.clone() }),
            Some(step) => self.advance(key, step),
            None => {}
        }
    }

    fn advance(&mut self, key: &Name, step: Transition) {
        self.changes.push(Change::Advance { job: key.clone(), step });
    }

    fn finished(&mut self, key: &Name, job: &AiJob, since: Option<Timestamp>, now: Timestamp) {
        let (Some(since), Some(kept)) = (since, &job.spec.ttl_after_finished) else { return };
        let expires = since + kept.as_duration();
        if expires <= now {
            self.changes.push(Change::Expire { job: key.clone() });
        } else {
            self.wake(expires);
        }
    }

    fn leftover(&mut self, leftover: Leftover<'_>, now: Timestamp, failed_kept: Duration) {
        let Leftover { pod, reason, ended_at } = leftover;
        if pod.deletion.is_some() {
            return;
        }
        if reason == LeftoverReason::Ended && pod.phase == Phase::Failed {
            let keep_until = ended_at.unwrap_or(now) + failed_kept;
            if now < keep_until {
                self.wake(keep_until);
                return;
            }
        }
        self.changes.push(Change::Remove { pod: pod.key.clone() });
    }

    fn unreleased(&mut self, pod: &Name, due: Timestamp, now: Timestamp) {
        if due <= now {
            self.changes.push(Change::Record { pod: pod.clone() });
        } else {
            self.wake(due);
        }
    }
}

/// The next step of an AIJob by the state of its Job and pods. Whatever combination of the AIJob's
/// status and its Job another client or a process that ended left behind, a step leads out of it.
fn next_step(
    job: &AiJob,
    state: Option<AiJobState>,
    batch: &BatchJob,
    bound: u32,
    external: bool,
) -> Option<Transition> {
    if let Some(outcome) = &batch.outcome {
        return Some(Transition::Finish {
            well: outcome.completed,
            at: outcome.at,
            word: outcome.reason.to_string(),
            sentence: outcome.message.to_string(),
        });
    }
    match state {
        None if external || batch.suspended => Some(Transition::Queue),
        None => Some(Transition::Adopt),
        Some(AiJobState::Queued | AiJobState::Reserved) if external && !batch.suspended => {
            Some(Transition::Start)
        }
        Some(AiJobState::Queued | AiJobState::Reserved) if !batch.suspended => {
            Some(Transition::Adopt)
        }
        // Kueue suspended the job again.
        Some(AiJobState::Starting | AiJobState::Running) if external && batch.suspended => {
            Some(Transition::Queue)
        }
        Some(AiJobState::Starting | AiJobState::Running) if batch.suspended => {
            Some(match batch.suspended_by.clone() {
                Some(manager) => Transition::Withdraw { manager },
                // Daylight did, and the process ended before it wrote that to the status.
                None => Transition::Suspend,
            })
        }
        // Workers that have succeeded already were bound before. One that failed is replaced, and
        // the gang is not whole before its replacement is bound.
        Some(AiJobState::Starting) if bound.saturating_add(batch.succeeded) >= job.spec.workers => {
            Some(Transition::Run)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use daylight_cluster::slim::Outcome;

    fn job(queue: Option<&str>) -> AiJob {
        serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "AIJob",
            "metadata": {"name": "llm", "namespace": "team-b", "uid": "77aa"},
            "spec": {
                "workers": 4, "activityClass": "ai-training", "queueName": queue,
                "template": {"spec": {"containers": [{"name": "train"}]}},
            },
        }))
        .unwrap()
    }

    fn batch(suspended: bool) -> BatchJob {
        BatchJob { owner: "77aa".into(), suspended, ..BatchJob::default() }
    }

    #[test]
    fn a_released_gang_runs_once_all_of_it_is_bound() {
        let step = |bound, batch: &BatchJob| {
            next_step(&job(None), Some(AiJobState::Starting), batch, bound, false)
        };
        assert_eq!(step(3, &batch(false)), None);
        assert_eq!(step(4, &batch(false)), Some(Transition::Run));
        let quick = BatchJob { succeeded: 1, ..batch(false) };
        assert_eq!(step(3, &quick), Some(Transition::Run));
        // A worker that failed once was replaced: half a gang does not run.
        let retried = BatchJob { failed: 3, ..batch(false) };
        assert_eq!(step(3, &retried), None);
    }

    #[test]
    fn a_step_leads_out_of_every_state_that_the_job_contradicts() {
        use AiJobState::{Queued, Reserved, Running, Starting};
        let held = BatchJob { suspended_by: Some("kueue".into()), ..batch(true) };
        let withdraw = Transition::Withdraw { manager: "kueue".into() };
        for (state, batch, expected) in [
            (None, batch(true), Some(Transition::Queue)),
            (None, batch(false), Some(Transition::Adopt)),
            (Some(Queued), batch(true), None),
            (Some(Queued), batch(false), Some(Transition::Adopt)),
            (Some(Queued), held.clone(), None),
            (Some(Reserved), batch(true), None),
            (Some(Reserved), batch(false), Some(Transition::Adopt)),
            (Some(Starting), batch(false), None),
            (Some(Starting), batch(true), Some(Transition::Suspend)),
            (Some(Starting), held.clone(), Some(withdraw.clone())),
            (Some(Running), batch(false), None),
            (Some(Running), batch(true), Some(Transition::Suspend)),
            (Some(Running), held, Some(withdraw)),
        ] {
            let step = next_step(&job(None), state, &batch, 0, false);
            assert_eq!(step, expected, "{state:?}, suspended: {}", batch.suspended);
        }
    }

    #[test]
    fn with_kueue_the_state_follows_its_suspend() {
        let step =
            |state, suspended| next_step(&job(Some("q")), Some(state), &batch(suspended), 0, true);
        assert_eq!(step(AiJobState::Queued, true), None);
        assert_eq!(step(AiJobState::Queued, false), Some(Transition::Start));
        assert_eq!(step(AiJobState::Running, true), Some(Transition::Queue));
    }

    #[test]
    fn a_job_that_ended_is_finished_whatever_it_was() {
        let ended = BatchJob {
            outcome: Some(Outcome {
                completed: false,
                at: None,
                reason: "DeadlineExceeded".into(),
                message: "It took too long.".into(),
            }),
            ..batch(false)
        };
        let step = next_step(&job(None), Some(AiJobState::Queued), &ended, 0, false).unwrap();
        assert_eq!(step.state(), AiJobState::Failed);
    }

    #[test]
    fn a_job_whose_batch_job_vanished_queues_again_with_a_new_one() {
        let job = job(None);
        let mut upkeep = Upkeep::default();
        let running = Some(AiJobState::Running);
        upkeep.job(&"team-b/llm".into(), &job, running, None, (0, false));
        assert!(matches!(
            &upkeep.changes[..],
            [Change::Advance { step: Transition::Queue, .. }, Change::MakeGang { .. }]
        ));
    }

    #[test]
    fn a_finished_job_goes_when_its_time_is_over() {
        let mut job = job(None);
        job.spec.ttl_after_finished = Some("10m".parse().unwrap());
        let ended = Timestamp(1_000);
        let look = |now| {
            let mut upkeep = Upkeep::default();
            upkeep.finished(&"team-b/llm".into(), &job, Some(ended), now);
            upkeep
        };
        let at = ended + Duration::from_mins(10);
        let early = look(Timestamp(at.0 - 1));
        assert_eq!((early.changes.len(), early.wake_at), (0, Some(at)));
        assert!(matches!(&look(at).changes[..], [Change::Expire { .. }]));
    }
}
