//! Registrations: what they allow, and whether the approval still holds.

use std::sync::Arc;

use daylight_base::Name;
use daylight_crds::{ApprovalState, GpuPool, Registration};
use daylight_planner::model;
use daylight_planner::model::{Approval, Delta, Limits, Mirrored};

use super::names::{key, parts};
use super::slim::Custom;
use super::store::Touched;
use super::{Index, Kind, digest, keys, moment};
use crate::registration_signature::{self, AuthorityKeys};

/// One kilowatt-hour in millijoules.
const KILOWATT_HOUR: u64 = 3_600_000_000;

impl Index {
    pub(super) fn registration_touched(
        &mut self,
        Touched { key, .. }: Touched<Custom<Registration>>,
        out: &mut Vec<Delta>,
    ) {
        self.tell_registration(&key, out);
        for renewal in self.renewals_of(&key) {
            self.tell_registration(&renewal, out);
        }
        self.tell_miners_in(parts(&key).0, out);
    }

    pub(super) fn tell_registration(&mut self, name: &Name, out: &mut Vec<Delta>) {
        self.note_renewal(name);
        let mut entry = None;
        let (mut view, problem) = match self.registrations.get(name) {
            None => (None, None),
            // What is being deleted gives no right any more.
            Some(registration) if registration.deleting => (None, None),
            Some(Custom { object: Err(problem), .. }) => (None, Some(problem.clone())),
            Some(Custom { object: Ok(registration), .. }) => {
                let view = self.registration_view(name, registration);
                let problem = view.problem.clone();
                if problem.is_none() {
                    entry = self.mirror_entry(registration, view.approval);
                }
                (Some(view), problem)
            }
        };
        self.set_problem(Kind::Registration, name, problem);
        self.note_mirrored(name, entry);
        self.note_energy(name, view.as_ref());
        if let Some(view) = &mut view {
            view.mirrored = self.mirrored(name);
        }
        self.given.registration(name, view, out);
    }

    /// The digest of a registration with its class and pools as they are now.
    pub fn registration_digest(&self, registration: &Registration) -> String {
        let class = self.class(&registration.spec.activity_class).map(AsRef::as_ref);
        digest::spec_digest(registration, class, |pool| self.pool(pool).map(AsRef::as_ref))
    }

    fn registration_view(&self, name: &Name, registration: &Registration) -> model::Registration {
        let spec = &registration.spec;
        let status = registration.status.as_ref();
        let approval = match status.and_then(|status| status.approval.as_ref()) {
            None => Approval::Pending,
            Some(approval) => match approval.state {
                ApprovalState::Rejected => Approval::Rejected,
                ApprovalState::Suspended => Approval::Suspended,
                ApprovalState::Revoked => Approval::Revoked,
                ApprovalState::Approved => {
                    let now = self.registration_digest(registration);
                    if approval.digest_version == digest::VERSION
                        && approval.spec_digest.as_deref() == Some(&*now)
                    {
                        self.signed(registration, approval, &now)
                    } else {
                        Approval::Voided
                    }
                }
            },
        };
        let used = self.energy_used(name, registration);
        model::Registration {
            key: name.clone(),
            owner: spec.operator.owner_pseudonym.as_deref().map(Arc::from),
            class: Arc::from(spec.activity_class.as_str()),
            pools: spec.pools.iter().map(|pool| Arc::from(pool.as_str())).collect(),
            valid_from: moment(&spec.valid_from),
            valid_until: moment(&spec.valid_until),
            approval,
            limits: limits(&spec.limits),
            owner_limits: spec.owner_limits.as_ref().map(limits).unwrap_or_default(),
            usage: used.usage,
            reading: used.reading,
            energy_resets: used.resets,
            mirrored: Mirrored::default(),
            problem: self
                .elsewhere(registration)
                .or_else(|| self.odd_renewal(name, registration).map(Arc::from)),
        }
    }

    /// Whether what is approved is signed as the installation wants it.
    fn signed(
        &self,
        registration: &Registration,
        approval: &daylight_crds::Approval,
        digest: &str,
    ) -> Approval {
        if !self.signature_required {
            return Approval::Approved;
        }
        let Some(signature) = &approval.signature else { return Approval::Unsigned };
        let message = registration_signature::message(registration, digest);
        match self.authority.verify(&message, signature) {
            Ok(_) => Approval::Approved,
            Err(_) => Approval::WronglySigned,
        }
    }

    /// Takes in the authority's keys as they are now.
    pub(super) fn authority_keys_touched(&mut self, out: &mut Vec<Delta>) {
        let entries = self.authority_keys.iter().flat_map(|(_, map)| &map.data);
        let (keys, unread) = AuthorityKeys::read(entries.map(|(id, key)| (&**id, &**key)));
        for id in unread {
            tracing::error!(%id, "A key of the authority is neither PEM nor 32 bytes in base64.");
        }
        self.authority = keys;
        if self.warm && self.signature_required {
            self.tell_registrations(out);
        }
    }

    /// Tells all registrations again, and the miners that may work under others of them now.
    fn tell_registrations(&mut self, out: &mut Vec<Delta>) {
        for registration in keys(&self.registrations) {
            self.tell_registration(&registration, out);
        }
        for miner in keys(&self.miners) {
            self.tell_miner(&miner, out);
        }
    }

    /// Whether the registration names a pool at another site than its own.
    fn elsewhere(&self, registration: &Registration) -> Option<Arc<str>> {
        let spec = &registration.spec;
        spec.pools.iter().find_map(|name| {
            let site = &self.pool(name)?.spec.site.name;
            (*site != spec.site).then(|| {
                Arc::from(format!(
                    "spec.pools names {name}, which stands at site {site}, while spec.site is {}; register the work at {site} separately.",
                    spec.site
                ))
            })
        })
    }

    /// A field of the registration or its pools that limits power or energy,
    /// so that its miners must declare their watts.
    pub(super) fn power_limit(&self, name: &str) -> Option<String> {
        let spec = &self.registration(name)?.spec;
        let limited =
            |limits: &daylight_crds::Limits| limits.watts.is_some() || limits.energy.is_some();
        if limited(&spec.limits) || spec.owner_limits.as_ref().is_some_and(limited) {
            return Some(format!("Registration {name}"));
        }
        spec.pools
            .iter()
            .filter_map(|pool| Some((pool, self.pool(pool)?)))
            .find(|(_, pool)| has_budget(pool))
            .map(|(pool, _)| format!("GpuPool {pool}"))
    }
}

fn has_budget(pool: &GpuPool) -> bool {
    pool.spec.mining.power_budget_watts.is_some()
}

/// The key of the registration that a miner names; it is in the miner's namespace.
pub(super) fn registration_of(miner: &str, registration: &str) -> String {
    key(parts(miner).0, registration)
}

fn limits(limits: &daylight_crds::Limits) -> Limits {
    Limits {
        gpus: limits.gpus,
        watts: limits.watts,
        energy_mj: limits.energy.as_ref().map(|energy| energy.kwh.saturating_mul(KILOWATT_HOUR)),
    }
}
