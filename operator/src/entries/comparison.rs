//! Comparison of what two auditors of one cluster recorded, each in a ledger of its own.
//!
//! Both watch the same pods and read the same devices, though not at the same moments. What each records
//! has bounds that hold the truth, so the bounds of two honest ones overlap. No more than that is
//! tolerated: what both must have observed is in both, and agrees within its bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use daylight_base::{Name, Timestamp};
use daylight_meter::{
    AuditorEvent, Bounded, Closed, EnergyEntry, Entry, Lease, Method, Moment, OperatedEntry,
    PoolEntry, TimeEntry, Use,
};

/// Times within which two honest auditors may differ, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Time after which all that happened has been booked: watches and readings arrive later than what
    /// they are about.
    pub margin_ms: u64,
    /// Difference of the auditors' clocks. Times that Kubernetes reports need none.
    pub clocks_ms: u64,
}

/// What a ledger recorded: when it watched, and the leases that ended.
#[derive(Debug, Default)]
pub struct Observations {
    /// Stretches of time that the auditor watched without a break, in order.
    watched: Vec<Watch>,
    leases: BTreeMap<Name, Vec<Ended>>,
    /// Energy of leases as it was booked completely, in millijoules.
    settled: BTreeMap<Name, Bounded>,
}

/// Stretch of time that an auditor watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    from: Timestamp,
    until: Timestamp,
}

impl Watch {
    /// How long it is.
    pub fn millis(&self) -> u64 {
        self.until.millis_since(self.from)
    }
}

/// Lease that ended, and the entry that has its end.
#[derive(Clone, Debug)]
struct Ended {
    index: u64,
    node: Name,
    lease: Lease,
    end: Moment,
}

/// Difference between two ledgers that the bounds of neither allow for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// A lease that both must have observed is in one of them alone.
    #[error("lease {uid} is in entry {index} of {ledger}, and not in the other")]
    Missing { uid: Name, index: u64, ledger: Side },
    /// A part of a lease is not the same.
    #[error("lease {uid} (entries {} and {}) has {what} {one} in the first ledger and {other} in the other", at[0], at[1])]
    Lease { uid: Name, at: [u64; 2], what: &'static str, one: String, other: String },
    /// Names in one ledger are not the same names in the other.
    #[error("lease {uid} (entries {} and {}) has another account than other leases of the same account", at[0], at[1])]
    Account { uid: Name, at: [u64; 2] },
    /// Sums over a stretch of time that both watched.
    #[error(
        "from {from} to {until}, {what} of {of} are {one} in the first ledger and {other} in the other"
    )]
    Sum {
        from: Timestamp,
        until: Timestamp,
        of: String,
        what: &'static str,
        one: Range,
        other: Range,
    },
}

/// One of two ledgers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    First,
    Other,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "the first ledger",
            Self::Other => "the other ledger",
        })
    }
}

/// Least and most that an amount may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    least: u64,
    most: u64,
}

impl Range {
    fn of(amount: Bounded) -> Self {
        Self { least: amount.lower(), most: amount.upper() }
    }

    fn overlaps(self, other: Self) -> bool {
        self.least <= other.most && other.least <= self.most
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.least, self.most)
    }
}

impl Observations {
    /// Takes the next entry of a ledger. What is not an entry of Daylight is passed over.
    pub fn take(&mut self, index: u64, entry: &[u8]) {
        match serde_json::from_slice(entry) {
            Ok(Entry::Auditor { at, event: AuditorEvent::Started, .. }) => {
                self.watched.push(Watch { from: at, until: at });
            }
            Ok(Entry::Node(node)) => {
                self.watch(node.from, node.until);
                for settled in node.settled {
                    self.settled.insert(settled.uid, settled.energy);
                }
                for Closed { lease, ended, facts: _ } in node.closed {
                    let ended = Ended { index, node: node.node.clone(), end: ended, lease };
                    self.leases.entry(ended.lease.uid.clone()).or_default().push(ended);
                }
            }
            Ok(Entry::Nodes(nodes)) => {
                for stretch in nodes.stretches {
                    self.watch(stretch.from, stretch.until);
                }
                for settled in nodes.settled {
                    self.settled.insert(settled.uid, settled.energy);
                }
            }
            _ => {}
        }
    }

