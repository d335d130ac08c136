//! The claim of each miner to the next replica: by rank of class, then by weighted fair share.

use std::cmp::Ordering;

use daylight_base::{Name, Timestamp};

use crate::plan::Run;
use crate::state::MinerRow;
use crate::state::table::Id;

/// A miner's claim to the next replica; the greatest claim is served first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) rank: u32,
    pub(super) gpus: u32,
    pub(super) weight: u32,
    pub(super) created: Timestamp,
    pub(super) key: Name,
    pub(super) miner: Id<MinerRow>,
}

impl Ord for Claim {
    fn cmp(&self, other: &Self) -> Ordering {
        // a.gpus / a.weight, without division.
        let share = |a: &Self, b: &Self| u64::from(a.gpus) * u64::from(b.weight);
        self.rank
            .cmp(&other.rank)
            .then_with(|| share(other, self).cmp(&share(self, other)))
            .then_with(|| (other.created, &other.key).cmp(&(self.created, &self.key)))
    }
}

impl PartialOrd for Claim {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Run<'_> {
    /// Compares the claims of two miners; the lesser one yields first.
    pub(super) fn by_claim(&self, a: Id<MinerRow>, b: Id<MinerRow>) -> Ordering {
        self.claim(a).cmp(&self.claim(b))
    }

    /// Returns the claim of a miner, with what it holds now.
    pub(super) fn claim(&self, id: Id<MinerRow>) -> Claim {
        let row = &self.state.miners[id];
        Claim {
            rank: self.ranks.get(&id).copied().unwrap_or_default(),
            gpus: row.active_gpus,
            weight: row.object.as_ref().map_or(1, |miner| miner.weight.max(1)),
            created: row.object.as_ref().map_or(Timestamp(i64::MAX), |miner| miner.created),
            key: self.state.miners.name(id).clone(),
            miner: id,
        }
    }
}
