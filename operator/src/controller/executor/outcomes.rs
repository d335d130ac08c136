//! Taking in the outcomes of changes.

use std::time::Duration;

use daylight_base::Name;
use daylight_cluster::well_known::PODS_REFUSED;
use daylight_cluster::{Kind, slim};
use daylight_crds::AiJob;
use daylight_planner::explain::{Grant, ReclaimReason};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;

use super::build::gang;
use super::job_status::Transition;
use super::perform::ChangeOutcome;
use super::queue::Change;
use super::retries::{PodRefusal, PodRefusalKind};
use super::start::{job_cause, resource_of};
use super::{Completion, Executor, Target};
use crate::controller::events::Notice;
use crate::controller::metrics::PodsOf;
use crate::controller::refusals::Cause;
use crate::controller::state::State;

impl Executor {
    pub(super) fn finish(&mut self, completion: Completion, state: &mut State) {
        let Completion { target, change, uid, outcome } = completion;
        self.in_flight.remove(&target);
        match (target, change) {
            (Target::Pod(key), Some(Change::Grant(grant))) => {
                // Perhaps not the miner but its PriorityClass is at fault: it may be gone.
                self.doubts_priority_class |= matches!(outcome, ChangeOutcome::Refused { .. });
                match outcome {
                    // Until it is answered, the pod counts as one that exists.
                    ChangeOutcome::Unanswered(write) => {
                        self.unanswered.insert(key, (grant, write));
                    }
                    outcome => granted(&key, &grant, outcome, state),
                }
            }
            (Target::Pod(key), Some(Change::Record { .. })) => self.recorded(&key, outcome, state),
            (Target::Pod(key), Some(change)) => self.ending(&key, &uid, &change, outcome, state),
            (Target::Job(key), Some(change)) => self.stepped(&key, &change, outcome, state),
            (Target::Status(kind, key), _) => self.written(kind, key, outcome, state),
            (Target::PriorityClass, _) => self.priority_class_is(outcome),
            (target @ Target::Mirror(_), _) => self.mirrored(target, &outcome, state),
            (target @ Target::GangRefusal(_), _) => self.gang_refused(target, &outcome, state),
            (Target::Services, _) => services_listed(&outcome, state),
            (target @ Target::Service(_), _) => self.service_made(target, outcome, state),
            (Target::Event, _) | (_, None) => {}
        }
    }

