//! Numbers of each registration's entries.

use std::collections::BTreeMap;

use daylight_base::Name;
use serde::{Deserialize, Serialize};

use super::Link;

/// The last entry of each registration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbering(BTreeMap<Name, Last>);

/// Last entry of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Last {
    /// Its number among the registration's entries.
    #[serde(with = "daylight_meter::decimal")]
    pub(super) number: u64,
    /// Its index in the ledger.
    #[serde(with = "daylight_meter::decimal")]
    pub(super) index: u64,
}

impl Numbering {
    /// Returns the link that the registration's next entry has.
    pub(super) fn next(&self, registration: &Name) -> Link {
        let last = self.0.get(registration);
        Link {
            registration: registration.clone(),
            number: last.map_or(1, |last| last.number + 1),
            previous: last.map(|last| last.index),
        }
    }

    /// Takes an entry as the registration's last one.
    pub(super) fn take(&mut self, registration: &Name, last: Last) {
        self.0.insert(registration.clone(), last);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, Last)> {
        self.0.iter().map(|(registration, last)| (registration, *last))
    }
}
