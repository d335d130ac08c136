//! What goes into the journal. Each entry is small enough for one leaf of a log, and none is ever
//! changed.

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{IntoStaticStr, VariantArray};

use crate::amount::Bounded;
use crate::key::{Key, Method};
use crate::lease::{Account, Facts, Lease};
use crate::moment::Moment;
use crate::object::ObjectEntry;
use crate::observe::DeviceSeen;
use crate::state::NodeState;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[strum(serialize_all = "camelCase", const_into_str)]
pub enum Entry {
    /// What happened on one node, and how it stands.
    Node(Box<NodeEntry>),
    /// A calendar period of a registration's energy limit begins.
    Period {
        /// `namespace/name` of the registration.
        registration: Name,
        start: Timestamp,
    },
    /// A registration, a class or a pool changed.
    Object(Box<ObjectEntry>),
    /// The clock was set back.
    Clock {
        at: Timestamp,
        /// By how many milliseconds.
        #[serde(with = "crate::amount::decimal")]
        back_ms: u64,
    },
    /// A snapshot begins: what follows until [`Entry::SnapshotEnd`] says all that came before.
    SnapshotBegin,
    /// A total, in a snapshot.
    Total(Total),
    /// What a registration has used, in a snapshot.
    Used {
        /// `namespace/name` of the registration.
        registration: Name,
        start: Timestamp,
        /// How much, in millijoules, upper bound.
        #[serde(with = "crate::amount::decimal")]
        millijoules: u64,
        /// The highest mean power of one replica, in watts.
        peak_watts: u64,
    },
    /// A snapshot is complete.
    SnapshotEnd,
}

/// A total of the books, in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Total {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<TimeEntry>,
    /// Energy by use and method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub energy: Vec<EnergyEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<WorkEntry>,
}

/// What happened on one node in one stretch of time.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeEntry {
    pub node: Name,
    pub from: Timestamp,
    /// Until when the time is booked; energy as far as it was read.
    pub until: Timestamp,
    /// Device-milliseconds by use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<TimeEntry>,
    /// Millijoules by use and method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub energy: Vec<EnergyEntry>,
    /// What there was to book, by pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolEntry>,
    /// What it adds to registrations' use of energy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<UsedEntry>,
    /// Devices that joined or left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<Closed>,
    /// Leases that ended and whose energy is booked to the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<Settled>,
    /// What could not be measured or believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// How the node stands, to go on from; `None` when it is gone.
    pub state: Option<NodeState>,
}

impl NodeEntry {
    /// What happened, in two entries, for a leaf that it does not fit into. `None` where nothing
    /// can be divided.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let mut first = self.clone();
        let mut second = Self::state_only(self.node.clone(), self.until, None);
        second.devices = half_of(&mut first.devices);
        second.closed = half_of(&mut first.closed);
        second.settled = half_of(&mut first.settled);
        second.gaps = half_of(&mut first.gaps);
        let moved = second.devices.len() + second.closed.len() + second.settled.len();
        (moved + second.gaps.len() > 0).then_some([first, second])
    }

    /// Returns an entry with the state of a node and nothing booked.
    pub(crate) fn state_only(node: Name, at: Timestamp, state: Option<NodeState>) -> Self {
        Self { node, from: at, until: at, state, ..Self::default() }
    }
}

fn half_of<T>(list: &mut Vec<T>) -> Vec<T> {
    list.split_off(list.len().div_ceil(2))
}

/// Device-milliseconds of one use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeEntry {
    #[serde(flatten)]
    pub key: Key,
    pub ms: Bounded,
}

/// Work that was done for one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkEntry {
    pub account: Account,
    pub work: Facts,
}

/// Millijoules of one use by one method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergyEntry {
    #[serde(flatten)]
    pub key: Key,
    /// How they are known.
    pub method: Method,
    pub mj: Bounded,
}

/// What there was to book of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolEntry {
    /// The pool; `None` for devices in no pool.
    pub pool: Option<Name>,
    /// Devices × milliseconds.
    #[serde(with = "crate::amount::decimal")]
    pub capacity_ms: u64,
    /// What the devices' energy moved, in millijoules.
    #[serde(with = "crate::amount::decimal")]
    pub moved_mj: u64,
    /// GPU-milliseconds leased beyond the devices there are.
    #[serde(with = "crate::amount::decimal")]
    pub overcommitted_ms: u64,
    /// Device-milliseconds over which nothing was measured, or not to be believed.
    #[serde(with = "crate::amount::decimal")]
    pub gap_ms: u64,
}

/// What is added to a registration's use of energy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsedEntry {
    /// `namespace/name` of the registration.
    pub registration: Name,
    /// The period to which it is added, by its beginning.
    pub start: Timestamp,
    /// Millijoules, upper bound.
    #[serde(with = "crate::amount::decimal")]
    pub millijoules: u64,
    /// The highest mean power of one replica, in watts.
    pub peak_watts: u64,
}

/// A device that joined or left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEntry {
    #[serde(flatten)]
    pub device: DeviceSeen,
    pub at: Timestamp,
    /// Whether it joined; else it left.
    pub joined: bool,
}

/// A lease that ended.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// The lease, with what is booked of its energy so far.
    pub lease: Lease,
    pub ended: Moment,
    /// What the work says of itself.
    pub facts: Option<Facts>,
}

/// A lease whose energy is booked to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    pub uid: Name,
    /// All of its energy, in millijoules.
    pub energy: Bounded,
}

/// Something that could not be measured or believed.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    #[serde(rename = "what")]
    pub kind: GapKind,
    /// The device, where it concerns one.
    pub device: Option<Name>,
    /// From when until when.
    pub between: Moment,
    /// The energy that is not believed, in millijoules, where there is such.
    #[serde(with = "crate::amount::decimal", default)]
    pub millijoules: u64,
}

/// Why something could not be measured or believed.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase", const_into_str)]
pub enum GapKind {
    /// A counter began again: what it had counted since it was last read is lost.
    Reset,
    /// A counter moved more than the device can draw.
    Jump,
    /// The clock was set back between two readings: what the counter moved is booked, but who drew
    /// how much of it is not known.
    Backwards,
    /// A device was not read for far longer than its exporter takes to refresh: what its counter
    /// moved is booked, but who drew how much of it is less well known.
    Unread,
    /// A device left with energy that was never read.
    Left,
    /// A device was first read after it had joined.
    First,
    /// The end of a lease was not seen, and lies somewhere in between.
    Unseen,
    /// A lease was learnt of after the books had gone past its end.
    Late,
}
