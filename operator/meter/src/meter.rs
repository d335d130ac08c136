//! The meter of a whole site.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::entry::{PoolEntry, Total};
use crate::node::{Booked, Event, Node, Sample};
use crate::{
    Books, Bounded, DeviceSeen, EnergyEntry, Entry, Facts, Imbalance, Lease, LeaseSeen, Moment,
    Name, NodeEntry, Reading, TimeEntry, Timestamp, UsedEntry,
};

/// What the meter goes by. Times in milliseconds, power in milliwatts.
#[derive(Clone, Debug)]
pub struct Config {
    /// How old a figure may be that an exporter gives: dcgm-exporter refreshes every 30 s.
    pub refresh_ms: u64,
    /// How often a node's books are written when nothing asks for it sooner.
    pub book_every_ms: u64,
    /// The most that a device draws whose own limit is not known.
    pub limit_mw: u64,
    /// What a device draws that does nothing; more than that is unexplained while nobody has it.
    pub idle_mw: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { refresh_ms: 30_000, book_every_ms: 60_000, limit_mw: 1_500_000, idle_mw: 150_000 }
    }
}

/// What a registration has used of the present period of its energy limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// When the period began.
    pub start: Timestamp,
    /// Energy since then, in millijoules, upper bound.
    pub millijoules: u64,
    /// The highest mean power of one replica, in watts.
    pub peak_watts: u64,
    /// All of its energy up to here is counted; `None` where a device of it was never read.
    pub metered_until: Option<Timestamp>,
}

/// What holds for a booking.
pub(crate) struct Terms<'a> {
    pub(crate) config: &'a Config,
    /// When the present period of each registration began.
    pub(crate) periods: &'a BTreeMap<Name, Timestamp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    millijoules: u64,
    peak_watts: u64,
}

/// Why a meter cannot go on from entries.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot that they begin with is not whole.
    #[error("the snapshot breaks off: entries between its beginning and its end are missing")]
    Snapshot,
}

/// The meter of a site: see the crate's documentation.
#[derive(Debug, Default)]
pub struct Meter {
    config: Config,
    nodes: BTreeMap<Name, Node>,
    /// The node of each lease that is known and not settled.
    at: FxHashMap<Name, Name>,
    books: Books,
    periods: BTreeMap<Name, Timestamp>,
    used: BTreeMap<Name, Used>,
    entries: Vec<Entry>,
    booked_until: Timestamp,
    /// Until when it was last told to book.
    horizon: Timestamp,
}