    /// Number of leases that ended.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    fn watch(&mut self, from: Timestamp, until: Timestamp) {
        match self.watched.last_mut() {
            Some(last) => last.until = last.until.max(until),
            // Journals of earlier versions do not have the start.
            None => self.watched.push(Watch { from, until }),
        }
    }

    /// Stretches of time that both watched, longer than twice the margin.
    pub fn watched_by_both(&self, other: &Self, tolerance: Tolerance) -> Vec<Watch> {
        let mut both = Vec::new();
        for one in &self.watched {
            for other in &other.watched {
                let (from, until) = (one.from.max(other.from), one.until.min(other.until));
                if until.millis_since(from) > 2 * tolerance.margin_ms {
                    both.push(Watch { from, until });
                }
            }
        }
        both
    }

    /// Returns whether this ledger must have a lease that another has: it was there while this auditor
    /// watched, and its end is long enough ago.
    fn must_have(&self, ended: &Ended, tolerance: Tolerance) -> bool {
        let margin = tolerance.margin_ms;
        let (from, until) = (ended.lease.bound.latest, ended.end.earliest);
        let known = ended.end.latest.plus_millis(margin);
        let is_past = self.watched.last().is_some_and(|last| last.until >= known);
        let was_watched = |watch: &Watch| {
            let within = watch.from <= from && until <= watch.until;
            let seen = until.min(watch.until).millis_since(from.max(watch.from));
            within || seen > margin
        };
        is_past && self.watched.iter().any(was_watched)
    }

    /// Returns whether a lease without GPUs may be on record only from this time on: the auditor began to
    /// watch then.
    fn began_late(&self, bound: Moment, tolerance: Tolerance) -> bool {
        let within = |watch: &Watch| {
            Moment::between(watch.from, bound.earliest).width() <= tolerance.margin_ms
        };
        self.watched.iter().any(within)
    }

    /// Energy of a lease. More was drawn than booked before the first reading, and after the last.
    fn energy(&self, lease: &Lease) -> Range {
        let begins = self.watched.first().map(|first| first.from);
        let booked = Range::of(self.settled.get(&lease.uid).copied().unwrap_or(lease.energy));
        let is_whole = self.settled.contains_key(&lease.uid)
            && begins.is_some_and(|begins| begins <= lease.bound.earliest);
        Range { most: if is_whole { booked.most } else { u64::MAX }, ..booked }
    }
}

/// Compares the leases of two ledgers.
pub fn compare_leases(
    one: &Observations,
    other: &Observations,
    tolerance: Tolerance,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut names = Names::default();
    for (uid, ended) in &one.leases {
        match other.leases.get(uid) {
            Some(others) => {
                for (first, second) in ended.iter().zip(others) {
                    compare_lease(
                        (one, first),
                        (other, second),
                        &mut names,
                        tolerance,
                        &mut differences,
                    );
                }
                let (least, ledger) = match ended.len() < others.len() {
                    true => (ended.len(), Side::Other),
                    false => (others.len(), Side::First),
                };
                let more = ended.get(least).or(others.get(least));
                differences.extend(more.map(|more| Difference::Missing {
                    uid: uid.clone(),
                    index: more.index,
                    ledger,
                }));
            }
            None => missing(other, uid, ended, Side::First, tolerance, &mut differences),
        }
    }
    for (uid, ended) in &other.leases {
        if !one.leases.contains_key(uid) {
            missing(one, uid, ended, Side::Other, tolerance, &mut differences);
        }
    }
    differences
}

fn missing(
    lacks: &Observations,
    uid: &Name,
    ended: &[Ended],
    ledger: Side,
    tolerance: Tolerance,
    differences: &mut Vec<Difference>,
) {
    if let Some(ended) = ended.iter().find(|ended| lacks.must_have(ended, tolerance)) {
        differences.push(Difference::Missing { uid: uid.clone(), index: ended.index, ledger });
    }
}

