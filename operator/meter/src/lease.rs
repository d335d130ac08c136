//! Leases: pods that hold GPUs.

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::amount::Bounded;
use crate::moment::Moment;

/// For whom the books are kept.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Account {
    /// The activity class; `None` is undeclared.
    pub class: Option<Name>,
    /// `namespace/name` of the registration, if it is registered.
    pub registration: Option<Name>,
    pub namespace: Name,
}

/// A pod that holds GPUs of a node, or held them.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub uid: Name,
    /// `namespace/name` of the pod.
    pub pod: Name,
    /// For whom it is booked.
    pub account: Account,
    /// How many it holds.
    pub gpus: u32,
    /// Whether it waits to be let go once its end is on record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owed: bool,
    /// Watts declared for it.
    #[serde(default)]
    pub watts: u64,
    /// When it was bound.
    pub bound: Moment,
    /// When it began to run, if it did.
    pub started: Option<Moment>,
    /// From when on it is in the books: later than it was bound only where that was learnt after
    /// the books had gone on.
    pub from: Timestamp,
    /// Until when; `None` as long as it holds them.
    pub until: Option<Timestamp>,
    /// When it ended, as it was told.
    pub ended: Option<Moment>,
    /// Energy booked for it so far, in millijoules.
    #[serde(default)]
    pub energy: Bounded,
    /// What it last said of its work, while it holds its GPUs.
    pub work: Option<Facts>,
}

impl Lease {
    /// Until when it may have held its GPUs.
    pub(crate) fn held_until(&self) -> Option<Timestamp> {
        Some(self.until?.max(self.ended?.latest))
    }

    pub(crate) fn holds_at(&self, at: Timestamp) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// What a miner says of its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Shares that the pool took.
    #[serde(with = "crate::amount::decimal")]
    pub shares_accepted: u64,
    /// Shares that it did not.
    #[serde(with = "crate::amount::decimal")]
    pub shares_rejected: u64,
    #[serde(with = "crate::amount::decimal")]
    pub hashes: u64,
    /// Whether the agent itself saw the pool take the shares; else they are claimed.
    pub seen: bool,
}

impl Facts {
    /// Adds work of the same evidence.
    pub(crate) fn add(&mut self, more: Self) {
        self.shares_accepted = self.shares_accepted.saturating_add(more.shares_accepted);
        self.shares_rejected = self.shares_rejected.saturating_add(more.shares_rejected);
        self.hashes = self.hashes.saturating_add(more.hashes);
        self.seen = more.seen;
    }
}
