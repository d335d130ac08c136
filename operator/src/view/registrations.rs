//! Registrations: their limits, and the validity of their approvals.

use std::sync::Arc;

use daylight_base::Name;
use daylight_cluster::names::parts;
use daylight_cluster::slim::Custom;
use daylight_cluster::{Changed, Kind, keys, same_spec, timestamp};
use daylight_crds::Registration;
use daylight_planner::model;
use daylight_planner::model::{Approval, Delta, Limits, Mirrored};

use super::authority::voided_by;
use super::energy::is_approved;
use super::{View, admission};

/// One kilowatt-hour in millijoules.
const KILOWATT_HOUR: u64 = 3_600_000_000;

impl View {
    pub(super) fn registration_changed(
        &mut self,
        Changed { key, before }: Changed<Custom<Registration>>,
        out: &mut Vec<Delta>,
    ) {
        if before.is_some() != self.cluster.registrations.get(&key).is_some() {
            self.recount_where(|_, pod| pod.registration.as_ref() == Some(&key));
        }
        self.emit_registration(&key, out);
        self.emit_others_of_owner(&key, before.as_deref(), out);
        for renewal in self.renewals.of(&key) {
            self.emit_registration(&renewal, out);
        }
        self.emit_miners_in(parts(&key).0, out);
    }

    /// Evaluates the other registrations of an owner again where one of them began or ceased to count.
    fn emit_others_of_owner(
        &mut self,
        key: &Name,
        before: Option<&Custom<Registration>>,
        out: &mut Vec<Delta>,
    ) {
        fn approved(custom: Option<&Custom<Registration>>) -> bool {
            custom.and_then(Custom::get).is_some_and(|registration| is_approved(registration))
        }
        let after = self.cluster.registrations.get(key);
        if approved(before) == approved(after)
            && same_spec(before, after, |registration| &registration.spec)
        {
            return;
        }
        let both = [before, after].into_iter().flatten().filter_map(Custom::get);
        let owners: Vec<String> =
            both.filter_map(|one| one.spec.operator.owner_pseudonym.clone()).collect();
        if owners.is_empty() {
            return;
        }
        let others = self.emitted.registrations.values().filter(|other| {
            other.key != *key
                && other.owner.as_ref().is_some_and(|of| owners.iter().any(|one| **one == **of))
        });
        let mut others: Vec<Name> = others.map(|other| other.key.clone()).collect();
        others.sort_unstable();
        for other in &others {
            self.emit_registration(other, out);
        }
        let mut namespaces: Vec<&str> = others.iter().map(|other| parts(other).0).collect();
        namespaces.dedup();
        for namespace in namespaces {
            self.emit_miners_in(namespace, out);
        }
    }

    pub(super) fn emit_registration(&mut self, name: &Name, out: &mut Vec<Delta>) {
        self.renewals.note(name, self.cluster.registration(name).map(AsRef::as_ref));
        let mut entry = None;
        let (mut view, problem) = match self.cluster.registrations.get(name) {
            None => (None, None),
            // A registration that is being deleted grants nothing any more.
            Some(registration) if registration.deleting => (None, None),
            Some(Custom { object: Err(problem), .. }) => (None, Some(problem.clone())),
            Some(Custom { object: Ok(registration), .. }) => {
                let registration = registration.clone();
                let view = self.registration_view(name, &registration);
                let problem = view.problem.clone();
                if problem.is_none() {
                    entry = admission::entry(&registration, view.approval, self.now);
                }
                (Some(view), problem)
            }
        };
        if let Some(known) = self.emitted.registrations.get(name).cloned()
            && view.as_ref().is_none_or(|view| view.owner != known.owner)
        {
            self.note_deleted_registration(&known);
        }
        self.problems.set(Kind::Registration, name, problem);
        self.mirror.note(name, entry);
        self.energy.note(name, view.as_ref());
        if let Some(view) = &mut view {
            view.mirrored = self.mirror.state_of(name, &self.cluster);
        }
        self.emitted.registration(name, view, out);
    }

    fn registration_view(
        &mut self,
        name: &Name,
        registration: &Registration,
    ) -> model::Registration {
        let spec = &registration.spec;
        let verdict = self.authority.verdict(&self.cluster, registration);
        self.note_on_lapse(name, registration, &verdict.digest);
        let is_approved = verdict.approval == Approval::Approved;
        let used = self.energy.used(name, registration, &self.cluster, is_approved, self.now);
        let deleted_mj = self.energy.deleted(registration, used.period, &self.cluster, self.now);
        model::Registration {
            key: name.clone(),
            owner: spec.operator.owner_pseudonym.as_deref().map(Arc::from),
            class: Arc::from(spec.activity_class.as_str()),
            pools: spec.pools.iter().map(|pool| Arc::from(pool.as_str())).collect(),
            valid_from: timestamp(&spec.valid_from),
            valid_until: timestamp(&spec.valid_until),
            approval: verdict.approval,
            voided_by: (verdict.approval == Approval::Voided)
                .then(|| voided_by(&self.cluster, registration).into()),
            limits: limits(&spec.limits),
            owner_limits: spec.owner_limits.as_ref().map(limits).unwrap_or_default(),
            usage: used.usage,
            reading: used.reading,
            energy_period: used.period,
            other_periods: used.others,
            energy_resets: used.resets,
            deleted_mj,
            mirrored: Mirrored::default(),
            problem: verdict.problem,
        }
    }

    pub(super) fn authority_keys_changed(&mut self, out: &mut Vec<Delta>) {
        self.authority.read_keys(&self.cluster);
        if self.warm && self.authority.requires_signatures() {
            self.emit_registrations_and_miners(out);
        }
    }

    /// Evaluates all registrations again, and the miners that may work under others of them now.
    pub(super) fn emit_registrations_and_miners(&mut self, out: &mut Vec<Delta>) {
        for registration in keys(&self.cluster.registrations) {
            self.emit_registration(&registration, out);
        }
        for miner in keys(&self.cluster.miners) {
            self.emit_miner(&miner, out);
        }
    }
}

fn limits(limits: &daylight_crds::Limits) -> Limits {
    Limits {
        gpus: limits.gpus,
        watts: limits.watts,
        energy_mj: limits.energy.as_ref().map(|energy| energy.kwh.saturating_mul(KILOWATT_HOUR)),
    }
}
