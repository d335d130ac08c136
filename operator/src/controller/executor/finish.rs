//! Taking in how a change ended.

use std::time::Duration;

use daylight_base::Name;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;

use super::lanes::Change;
use super::perform::Outcome;
use super::refusals::By;
use super::stage::Step;
use super::{Done, Executor, Target};
use crate::controller::events::What;
use crate::controller::site::Site;
use daylight_cluster::well_known::MINER_PRIORITY_CLASS;
use daylight_cluster::well_known::PODS_REFUSED;
use daylight_cluster::{Kind, slim};

/// How soon a change of an AIJob that was refused is tried again.
const AGAIN: Duration = Duration::from_secs(5);

impl Executor {
    pub(super) fn finish(&mut self, done: Done, site: &mut Site) {
        let Done { target, change, uid, outcome } = done;
        self.busy.remove(&target);
        match (target, change) {
            (Target::Pod(key), Some(Change::Grant(grant))) => {
                let outcome = self.doubt_priority_class(outcome);
                granted(&key, &grant, outcome, site);
            }
            (Target::Pod(key), Some(Change::Record { .. })) => recorded(&key, outcome, site),
            (Target::Pod(key), Some(change)) => self.ending(&key, &uid, &change, outcome, site),
            (Target::Job(key), Some(change)) => self.stepped(&key, &change, outcome, site),
            (Target::Status(kind, key), _) => written(kind, &key, outcome, site),
            (Target::PriorityClass, _) => self.priority_class_is(outcome),
            (Target::Mirror(kind), _) => mirrored(kind, &outcome),
            (Target::GangRefusal(key), _) => gang_refused(&key, &outcome, site),
            (Target::Event, _) | (_, None) => {}
        }
    }

    fn ending(
        &mut self,
        key: &Name,
        uid: &str,
        change: &Change,
        outcome: Outcome,
        site: &mut Site,
    ) {
        match outcome {
            Outcome::Ending { overruled } => {
                if let Change::Evict { reason, beneficiary, .. } = change {
                    site.metrics.evictions.with_label_values(&[reason.code()]).inc();
                    tell_reclaim(key, *reason, beneficiary.as_ref(), overruled, site);
                }
            }
            Outcome::Gone => {
                self.reclaims.remove(key);
                site.view.assume_gone(key, uid, site.now, &mut site.deltas);
            }
            // It may be ending, or not: to end it again does nothing more.
            other => {
                self.reclaims.remove(key);
                site.view.unforesee_end(key, &mut site.deltas);
                if let Outcome::Refused { code, message } = other {
                    tracing::warn!(pod = %key, code, %message, "A pod cannot be ended.");
                }
            }
        }
    }

    fn stepped(&mut self, key: &Name, change: &Change, outcome: Outcome, site: &mut Site) {
        let reserves = matches!(change, Change::Reserve { .. });
        if reserves {
            self.reserving.remove(key);
            self.lanes.reserved(key, matches!(outcome, Outcome::Stepped(..)));
        }
        match outcome {
            Outcome::Stepped(job, batch) => {
                self.held_back.remove(key);
                self.count_wait(key, change, site);
                tell_step(&job, change, site);
                if let Some(batch) = batch {
                    site.view.assume_batch_job(*batch, site.now, &mut site.deltas);
                }
                site.view.assume_ai_job(*job, site.now, &mut site.deltas);
            }
            Outcome::GangMade(batch) => {
                self.held_back.remove(key);
                if let Some(batch) = batch {
                    site.view.assume_batch_job(*batch, site.now, &mut site.deltas);
                }
            }
            Outcome::Refused { code, message } => {
                site.view.unforesee_state(key, &mut site.deltas);
                self.held_back.insert(key.clone(), site.instant + AGAIN);
                let message = match (change, code) {
                    (Change::MakeGang { .. }, 409) => format!(
                        "A Job or Service of that name exists and is not this AIJob's; delete it, \
                         or give the AIJob another name ({message})."
                    ),
                    _ => format!("The API server refuses a change of the job: {message}"),
                };
                tracing::warn!(job = %key, code, %message, "An AIJob cannot be changed.");
                if let Some(job) = site.view.cluster().ai_job(key) {
                    let what =
                        What::State { word: "Refused".into(), sentence: message, warning: true };
                    site.events.note(&job.object_ref(&()), what, 0, None, site.instant);
                }
            }
            Outcome::Unknown => {
                self.held_back.insert(key.clone(), site.instant + AGAIN);
                site.view.unforesee_state(key, &mut site.deltas);
            }
            _ => site.view.unforesee_state(key, &mut site.deltas),
        }
    }

