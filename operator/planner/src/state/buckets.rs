//! The hosts of a pool by what can be had from them, and sums over them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{AddAssign, SubAssign};

use crate::state::NodeRow;
use crate::state::table::Id;

/// The number of miner pods of each size on a host, one byte a size: 1 to 16
/// GPUs, larger ones counted as 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sizes(u128);

impl Sizes {
    /// The largest size that has a count of its own.
    pub(crate) const LARGEST: u32 = 16;

    fn shift(size: u32) -> u32 {
        (size.clamp(1, Self::LARGEST) - 1) * 8
    }

    pub(crate) fn add(&mut self, size: u32) {
        // A count saturates at 255; a kubelet runs 110 pods by default.
        if self.count(size) < 0xff {
            self.0 += 1 << Self::shift(size);
        }
    }

    pub(crate) fn count(self, size: u32) -> u32 {
        (self.0 >> Self::shift(size)) as u32 & 0xff
    }

    /// Returns the number of pods.
    pub(crate) fn pods(self) -> u32 {
        (1..=Self::LARGEST).map(|size| self.count(size)).sum()
    }

    /// Returns the fewest pods whose GPUs add up to at least `gpus`.
    pub(crate) fn fewest_for(self, gpus: u32) -> u32 {
        let (mut left, mut pods) = (gpus, 0);
        for size in (1..=Self::LARGEST).rev() {
            if left == 0 {
                break;
            }
            let taken = self.count(size).min(left.div_ceil(size));
            pods += taken;
            left = left.saturating_sub(taken * size);
        }
        pods
    }
}

/// Entry of a host in the buckets of its pool, and its part of the pool's sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filed {
    pub(crate) open: bool,
    pub(crate) fillable: bool,
    pub(crate) bucket: Bucket,
    pub(crate) ai_sizes: Sizes,
    pub(crate) sums: Sums,
}

/// GPUs that AI can get from a host, by their cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bucket {
    /// Idle, not promised.
    pub(crate) free: u32,
    /// Held by stopping miners, not promised.
    pub(crate) coming: u32,
    /// Held by miners that run on, not promised.
    pub(crate) mining: u32,
    /// The sizes of those miners.
    pub(crate) sizes: Sizes,
}

impl Bucket {
    /// Returns the GPUs that AI can have here.
    pub(crate) const fn available(&self) -> u32 {
        self.free + self.coming + self.mining
    }

    /// Returns the fewest miners that must stop so that `gpus` can be had.
    pub(crate) fn displaced(&self, gpus: u32) -> u32 {
        match gpus.checked_sub(self.free + self.coming) {
            None | Some(0) => 0,
            Some(short) => self.sizes.fewest_for(short),
        }
    }
}

/// Sums over the hosts of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) hosts: u32,
    /// Allocatable, on hosts where pods can be bound.
    pub(crate) usable: u32,
    pub(crate) ai: u32,
    pub(crate) undeclared: u32,
    pub(crate) unlisted: u32,
    pub(crate) mining: u32,
    /// Free on hosts where pods can be bound.
    pub(crate) free: u32,
    pub(crate) coming: u32,
    /// Idle on hosts where pods cannot be bound, and lost.
    pub(crate) unavailable: u32,
    /// Held beyond what the hosts offer, lost GPUs aside.
    pub(crate) beyond: u32,
    /// Held, and allocated by a DRA driver.
    pub(crate) by_claim: u32,
}

macro_rules! each_sum {
    ($left:ident, $op:tt, $right:ident) => {
        $left.hosts $op $right.hosts;
        $left.usable $op $right.usable;
        $left.ai $op $right.ai;
        $left.undeclared $op $right.undeclared;
        $left.unlisted $op $right.unlisted;
        $left.mining $op $right.mining;
        $left.free $op $right.free;
        $left.coming $op $right.coming;
        $left.unavailable $op $right.unavailable;
        $left.beyond $op $right.beyond;
        $left.by_claim $op $right.by_claim;
    };
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        each_sum!(self, +=, other);
    }
}

impl SubAssign for Sums {
    fn sub_assign(&mut self, other: Self) {
        each_sum!(self, -=, other);
    }
}

/// A place in the order of node names, and the node.
pub(crate) type NodeAt = (u64, Id<NodeRow>);

/// The hosts of a pool, by what can be had from them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets {
    /// Open hosts from which AI can have something.
    pub(crate) open: BTreeMap<Bucket, BTreeSet<NodeAt>>,
    /// Hosts where miners may be granted, by free GPUs.
    pub(crate) fillable: BTreeMap<u32, BTreeSet<NodeAt>>,
    /// Number of open hosts by allocatable GPUs.
    pub(crate) allocatable: BTreeMap<u32, u32>,
    /// Number of AI pods by size, from which the sizes of future work are expected.
    pub(crate) ai_sizes: [u32; Sizes::LARGEST as usize],
}

impl Buckets {
    pub(crate) fn insert(&mut self, filed: &Filed, at: NodeAt) {
        for (sum, size) in self.ai_sizes.iter_mut().zip(1..) {
            *sum += filed.ai_sizes.count(size);
        }
        if filed.open {
            *self.allocatable.entry(filed.sums.usable).or_default() += 1;
            if filed.bucket.available() > 0 {
                self.open.entry(filed.bucket).or_default().insert(at);
            }
        }
        if filed.fillable {
            self.fillable.entry(filed.bucket.free).or_default().insert(at);
        }
    }

    pub(crate) fn remove(&mut self, filed: &Filed, at: NodeAt) {
        for (sum, size) in self.ai_sizes.iter_mut().zip(1..) {
            *sum -= filed.ai_sizes.count(size);
        }
        if filed.open {
            if let Some(count) = self.allocatable.get_mut(&filed.sums.usable) {
                *count -= 1;
                if *count == 0 {
                    self.allocatable.remove(&filed.sums.usable);
                }
            }
            remove_from(&mut self.open, &filed.bucket, at);
        }
        if filed.fillable {
            remove_from(&mut self.fillable, &filed.bucket.free, at);
        }
    }
}

fn remove_from<K: Ord>(buckets: &mut BTreeMap<K, BTreeSet<NodeAt>>, key: &K, at: NodeAt) {
    if let Some(bucket) = buckets.get_mut(key) {
        bucket.remove(&at);
        if bucket.is_empty() {
            buckets.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(pods: &[u32]) -> Sizes {
        let mut sizes = Sizes::default();
        for &pod in pods {
            sizes.add(pod);
        }
        sizes
    }

    #[test]
    fn the_fewest_pods_cover_a_need() {
        assert_eq!(sizes(&[1, 1, 1, 1]).fewest_for(3), 3);
        assert_eq!(sizes(&[1, 1, 2, 4]).fewest_for(3), 1);
        assert_eq!(sizes(&[1, 1, 2, 4]).fewest_for(5), 2);
        assert_eq!(sizes(&[2, 2]).fewest_for(4), 2);
        assert_eq!(sizes(&[8]).fewest_for(1), 1);
        assert_eq!(sizes(&[]).fewest_for(0), 0);
    }
}
