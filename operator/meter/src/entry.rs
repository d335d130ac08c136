//! Entries of the journal. An entry fits into one leaf of a log and never changes.
//!
//! Names of fields and kinds are a published form: `docs/metering.md` describes it, and
//! `tests/format.rs` pins it.

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{IntoStaticStr, VariantArray};

use crate::amount::Bounded;
use crate::counts::Period;
use crate::key::{Key, Method};
use crate::lease::{Account, Facts, Lease};
use crate::moment::Moment;
use crate::object::{ObjectEntry, ObjectKind};
use crate::observed::ObservedDevice;
use crate::operated::Operated;
use crate::operating::Operating;
use crate::quiet::NodesEntry;
use crate::settings::SettingsEntry;
use crate::state::NodeState;

/// Entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[strum(serialize_all = "camelCase", const_into_str)]
pub enum Entry {
    /// Bookings and events of one node, and its state.
    Node(Box<NodeEntry>),
    /// Bookings of several nodes on which nothing else happened, in a log in place of theirs.
    Nodes(Box<NodesEntry>),
    /// A period of a registration's energy began.
    Period {
        #[serde(flatten)]
        period: Period,
        /// End of the booked time when it was recorded.
        #[serde(default)]
        at: Timestamp,
    },
    /// A registration, a class or a pool changed.
    Object(Box<ObjectEntry>),
    /// What decides apart from objects changed: the authority's keys, the emergency stop, …
    Settings(Box<SettingsEntry>),
    /// The clock was set back.
    Clock {
        at: Timestamp,
        /// Milliseconds.
        #[serde(with = "crate::amount::decimal")]
        back_ms: u64,
    },
    /// The auditor started or stopped. From its stop, or from the last entry of one that was killed, to
    /// the next start nothing was watched.
    Auditor {
        at: Timestamp,
        event: AuditorEvent,
        /// Version of Daylight.
        version: Name,
    },
    /// The first lease under a registration began, or the last one ended; in the state alone.
    Operating {
        /// `namespace/name` of the registration.
        registration: Name,
        #[serde(flatten)]
        operating: Operating,
        at: Timestamp,
    },
    /// Sums over all entries since the closing before.
    Closing(ClosingEntry),
    /// A snapshot began: the entries up to [`Entry::SnapshotEnd`] replace all earlier ones.
    SnapshotBegin,
    /// Totals of the books, in a snapshot.
    Total(Total),
    /// Energy of a registration from the start of a period to the start of the next, in a
    /// snapshot.
    Used {
        #[serde(flatten)]
        period: Period,
        /// Upper bound.
        #[serde(with = "crate::amount::decimal")]
        millijoules: u64,
        /// Highest mean power of one replica.
        peak_watts: u64,
    },
    /// The snapshot is complete.
    SnapshotEnd,
    /// In the place of a part of an entry that is too long to be written, although it is indivisible.
    Omitted {
        /// Kind of that entry.
        of: Name,
        /// Its length.
        #[serde(with = "crate::amount::decimal")]
        bytes: u64,
        /// SHA-256 of it.
        digest: Name,
    },
}

/// Sums over the entries since the closing before, this one not included: of all accounts together, as
/// the root of a Merkle-sum tree over them (`docs/ledger.md`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosingEntry {
    /// Number of the closing, from 1.
    #[serde(with = "crate::amount::decimal")]
    pub number: u64,
    /// Index of the first entry in the ledger that it has.
    #[serde(with = "crate::amount::decimal")]
    pub first: u64,
    /// End of the time that was booked when it was written.
    pub until: Timestamp,
    /// Number of the accounts, `idle` and `unavailable` among them.
    #[serde(with = "crate::amount::decimal")]
    pub accounts: u64,
    /// Device-milliseconds of all of them: those of the pools' devices.
    #[serde(with = "crate::amount::decimal")]
    pub device_ms: u64,
    /// Measured millijoules: those by which the devices' counters moved.
    #[serde(with = "crate::amount::decimal")]
    pub millijoules: u64,
    /// Millijoules that are only declared.
    #[serde(with = "crate::amount::decimal")]
    pub declared_millijoules: u64,
    /// Pod-milliseconds of operating time.
    #[serde(with = "crate::amount::decimal")]
    pub pod_ms: u64,
    /// Hash of the root, in hexadecimal.
    pub root: Name,
}

