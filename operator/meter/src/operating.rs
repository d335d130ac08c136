//! Time in which registrations operated: at least one lease under them ran.
//!
//! It is the union of their leases' times, over all nodes. An entry is made when the first lease
//! begins and when the last one ends.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// Time in which a registration operated.
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operating {
    /// Milliseconds until `since`, or until now if it does not operate.
    #[serde(with = "crate::amount::decimal")]
    pub ms: u64,
    /// Begin of the time in which it has operated without a break; `None` if it does not operate.
    pub since: Option<Timestamp>,
}

impl Operating {
    /// Returns the milliseconds until a time.
    pub fn until(&self, until: Timestamp) -> u64 {
        self.ms + self.since.map_or(0, |since| until.millis_since(since))
    }
}

/// Begin or end of a lease under a registration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    pub(crate) at: Timestamp,
    /// False for a begin, so that it sorts before an end at the same time.
    pub(crate) is_end: bool,
    pub(crate) registration: Name,
}

/// Number of leases that run under each registration.
pub(crate) type Running = BTreeMap<Name, u32>;

/// Takes a turn; returns what is to be recorded, if the first lease began or the last one ended.
pub(crate) fn take_turn(
    operating: &mut BTreeMap<Name, Operating>,
    running: &mut Running,
    turn: &Turn,
) -> Option<Operating> {
    let Turn { at, is_end, registration } = turn;
    let count = running.entry(registration.clone()).or_default();
    let before = *count;
    *count = if *is_end { count.saturating_sub(1) } else { *count + 1 };
    if (before > 0) == (*count > 0) {
        return None;
    }
    let is_running = *count > 0;
    if !is_running {
        running.remove(registration);
    }
    let known = operating.entry(registration.clone()).or_default();
    set_running(known, is_running, *at);
    Some(*known)
}

/// Sets whether a registration operates from a time on.
pub(crate) fn set_running(known: &mut Operating, is_running: bool, at: Timestamp) {
    match (known.since, is_running) {
        (None, true) => known.since = Some(at),
        (Some(_), false) => *known = Operating { ms: known.until(at), since: None },
        _ => {}
    }
}
