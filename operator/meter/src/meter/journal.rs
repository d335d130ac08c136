//! Entries of the journal: made of bookings, and folded again into a meter.
//!
//! The meter's durable state is this fold, so every amount passes through [`Meter::add`], both when
//! its entry is made and when it is restored.

use super::Meter;
use daylight_base::{Name, Timestamp};

use crate::booked::Booked;
use crate::books::Books;
use crate::config::{Config, Terms};
use crate::entry::{
    EnergyEntry, Entry, NodeEntry, OperatedEntry, TimeEntry, Total, UsedEntry, WorkEntry,
};
use crate::node::Node;
use crate::object::ObjectKind;

/// Error of [`Meter::restore`].
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(
        "the auditor's last snapshot is incomplete: its end is missing; restore the data \
         directory from a backup, or start a new journal in an empty directory"
    )]
    Snapshot,
}

impl Meter {
    /// Returns a meter that continues after these entries: all from the first, or all from a
    /// snapshot on.
    pub fn restore(
        config: Config,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Self, RestoreError> {
        let mut meter = Self::new(config);
        let mut complete = true;
        for entry in entries {
            match &entry {
                Entry::SnapshotBegin => {
                    meter = Self::new(meter.config);
                    complete = false;
                }
                Entry::SnapshotEnd => complete = true,
                entry => meter.apply(entry),
            }
        }
        if complete { Ok(meter) } else { Err(RestoreError::Snapshot) }
    }

    fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Node(entry) => {
                self.add(entry);
                for closed in &entry.closed {
                    self.node_of.remove(&closed.lease.uid);
                }
                match &entry.state {
                    Some(state) => {
                        let node = Node::from_state(state.clone());
                        for lease in node.held_leases() {
                            self.node_of.insert(lease.uid.clone(), entry.node.clone());
                        }
                        self.nodes.insert(entry.node.clone(), node);
                    }
                    None => {
                        self.nodes.remove(&entry.node);
                    }
                }
                self.books.written_until = self.books.written_until.max(entry.until);
                if entry.until > self.booked_until {
                    self.booked_until = entry.until;
                    // An end that was observed is booked ahead of the horizon. Without the margin, an
                    // auditor that is back within it would take its clock for one that was set back.
                    let horizon = entry.until.minus_millis(self.config.lag_ms);
                    self.horizon = self.horizon.max(horizon);
                }
            }
            // In a log alone, where no entry has the state of a node.
            Entry::Nodes(entry) => {
                self.books.add_all(&entry.time, &entry.energy, &entry.operated, &entry.pools);
                self.add_used(&entry.used);
            }
            Entry::Period { period, at } => {
                self.counts.count(&period.registration).begin(period, *at);
            }
            Entry::Operating { registration, operating, at: _ } => {
                self.books.operating.insert(registration.clone(), *operating);
            }
            Entry::Object(entry) => self.register.apply(entry),
            Entry::Settings(entry) => self.register.apply_settings(entry),
            Entry::Total(total) => {
                self.books.add_all(&total.time, &total.energy, &total.operated, &total.pools);
                for WorkEntry { account, work } in &total.work {
                    self.books.add_work(account, *work);
                }
            }
            Entry::Used { period, millijoules, peak_watts } => {
                let count = self.counts.count(&period.registration);
                count.begin(period, Timestamp::default());
                count.add(period.start, *millijoules);
                count.peak_watts = count.peak_watts.max(*peak_watts);
            }
            Entry::Clock { at, back_ms } => {
                self.horizon = *at;
                let terms = Terms { config: &self.config, counts: &self.counts };
                self.nodes.values_mut().for_each(|node| node.clock_set_back(*back_ms, &terms));
            }
            Entry::Auditor { .. }
            | Entry::Closing(_)
            | Entry::SnapshotBegin
            | Entry::SnapshotEnd
            | Entry::Omitted { .. } => {}
        }
    }

    fn add(&mut self, entry: &NodeEntry) {
        self.books.add_all(&entry.time, &entry.energy, &entry.operated, &entry.pools);
        for closed in &entry.closed {
            if let Some(facts) = closed.facts {
                self.books.add_work(&closed.lease.account, facts);
            }
        }
        self.add_used(&entry.used);
    }

    fn add_used(&mut self, used: &[UsedEntry]) {
        for UsedEntry { registration, start, millijoules, peak_watts } in used {
            let count = self.counts.count(registration);
            count.add(*start, *millijoules);
            count.peak_watts = count.peak_watts.max(*peak_watts);
        }
    }

    /// Makes an entry of a node's bookings, and forgets the node if nothing is left of it.
    pub(super) fn write(&mut self, name: &Name) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let until = node.state.booked_until;
        let next = Booked { from: until, ..Booked::default() };
        let booked = std::mem::replace(&mut node.booked, next);
        if until <= booked.from && booked.is_nothing() {
            node.booked = booked;
            return;
        }
        debug_assert!(booked.closes(), "each entry closes by itself");
        // An end is reported until it is durable and its pod or record is released: the state must know
        // it, or it would be booked again. And a node stays until the books have passed its time, so
        // that what ended on it is known.
        let gone = node.is_empty()
            && node.state.closed.is_empty()
            && booked.has_no_capacity()
            && until <= self.booked_until;
        for closed in &booked.closed {
            self.node_of.remove(&closed.lease.uid);
        }
        let state = (!gone).then(|| node.state.clone());
        if gone {
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
            operated: booked
                .operated
                .into_iter()
                .map(|((pool, account), operated)| OperatedEntry { pool, account, operated })
                .collect(),
            pools: booked.pools.into_values().collect(),
            used: booked
                .used
                .into_iter()
                .map(|((registration, start), (millijoules, peak_watts))| UsedEntry {
                    registration,
                    start,
                    millijoules,
                    peak_watts,
                })
                .collect(),
            devices: booked.devices,
            closed: booked.closed,
            settled: booked.settled,
            gaps: booked.gaps,
            gone,
            state,
        };
        self.books.written_until = self.books.written_until.max(entry.until);
        self.add(&entry);
        self.entries.push(Entry::Node(Box::new(entry)));
    }

    /// Takes the entries that are to be made durable, in this order.
    pub fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// Returns the remaining entries, and after them a snapshot that replaces all earlier ones.
    pub fn snapshot(&mut self) -> Vec<Entry> {
        self.flush();
        let mut entries = self.take_entries();
        entries.push(Entry::SnapshotBegin);
        let Books { time, energy, operated, pools, operating, written_until, work } = &self.books;
        let time = time.iter().map(|(key, ms)| TimeEntry { key: key.clone(), ms: *ms });
        entries.extend(totals(time, |time| Total { time, ..Total::default() }));
        let energy = energy.iter().map(|((key, method), mj)| EnergyEntry {
            key: key.clone(),
            method: *method,
            mj: *mj,
        });
        entries.extend(totals(energy, |energy| Total { energy, ..Total::default() }));
        let operated = operated.iter().map(|((pool, account), operated)| OperatedEntry {
            pool: pool.clone(),
            account: account.clone(),
            operated: *operated,
        });
        entries.extend(totals(operated, |operated| Total { operated, ..Total::default() }));
        let pools = pools.values().cloned();
        entries.extend(totals(pools, |pools| Total { pools, ..Total::default() }));
        let work = work
            .iter()
            .map(|((account, _), work)| WorkEntry { account: account.clone(), work: *work });
        entries.extend(totals(work, |work| Total { work, ..Total::default() }));
        let at = *written_until;
        entries.extend(operating.iter().map(|(registration, operating)| Entry::Operating {
            registration: registration.clone(),
            operating: *operating,
            at,
        }));
        let register = &self.register;
        let is_known = |name: &Name| register.get(ObjectKind::Registration, name).is_some();
        self.counts.merge(self.booked_until);
        self.counts.forget(self.booked_until, is_known);
        entries.extend(self.counts.stretches().map(|(period, millijoules, peak_watts)| {
            Entry::Used { period, millijoules, peak_watts }
        }));
        let settings = self.register.settings().cloned();
        entries.extend(settings.map(|entry| Entry::Settings(Box::new(entry))));
        let objects = self.register.entries().cloned();
        entries.extend(objects.map(|entry| Entry::Object(Box::new(entry))));
        for (name, node) in &self.nodes {
            let at = node.state.booked_until;
            let entry = NodeEntry::state_only(name.clone(), at, Some(node.state.clone()));
            entries.push(Entry::Node(Box::new(entry)));
        }
        entries.push(Entry::SnapshotEnd);
        entries
    }
}

/// Totals in one entry of a snapshot. Each has at most 1,200 bytes, and a leaf has room for 65,535.
const PER_TOTAL: usize = 50;

/// Divides totals into entries that fit into a leaf.
fn totals<T: Clone>(all: impl Iterator<Item = T>, total: impl Fn(Vec<T>) -> Total) -> Vec<Entry> {
    let all: Vec<T> = all.collect();
    all.chunks(PER_TOTAL).map(|some| Entry::Total(total(some.to_vec()))).collect()
}
