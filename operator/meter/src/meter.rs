//! The meter of a whole site.

mod fold;

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap, FxHashSet};

pub use self::fold::RestoreError;
use crate::node::{Event, Node};
use crate::register::Register;
use crate::{
    Books, Bounded, DeviceSeen, Entry, Facts, Imbalance, Lease, LeaseSeen, Moment, ObjectKind,
    ObjectSeen, Reading,
};
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
    register: Register,
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

    /// What a lease says of its work so far: it counts where its end brings no other word.
    pub fn worked(&mut self, uid: &str, facts: Facts) {
        let node = self.at.get(uid).and_then(|node| self.nodes.get_mut(node));
        let lease = node.and_then(|node| {
            node.state.leases.iter_mut().find(|lease| *lease.uid == *uid && lease.until.is_none())
        });
        if let Some(lease) = lease {
            lease.work = Some(facts);
        }
    }

    /// Says of which pool a node was that the books do not have, or have no more.
    pub fn was_of_pool(&mut self, node: &Name, pool: &Name, now: Timestamp) {
        self.nodes.entry(node.clone()).or_insert_with(|| {
            let mut node = Node::new(now);
            node.state.pool = Some(pool.clone());
            node
        });
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
        let began = node.began_at(uid);
        if node.is_ending(uid) || (node.lease(uid).is_none() && began.is_none()) {
            return;
        }
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

    /// Calendar periods of registrations' energy limits begin. To say it again changes nothing.
    pub fn begin_periods(&mut self, periods: impl IntoIterator<Item = (Name, Timestamp)>) {
        let new: Vec<(Name, Timestamp)> = periods
            .into_iter()
            .filter(|(registration, start)| self.periods.get(registration) != Some(start))
            .collect();
        if new.is_empty() {
            return;
        }
        // What is booked so far belongs to the periods that end.
        self.flush();
        let cuts: BTreeSet<Timestamp> = new.iter().map(|(_, start)| *start).collect();
        for node in self.nodes.values_mut() {
            for start in &cuts {
                node.at(*start, Event::Cut);
            }
        }
        for (registration, start) in new {
            self.start_period(&registration, start);
            self.entries.push(Entry::Period { registration, start });
        }
    }

    /// A registration, a class or a pool as it is seen. To say it again changes nothing.
    pub fn object(&mut self, seen: ObjectSeen, now: Timestamp) {
        self.entries.extend(self.register.see(seen, now));
    }

    /// Such an object is gone.
    pub fn object_gone(&mut self, kind: ObjectKind, name: &Name, now: Timestamp) {
        self.entries.extend(self.register.lose(kind, name, now));
    }

    /// How an object was last seen.
    pub fn object_seen(&self, kind: ObjectKind, name: &Name) -> Option<&ObjectSeen> {
        self.register.get(kind, name)
    }

    /// The objects that are on record, as they were last seen.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectSeen> {
        self.register.entries().map(|entry| &entry.seen)
    }

    /// Books everything until `horizon`, which nothing that is still to be observed should lie
    /// before: what does is booked late, with the bounds that follow. Nodes on which leases ended
    /// are written at once, others when their time has come. A horizon before the last one shows
    /// that the clock was set back.
    pub fn advance(&mut self, horizon: Timestamp) {
        let back_ms = self.horizon.millis_since(horizon);
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
            let full = node.state.booked_until.millis_since(node.booked.from)
                >= terms.config.book_every_ms;
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

    /// The totals, with what is not written yet.
    pub fn books(&self) -> Books {
        let mut books = self.books.clone();
        for booked in self.nodes.values().map(|node| &node.booked) {
            for (key, ms) in &booked.time {
                books.add_time(key, *ms);
            }
            for ((key, method), mj) in &booked.energy {
                books.add_energy(key, *method, *mj);
            }
            for pool in booked.pools.values() {
                books.add_pool(pool);
            }
            for closed in &booked.closed {
                if let Some(facts) = closed.facts {
                    books.add_work(&closed.lease.account, facts);
                }
            }
        }
        books
    }

    /// The totals of what entries were made of: those that a meter restored from them has.
    pub fn written(&self) -> &Books {
        &self.books
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

    /// Whether the books close: of time and energy of every pool, and of every device whose
    /// counter is read.
    ///
    /// # Errors
    ///
    /// The first pool or device of which they do not.
    pub fn check(&self) -> Result<(), Imbalance> {
        self.check_with(&self.books())
    }

    /// The same, with [`Self::books`] that are at hand.
    ///
    /// # Errors
    ///
    /// The first pool or device of which they do not.
    pub fn check_with(&self, books: &Books) -> Result<(), Imbalance> {
        books.check()?;
        let devices = self.nodes.values().flat_map(|node| &node.state.devices);
        for device in devices {
            if let Some((total, booked)) = device.imbalance() {
                let of = format!("device {}", device.seen.id).into();
                return Err(Imbalance { what: "energy", of, booked, total });
            }
        }
        Ok(())
    }

    /// What registrations have used of their present periods.
    pub fn usages<'a>(
        &self,
        registrations: impl IntoIterator<Item = &'a Name>,
    ) -> BTreeMap<Name, Usage> {
        let mut usages: BTreeMap<Name, Usage> = registrations
            .into_iter()
            .map(|registration| {
                let used = self.used.get(registration).copied().unwrap_or_default();
                let usage = Usage {
                    start: self.period(registration),
                    millijoules: used.millijoules,
                    peak_watts: used.peak_watts,
                    metered_until: Some(self.booked_until),
                };
                (registration.clone(), usage)
            })
            .collect();
        for node in self.nodes.values() {
            for (registration, (millijoules, peak)) in &node.booked.used {
                if let Some(usage) = usages.get_mut(registration) {
                    usage.millijoules += millijoules;
                    usage.peak_watts = usage.peak_watts.max(*peak);
                }
            }
            let read = node.wholly_read_until();
            for lease in node.state.leases.iter().chain(node.waiting()) {
                if let Some(registration) = &lease.account.registration
                    && let Some(usage) = usages.get_mut(registration)
                {
                    let until = usage.metered_until.zip(read);
                    usage.metered_until = until.map(|(one, other)| one.min(other));
                }
            }
        }
        usages
    }

    /// What one registration has used.
    pub fn usage(&self, registration: &Name) -> Usage {
        self.usages([registration]).remove(registration).unwrap_or_default()
    }
}

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
        work: None,
    };
    (node, lease)
}
