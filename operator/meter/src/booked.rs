//! Amounts and events of a node that are booked but not yet in an entry.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};

use crate::amount::Bounded;
use crate::config::Terms;
use crate::entry::{Closed, DeviceEntry, Gap, PoolEntry, Settled};
use crate::key::{Key, Method, Use};
use crate::lease::{Account, Lease};
use crate::operated::Operated;

/// Bookings since the last entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Booked {
    pub(crate) from: Timestamp,
    pub(crate) time: BTreeMap<Key, Bounded>,
    pub(crate) energy: BTreeMap<(Key, Method), Bounded>,
    /// By pool and account.
    pub(crate) operated: BTreeMap<(Option<Name>, Account), Operated>,
    pub(crate) pools: BTreeMap<Option<Name>, PoolEntry>,
    /// By registration and start of the count to which it is added: millijoules (upper bound) and
    /// the highest mean watts of a replica.
    pub(crate) used: BTreeMap<(Name, Timestamp), (u64, u64)>,
    pub(crate) devices: Vec<DeviceEntry>,
    pub(crate) closed: Vec<Closed>,
    pub(crate) settled: Vec<Settled>,
    pub(crate) gaps: Vec<Gap>,
    /// True if a lease began or a device was first read. Later amounts are differences from there,
    /// so that it must be durable soon.
    pub(crate) first: bool,
}

impl Booked {
    /// Returns the totals of a pool.
    pub(crate) fn pool(&mut self, pool: Option<&Name>) -> &mut PoolEntry {
        self.pools
            .entry(pool.cloned())
            .or_insert_with(|| PoolEntry { pool: pool.cloned(), ..PoolEntry::default() })
    }

    /// Books device-milliseconds.
    pub(crate) fn time(&mut self, pool: Option<&Name>, usage: Use, ms: Bounded) {
        if !ms.is_zero() || ms.below != 0 {
            let key = Key { pool: pool.cloned(), usage };
            self.time.entry(key).or_default().add(ms);
        }
    }

    /// Books millijoules.
    pub(crate) fn energy(&mut self, pool: Option<&Name>, usage: Use, method: Method, mj: Bounded) {
        if !mj.is_zero() {
            let key = Key { pool: pool.cloned(), usage };
            self.energy.entry((key, method)).or_default().add(mj);
        }
    }

    /// Books operating time.
    pub(crate) fn operated(&mut self, pool: Option<&Name>, account: &Account, more: Operated) {
        if !more.is_nothing() {
            self.operated.entry((pool.cloned(), account.clone())).or_default().add(more);
        }
    }

    /// Books that a lease ran for milliseconds until a time, and what it declares to have drawn if no
    /// device's energy is its.
    pub(crate) fn ran(
        &mut self,
        pool: Option<&Name>,
        lease: &mut Lease,
        ms: u64,
        until: Timestamp,
        terms: &Terms<'_>,
    ) {
        let more = Operated::over(Bounded::exactly(ms), lease.requested);
        self.operated(pool, &lease.account, more);
        lease.operated_ms += ms;
        // Watts × milliseconds are millijoules.
        let mj = lease.watts.saturating_mul(ms);
        self.declared(pool, lease, Bounded { value: mj, below: mj, above: 0 }, until, terms);
    }

    /// Books the doubt about how long a lease ran until a time.
    pub(crate) fn may_have_run(
        &mut self,
        pool: Option<&Name>,
        lease: &mut Lease,
        [below, above]: [u64; 2],
        until: Timestamp,
        terms: &Terms<'_>,
    ) {
        let doubt = Operated::over(Bounded { value: 0, below, above }, lease.requested);
        self.operated(pool, &lease.account, doubt);
        // The lower bound of what is declared is nothing already.
        let above = lease.watts.saturating_mul(above);
        self.declared(pool, lease, Bounded { value: 0, below: 0, above }, until, terms);
    }

    /// Books energy that a lease without GPUs declares.
    pub(crate) fn declared(
        &mut self,
        pool: Option<&Name>,
        lease: &mut Lease,
        mj: Bounded,
        until: Timestamp,
        terms: &Terms<'_>,
    ) {
        if lease.gpus > 0 || mj.is_zero() {
            return;
        }
        self.energy(pool, Use::Pod(lease.account.clone()), Method::Declared, mj);
        lease.energy.add(mj);
        lease.add_energy(Method::Declared, mj);
        if let Some(registration) = &lease.account.registration {
            self.used((registration.clone(), terms.count_of(registration, until)), mj.upper());
        }
    }

    /// Adds millijoules to a count of a registration.
    pub(crate) fn used(&mut self, count: (Name, Timestamp), mj: u64) {
        if mj > 0 {
            let (sum, _) = self.used.entry(count).or_default();
            *sum = sum.saturating_add(mj);
        }
    }

    /// Returns whether there is nothing that needs an entry.
    pub(crate) fn is_nothing(&self) -> bool {
        self.closed.is_empty()
            && self.devices.is_empty()
            && self.time.is_empty()
            && self.energy.is_empty()
            && self.operated.is_empty()
            && self.gaps.is_empty()
    }

    /// Returns whether the node had no devices in this time.
    pub(crate) fn has_no_capacity(&self) -> bool {
        self.pools.values().all(|pool| pool.capacity_ms == 0)
    }

    /// Returns whether both books close, so that the entry made of this closes by itself.
    pub(crate) fn closes(&self) -> bool {
        let mut open: BTreeMap<&Option<Name>, (u64, u64)> = BTreeMap::new();
        for (key, ms) in &self.time {
            open.entry(&key.pool).or_default().0 += ms.value;
        }
        for ((key, method), mj) in &self.energy {
            if *method != Method::Declared {
                open.entry(&key.pool).or_default().1 += mj.value;
            }
        }
        self.pools.iter().all(|(pool, total)| {
            open.remove(pool).unwrap_or_default() == (total.capacity_ms, total.moved_mj)
        }) && open.values().all(|booked| *booked == (0, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookings_close_only_with_their_totals() {
        let mut booked = Booked::default();
        let pool: Name = "hall".into();
        booked.time(Some(&pool), Use::Idle, Bounded::exactly(5));
        assert!(!booked.closes(), "time without capacity");
        booked.pool(Some(&pool)).capacity_ms = 5;
        assert!(booked.closes());
        booked.energy(Some(&pool), Use::Idle, Method::Declared, Bounded::exactly(3));
        assert!(booked.closes(), "a declaration moves no counter");
        booked.pool(Some(&pool)).moved_mj = 3;
        assert!(!booked.closes(), "movement that is not booked");
        booked.energy(Some(&pool), Use::Idle, Method::Counter, Bounded::exactly(3));
        assert!(booked.closes());
    }
}
