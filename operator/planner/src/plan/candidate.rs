//! Miners that may get another replica, and the limits of their registration and its owner.

use daylight_base::Name;

use crate::explain::Reason;
use crate::model::Miner;
use crate::plan::Run;
use crate::plan::modes::Mode;
use crate::plan::search::When;
use crate::state::table::Id;
use crate::state::{Declared, MinerRow, PoolRow, RegistrationRow};

/// A miner that may get another replica, in one of its pools.
pub(super) struct MinerCandidate {
    pub(super) miner: Miner,
    pub(super) registration: Id<RegistrationRow>,
    pub(super) pools: Vec<Id<PoolRow>>,
}

impl MinerCandidate {
    /// Returns what one more replica declares.
    pub(super) fn declared(&self) -> Declared {
        Declared { replicas: 1, watts: self.miner.watts }
    }
}

impl Run<'_> {
    /// Returns the miner as a candidate for one more replica.
    ///
    /// # Errors
    ///
    /// The reason why it gets none; `None` if it needs none.
    pub(super) fn candidate(&self, id: Id<MinerRow>) -> Result<MinerCandidate, Option<Reason>> {
        let row = &self.state.miners[id];
        let Some(miner) = &row.object else {
            return Err(None);
        };
        if let Some(problem) = miner.problem.clone() {
            return Err(Some(Reason::Invalid { problem }));
        }
        let registration = miner.registration.clone();
        let found = self.state.registrations.find(&registration);
        let Some((found, object, verdict)) = found.and_then(|id| {
            let object = self.state.registrations[id].object.as_ref()?;
            Some((id, object, self.verdicts.get(&id)?))
        }) else {
            return Err(Some(Reason::RegistrationMissing { registration }));
        };
        if let Some((_, reason)) = &verdict.stop {
            return Err(Some(reason.clone()));
        }
        if miner.replicas == 0 {
            return Err(Some(Reason::NothingWanted));
        }
        let registered = |name: &&Name| object.pools.contains(*name);
        let wanted = if miner.pools.is_empty() { &object.pools } else { &miner.pools };
        let pools: Vec<_> = wanted
            .iter()
            .filter(registered)
            .filter_map(|name| self.state.pools_by_name.get(name).copied())
            .collect();
        if pools.is_empty() {
            return Err(Some(Reason::PoolNotRegistered { registration }));
        }
        // Before the reasons that hold a miner back: one that has all it wants waits for nothing.
        if row.active() >= miner.replicas {
            return Err(None);
        }
        if let Some(reason) = &verdict.held_back {
            return Err(Some(reason.clone()));
        }
        let open = |pool: &Id<PoolRow>| {
            matches!(self.modes.get(pool), Some(Mode::Fill(_) | Mode::Observe(_)))
        };
        if !pools.iter().any(open) {
            let reason = pools.iter().find_map(|pool| match self.modes.get(pool)? {
                Mode::Keep(reason) | Mode::Stop(_, reason) => Some(reason.clone()),
                Mode::Fill(_) | Mode::Observe(_) => None,
            });
            return Err(reason);
        }
        // Replicas that are stopping still hold their GPUs, and count.
        if row.held >= miner.replicas {
            return Err(Some(Reason::Stopping { replicas: row.draining }));
        }
        Ok(MinerCandidate { miner: miner.clone(), registration: found, pools })
    }

    /// Checks that a registration and its owner allow one more replica of a miner.
    pub(super) fn within_registration(
        &self,
        miner: Id<MinerRow>,
        candidate: &MinerCandidate,
        when: When,
    ) -> Result<(), Reason> {
        let Some(verdict) = self.verdicts.get(&candidate.registration) else {
            return Ok(());
        };
        let held_gpus =
            |id: Id<RegistrationRow>| when.counted().gpus(&self.state.registrations[id].held);
        let gpus = candidate.miner.shape.gpus;
        let more = candidate.declared();
        let registration = candidate.miner.registration.clone();
        if held_gpus(candidate.registration).saturating_add(gpus) > verdict.gpus {
            let limit = verdict.gpus;
            return Err(Reason::RegistrationGpuLimit { registration, limit });
        }
        let watts = self.registration_watts(candidate.registration, when.counted(), more);
        if watts > verdict.watts {
            let watts = verdict.watts;
            return Err(Reason::RegistrationPowerLimit { registration, watts });
        }
        if watts > verdict.energy_watts {
            return Err(Reason::EnergyLimit { registration });
        }
        if let Some(owner) = verdict.owner.as_ref().and_then(|owner| self.owners.get(owner)) {
            let (mut owner_gpus, mut owner_watts) = (gpus, 0_u64);
            for &id in &owner.registrations {
                let more = if id == candidate.registration { more } else { Declared::default() };
                let watts = self.registration_watts(id, when.counted(), more);
                owner_watts = owner_watts.saturating_add(watts);
                owner_gpus = owner_gpus.saturating_add(held_gpus(id));
            }
            if owner_gpus > owner.gpus {
                return Err(Reason::OwnerGpuLimit { limit: owner.gpus });
            }
            if owner_watts > owner.watts {
                return Err(Reason::OwnerPowerLimit { watts: owner.watts });
            }
            if owner_watts > owner.energy_watts {
                return Err(Reason::EnergyLimit { registration });
            }
        }
        // Miners of one registration may be of several pools; the miner's own
        // replicas are counted by its pods, stopping ones included.
        debug_assert!(self.state.miners[miner].held < candidate.miner.replicas);
        Ok(())
    }
}
