//! The books: totals for each pool and use, and whether they close.

use std::collections::BTreeMap;

use daylight_base::Name;
use strum::Display;

use crate::amount::Bounded;
use crate::entry::PoolEntry;
use crate::key::{Key, Method};
use crate::lease::{Account, Facts};

/// Totals since the journal began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Device-milliseconds.
    pub time: BTreeMap<Key, Bounded>,
    /// Millijoules.
    pub energy: BTreeMap<(Key, Method), Bounded>,
    /// What there was to book, by pool.
    pub pools: BTreeMap<Option<Name>, PoolEntry>,
    /// The work that leases said they did, by whose they were and whether it was seen.
    pub work: BTreeMap<(Account, bool), Facts>,
}

/// One of the two books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[strum(serialize_all = "lowercase")]
pub enum Book {
    Time,
    Energy,
}

impl Book {
    fn unit(self) -> &'static str {
        match self {
            Self::Time => "device-milliseconds",
            Self::Energy => "millijoules",
        }
    }
}

/// Books that do not close, and by how much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {book} book of {owner} does not close: {booked} of {total} {} are booked", .book.unit())]
pub struct Imbalance {
    pub book: Book,
    /// `pool NAME`, `no pool` or `device ID`.
    pub owner: Name,
    pub booked: u64,
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
        self.close(Book::Time, &time, |pool| pool.capacity_ms)?;
        self.close(Book::Energy, &energy, |pool| pool.moved_mj)
    }

    fn close(
        &self,
        book: Book,
        booked: &BTreeMap<&Option<Name>, u64>,
        total: impl Fn(&PoolEntry) -> u64,
    ) -> Result<(), Imbalance> {
        for pool in booked.keys().copied().chain(self.pools.keys()) {
            let booked = booked.get(pool).copied().unwrap_or_default();
            let total = self.pools.get(pool).map(&total).unwrap_or_default();
            if booked != total {
                let owner = pool.as_ref().map_or("no pool".into(), |pool| format!("pool {pool}"));
                return Err(Imbalance { book, owner: owner.into(), booked, total });
            }
        }
        Ok(())
    }

    /// Adds time of one use.
    pub(crate) fn add_time(&mut self, key: &Key, ms: Bounded) {
        self.time.entry(key.clone()).or_default().add(ms);
    }

    /// Adds energy of one use by one method.
    pub(crate) fn add_energy(&mut self, key: &Key, method: Method, mj: Bounded) {
        self.energy.entry((key.clone(), method)).or_default().add(mj);
    }

    /// Adds what there was to book of one pool.
    pub(crate) fn add_pool(&mut self, more: &PoolEntry) {
        let PoolEntry { pool, capacity_ms, moved_mj, overcommitted_ms, gap_ms } = more;
        let sum = self
            .pools
            .entry(pool.clone())
            .or_insert_with(|| PoolEntry { pool: pool.clone(), ..PoolEntry::default() });
        sum.capacity_ms += capacity_ms;
        sum.moved_mj += moved_mj;
        sum.overcommitted_ms += overcommitted_ms;
        sum.gap_ms += gap_ms;
    }

    /// Adds work that a lease did.
    pub(crate) fn add_work(&mut self, account: &Account, facts: Facts) {
        self.work.entry((account.clone(), facts.seen)).or_default().add(facts);
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
