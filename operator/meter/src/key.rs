//! Keys of the books: pool, use and method.

use daylight_base::Name;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::lease::Account;

/// Use of devices and of energy.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Use {
    Lease(Account),
    Idle,
    /// Present, but its node does not offer it.
    Unavailable,
    /// Energy of pods that hold no device, which is no part of the devices'.
    Pod(Account),
}

impl Use {
    /// Returns the registration to which it is booked.
    pub fn registration(&self) -> Option<&Name> {
        match self {
            Self::Lease(account) | Self::Pod(account) => account.registration.as_ref(),
            Self::Idle | Self::Unavailable => None,
        }
    }
}

/// Line of the books: one use of the devices of one pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// `None` for devices of nodes in no pool.
    pub pool: Option<Name>,
    pub usage: Use,
}

/// Source of an amount of energy.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Method {
    /// Difference of two readings of the device's energy counter.
    Counter,
    /// Trapezoid of two readings of its power, where it has no counter.
    Power,
    /// Declared watts × time, where nothing is measured.
    Declared,
    /// Energy of a device divided among several possible holders.
    Shared,
    /// Energy above that of an idle device while no lease held it.
    Unexplained,
}
