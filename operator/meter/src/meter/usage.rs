//! Energy usage of registrations in the periods of their limits.

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};

use super::Meter;
use crate::counts::{Counts, Period};
use crate::entry::Entry;
use crate::node::Event;

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
    /// others of the same node were.
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
        for node in self.nodes.values() {
            let read = node.wholly_counted_until();
            // Queued leases count too: they draw energy that no reading covers yet.
            for lease in node.state.leases.iter().chain(node.queued_leases()) {
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

    /// Returns the usage of one registration since the start of a period.
    pub fn usage(&self, registration: &Name, start: Timestamp) -> Usage {
        let usages = self.usages(&self.counts(), [(registration, start)]);
        usages.get(registration).copied().unwrap_or_default()
    }
}
