//! The register: registrations, with the classes and pools that they refer to.
//!
//! The auditor verifies by itself what the controller acts on: digest, approval, the authority's
//! signature, validity. Each change is recorded, and so are edits that it did not observe, which a
//! jump of the generation reveals.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_cluster::{Kind, timestamp};
use daylight_crds::{Approval, Assignment, Registration, RegistrationRule, RegistrationState};
use daylight_meter::{
    Decision, ObjectKind, ObservedObject, ObservedSettings, SignatureRule, StopInForce,
};
use daylight_planner::model;
use kube::Resource;
use rustc_hash::FxHashMap;
use strum::VariantArray as _;

use super::Bookkeeper;
use crate::view::authority::Verdict;
use crate::view::{Assigned, assigned, digest};

impl Bookkeeper {
    /// Records an object that changed.
    pub(super) fn observe_object(&mut self, kind: ObjectKind, name: &Name, now: Timestamp) {
        match self.current_object(kind, name, now) {
            Some(object) => self.meter.object(object, now),
            // It exists, but cannot be read: it is not gone.
            None if self.keys(kind).contains(name) => {}
            None => self.meter.object_gone(kind, name, now),
        }
    }

    /// Records what decides apart from objects.
    pub(super) fn observe_settings(&mut self, now: Timestamp) {
        // Its existence is a stop, whatever it contains.
        let stop = self.cluster.config_map(Kind::EmergencyStop);
        let signature = match self.authority.requires_signatures() {
            true => SignatureRule::Required,
            false => SignatureRule::Optional,
        };
        let settings = ObservedSettings {
            signature,
            authority_keys: self.authority.keys().into_iter().map(Name::from).collect(),
            emergency_stop: stop
                .map(|map| StopInForce { by: Name::from(map.get("by").unwrap_or("unknown")) }),
            admission_mode: self.admission_mode.clone(),
            ledger_keys: self.ledger_keys.clone(),
        };
        self.meter.settings(settings, now);
    }

    /// Records all objects: time, or another object, may have changed the state of any.
    pub(in crate::auditor) fn observe_register(&mut self, now: Timestamp) {
        self.observe_settings(now);
        let recorded = self.meter.objects().map(|object| (object.object, object.name.clone()));
        let mut objects: Vec<(ObjectKind, Name)> =
            recorded.filter(|(kind, _)| kind_of(*kind).is_some()).collect();
        for kind in ObjectKind::VARIANTS {
            objects.extend(self.keys(*kind).into_iter().map(|name| (*kind, name)));
        }
        objects.sort_unstable();
        objects.dedup();
        for (kind, name) in objects {
            self.observe_object(kind, &name, now);
        }
    }

    /// Returns the names of the objects of a kind that the cluster's view has.
    fn keys(&self, kind: ObjectKind) -> Vec<Name> {
        kind_of(kind).map(|kind| self.cluster.keys(kind)).unwrap_or_default()
    }

    /// Returns `true` if the spec of an object is not the one last recorded.
    pub(super) fn is_edited(&self, kind: ObjectKind, name: &Name) -> bool {
        let generation = match kind {
            ObjectKind::ActivityClass => {
                self.cluster.class(name).and_then(|it| it.meta().generation)
            }
            ObjectKind::GpuPool => self.cluster.pool(name).and_then(|it| it.meta().generation),
            ObjectKind::Registration => {
                self.cluster.registration(name).and_then(|it| it.meta().generation)
            }
            ObjectKind::Declaration
            | ObjectKind::ValidatingAdmissionPolicy
            | ObjectKind::ValidatingAdmissionPolicyBinding => return false,
        };
        let recorded = self.meter.object_seen(kind, name).map(|object| object.generation);
        recorded != generation.and_then(|it| u64::try_from(it).ok())
    }

    /// Returns `true` if the auditor itself finds a registration in force.
    fn is_in_force(&self, registration: &Name) -> bool {
        let recorded = self.meter.object_seen(ObjectKind::Registration, registration);
        let state = recorded.and_then(|object| object.standing.as_deref());
        state == Some(RegistrationState::Active.into())
    }

    /// Counts the GPUs of pods that need a registration in force and have none.
    pub(in crate::auditor) fn unregistered(&self) -> FxHashMap<Assigned, u64> {
        let mut held = assigned(&self.cluster, &self.pools);
        held.retain(|assigned, _| match (&assigned.registration, &assigned.class) {
            (Some(registration), _) => !self.is_in_force(registration),
            (None, Some(class)) => self
                .cluster
                .class(class)
                .is_some_and(|class| class.spec.registration == RegistrationRule::Required),
            (None, None) => false,
        });
        held
    }

    /// Counts the GPUs of pods whose class does not exist, or is prohibited.
    pub(in crate::auditor) fn unlisted(&self) -> FxHashMap<Assigned, u64> {
        let mut held = assigned(&self.cluster, &self.pools);
        held.retain(|assigned, _| {
            assigned.class.as_ref().is_some_and(|class| self.cluster.is_off_the_list(class))
        });
        held
    }

