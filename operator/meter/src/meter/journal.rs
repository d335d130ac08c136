//! The meter's durable state is the fold of its entries: made here, and taken in here.

use super::{Meter, Used};
use daylight_base::Name;

use crate::booked::Booked;
use crate::config::Config;
use crate::entry::{
    EnergyEntry, Entry, NodeEntry, PoolEntry, TimeEntry, Total, UsedEntry, WorkEntry,
};
use crate::node::Node;

/// Why a meter cannot go on from entries.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot that they begin with is not whole.
    #[error("the snapshot breaks off: entries between its beginning and its end are missing")]
    Snapshot,
}

impl Meter {
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
                    None => {
                        self.nodes.remove(&entry.node);
                    }
                }
                if entry.until > self.booked_until {
                    (self.booked_until, self.horizon) = (entry.until, entry.until);
                }
            }
            Entry::Period { registration, start } => self.start_period(registration, *start),
            Entry::Object(entry) => self.register.fold(entry),
            Entry::Total(total) => {
                self.add_total(&total.time, &total.energy, &total.pools);
                for WorkEntry { account, work } in &total.work {
                    self.books.add_work(account, *work);
                }
            }
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
        for closed in &entry.closed {
            if let Some(facts) = closed.facts {
                self.books.add_work(&closed.lease.account, facts);
            }
        }
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
            self.books.add_time(key, *ms);
        }
        for EnergyEntry { key, method, mj } in energy {
            self.books.add_energy(key, *method, *mj);
        }
        for pool in pools {
            self.books.add_pool(pool);
        }
    }

    pub(super) fn write(&mut self, name: &Name) {
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
            entries.push(Entry::Total(Total { time, ..Total::default() }));
        }
        let energy = self.books.energy.iter().map(|((key, method), mj)| EnergyEntry {
            key: key.clone(),
            method: *method,
            mj: *mj,
        });
        let energy: Vec<_> = energy.collect();
        for energy in energy.chunks(PER_TOTAL) {
            let energy = energy.to_vec();
            entries.push(Entry::Total(Total { energy, ..Total::default() }));
        }
        let pools: Vec<_> = self.books.pools.values().cloned().collect();
        for pools in pools.chunks(PER_TOTAL) {
            let pools = pools.to_vec();
            entries.push(Entry::Total(Total { pools, ..Total::default() }));
        }
        let work = self
            .books
            .work
            .iter()
            .map(|((account, _), work)| WorkEntry { account: account.clone(), work: *work });
        let work: Vec<_> = work.collect();
        for work in work.chunks(PER_TOTAL) {
            let work = work.to_vec();
            entries.push(Entry::Total(Total { work, ..Total::default() }));
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
        let objects = self.register.entries().cloned();
        entries.extend(objects.map(|entry| Entry::Object(Box::new(entry))));
        for (name, node) in &self.nodes {
            let at = node.state.booked_until;
            let standing = NodeEntry::state_only(name.clone(), at, Some(node.state.clone()));
            entries.push(Entry::Node(Box::new(standing)));
        }
        entries.push(Entry::SnapshotEnd);
        entries
    }
}

/// Totals in one entry of a snapshot: each is 600 bytes at most.
const PER_TOTAL: usize = 100;
