//! Settings of the meter.

use daylight_base::Timestamp;

use crate::counts::Counts;

/// Settings of the meter. Times are in milliseconds, power in milliwatts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Maximum age of a value in an exporter's answer.
    pub refresh_ms: u64,
    /// Time without a new reading after which a gap is recorded.
    pub unread_ms: u64,
    /// All nodes' entries are written at the multiples of this since 1970, and one at once if something
    /// requires it.
    pub book_every_ms: u64,
    /// Time by which the horizons of [`Meter::advance`](crate::Meter::advance) are older than what is
    /// observed.
    pub lag_ms: u64,
    /// Maximum power of a device whose own limit is unknown.
    pub limit_mw: u64,
    /// Power of an idle device; while no lease holds it, energy above this is unexplained.
    pub idle_mw: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // dcgm-exporter collects every 30 s (`--collect-interval`).
            refresh_ms: 30_000,
            // Four refreshes: one late answer is not a gap.
            unread_ms: 120_000,
            book_every_ms: 60_000,
            lag_ms: 1_500,
            // Above the limit of the largest boards on sale: a bound must not be too low.
            limit_mw: 1_500_000,
            idle_mw: 150_000,
        }
    }
}

/// Inputs of every booking.
pub(crate) struct Terms<'a> {
    pub(crate) config: &'a Config,
    pub(crate) counts: &'a Counts,
}

impl Terms<'_> {
    /// Returns the start of the count to which energy is added that a registration drew until
    /// `until`.
    pub(crate) fn count_of(&self, registration: &str, until: Timestamp) -> Timestamp {
        self.counts.get(registration).map_or_else(Timestamp::default, |it| it.start_of(until))
    }
}