    /// Returns `true` unless a registration is approved and lacks the authority's signature.
    pub(in crate::auditor) fn is_signed(&self, registration: &Name) -> bool {
        !self.verdicts.get(registration).is_some_and(|verdict| {
            matches!(verdict.approval, model::Approval::Unsigned | model::Approval::WronglySigned)
        })
    }

    /// Returns `true` if a registration is approved as it is now.
    pub(in crate::auditor) fn is_approved(&self, registration: &Name) -> bool {
        let verdict = self.verdicts.get(registration);
        verdict.is_some_and(|verdict| verdict.approval == model::Approval::Approved)
    }

    /// Returns an object as it is now; `None` if it is gone or cannot be read.
    fn current_object(
        &mut self,
        kind: ObjectKind,
        name: &Name,
        now: Timestamp,
    ) -> Option<ObservedObject> {
        match kind {
            ObjectKind::ActivityClass => {
                let class = self.cluster.class(name)?;
                object(kind, name, class.as_ref(), digest::of(&class.spec))
            }
            ObjectKind::GpuPool => {
                let pool = self.cluster.pool(name)?;
                object(kind, name, pool.as_ref(), digest::of(&pool.spec))
            }
            ObjectKind::Registration => {
                let registration = self.verify(name)?;
                let verdict = self.verdicts.get(name);
                let state = self.state_of(&registration, verdict, now);
                let status = registration.status.as_ref();
                let digest = match verdict {
                    Some(verdict) => verdict.digest.clone(),
                    None => self.authority.verdict(&self.cluster, &registration).digest,
                };
                Some(ObservedObject {
                    decision: status.and_then(|status| status.approval.as_ref()).map(decision),
                    standing: Some(state_name(state)),
                    ..object(kind, name, registration.as_ref(), digest)?
                })
            }
            ObjectKind::Declaration
            | ObjectKind::ValidatingAdmissionPolicy
            | ObjectKind::ValidatingAdmissionPolicyBinding => None,
        }
    }

    /// Verifies a registration again. One that is being deleted has no verdict, since it no longer
    /// allows anything.
    fn verify(&mut self, name: &Name) -> Option<Arc<Registration>> {
        let registration = self.cluster.registration(name).cloned();
        let deleting = self.cluster.registrations.get(name).is_some_and(|one| one.deleting);
        match registration.as_ref().filter(|_| !deleting) {
            Some(registration) => {
                let verdict = self.authority.verdict(&self.cluster, registration);
                self.verdicts.insert(name.clone(), verdict);
            }
            None => {
                self.verdicts.remove(name);
            }
        }
        registration
    }

    fn state_of(
        &self,
        registration: &Registration,
        verdict: Option<&Verdict>,
        now: Timestamp,
    ) -> RegistrationState {
        use model::Approval as Is;
        let Some(verdict) = verdict.filter(|verdict| verdict.problem.is_none()) else {
            return RegistrationState::Invalid;
        };
        let spec = &registration.spec;
        let class = self.cluster.class(&spec.activity_class);
        if class.is_none_or(|class| class.spec.assignment == Assignment::None) {
            return RegistrationState::Invalid;
        }
        match verdict.approval {
            Is::Pending => RegistrationState::Pending,
            Is::Voided => RegistrationState::Changed,
            Is::Unsigned => RegistrationState::SignatureMissing,
            Is::WronglySigned => RegistrationState::SignatureInvalid,
            Is::Rejected => RegistrationState::Rejected,
            Is::Suspended => RegistrationState::Suspended,
            Is::Revoked => RegistrationState::Revoked,
            Is::Approved if now < timestamp(&spec.valid_from) => RegistrationState::Scheduled,
            Is::Approved if now >= timestamp(&spec.valid_until) => RegistrationState::Expired,
            Is::Approved => RegistrationState::Active,
        }
    }
}

/// Returns the kind in the cluster's view; `None` for those of [`crate::auditor::admission`] and
/// [`crate::auditor::declarations`].
fn kind_of(kind: ObjectKind) -> Option<Kind> {
    match kind {
        ObjectKind::ActivityClass => Some(Kind::ActivityClass),
        ObjectKind::GpuPool => Some(Kind::GpuPool),
        ObjectKind::Registration => Some(Kind::Registration),
        ObjectKind::Declaration
        | ObjectKind::ValidatingAdmissionPolicy
        | ObjectKind::ValidatingAdmissionPolicyBinding => None,
    }
}

fn object<K: Resource>(
    object: ObjectKind,
    name: &Name,
    found: &K,
    digest: String,
) -> Option<ObservedObject> {
    Some(ObservedObject {
        object,
        name: name.clone(),
        uid: found.meta().uid.as_deref()?.into(),
        generation: u64::try_from(found.meta().generation?).ok()?,
        digest: digest.into(),
        decision: None,
        standing: None,
        declares: None,
    })
}

fn state_name(state: RegistrationState) -> Name {
    Name::from(<&str>::from(state))
}

fn decision(approval: &Approval) -> Decision {
    Decision {
        state: Name::from(<&str>::from(approval.state)),
        by: approval.by.as_str().into(),
        at: timestamp(&approval.at),
        digest: approval.spec_digest.as_deref().map(Name::from),
        signature: approval.signature.as_deref().map(Name::from),
        reference: None,
    }
}