impl Meter {
    /// A meter that knows nothing.
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    /// A meter that goes on after these entries: from a snapshot on, or all from the first.
    ///
    /// # Errors
    ///
    /// The snapshot is not whole.
    pub fn restore(
        config: Config,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Self, RestoreError> {
        let mut meter = Self::new(config);
        let mut whole = true;
        for entry in entries {
            match &entry {
                Entry::SnapshotBegin => {
                    meter = Self::new(meter.config);
                    whole = false;
                }
                Entry::SnapshotEnd => whole = true,
                entry => meter.fold(entry),
            }
        }
        if whole { Ok(meter) } else { Err(RestoreError::Snapshot) }
    }

    /// Takes in what an entry says.
    fn fold(&mut self, entry: &Entry) {
        match entry {
            Entry::Node(entry) => {
                self.add(entry);
                for closed in &entry.closed {
                    self.at.remove(&closed.lease.uid);
                }
                match &entry.state {
                    Some(state) => {
                        for lease in state.leases.iter().filter(|lease| lease.until.is_none()) {
                            self.at.insert(lease.uid.clone(), entry.node.clone());
                        }
                        let node = Node::from_state(state.clone());
                        self.nodes.insert(entry.node.clone(), node);
                    }
                    None if entry.more => {}
                    None => {
                        self.nodes.remove(&entry.node);
                    }
                }
                if entry.until > self.booked_until {
                    (self.booked_until, self.horizon) = (entry.until, entry.until);
                }
            }
            Entry::Period { registration, start } => self.start_period(registration, *start),
            Entry::Total(total) => self.add_total(&total.time, &total.energy, &total.pools),
            Entry::Used { registration, start, millijoules, peak_watts } => {
                self.periods.insert(registration.clone(), *start);
                let used = Used { millijoules: *millijoules, peak_watts: *peak_watts };
                self.used.insert(registration.clone(), used);
            }
            Entry::Clock { at, back_ms } => {
                self.horizon = *at;
                self.nodes.values_mut().for_each(|node| node.clock_set_back(*back_ms));
            }
            Entry::SnapshotBegin | Entry::SnapshotEnd => {}
        }
    }

    fn add(&mut self, entry: &NodeEntry) {
        self.add_total(&entry.time, &entry.energy, &entry.pools);
        for used in &entry.used {
            // What belongs to a period that is over is in the journal, and counts no more.
            if self.period(&used.registration) == used.start {
                let sum = self.used.entry(used.registration.clone()).or_default();
                sum.millijoules += used.millijoules;
                sum.peak_watts = sum.peak_watts.max(used.peak_watts);
            }
        }
    }

    fn add_total(&mut self, time: &[TimeEntry], energy: &[EnergyEntry], pools: &[PoolEntry]) {
        for TimeEntry { key, ms } in time {
            self.books.time.entry(key.clone()).or_default().add(*ms);
        }
        for EnergyEntry { key, method, mj } in energy {
            self.books.energy.entry((key.clone(), *method)).or_default().add(*mj);
        }
        for entry in pools {
            let add = |sums: &mut BTreeMap<Option<Name>, u64>, more: u64| {
                *sums.entry(entry.pool.clone()).or_default() += more;
            };
            add(&mut self.books.capacity_ms, entry.capacity_ms);
            add(&mut self.books.moved_mj, entry.moved_mj);
            add(&mut self.books.overcommitted_ms, entry.overcommitted_ms);
            add(&mut self.books.gap_ms, entry.gap_ms);
        }
    }

    fn period(&self, registration: &str) -> Timestamp {
        self.periods.get(registration).copied().unwrap_or_default()
    }

    fn start_period(&mut self, registration: &Name, start: Timestamp) {
        self.periods.insert(registration.clone(), start);
        let used = self.used.entry(registration.clone()).or_default();
        used.millijoules = 0;
    }

    fn node(&mut self, name: &Name, at: Timestamp) -> &mut Node {
        self.nodes.entry(name.clone()).or_insert_with(|| Node::new(at))
    }

    /// A pod holds GPUs. To say it again changes nothing.
    pub fn lease(&mut self, seen: LeaseSeen, now: Timestamp) {
        if self.at.contains_key(&seen.uid) {
            return;
        }
        self.at.insert(seen.uid.clone(), seen.node.clone());
        let (name, lease) = lease(seen);
        self.node(&name, now).at(lease.from, Event::Begin(lease));
    }

    /// Whether a lease is in the books and has not ended.
    pub fn holds(&self, uid: &str) -> bool {
        self.at.contains_key(uid)
    }

    /// A pod that held GPUs holds them no more. One that the books never had, and whose end they
    /// have passed, was booked before, or ended before the books began; unless it waits to be let
    /// go: then it is closed late.
    pub fn ended(&mut self, seen: LeaseSeen, ended: Moment, facts: Option<Facts>, now: Timestamp) {
        let uid = seen.uid.clone();
        if !self.at.contains_key(&uid) {
            let terms = Terms { config: &self.config, periods: &self.periods };
            let node = self.nodes.entry(seen.node.clone()).or_insert_with(|| Node::new(now));
            if node.state.closed.contains(&uid) {
                return;
            }
            if ended.earliest <= node.state.booked_until {
                if seen.owed {
                    node.close_late(lease(seen).1, ended, facts, &terms);
                }
                return;
            }
            self.lease(seen, now);
        }
        self.end(&uid, ended, facts, false);
    }

    /// A pod was let go, or is gone: its end needs not be remembered.
    pub fn forget(&mut self, uid: &str) {
        for node in self.nodes.values_mut().filter(|node| !node.state.closed.is_empty()) {
            node.state.closed.retain(|closed| **closed != *uid);
        }
    }

    /// Pods that are not there any more, and whose end nobody saw: somewhere between when they
    /// were last known to hold their GPUs and `now`.
    pub fn vanished(&mut self, present: &FxHashSet<Name>, now: Timestamp) {
        let gone: BTreeSet<Name> =
            self.at.keys().filter(|uid| !present.contains(*uid)).cloned().collect();
        for uid in gone {
            self.vanish(&uid, now);
        }
    }

    /// The same for one pod.
    pub fn vanish(&mut self, uid: &str, now: Timestamp) {
        let Some(node) = self.at.get(uid).and_then(|node| self.nodes.get(node)) else { return };
        let known = node.lease(uid).map_or(node.state.booked_until, |lease| lease.from);
        let ended = Moment::between(known.max(node.state.booked_until), now);
        self.end(uid, ended, None, true);
    }

    fn end(&mut self, uid: &str, ended: Moment, facts: Option<Facts>, unseen: bool) {
        let Some(node) = self.at.get(uid).and_then(|node| self.nodes.get_mut(node)) else {
            return;
        };
        if node.is_ending(uid) || (node.lease(uid).is_none() && !node.is_waiting(uid)) {
            return;
        }
        let began = node.events.iter().find_map(|((at, _), event)| match event {
            Event::Begin(lease) if *lease.uid == *uid => Some(*at),
            _ => None,
        });
        // Whole seconds may say that it ended before it began.
        let at = ended.earliest.max(began.unwrap_or(ended.earliest));
        node.at(at, Event::End { uid: uid.into(), ended, facts, unseen });
    }

    /// The devices of a node, and how many of them it offers.
    pub fn devices(
        &mut self,
        name: &Name,
        pool: Option<&Name>,
        usable: u32,
        devices: &[DeviceSeen],
        now: Timestamp,
    ) {
        let node = self.node(name, now);
        node.at(now, Event::Devices { pool: pool.cloned(), usable, devices: devices.to_vec() });
    }

    /// Which boot of its machine a node is. With another one, its devices' counters began again,
    /// even where they have passed what they said before.
    pub fn boot(&mut self, name: &Name, boot: &Name, now: Timestamp) {
        let node = self.node(name, now);
        let state = &mut node.state;
        if state.boot.as_ref().is_some_and(|known| known != boot) {
            for device in &mut state.devices {
                device.resets += 1;
            }
            let joined = |id: &&Name| state.devices.iter().any(|device| device.seen.id == **id);
            let waiting: Vec<Name> =
                node.samples.keys().filter(|id| !joined(id)).cloned().collect();
            if !waiting.is_empty() {
                // Said again until those have joined, and what is durable tells of it.
                node.began_again.extend(waiting);
                return;
            }
        }
        state.boot = Some(boot.clone());
    }

    /// What an exporter says of a node's devices. It was asked at `asked.earliest`, and had
    /// answered at `asked.latest`.
    pub fn readings(&mut self, name: &Name, asked: Moment, readings: &[Reading]) {
        let refresh = self.config.refresh_ms;
        let Some(node) = self.nodes.get_mut(name) else { return };
        for reading in readings {
            node.read(reading, asked, refresh);
        }
    }

    /// A node is gone, and with it whatever was on it: somewhere between when it was last known
    /// and `now`.
    pub fn node_gone(&mut self, name: &Name, now: Timestamp) {
        let uids: Vec<Name> =
            self.at.iter().filter(|(_, node)| *node == name).map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.vanish(&uid, now);
        }
        if let Some(node) = self.nodes.get_mut(name) {
            node.at(
                now,
                Event::Devices { pool: node.state.pool.clone(), usable: 0, devices: Vec::new() },
            );
        }
    }