/// Names of accounts in one ledger by those in the other, and back. Pseudonyms of two ledgers differ unless
/// both have the same key, but each name is one name in the other.
#[derive(Default)]
struct Names {
    there: BTreeMap<Name, Name>,
    back: BTreeMap<Name, Name>,
}

impl Names {
    /// Returns whether two names may be the same, by all that were taken before.
    fn are_same(&mut self, one: Option<&Name>, other: Option<&Name>) -> bool {
        match (one, other) {
            (Some(one), Some(other)) => {
                let there = self.there.entry(one.clone()).or_insert_with(|| other.clone());
                let back = self.back.entry(other.clone()).or_insert_with(|| one.clone());
                there == other && back == one
            }
            (None, None) => true,
            _ => false,
        }
    }
}

fn compare_lease(
    (one, first): (&Observations, &Ended),
    (other, second): (&Observations, &Ended),
    names: &mut Names,
    tolerance: Tolerance,
    differences: &mut Vec<Difference>,
) {
    let (uid, at) = (&first.lease.uid, [first.index, second.index]);
    let mut differ = |what, one: &dyn fmt::Display, other: &dyn fmt::Display| {
        let (one, other) = (one.to_string(), other.to_string());
        differences.push(Difference::Lease { uid: uid.clone(), at, what, one, other });
    };
    let (a, b) = (&first.lease, &second.lease);
    if first.node != second.node {
        differ("node", &first.node, &second.node);
    }
    if a.gpus != b.gpus {
        differ("GPUs", &a.gpus, &b.gpus);
    }
    let class = |lease: &Lease| lease.account.class.clone().unwrap_or_else(|| "none".into());
    if a.account.class != b.account.class {
        differ("class", &class(a), &class(b));
    }
    let began_late =
        a.gpus == 0 && (one.began_late(a.bound, tolerance) || other.began_late(b.bound, tolerance));
    if !began_late && !overlap(a.bound, b.bound, tolerance) {
        differ("a beginning", &shown(a.bound), &shown(b.bound));
    }
    if !overlap(first.end, second.end, tolerance) {
        differ("an end", &shown(first.end), &shown(second.end));
    }
    if let (Some(one), Some(other)) = (a.started, b.started)
        && !overlap(one, other, tolerance)
    {
        differ("a start", &shown(one), &shown(other));
    }
    // Labels may be read once more by one of them, but name the same devices.
    let devices = |lease: &Lease| lease.devices.iter().cloned().collect::<BTreeSet<_>>();
    let (ours, theirs) = (devices(a), devices(b));
    if !ours.is_subset(&theirs) && !theirs.is_subset(&ours) {
        let list =
            |devices: &BTreeSet<Name>| devices.iter().cloned().collect::<Vec<_>>().join(", ");
        differ("devices", &list(&ours), &list(&theirs));
    }
    let (ours, theirs) = (one.energy(a), other.energy(b));
    if !ours.overlaps(theirs) {
        differ("millijoules", &ours, &theirs);
    }
    let namespaces = names.are_same(Some(&a.account.namespace), Some(&b.account.namespace));
    let registrations =
        names.are_same(a.account.registration.as_ref(), b.account.registration.as_ref());
    let pods = names.are_same(Some(&a.pod), Some(&b.pod));
    if !(namespaces && registrations && pods) {
        differences.push(Difference::Account { uid: uid.clone(), at });
    }
}

/// Returns whether two moments may be the same point in time.
fn overlap(one: Moment, other: Moment, tolerance: Tolerance) -> bool {
    // Kubernetes reports whole seconds, and both auditors read the same. Other times are their own.
    let is_reported = |moment: Moment| moment.earliest.0 % 1000 == 0 && moment.width() < 1000;
    let clocks = if is_reported(one) && is_reported(other) { 0 } else { tolerance.clocks_ms };
    one.earliest <= other.latest.plus_millis(clocks)
        && other.earliest <= one.latest.plus_millis(clocks)
}

