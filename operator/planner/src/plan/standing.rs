//! Whether a pool mines now, and whether a registration is in force.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::Margins;
use crate::explain::{Reason, ReclaimReason};
use crate::model::{
    Approval, ClassAssignment, MiningPolicy, Mirrored, Reading, Recording, Registration, Usage,
};
use crate::plan::Run;
use crate::state::table::Id;
use crate::state::{Held, PoolRow, RegistrationRow};
use crate::windows::WindowState;
use daylight_base::{Name, Timestamp};

/// How long it may take from the decision that a miner ends until it is told.
const REACTION: Duration = Duration::from_secs(2);

/// Whether a pool mines now.
#[derive(Clone, Debug)]
pub(super) enum Mode {
    /// Idle GPUs go to miners, until the moment given.
    Fill(Option<Timestamp>),
    /// Nothing is granted; the plan says what would be, until the moment given.
    Observe(Option<Timestamp>),
    /// Miners stay, none is added.
    Keep(Reason),
    Stop(ReclaimReason, Reason),
}

/// Whether a registration is in force, and what it still allows.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// `Active`, or why not.
    pub(super) state: Reason,
    /// Why its miners must stop now, if they must, and what they are told.
    pub(super) stop: Option<(ReclaimReason, Reason)>,
    /// Why none is added although those that run may stay.
    pub(super) held_back: Option<Reason>,
    /// The rank of its class.
    pub(super) rank: u32,
    pub(super) until: Timestamp,
    pub(super) gpus: u32,
    pub(super) watts: u64,
    /// Watts that the energy left carries.
    pub(super) energy_watts: u64,
    /// Watts that one replica was measured to draw at most.
    pub(super) peak_watts: u64,
    pub(super) owner: Option<Name>,
}

/// What the registrations of one owner hold together, and may hold.
#[derive(Clone, Debug)]
pub(super) struct OwnerStanding {
    pub(super) gpus: u32,
    pub(super) watts: u64,
    pub(super) energy_watts: u64,
    pub(super) registrations: Vec<Id<RegistrationRow>>,
    energy_mj: Option<u64>,
    used_mj: u64,
    metered_until: Option<Timestamp>,
    metered: bool,
    held: Held,
}

impl OwnerStanding {
    /// The energy limit, and what all registrations have used together, if all are metered.
    pub(super) fn energy(&self) -> Option<(u64, Usage)> {
        let metered_until = self.metered_until.filter(|_| self.metered)?;
        let usage = Usage { metered_until, millijoules: self.used_mj, peak_watts: None };
        Some((self.energy_mj?, usage))
    }
}

/// What a meter says of an energy limit.
enum Energy {
    NoLimit,
    Unmetered,
    Stale(Timestamp),
    /// Watts that may be granted up to; zero or more.
    Carries(u64),
    /// Miners must stop now.
    UsedUp,
}