    /// A calendar period of a registration's energy limit begins.
    pub fn begin_period(&mut self, registration: &Name, start: Timestamp) {
        if self.periods.get(registration) == Some(&start) {
            return;
        }
        // What is booked so far belongs to the period that ends.
        let nodes: Vec<Name> = self.nodes.keys().cloned().collect();
        for name in nodes {
            self.write(&name);
            if let Some(node) = self.nodes.get_mut(&name) {
                node.at(start, Event::Cut);
            }
        }
        self.start_period(registration, start);
        self.entries.push(Entry::Period { registration: registration.clone(), start });
    }

    /// Books everything until `horizon`, which nothing that is still to be observed should lie
    /// before: what does is booked late, with the bounds that follow. Nodes on which leases ended
    /// are written at once, others when their time has come. A horizon before the last one shows
    /// that the clock was set back.
    pub fn advance(&mut self, horizon: Timestamp) {
        let back_ms = self.horizon.since(horizon);
        self.horizon = horizon;
        if back_ms > 0 {
            self.entries.push(Entry::Clock { at: horizon, back_ms });
            self.nodes.values_mut().for_each(|node| node.clock_set_back(back_ms));
        }
        self.booked_until = self.booked_until.max(horizon);
        let terms = Terms { config: &self.config, periods: &self.periods };
        let mut due = Vec::new();
        for (name, node) in &mut self.nodes {
            node.book(horizon, &terms);
            let full =
                node.state.booked_until.since(node.booked.from) >= terms.config.book_every_ms;
            let booked = &node.booked;
            let news = booked.first || !booked.closed.is_empty() || !booked.devices.is_empty();
            if full || news {
                due.push(name.clone());
            }
        }
        for name in due {
            self.write(&name);
        }
    }

