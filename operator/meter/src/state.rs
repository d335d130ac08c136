//! How a node stands, as an entry of the journal keeps it.

use std::collections::VecDeque;

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::lease::Lease;
use crate::moment::Moment;
use crate::observe::DeviceSeen;

/// How a node stands: all that is needed to go on from there.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// Until when its time is booked.
    pub booked_until: Timestamp,
    /// Which boot of its machine it is, if that is known.
    pub boot: Option<Name>,
    /// How often the clock was set back.
    #[serde(default)]
    pub clock_steps: u32,
    #[serialize_always]
    pub pool: Option<Name>,
    /// How many of its devices it offers.
    pub usable: u32,
    pub devices: Vec<Device>,
    /// Leases that hold its devices, and those whose energy is not booked to the end.
    pub leases: Vec<Lease>,
    /// Leases whose end is on record and whose pods wait to be let go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<Name>,
    /// Who held its devices since the oldest reading that energy is still to be booked from.
    pub spans: VecDeque<Span>,
}

/// A device as it was last read.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    #[serde(flatten)]
    pub seen: DeviceSeen,
    /// Since when it is here.
    pub joined: Timestamp,
    /// How often its counter began again since it was last read.
    #[serde(default)]
    pub resets: u32,
    /// The last reading up to which its energy is booked.
    pub last: Option<Sample>,
    /// Its own books, as long as its counter goes on from a reading.
    pub counted: Option<Counted>,
}

/// The books of one device: `from` and what is booked make its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Its counter when it was first read, or read again after it could not be believed.
    #[serde(with = "crate::amount::decimal")]
    pub from: u64,
    /// Millijoules booked since, to whomever.
    #[serde(with = "crate::amount::decimal")]
    pub booked: u64,
}

impl Device {
    /// What its counter has moved and what of it is booked, if that is not the same.
    pub(crate) fn imbalance(&self) -> Option<(u64, u64)> {
        let counted = self.counted?;
        let moved = self.last.as_ref()?.counter?.saturating_sub(counted.from);
        (moved != counted.booked).then_some((moved, counted.booked))
    }
}

/// A reading that says something new.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When the exporter took it.
    pub at: Moment,
    /// The counter, in millijoules.
    pub counter: Option<u64>,
    /// The power, in milliwatts.
    pub power: Option<u64>,
    /// Whether the counter began again since the reading before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// How often the clock had been set back.
    #[serde(default)]
    pub clock_steps: u32,
    /// Whether it is older, by the clock, than the reading before: all that is known of its time
    /// is that it is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untimed: bool,
    /// The pod that had the whole device.
    pub holder: Option<Name>,
}

/// A stretch of time in which the node's devices were held by the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub from: Timestamp,
    pub until: Timestamp,
    pub pool: Option<Name>,
    /// How many devices there were.
    pub devices: u32,
    /// How many the node offered: more than there were, where they were divided.
    pub offered: u32,
    /// The leases that held them, by UID.
    pub held: Vec<Name>,
}

impl Sample {
    /// Whether the clock tells how long after another this was.
    pub(crate) fn is_timed_from(&self, last: &Self) -> bool {
        !self.untimed && !last.untimed && self.clock_steps == last.clock_steps
    }
}

impl Span {
    /// Whether the devices are held by the same.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.pool == other.pool
            && (self.devices, self.offered) == (other.devices, other.offered)
            && self.held == other.held
    }
}
