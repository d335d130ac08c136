//! The meter of a whole site.

pub(crate) mod journal;
mod observe;
pub(crate) mod usage;

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use rustc_hash::FxHashMap;

use crate::books::{Book, Books, Imbalance};
use crate::config::{Config, Terms};
use crate::entry::Entry;
use crate::node::Node;
use crate::observe::DeviceSeen;
use crate::register::Register;

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
                let owner = format!("device {}", device.seen.id).into();
                return Err(Imbalance { book: Book::Energy, owner, booked, total });
            }
        }
        Ok(())
    }
}