/// A moment for people, in UTC.
fn shown(moment: Moment) -> String {
    let Moment { earliest, latest } = moment;
    match earliest == latest {
        true => format!("{} ms", earliest.0),
        false => format!("{} to {} ms", earliest.0, latest.0),
    }
}

/// Sums of a ledger over stretches of time that it watched together with another one.
#[derive(Debug)]
pub struct Sums {
    watches: Vec<Watch>,
    margin_ms: u64,
    /// By stretch, what it is the sum of, and its name.
    ranges: BTreeMap<(usize, String, &'static str), Range>,
}

impl Sums {
    /// Sums over these stretches.
    pub fn over(watches: &[Watch], tolerance: Tolerance) -> Self {
        let margin_ms = tolerance.margin_ms;
        Self { watches: watches.to_vec(), margin_ms, ranges: BTreeMap::new() }
    }

    /// Takes the next entry.
    pub fn take(&mut self, entry: &[u8]) {
        match serde_json::from_slice(entry) {
            Ok(Entry::Node(node)) => {
                let over = Watch { from: node.from, until: node.until };
                self.add(over, &node.time, &node.energy, &node.operated, &node.pools);
            }
            Ok(Entry::Nodes(nodes)) => {
                let from = nodes.stretches.iter().map(|stretch| stretch.from).min();
                let until = nodes.stretches.iter().map(|stretch| stretch.until).max();
                let (Some(from), Some(until)) = (from, until) else { return };
                let over = Watch { from, until };
                self.add(over, &nodes.time, &nodes.energy, &nodes.operated, &nodes.pools);
            }
            _ => {}
        }
    }

    fn add(
        &mut self,
        over: Watch,
        time: &[TimeEntry],
        energy: &[EnergyEntry],
        operated: &[OperatedEntry],
        pools: &[PoolEntry],
    ) {
        for at in 0..self.watches.len() {
            let Watch { from, until } = self.watches[at];
            let margin = self.margin_ms;
            // Energy is booked with the next reading: up to a margin later than it was drawn.
            let touches = over.until > from && over.from < until.plus_millis(margin);
            if !touches {
                continue;
            }
            let is_within = over.from >= from.plus_millis(margin) && over.until <= until;
            let mut add = |of: String, what, range: Range| {
                let sum = self.ranges.entry((at, of, what)).or_default();
                sum.most = sum.most.saturating_add(range.most);
                if is_within {
                    sum.least = sum.least.saturating_add(range.least);
                }
            };
            for TimeEntry { key, ms } in time {
                add(name(key.pool.as_ref(), &key.usage), "device-milliseconds", Range::of(*ms));
            }
            for EnergyEntry { key, method, mj } in energy {
                let what = match method {
                    Method::Declared => "declared millijoules",
                    _ => "millijoules",
                };
                add(name(key.pool.as_ref(), &key.usage), what, Range::of(*mj));
            }
            for OperatedEntry { pool, account, operated } in operated {
                let usage = Use::Pod(account.clone());
                add(name(pool.as_ref(), &usage), "pod-milliseconds", Range::of(operated.pod_ms));
            }
            for PoolEntry { pool, capacity_ms, moved_mj, .. } in pools {
                let of = name_of_pool(pool.as_ref());
                add(
                    of.clone(),
                    "milliseconds of all devices",
                    Range::of(Bounded::exactly(*capacity_ms)),
                );
                add(
                    of,
                    "millijoules by which counters moved",
                    Range::of(Bounded::exactly(*moved_mj)),
                );
            }
        }
    }