    /// A pod that is refused for its PriorityClass is no fault of the miner's: the class is gone.
    fn doubt_priority_class(&mut self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Refused { message, .. } if message.contains(MINER_PRIORITY_CLASS) => {
                self.may_grant = None;
                Outcome::Overtaken
            }
            other => other,
        }
    }

    /// How long the job waited, and how much of it for miners.
    fn count_wait(&mut self, key: &Name, change: &Change, site: &mut Site) {
        match change {
            Change::Release { .. } => {
                if let Some((_, until)) = self.drains.get_mut(key) {
                    until.get_or_insert(site.instant);
                }
            }
            Change::Advance { step: Step::Run, .. } => {
                let miners = match self.drains.remove(key) {
                    Some((from, Some(until))) => until.saturating_duration_since(from),
                    _ => Duration::ZERO,
                };
                if let Some(total) = site.waited(key) {
                    site.metrics.observe_ai_wait("AIJob", total);
                    site.metrics.observe_ai_wait_for_miners("AIJob", miners);
                }
            }
            Change::Suspend { .. } | Change::Advance { .. } => {
                self.drains.remove(key);
            }
            _ => {}
        }
    }

    fn priority_class_is(&mut self, outcome: Outcome) {
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
fn gang_refused(key: &Name, outcome: &Outcome, site: &mut Site) {
    match outcome {
        Outcome::Made(body) => {
            if let Some(job) = site.view.cluster().ai_job(key) {
                site.gang_refusals.answered(key, body, job);
            }
        }
        Outcome::Refused { code, message } => {
            tracing::warn!(job = %key, code, %message, "Why an AIJob lacks pods cannot be asked.");
        }
        _ => {}
    }
}

fn granted(
    key: &Name,
    grant: &daylight_planner::explain::Grant,
    outcome: Outcome,
    site: &mut Site,
) {
    match outcome {
        Outcome::Granted(pod) => {
            let gpus = gpus_of(&pod);
            site.view.assume_pod(*pod, site.now, &mut site.deltas);
            if site.refusals.taken(&grant.miner) {
                site.tell_again(&grant.miner);
            }
            site.metrics.grants.with_label_values(&[&*grant.pool]).inc();
            if let Some(subject) = miner_reference(site, &grant.miner) {
                let what = What::Granted { pool: grant.pool.clone() };
                site.events.note(&subject, what, gpus, None, site.instant);
            }
        }
        // It may exist: it counts until the watch has shown that it does not.
        Outcome::Unknown => {}
        other => {
            site.view.unforesee_pod(key, &mut site.deltas);
            if let Outcome::Refused { message, .. } = other {
                let sentence = format!("The API server does not take its pods: {message}");
                refuse(&grant.miner, By::ApiServer, (PODS_REFUSED, sentence), site);
            }
        }
    }
}

/// A pod was let go in the auditor's place.
fn recorded(key: &Name, outcome: Outcome, site: &mut Site) {
    match outcome {
        Outcome::Made(body) => {
            site.metrics.lease_records.inc();
            if let Ok(pod) = serde_json::from_slice::<slim::Pod>(&body) {
                site.view.assume_pod(pod, site.now, &mut site.deltas);
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

fn miner_reference(site: &Site, key: &str) -> Option<ObjectReference> {
    site.view.cluster().miner(key).map(|miner| miner.object_ref(&()))
}

/// A pod of a miner was turned down, with a word and a sentence on why.
pub(in crate::controller) fn refuse(miner: &Name, by: By, why: (&str, String), site: &mut Site) {
    let held = site.held(miner);
    let (word, sentence) = (why.0.to_owned(), why.1.clone());
    if !site.refusals.refused(miner, by, why, held, site.instant) {
        return;
    }
    tracing::warn!(%miner, word, sentence, "A miner gets no more GPUs for a while.");
    site.tell_again(miner);
    if let Some(subject) = miner_reference(site, miner) {
        let what = What::State { word, sentence, warning: true };
        site.events.note(&subject, what, 0, None, site.instant);
    }
}

fn tell_reclaim(
    key: &Name,
    why: daylight_planner::explain::ReclaimReason,
    beneficiary: Option<&Name>,
    overruled: bool,
    site: &mut Site,
) {
    let Some(pod) = site.view.cluster().pod(key) else { return };
    let Some(lease) = &pod.lease else { return };
    let (miner, gpus) = (lease.miner.clone(), gpus_of(pod));
    if let Some(subject) = miner_reference(site, &miner) {
        let what = What::Reclaimed { why, beneficiary: beneficiary.cloned() };
        site.events.note(&subject, what, gpus, None, site.instant);
        if overruled {
            site.events.note(&subject, What::BudgetOverruled, gpus, None, site.instant);
        }
    }
    let Some(beneficiary) = beneficiary else { return };
    let subject = match site.view.cluster().ai_job(beneficiary) {
        Some(job) => Some(job.object_ref(&())),
        None => site.view.cluster().pod(beneficiary).map(pod_reference),
    };
    if let Some(subject) = subject {
        site.events.note(&subject, What::MakesWay { why }, gpus, Some(&miner), site.instant);
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

fn tell_step(job: &daylight_crds::AiJob, change: &Change, site: &mut Site) {
    let (word, sentence) = match change {
        Change::Reserve { placement, displaced, .. } => (
            "Reserved",
            format!("{} nodes are reserved; {displaced} miners' pods leave.", placement.len()),
        ),
        Change::Release { .. } => {
            ("Released", "The whole gang has its GPUs; its pods are let go.".to_owned())
        }
        Change::Suspend { .. } => (
            "GangTimeout",
            "Not all workers were bound in time; the job is suspended and queues again.".to_owned(),
        ),
        Change::Advance { step: Step::Run, .. } => ("Running", "All workers are bound.".to_owned()),
        Change::Advance { step: Step::Finish { word, sentence, .. }, .. } => {
            (word.as_str(), sentence.clone())
        }
        _ => return,
    };
    let warning = matches!(
        change,
        Change::Suspend { .. } | Change::Advance { step: Step::Finish { well: false, .. }, .. }
    );
    let what = What::State { word: word.into(), sentence, warning };
    site.events.note(&job.object_ref(&()), what, 0, None, site.instant);
}

/// Takes in an object whose status was written, before the watch shows it.
fn written(kind: Kind, key: &str, outcome: Outcome, site: &mut Site) {
    let body = match outcome {
        Outcome::Made(body) => body,
        Outcome::Refused { code, message } => {
            tracing::warn!(%kind, key, code, %message, "A status cannot be written.");
            return;
        }
        _ => return,
    };
    let (now, deltas) = (site.now, &mut site.deltas);
    macro_rules! assume {
        ($assume:ident) => {
            if let Ok(object) = serde_json::from_slice(&body) {
                site.view.$assume(object, now, deltas);
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
