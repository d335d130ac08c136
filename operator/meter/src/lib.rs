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
mod attribution;
mod booked;
mod books;
mod config;
mod energy;
mod entry;
mod key;
mod lease;
mod meter;
mod moment;
mod node;
mod object;
mod observe;
mod reading;
mod register;
mod state;

pub use amount::{Bounded, decimal, split};
pub use books::{Book, Books, Imbalance};
pub use config::Config;
pub use entry::{
    Closed, DeviceEntry, EnergyEntry, Entry, Gap, GapKind, NodeEntry, PoolEntry, Settled,
    TimeEntry, Total, UsedEntry, WorkEntry,
};
pub use key::{Key, Method, Use};
pub use lease::{Account, Facts, Lease};
pub use meter::Meter;
pub use meter::journal::RestoreError;
pub use meter::usage::Usage;
pub use moment::Moment;
pub use object::{Decision, ObjectEntry, ObjectKind, ObjectSeen};
pub use observe::{DeviceSeen, LeaseSeen, Reading};
