//! Quarantine: a node on which a miner fails is closed to it for a while.
//!
//! A node on which a miner's pod fails is closed to that miner for 10 seconds, then for 20, 40 and so
//! on, up to half an hour. Other miners are not affected: the cause may be the image or its settings.
//! Only when miners of several tenants fail in a row, while none works there, is the cause probably
//! the node, which is then closed to all in the same way. A pod that ran for ten minutes ends the row.

use std::collections::BTreeSet;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_cluster::names::parts;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_mins(30);
/// Tenants whose miners have to fail on a node before it is closed to all. One tenant alone, which may
/// create any number of miners, closes no node to another.
const TENANTS: usize = 2;

/// Time after which a run counts as a success.
pub const LONG_ENOUGH: Duration = Duration::from_mins(10);

/// The miners that fail on one node, and the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    /// Sorted by miner.
    miners: Vec<(Name, Failing)>,
    node: Strikes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Failing {
    strikes: Strikes,
    /// It failed while no other miner worked on the node, and none has succeeded there since.
    blames_node: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Strikes {
    count: u32,
    until: Option<Timestamp>,
}

impl Strikes {
    fn strike(&mut self, at: Timestamp) {
        // Pods that started before the first of them failed fail together: that is one failure.
        if self.until.is_some_and(|until| at < until) {
            return;
        }
        let doubled = 1_u32.checked_shl(self.count).unwrap_or(u32::MAX);
        self.until = Some(at + FIRST.saturating_mul(doubled).min(LONGEST));
        self.count = (self.count + 1).min(31);
    }

    fn until(self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| now < *until)
    }
}

impl Quarantine {
    /// Notes that a pod of `miner` failed at `at`. With `others_work`, another miner works on the
    /// node, which is therefore not the cause.
    pub fn failed(&mut self, miner: &Name, at: Timestamp, others_work: bool) {
        let failing = self.failing(miner);
        failing.strikes.strike(at);
        failing.blames_node = !others_work;
        let blaming = self.miners.iter().filter(|(_, failing)| failing.blames_node);
        let tenants: BTreeSet<&str> = blaming.map(|(miner, _)| parts(miner).0).collect();
        if !others_work && tenants.len() >= TENANTS {
            self.node.strike(at);
        }
    }

    /// Notes that a pod of `miner` ran for [`LONG_ENOUGH`].
    pub fn succeeded(&mut self, miner: &Name) {
        self.miners.retain(|(known, _)| known != miner);
        for (_, failing) in &mut self.miners {
            failing.blames_node = false;
        }
        self.node = Strikes::default();
    }

    /// Forgets the failures of a miner that is gone or was changed; returns `true` if there were any.
    pub fn forget(&mut self, miner: &Name) -> bool {
        let before = self.miners.len();
        self.miners.retain(|(known, _)| known != miner);
        self.miners.len() < before
    }

    /// Returns the time until which the node is closed to all miners, if it is closed at `now`.
    pub fn node_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.node.until(now)
    }

    /// Returns the miners to which the node is closed at `now`, each with the time until then, sorted
    /// by miner.
    pub fn closed_to(&self, now: Timestamp) -> Vec<(Name, Timestamp)> {
        let closed = self.miners.iter().filter_map(|(miner, failing)| {
            failing.strikes.until(now).map(|until| (miner.clone(), until))
        });
        closed.collect()
    }

    /// Returns `true` if there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Moves all times, because the clock was set.
    pub fn move_times(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        let miners = self.miners.iter_mut().map(|(_, failing)| &mut failing.strikes);
        for strikes in miners.chain([&mut self.node]) {
            strikes.until = strikes.until.map(&moved);
        }
    }

    fn failing(&mut self, miner: &Name) -> &mut Failing {
        let at = match self.miners.binary_search_by(|(known, _)| known.cmp(miner)) {
            Ok(at) => at,
            Err(at) => {
                self.miners.insert(at, (miner.clone(), Failing::default()));
                at
            }
        };
        &mut self.miners[at].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn failed(quarantine: &mut Quarantine, miner: &str, seconds: i64) {
        quarantine.failed(&miner.into(), at(seconds), false);
    }

    /// The seconds until which a node is closed to each miner.
    fn closed(quarantine: &Quarantine, seconds: i64) -> Vec<(String, i64)> {
        let closed = quarantine.closed_to(at(seconds)).into_iter();
        closed.map(|(miner, until)| (miner.to_string(), until.0 / 1000)).collect()
    }

    #[test]
    fn a_node_is_closed_to_a_miner_for_twice_as_long_each_time() {
        let mut quarantine = Quarantine::default();
        failed(&mut quarantine, "a/m", 0);
        assert_eq!(closed(&quarantine, 0), [("a/m".into(), 10)]);
        assert_eq!(closed(&quarantine, 10), []);
        failed(&mut quarantine, "a/m", 100);
        assert_eq!(closed(&quarantine, 100), [("a/m".into(), 120)]);
        for round in 1..100 {
            failed(&mut quarantine, "a/m", 10_000 * round);
        }
        assert_eq!(closed(&quarantine, 990_000), [("a/m".into(), 991_800)]);
        assert_eq!(quarantine.node_until(at(990_000)), None, "one tenant closes no node");
    }

    #[test]
    fn pods_that_fail_together_are_one_failure() {
        let mut quarantine = Quarantine::default();
        for _ in 0..8 {
            failed(&mut quarantine, "a/m", 0);
        }
        assert_eq!(closed(&quarantine, 0), [("a/m".into(), 10)]);
    }

    #[test]
    fn the_miners_of_one_tenant_close_no_node_to_another() {
        let mut quarantine = Quarantine::default();
        for miner in ["a/m", "a/n", "a/o", "a/p"] {
            for round in 0..10 {
                failed(&mut quarantine, miner, 10_000 * round);
            }
        }
        assert_eq!(quarantine.node_until(at(90_000)), None);
    }

    #[test]
    fn miners_of_two_tenants_close_the_node() {
        let mut quarantine = Quarantine::default();
        failed(&mut quarantine, "a/m", 0);
        failed(&mut quarantine, "b/m", 5);
        assert_eq!(quarantine.node_until(at(5)), Some(at(15)));
        failed(&mut quarantine, "b/m", 20);
        assert_eq!(quarantine.node_until(at(20)), Some(at(40)));
    }

    #[test]
    fn a_node_where_another_miner_works_is_not_the_cause() {
        let mut quarantine = Quarantine::default();
        for miner in ["a/m", "b/m", "c/m"] {
            quarantine.failed(&miner.into(), at(0), true);
        }
        assert_eq!((closed(&quarantine, 0).len(), quarantine.node_until(at(0))), (3, None));
    }

    #[test]
    fn a_long_run_ends_the_row() {
        let mut quarantine = Quarantine::default();
        failed(&mut quarantine, "a/m", 0);
        failed(&mut quarantine, "b/m", 0);
        quarantine.succeeded(&"b/m".into());
        assert_eq!(quarantine.node_until(at(0)), None);
        assert_eq!(closed(&quarantine, 0), [("a/m".into(), 10)]);
        failed(&mut quarantine, "c/m", 1);
        assert_eq!(quarantine.node_until(at(1)), None);
        assert!(quarantine.forget(&"a/m".into()) && quarantine.forget(&"c/m".into()));
        assert!(quarantine.is_empty());
    }
}