impl Entry {
    /// Returns the registrations that it concerns, by `namespace/name`.
    pub fn registrations(&self) -> BTreeSet<&Name> {
        match self {
            Self::Node(node) => {
                let booked = registrations(&node.time, &node.energy, &node.operated, &node.used);
                let closed = node.closed.iter();
                let closed = closed.filter_map(|one| one.lease.account.registration.as_ref());
                booked.chain(closed).collect()
            }
            Self::Nodes(nodes) => {
                registrations(&nodes.time, &nodes.energy, &nodes.operated, &nodes.used).collect()
            }
            Self::Period { period, .. } => BTreeSet::from([&period.registration]),
            Self::Object(entry) if entry.seen.object == ObjectKind::Registration => {
                BTreeSet::from([&entry.seen.name])
            }
            _ => BTreeSet::new(),
        }
    }
}

/// The registrations to which something is booked.
fn registrations<'a>(
    time: &'a [TimeEntry],
    energy: &'a [EnergyEntry],
    operated: &'a [OperatedEntry],
    used: &'a [UsedEntry],
) -> impl Iterator<Item = &'a Name> {
    let time = time.iter().filter_map(|time| time.key.usage.registration());
    let energy = energy.iter().filter_map(|energy| energy.key.usage.registration());
    let operated = operated.iter().filter_map(|one| one.account.registration.as_ref());
    time.chain(energy).chain(operated).chain(used.iter().map(|used| &used.registration))
}

/// Event in the life of the auditor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuditorEvent {
    Started,
    Stopped,
}

/// Totals of the books, in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Total {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<TimeEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub energy: Vec<EnergyEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operated: Vec<OperatedEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<WorkEntry>,
}

/// Bookings and events of one node over a stretch of time.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeEntry {
    pub node: Name,
    pub from: Timestamp,
    /// End of the booked time. Energy is booked up to the last readings.
    pub until: Timestamp,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<TimeEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub energy: Vec<EnergyEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operated: Vec<OperatedEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<UsedEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<Closed>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<Settled>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// True if the node is gone: it has no more entries.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// State to continue from; `None` if the node is gone.
    pub state: Option<NodeState>,
}

impl NodeEntry {
    /// Divides an entry that is too large for one leaf; `None` if it is indivisible. The halves add
    /// up to it, whatever fills it: the second continues the lists where the first ends, covers no
    /// time of its own, and has the state.
    pub fn halves(mut self) -> Option<[Self; 2]> {
        let Self {
            node,
            from: _,
            until,
            time,
            energy,
            operated,
            pools,
            used,
            devices,
            closed,
            settled,
            gaps,
            gone,
            state,
        } = &mut self;
        let items = time.len()
            + energy.len()
            + operated.len()
            + pools.len()
            + used.len()
            + devices.len()
            + closed.len()
            + settled.len()
            + gaps.len();
        if items < 2 {
            return None;
        }
        let mut room = items.div_ceil(2);
        let second = Self {
            time: rest(time, &mut room),
            energy: rest(energy, &mut room),
            operated: rest(operated, &mut room),
            pools: rest(pools, &mut room),
            used: rest(used, &mut room),
            devices: rest(devices, &mut room),
            closed: rest(closed, &mut room),
            settled: rest(settled, &mut room),
            gaps: rest(gaps, &mut room),
            gone: std::mem::take(gone),
            ..Self::state_only(node.clone(), *until, state.take())
        };
        debug_assert_eq!(room, 0, "the first half is full");
        Some([self, second])
    }

