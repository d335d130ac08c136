//! What a ledger's entries state about each other, written by the auditor and verified by
//! `daylight ledger verify`.
//!
//! - Each entry names the registrations that it concerns. Of each it has the number of the entry in the
//!   sequence of that registration's entries, and the index of the one before.
//! - Now and then a [`ClosingEntry`](daylight_meter::ClosingEntry) has the sums of the entries since the
//!   one before, over all accounts, as the root of a Merkle-sum tree.

mod comparison;
mod numbering;
mod quiet_nodes;
pub(crate) mod sums;
mod verifier;
mod writer;

use daylight_base::Name;
use daylight_meter::Entry;
use serde::{Deserialize, Serialize};
use serde_with::{DisplayFromStr, serde_as, skip_serializing_none};

pub use self::comparison::{Difference, Observations, Sums, Tolerance, Watch, compare_leases};
pub(crate) use self::verifier::Closed;
pub use self::verifier::{At, EntryVerifier, Violation};
pub(crate) use self::writer::is_own;
pub use self::writer::{EntryWriter, StateError};

/// Version of the entries' format.
const VERSION: u32 = 2;

/// Place of an entry among those of one registration.
#[serde_as]
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) registration: Name,
    /// Number of the entry, from 1.
    #[serde_as(as = "DisplayFromStr")]
    pub(crate) number: u64,
    /// Index of the entry before in the ledger; `None` for the first.
    #[serde_as(as = "Option<DisplayFromStr>")]
    #[serde(default)]
    pub(crate) previous: Option<u64>,
}

/// Entry in the form that the ledger has.
#[derive(Debug, Serialize)]
struct Leaf<'a> {
    v: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chain: Vec<Link>,
    #[serde(flatten)]
    entry: &'a Entry,
}