    /// Compares the sums of two ledgers.
    pub fn compare(&self, other: &Self) -> Vec<Difference> {
        let keys: BTreeSet<_> = self.ranges.keys().chain(other.ranges.keys()).collect();
        let mut differences = Vec::new();
        for key in keys {
            let of = |sums: &Self| sums.ranges.get(key).copied().unwrap_or_default();
            let (one, other) = (of(self), of(other));
            if !one.overlaps(other) {
                let (at, of, what) = key.clone();
                let Watch { from, until } = self.watches[at];
                differences.push(Difference::Sum { from, until, of, what, one, other });
            }
        }
        differences
    }
}

fn name_of_pool(pool: Option<&Name>) -> String {
    pool.map_or("nodes in no pool".to_owned(), |pool| format!("pool {pool}"))
}

/// Name of a sum: accounts of one class together, since their names differ by ledger.
fn name(pool: Option<&Name>, usage: &Use) -> String {
    let what = match usage {
        Use::Lease(account) | Use::Pod(account) => account.class.as_deref().unwrap_or("no class"),
        Use::Idle => "idle devices",
        Use::Unavailable => "unavailable devices",
    };
    format!("{what} in {}", name_of_pool(pool))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daylight_meter::{
        Account, Config, Meter, ObservedDevice, ObservedLease, Reading, Requested,
    };
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::auditor::batch::Batch;
    use crate::auditor::pseudonyms::Pseudonyms;
    use crate::entries::EntryWriter;

    const BEGIN: Timestamp = Timestamp(1_700_000_000_000);
    const SECONDS: u64 = 90;
    const TOLERANCE: Tolerance = Tolerance { margin_ms: 10_000, clocks_ms: 100 };

    const KEYS: &[&[u8]] = &[b"a secret of sixteen bytes", b"another secret of so many bytes"];

    fn at(ms: u64) -> Timestamp {
        BEGIN.plus_millis(ms)
    }

    /// Pod that runs from one time to another, in milliseconds.
    #[derive(Clone, Debug)]
    struct Pod {
        from: u64,
        until: u64,
        tenant: u8,
    }

    /// When an auditor runs, and how late it observes.
    #[derive(Clone, Debug)]
    struct Auditor {
        from: u64,
        scrapes: u64,
        watch_delay: u64,
        key: &'static [u8],
    }

    fn pods() -> impl Strategy<Value = Vec<Pod>> {
        let pod = (1000..40_000_u64, 500..30_000_u64, 0..3_u8).prop_map(|(from, ms, tenant)| Pod {
            from,
            until: from + ms,
            tenant,
        });
        prop::collection::vec(pod, 1..8)
    }

    fn auditor() -> impl Strategy<Value = Auditor> {
        (0..200_u64, 0..1000_u64, 0..900_u64, prop::sample::select(KEYS)).prop_map(
            |(from, scrapes, watch_delay, key)| Auditor {
                from: 100 * from,
                scrapes,
                watch_delay,
                key,
            },
        )
    }

    /// Lease of a pod, as the API server reports its binding: in whole seconds.
    fn lease(number: usize, pod: &Pod, observed: Timestamp) -> ObservedLease {
        let tenant = format!("team-{}", pod.tenant);
        ObservedLease {
            uid: format!("uid-{number}").into(),
            pod: format!("{tenant}/pod-{number}").into(),
            node: "n".into(),
            gpus: 1,
            requested: Requested::default(),
            account: Account {
                class: Some(["pow-mining", "ai-training"][usize::from(pod.tenant % 2)].into()),
                registration: Some(format!("{tenant}/registration").into()),
                namespace: tenant.into(),
            },
            watts: 300,
            bound: Moment::in_second(at(pod.from / 1000 * 1000), observed),
            started: None,
            owed: false,
        }
    }

    /// What an auditor records of these pods, which hold one device each of eight. A device draws 50 W,
    /// and 350 W in addition while it is held.
    fn record(pods: &[Pod], auditor: &Auditor) -> Vec<Value> {
        let config =
            Config { refresh_ms: 1000, unread_ms: 8000, book_every_ms: 5000, ..Config::default() };
        let mut meter = Meter::new(config);
        let pseudonyms = Pseudonyms::new(auditor.key);
        let lines: [&[u8]; 0] = [];
        let (mut writer, _) =
            EntryWriter::restore(pseudonyms, 0, Duration::from_secs(10), &lines).unwrap();
        let device = |number| ObservedDevice {
            id: format!("GPU-{number}").into(),
            model: None,
            limit_mw: Some(700_000),
        };
        let devices: Vec<_> = (0..8).map(device).collect();
        let mut batch = Batch::default();
        for now in (auditor.from..SECONDS * 1000).step_by(100) {
            if now == auditor.from {
                meter.devices(&"n".into(), Some(&"hall".into()), 8, &devices, at(now));
            }
            for (number, pod) in pods.iter().enumerate() {
                let seen = |event: u64| {
                    let first = (event + auditor.watch_delay).max(auditor.from);
                    (now..now + 100).contains(&first)
                };
                let lease = lease(number, pod, at(now + 100));
                // It ended before the auditor began.
                if pod.until + auditor.watch_delay < auditor.from {
                    continue;
                }
                if seen(pod.from) {
                    meter.lease(lease.clone(), at(now));
                }
                if seen(pod.until) {
                    let ended = Moment::in_second(at(pod.until / 1000 * 1000), at(now + 100));
                    meter.ended(lease, ended, None, at(now));
                }
            }
            if now == auditor.from {
                meter.auditor(AuditorEvent::Started, "test", at(now));
            }
            if now % 1000 == auditor.scrapes / 100 * 100 {
                // The exporter refreshes each second.
                let refreshed = now / 1000 * 1000;
                let reading = |number: usize| {
                    // Pods hold the devices by their numbers.
                    let held = pods.get(number).map_or(0, |pod| {
                        refreshed.min(pod.until).saturating_sub(pod.from.min(refreshed))
                    });
                    let holder = pods.get(number).filter(|pod| pod.from <= refreshed);
                    let holder = holder.filter(|pod| refreshed < pod.until);
                    Reading {
                        holder: holder.map(|pod| lease(number, pod, at(now)).pod),
                        device: format!("GPU-{number}").into(),
                        counter_mj: Some(1_000_000 + 50 * refreshed + 350 * held),
                        ..Reading::default()
                    }
                };
                let readings: Vec<_> = (0..8).map(reading).collect();
                meter.readings(&"n".into(), Moment::exactly(at(now)), &readings);
            }
            meter.advance(at(now).minus_millis(1500));
            batch.add(meter.take_entries(), &mut writer);
        }
        meter.flush();
        meter.auditor(AuditorEvent::Stopped, "test", at(SECONDS * 1000));
        batch.add(meter.take_entries(), &mut writer);
        batch.add_quiet(&mut writer);
        batch.leaves.iter().map(|leaf| serde_json::from_slice(leaf).unwrap()).collect()
    }

    fn compare(one: &[Value], other: &[Value]) -> Vec<Difference> {
        let bytes = |entries: &[Value]| -> Vec<Vec<u8>> {
            entries.iter().map(|entry| serde_json::to_vec(entry).unwrap()).collect()
        };
        let ledgers = [bytes(one), bytes(other)];
        let observed = ledgers.each_ref().map(|ledger| {
            let mut observed = Observations::default();
            for (index, entry) in ledger.iter().enumerate() {
                observed.take(index as u64, entry);
            }
            observed
        });
        let watches = observed[0].watched_by_both(&observed[1], TOLERANCE);
        let sums = ledgers.each_ref().map(|ledger| {
            let mut sums = Sums::over(&watches, TOLERANCE);
            ledger.iter().for_each(|entry| sums.take(entry));
            sums
        });
        let mut differences = compare_leases(&observed[0], &observed[1], TOLERANCE);
        differences.extend(sums[0].compare(&sums[1]));
        differences
    }

    /// Changes the first ended lease in the entries.
    fn change_closed(entries: &[Value], change: impl Fn(&mut Value)) -> Vec<Value> {
        let mut entries = entries.to_vec();
        let closed = entries.iter_mut().find_map(|entry| entry["closed"].get_mut(0));
        change(closed.unwrap());
        entries
    }

    /// Items of a list in an entry.
    fn lists<'a>(entry: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
        entry.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
    }

