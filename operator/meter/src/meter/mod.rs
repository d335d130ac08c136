//! The meter of a whole site: its state, and the books made of it.

pub(crate) mod journal;
mod observe;
pub(crate) mod unread;
pub(crate) mod usage;

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};
use rustc_hash::FxHashMap;

use crate::books::{Book, Books, Imbalance};
use crate::config::{Config, Terms};
use crate::counts::Counts;
use crate::entry::Entry;
use crate::node::Node;
use crate::observed::ObservedDevice;
use crate::operating::{Running, Turn, set_running, take_turn};
use crate::register::Register;

/// No entry has time before and after a multiple of it, in milliseconds since 1970. In every time zone a
/// day begins at one of them, and so does each period that is declared.
pub const CUT_MS: u64 = 15 * 60 * 1000;
/// Longest time in one call of [`Meter::advance`] that is divided, after an outage.
const MOST_CUT_MS: u64 = 62 * 24 * 60 * 60 * 1000;

/// Returns the first multiple of [`CUT_MS`] after a time.
pub fn next_cut(at: Timestamp) -> Timestamp {
    let past = at.millis_since(Timestamp::default()) % CUT_MS;
    at.plus_millis(CUT_MS - past)
}

/// Meter of a whole site.
///
/// Its methods fall into four groups, to be called in this order and in a loop:
///
/// 1. Observations ([`Self::lease`], [`Self::ended`], [`Self::devices`], [`Self::readings`], …)
///    arrive in any order and may repeat. After a restart the whole cluster is observed again; then
///    [`Self::vanished`] ends the leases that are missing.
/// 2. [`Self::advance`] books everything up to a horizon. Nothing that is still to be observed
///    should lie before it.
/// 3. [`Self::take_entries`] or [`Self::snapshot`] returns the entries to write.
/// 4. Once these are durable, [`Self::closed`] names the pods to release; [`Self::forget`] follows
///    when they are gone.
#[derive(Debug, Default)]
pub struct Meter {
    config: Config,
    nodes: BTreeMap<Name, Node>,
    /// Node of each lease that has not ended, by UID.
    node_of: FxHashMap<Name, Name>,
    /// Totals of all entries.
    books: Books,
    counts: Counts,
    /// `None` until it is counted after the start.
    running: Option<Running>,
    register: Register,
    /// Entries that have not been taken.
    entries: Vec<Entry>,
    booked_until: Timestamp,
    /// Last horizon of [`Self::advance`]: before `booked_until` after the clock was set back.
    horizon: Timestamp,
}

impl Meter {
    /// Returns a meter with empty books.
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    fn node(&mut self, name: &Name, at: Timestamp) -> &mut Node {
        self.nodes.entry(name.clone()).or_insert_with(|| Node::new(at))
    }

    /// Books everything until `horizon`, and ends an entry of each node at every multiple of [`CUT_MS`]
    /// on the way, for the last 62 days at most.
    ///
    /// An observation from before the horizon that arrives later is booked late, with wider bounds.
    /// A horizon before the previous one shows that the clock was set back.
    pub fn advance(&mut self, horizon: Timestamp) {
        for node in self.nodes.values_mut() {
            node.booked_since.get_or_insert(horizon);
        }
        let mut cut = next_cut(self.booked_until.max(horizon.minus_millis(MOST_CUT_MS)));
        // Before the first call there is nothing to be divided.
        while self.booked_until > Timestamp::default() && cut < horizon {
            self.advance_to(cut);
            cut = next_cut(cut);
        }
        self.advance_to(horizon);
    }

    fn advance_to(&mut self, horizon: Timestamp) {
        let back_ms = self.horizon.millis_since(horizon);
        self.horizon = horizon;
        if back_ms > 0 {
            self.entries.push(Entry::Clock { at: horizon, back_ms });
            let terms = Terms { config: &self.config, counts: &self.counts };
            self.nodes.values_mut().for_each(|node| node.clock_set_back(back_ms, &terms));
        }
        self.count_running();
        self.booked_until = self.booked_until.max(horizon);
        let config = &self.config;
        let terms = Terms { config, counts: &self.counts };
        // All nodes are written at the same times, so that those without events share an entry.
        let turn = |at: Timestamp| at.millis_since(Timestamp(0)) / config.book_every_ms.max(1);
        let (mut due, mut turns) = (Vec::new(), Vec::new());
        for (name, node) in &mut self.nodes {
            node.book(horizon, &terms);
            turns.append(&mut node.turns);
            let booked = &node.booked;
            let until = node.state.booked_until;
            let full = turn(until) > turn(booked.from) || until >= next_cut(booked.from);
            // Pods wait for closed leases, and later amounts are differences from first readings.
            let urgent = booked.first || !booked.closed.is_empty() || !booked.devices.is_empty();
            if full || urgent {
                due.push(name.clone());
            }
        }
        for name in due {
            self.write(&name);
        }
        self.take_turns(turns);
    }

