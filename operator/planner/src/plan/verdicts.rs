//! Verdicts on registrations and owners: whether a registration is in force, and what it and its
//! owner still allow.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::explain::{Reason, ReclaimReason};
use crate::model::{Approval, ClassAssignment, Mirrored, Reading, Registration, Usage};
use crate::plan::Run;
use crate::plan::energy::{Energy, peak_watts, projected_watts};
use crate::state::table::Id;
use crate::state::{Held, RegistrationRow};
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
    /// Highest measured watts of one replica; 0 if not measured.
    pub(super) peak_watts: u64,
    pub(super) owner: Option<Name>,
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

/// Sum of what the registrations of one owner hold, and what they may hold together.
#[derive(Clone, Debug)]
pub(super) struct OwnerVerdict {
    pub(super) gpus: u32,
    pub(super) watts: u64,
    pub(super) energy_watts: u64,
    pub(super) registrations: Vec<Id<RegistrationRow>>,
    pub(super) energy_mj: Option<u64>,
    used_mj: u64,
    metered_until: Option<Timestamp>,
    metered: bool,
    held: Held,
}

impl OwnerVerdict {
    /// Usage of all registrations together; `None` unless all of them are metered.
    pub(super) fn usage(&self) -> Option<Usage> {
        let metered_until = self.metered_until.filter(|_| self.metered)?;
        Some(Usage { metered_until, millijoules: self.used_mj, peak_watts: None })
    }
}

impl Run<'_> {
    /// Determines which pools mine, which registrations are in force, and the miners' ranks.
    pub(super) fn judge(&mut self) {
        for id in self.state.pools_by_name.values().copied().collect::<Vec<_>>() {
            let mode = self.mode(id);
            self.modes.insert(id, mode);
        }
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
        let registrations: Vec<_> = self.state.registrations_by_key.values().copied().collect();
        for &id in &registrations {
            let Some(object) = self.state.registrations[id].object.clone() else {
                continue;
            };
            let drain_timeout = drain_timeouts.get(&id).copied().unwrap_or_default();
            self.add_to_owner(id, &object);
            let verdict = self.judge_registration(id, &object, drain_timeout);
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
            peak_watts: peak_watts(object.usage),
            owner: object.owner.clone(),
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
            Approval::Voided => Some(Reason::ApprovalVoided { registration }),
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
            let row = &self.state.registrations[id];
            let (held, replicas) = (row.held, row.leases.len() as u64);
            let watts = projected_watts(held.watts(), replicas, verdict.peak_watts);
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

    fn add_to_owner(&mut self, id: Id<RegistrationRow>, object: &Registration) {
        let Some(owner) = &object.owner else { return };
        let entry = self.owners.entry(owner.clone()).or_insert_with(|| OwnerVerdict {
            gpus: u32::MAX,
            watts: u64::MAX,
            energy_watts: u64::MAX,
            registrations: Vec::new(),
            energy_mj: None,
            used_mj: 0,
            metered_until: None,
            metered: true,
            held: Held::default(),
        });
        let limits = &object.owner_limits;
        entry.gpus = entry.gpus.min(limits.gpus.unwrap_or(u32::MAX));
        entry.watts = entry.watts.min(limits.watts.unwrap_or(u64::MAX));
        entry.energy_mj = entry.energy_mj.into_iter().chain(limits.energy_mj).min();
        match object.usage {
            None => entry.metered = false,
            Some(usage) => {
                entry.used_mj = entry.used_mj.saturating_add(usage.millijoules);
                let until = usage.metered_until;
                entry.metered_until = Some(entry.metered_until.map_or(until, |t| t.min(until)));
            }
        }
        let row = &self.state.registrations[id];
        let replicas = row.leases.len() as u64;
        let watts = projected_watts(row.held.watts(), replicas, peak_watts(object.usage));
        entry.held.active_gpus += row.held.active_gpus;
        entry.held.draining_gpus += row.held.draining_gpus;
        entry.held.active_watts += watts;
        entry.registrations.push(id);
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
            let energy =
                self.energy(owner.energy_mj, owner.usage(), owner.held.active_watts, drain_timeout);
            if let Energy::Allows(watts) = energy
                && let Some(owner) = self.owners.get_mut(&name)
            {
                owner.energy_watts = watts;
                continue;
            }
            for id in owner.registrations {
                let key = self.state.registrations.name(id).clone();
                if let Some(verdict) = self.verdicts.get_mut(&id)
                    && verdict.stop.is_none()
                {
                    verdict.apply(&energy, &key);
                }
            }
        }
    }
}