    fn two() -> [Vec<Value>; 2] {
        let pods = [
            Pod { from: 20_300, until: 41_700, tenant: 0 },
            Pod { from: 25_300, until: 48_200, tenant: 1 },
            Pod { from: 30_300, until: 52_900, tenant: 0 },
        ];
        let one =
            Auditor { from: 0, scrapes: 100, watch_delay: 100, key: b"a secret of sixteen bytes" };
        let other = Auditor {
            from: 4000,
            scrapes: 700,
            watch_delay: 800,
            key: b"another secret of so many",
        };
        [record(&pods, &one), record(&pods, &other)]
    }

    #[test]
    fn a_lease_that_one_auditor_changed_or_left_out_is_named() {
        let [one, other] = two();
        assert_eq!(compare(&one, &other), []);
        let lease = |what: &str| {
            let what = what.to_owned();
            move |found: &[Difference]| {
                found.iter().any(|one| matches!(one, Difference::Lease { what: is, uid, .. } if **is == what && **uid == *"uid-0"))
            }
        };
        let shift = |moment: &mut Value, ms: i64| {
            for side in ["earliest", "latest"] {
                moment[side] = json!(moment[side].as_i64().unwrap() + ms);
            }
        };
        let changed = |change: &dyn Fn(&mut Value)| compare(&one, &change_closed(&other, change));
        let ends_early = changed(&|closed| shift(&mut closed["ended"], -2000));
        assert!(lease("an end")(&ends_early), "{ends_early:?}");
        let begins_late = changed(&|closed| shift(&mut closed["lease"]["bound"], 2000));
        assert!(lease("a beginning")(&begins_late), "{begins_late:?}");
        let other_class =
            changed(&|closed| closed["lease"]["account"]["class"] = json!("pow-mining-2"));
        assert!(lease("class")(&other_class), "{other_class:?}");
        let fewer = changed(&|closed| closed["lease"]["gpus"] = json!(2));
        assert!(lease("GPUs")(&fewer), "{fewer:?}");
        let other_account = changed(&|closed| {
            closed["lease"]["account"]["registration"] = json!("00/11");
        });
        assert!(
            other_account.iter().any(|one| matches!(one, Difference::Account { .. })),
            "{other_account:?}"
        );
        let gone = {
            let mut entries = other.clone();
            let closed = entries.iter_mut().find(|entry| entry["closed"].get(0).is_some());
            closed.unwrap()["closed"].as_array_mut().unwrap().remove(0);
            compare(&one, &entries)
        };
        assert!(
            gone.iter().any(|one| matches!(one, Difference::Missing { uid, ledger: Side::First, .. } if **uid == *"uid-0")),
            "{gone:?}"
        );
        assert_eq!(
            gone[0].to_string().split(" in entry ").next(),
            Some("lease uid-0 is"),
            "it is named"
        );
    }