    fn ending(
        &mut self,
        key: &Name,
        uid: &str,
        change: &Change,
        outcome: ChangeOutcome,
        state: &mut State,
    ) {
        match outcome {
            ChangeOutcome::Ending { overruled } => {
                self.retries.note(Target::Pod(key.clone()), state.instant);
                match change {
                    Change::Evict { reason, beneficiary, .. } => {
                        state.metrics.evictions.with_label_values(&[reason.code()]).inc();
                        note_reclaim(key, *reason, beneficiary.as_ref(), overruled, state);
                    }
                    Change::EvictLapsed { registration, .. } => {
                        state.metrics.lapsed_evictions.inc();
                        note_lapse(key, registration, overruled, state);
                    }
                    _ => {}
                }
            }
            ChangeOutcome::Gone => {
                self.reclaims.remove(key);
                self.retries.forget(&Target::Pod(key.clone()));
                state.view.assume_gone(key, uid, state.now, &mut state.deltas);
            }
            // The pod may be ending already: ending it again has no further effect.
            other => {
                self.reclaims.remove(key);
                state.view.unforesee_end(key, &mut state.deltas);
                match other {
                    ChangeOutcome::Refused { code, message } => {
                        tracing::warn!(pod = %key, code, %message, "Cannot end a pod.");
                        self.pod_refused(key, PodRefusalKind::Stop, message, state);
                    }
                    ChangeOutcome::Unknown => {
                        self.retries.note(Target::Pod(key.clone()), state.instant);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Notes that a request about a pod was refused. Its miner's status reports that.
    fn pod_refused(&mut self, key: &Name, kind: PodRefusalKind, message: String, state: &State) {
        let pod = state.view.cluster().pod(key);
        let lease = pod.and_then(|pod| pod.lease.as_ref());
        let miner = lease.map(|lease| lease.miner.clone());
        self.retries.pod_refused(key, PodRefusal { miner, kind, message }, state.instant);
    }

    fn stepped(&mut self, key: &Name, change: &Change, outcome: ChangeOutcome, state: &mut State) {
        let reserves = matches!(change, Change::Reserve { .. });
        if reserves {
            self.reserving.remove(key);
            self.queue.reserved(key, matches!(outcome, ChangeOutcome::Stepped(..)));
        }
        match outcome {
            ChangeOutcome::Stepped(job, batch) => {
                self.retries.forget(&Target::Job(key.clone()));
                self.count_wait(key, change, state);
                note_change(&job, change, state);
                if let Some(batch) = batch {
                    state.view.assume_batch_job(*batch, state.now, &mut state.deltas);
                }
                state.view.assume_ai_job(*job, state.now, &mut state.deltas);
            }
            ChangeOutcome::GangMade(batch) => {
                self.retries.forget(&Target::Job(key.clone()));
                note_gpus_of_init_containers(key, state);
                state.gang_refusals.job_answered(key, None);
                if let Some(batch) = batch {
                    state.view.assume_batch_job(*batch, state.now, &mut state.deltas);
                }
            }
            ChangeOutcome::Refused { code, message } => {
                state.view.unforesee_state(key, &mut state.deltas);
                let backoff = self.retries.job_failed(key, job_cause(key, state), state.instant);
                let wait = backoff.wait();
                tracing::warn!(job = %key, code, %message, ?wait, "Cannot change an AIJob.");
                if matches!(change, Change::MakeGang { .. }) {
                    state.metrics.count_pod_refusal(PodsOf::AiJob, code, &message);
                    state.gang_refusals.job_answered(key, Some(&message));
                }
                let notice = match (change, code) {
                    (Change::MakeGang { .. }, 409) => Notice::NameTaken { message },
                    _ => Notice::JobRefused { message },
                };
                if let Some(job) = state.view.cluster().ai_job(key) {
                    state.events.note(&job.object_ref(&()), notice, 0, None, state.instant);
                }
            }
            ChangeOutcome::Unknown => {
                self.retries.job_failed(key, job_cause(key, state), state.instant);
                state.view.unforesee_state(key, &mut state.deltas);
            }
            _ => state.view.unforesee_state(key, &mut state.deltas),
        }
    }

    /// Counts the time that the job waited, and its share for miners.
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
            Change::Suspend { .. } | Change::Requeue { .. } | Change::Advance { .. } => {
                self.drains.remove(key);
            }
            _ => {}
        }
    }

    fn mirrored(&mut self, target: Target, outcome: &ChangeOutcome, state: &State) {
        let ChangeOutcome::Refused { code, message } = outcome else { return };
        if let Target::Mirror(kind) = &target {
            tracing::error!(
                %kind, code, %message,
                "Cannot update the AdmissionList that admission reads, so no miner starts under new \
                 registrations. Remove the cause that the API server names."
            );
        }
        self.retries.note(target, state.instant);
    }

    /// Takes in the Events that explain why a gang lacks pods.
    fn gang_refused(&mut self, target: Target, outcome: &ChangeOutcome, state: &mut State) {
        let Target::GangRefusal(key) = &target else { return };
        match outcome {
            ChangeOutcome::Made(body) => {
                if let Some(job) = state.view.cluster().ai_job(key)
                    && let Some(message) = state.gang_refusals.take_events(key, body, job)
                {
                    // Of an Event only the text is known.
                    state.metrics.count_pod_refusal(PodsOf::AiJob, 403, message);
                }
            }
            ChangeOutcome::Refused { code, message } => {
                tracing::warn!(
                    job = %key, code, %message,
                    "Cannot list the Events of an AIJob that lacks pods; its status will not name \
                     the cause."
                );
                self.retries.note(target, state.instant);
            }
            _ => {}
        }
    }

    /// Takes in the release of a pod that the auditor had not recorded in time.
    fn recorded(&mut self, key: &Name, outcome: ChangeOutcome, state: &mut State) {
        match outcome {
            ChangeOutcome::Made(body) => {
                self.retries.forget(&Target::Pod(key.clone()));
                state.metrics.lease_records.inc();
                if let Ok(pod) = serde_json::from_slice::<slim::Pod>(&body) {
                    state.view.assume_pod(pod, state.now, &mut state.deltas);
                }
            }
            ChangeOutcome::Refused { code, message } => {
                tracing::warn!(
                    pod = %key, code, %message,
                    "Cannot record the end of a lease, so its pod stays."
                );
                self.pod_refused(key, PodRefusalKind::Record, message, state);
            }
            ChangeOutcome::Unknown => {
                self.retries.note(Target::Pod(key.clone()), state.instant);
            }
            _ => {}
        }
    }

    /// Takes in an object whose status was written, before the watch shows it.
    fn written(&mut self, kind: Kind, key: Name, outcome: ChangeOutcome, state: &mut State) {
        let body = match outcome {
            ChangeOutcome::Made(body) => body,
            ChangeOutcome::Refused { code, message } => {
                tracing::warn!(%kind, %key, code, %message, "Cannot write a status.");
                self.retries.note(Target::Status(kind, key), state.instant);
                return;
            }
            _ => return,
        };
        self.retries.forget(&Target::Status(kind, key));
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

    /// Takes in that the Service of an AIJob that runs was made again, or could not be.
    fn service_made(&mut self, target: Target, outcome: ChangeOutcome, state: &mut State) {
        let Target::Service(key) = &target else { return };
        match outcome {
            ChangeOutcome::Made(_) => {
                tracing::info!(job = %key, "Made the Service of an AIJob again, which was deleted.");
                state.gang_services.made(key);
                self.retries.forget(&target);
            }
            ChangeOutcome::Refused { code, message } => {
                tracing::warn!(job = %key, code, %message, "Cannot make an AIJob's Service.");
                let notice = match code {
                    409 => Notice::NameTaken { message },
                    _ => Notice::JobRefused { message },
                };
                if let Some(job) = state.view.cluster().ai_job(key) {
                    state.events.note(&job.object_ref(&()), notice, 0, None, state.instant);
                }
                self.retries.note(target, state.instant);
            }
            ChangeOutcome::Unknown => {
                self.retries.note(target, state.instant);
            }
            _ => {}
        }
    }

    fn priority_class_is(&mut self, outcome: ChangeOutcome) {
        self.doubts_priority_class = false;
        match outcome {
            ChangeOutcome::Made(_) => self.may_grant = Some(Ok(())),
            ChangeOutcome::Refused { message, .. } => {
                tracing::error!(%message, "No miner starts until the PriorityClass of miners is correct.");
                self.may_grant = Some(Err(message));
            }
            _ => {}
        }
    }
}

fn services_listed(outcome: &ChangeOutcome, state: &mut State) {
    match outcome {
        ChangeOutcome::Made(body) => state.gang_services.take_list(body, &state.view),
        ChangeOutcome::Refused { code, message } => tracing::warn!(
            code, %message,
            "Cannot list the Services of AIJobs; one that is deleted will not be made again."
        ),
        _ => {}
    }
}

/// The reason of a miner whose pods a webhook changes so that they may run on any node.
const UNPINNED: &str = "A webhook changed the node affinity of its pods, so that they are no longer \
     pinned to their nodes. Exempt Daylight's pods from that webhook.";

fn granted(key: &Name, grant: &Grant, outcome: ChangeOutcome, state: &mut State) {
    match outcome {
        ChangeOutcome::Granted(pod) => {
            let gpus = gpus_of(&pod);
            let is_pinned = pod.place().is_some();
            state.view.assume_pod(*pod, state.now, &mut state.deltas);
            if !is_pinned {
                state.refuse(&grant.miner, Cause::ApiServer, PODS_REFUSED, UNPINNED);
                return;
            }
            state.refusals.pod_accepted(&grant.miner, state.instant);
            state.metrics.grants.with_label_values(&[&*grant.pool]).inc();
            if let Some(subject) = state.miner_reference(&grant.miner) {
                let notice = Notice::Granted { pool: grant.pool.clone() };
                state.events.note(&subject, notice, gpus, None, state.instant);
            }
        }
        // The pod may exist: it counts until the watch has shown that it does not.
        ChangeOutcome::Unknown => {}
        other => {
            state.view.unforesee_pod(key, &mut state.deltas);
            if let ChangeOutcome::Refused { code, message } = other {
                state.metrics.count_pod_refusal(PodsOf::Miner, code, &message);
                let sentence = format!("The API server rejects its pods: {message}");
                state.refuse(&grant.miner, Cause::ApiServer, PODS_REFUSED, &sentence);
            }
        }
    }
}

fn gpus_of(pod: &slim::Pod) -> u32 {
    pod.requests.extended.iter().map(|(_, count)| count).sum()
}

/// Reports an AIJob whose workers hold GPUs for their init containers alone.
fn note_gpus_of_init_containers(key: &Name, state: &mut State) {
    let Some(job) = state.view.cluster().ai_job(key).cloned() else { return };
    let Some(resource) = resource_of(state, &job) else { return };
    if gang::only_init_containers_have_gpus(&job, &resource) {
        let notice = Notice::OnlyInitContainersHaveGpus { resource };
        state.events.note(&job.object_ref(&()), notice, 0, None, state.instant);
    }
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

/// Reports on a pod that it is evicted, since its registration is no longer in force.
fn note_lapse(key: &Name, registration: &Name, overruled: bool, state: &mut State) {
    let Some(pod) = state.view.cluster().pod(key) else { return };
    let notice = Notice::LapsedEvicted { registration: registration.clone(), overruled };
    state.events.note(&pod_reference(pod), notice, 0, None, state.instant);
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
        Change::Requeue { .. } => Notice::ReservationLost,
        Change::Advance { step: Transition::Run, .. } => Notice::JobRunning,
        Change::Advance { step: Transition::Finish { well, word, sentence, .. }, .. } => {
            Notice::JobFinished { succeeded: *well, word: word.clone(), sentence: sentence.clone() }
        }
        _ => return,
    };
    state.events.note(&job.object_ref(&()), notice, 0, None, state.instant);
}
