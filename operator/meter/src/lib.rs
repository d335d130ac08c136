//! The meter: who had which GPU when, and what it drew, in books that close.
//!
//! [`Meter`] takes what is observed (leases, devices, readings of their energy) and gives
//! [`Entry`]s for a journal. Its durable state is the fold of entries: a [`Meter`] restored from
//! them and told the world again goes on where the last of them ended, and counts nothing twice.
//! It has no clock and does no I/O: time is an argument.
//!
//! Two books are kept, in integers, and close exactly:
//!
//! - **time**: devices × milliseconds = all uses + idle + unavailable, for every node and pool;
//! - **energy**: what the devices' counters moved = all uses + idle + unexplained, in millijoules.
//!
//! Each figure has a lower and an upper bound beside its value. What is not known is bounded,
//! never guessed.

mod amount;
mod books;
mod energy;
mod entry;
mod lease;
mod meter;
mod moment;
mod node;
mod observe;
mod reading;
mod register;

pub use amount::{Bounded, decimal, split};
pub use books::{Books, Imbalance, Key, Method, Use};
pub use entry::{
    Closed, DeviceEntry, EnergyEntry, Entry, Gap, GapKind, NodeEntry, PoolEntry, Settled,
    TimeEntry, Total, UsedEntry, WorkEntry,
};
pub use lease::{Account, Facts, Lease};
pub use meter::{Config, Meter, RestoreError, Usage};
pub use moment::Moment;
pub use observe::{DeviceSeen, LeaseSeen, Reading};
pub use register::{Decision, ObjectEntry, ObjectKind, ObjectSeen};
