//! Sums of the entries that belong to a period.

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};
use daylight_meter::{
    Account, Bounded, Closed, EnergyEntry, Entry, Facts, Gap, GapKind, Key, Method, NodeEntry,
    Operated, OperatedEntry, PoolEntry, TimeEntry, UsedEntry, WorkEntry, decimal,
};
use serde::{Deserialize, Serialize};
use serde_with::{DisplayFromStr, serde_as, skip_serializing_none};

use super::period::ReportingInterval;

/// Adds up the entries of a ledger that belong to an interval, for one registration or for all uses.
///
/// [`Totals::add`] takes all entries of the ledger from the first one on, in order: those before and
/// after the interval tell which nodes there are, and what limits count. The entries of the auditor's
/// state do as well, but not those of a snapshot.
///
/// An entry is never divided. It belongs to the interval in which its time ends, and the auditor ends
/// each entry where intervals begin. One that has time before the interval nevertheless, as journals of
/// earlier versions have, is counted whole and named.
#[derive(Clone, Debug)]
pub struct Totals {
    /// `None` for all uses.
    registration: Option<Name>,
    interval: ReportingInterval,
    time: BTreeMap<Key, Bounded>,
    energy: BTreeMap<(Key, Method), Bounded>,
    operated: BTreeMap<(Option<Name>, Account), Operated>,
    pools: BTreeMap<Option<Name>, PoolEntry>,
    work: BTreeMap<(Account, bool), Facts>,
    ended_leases: u64,
    peak: Option<Peak>,
    limit: LimitCount,
    gaps: BTreeMap<GapKind, GapSum>,
    entries: u64,
    first: Option<u64>,
    last: Option<u64>,
    straddling: Vec<Straddling>,
    nodes: BTreeMap<Name, ReportingNode>,
    /// `true` once an entry had a node's state. Those of a ledger never have it.
    has_states: bool,
}

/// Totals of a period.
#[serde_as]
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeriodTotals {
    #[serde(flatten)]
    pub interval: ReportingInterval,
    /// By pool and account, as entries have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<TimeEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub energy: Vec<EnergyEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operated: Vec<OperatedEntry>,
    /// Of all uses only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolEntry>,
    /// Work of the leases that ended in the period, as miners reported it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<WorkEntry>,
    /// Leases that ended in the period.
    #[serde(with = "decimal")]
    pub ended_leases: u64,
    /// `None` if no mean power could be measured.
    pub peak: Option<Peak>,
    pub limit: LimitCount,
    /// Gaps in the entries that count, by their kind. They are those of the nodes, and may concern others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<GapSum>,
    /// Number of the entries that count.
    #[serde(with = "decimal")]
    pub entries: u64,
    /// Index of the first and of the last of them.
    #[serde_as(as = "Option<DisplayFromStr>")]
    #[serde(default)]
    pub first: Option<u64>,
    #[serde_as(as = "Option<DisplayFromStr>")]
    #[serde(default)]
    pub last: Option<u64>,
    /// Entries that count, and have time before the period.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub straddling: Vec<Straddling>,
    /// Nodes that have not reported up to the end. Without any, the totals are final, unless a clock was
    /// wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreported: Vec<UnreportedNode>,
}

/// Highest mean power of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    pub watts: u64,
    /// Time of the entry that has it.
    pub from: Timestamp,
    pub until: Timestamp,
    /// Index of that entry.
    #[serde(with = "decimal")]
    pub entry: u64,
}

/// Energy as limits count it: upper bounds, by the time at which it may have been drawn. Totals have it
/// by the entry in which it was booked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitCount {
    /// What limits count in the period.
    #[serde(with = "decimal")]
    pub millijoules: u64,
    /// Of that, what was booked after the period.
    #[serde(with = "decimal")]
    pub booked_later: u64,
    /// What was booked in the period, and counts in limits of an earlier one.
    #[serde(with = "decimal")]
    pub counted_earlier: u64,
}

/// Gaps of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GapSum {
    #[serde(rename = "what")]
    pub kind: GapKind,
    #[serde(with = "decimal")]
    pub count: u64,
    /// Sum of their lengths.
    #[serde(with = "decimal")]
    pub ms: u64,
    /// Energy that is not believed.
    #[serde(with = "decimal")]
    pub millijoules: u64,
}

