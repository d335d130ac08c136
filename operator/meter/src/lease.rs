//! Leases: pods that hold GPUs.

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::amount::Bounded;
use crate::moment::Moment;

/// Account to which time, energy and work are booked.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Account {
    /// Activity class; `None` if undeclared.
    pub class: Option<Name>,
    /// `namespace/name` of the registration; `None` if unregistered.
    pub registration: Option<Name>,
    pub namespace: Name,
}

/// Pod that holds GPUs of a node, or held them.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub uid: Name,
    /// `namespace/name` of the pod.
    pub pod: Name,
    pub account: Account,
    pub gpus: u32,
    /// True if the pod waits for its end to be recorded before it is released.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owed: bool,
    /// Declared power, in watts.
    #[serde(default)]
    pub watts: u64,
    /// Time when the pod was bound.
    pub bound: Moment,
    /// Time when its containers started.
    pub started: Option<Moment>,
    /// Start of its time in the books: after `bound` only if the books had passed that already.
    pub from: Timestamp,
    /// End of its time in the books; `None` while it holds its GPUs.
    pub until: Option<Timestamp>,
    /// Time of its end, as reported.
    pub ended: Option<Moment>,
    /// Energy booked so far, in millijoules.
    #[serde(default)]
    pub energy: Bounded,
    /// Work that it last reported, while it holds its GPUs.
    pub work: Option<Facts>,
}

impl Lease {
    /// Latest time at which it may have held its GPUs; `None` while it holds them.
    pub(crate) fn held_until(&self) -> Option<Timestamp> {
        Some(self.until?.max(self.ended?.latest))
    }

    /// Returns whether it holds its GPUs at a time, by the books.
    pub(crate) fn holds_at(&self, at: Timestamp) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// Work that a miner reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Shares that the mining pool accepted.
    #[serde(with = "crate::amount::decimal")]
    pub shares_accepted: u64,
    #[serde(with = "crate::amount::decimal")]
    pub shares_rejected: u64,
    #[serde(with = "crate::amount::decimal")]
    pub hashes: u64,
    /// True if the agent observed the mining pool's answers; false if the miner claims them.
    pub seen: bool,
}

impl Facts {
    /// Adds work with the same evidence.
    pub(crate) fn add(&mut self, more: Self) {
        let Self { shares_accepted, shares_rejected, hashes, seen } = more;
        self.shares_accepted = self.shares_accepted.saturating_add(shares_accepted);
        self.shares_rejected = self.shares_rejected.saturating_add(shares_rejected);
        self.hashes = self.hashes.saturating_add(hashes);
        self.seen = seen;
    }
}
