//! Taking in how a change ended.

use std::time::Duration;

use daylight_base::Name;
use daylight_cluster::well_known::PODS_REFUSED;
use daylight_cluster::{Kind, slim};
use daylight_crds::AiJob;
use daylight_planner::explain::{Grant, ReclaimReason};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;

use super::job_status::Transition;
use super::perform::Outcome;
use super::queue::Change;
use super::{Done, Executor, Target};
use crate::controller::events::Notice;
use crate::controller::refusals::Cause;
use crate::controller::state::State;

/// Time after which a change of an AIJob that was refused is tried again.
const AGAIN: Duration = Duration::from_secs(5);

impl Executor {
    pub(super) fn finish(&mut self, done: Done, state: &mut State) {
        let Done { target, change, uid, outcome } = done;
        self.busy.remove(&target);
        match (target, change) {
            (Target::Pod(key), Some(Change::Grant(grant))) => {
                // Perhaps not the miner but its PriorityClass is at fault: it may be gone.
                self.doubts_priority_class |= matches!(outcome, Outcome::Refused { .. });
                granted(&key, &grant, outcome, state);
            }
            (Target::Pod(key), Some(Change::Record { .. })) => recorded(&key, outcome, state),
            (Target::Pod(key), Some(change)) => self.ending(&key, &uid, &change, outcome, state),
            (Target::Job(key), Some(change)) => self.stepped(&key, &change, outcome, state),
            (Target::Status(kind, key), _) => written(kind, &key, outcome, state),
            (Target::PriorityClass, _) => self.priority_class_is(outcome),
            (Target::Mirror(kind), _) => mirrored(kind, &outcome),
            (Target::GangRefusal(key), _) => gang_refused(&key, &outcome, state),
            (Target::Event, _) | (_, None) => {}
        }
    }

    fn ending(
        &mut self,
        key: &Name,
        uid: &str,
        change: &Change,
        outcome: Outcome,
        state: &mut State,
    ) {
        match outcome {
            Outcome::Ending { overruled } => {
                if let Change::Evict { reason, beneficiary, .. } = change {
                    state.metrics.evictions.with_label_values(&[reason.code()]).inc();
                    note_reclaim(key, *reason, beneficiary.as_ref(), overruled, state);
                }
            }
            Outcome::Gone => {
                self.reclaims.remove(key);
                state.view.assume_gone(key, uid, state.now, &mut state.deltas);
            }
            // It may be ending, or not: to end it again does nothing more.
            other => {
                self.reclaims.remove(key);
                state.view.unforesee_end(key, &mut state.deltas);
                if let Outcome::Refused { code, message } = other {
                    tracing::warn!(pod = %key, code, %message, "A pod cannot be ended.");
                }
            }
        }
    }

    fn stepped(&mut self, key: &Name, change: &Change, outcome: Outcome, state: &mut State) {
        let reserves = matches!(change, Change::Reserve { .. });
        if reserves {
            self.reserving.remove(key);
            self.queue.reserved(key, matches!(outcome, Outcome::Stepped(..)));
        }
        match outcome {
            Outcome::Stepped(job, batch) => {
                self.held_back.remove(key);
                self.count_wait(key, change, state);
                note_change(&job, change, state);
                if let Some(batch) = batch {
                    state.view.assume_batch_job(*batch, state.now, &mut state.deltas);
                }
                state.view.assume_ai_job(*job, state.now, &mut state.deltas);
            }
            Outcome::GangMade(batch) => {
                self.held_back.remove(key);
                if let Some(batch) = batch {
                    state.view.assume_batch_job(*batch, state.now, &mut state.deltas);
                }
            }
            Outcome::Refused { code, message } => {
                state.view.unforesee_state(key, &mut state.deltas);
                self.held_back.insert(key.clone(), state.instant + AGAIN);
                tracing::warn!(job = %key, code, %message, "An AIJob cannot be changed.");
                let notice = match (change, code) {
                    (Change::MakeGang { .. }, 409) => Notice::NameTaken { message },
                    _ => Notice::JobRefused { message },
                };
                if let Some(job) = state.view.cluster().ai_job(key) {
                    state.events.note(&job.object_ref(&()), notice, 0, None, state.instant);
                }
            }
            Outcome::Unknown => {
                self.held_back.insert(key.clone(), state.instant + AGAIN);
                state.view.unforesee_state(key, &mut state.deltas);
            }
            _ => state.view.unforesee_state(key, &mut state.deltas),
        }
    }

    /// How long the job waited, and how much of it for miners.
    fn count_wait(&mut self, key: &Name, change: &Change, state: &mut State) {
        match change {
            Change::Release { .. } => {
                if let Some((_, until)) = self.drains.get_mut(key) {
                    until.get_or_insert(state.instant);
                }
            }
            Change::Advance { step: Transition::Run, .. } => {
                let miners = match self.drains.remove(key) {
                    Some((from, Some(until))) => until.saturating_duration_since(from),
                    _ => Duration::ZERO,
                };
                if let Some(total) = state.waits.job_runs(key, state.now) {
                    state.metrics.observe_ai_wait("AIJob", total);
                    state.metrics.observe_ai_wait_for_miners("AIJob", miners);
                }
            }
            Change::Suspend { .. } | Change::Advance { .. } => {
                self.drains.remove(key);
            }
            _ => {}
        }
    }

    fn priority_class_is(&mut self, outcome: Outcome) {
        self.doubts_priority_class = false;
        match outcome {
            Outcome::Made(_) => self.may_grant = Some(Ok(())),
            Outcome::Refused { message, .. } => {
                tracing::error!(%message, "No miner is started.");
                self.may_grant = Some(Err(message));
            }
            _ => {}
        }
    }
}

