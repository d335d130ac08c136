//! Verdicts on registrations and owners: whether a registration is in force, and what it and its
//! owner still allow.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::explain::{Reason, ReclaimReason};
use crate::model::{Approval, ClassAssignment, Mirrored, Reading, Registration, Usage};
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
    pub(super) energy_mj: Option<u64>,
    used_mj: u64,
    deleted_mj: u64,
    /// The oldest reading of those with leases, whose use grows.
    metered_until: Option<Timestamp>,
    /// The newest reading of the others, which use nothing.
    read_at: Option<Timestamp>,
    /// Some lease has no reading.
    unmetered: bool,
}

impl OwnerVerdict {
    fn new() -> Self {
        Self {
            gpus: u32::MAX,
            watts: u64::MAX,
            energy_watts: u64::MAX,
            registrations: Vec::new(),
            energy_mj: None,
            used_mj: 0,
            deleted_mj: 0,
            metered_until: None,
            read_at: None,
            unmetered: false,
        }
    }

    /// Returns the usage of all registrations together; `None` without a reading of each that holds
    /// anything.
    pub(super) fn usage(&self) -> Option<Usage> {
        let metered_until = self.metered_until.or(self.read_at).filter(|_| !self.unmetered)?;
        let millijoules = self.used_mj.saturating_add(self.deleted_mj);
        Some(Usage { metered_until, millijoules, peak_watts: None })
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
        entry.used_mj = entry.used_mj.saturating_add(object.usage.map_or(0, |it| it.millijoules));
        entry.deleted_mj = entry.deleted_mj.max(object.deleted_mj);
        if verdict.in_force {
            let limits = &object.owner_limits;
            entry.gpus = entry.gpus.min(limits.gpus.unwrap_or(u32::MAX));
            entry.watts = entry.watts.min(limits.watts.unwrap_or(u64::MAX));
            entry.energy_mj = entry.energy_mj.into_iter().chain(limits.energy_mj).min();
        }
        if verdict.in_force || holds {
            entry.registrations.push(id);
        }
        match object.usage {
            None => entry.unmetered |= holds,
            Some(Usage { metered_until, .. }) if holds => {
                entry.metered_until = entry.metered_until.into_iter().chain([metered_until]).min();
            }
            Some(Usage { metered_until, .. }) if verdict.in_force => {
                entry.read_at = entry.read_at.max(Some(metered_until));
            }
            Some(_) => {}
        }
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
            let energy = self.energy(owner.energy_mj, owner.usage(), watts, drain_timeout);
            if let Energy::Allows(watts) = energy
                && let Some(owner) = self.owners.get_mut(&name)
            {
                owner.energy_watts = watts;
            }
            for id in owner.registrations {
                let key = self.state.registrations.name(id).clone();
                let read = |object: &Registration| object.usage.is_some();
                let read = self.state.registrations[id].object.as_ref().is_some_and(read);
                // One that was never read starts nothing, and holds up none of the others.
                let energy = match &energy {
                    Energy::NoLimit => continue,
                    _ if !read => &Energy::Unmetered,
                    Energy::Allows(_) => continue,
                    energy => energy,
                };
                if let Some(verdict) = self.verdicts.get_mut(&id)
                    && verdict.stop.is_none()
                {
                    verdict.apply(energy, &key);
                }
            }
        }
    }
}