/// Entry with time before the period in which it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Straddling {
    #[serde(with = "decimal")]
    pub entry: u64,
    pub from: Timestamp,
    pub until: Timestamp,
    /// Device-milliseconds that it adds to the totals.
    #[serde(with = "decimal")]
    pub device_ms: u64,
    #[serde(with = "decimal")]
    pub millijoules: u64,
}

/// Node that has not reported up to the end of the period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreportedNode {
    pub node: Name,
    /// Time up to which it has reported.
    pub until: Timestamp,
}

#[derive(Clone, Debug, Default)]
struct ReportingNode {
    until: Timestamp,
    devices: BTreeSet<Name>,
    had_devices: bool,
    has_state: bool,
    is_gone: bool,
}

/// Bookings of an entry of one node or of several.
struct Bookings<'a> {
    from: Timestamp,
    until: Timestamp,
    time: &'a [TimeEntry],
    energy: &'a [EnergyEntry],
    operated: &'a [OperatedEntry],
    pools: &'a [PoolEntry],
    used: &'a [UsedEntry],
    closed: &'a [Closed],
    gaps: &'a [Gap],
}

impl Totals {
    /// Returns empty totals of a registration, by the name that the entries have: a ledger's have its
    /// pseudonym.
    pub fn new(registration: Name, interval: ReportingInterval) -> Self {
        Self::of(Some(registration), interval)
    }

    /// Returns empty totals of all uses of devices, and of all pods that are on record.
    pub fn of_all(interval: ReportingInterval) -> Self {
        Self::of(None, interval)
    }

    fn of(registration: Option<Name>, interval: ReportingInterval) -> Self {
        Self {
            registration,
            interval,
            time: BTreeMap::new(),
            energy: BTreeMap::new(),
            operated: BTreeMap::new(),
            pools: BTreeMap::new(),
            work: BTreeMap::new(),
            ended_leases: 0,
            peak: None,
            limit: LimitCount::default(),
            gaps: BTreeMap::new(),
            entries: 0,
            first: None,
            last: None,
            straddling: Vec::new(),
            nodes: BTreeMap::new(),
            has_states: false,
        }
    }

    /// Adds the next entry. Returns whether it counts: whether its figures are in the totals.
    pub fn add(&mut self, index: u64, entry: &Entry) -> bool {
        match entry {
            Entry::Node(entry) => {
                self.add_node(entry);
                let NodeEntry {
                    node: _,
                    from,
                    until,
                    time,
                    energy,
                    operated,
                    pools,
                    used,
                    devices: _,
                    closed,
                    settled: _,
                    gaps,
                    gone: _,
                    state: _,
                } = &**entry;
                let (from, until) = (*from, *until);
                self.book(
                    index,
                    &Bookings { from, until, time, energy, operated, pools, used, closed, gaps },
                )
            }
            Entry::Nodes(entry) => {
                for stretch in &entry.stretches {
                    for node in &stretch.nodes {
                        let node = self.nodes.entry(node.clone()).or_default();
                        node.until = node.until.max(stretch.until);
                        node.is_gone = false;
                    }
                }
                // All end at one time where the meter ends entries.
                let from = entry.stretches.iter().map(|it| it.from).min().unwrap_or_default();
                let until = entry.stretches.iter().map(|it| it.until).max().unwrap_or_default();
                self.book(
                    index,
                    &Bookings {
                        from,
                        until,
                        time: &entry.time,
                        energy: &entry.energy,
                        operated: &entry.operated,
                        pools: &entry.pools,
                        used: &entry.used,
                        closed: &[],
                        gaps: &[],
                    },
                )
            }
            // Time begins again where the clock was set back to.
            Entry::Clock { at, .. } => {
                self.nodes.values_mut().for_each(|node| node.until = node.until.min(*at));
                false
            }
            _ => false,
        }
    }

    fn add_node(&mut self, entry: &NodeEntry) {
        self.has_states |= entry.state.is_some();
        let node = self.nodes.entry(entry.node.clone()).or_default();
        node.until = node.until.max(entry.until);
        node.has_state = entry.state.is_some();
        node.is_gone = entry.gone;
        for device in &entry.devices {
            if device.joined {
                node.devices.insert(device.device.id.clone());
                node.had_devices = true;
            } else {
                node.devices.remove(&device.device.id);
            }
        }
    }

