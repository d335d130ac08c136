//! Settings of the meter.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};

/// What the meter goes by. Times in milliseconds, power in milliwatts.
#[derive(Clone, Debug)]
pub struct Config {
    /// How old a figure may be that an exporter gives: dcgm-exporter refreshes every 30 s.
    pub refresh_ms: u64,
    /// For how long a device may bring no new reading before that is a gap.
    pub unread_ms: u64,
    /// How often a node's books are written when nothing asks for it sooner.
    pub book_every_ms: u64,
    /// The most that a device draws whose own limit is not known.
    pub limit_mw: u64,
    /// What a device draws that does nothing; more than that is unexplained while nobody has it.
    pub idle_mw: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            refresh_ms: 30_000,
            unread_ms: 120_000,
            book_every_ms: 60_000,
            limit_mw: 1_500_000,
            idle_mw: 150_000,
        }
    }
}

/// What holds for a booking.
pub(crate) struct Terms<'a> {
    pub(crate) config: &'a Config,
    /// When the present period of each registration began.
    pub(crate) periods: &'a BTreeMap<Name, Timestamp>,
}
