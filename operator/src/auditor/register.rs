//! What the auditor finds of registrations, and of the classes and pools they stand on.
//!
//! It verifies by itself what the controller acts on: digest, approval, the authority's signature,
//! validity. Each change goes on record, and so do the edits that nobody saw.

use daylight_base::{Name, Timestamp};
use daylight_crds::{Approval, Assignment, RegistrationRule, RegistrationState};
use daylight_meter::{Decision, ObjectKind, ObjectSeen};
use daylight_planner::model;
use kube::Resource;
use rustc_hash::FxHashMap;

use super::books::Bookkeeper;
use crate::index::{Assigned, Index, Kind, digest};

impl Bookkeeper {
    /// Looks at an object that changed.
    pub(super) fn look_at_object(&mut self, kind: ObjectKind, name: &Name, now: Timestamp) {
        match seen(&self.index, kind, name, now) {
            Some(seen) => self.meter.object(seen, now),
            // One that cannot be read is there all the same.
            None if self.index.keys(kind_of(kind)).contains(name) => {}
            None => self.meter.object_gone(kind, name, now),
        }
    }

    /// Looks at all of them: what time or another object has changed about them.
    pub fn look_at_register(&mut self, now: Timestamp) {
        let on_record = self.meter.objects().map(|seen| (seen.object, seen.name.clone()));
        let mut objects: Vec<(ObjectKind, Name)> = on_record.collect();
        for kind in [ObjectKind::ActivityClass, ObjectKind::GpuPool, ObjectKind::Registration] {
            objects.extend(self.index.keys(kind_of(kind)).into_iter().map(|name| (kind, name)));
        }
        objects.sort_unstable();
        objects.dedup();
        for (kind, name) in objects {
            self.look_at_object(kind, &name, now);
        }
    }

    /// Whether the spec of an object is another than the one on record.
    pub(super) fn is_edited(&self, kind: ObjectKind, name: &Name) -> bool {
        let generation = match kind {
            ObjectKind::ActivityClass => self.index.class(name).and_then(|it| it.meta().generation),
            ObjectKind::GpuPool => self.index.pool(name).and_then(|it| it.meta().generation),
            ObjectKind::Registration => {
                self.index.registration(name).and_then(|it| it.meta().generation)
            }
        };
        let on_record = self.meter.object_seen(kind, name);
        on_record.map(|seen| seen.generation) != generation.and_then(|it| u64::try_from(it).ok())
    }

    /// Whether a registration is in force, as the auditor finds.
    pub fn is_in_force(&self, registration: &Name) -> bool {
        let seen = self.meter.object_seen(ObjectKind::Registration, registration);
        let standing = seen.and_then(|seen| seen.standing.as_deref());
        standing == Some(&state_name(RegistrationState::Active))
    }

    /// GPUs that pods hold for which a registration should be in force, and is not.
    pub fn unregistered(&self) -> FxHashMap<Assigned, u32> {
        let mut held = self.index.assigned();
        held.retain(|assigned, _| match (&assigned.registration, &assigned.class) {
            (Some(registration), _) => !self.is_in_force(registration),
            (None, Some(class)) => self
                .index
                .class(class)
                .is_some_and(|class| class.spec.registration == RegistrationRule::Required),
            (None, None) => false,
        });
        held
    }

    /// Whether what the authority has to sign is signed, as far as a registration is approved.
    pub fn is_signed(&self, registration: &Name) -> bool {
        let found = self.index.found(registration);
        !found.is_some_and(|found| {
            matches!(found.approval, model::Approval::Unsigned | model::Approval::WronglySigned)
        })
    }
}

fn kind_of(kind: ObjectKind) -> Kind {
    match kind {
        ObjectKind::ActivityClass => Kind::ActivityClass,
        ObjectKind::GpuPool => Kind::GpuPool,
        ObjectKind::Registration => Kind::Registration,
    }
}

/// An object as it is seen now; `None` where it is gone or cannot be read.
fn seen(index: &Index, kind: ObjectKind, name: &Name, now: Timestamp) -> Option<ObjectSeen> {
    match kind {
        ObjectKind::ActivityClass => {
            let class = index.class(name)?;
            object(kind, name, class.as_ref(), digest::of(&class.spec))
        }
        ObjectKind::GpuPool => {
            let pool = index.pool(name)?;
            object(kind, name, pool.as_ref(), digest::of(&pool.spec))
        }
        ObjectKind::Registration => {
            let registration = index.registration(name)?;
            let digest = index.registration_digest(registration);
            let status = registration.status.as_ref();
            Some(ObjectSeen {
                decision: status.and_then(|status| status.approval.as_ref()).map(decision),
                standing: Some(state_name(standing(index, name, now))),
                ..object(kind, name, registration.as_ref(), digest)?
            })
        }
    }
}

fn object<K: Resource>(
    object: ObjectKind,
    name: &Name,
    found: &K,
    digest: String,
) -> Option<ObjectSeen> {
    Some(ObjectSeen {
        object,
        name: name.clone(),
        uid: found.meta().uid.as_deref()?.into(),
        generation: u64::try_from(found.meta().generation?).ok()?,
        digest: digest.into(),
        decision: None,
        standing: None,
    })
}

fn state_name(state: RegistrationState) -> Name {
    format!("{state:?}").into()
}

fn decision(approval: &Approval) -> Decision {
    Decision {
        state: format!("{:?}", approval.state).into(),
        by: approval.by.as_str().into(),
        at: Timestamp(approval.at.0.as_millisecond()),
        digest: approval.spec_digest.as_deref().map(Name::from),
        signature: approval.signature.as_deref().map(Name::from),
    }
}

fn standing(index: &Index, name: &Name, now: Timestamp) -> RegistrationState {
    use model::Approval as Is;
    let Some(found) = index.found(name).filter(|found| found.problem.is_none()) else {
        return RegistrationState::Invalid;
    };
    let class = index.class(&found.class);
    if class.is_none_or(|class| class.spec.assignment == Assignment::None) {
        return RegistrationState::Invalid;
    }
    match found.approval {
        Is::Pending => RegistrationState::Pending,
        Is::Voided => RegistrationState::Changed,
        Is::Unsigned => RegistrationState::SignatureMissing,
        Is::WronglySigned => RegistrationState::SignatureInvalid,
        Is::Rejected => RegistrationState::Rejected,
        Is::Suspended => RegistrationState::Suspended,
        Is::Revoked => RegistrationState::Revoked,
        Is::Approved if now.0 < found.valid_from.0 => RegistrationState::Scheduled,
        Is::Approved if now.0 >= found.valid_until.0 => RegistrationState::Expired,
        Is::Approved => RegistrationState::Active,
    }
}
