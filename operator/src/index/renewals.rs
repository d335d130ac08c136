//! Renewals: which registration a miner works under, as one ends and the next begins.
//!
//! An edit voids an approval at once, so a registration is not prolonged: another one is filed
//! that names it in `spec.renews`, is approved while the first still holds, and takes over the
//! miners that name the first from its own `validFrom` on. Pods carry the registration that they
//! were granted under, so those of the first stay until it ends, and theirs follow then.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_crds::Registration;
use daylight_planner::model::{Approval, Delta};

use super::names::{key, parts};
use super::slim::Custom;
use super::{Index, moment};

/// Registrations that renew others.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    /// What each of them renews, and from when on it holds.
    known: BTreeMap<Name, (Name, Timestamp)>,
    /// Up to when their beginnings were acted upon.
    looked_at: Timestamp,
}

/// The longest chain of renewals that is followed.
const LONGEST: usize = 64;

impl Index {
    /// Keeps what a registration renews.
    pub(super) fn note_renewal(&mut self, name: &Name) {
        let renewed = self.registrations.get(name).and_then(Custom::get).and_then(|object| {
            let of = key(parts(name).0, object.spec.renews.as_deref()?);
            Some((Name::from(of), moment(&object.spec.valid_from)))
        });
        match renewed {
            Some(renewed) => self.renewals.known.insert(name.clone(), renewed),
            None => self.renewals.known.remove(name),
        };
    }

    /// The registrations that renew this one.
    pub(super) fn renewals_of(&self, name: &Name) -> Vec<Name> {
        let all = self.renewals.known.iter().filter(|(_, (of, _))| of == name);
        all.map(|(renewal, _)| renewal.clone()).collect()
    }

    /// What is wrong with what a registration renews, if anything is.
    pub(super) fn odd_renewal(&self, name: &str, registration: &Registration) -> Option<String> {
        let spec = &registration.spec;
        let renews = spec.renews.as_deref()?;
        let of = key(parts(name).0, renews);
        if *of == *name {
            return Some(
                "spec.renews names the registration itself; name the one that ends.".into(),
            );
        }
        let before = &self.registration(&of)?.spec;
        let differs = if before.activity_class != spec.activity_class {
            "activityClass"
        } else if before.site != spec.site {
            "site"
        } else if before.operator.owner_pseudonym != spec.operator.owner_pseudonym {
            "operator.ownerPseudonym"
        } else {
            return None;
        };
        Some(format!(
            "spec.renews names {renews}, whose {differs} is another; a renewal keeps class, site and owner, so file it without renews."
        ))
    }

    /// The registration that counts for a miner which names `named`: the last of its renewals
    /// that has begun, or the next one once all before it have ended.
    pub(super) fn in_force(&self, named: Name) -> Name {
        let mut current = named;
        for _ in 0..LONGEST {
            let Some(next) = self.successor(&current) else { break };
            current = next;
        }
        current
    }

    fn successor(&self, current: &Name) -> Option<Name> {
        let has_ended = match self.given.registrations.get(current) {
            Some(one) => one.valid_until <= self.now,
            None => true,
        };
        let renewals = self.renewals.known.iter().filter(|(_, (of, _))| of == current);
        let approved = renewals.filter(|(name, (_, from))| {
            self.given.registrations.get(*name).is_some_and(|one| {
                one.approval == Approval::Approved
                    && one.problem.is_none()
                    && one.valid_until > self.now
                    && (*from <= self.now || has_ended)
            })
        });
        let first = approved.min_by_key(|(name, (_, from))| (*from, (*name).clone()));
        first.map(|(name, _)| name.clone())
    }

    /// Lets miners go over to registrations that begin, and to those whose predecessors end.
    pub(super) fn refresh_renewals(&mut self, out: &mut Vec<Delta>) {
        let (from, to) = (self.renewals.looked_at, self.now);
        self.renewals.looked_at = to;
        let namespaces: Vec<String> = self
            .renewals
            .known
            .keys()
            .filter(|name| self.turns(name).any(|at| at > from && at <= to))
            .map(|name| parts(name).0.to_owned())
            .collect();
        for namespace in namespaces {
            self.tell_miners_in(&namespace, out);
        }
    }

    /// When the next miner goes over by time alone.
    pub(super) fn renewal_due_at(&self) -> Option<Timestamp> {
        let all = self.renewals.known.keys().flat_map(|name| self.turns(name));
        all.filter(|at| *at > self.renewals.looked_at).min()
    }

    /// When a renewal begins, ends, and when what it renews ends.
    fn turns(&self, name: &Name) -> impl Iterator<Item = Timestamp> {
        let known = self.renewals.known.get(name);
        let end = |name: &Name| self.given.registrations.get(name).map(|one| one.valid_until);
        let before = known.and_then(|(of, _)| end(of));
        [known.map(|(_, from)| *from), end(name), before].into_iter().flatten()
    }
}