    fn is_of(&self, registration: Option<&Name>) -> bool {
        self.registration.as_ref().is_none_or(|it| registration == Some(it))
    }

    fn book(&mut self, index: u64, bookings: &Bookings<'_>) -> bool {
        let Bookings { from, until, time, energy, operated, pools, used, closed, gaps } = *bookings;
        let in_period = self.interval.has_end(until);
        for UsedEntry { registration, start, millijoules, peak_watts } in used {
            if self.is_of(Some(registration)) {
                self.count_used(in_period, *start, *millijoules);
                let peak = Peak { watts: *peak_watts, from, until, entry: index };
                if in_period && peak.watts > self.peak.map_or(0, |it| it.watts) {
                    self.peak = Some(peak);
                }
            }
        }
        if !in_period {
            return false;
        }
        let (mut counts, mut device_ms, mut millijoules) = (false, 0_u64, 0_u64);
        for TimeEntry { key, ms } in time {
            if self.is_of(key.usage.registration()) {
                self.time.entry(key.clone()).or_default().saturating_add(*ms);
                device_ms = device_ms.saturating_add(ms.value);
                counts = true;
            }
        }
        for EnergyEntry { key, method, mj } in energy {
            if self.is_of(key.usage.registration()) {
                self.energy.entry((key.clone(), *method)).or_default().saturating_add(*mj);
                millijoules = millijoules.saturating_add(mj.value);
                counts = true;
            }
        }
        for OperatedEntry { pool, account, operated } in operated {
            if self.is_of(account.registration.as_ref()) {
                let key = (pool.clone(), account.clone());
                add_operated(self.operated.entry(key).or_default(), *operated);
                counts = true;
            }
        }
        for Closed { lease, ended: _, facts } in closed {
            if self.is_of(lease.account.registration.as_ref()) {
                self.ended_leases += 1;
                counts = true;
                if let Some(facts) = facts {
                    let key = (lease.account.clone(), facts.seen);
                    let sum = self.work.entry(key);
                    sum.or_default().add(*facts);
                }
            }
        }
        counts |= used.iter().any(|used| self.is_of(Some(&used.registration)));
        if self.registration.is_none() {
            pools.iter().for_each(|pool| self.add_pool(pool));
            counts |= !pools.is_empty() || !gaps.is_empty();
        }
        if !counts {
            return false;
        }
        for gap in gaps {
            let kind = gap.kind;
            let sum = self.gaps.entry(kind);
            let sum = sum.or_insert(GapSum { kind, count: 0, ms: 0, millijoules: 0 });
            sum.count += 1;
            sum.ms = sum.ms.saturating_add(gap.between.width());
            sum.millijoules = sum.millijoules.saturating_add(gap.millijoules);
        }
        self.entries += 1;
        self.first.get_or_insert(index);
        self.last = Some(index);
        if from < self.interval.start {
            let straddling = Straddling { entry: index, from, until, device_ms, millijoules };
            self.straddling.push(straddling);
        }
        true
    }

    /// Counts energy as limits do. `start` is the begin of the latest period of a limit in which it may
    /// have been drawn, or 0 if none had begun.
    fn count_used(&mut self, in_period: bool, start: Timestamp, millijoules: u64) {
        let ReportingInterval { start: first, end } = self.interval;
        let counts_in_limit = (first <= start && start < end) || (start.0 == 0 && in_period);
        let sum = |sum: &mut u64| *sum = sum.saturating_add(millijoules);
        match (counts_in_limit, in_period) {
            (true, true) => sum(&mut self.limit.millijoules),
            (true, false) => {
                sum(&mut self.limit.millijoules);
                sum(&mut self.limit.booked_later);
            }
            (false, true) => sum(&mut self.limit.counted_earlier),
            (false, false) => {}
        }
    }

    /// Returns what limits count of the entries so far.
    pub fn limit(&self) -> LimitCount {
        self.limit
    }