    /// Counts the leases that run under each registration, once. What is on record differs where a
    /// journal is older than these entries.
    fn count_running(&mut self) {
        if self.running.is_some() {
            return;
        }
        let mut running = Running::new();
        let held = self.nodes.values().flat_map(Node::held_leases);
        for registration in held.filter_map(|lease| lease.account.registration.as_ref()) {
            *running.entry(registration.clone()).or_default() += 1;
        }
        let known = self.books.operating.keys().chain(running.keys()).cloned();
        let known: BTreeSet<Name> = known.collect();
        let at = self.booked_until;
        for registration in known {
            let is_running = running.contains_key(&registration);
            let operating = self.books.operating.entry(registration.clone()).or_default();
            if operating.since.is_some() != is_running {
                set_running(operating, is_running, at);
                let operating = *operating;
                self.entries.push(Entry::Operating { registration, operating, at });
            }
        }
        self.running = Some(running);
    }

    /// Records the registrations whose first lease began, or whose last one ended.
    fn take_turns(&mut self, mut turns: Vec<Turn>) {
        let Some(running) = &mut self.running else { return };
        // Nodes are booked one after the other, and their leases overlap.
        turns.sort_unstable();
        for turn in turns {
            if let Some(operating) = take_turn(&mut self.books.operating, running, &turn) {
                let Turn { at, registration, .. } = turn;
                self.entries.push(Entry::Operating { registration, operating, at });
            }
        }
    }

    /// Makes an entry of each node's bookings.
    pub fn flush(&mut self) {
        let nodes: Vec<Name> = self.nodes.keys().cloned().collect();
        for name in nodes {
            self.write(&name);
        }
    }

    /// Returns the totals, including bookings that are not yet in an entry.
    pub fn books(&self) -> Books {
        let mut books = self.books.clone();
        for booked in self.nodes.values().map(|node| &node.booked) {
            for (key, ms) in &booked.time {
                books.add_time(key, *ms);
            }
            for ((key, method), mj) in &booked.energy {
                books.add_energy(key, *method, *mj);
            }
            for ((pool, account), operated) in &booked.operated {
                books.add_operated(pool.as_ref(), account, *operated);
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

    /// Totals of all entries: a meter restored from these has the same.
    pub fn written(&self) -> &Books {
        &self.books
    }

    /// Returns the devices of a node in the books.
    pub fn devices_of(&self, node: &str) -> Vec<ObservedDevice> {
        let devices = self.nodes.get(node).into_iter().flat_map(|node| &node.state.devices);
        devices.map(|device| device.seen.clone()).collect()
    }

    /// Iterates over the nodes in the books.
    pub fn nodes(&self) -> impl Iterator<Item = &Name> {
        self.nodes.keys()
    }

    /// Iterates over the UIDs of leases that are closed and whose pods wait to be released.
    pub fn closed(&self) -> impl Iterator<Item = &Name> {
        self.nodes.values().flat_map(|node| &node.state.closed)
    }

    /// End of the booked time.
    pub fn booked_until(&self) -> Timestamp {
        self.booked_until
    }

    /// Checks that the books close for every pool, for every device with a counter and for every
    /// account's leases; the first imbalance is the error.
    pub fn check(&self) -> Result<(), Imbalance> {
        self.check_with(&self.books())
    }

    /// Like [`Self::check`], for a caller that already has [`Self::books`].
    pub fn check_with(&self, books: &Books) -> Result<(), Imbalance> {
        books.check()?;
        books.check_operated(self.nodes.values().flat_map(Node::held_leases))?;
        let devices = self.nodes.values().flat_map(|node| &node.state.devices);
        for device in devices {
            if let Some((total, booked)) = device.imbalance() {
                let owner = format!("device {}", device.seen.id).into();
                return Err(Imbalance { book: Book::Energy, owner, booked, total });
            }
        }
        Ok(())
    }
}