    #[test]
    fn amounts_that_one_auditor_changed_are_named() {
        let [one, other] = two();
        // More than the bounds of an exporter that refreshes each second allow for.
        let more = |value: &mut Value| {
            let number: u64 = value.as_str().unwrap().parse().unwrap();
            *value = json!((number + number / 10).to_string());
        };
        let mut entries = other.clone();
        for entry in &mut entries {
            for settled in lists(entry, "settled") {
                for _ in 0..6 {
                    more(&mut settled["energy"]["value"]);
                }
            }
        }
        let found = compare(&one, &entries);
        assert!(
            found.iter().any(|one| matches!(one, Difference::Lease { what: "millijoules", .. })),
            "{found:?}"
        );
        for (field, what) in [
            ("movedMj", "millijoules by which counters moved"),
            ("capacityMs", "milliseconds of all devices"),
        ] {
            let mut entries = other.clone();
            for entry in &mut entries {
                for pool in lists(entry, "pools") {
                    for _ in 0..6 {
                        more(&mut pool[field]);
                    }
                }
            }
            let found = compare(&one, &entries);
            let is =
                |one: &Difference| matches!(one, Difference::Sum { what: is, .. } if *is == what);
            assert!(found.iter().any(is), "{field}: {found:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn honest_auditors_agree(pods in pods(), one in auditor(), other in auditor()) {
            let (one, other) = (record(&pods, &one), record(&pods, &other));
            prop_assert_eq!(compare(&one, &other), vec![]);
        }
    }
}
