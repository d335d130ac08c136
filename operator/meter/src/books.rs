//! The books: totals for each pool and use, and whether they close.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Account, Bounded, Name};

/// What a device is used for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Use {
    /// Leased to somebody.
    #[serde(rename = "lease")]
    Lease(Account),
    /// Leased to nobody.
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

/// Totals since the journal began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Device-milliseconds.
    pub time: BTreeMap<Key, Bounded>,
    /// Millijoules.
    pub energy: BTreeMap<(Key, Method), Bounded>,
    /// Devices × milliseconds of each pool.
    pub capacity_ms: BTreeMap<Option<Name>, u64>,
    /// What the energy of each pool's devices moved, in millijoules.
    pub moved_mj: BTreeMap<Option<Name>, u64>,
    /// GPU-milliseconds that were leased beyond the devices there are.
    pub overcommitted_ms: BTreeMap<Option<Name>, u64>,
    /// Device-milliseconds over which nothing was measured, or not to be believed.
    pub gap_ms: BTreeMap<Option<Name>, u64>,
}

/// Books that do not close, and by how much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the books of {what} in pool {pool} do not close: {booked} are booked of {total}")]
pub struct Imbalance {
    /// `time` or `energy`.
    pub what: &'static str,
    /// The pool.
    pub pool: Name,
    /// What is booked.
    pub booked: u64,
    /// What there is.
    pub total: u64,
}

impl Books {
    /// Whether the totals add up, for every pool.
    ///
    /// # Errors
    ///
    /// The first pool whose totals do not.
    pub fn check(&self) -> Result<(), Imbalance> {
        let mut time: BTreeMap<&Option<Name>, u64> = BTreeMap::new();
        for (key, booked) in &self.time {
            *time.entry(&key.pool).or_default() += booked.value;
        }
        let mut energy: BTreeMap<&Option<Name>, u64> = BTreeMap::new();
        for ((key, method), booked) in &self.energy {
            if *method != Method::Declared {
                *energy.entry(&key.pool).or_default() += booked.value;
            }
        }
        close("time", &time, &self.capacity_ms)?;
        close("energy", &energy, &self.moved_mj)
    }

    /// Energy by all methods for which `of` holds, of the whole site.
    pub fn energy_where(&self, of: impl Fn(&Key, Method) -> bool) -> Bounded {
        let mut sum = Bounded::default();
        for ((key, method), booked) in &self.energy {
            if of(key, *method) {
                sum.add(*booked);
            }
        }
        sum
    }
}

fn close(
    what: &'static str,
    booked: &BTreeMap<&Option<Name>, u64>,
    totals: &BTreeMap<Option<Name>, u64>,
) -> Result<(), Imbalance> {
    let pools = booked.keys().copied().chain(totals.keys());
    for pool in pools {
        let booked = booked.get(pool).copied().unwrap_or_default();
        let total = totals.get(pool).copied().unwrap_or_default();
        if booked != total {
            let pool = pool.clone().unwrap_or_else(|| "none".into());
            return Err(Imbalance { what, pool, booked, total });
        }
    }
    Ok(())
}
