//! Safety margins around energy limits.

use std::time::Duration;

/// Safety margins around energy limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margins {
    /// Age of a meter's reading from which no more miners start.
    pub meter_stale: Duration,
    /// Time for which the remaining energy must suffice for all miners, if one more is granted.
    pub energy_ahead: Duration,
}

impl Default for Margins {
    fn default() -> Self {
        // Readings arrive far more often, so five minutes without one mean a failure. Ten minutes
        // ahead keep a limit from being approached by miners that would stop again at once.
        Self { meter_stale: Duration::from_mins(5), energy_ahead: Duration::from_mins(10) }
    }
}
