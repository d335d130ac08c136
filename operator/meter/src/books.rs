//! The books: totals of time, energy and operating time, and the check that they close.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use strum::Display;

use crate::amount::Bounded;
use crate::entry::{EnergyEntry, OperatedEntry, PoolEntry, TimeEntry};
use crate::key::{Key, Method};
use crate::lease::{Account, Facts, Lease};
use crate::operated::Operated;
use crate::operating::Operating;

/// Totals since the start of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Device-milliseconds.
    pub time: BTreeMap<Key, Bounded>,
    /// Millijoules.
    pub energy: BTreeMap<(Key, Method), Bounded>,
    /// By pool and account.
    pub operated: BTreeMap<(Option<Name>, Account), Operated>,
    pub pools: BTreeMap<Option<Name>, PoolEntry>,
    /// By registration.
    pub operating: BTreeMap<Name, Operating>,
    /// Time up to which nodes have entries.
    pub written_until: Timestamp,
    /// By account and by [`Facts::seen`].
    pub work: BTreeMap<(Account, bool), Facts>,
}

/// One of the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[strum(serialize_all = "lowercase")]
pub enum Book {
    Time,
    Energy,
    Operating,
}

impl Book {
    fn unit(self) -> &'static str {
        match self {
            Self::Time => "device-milliseconds",
            Self::Energy => "millijoules",
            Self::Operating => "pod-milliseconds",
        }
    }
}

/// Books that do not close, and by how much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {book} book of {owner} does not close: the total is {total} {}, but {booked} are booked",
    .book.unit()
)]
pub struct Imbalance {
    pub book: Book,
    /// `pool NAME`, `no pool`, `device ID` or `namespace NAME`.
    pub owner: Name,
    pub booked: u64,
    pub total: u64,
}

impl Books {
    /// Checks that both books close for every pool; the first imbalance is the error.
    pub fn check(&self) -> Result<(), Imbalance> {
        let mut time: BTreeMap<&Option<Name>, u64> = BTreeMap::new();
        for (key, booked) in &self.time {
            *time.entry(&key.pool).or_default() += booked.value;
        }
        let mut energy: BTreeMap<&Option<Name>, u64> = BTreeMap::new();
        for ((key, method), booked) in &self.energy {
            // A declaration moves no counter: it is listed, but not part of the sum.
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

    /// Checks that the operating time of every account is that of its leases: those that have ended,
    /// and these, which have not.
    pub(crate) fn check_operated<'a>(
        &self,
        held: impl Iterator<Item = &'a Lease>,
    ) -> Result<(), Imbalance> {
        let mut of_leases: BTreeMap<&Account, u64> = BTreeMap::new();
        for lease in held {
            *of_leases.entry(&lease.account).or_default() += lease.operated_ms;
        }
        let mut booked: BTreeMap<&Account, u64> = BTreeMap::new();
        for ((_, account), operated) in &self.operated {
            *of_leases.entry(account).or_default() += operated.ended_ms;
            *booked.entry(account).or_default() += operated.pod_ms.value;
        }
        for (account, total) in of_leases {
            let booked = booked.get(account).copied().unwrap_or_default();
            if booked != total {
                let owner = format!("namespace {}", account.namespace).into();
                return Err(Imbalance { book: Book::Operating, owner, booked, total });
            }
        }
        Ok(())
    }

    pub(crate) fn add_operated(&mut self, pool: Option<&Name>, account: &Account, more: Operated) {
        self.operated.entry((pool.cloned(), account.clone())).or_default().add(more);
    }

    pub(crate) fn add_time(&mut self, key: &Key, ms: Bounded) {
        self.time.entry(key.clone()).or_default().add(ms);
    }

    pub(crate) fn add_energy(&mut self, key: &Key, method: Method, mj: Bounded) {
        self.energy.entry((key.clone(), method)).or_default().add(mj);
    }

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

    /// Adds the bookings of an entry.
    pub(crate) fn add_all(
        &mut self,
        time: &[TimeEntry],
        energy: &[EnergyEntry],
        operated: &[OperatedEntry],
        pools: &[PoolEntry],
    ) {
        for TimeEntry { key, ms } in time {
            self.add_time(key, *ms);
        }
        for EnergyEntry { key, method, mj } in energy {
            self.add_energy(key, *method, *mj);
        }
        for OperatedEntry { pool, account, operated } in operated {
            self.add_operated(pool.as_ref(), account, *operated);
        }
        for pool in pools {
            self.add_pool(pool);
        }
    }

    pub(crate) fn add_work(&mut self, account: &Account, facts: Facts) {
        self.work.entry((account.clone(), facts.seen)).or_default().add(facts);
    }

    /// Sums the energy of all lines that match.
    pub fn energy_where(&self, matches: impl Fn(&Key, Method) -> bool) -> Bounded {
        let mut sum = Bounded::default();
        for ((key, method), booked) in &self.energy {
            if matches(key, *method) {
                sum.add(*booked);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imbalance_names_its_book_its_owner_and_both_amounts() {
        let mut books = Books::default();
        let pool = Some("hall".into());
        books.add_pool(&PoolEntry { pool, moved_mj: 12, ..PoolEntry::default() });
        let imbalance = books.check().unwrap_err();
        assert_eq!(
            imbalance.to_string(),
            "the energy book of pool hall does not close: the total is 12 millijoules, but 0 are \
             booked"
        );
    }
}
