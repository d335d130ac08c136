//! What was booked of a node since its last entry.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};

use crate::amount::Bounded;
use crate::entry::{Closed, DeviceEntry, Gap, PoolEntry, Settled};
use crate::key::{Key, Method, Use};

/// What was booked since the last entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Booked {
    pub(crate) from: Timestamp,
    pub(crate) time: BTreeMap<Key, Bounded>,
    pub(crate) energy: BTreeMap<(Key, Method), Bounded>,
    pub(crate) pools: BTreeMap<Option<Name>, PoolEntry>,
    /// By registration: millijoules, upper bound, and the highest watts of a replica.
    pub(crate) used: BTreeMap<Name, (u64, u64)>,
    pub(crate) devices: Vec<DeviceEntry>,
    pub(crate) closed: Vec<Closed>,
    pub(crate) settled: Vec<Settled>,
    pub(crate) gaps: Vec<Gap>,
    /// Whether a lease began, or a device was read for the first time: what follows is counted
    /// from there, so that is not to be lost.
    pub(crate) first: bool,
}

impl Booked {
    pub(crate) fn pool(&mut self, pool: Option<&Name>) -> &mut PoolEntry {
        self.pools
            .entry(pool.cloned())
            .or_insert_with(|| PoolEntry { pool: pool.cloned(), ..PoolEntry::default() })
    }

    pub(crate) fn time(&mut self, pool: Option<&Name>, usage: Use, ms: Bounded) {
        if !ms.is_zero() || ms.below != 0 {
            let key = Key { pool: pool.cloned(), usage };
            self.time.entry(key).or_default().add(ms);
        }
    }

    pub(crate) fn energy(&mut self, pool: Option<&Name>, usage: Use, method: Method, mj: Bounded) {
        if !mj.is_zero() {
            let key = Key { pool: pool.cloned(), usage };
            self.energy.entry((key, method)).or_default().add(mj);
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.closed.is_empty()
            && self.devices.is_empty()
            && self.time.is_empty()
            && self.energy.is_empty()
            && self.gaps.is_empty()
    }

    pub(crate) fn capacity_is_none(&self) -> bool {
        self.pools.values().all(|pool| pool.capacity_ms == 0)
    }
}