    /// Writes the books of all nodes.
    pub fn flush(&mut self) {
        let nodes: Vec<Name> = self.nodes.keys().cloned().collect();
        for name in nodes {
            self.write(&name);
        }
    }

    fn write(&mut self, name: &Name) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let until = node.state.booked_until;
        let booked =
            std::mem::replace(&mut node.booked, Booked { from: until, ..Booked::default() });
        if until <= booked.from && booked.is_nothing() {
            node.booked = booked;
            return;
        }
        let over = node.state.devices.is_empty()
            && node.state.leases.is_empty()
            && node.events.is_empty()
            && booked.capacity_is_none();
        for closed in &booked.closed {
            self.at.remove(&closed.lease.uid);
        }
        let state = (!over).then(|| node.state.clone());
        if over {
            self.nodes.remove(name);
        }
        let entry = NodeEntry {
            node: name.clone(),
            from: booked.from,
            until,
            time: booked.time.into_iter().map(|(key, ms)| TimeEntry { key, ms }).collect(),
            energy: booked
                .energy
                .into_iter()
                .map(|((key, method), mj)| EnergyEntry { key, method, mj })
                .collect(),
            pools: booked.pools.into_values().collect(),
            used: booked
                .used
                .into_iter()
                .map(|(registration, (millijoules, peak_watts))| UsedEntry {
                    start: self.periods.get(&registration).copied().unwrap_or_default(),
                    registration,
                    millijoules,
                    peak_watts,
                })
                .collect(),
            devices: booked.devices,
            closed: booked.closed,
            settled: booked.settled,
            gaps: booked.gaps,
            more: false,
            state,
        };
        self.add(&entry);
        self.entries.push(Entry::Node(Box::new(entry)));
    }

    /// What is to be made durable, in this order.
    pub fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// Entries that alone say all that was booked so far. Take those of before first.
    pub fn snapshot(&mut self) -> Vec<Entry> {
        self.flush();
        let mut entries = self.take_entries();
        entries.push(Entry::SnapshotBegin);
        let time = self.books.time.iter().map(|(key, ms)| TimeEntry { key: key.clone(), ms: *ms });
        let time: Vec<_> = time.collect();
        for time in time.chunks(PER_TOTAL) {
            let time = time.to_vec();
            entries.push(Entry::Total(Total { time, energy: Vec::new(), pools: Vec::new() }));
        }
        let energy = self.books.energy.iter().map(|((key, method), mj)| EnergyEntry {
            key: key.clone(),
            method: *method,
            mj: *mj,
        });
        let energy: Vec<_> = energy.collect();
        for energy in energy.chunks(PER_TOTAL) {
            let energy = energy.to_vec();
            entries.push(Entry::Total(Total { time: Vec::new(), energy, pools: Vec::new() }));
        }
        let of = |sums: &BTreeMap<Option<Name>, u64>, pool: &Option<Name>| {
            sums.get(pool).copied().unwrap_or_default()
        };
        let pools: Vec<_> = self
            .books
            .capacity_ms
            .keys()
            .map(|pool| PoolEntry {
                pool: pool.clone(),
                capacity_ms: of(&self.books.capacity_ms, pool),
                moved_mj: of(&self.books.moved_mj, pool),
                overcommitted_ms: of(&self.books.overcommitted_ms, pool),
                gap_ms: of(&self.books.gap_ms, pool),
            })
            .collect();
        for pools in pools.chunks(PER_TOTAL) {
            let pools = pools.to_vec();
            entries.push(Entry::Total(Total { time: Vec::new(), energy: Vec::new(), pools }));
        }
        for (registration, start) in &self.periods {
            let used = self.used.get(registration).copied().unwrap_or_default();
            entries.push(Entry::Used {
                registration: registration.clone(),
                start: *start,
                millijoules: used.millijoules,
                peak_watts: used.peak_watts,
            });
        }
        for (name, node) in &self.nodes {
            let at = node.state.booked_until;
            let standing = NodeEntry::standing(name.clone(), at, Some(node.state.clone()));
            entries.push(Entry::Node(Box::new(standing)));
        }
        entries.push(Entry::SnapshotEnd);
        entries
    }

    /// The totals, with what is not written yet.
    pub fn books(&self) -> Books {
        let mut books = self.books.clone();
        for node in self.nodes.values() {
            for (key, ms) in &node.booked.time {
                books.time.entry(key.clone()).or_default().add(*ms);
            }
            for (key, mj) in &node.booked.energy {
                books.energy.entry(key.clone()).or_default().add(*mj);
            }
            for (pool, entry) in &node.booked.pools {
                *books.capacity_ms.entry(pool.clone()).or_default() += entry.capacity_ms;
                *books.moved_mj.entry(pool.clone()).or_default() += entry.moved_mj;
                *books.overcommitted_ms.entry(pool.clone()).or_default() += entry.overcommitted_ms;
                *books.gap_ms.entry(pool.clone()).or_default() += entry.gap_ms;
            }
        }
        books
    }

    /// The devices of a node, as the books have them.
    pub fn devices_of(&self, node: &str) -> Vec<DeviceSeen> {
        let devices = self.nodes.get(node).into_iter().flat_map(|node| &node.state.devices);
        devices.map(|device| device.seen.clone()).collect()
    }

    /// The nodes in the books.
    pub fn nodes(&self) -> impl Iterator<Item = &Name> {
        self.nodes.keys()
    }

    /// Leases whose end is on record and whose pods wait to be let go, by UID.
    pub fn closed(&self) -> impl Iterator<Item = &Name> {
        self.nodes.values().flat_map(|node| &node.state.closed)
    }

    /// Until when everything is booked.
    pub fn booked_until(&self) -> Timestamp {
        self.booked_until
    }

    /// Whether the books close.
    ///
    /// # Errors
    ///
    /// The first pool of which they do not.
    pub fn check(&self) -> Result<(), Imbalance> {
        self.books().check()
    }

    /// What a registration has used of its present period.
    pub fn usage(&self, registration: &Name) -> Usage {
        let used = self.used.get(registration).copied().unwrap_or_default();
        let mut usage = Usage {
            start: self.period(registration),
            millijoules: used.millijoules,
            peak_watts: used.peak_watts,
            metered_until: Some(self.booked_until),
        };
        for node in self.nodes.values() {
            if let Some((millijoules, peak)) = node.booked.used.get(registration) {
                usage.millijoules += millijoules;
                usage.peak_watts = usage.peak_watts.max(*peak);
            }
            let works = |lease: &Lease| lease.account.registration.as_ref() == Some(registration);
            let waits = |event: &Event| matches!(event, Event::Begin(lease) if works(lease));
            let leases = &node.state.leases;
            if !leases.iter().any(works) && !node.events.values().any(waits) {
                continue;
            }
            let unread = node.state.devices.is_empty()
                || node.state.devices.iter().any(|device| device.last.is_none());
            let read = node.read_until().filter(|_| !unread);
            usage.metered_until = usage.metered_until.zip(read).map(|(one, other)| one.min(other));
        }
        usage
    }
}