    /// Returns an entry with the state of a node and nothing booked.
    pub(crate) fn state_only(node: Name, at: Timestamp, state: Option<NodeState>) -> Self {
        Self { node, from: at, until: at, state, ..Self::default() }
    }
}

/// Takes from a list what exceeds the room that is left.
fn rest<T>(list: &mut Vec<T>, room: &mut usize) -> Vec<T> {
    let rest = list.split_off(list.len().min(*room));
    *room -= list.len();
    rest
}

/// Time of one use, in device-milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeEntry {
    #[serde(flatten)]
    pub key: Key,
    pub ms: Bounded,
}

/// Work of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkEntry {
    pub account: Account,
    pub work: Facts,
}

/// Energy of one use, in millijoules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergyEntry {
    #[serde(flatten)]
    pub key: Key,
    pub method: Method,
    pub mj: Bounded,
}

/// Operating time of one account in one pool.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatedEntry {
    /// `None` for nodes in no pool.
    #[serialize_always]
    pub pool: Option<Name>,
    pub account: Account,
    #[serde(flatten)]
    pub operated: Operated,
}

/// Totals of one pool, which all its uses add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolEntry {
    /// `None` for devices of nodes in no pool.
    pub pool: Option<Name>,
    /// Devices × milliseconds.
    #[serde(with = "crate::amount::decimal")]
    pub capacity_ms: u64,
    /// Millijoules by which the devices' counters moved.
    #[serde(with = "crate::amount::decimal")]
    pub moved_mj: u64,
    /// GPU-milliseconds leased in excess of the devices.
    #[serde(with = "crate::amount::decimal")]
    pub overcommitted_ms: u64,
    /// Device-milliseconds without a measurement that can be believed.
    #[serde(with = "crate::amount::decimal")]
    pub gap_ms: u64,
}

/// Addition to a registration's energy usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsedEntry {
    /// `namespace/name` of the registration.
    pub registration: Name,
    /// Start of the latest period in which it counts.
    pub start: Timestamp,
    /// Upper bound.
    #[serde(with = "crate::amount::decimal")]
    pub millijoules: u64,
    /// The highest mean power of one replica, in watts.
    pub peak_watts: u64,
}

/// Device that joined or left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEntry {
    #[serde(flatten)]
    pub device: ObservedDevice,
    pub at: Timestamp,
    /// `false` if it left.
    pub joined: bool,
}

/// Lease that ended.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// With its energy booked so far.
    pub lease: Lease,
    pub ended: Moment,
    /// Work that the miner reported.
    pub facts: Option<Facts>,
}

/// Ended lease whose energy is completely booked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    pub uid: Name,
    /// In millijoules.
    pub energy: Bounded,
    /// The same by its method, and bounds of what it may have drawn without a reading. Not in entries of
    /// earlier versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub methods: BTreeMap<Method, Bounded>,
}

/// Time over which something was not measured or not believed.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    #[serde(rename = "what")]
    pub kind: GapKind,
    pub device: Option<Name>,
    pub between: Moment,
    /// Energy that is not believed.
    #[serde(with = "crate::amount::decimal", default)]
    pub millijoules: u64,
}

/// Reason for a [`Gap`].
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
    /// A counter was reset: its count since the last reading is lost.
    Reset,
    /// A counter moved by more than the device can draw.
    Jump,
    /// A counter and the power of its device contradict each other: what the counter moved is
    /// booked, but the device may have drawn anything up to its maximum.
    Mismatch,
    /// The clock was set back between two readings: their difference is booked, but its division
    /// among holders is unknown.
    Backwards,
    /// A device was not read for much longer than its exporter's refresh: the difference is booked,
    /// but its division among holders is less certain.
    Unread,
    /// A device left after its last reading.
    Left,
    /// A device was first read after it joined.
    First,
    /// The end of a lease was not observed and lies somewhere in between.
    Unseen,
    /// A lease was first observed after the books had passed its end.
    Late,
}
