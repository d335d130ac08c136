//! Renewals: the registration under which a miner works when one ends and the next begins.
//!
//! An edit voids an approval at once, so a registration cannot be extended. Instead, another one is
//! filed that names it in `spec.renews` and is approved while the first is still valid. From its
//! own `validFrom` on, it takes over the miners that name the first. A pod carries the registration
//! under which it was granted, so pods of the first run until it ends, and are replaced then.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_cluster::names::{key, parts};
use daylight_cluster::timestamp;
use daylight_crds::Registration;
use daylight_planner::model::{Approval, Delta};
use rustc_hash::FxHashMap;

use super::View;

/// The registrations that the planner knows.
type Registrations = FxHashMap<Name, daylight_planner::model::Registration>;

/// Registrations that renew others.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    /// The registration that each of them renews, and the time from which on it is valid.
    known: BTreeMap<Name, (Name, Timestamp)>,
    /// Time up to which beginnings and ends have been handled.
    evaluated_at: Timestamp,
}

/// The longest chain of renewals that is followed; it also ends a circle of them.
const LONGEST: usize = 64;

impl Renewals {
    /// Notes the registration that this one renews, if it renews one.
    pub(super) fn note(&mut self, name: &Name, registration: Option<&Registration>) {
        let renewed = registration.and_then(|object| {
            let of = key(parts(name).0, object.spec.renews.as_deref()?);
            Some((Name::from(of), timestamp(&object.spec.valid_from)))
        });
        match renewed {
            Some(renewed) => self.known.insert(name.clone(), renewed),
            None => self.known.remove(name),
        };
    }

    /// Returns the registrations that renew this one.
    pub(super) fn of(&self, name: &Name) -> Vec<Name> {
        let all = self.known.iter().filter(|(_, (of, _))| of == name);
        all.map(|(renewal, _)| renewal.clone()).collect()
    }

    /// Returns the registration that counts for a miner which names `named`: the last of its
    /// renewals that has begun, or the next one once all before it have ended.
    pub(super) fn in_force(&self, named: Name, known: &Registrations, now: Timestamp) -> Name {
        let mut current = named;
        for _ in 0..LONGEST {
            let Some(next) = self.successor(&current, known, now) else { break };
            current = next;
        }
        current
    }

    fn successor(&self, current: &Name, known: &Registrations, now: Timestamp) -> Option<Name> {
        let has_ended = known.get(current).is_none_or(|one| one.valid_until <= now);
        let renewals = self.known.iter().filter(|(_, (of, _))| of == current);
        let approved = renewals.filter(|(name, (_, from))| {
            known.get(*name).is_some_and(|one| {
                one.approval == Approval::Approved
                    && one.problem.is_none()
                    && one.valid_until > now
                    && (*from <= now || has_ended)
            })
        });
        let first = approved.min_by_key(|(name, (_, from))| (*from, (*name).clone()));
        first.map(|(name, _)| name.clone())
    }

    /// The namespaces in which a miner's registration may have changed by time alone since the
    /// last call.
    fn take_due(&mut self, known: &Registrations, now: Timestamp) -> Vec<String> {
        let from = std::mem::replace(&mut self.evaluated_at, now);
        let changed = self
            .known
            .keys()
            .filter(|name| self.turning_points(name, known).any(|at| at > from && at <= now));
        changed.map(|name| parts(name).0.to_owned()).collect()
    }

    /// Notes that everything was evaluated at this time.
    pub(super) fn evaluate_from(&mut self, now: Timestamp) {
        self.evaluated_at = now;
    }

    /// The time at which the next miner changes over to another registration.
    pub(super) fn due_at(&self, known: &Registrations) -> Option<Timestamp> {
        let all = self.known.keys().flat_map(|name| self.turning_points(name, known));
        all.filter(|at| *at > self.evaluated_at).min()
    }

    /// The times at which a renewal begins, at which it ends, and at which its predecessor ends.
    fn turning_points(
        &self,
        name: &Name,
        known: &Registrations,
    ) -> impl Iterator<Item = Timestamp> {
        let renewal = self.known.get(name);
        let end = |name: &Name| known.get(name).map(|one| one.valid_until);
        let predecessor_end = renewal.and_then(|(of, _)| end(of));
        [renewal.map(|(_, from)| *from), end(name), predecessor_end].into_iter().flatten()
    }
}

impl View {
    /// Moves miners to registrations that begin, and to those whose predecessors end.
    pub(super) fn refresh_renewals(&mut self, out: &mut Vec<Delta>) {
        for namespace in self.renewals.take_due(&self.emitted.registrations, self.now) {
            self.emit_miners_in(&namespace, out);
        }
    }
}
