//! Verdicts on registrations and owners: whether a registration is in force, and what it and its
//! owner still allow.

use std::collections::BTreeMap;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::explain::{Reason, ReclaimReason};
use crate::model::{
    Approval, ClassAssignment, EnergyPeriod, Mirrored, Reading, Registration, Usage,
};
use crate::plan::Run;
use crate::plan::energy::Energy;
use crate::plan::power::Counted;
use crate::state::table::Id;
use crate::state::{Declared, RegistrationRow};
use daylight_base::{Name, Timestamp};

/// State of a registration now, and what it still allows.
#[derive(Clone, Debug)]
pub(super) struct RegistrationVerdict {
    /// `Active`, or the reason why it is not.
    pub(super) state: Reason,
    /// If its miners must stop now: the reason for their pods, and for their status.
    pub(super) stop: Option<(ReclaimReason, Reason)>,
    /// The reason why no miner is added, although those that run may stay.
    pub(super) held_back: Option<Reason>,
    /// Rank of its class.
    pub(super) rank: u32,
    pub(super) until: Timestamp,
    pub(super) gpus: u32,
    pub(super) watts: u64,
    /// Watts that the remaining energy allows.
    pub(super) energy_watts: u64,
    pub(super) owner: Option<Name>,
    /// It is approved, valid now, and of a class on the positive list.
    in_force: bool,
}

impl RegistrationVerdict {
    /// Applies an energy limit, of the registration itself or of its owner.
    fn apply(&mut self, energy: &Energy, key: &Name) {
        let registration = key.clone();
        match energy {
            Energy::NoLimit => {}
            Energy::Allows(watts) => self.energy_watts = *watts,
            Energy::Unmetered => self.stop_mining(Reason::MeterUnavailable { registration }),
            Energy::UsedUp => self.stop_mining(Reason::EnergyLimit { registration }),
            Energy::Stale(metered_until) => {
                self.held_back =
                    Some(Reason::MeterStale { registration, metered_until: *metered_until });
            }
        }
    }

    fn stop_mining(&mut self, reason: Reason) {
        self.state = reason.clone();
        self.stop = Some((ReclaimReason::EnergyBudget, reason));
    }
}

/// What the registrations of one owner may hold together, and what they have used.
///
/// Anyone may file a registration under any pseudonym, so only those in force set limits. What the
/// others hold or have used counts until it has ended, since it was drawn for the owner.
#[derive(Clone, Debug)]
pub(super) struct OwnerVerdict {
    pub(super) gpus: u32,
    pub(super) watts: u64,
    pub(super) energy_watts: u64,
    /// Those in force or with leases.
    pub(super) registrations: Vec<Id<RegistrationRow>>,
    all: Vec<Id<RegistrationRow>>,
    /// The lowest energy limit of each period. Each is compared with the use in its own period.
    pub(super) energy: BTreeMap<EnergyPeriod, OwnerEnergy>,
}

/// An owner's energy limit of one period.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnerEnergy {
    pub(super) limit_mj: u64,
    /// What all its registrations have used; `None` without a reading of each that holds anything.
    pub(super) usage: Option<Usage>,
}

impl OwnerVerdict {
    fn new() -> Self {
        Self {
            gpus: u32::MAX,
            watts: u64::MAX,
            energy_watts: u64::MAX,
            registrations: Vec::new(),
            all: Vec::new(),
            energy: BTreeMap::new(),
        }
    }
}

