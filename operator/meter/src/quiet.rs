//! Fewer entries in a log for nodes on which nothing happens but time and energy: one for several
//! stretches of a node, and one for many nodes.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::books::Books;
use crate::entry::{
    EnergyEntry, NodeEntry, OperatedEntry, PoolEntry, Settled, TimeEntry, UsedEntry,
};

/// Bookings of several nodes together, in a log. The amounts are those of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodesEntry {
    /// The nodes, by the time that is booked on each.
    pub stretches: Vec<Stretch>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<TimeEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub energy: Vec<EnergyEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operated: Vec<OperatedEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<UsedEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<Settled>,
}

/// Stretch of time that is booked on some nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    pub from: Timestamp,
    pub until: Timestamp,
    pub nodes: Vec<Name>,
}

impl NodeEntry {
    /// Returns whether it books nothing but time and energy.
    pub fn is_quiet(&self) -> bool {
        let Self { devices, closed, gaps, gone, .. } = self;
        devices.is_empty() && closed.is_empty() && gaps.is_empty() && !gone
    }

    /// Adds the quiet entry of the same node before this one.
    pub fn absorb(&mut self, before: &Self) {
        debug_assert!(before.node == self.node && before.until <= self.from, "stretches_follow");
        let sums = Sums::of([before, self]);
        self.from = before.from;
        (self.time, self.energy, self.operated, self.pools, self.used, self.settled) =
            sums.into_lists();
    }
}

impl NodesEntry {
    /// Adds up the quiet entries of nodes.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a NodeEntry> + Clone) -> Self {
        let mut stretches: BTreeMap<(Timestamp, Timestamp), Vec<Name>> = BTreeMap::new();
        for entry in entries.clone() {
            debug_assert!(entry.is_quiet(), "only_quiet_nodes_share_an_entry");
            stretches.entry((entry.from, entry.until)).or_default().push(entry.node.clone());
        }
        let stretch = |((from, until), nodes)| Stretch { from, until, nodes };
        let (time, energy, operated, pools, used, settled) = Sums::of(entries).into_lists();
        let stretches = stretches.into_iter().map(stretch).collect();
        Self { stretches, time, energy, operated, pools, used, settled }
    }
}

/// Bookings that are added up.
#[derive(Default)]
struct Sums {
    books: Books,
    used: BTreeMap<(Name, Timestamp), (u64, u64)>,
    settled: Vec<Settled>,
}

type Lists = (
    Vec<TimeEntry>,
    Vec<EnergyEntry>,
    Vec<OperatedEntry>,
    Vec<PoolEntry>,
    Vec<UsedEntry>,
    Vec<Settled>,
);

impl Sums {
    fn of<'a>(entries: impl IntoIterator<Item = &'a NodeEntry>) -> Self {
        let mut sums = Self::default();
        for entry in entries {
            let NodeEntry {
                node: _,
                from: _,
                until: _,
                time,
                energy,
                operated,
                pools,
                used,
                devices: _,
                closed: _,
                settled,
                gaps: _,
                gone: _,
                state: _,
            } = entry;
            sums.books.add_all(time, energy, operated, pools);
            for UsedEntry { registration, start, millijoules, peak_watts } in used {
                let (sum, peak) = sums.used.entry((registration.clone(), *start)).or_default();
                *sum = sum.saturating_add(*millijoules);
                *peak = (*peak).max(*peak_watts);
            }
            sums.settled.extend(settled.iter().cloned());
        }
        sums
    }

    fn into_lists(self) -> Lists {
        let Books { time, energy, operated, pools, .. } = self.books;
        let operated = operated.into_iter();
        let energy = energy.into_iter();
        let used =
            self.used.into_iter().map(|((registration, start), (millijoules, peak_watts))| {
                UsedEntry { registration, start, millijoules, peak_watts }
            });
        (
            time.into_iter().map(|(key, ms)| TimeEntry { key, ms }).collect(),
            energy.map(|((key, method), mj)| EnergyEntry { key, method, mj }).collect(),
            operated
                .map(|((pool, account), operated)| OperatedEntry { pool, account, operated })
                .collect(),
            pools.into_values().collect(),
            used.collect(),
            self.settled,
        )
    }
}