/// Totals in one entry of a snapshot: each is 600 bytes at most.
const PER_TOTAL: usize = 100;

/// A lease as it begins in the books, and its node.
fn lease(seen: LeaseSeen) -> (Name, Lease) {
    let LeaseSeen { uid, pod, node, gpus, account, watts, bound, started, owed } = seen;
    let lease = Lease {
        uid,
        pod,
        account,
        gpus,
        owed,
        watts,
        bound,
        started,
        from: bound.earliest,
        until: None,
        ended: None,
        energy: Bounded::default(),
    };
    (node, lease)
}

impl Booked {
    fn is_nothing(&self) -> bool {
        self.closed.is_empty()
            && self.devices.is_empty()
            && self.time.is_empty()
            && self.energy.is_empty()
            && self.gaps.is_empty()
    }

    fn capacity_is_none(&self) -> bool {
        self.pools.values().all(|pool| pool.capacity_ms == 0)
    }
}

impl Node {
    /// Takes in a reading, if it says something new.
    fn read(&mut self, reading: &Reading, asked: Moment, refresh_ms: u64) {
        // Of a device that has not joined yet it is kept until it has.
        let id = reading.device.clone();
        let device = self.state.devices.iter().find(|device| device.seen.id == id);
        let newest = self.samples.get(&id).and_then(|samples| samples.back());
        let known = newest.or(device.and_then(|device| device.last.as_ref()));
        let queued = self.samples.get(&id).into_iter().flatten();
        let waiting = queued.filter(|sample| sample.reset).count();
        let reset = device.is_some_and(|device| device.resets as usize > waiting);
        let reset = self.began_again.remove(&id) || reset;
        let counted = known.is_some_and(|known| known.counter.is_some());
        let news = match (reading.counter_mj, known.and_then(|known| known.counter)) {
            (Some(counter), Some(before)) => reset || counter != before,
            (Some(_), None) => true,
            // A counter that is blank for once says nothing; the next one bridges it.
            (None, _) => !counted && reading.power_mw.is_some(),
        };
        let latest = known.map(|known| known.at.latest).max(self.read_at.get(&id).copied());
        let untimed = latest.is_some_and(|latest| asked.latest < latest);
        // It was refreshed after the answer in which it still had its old value.
        let after = known.map(|known| known.at.earliest).max(self.read_at.get(&id).copied());
        // A blank does not say that the counter still has its old value.
        if reading.counter_mj.is_some() || !counted {
            let read_at = self.read_at.entry(id.clone()).or_insert(asked.earliest);
            *read_at = asked.earliest.max(*read_at);
        }
        if !news {
            return;
        }
        let at = match latest {
            Some(latest) if untimed => Moment::exactly(latest),
            _ => {
                let earliest = after.max(Some(asked.earliest.minus(refresh_ms)));
                let earliest = earliest.unwrap_or(asked.earliest).min(asked.latest);
                Moment { earliest, latest: asked.latest }
            }
        };
        self.samples.entry(id).or_default().push_back(Sample {
            at,
            counter: reading.counter_mj,
            power: if reading.counter_mj.is_some() { None } else { reading.power_mw },
            reset,
            clock_steps: self.state.clock_steps,
            untimed,
            holder: reading.holder.clone(),
        });
    }
}
