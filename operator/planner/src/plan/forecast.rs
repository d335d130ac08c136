//! Limits that are exceeded, and the forecast of energy limits at the present rate.

use std::time::Duration;

use crate::explain::{Forecast, Reason};
use crate::model::{EnergyPeriod, Registration, Usage};
use crate::plan::Run;
use crate::plan::power::Counted;
use crate::plan::verdicts::{OwnerEnergy, OwnerVerdict, RegistrationVerdict};
use crate::state::table::Id;
use crate::state::{Declared, RegistrationRow};
use daylight_base::Timestamp;

impl Run<'_> {
    /// Returns a limit of the registration or its owner that is exceeded now, for instance after it
    /// was lowered.
    pub(super) fn over_limit(
        &self,
        object: &Registration,
        verdict: &RegistrationVerdict,
    ) -> Option<Reason> {
        let registration = object.key.clone();
        let id = self.state.registrations_by_key.get(&object.key)?;
        let held = self.state.registrations[*id].held;
        if held.gpus() > verdict.gpus {
            return Some(Reason::RegistrationGpuLimit { registration, limit: verdict.gpus });
        }
        if self.present_watts(*id) > verdict.watts {
            return Some(Reason::RegistrationPowerLimit { registration, watts: verdict.watts });
        }
        if let (Some(limit), Some(usage)) = (object.limits.energy_mj, object.usage)
            && usage.millijoules > limit
        {
            return Some(Reason::EnergyLimit { registration });
        }
        let owner = self.owners.get(object.owner.as_ref()?)?;
        let held = owner.registrations.iter().map(|id| self.state.registrations[*id].held);
        if held.map(|held| u64::from(held.gpus())).sum::<u64>() > owner.gpus.into() {
            return Some(Reason::OwnerGpuLimit { limit: owner.gpus });
        }
        if self.present_watts_of(owner) > owner.watts {
            return Some(Reason::OwnerPowerLimit { watts: owner.watts });
        }
        None
    }

    /// Forecasts when the first of the energy limits is reached at the present rate, if that is in
    /// its present period.
    pub(super) fn forecast(&self, object: &Registration) -> Option<Forecast> {
        let id = *self.state.registrations_by_key.get(&object.key)?;
        let own = object.limits.energy_mj.zip(object.usage).and_then(|(limit, usage)| {
            let watts = self.present_watts(id);
            let at = met_at(limit, usage, watts)?;
            Some((object.energy_period, Forecast { at, watts, limit_mj: limit, of_owner: false }))
        });
        let owner = object.owner.as_ref().and_then(|name| self.owners.get(name));
        let limited = owner.filter(|owner| !owner.energy.is_empty());
        let owners = limited.into_iter().flat_map(|owner| {
            let watts = self.present_watts_of(owner);
            owner.energy.iter().filter_map(move |(&period, &OwnerEnergy { limit_mj, usage })| {
                let at = met_at(limit_mj, usage?, watts)?;
                Some((period, Forecast { at, watts, limit_mj, of_owner: true }))
            })
        });
        let is_ahead = |(period, one): &(EnergyPeriod, Forecast)| {
            object.resets_of(*period).is_some_and(|resets| one.at < resets)
        };
        let first = own.into_iter().chain(owners).filter(is_ahead).min_by_key(|(_, one)| one.at);
        first.map(|(_, one)| one)
    }

    fn present_watts(&self, id: Id<RegistrationRow>) -> u64 {
        self.registration_watts(id, Counted::All, Declared::default())
    }

    fn present_watts_of(&self, owner: &OwnerVerdict) -> u64 {
        let watts = owner.registrations.iter().map(|&id| self.present_watts(id));
        watts.fold(0, u64::saturating_add)
    }
}

fn met_at(limit: u64, usage: Usage, watts: u64) -> Option<Timestamp> {
    // Watts x milliseconds are millijoules.
    let lasts = limit.saturating_sub(usage.millijoules).checked_div(watts)?;
    Some(usage.metered_until + Duration::from_millis(lasts))
}
