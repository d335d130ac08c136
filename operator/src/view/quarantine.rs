//! Quarantine: slots and nodes on which miners fail are closed for a while.
//!
//! A slot in which a miner's pod fails is closed for 10 seconds, then for 20, 40 and so on, up to
//! half an hour. When three slots of a node, or three pods on it, have failed in a row, the cause
//! is probably the node and not the miner, and the node is closed in the same way. A pod that ran
//! for ten minutes ends the row.

use std::time::Duration;

use daylight_base::Timestamp;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_mins(30);
const IN_A_ROW: u32 = 3;

/// Time after which a run counts as a success.
pub const LONG_ENOUGH: Duration = Duration::from_mins(10);

/// The closed slots of one node, and the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    slots: Vec<(u32, Strikes)>,
    /// Failures on the node since the last success.
    row: u32,
    node: Strikes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Strikes {
    count: u32,
    until: Option<Timestamp>,
}

impl Strikes {
    fn strike(&mut self, at: Timestamp) {
        let doubled = 1_u32.checked_shl(self.count).unwrap_or(u32::MAX);
        self.until = Some(at + FIRST.saturating_mul(doubled).min(LONGEST));
        self.count = (self.count + 1).min(31);
    }
}

impl Quarantine {
    /// Notes that a miner's pod in `slot` failed at `at`, or was not bound in time.
    pub fn failed(&mut self, slot: u32, at: Timestamp) {
        self.slot(slot).strike(at);
        self.row += 1;
        let failing = self.slots.iter().filter(|(_, slot)| slot.count > 0).count();
        if self.row >= IN_A_ROW || failing >= IN_A_ROW as usize {
            self.node.strike(at);
        }
    }

    /// Notes that a miner's pod in `slot` ran for [`LONG_ENOUGH`].
    pub fn succeeded(&mut self, slot: u32) {
        self.slots.retain(|(known, _)| *known != slot);
        self.row = 0;
        self.node = Strikes::default();
    }

    /// Returns the time until which the node is closed, if it is closed at `now`.
    pub fn node_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.node.until.filter(|until| now < *until)
    }

    /// Returns the slots that are closed at `now`, each with the time until then, sorted by slot.
    pub fn slots_until(&self, now: Timestamp) -> Vec<(u32, Timestamp)> {
        self.slots
            .iter()
            .filter_map(|(slot, strikes)| Some((*slot, strikes.until?)))
            .filter(|(_, until)| now < *until)
            .collect()
    }

    /// Moves all times, because the clock was set.
    pub fn move_times(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        let slots = self.slots.iter_mut().map(|(_, strikes)| strikes);
        for until in slots.chain([&mut self.node]).filter_map(|strikes| strikes.until.as_mut()) {
            *until = moved(*until);
        }
    }

    /// Returns `true` if there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn slot(&mut self, slot: u32) -> &mut Strikes {
        let at = match self.slots.binary_search_by_key(&slot, |(known, _)| *known) {
            Ok(at) => at,
            Err(at) => {
                self.slots.insert(at, (slot, Strikes::default()));
                at
            }
        };
        &mut self.slots[at].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_slot_is_closed_for_twice_as_long_each_time() {
        let mut quarantine = Quarantine::default();
        quarantine.failed(4, at(0));
        assert_eq!(quarantine.slots_until(at(0)), [(4, at(10))]);
        assert_eq!(quarantine.slots_until(at(10)), []);
        assert_eq!(quarantine.node_until(at(0)), None);
        quarantine.failed(4, at(100));
        assert_eq!(quarantine.slots_until(at(100)), [(4, at(120))]);
        for _ in 0..100 {
            quarantine.failed(4, at(1000));
        }
        assert_eq!(quarantine.slots_until(at(1000)), [(4, at(2800))]);
    }

    #[test]
    fn three_failures_close_the_node() {
        let mut quarantine = Quarantine::default();
        quarantine.failed(0, at(0));
        quarantine.failed(0, at(20));
        assert_eq!(quarantine.node_until(at(20)), None);
        quarantine.failed(0, at(50));
        assert_eq!(quarantine.node_until(at(50)), Some(at(60)));
        quarantine.failed(0, at(100));
        assert_eq!(quarantine.node_until(at(100)), Some(at(120)));
    }

    #[test]
    fn three_slots_close_the_node() {
        let mut quarantine = Quarantine::default();
        for slot in [7, 1, 3] {
            quarantine.failed(slot, at(0));
        }
        assert_eq!(quarantine.node_until(at(0)), Some(at(10)));
        assert_eq!(quarantine.slots_until(at(0)), [(1, at(10)), (3, at(10)), (7, at(10))]);
    }

    #[test]
    fn a_long_run_ends_the_row() {
        let mut quarantine = Quarantine::default();
        for _ in 0..5 {
            quarantine.failed(0, at(0));
        }
        quarantine.succeeded(0);
        assert!(quarantine.is_empty());
        quarantine.failed(0, at(0));
        assert_eq!(quarantine.slots_until(at(0)), [(0, at(10))]);
    }
}