impl Run<'_> {
    /// Finds out which pools mine and which registrations are in force.
    pub(super) fn judge(&mut self) {
        for id in self.state.pools_by_name.values().copied().collect::<Vec<_>>() {
            let mode = self.mode(id);
            self.modes.insert(id, mode);
        }
        let mut drains: FxHashMap<Id<RegistrationRow>, Duration> = FxHashMap::default();
        let mut registered = Vec::with_capacity(self.state.miners_by_key.len());
        for &id in self.state.miners_by_key.values() {
            if let Some(miner) = &self.state.miners[id].object
                && let Some(registration) = self.state.registrations.find(&miner.registration)
            {
                registered.push((id, registration));
                let drain = drains.entry(registration).or_default();
                *drain = miner.drain.max(*drain);
            }
        }
        let registrations: Vec<_> = self.state.registrations_by_key.values().copied().collect();
        for &id in &registrations {
            let Some(object) = self.state.registrations[id].object.clone() else {
                continue;
            };
            let drain = drains.get(&id).copied().unwrap_or_default();
            self.add_to_owner(id, &object);
            let standing = self.standing(id, &object, drain);
            self.standings.insert(id, standing);
        }
        self.judge_owners(&drains);
        for (miner, registration) in registered {
            let rank = self.standings.get(&registration).map_or(0, |standing| standing.rank);
            self.ranks.insert(miner, rank);
        }
    }

    fn mode(&mut self, id: Id<PoolRow>) -> Mode {
        let Some(pool) = self.state.pools[id].object.clone() else {
            return Mode::Stop(
                ReclaimReason::PoolDrained,
                Reason::PoolUnknown { pool: self.state.pools.name(id).clone() },
            );
        };
        if let Some(stop) = &self.state.emergency_stop {
            let reason = Reason::EmergencyStop { by: stop.by.clone(), reason: stop.reason.clone() };
            return Mode::Stop(ReclaimReason::EmergencyStop, reason);
        }
        if let Some(horizon) = pool.windows.horizon() {
            self.wake(horizon);
        }
        if pool.policy == MiningPolicy::Drain {
            let reason = Reason::Draining { pool: pool.name.clone() };
            return Mode::Stop(ReclaimReason::PoolDrained, reason);
        }
        if let Some(problem) = pool.problem {
            return Mode::Keep(Reason::Invalid { problem });
        }
        let until = match pool.windows.at(self.now) {
            WindowState::Closed(opens) => {
                opens.into_iter().for_each(|at| self.wake(at));
                return closed(pool.name, opens);
            }
            // Miners have stopped by the end, so they are told a drain earlier.
            WindowState::Open(Some(end)) if self.now >= end - pool.drain_timeout => {
                self.wake(end);
                let opens = match pool.windows.at(end) {
                    WindowState::Open(_) => Some(end),
                    WindowState::Closed(opens) => opens,
                };
                return closed(pool.name, opens);
            }
            WindowState::Open(until) => until,
        };
        if let Some(end) = until {
            self.wake(end - pool.drain_timeout);
        }
        if pool.recording == Recording::Full && pool.policy != MiningPolicy::Observe {
            return Mode::Keep(Reason::JournalFull { pool: pool.name });
        }
        match pool.policy {
            MiningPolicy::Fill => Mode::Fill(until),
            MiningPolicy::Observe => Mode::Observe(until),
            MiningPolicy::Hold | MiningPolicy::Drain => {
                Mode::Keep(Reason::Holding { pool: pool.name })
            }
        }
    }

    fn standing(
        &mut self,
        id: Id<RegistrationRow>,
        object: &Registration,
        drain: Duration,
    ) -> Standing {
        let class = self.state.classes.get(&object.class);
        let (class_name, registration) = (object.class.clone(), object.key.clone());
        let mut standing = Standing {
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
            // Miners have stopped by the end, so they are told a drain earlier.
            Approval::Approved if self.now >= object.valid_until - drain => {
                Some(Reason::Expired { registration, at: object.valid_until })
            }
            Approval::Approved => {
                self.wake(object.valid_until - drain);
                None
            }
        };
        if let Some(reason) = off_list {
            standing.state = reason.clone();
            standing.stop = Some((ReclaimReason::ClassInactive, reason));
        } else if let Some(reason) = inactive {
            standing.state = reason.clone();
            standing.stop = Some((ReclaimReason::RegistrationInactive, reason));
        } else if assignment == Some(ClassAssignment::Guaranteed) {
            // In force, for work that asks for its GPUs by itself.
            let reason = Reason::ClassNotForMining { class: object.class.clone() };
            standing.stop = Some((ReclaimReason::ClassInactive, reason));
        } else {
            let row = &self.state.registrations[id];
            let (held, replicas) = (row.held, row.leases.len() as u64);
            let watts = projected_watts(held.watts(), replicas, standing.peak_watts);
            let energy = self.energy(object.limits.energy_mj, object.usage, watts, drain);
            apply_energy(&mut standing, &energy, &object.key);
            if object.reading == Reading::Partial
                && standing.stop.is_none()
                && standing.held_back.is_none()
                && let Some(Usage { metered_until, .. }) = object.usage
            {
                let registration = object.key.clone();
                standing.held_back = Some(Reason::MeterStale { registration, metered_until });
            }
            let registration = object.key.clone();
            match object.mirrored {
                _ if standing.stop.is_some() => {}
                Mirrored::Holds => {}
                Mirrored::Pending => {
                    standing.held_back = Some(Reason::MirrorPending { registration });
                }
                Mirrored::Full => standing.held_back = Some(Reason::MirrorFull { registration }),
            }
        }
        standing
    }

    fn add_to_owner(&mut self, id: Id<RegistrationRow>, object: &Registration) {
        let Some(owner) = &object.owner else { return };
        let entry = self.owners.entry(owner.clone()).or_insert_with(|| OwnerStanding {
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
        entry.energy_mj = match (entry.energy_mj, limits.energy_mj) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
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

    /// Lets the energy limits of owners speak for all their registrations.
    fn judge_owners(&mut self, drains: &FxHashMap<Id<RegistrationRow>, Duration>) {
        let mut owners: Vec<_> = self.owners.keys().cloned().collect();
        owners.sort();
        for name in owners {
            let owner = self.owners[&name].clone();
            let usage = owner.metered_until.filter(|_| owner.metered).map(|metered_until| Usage {
                metered_until,
                millijoules: owner.used_mj,
                peak_watts: None,
            });
            let drain = owner.registrations.iter().filter_map(|id| drains.get(id)).max();
            let drain = drain.copied().unwrap_or_default();
            let energy = self.energy(owner.energy_mj, usage, owner.held.active_watts, drain);
            if let Energy::Carries(watts) = energy
                && let Some(owner) = self.owners.get_mut(&name)
            {
                owner.energy_watts = watts;
                continue;
            }
            for id in owner.registrations {
                let key = self.state.registrations.name(id).clone();
                if let Some(standing) = self.standings.get_mut(&id)
                    && standing.stop.is_none()
                {
                    apply_energy(standing, &energy, &key);
                }
            }
        }
    }

    /// What an energy limit allows: mining stops early enough that it could
    /// not pass the limit before it has stopped, the meter not having spoken
    /// again. Watts x seconds x 1000 are millijoules.
    fn energy(
        &mut self,
        limit: Option<u64>,
        usage: Option<Usage>,
        watts: u64,
        drain: Duration,
    ) -> Energy {
        let Some(limit) = limit else {
            return Energy::NoLimit;
        };
        let Some(usage) = usage else {
            return Energy::Unmetered;
        };
        let left = limit.saturating_sub(usage.millijoules);
        let age = self.now.since(usage.metered_until);
        let drain = drain + REACTION;
        let Margins { meter_stale, energy_ahead } = self.margins;
        let projected = |ahead: Duration| u128::from(watts) * (age + drain + ahead).as_millis();
        if let Some(lasts) = left.checked_div(watts) {
            if projected(Duration::ZERO) >= u128::from(left) {
                return Energy::UsedUp;
            }
            self.wake(usage.metered_until + Duration::from_millis(lasts) - drain);
        }
        if age > meter_stale {
            return Energy::Stale(usage.metered_until);
        }
        self.wake(usage.metered_until + meter_stale + Duration::from_millis(1));
        let horizon = (age + drain + energy_ahead).as_millis().max(1);
        Energy::Carries((u128::from(left) / horizon) as u64)
    }
}

/// The watts to project with: the larger of declared and measured.
pub(super) fn projected_watts(declared: u64, replicas: u64, peak_watts: u64) -> u64 {
    declared.max(peak_watts.saturating_mul(replicas))
}

fn peak_watts(usage: Option<Usage>) -> u64 {
    usage.and_then(|usage| usage.peak_watts).unwrap_or_default()
}

fn apply_energy(standing: &mut Standing, energy: &Energy, key: &Name) {
    let registration = key.clone();
    match energy {
        Energy::NoLimit => {}
        Energy::Carries(watts) => standing.energy_watts = *watts,
        Energy::Unmetered => {
            standing.state = Reason::MeterUnavailable { registration };
            standing.stop = Some((ReclaimReason::EnergyBudget, standing.state.clone()));
        }
        Energy::UsedUp => {
            standing.state = Reason::EnergyLimit { registration };
            standing.stop = Some((ReclaimReason::EnergyBudget, standing.state.clone()));
        }
        Energy::Stale(metered_until) => {
            standing.held_back =
                Some(Reason::MeterStale { registration, metered_until: *metered_until });
        }
    }
}

fn closed(pool: Name, opens: Option<Timestamp>) -> Mode {
    Mode::Stop(ReclaimReason::WindowClosed, Reason::WindowClosed { pool, opens })
}
