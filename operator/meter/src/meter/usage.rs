//! Energy usage of registrations in the periods of their limits.

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};

use super::Meter;
use crate::amount::energy_mj;
use crate::config::Config;
use crate::counts::{Counts, Period};
use crate::entry::Entry;
use crate::lease::Lease;
use crate::node::{Event, Node};

/// Energy usage of a registration since the start of a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Start of the period.
    pub start: Timestamp,
    /// Upper bound.
    pub millijoules: u64,
    /// Highest mean power of one replica.
    pub peak_watts: u64,
    /// Time up to which its energy is complete; `None` if one of its devices was never read while
    /// others of the same node were. If some of its nodes are read and others are not, the leases on
    /// the others are taken to draw what they can until then.
    pub metered_until: Option<Timestamp>,
}

impl Meter {
    /// Begins periods of registrations; those that have begun already are ignored.
    ///
    /// What is booked before the meter learns of a period does not count in it. So periods should be
    /// known before they begin, and also those that no limit has yet.
    pub fn begin_periods(&mut self, periods: impl IntoIterator<Item = Period>) {
        let new = self.counts.new_periods(periods, self.booked_until);
        if new.is_empty() {
            return;
        }
        // What is booked so far belongs to the counts so far.
        self.flush();
        let cuts: BTreeSet<Timestamp> = new.iter().map(|period| period.start).collect();
        for node in self.nodes.values_mut() {
            for start in &cuts {
                node.schedule(*start, Event::Cut);
            }
        }
        for period in new {
            let at = self.booked_until;
            self.counts.count(&period.registration).begin(&period, at);
            self.entries.push(Entry::Period { period, at });
        }
    }

    /// Counts of all registrations, as far as they are in entries.
    pub fn written_counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns the counts of all registrations, including what is not yet in an entry.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        for node in self.nodes.values() {
            for ((registration, start), (millijoules, peak)) in &node.booked.used {
                let count = counts.count(registration);
                count.add(*start, *millijoules);
                count.peak_watts = count.peak_watts.max(*peak);
            }
        }
        counts
    }

    /// Returns the usage of several registrations, each since the start of a period, in one pass
    /// over all nodes.
    pub fn usages<'a>(
        &self,
        counts: &Counts,
        registrations: impl IntoIterator<Item = (&'a Name, Timestamp)>,
    ) -> BTreeMap<Name, Usage> {
        let mut usages: BTreeMap<Name, Usage> = registrations
            .into_iter()
            .map(|(registration, start)| {
                let usage = Usage {
                    start,
                    millijoules: counts.since(registration, start),
                    peak_watts: counts.peak_watts(registration),
                    metered_until: Some(self.booked_until),
                };
                (registration.clone(), usage)
            })
            .collect();
        let mut unread: BTreeMap<&Name, Vec<(&Node, &Lease)>> = BTreeMap::new();
        let mut read: BTreeSet<&Name> = BTreeSet::new();
        for node in self.nodes.values() {
            let until = node.wholly_counted_until();
            let is_unread = node.is_unread(self.config.unread_ms);
            // Queued leases count too: they draw energy that no reading covers yet.
            let queued = node.queued_leases().filter(|lease| lease.gpus > 0);
            for lease in node.state.leases.iter().chain(queued) {
                let Some(registration) = &lease.account.registration else { continue };
                let Some(usage) = usages.get_mut(registration) else { continue };
                if is_unread {
                    unread.entry(registration).or_default().push((node, lease));
                    continue;
                }
                read.insert(registration);
                let until = usage.metered_until.zip(until);
                usage.metered_until = until.map(|(one, other)| one.min(other));
            }
        }
        for (registration, leases) in unread {
            let Some(usage) = usages.get_mut(registration) else { continue };
            for (node, lease) in leases {
                if read.contains(registration) {
                    // Other nodes are read, and this one holds up none of them: here its leases
                    // are taken to draw what they can.
                    if let Some(until) = usage.metered_until {
                        let mj = node.most_unread(lease, usage.start, until, &self.config);
                        usage.millijoules = usage.millijoules.saturating_add(mj);
                    }
                } else {
                    let until = usage.metered_until.zip(node.wholly_counted_until());
                    usage.metered_until = until.map(|(one, other)| one.min(other));
                }
            }
        }
        usages
    }

    /// Returns the usage of one registration since the start of a period.
    pub fn usage(&self, registration: &Name, start: Timestamp) -> Usage {
        let usages = self.usages(&self.counts(), [(registration, start)]);
        usages.get(registration).copied().unwrap_or_default()
    }
}

impl Node {
    /// Returns whether the energy of a device has not been read for too long, though this process
    /// had the time for it.
    fn is_unread(&self, unread_ms: u64) -> bool {
        let read = self.wholly_counted_until().or_else(|| self.unread_since());
        let since = read.into_iter().chain(self.booked_since).max();
        let is_old = |since| self.state.booked_until.millis_since(since) > unread_ms;
        self.booked_since.is_some() && since.is_some_and(is_old)
    }

    /// Returns the time at which the first of the devices that were never read joined.
    pub(super) fn unread_since(&self) -> Option<Timestamp> {
        let never = self.state.devices.iter().filter(|device| device.last.is_none());
        never.map(|device| device.joined).min()
    }

    /// Returns the most that a lease can have drawn since the last reading and since `start`, until
    /// a time.
    fn most_unread(
        &self,
        lease: &Lease,
        start: Timestamp,
        until: Timestamp,
        config: &Config,
    ) -> u64 {
        let read = self.read_until().into_iter().chain(self.unread_since()).min();
        let since = lease.bound.earliest.max(start).max(read.unwrap_or(start));
        let until = lease.held_until().map_or(until, |held| held.min(until));
        energy_mj(self.highest_limit(config), until.millis_since(since))
            .saturating_mul(lease.gpus.into())
    }
}
