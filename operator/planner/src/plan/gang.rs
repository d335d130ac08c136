//! Placement of a gang: on the nodes where it displaces the fewest miners, and among those where it
//! fragments the pool least.
//!
//! Workers are placed one at a time, each at the least marginal cost:
//!
//! 1. miners displaced;
//! 2. GPUs that are not idle yet;
//! 3. growth of fragmentation, the measure of Weng et al., "Beware of
//!    Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
//!    Gradient Descent" (USENIX ATC 2023), for whole GPUs: a node with `a` GPUs
//!    that AI can have wastes all of them for a task of more than `a`. Tasks
//!    are expected in the sizes of the AI pods that run in the pool, plus one
//!    task each of 1, 2, 4 and 8 GPUs, so that an empty pool has an expectation
//!    too;
//! 4. GPUs left on the node;
//! 5. the node's name.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{ReclaimUnit, Shape};
use crate::plan::Run;
use crate::state::buckets::{Bucket, Buckets, NodeAt, Sizes};
use crate::state::table::Id;
use crate::state::{NodeRow, PoolRow, Resource};

/// The request of a gang, in one pool.
pub(super) struct Gang<'a> {
    pub(super) pool: Id<PoolRow>,
    pub(super) resource: Resource,
    pub(super) shape: Shape,
    pub(super) workers: u32,
    /// The only nodes it may use, if restricted.
    pub(super) allowed: Option<&'a FxHashSet<Id<NodeRow>>>,
    /// The most GPUs it may take on a node, if bounded.
    pub(super) bound: Option<&'a dyn Fn(Id<NodeRow>) -> u32>,
}

/// A place for each worker of a gang.
pub(super) struct Placed {
    /// Workers by node, in order of node names.
    pub(super) nodes: Vec<(Id<NodeRow>, u32)>,
    /// Miners that have to stop.
    pub(super) displaced: u32,
}

/// Cost of one more worker on a node, the most important part first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    displaced: u32,
    awaited: u32,
    fragmentation: i64,
    left: u32,
    at: NodeAt,
}

/// A node's offer to take one more worker; the least one is accepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct NodeOffer {
    cost: Cost,
    /// Workers of the gang on the node, this one included.
    workers: u32,
    /// The bucket that the node stands for, if it does.
    bucket: Option<Bucket>,
}

/// Fragmentation of a pool: GPUs wasted for the expected work, by the GPUs that AI can have on a
/// node.
struct Fragmentation {
    weights: [i64; Sizes::LARGEST as usize],
}

impl Fragmentation {
    fn of(buckets: &Buckets) -> Self {
        let mut weights = buckets.ai_sizes.map(i64::from);
        for size in [1, 2, 4, 8] {
            weights[size - 1] += 1;
        }
        Self { weights }
    }

    fn at(&self, available: u32) -> i64 {
        let too_large = self.weights.iter().skip(available as usize).sum::<i64>();
        too_large * i64::from(available)
    }
}

impl Run<'_> {
    /// Returns how many workers with `gpus` a pool could take, without regard to CPU and memory.
    pub(super) fn workers_available(&self, pool: Id<PoolRow>, gpus: u32) -> u32 {
        let buckets = self.state.pools[pool].buckets.open.iter();
        buckets.map(|(bucket, nodes)| bucket.available() / gpus * nodes.len() as u32).sum()
    }

    /// Places a gang whole, or not at all.
    pub(super) fn place(&self, gang: &Gang<'_>) -> Option<Placed> {
        let Shape { gpus, .. } = gang.shape;
        if self.workers_available(gang.pool, gpus) < gang.workers {
            return None;
        }
        let row = &self.state.pools[gang.pool];
        let whole_node =
            row.object.as_ref().is_some_and(|pool| pool.reclaim_unit == ReclaimUnit::Node);
        let fragmentation = Fragmentation::of(&row.buckets);
        let cost = |bucket: &Bucket, workers: u32, at: NodeAt| {
            let displaced = |workers: u32| match bucket.displaced(gpus * workers) {
                _ if whole_node && workers > 0 => bucket.sizes.pods(),
                displaced => displaced,
            };
            let awaited = |workers: u32| (gpus * workers).saturating_sub(bucket.free);
            let left = bucket.available() - gpus * workers;
            Cost {
                displaced: displaced(workers) - displaced(workers - 1),
                awaited: awaited(workers) - awaited(workers - 1),
                fragmentation: fragmentation.at(left) - fragmentation.at(left + gpus),
                left,
                at,
            }
        };

        // The nodes of a bucket cost the same but for their names, so one offer stands for all of them
        // and is replaced by the next node's when it is taken. So a gang looks at one node for each
        // bucket and each worker, not at the whole pool.
        let mut heap: BinaryHeap<Reverse<NodeOffer>> = BinaryHeap::new();
        if let Some(allowed) = gang.allowed {
            for &node in allowed {
                let Some(host) = self.state.host_in(node, gang.pool) else {
                    continue;
                };
                let bucket = host.bucket();
                if host.open && bucket.available() >= gpus {
                    let cost = cost(&bucket, 1, self.state.at(node));
                    heap.push(Reverse(NodeOffer { cost, workers: 1, bucket: None }));
                }
            }
        } else {
            for (bucket, nodes) in &row.buckets.open {
                if bucket.available() >= gpus
                    && let Some(&at) = nodes.first()
                {
                    let cost = cost(bucket, 1, at);
                    heap.push(Reverse(NodeOffer { cost, workers: 1, bucket: Some(*bucket) }));
                }
            }
        }

        let mut placed: FxHashMap<Id<NodeRow>, u32> = FxHashMap::default();
        let (mut left, mut displaced) = (gang.workers, 0);
        while left > 0 {
            let Reverse(offer) = heap.pop()?;
            if let Some(bucket) = offer.bucket {
                let after = (Bound::Excluded(offer.cost.at), Bound::Unbounded);
                if let Some(&at) = row.buckets.open[&bucket].range(after).next() {
                    let cost = Cost { at, ..offer.cost };
                    heap.push(Reverse(NodeOffer { cost, ..offer }));
                }
            }
            let (at, workers) = (offer.cost.at, offer.workers);
            let node = at.1;
            if gang.bound.is_some_and(|bound| gpus * workers > bound(node)) {
                continue;
            }
            let Some(exact) = self.displaced_by(node, gang.resource, &gang.shape, workers) else {
                continue;
            };
            let before = match workers {
                1 => 0,
                _ => self
                    .displaced_by(node, gang.resource, &gang.shape, workers - 1)
                    .unwrap_or_default(),
            };
            let exact = if whole_node { offer.cost.displaced } else { exact - before.min(exact) };
            if exact > offer.cost.displaced {
                // CPU or memory costs more miners than GPUs do, which the bucket does not know. Back
                // into the heap at the exact cost; it may still be the least.
                let cost = Cost { displaced: exact, ..offer.cost };
                heap.push(Reverse(NodeOffer { cost, bucket: None, ..offer }));
                continue;
            }
            placed.insert(node, workers);
            displaced += exact;
            left -= 1;
            let bucket = self.state.host_in(node, gang.pool)?.bucket();
            if bucket.available() >= gpus * (workers + 1) {
                let cost = cost(&bucket, workers + 1, at);
                heap.push(Reverse(NodeOffer { cost, workers: workers + 1, bucket: None }));
            }
        }
        let mut nodes: Vec<_> = placed.into_iter().collect();
        nodes.sort_by_key(|&(node, _)| self.state.at(node).0);
        Some(Placed { nodes, displaced })
    }
}