impl Run<'_> {
    /// Determines which pools mine, which registrations are in force, and the miners' ranks.
    pub(super) fn judge(&mut self) {
        for id in self.state.pools_by_name.values().copied().collect::<Vec<_>>() {
            let mode = self.mode(id);
            self.modes.insert(id, mode);
        }
        // By the miners that may start under a registration, and by those that hold leases of it: after a
        // renewal they work under the next one, while their pods run on under the first.
        let mut drain_timeouts: FxHashMap<Id<RegistrationRow>, Duration> = FxHashMap::default();
        let mut registered = Vec::with_capacity(self.state.miners_by_key.len());
        for &id in self.state.miners_by_key.values() {
            if let Some(miner) = &self.state.miners[id].object
                && let Some(registration) = self.state.registrations.find(&miner.registration)
            {
                registered.push((id, registration));
                let drain_timeout = drain_timeouts.entry(registration).or_default();
                *drain_timeout = miner.drain_timeout.max(*drain_timeout);
            }
        }
        for &id in self.state.registrations_by_key.values() {
            for &miner in self.state.registrations[id].miners.keys() {
                if let Some(miner) = &self.state.miners[miner].object {
                    let drain_timeout = drain_timeouts.entry(id).or_default();
                    *drain_timeout = miner.drain_timeout.max(*drain_timeout);
                }
            }
        }
        let registrations: Vec<_> = self.state.registrations_by_key.values().copied().collect();
        for &id in &registrations {
            let Some(object) = self.state.registrations[id].object.clone() else {
                continue;
            };
            let drain_timeout = drain_timeouts.get(&id).copied().unwrap_or_default();
            let verdict = self.judge_registration(id, &object, drain_timeout);
            self.add_to_owner(id, &object, &verdict);
            self.verdicts.insert(id, verdict);
        }
        self.judge_owners(&drain_timeouts);
        for (miner, registration) in registered {
            let rank = self.verdicts.get(&registration).map_or(0, |verdict| verdict.rank);
            self.ranks.insert(miner, rank);
        }
    }

    fn judge_registration(
        &mut self,
        id: Id<RegistrationRow>,
        object: &Registration,
        drain_timeout: Duration,
    ) -> RegistrationVerdict {
        let class = self.state.classes.get(&object.class);
        let (class_name, registration) = (object.class.clone(), object.key.clone());
        let mut verdict = RegistrationVerdict {
            state: Reason::Active { until: object.valid_until },
            stop: None,
            held_back: None,
            rank: class.map_or(0, |class| class.rank),
            until: object.valid_until,
            gpus: object.limits.gpus.unwrap_or(u32::MAX),
            watts: object.limits.watts.unwrap_or(u64::MAX),
            energy_watts: u64::MAX,
            owner: object.owner.clone(),
            in_force: false,
        };
        let assignment = class.map(|class| class.assignment);
        let off_list = match assignment {
            None => Some(Reason::ClassUnknown { class: class_name }),
            Some(ClassAssignment::Prohibited) => {
                Some(Reason::ClassProhibited { class: class_name })
            }
            Some(ClassAssignment::Guaranteed | ClassAssignment::IdleOnly) => None,
        };
        let inactive = match object.approval {
            _ if object.problem.is_some() => {
                object.problem.clone().map(|problem| Reason::Invalid { problem })
            }
            Approval::Pending => Some(Reason::AwaitingApproval { registration }),
            Approval::Voided => {
                let change = object.voided_by.clone();
                let change = change.unwrap_or_else(|| "it was edited".into());
                Some(Reason::ApprovalVoided { registration, change })
            }
            approval @ (Approval::Rejected | Approval::Suspended | Approval::Revoked) => {
                Some(Reason::NotApproved { registration, approval })
            }
            Approval::Unsigned => Some(Reason::SignatureMissing { registration }),
            Approval::WronglySigned => Some(Reason::SignatureInvalid { registration }),
            Approval::Approved if self.now < object.valid_from => {
                self.wake(object.valid_from);
                Some(Reason::NotYetValid { registration, from: object.valid_from })
            }
            // Miners must have stopped by the end, so they are asked to stop a drain earlier.
            Approval::Approved if self.now >= object.valid_until - drain_timeout => {
                Some(Reason::Expired { registration, at: object.valid_until })
            }
            Approval::Approved => {
                self.wake(object.valid_until - drain_timeout);
                None
            }
        };
        let ended = self.now < object.valid_from || self.now >= object.valid_until;
        verdict.in_force = off_list.is_none()
            && object.problem.is_none()
            && object.approval == Approval::Approved
            && !ended;
        if verdict.in_force && object.owner.is_some() {
            self.wake(object.valid_until);
        }
        // The positive list first: a class that is not on it stops approved registrations too.
        if let Some(reason) = off_list {
            verdict.state = reason.clone();
            verdict.stop = Some((ReclaimReason::ClassInactive, reason));
        } else if let Some(reason) = inactive {
            verdict.state = reason.clone();
            verdict.stop = Some((ReclaimReason::RegistrationInactive, reason));
        } else if assignment == Some(ClassAssignment::Guaranteed) {
            // In force, but for work that requests its GPUs itself.
            let reason = Reason::ClassNotForMining { class: object.class.clone() };
            verdict.stop = Some((ReclaimReason::ClassInactive, reason));
        } else {
            let watts = self.registration_watts(id, Counted::All, Declared::default());
            let energy = self.energy(object.limits.energy_mj, object.usage, watts, drain_timeout);
            verdict.apply(&energy, &object.key);
            if object.reading == Reading::Partial
                && verdict.stop.is_none()
                && verdict.held_back.is_none()
                && let Some(Usage { metered_until, .. }) = object.usage
            {
                let registration = object.key.clone();
                verdict.held_back = Some(Reason::MeterStale { registration, metered_until });
            }
            let registration = object.key.clone();
            match object.mirrored {
                _ if verdict.stop.is_some() => {}
                Mirrored::Holds => {}
                Mirrored::Pending => {
                    verdict.held_back = Some(Reason::MirrorPending { registration });
                }
                Mirrored::Full => verdict.held_back = Some(Reason::MirrorFull { registration }),
            }
        }
        verdict
    }

    fn add_to_owner(
        &mut self,
        id: Id<RegistrationRow>,
        object: &Registration,
        verdict: &RegistrationVerdict,
    ) {
        let Some(owner) = &object.owner else { return };
        let holds = !self.state.registrations[id].leases.is_empty();
        let entry = self.owners.entry(owner.clone()).or_insert_with(OwnerVerdict::new);
        entry.all.push(id);
        if verdict.in_force {
            let limits = &object.owner_limits;
            entry.gpus = entry.gpus.min(limits.gpus.unwrap_or(u32::MAX));
            entry.watts = entry.watts.min(limits.watts.unwrap_or(u64::MAX));
            if let Some(limit_mj) = limits.energy_mj {
                let limit = OwnerEnergy { limit_mj, usage: None };
                let lowest = entry.energy.entry(object.energy_period).or_insert(limit);
                lowest.limit_mj = limit_mj.min(lowest.limit_mj);
            }
        }
        if verdict.in_force || holds {
            entry.registrations.push(id);
        }
    }

    /// Returns what all registrations of an owner have used in a period; `None` without a reading of
    /// each that holds anything.
    fn usage_of(&self, owner: &OwnerVerdict, period: EnergyPeriod) -> Option<Usage> {
        let (mut used_mj, mut deleted_mj) = (0_u64, 0_u64);
        // The oldest reading of those with leases, whose use grows, and the newest of the others.
        let (mut metered_until, mut read_at) = (None, None);
        for &id in &owner.all {
            let Some(object) = &self.state.registrations[id].object else { continue };
            deleted_mj = deleted_mj.max(object.deleted_in(period));
            let holds = !self.state.registrations[id].leases.is_empty();
            let Some(usage) = object.usage_in(period) else {
                if holds {
                    return None;
                }
                continue;
            };
            used_mj = used_mj.saturating_add(usage.millijoules);
            let read = Some(usage.metered_until);
            if holds {
                metered_until = metered_until.into_iter().chain(read).min();
            } else if self.verdicts.get(&id).is_some_and(|verdict| verdict.in_force) {
                read_at = read_at.max(read);
            }
        }
        let metered_until = metered_until.or(read_at)?;
        let millijoules = used_mj.saturating_add(deleted_mj);
        Some(Usage { metered_until, millijoules, peak_watts: None })
    }

    /// Applies the energy limits of owners to all their registrations.
    fn judge_owners(&mut self, drain_timeouts: &FxHashMap<Id<RegistrationRow>, Duration>) {
        let mut owners: Vec<_> = self.owners.keys().cloned().collect();
        owners.sort();
        for name in owners {
            let owner = self.owners[&name].clone();
            let drain_timeout =
                owner.registrations.iter().filter_map(|id| drain_timeouts.get(id)).max();
            let drain_timeout = drain_timeout.copied().unwrap_or_default();
            let watts = owner
                .registrations
                .iter()
                .map(|&id| self.registration_watts(id, Counted::All, Declared::default()));
            let watts = watts.fold(0, u64::saturating_add);
            for (&period, &OwnerEnergy { limit_mj, .. }) in &owner.energy {
                let usage = self.usage_of(&owner, period);
                let energy = self.energy(Some(limit_mj), usage, watts, drain_timeout);
                self.apply_to_owner(&name, period, usage, &energy);
            }
        }
    }

    /// Applies an energy limit to all registrations of an owner.
    fn apply_to_owner(
        &mut self,
        name: &Name,
        period: EnergyPeriod,
        usage: Option<Usage>,
        energy: &Energy,
    ) {
        let Some(owner) = self.owners.get_mut(name) else { return };
        if let Some(limit) = owner.energy.get_mut(&period) {
            limit.usage = usage;
        }
        if let Energy::Allows(watts) = energy {
            owner.energy_watts = owner.energy_watts.min(*watts);
        }
        for &id in &owner.registrations {
            let row = &self.state.registrations[id];
            let read = |object: &Registration| object.usage_in(period).is_some();
            let energy = match energy {
                // One that was never read starts nothing, and holds up none of the others.
                _ if !row.object.as_ref().is_some_and(read) => &Energy::Unmetered,
                Energy::Allows(_) => continue,
                energy => energy,
            };
            if let Some(verdict) = self.verdicts.get_mut(&id)
                && verdict.stop.is_none()
            {
                verdict.apply(energy, self.state.registrations.name(id));
            }
        }
    }
}
