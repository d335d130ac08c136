//! Moments, and how well they are known.

use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Milliseconds from `earlier` to this; 0 if it is not after it.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0).max(0).cast_unsigned()
    }

    /// The moment so many milliseconds later.
    #[must_use]
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add_unsigned(millis))
    }

    /// The moment so many milliseconds earlier.
    #[must_use]
    pub fn minus(self, millis: u64) -> Self {
        Self(self.0.saturating_sub_unsigned(millis))
    }
}

/// A moment that is known to lie between two, both included. Its value is the earlier one for
/// what Kubernetes tells in whole seconds, as Kubernetes itself reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Not before this.
    pub earliest: Timestamp,
    /// Not after this.
    pub latest: Timestamp,
}

impl Moment {
    /// A moment that is known.
    pub fn exactly(at: Timestamp) -> Self {
        Self { earliest: at, latest: at }
    }

    /// A moment that was told in whole seconds, and cannot be after `seen`.
    pub fn in_second(at: Timestamp, seen: Timestamp) -> Self {
        Self { earliest: at, latest: at.plus(999).min(seen).max(at) }
    }

    /// A moment between two, in whichever order.
    pub fn between(one: Timestamp, other: Timestamp) -> Self {
        Self { earliest: one.min(other), latest: one.max(other) }
    }

    /// How far it is from being known, in milliseconds.
    pub fn width(self) -> u64 {
        self.latest.since(self.earliest)
    }

    /// Halfway.
    pub fn middle(self) -> Timestamp {
        self.earliest.plus(self.width() / 2)
    }
}
