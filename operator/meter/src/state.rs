//! Durable state of a node, as the auditor's own entries keep it.

use std::collections::VecDeque;

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::attribution::SECOND;
use crate::lease::Lease;
use crate::moment::Moment;
use crate::observed::ObservedDevice;

/// State of a node: everything needed to continue its books after a restart.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// End of the booked time.
    pub booked_until: Timestamp,
    /// Boot ID of its machine, if known.
    pub boot: Option<Name>,
    /// Number of times the clock was set back.
    #[serde(default)]
    pub clock_steps: u32,
    #[serialize_always]
    pub pool: Option<Name>,
    /// Number of GPUs that it offers.
    pub usable: u32,
    /// Time up to which the energy of leases was booked as declared; `None` if it never was.
    pub declared_until: Option<Timestamp>,
    /// Time since when the energy of leases is neither declared nor read: the first reading waits.
    pub undeclared_since: Option<Timestamp>,
    /// Sorted by ID.
    pub devices: Vec<Device>,
    /// Leases that hold its devices, and ended ones whose energy is not completely booked.
    pub leases: Vec<Lease>,
    /// Leases without GPUs. They are apart, so that they cannot change the devices' books.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_gpus: Vec<Lease>,
    /// UIDs of leases whose end is recorded and whose pods wait to be released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<Name>,
    /// Holders of its devices since the oldest reading from which energy is still to be booked.
    pub spans: VecDeque<Span>,
}

/// Device and its last reading.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    #[serde(flatten)]
    pub seen: ObservedDevice,
    /// Time when it joined the node.
    pub joined: Timestamp,
    /// Number of counter resets since the last reading.
    #[serde(default)]
    pub resets: u32,
    /// Reading up to which its energy is booked.
    pub last: Option<Sample>,
    /// Its own books, while its counter continues.
    pub counted: Option<Counted>,
    /// A reading whose counter is less, while the next one is awaited.
    pub deviates: Option<Sample>,
    /// Counter before a last reading that is less though the machine did not boot.
    pub dropped_from: Option<u64>,
    /// Value at which its counter stopped, or was no longer reported.
    pub stopped: Option<u64>,
    /// Time since when its counter, its power and its power limit contradict each other.
    pub mismatched: Option<Timestamp>,
    /// The time for which one lease has had it alone, until it is long enough to be a measure of power.
    pub stretch: Option<Stretch>,
}

/// Energy of one lease on a device that it had alone, from one reading to a later one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// UID of the lease's pod.
    pub lease: Name,
    pub from: Moment,
    pub until: Moment,
    #[serde(with = "crate::amount::decimal")]
    pub millijoules: u64,
}

/// A stretch is a measure of power once it is this many times longer than the times of both its
/// readings are uncertain. The lower bound of its mean power is at most a sixth below the truth then.
const CERTAIN: u64 = 5;

impl Stretch {
    /// The mean power, in watts, if the stretch is long enough. Never more than the truth.
    pub(crate) fn watts(&self) -> Option<u64> {
        let longest = self.until.latest.millis_since(self.from.earliest);
        let doubt = self.from.width() + self.until.width();
        (longest - doubt.min(longest) >= (CERTAIN * doubt).max(SECOND))
            .then(|| self.millijoules / longest)
    }
}

/// Books of one device: its counter reads `from + booked`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Counter at the first reading, or at the first after one that was not believed.
    #[serde(with = "crate::amount::decimal")]
    pub from: u64,
    /// Millijoules booked since.
    #[serde(with = "crate::amount::decimal")]
    pub booked: u64,
}

impl Device {
    /// Returns the energy that its counter moved and the energy booked, if they differ.
    pub(crate) fn imbalance(&self) -> Option<(u64, u64)> {
        let counted = self.counted?;
        let moved = self.last.as_ref()?.counter?.saturating_sub(counted.from);
        (moved != counted.booked).then_some((moved, counted.booked))
    }
}

/// Reading with a new value.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Time when the exporter read the device.
    pub at: Moment,
    /// Energy counter, in millijoules.
    pub counter: Option<u64>,
    /// Power, in milliwatts.
    pub power: Option<u64>,
    /// True if the counter was reset since the previous reading.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// What one value in between that was less leaves in doubt.
    pub doubt: Option<Doubt>,
    /// [`NodeState::clock_steps`] at that time.
    #[serde(default)]
    pub clock_steps: u32,
    /// True if the clock places it before the previous reading; it is later, by an unknown time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untimed: bool,
    /// Pod that held the whole device, by the exporter's labels.
    pub holder: Option<Name>,
}

/// Reason not to take the difference of two counters for all that was drawn between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Doubt {
    /// The counter may have gone back: the device drew the difference, or more.
    Step,
    /// The counter may have begun again.
    Reset,
}

/// Stretch of time in which the holders of a node's devices did not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub from: Timestamp,
    pub until: Timestamp,
    pub pool: Option<Name>,
    /// Number of devices.
    pub devices: u32,
    /// Number of GPUs offered: more than devices where these are divided.
    pub offered: u32,
    /// UIDs of the leases that held them.
    pub held: Vec<Name>,
}

impl Device {
    /// Value at which its counter has stopped after further readings; `None` while it counts.
    pub(crate) fn stopped_after<'a>(
        &self,
        readings: impl Iterator<Item = &'a Sample>,
    ) -> Option<u64> {
        let last = self.last.as_ref().and_then(|last| last.counter);
        let (stopped, _) = readings.fold((self.stopped, last), |(stopped, last), sample| {
            let stopped = if sample.counter.is_some() { None } else { last.or(stopped) };
            (stopped, sample.counter)
        });
        stopped
    }
}

impl Sample {
    /// Returns whether the clock measured the time since the previous reading.
    pub(crate) fn is_timed_from(&self, last: &Self) -> bool {
        !self.untimed && !last.untimed && self.clock_steps == last.clock_steps
    }
}

impl Span {
    /// Returns whether the same leases hold the same devices as in another span.
    pub(crate) fn has_same_holders(&self, other: &Self) -> bool {
        let Self { from: _, until: _, pool, devices, offered, held } = self;
        (pool, devices, offered, held) == (&other.pool, &other.devices, &other.offered, &other.held)
    }
}
