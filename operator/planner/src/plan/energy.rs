//! Energy limits: how much power the remaining energy allows until the meter reports again.

use std::time::Duration;

use daylight_base::Timestamp;

use crate::Margins;
use crate::model::Usage;
use crate::plan::Run;

/// Longest time from the decision that a miner stops until its pod is deleted: the pod mines on for
/// so long before its drain begins.
const REACTION: Duration = Duration::from_secs(2);

/// The consequence of an energy limit, given the meter's last reading.
pub(super) enum Energy {
    NoLimit,
    Unmetered,
    Stale(Timestamp),
    /// Miners may draw this many watts in total, possibly 0.
    Allows(u64),
    /// Miners must stop now.
    UsedUp,
}

impl Run<'_> {
    /// Evaluates an energy limit for miners that draw `watts`.
    ///
    /// Mining stops so early that it cannot exceed the limit before it has stopped, even if the
    /// meter never reports again. Watts x milliseconds are millijoules.
    pub(super) fn energy(
        &mut self,
        limit: Option<u64>,
        usage: Option<Usage>,
        watts: u64,
        drain_timeout: Duration,
    ) -> Energy {
        let Some(limit) = limit else {
            return Energy::NoLimit;
        };
        let Some(usage) = usage else {
            return Energy::Unmetered;
        };
        let left = limit.saturating_sub(usage.millijoules);
        let age = self.now.since(usage.metered_until);
        let stopping = drain_timeout + REACTION;
        let Margins { meter_stale, energy_ahead } = self.margins;
        let projected = |ahead: Duration| u128::from(watts) * (age + stopping + ahead).as_millis();
        if let Some(lasts) = left.checked_div(watts) {
            if projected(Duration::ZERO) >= u128::from(left) {
                return Energy::UsedUp;
            }
            self.wake(usage.metered_until + Duration::from_millis(lasts) - stopping);
        }
        if age > meter_stale {
            return Energy::Stale(usage.metered_until);
        }
        // The reading is stale from the first moment after `meter_stale`.
        self.wake(usage.metered_until + meter_stale + Duration::from_millis(1));
        let horizon = (age + stopping + energy_ahead).as_millis().max(1);
        let watts = u128::from(left) / horizon;
        // What was measured may be less than the truth.
        let watts = if usage.peak_watts.is_some() { watts * 5 / 6 } else { watts };
        Energy::Allows(watts as u64)
    }
}

/// Returns the watts to project with: the larger of declared and measured.
pub(super) fn projected_watts(declared: u64, replicas: u64, peak_watts: u64) -> u64 {
    declared.max(peak_watts.saturating_mul(replicas))
}

/// Returns the highest measured watts of one replica; 0 if not measured.
pub(super) fn peak_watts(usage: Option<Usage>) -> u64 {
    usage.and_then(|usage| usage.peak_watts).unwrap_or_default()
}
