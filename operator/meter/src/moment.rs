//! Moments, and how well they are known.

use daylight_base::Timestamp;
use serde::{Deserialize, Serialize};

/// A moment that is known to lie between two, both included. Its value is the earlier one for
/// what Kubernetes tells in whole seconds, as Kubernetes itself reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub earliest: Timestamp,
    pub latest: Timestamp,
}

impl Moment {
    /// A moment that is known.
    pub fn exactly(at: Timestamp) -> Self {
        Self { earliest: at, latest: at }
    }

    /// A moment that was told in whole seconds, and cannot be after `seen`.
    pub fn in_second(at: Timestamp, seen: Timestamp) -> Self {
        Self { earliest: at, latest: at.plus_millis(999).min(seen).max(at) }
    }

    /// A moment between two, in whichever order.
    pub fn between(one: Timestamp, other: Timestamp) -> Self {
        Self { earliest: one.min(other), latest: one.max(other) }
    }

    /// How far it is from being known, in milliseconds.
    pub fn width(self) -> u64 {
        self.latest.millis_since(self.earliest)
    }

    /// Halfway.
    pub fn middle(self) -> Timestamp {
        self.earliest.plus_millis(self.width() / 2)
    }
}
