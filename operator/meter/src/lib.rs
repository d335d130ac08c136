//! The meter: books of who ran on which node when, which GPUs that held, and the energy it drew.
//!
//! [`Meter`] takes observations (leases, devices, readings of their energy counters) and returns
//! [`Entry`]s for a journal. The fold of all entries is its durable state: a meter restored from
//! them, to which the cluster is then observed again, continues where they end and counts nothing
//! twice. It has no clock and does no I/O: time is an argument.
//!
//! Three books are kept, in integers, and close exactly:
//!
//! - **time**: devices × milliseconds = all leases + idle + unavailable, for every node and pool;
//! - **energy**: movement of the devices' counters = all leases + idle + unexplained, in
//!   millijoules;
//! - **operating time**: what accounts operated = all their leases, with and without GPUs.
//!
//! Each amount has a lower and an upper bound. What is unknown is bounded, never guessed.

mod amount;
mod attribution;
mod booked;
mod books;
mod config;
mod counts;
mod energy;
mod entry;
mod key;
mod lease;
mod meter;
mod moment;
mod node;
mod object;
mod observed;
mod operated;
mod operating;
mod quiet;
mod reading;
mod register;
mod settings;
mod silence;
mod state;

pub use amount::{Bounded, Whole, decimal, split};
pub use books::{Book, Books, Imbalance};
pub use config::Config;
pub use counts::{Counts, Period};
pub use entry::{
    AuditorEvent, Closed, ClosingEntry, DeviceEntry, EnergyEntry, Entry, Gap, GapKind, NodeEntry,
    OperatedEntry, PoolEntry, Settled, TimeEntry, Total, UsedEntry, WorkEntry,
};
pub use key::{Key, Method, Use};
pub use lease::{
    Account, Description, Facts, Image, JobKind, JobReference, Lease, MOST_IMAGES, PodOutcome,
    Program,
};
pub use meter::journal::RestoreError;
pub use meter::unread::{UnreadCause, UnreadDevice};
pub use meter::usage::Usage;
pub use meter::{CUT_MS, Meter, next_cut};
pub use moment::Moment;
pub use object::{Decision, DeclaredPeriod, ObjectEntry, ObjectKind, ObservedObject};
pub use observed::{ObservedDevice, ObservedLease, Reading};
pub use operated::{Operated, Requested};
pub use operating::Operating;
pub use quiet::{NodesEntry, Stretch};
pub use settings::{ObservedSettings, SettingsEntry, SignatureRule, StopInForce};