    fn add_pool(&mut self, more: &PoolEntry) {
        let PoolEntry { pool, capacity_ms, moved_mj, overcommitted_ms, gap_ms } = more;
        let sum = self.pools.entry(pool.clone());
        let sum = sum.or_insert_with(|| PoolEntry { pool: pool.clone(), ..PoolEntry::default() });
        for (sum, more) in [
            (&mut sum.capacity_ms, capacity_ms),
            (&mut sum.moved_mj, moved_mj),
            (&mut sum.overcommitted_ms, overcommitted_ms),
            (&mut sum.gap_ms, gap_ms),
        ] {
            *sum = sum.saturating_add(*more);
        }
    }

    /// Returns the interval whose entries count.
    pub fn interval(&self) -> ReportingInterval {
        self.interval
    }

    /// Returns whether all nodes have reported up to the end.
    pub fn is_complete(&self) -> bool {
        self.unreported().is_empty()
    }

    /// Returns the totals of the entries so far.
    pub fn finish(&self) -> PeriodTotals {
        let time = self.time.iter().map(|(key, ms)| TimeEntry { key: key.clone(), ms: *ms });
        let energy = self.energy.iter().map(|((key, method), mj)| EnergyEntry {
            key: key.clone(),
            method: *method,
            mj: *mj,
        });
        let operated = self.operated.iter().map(|((pool, account), operated)| OperatedEntry {
            pool: pool.clone(),
            account: account.clone(),
            operated: *operated,
        });
        let work = self.work.iter();
        let work =
            work.map(|((account, _), work)| WorkEntry { account: account.clone(), work: *work });
        PeriodTotals {
            interval: self.interval,
            time: time.collect(),
            energy: energy.collect(),
            operated: operated.collect(),
            pools: self.pools.values().cloned().collect(),
            work: work.collect(),
            ended_leases: self.ended_leases,
            peak: self.peak,
            limit: self.limit,
            gaps: self.gaps.values().copied().collect(),
            entries: self.entries,
            first: self.first,
            last: self.last,
            straddling: self.straddling.clone(),
            unreported: self.unreported(),
        }
    }

    /// Returns the nodes that have not reported up to the end. A node that is gone has nothing more to
    /// report.
    fn unreported(&self) -> Vec<UnreportedNode> {
        let is_gone = |node: &ReportingNode| {
            let has_left = node.had_devices && node.devices.is_empty();
            // Entries of earlier versions do not say it.
            node.is_gone || if self.has_states { !node.has_state } else { has_left }
        };
        let late = self.nodes.iter();
        let late = late.filter(|(_, node)| node.until < self.interval.end && !is_gone(node));
        late.map(|(name, node)| UnreportedNode { node: name.clone(), until: node.until }).collect()
    }
}

impl PeriodTotals {
    /// Returns whether all nodes have reported up to the end.
    pub fn is_complete(&self) -> bool {
        self.unreported.is_empty()
    }

    /// Returns the device time of some uses.
    pub fn device_ms(&self, is_of: impl Fn(&Key) -> bool) -> Bounded {
        let mut sum = Bounded::default();
        for TimeEntry { ms, .. } in self.time.iter().filter(|it| is_of(&it.key)) {
            sum.saturating_add(*ms);
        }
        sum
    }

    /// Returns the energy of some uses by some methods, in millijoules.
    pub fn millijoules(&self, is_of: impl Fn(&Key, Method) -> bool) -> Bounded {
        let mut sum = Bounded::default();
        for EnergyEntry { mj, .. } in self.energy.iter().filter(|it| is_of(&it.key, it.method)) {
            sum.saturating_add(*mj);
        }
        sum
    }
}

/// Adds what was operated. It saturates: a ledger may have any numbers.
fn add_operated(sum: &mut Operated, more: Operated) {
    let Operated { pod_ms, ended_ms, millicore_ms, memory_mib_ms, storage_mib_ms } = more;
    sum.pod_ms.saturating_add(pod_ms);
    sum.ended_ms = sum.ended_ms.saturating_add(ended_ms);
    sum.millicore_ms.saturating_add(millicore_ms);
    sum.memory_mib_ms.saturating_add(memory_mib_ms);
    sum.storage_mib_ms.saturating_add(storage_mib_ms);
}

#[cfg(test)]
mod tests;