fn mirrored(kind: Kind, outcome: &Outcome) {
    if let Outcome::Refused { code, message } = outcome {
        tracing::error!(
            %kind, code, %message,
            "What admission reads cannot be brought up to date, so nothing is granted under new \
             registrations."
        );
    }
}

/// Takes in why a gang lacks pods.
fn gang_refused(key: &Name, outcome: &Outcome, state: &mut State) {
    match outcome {
        Outcome::Made(body) => {
            if let Some(job) = state.view.cluster().ai_job(key) {
                state.gang_refusals.answered(key, body, job);
            }
        }
        Outcome::Refused { code, message } => {
            tracing::warn!(job = %key, code, %message, "Why an AIJob lacks pods cannot be asked.");
        }
        _ => {}
    }
}

fn granted(key: &Name, grant: &Grant, outcome: Outcome, state: &mut State) {
    match outcome {
        Outcome::Granted(pod) => {
            let gpus = gpus_of(&pod);
            state.view.assume_pod(*pod, state.now, &mut state.deltas);
            state.refusals.pod_accepted(&grant.miner);
            state.metrics.grants.with_label_values(&[&*grant.pool]).inc();
            if let Some(subject) = state.miner_reference(&grant.miner) {
                let notice = Notice::Granted { pool: grant.pool.clone() };
                state.events.note(&subject, notice, gpus, None, state.instant);
            }
        }
        // It may exist: it counts until the watch has shown that it does not.
        Outcome::Unknown => {}
        other => {
            state.view.unforesee_pod(key, &mut state.deltas);
            if let Outcome::Refused { message, .. } = other {
                let sentence = format!("The API server rejects its pods: {message}");
                state.refuse(&grant.miner, Cause::ApiServer, PODS_REFUSED, &sentence);
            }
        }
    }
}

/// A pod was let go in the auditor's place.
fn recorded(key: &Name, outcome: Outcome, state: &mut State) {
    match outcome {
        Outcome::Made(body) => {
            state.metrics.lease_records.inc();
            if let Ok(pod) = serde_json::from_slice::<slim::Pod>(&body) {
                state.view.assume_pod(pod, state.now, &mut state.deltas);
            }
        }
        Outcome::Refused { code, message } => {
            tracing::warn!(pod = %key, code, %message, "The end of a lease cannot be written down.");
        }
        _ => {}
    }
}

fn gpus_of(pod: &slim::Pod) -> u32 {
    pod.requests.extended.iter().map(|(_, count)| count).sum()
}

fn note_reclaim(
    key: &Name,
    reason: ReclaimReason,
    beneficiary: Option<&Name>,
    overruled: bool,
    state: &mut State,
) {
    let Some(pod) = state.view.cluster().pod(key) else { return };
    let Some(lease) = &pod.lease else { return };
    let (miner, gpus) = (lease.miner.clone(), gpus_of(pod));
    if let Some(subject) = state.miner_reference(&miner) {
        let notice = Notice::Reclaimed { reason, beneficiary: beneficiary.cloned() };
        state.events.note(&subject, notice, gpus, None, state.instant);
        if overruled {
            state.events.note(&subject, Notice::BudgetOverruled, gpus, None, state.instant);
        }
    }
    let Some(beneficiary) = beneficiary else { return };
    let cluster = state.view.cluster();
    let subject = match cluster.ai_job(beneficiary) {
        Some(job) => Some(job.object_ref(&())),
        None => cluster.pod(beneficiary).map(pod_reference),
    };
    if let Some(subject) = subject {
        let notice = Notice::TakesBack { reason };
        state.events.note(&subject, notice, gpus, Some(&miner), state.instant);
    }
}

/// A pod as the object of an Event.
pub(crate) fn pod_reference(pod: &slim::Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.namespace().into()),
        name: Some(pod.name().into()),
        uid: Some(pod.uid.to_string()),
        ..ObjectReference::default()
    }
}

fn note_change(job: &AiJob, change: &Change, state: &mut State) {
    let notice = match change {
        Change::Reserve { placement, displaced, .. } => {
            Notice::JobReserved { nodes: placement.len(), displaced: *displaced }
        }
        Change::Release { .. } => Notice::JobReleased,
        Change::Suspend { .. } => Notice::GangTimeout,
        Change::Advance { step: Transition::Run, .. } => Notice::JobRunning,
        Change::Advance { step: Transition::Finish { well, word, sentence, .. }, .. } => {
            Notice::JobFinished { succeeded: *well, word: word.clone(), sentence: sentence.clone() }
        }
        _ => return,
    };
    state.events.note(&job.object_ref(&()), notice, 0, None, state.instant);
}

/// Takes in an object whose status was written, before the watch shows it.
fn written(kind: Kind, key: &str, outcome: Outcome, state: &mut State) {
    let body = match outcome {
        Outcome::Made(body) => body,
        Outcome::Refused { code, message } => {
            tracing::warn!(%kind, key, code, %message, "A status cannot be written.");
            return;
        }
        _ => return,
    };
    let (now, deltas) = (state.now, &mut state.deltas);
    macro_rules! assume {
        ($assume:ident) => {
            if let Ok(object) = serde_json::from_slice(&body) {
                state.view.$assume(object, now, deltas);
            }
        };
    }
    match kind {
        Kind::GpuPool => assume!(assume_pool),
        Kind::ActivityClass => assume!(assume_class),
        Kind::Registration => assume!(assume_registration),
        Kind::Miner => assume!(assume_miner),
        // An AIJob's answer would end what is foreseen of its state: the watch brings it.
        _ => {}
    }
}
