//! Registrations, with their approval, limits and metered usage.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};

/// A registered activity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// `namespace/name`.
    pub key: Name,
    /// The owner's pseudonym; owner limits hold over all its registrations.
    pub owner: Option<Name>,
    /// The class of the activity.
    pub class: Name,
    pub pools: Vec<Name>,
    pub valid_from: Timestamp,
    pub valid_until: Timestamp,
    pub approval: Approval,
    /// What changed after the approval and voids it, as the subject and predicate of a clause.
    #[serde(default)]
    pub voided_by: Option<Arc<str>>,
    /// Limits over all miners of this registration.
    pub limits: Limits,
    /// Limits over all registrations of the owner.
    pub owner_limits: Limits,
    /// Metered in the current period; `None` without a meter.
    pub usage: Option<Usage>,
    /// Period of the energy limits above, of `usage` and of `deleted_mj`.
    #[serde(default)]
    pub energy_period: EnergyPeriod,
    /// Use in the periods of the owner's other limits, which other registrations set.
    #[serde(default)]
    pub other_periods: Vec<PeriodUse>,
    /// Completeness of `usage`, apart from the consumption of running miners.
    #[serde(default)]
    pub reading: Reading,
    /// End of the energy limit's period, if there is a limit.
    #[serde(default)]
    pub energy_resets: Option<Timestamp>,
    /// Millijoules of the period that deleted registrations of the same owner have used.
    #[serde(default)]
    pub deleted_mj: u64,
    /// State of the registration in admission's mirror.
    #[serde(default)]
    pub mirrored: Mirrored,
    /// One sentence about an invalid object.
    pub problem: Option<Arc<str>>,
}

impl Registration {
    /// Returns the use in a period; `None` if it is not metered.
    pub fn usage_in(&self, period: EnergyPeriod) -> Option<Usage> {
        if period == self.energy_period {
            return self.usage;
        }
        let millijoules = self.other_period(period)?.millijoules;
        self.usage.map(|usage| Usage { millijoules, ..usage })
    }

    /// Returns the millijoules of a period that deleted registrations of the same owner have used.
    pub fn deleted_in(&self, period: EnergyPeriod) -> u64 {
        if period == self.energy_period {
            return self.deleted_mj;
        }
        self.other_period(period).map_or(0, |other| other.deleted_mj)
    }

    /// Returns the end of a period, if use is counted in it.
    pub fn resets_of(&self, period: EnergyPeriod) -> Option<Timestamp> {
        if period == self.energy_period {
            return self.energy_resets;
        }
        self.other_period(period).map(|other| other.resets)
    }

    fn other_period(&self, period: EnergyPeriod) -> Option<&PeriodUse> {
        self.other_periods.iter().find(|other| other.period == period)
    }
}

/// The calendar period of an energy limit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum EnergyPeriod {
    Day,
    Week,
    #[default]
    Month,
    Year,
}

/// Energy that was used in a period of another limit than the registration's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodUse {
    pub period: EnergyPeriod,
    /// Upper bound of the registration's use up to `metered_until` of its usage.
    pub millijoules: u64,
    /// Millijoules that deleted registrations of the same owner have used.
    pub deleted_mj: u64,
    /// End of the period.
    pub resets: Timestamp,
}

/// Completeness of a meter's reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reading {
    #[default]
    Counts,
    /// Miners may have ended unobserved since the reading, so no more are started.
    Partial,
}

/// State of a registration in the ConfigMap by which admission knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mirrored {
    #[default]
    Holds,
    Pending,
    /// The ConfigMap has no room left.
    Full,
}

/// Decision of the compliance officer on a registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Approval {
    #[default]
    Pending,
    Approved,
    /// Approved, then the spec was edited.
    Voided,
    /// Approved without the authority's signature, which is required.
    Unsigned,
    /// Approved with a signature that is not the authority's, or is for another content.
    WronglySigned,
    Rejected,
    Suspended,
    Revoked,
}

/// Limits of a registration or an owner; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// GPUs held at once.
    pub gpus: Option<u32>,
    /// Watts at once.
    pub watts: Option<u64>,
    /// Millijoules in a period (1 kWh = 3,600,000,000 mJ).
    pub energy_mj: Option<u64>,
}

/// Metered energy of a registration in the current period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Everything up to this moment is counted.
    pub metered_until: Timestamp,
    /// Upper bound of the period's consumption so far.
    pub millijoules: u64,
    /// Mean power that a replica drew at least, if measured; up to a sixth below the truth.
    pub peak_watts: Option<u64>,
}

impl Usage {
    /// The power that a replica may have drawn as far as it was measured, in watts; 0 if it was not.
    pub fn possible_watts(&self) -> u64 {
        let peak = self.peak_watts.unwrap_or_default();
        peak.saturating_add(peak / 5)
    }
}
