//! What registrations use of their energy limits.

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};

use super::Meter;
use crate::entry::Entry;
use crate::node::Event;

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

impl Meter {
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
