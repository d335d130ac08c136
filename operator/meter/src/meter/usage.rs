//! Energy usage of registrations in the current period of their limits.

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};

use super::Meter;
use crate::entry::Entry;
use crate::node::Event;

/// Energy usage of a registration in the current period of its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Start of the period.
    pub start: Timestamp,
    /// Upper bound.
    pub millijoules: u64,
    /// Highest mean power of one replica.
    pub peak_watts: u64,
    /// Time up to which its energy is complete; `None` if one of its devices was never read.
    pub metered_until: Option<Timestamp>,
}

impl Meter {
    /// Begins periods of registrations' limits; those that have begun already are ignored.
    pub fn begin_periods(&mut self, periods: impl IntoIterator<Item = (Name, Timestamp)>) {
        let new: Vec<(Name, Timestamp)> = periods
            .into_iter()
            .filter(|(registration, start)| self.periods.get(registration) != Some(start))
            .collect();
        if new.is_empty() {
            return;
        }
        // Entries so far belong to the ending periods: an entry is added to one period as a whole.
        self.flush();
        let cuts: BTreeSet<Timestamp> = new.iter().map(|(_, start)| *start).collect();
        for node in self.nodes.values_mut() {
            for start in &cuts {
                node.schedule(*start, Event::Cut);
            }
        }
        for (registration, start) in new {
            self.start_period(&registration, start);
            self.entries.push(Entry::Period { registration, start });
        }
    }

    /// Returns the usage of several registrations in one pass over all nodes.
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

    /// Returns the usage of one registration.
    pub fn usage(&self, registration: &Name) -> Usage {
        self.usages([registration]).remove(registration).unwrap_or_default()
    }
}
