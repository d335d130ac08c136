//! Points in time that are known only within bounds.

use daylight_base::Timestamp;
use serde::{Deserialize, Serialize};

/// Point in time within an interval, both ends included.
///
/// The books use the earlier end where Kubernetes reports whole seconds, as Kubernetes itself does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub earliest: Timestamp,
    pub latest: Timestamp,
}

impl Moment {
    /// Returns a moment without error.
    pub fn exactly(at: Timestamp) -> Self {
        Self { earliest: at, latest: at }
    }

    /// Returns a moment that was reported in whole seconds, no later than `observed`.
    pub fn in_second(at: Timestamp, observed: Timestamp) -> Self {
        Self { earliest: at, latest: at.plus_millis(999).min(observed).max(at) }
    }

    /// Returns a moment between two times, in either order.
    pub fn between(one: Timestamp, other: Timestamp) -> Self {
        Self { earliest: one.min(other), latest: one.max(other) }
    }

    /// Width of the interval, in milliseconds.
    pub fn width(self) -> u64 {
        self.latest.millis_since(self.earliest)
    }

    /// Middle of the interval.
    pub fn middle(self) -> Timestamp {
        self.earliest.plus_millis(self.width() / 2)
    }
}
