//! Places kept for miners: where a replica fits once others have stopped, nothing that a weaker
//! claim could take meanwhile may stand in its way, neither GPUs nor the room under a cap.
//!
//! Without this, miners with weaker claims and smaller replicas would take one GPU or one watt after
//! another as it becomes idle, and others would be displaced for the same replica again and again.
//!
//! A kept place is a pod in the planner's state that is nominated to its node, as a pod for which
//! kube-scheduler clears a node is. So it holds GPUs, CPU, memory and a pod slot on the node, and
//! room under each cap. It exists during a plan only.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::explain::Reason;
use crate::model::{Pod, Shape};
use crate::plan::Run;
use crate::plan::candidate::MinerCandidate;
use crate::plan::search::When;
use crate::state::table::Id;
use crate::state::{MinerRow, NodeRow, PodRow, PoolRow};
use daylight_base::Name;

/// The places kept in a pass.
#[derive(Default)]
pub(super) struct Kept {
    /// The places, in the order in which they were kept.
    pods: Vec<Id<PodRow>>,
    /// By pool: idle GPUs that are kept, and the miner for which a place was kept first.
    by_pool: FxHashMap<Id<PoolRow>, (u32, Name)>,
    /// The miner for which the first place of all was kept.
    first: Option<Name>,
    /// Shapes that fit nowhere in a pool. Places only become fewer during a pass.
    nowhere: FxHashSet<(Id<PoolRow>, Shape)>,
}

impl Kept {
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Returns how many idle GPUs of a pool are kept.
    pub(super) fn idle_in(&self, pool: Id<PoolRow>) -> u32 {
        self.by_pool.get(&pool).map_or(0, |(gpus, _)| *gpus)
    }

    /// Returns the reason why a miner with a weaker claim gets nothing in a pool, if a place that is
    /// kept there, or else anywhere, may be the cause.
    pub(super) fn reason(&self, pool: Id<PoolRow>) -> Option<Reason> {
        let miner = self.by_pool.get(&pool).map(|(_, miner)| miner).or(self.first.as_ref())?;
        Some(Reason::KeptForMiner { miner: miner.clone() })
    }
}

impl Run<'_> {
    /// Returns whether any miner is stopping. Otherwise nothing will fit that does not fit now.
    pub(super) fn any_drains(&self) -> bool {
        let mut pools = self.state.pools_by_name.values();
        pools.any(|&pool| self.state.pools[pool].held.draining_gpus > 0)
    }

    /// Keeps a place for one more replica of a miner, in the first of its pools where it fits once the
    /// stopping miners have stopped; returns that pool.
    pub(super) fn keep_place(
        &mut self,
        miner: Id<MinerRow>,
        candidate: &MinerCandidate,
    ) -> Option<Id<PoolRow>> {
        if self.within_registration(miner, candidate, When::Drained).is_err() {
            return None;
        }
        let found = self.in_order(candidate).into_iter().find_map(|pool| {
            let fits = self.over_pool_caps(pool, candidate, When::Drained).is_none()
                && self.short_in(pool, candidate.miner.shape.gpus) == 0;
            Some((pool, fits.then(|| self.place_then(pool, miner, candidate.miner.shape))??))
        });
        let (pool, node) = found?;
        self.keep(candidate, pool, node);
        Some(pool)
    }

    /// Returns a node of a pool that takes one more replica once the stopping miners have stopped.
    pub(super) fn place_then(
        &mut self,
        pool: Id<PoolRow>,
        miner: Id<MinerRow>,
        shape: Shape,
    ) -> Option<Id<NodeRow>> {
        if self.kept.nowhere.contains(&(pool, shape)) {
            return None;
        }
        let buckets = &self.state.pools[pool].buckets;
        let takes =
            |node: &Id<NodeRow>| self.takes(*node, pool, miner, &shape, When::Drained).is_ok();
        // Where GPUs are idle, the place where the replica would be granted now; otherwise the nodes
        // with the most idle GPUs first, since they are complete soonest.
        let idle = buckets.fillable.range(shape.gpus..).flat_map(|(_, nodes)| nodes);
        let coming = buckets.open.iter().rev();
        let coming = coming
            .filter(|(bucket, _)| bucket.coming > 0 && bucket.free + bucket.coming >= shape.gpus)
            .flat_map(|(_, nodes)| nodes);
        let place = idle.chain(coming).map(|(_, node)| *node).find(takes);
        // A node that is closed to this miner may be open to another.
        if place.is_none() && !self.is_closed_anywhere(miner) {
            self.kept.nowhere.insert((pool, shape));
        }
        place
    }

    /// Keeps a place on a node for one more replica of a miner.
    pub(super) fn keep(
        &mut self,
        candidate: &MinerCandidate,
        pool: Id<PoolRow>,
        node: Id<NodeRow>,
    ) {
        let miner = &candidate.miner;
        let row = &self.state.pools[pool];
        let Some(object) = &row.object else { return };
        let free = self.state.host_in(node, pool).map_or(0, |host| host.bucket().free);
        let pod = Pod {
            nominated: Some(self.state.nodes.name(node).clone()),
            ..Pod::replica(self.unnamed.clone(), miner, object, u32::MAX, self.now)
        };
        let id = self.state.add_unnamed_pod(pod);
        self.state.refresh();
        let there = self.kept.by_pool.entry(pool).or_insert_with(|| (0, miner.key.clone()));
        there.0 += free.min(miner.shape.gpus);
        self.kept.first.get_or_insert_with(|| miner.key.clone());
        self.kept.pods.push(id);
    }

    /// Notes that pods of a pool are evicted: what fitted nowhere may fit now.
    pub(super) fn search_again(&mut self, pool: Id<PoolRow>) {
        self.kept.nowhere.retain(|(nowhere, _)| *nowhere != pool);
    }

    /// Gives up all places that are kept.
    pub(super) fn release_kept(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        // In reverse, as plans are taken back.
        kept.pods.into_iter().rev().for_each(|pod| self.state.remove_pod(pod));
        self.state.refresh();
    }
}
