//! What an amount is booked under: pool, use and method.

use daylight_base::Name;
use serde::{Deserialize, Serialize};

use crate::lease::Account;

/// What a device is used for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Use {
    #[serde(rename = "lease")]
    Lease(Account),
    #[serde(rename = "idle")]
    Idle,
    /// There, but its node does not offer it.
    #[serde(rename = "unavailable")]
    Unavailable,
}

/// Whose total it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The pool; `None` for devices in no pool.
    pub pool: Option<Name>,
    /// What the devices were used for.
    pub usage: Use,
}

/// How energy is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The difference of the device's own counter.
    Counter,
    /// The trapezoid of its power, where it has no counter.
    Power,
    /// Declared watts × time, where nothing is measured.
    Declared,
    /// A device's energy divided among those that had parts of it, or of which none can be told to
    /// have had it.
    Shared,
    /// Above what an idle device draws, while nobody had it.
    Unexplained,
}

impl Method {
    /// As labels and entries name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Power => "power",
            Self::Declared => "declared",
            Self::Shared => "shared",
            Self::Unexplained => "unexplained",
        }
    }
}
