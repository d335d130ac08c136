//! Rebalancing: a waiting miner takes replicas from one with a weaker claim, once those have run for
//! the pool's minimum time.

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::explain::ReclaimReason;
use crate::model::Shape;
use crate::plan::Run;
use crate::plan::candidate::MinerCandidate;
use crate::plan::claim::Claim;
use crate::state::host::{Amounts, Host};
use crate::state::table::Id;
use crate::state::{MinerRow, NodeRow, PodRow, PoolRow};

/// Pods of a donor that are looked at for one replica: bounds the time of a plan, however large a
/// miner is.
const DEPTH: usize = 512;

/// Age below which a replica stays even in pools without a minimum time, so that a plan never takes
/// back what the one before it granted.
const JUST_GRANTED: Duration = Duration::from_secs(1);

/// Replicas that one miner takes in one plan. More follow in the next plan, after these have drained.
const BATCH: usize = 1024;

/// Resources to free for one replica.
struct Need {
    /// Needed on one node.
    shape: Shape,
    /// GPUs that the whole pool is short of.
    in_pool: u32,
}

/// Miners of a pool that may have to give up replicas.
#[derive(Default)]
struct Donors {
    /// Claims of the miners that hold replicas there, the weakest first.
    claims: BTreeSet<Claim>,
    /// Pods that each can give up, the youngest first, once they have been looked up.
    ripe: FxHashMap<Id<MinerRow>, Vec<Id<PodRow>>>,
}

impl Run<'_> {
    /// Evicts replicas of weaker claims for miners that only others' replicas keep waiting.
    pub(super) fn rebalance(&mut self) {
        let mut waiting: Vec<Claim> = self
            .outcomes
            .iter()
            .filter(|(_, outcome)| !outcome.contested.is_empty())
            .map(|(&id, _)| self.claim(id))
            .collect();
        if waiting.is_empty() {
            return;
        }
        waiting.sort_by(|a, b| b.cmp(a));
        let mut donors = self.donors();
        for claim in waiting {
            let Ok(candidate) = self.candidate(claim.miner) else {
                continue;
            };
            let Some(outcome) = self.outcomes.get(&claim.miner) else {
                continue;
            };
            let contested = outcome.contested.clone();
            // What drains already is granted first; taking more before that would evict too much.
            if candidate.pools.iter().any(|&pool| self.drains(pool)) {
                continue;
            }
            let mut claim = claim;
            let held = self.state.miners[claim.miner].held;
            let mut missing = candidate.miner.replicas.saturating_sub(held);
            for pool in contested {
                self.take_for(&mut claim, &candidate, pool, &mut missing, &mut donors);
            }
        }
    }

    fn donors(&self) -> FxHashMap<Id<PoolRow>, Donors> {
        let mut donors: FxHashMap<_, Donors> = FxHashMap::default();
        for &id in self.state.miners_by_key.values() {
            let active = self.state.miners[id].replicas.iter().filter(|there| there.active > 0);
            active.for_each(|there| {
                donors.entry(there.pool).or_default().claims.insert(self.claim(id));
            });
        }
        donors
    }

    /// Returns whether miners are stopping in a pool for another reason than this step.
    fn drains(&self, pool: Id<PoolRow>) -> bool {
        let rebalanced = self.rebalanced.get(&pool).copied().unwrap_or_default();
        self.state.pools[pool].held.draining_gpus != rebalanced
    }

    /// Takes replicas for a miner from those with weaker claims in a pool.
    fn take_for(
        &mut self,
        claim: &mut Claim,
        candidate: &MinerCandidate,
        pool: Id<PoolRow>,
        missing: &mut u32,
        donors: &mut FxHashMap<Id<PoolRow>, Donors>,
    ) {
        let Shape { gpus, .. } = candidate.miner.shape;
        for _ in 0..BATCH {
            if *missing == 0 {
                return;
            }
            let need = Need { shape: candidate.miner.shape, in_pool: self.short_in(pool, gpus) };
            let mut taken = None;
            let Some(there) = donors.get_mut(&pool) else { return };
            for donor in &there.claims {
                // The claims are sorted, so if this one is too strong, all that follow are.
                if !self.yields(donor, claim, gpus, 0) {
                    break;
                }
                if donor.miner == claim.miner || !self.yields(donor, claim, gpus, 1) {
                    continue;
                }
                let ripe = there.ripe.entry(donor.miner);
                let ripe = ripe.or_insert_with(|| self.ripe(donor.miner, pool));
                if let Some(pods) = self.yielded(donor, claim, &need, pool, ripe) {
                    taken = Some((donor.clone(), pods));
                    break;
                }
            }
            let Some((donor, pods)) = taken else { return };
            for pod in pods {
                let gpus = self.state.pods[pod].gpus;
                self.evict(pod, ReclaimReason::Rebalance, Some(&claim.key));
                *self.rebalanced.entry(pool).or_default() += gpus;
            }
            *self.promised.entry(pool).or_default() += gpus;
            // Counted as held, so that the next replica is compared with the share it will have.
            claim.gpus += gpus;
            *missing -= 1;
            there.ripe.remove(&donor.miner);
            let left = self.state.miners[donor.miner].active_gpus;
            for there in donors.values_mut() {
                if there.claims.remove(&donor) {
                    there.claims.insert(Claim { gpus: left, ..donor.clone() });
                }
            }
        }
    }

    /// Returns how many GPUs a pool is short of for a replica with `gpus`. Headroom is not for miners,
    /// nor is what this step promised to others.
    fn short_in(&self, pool: Id<PoolRow>, gpus: u32) -> u32 {
        let row = &self.state.pools[pool];
        let headroom = row.object.as_ref().map_or(0, |pool| pool.headroom.of(row.sums.usable));
        let promised = self.promised.get(&pool).copied().unwrap_or_default();
        (gpus + headroom + promised).saturating_sub(row.sums.free + row.sums.coming)
    }

    /// Returns whether a donor yields `pods` replicas to a taker of one with `gpus`: it has a lower
    /// rank, or afterwards still at least the taker's share. Otherwise the two would take from each
    /// other forever.
    fn yields(&self, donor: &Claim, taker: &Claim, gpus: u32, pods: u32) -> bool {
        if donor.rank != taker.rank {
            return donor.rank < taker.rank;
        }
        let size = self.state.miners[donor.miner].object.as_ref().map_or(1, |m| m.shape.gpus);
        let left = donor.gpus.saturating_sub(size * pods);
        u64::from(left) * u64::from(taker.weight)
            >= u64::from(taker.gpus + gpus) * u64::from(donor.weight)
    }

    /// Returns the pods that a donor can give up in a pool, the youngest first.
    fn ripe(&mut self, donor: Id<MinerRow>, pool: Id<PoolRow>) -> Vec<Id<PodRow>> {
        let object = self.state.pools[pool].object.as_ref();
        let min_run_time = object.map_or(Duration::ZERO, |pool| pool.min_run_time);
        let mut pods = self.state.pods_by_age(donor, pool).to_vec();
        pods.reverse();
        pods.retain(|&pod| !self.state.pods[pod].pod.deleting);
        pods.truncate(DEPTH);
        pods.retain(|&id| {
            let ripe = self.created(id) + min_run_time.max(JUST_GRANTED);
            self.wake(ripe);
            let node = self.state.pods[id].node;
            let host = node.and_then(|node| self.state.host_in(node, pool));
            self.now >= ripe && host.is_some_and(Host::fillable)
        });
        pods
    }

    /// Returns pods of a donor that make room for one replica on one node.
    fn yielded(
        &self,
        donor: &Claim,
        taker: &Claim,
        need: &Need,
        pool: Id<PoolRow>,
        ripe: &[Id<PodRow>],
    ) -> Option<Vec<Id<PodRow>>> {
        let mut by_node: FxHashMap<Id<NodeRow>, Vec<Id<PodRow>>> = FxHashMap::default();
        for &pod in ripe {
            let node = self.state.pods[pod].node?;
            let pods = by_node.entry(node).or_default();
            pods.push(pod);
            if let Some(count) = self.enough(node, pool, pods, need)
                && self.yields(donor, taker, need.shape.gpus, count as u32)
            {
                return Some(pods[..count].to_vec());
            }
        }
        None
    }

    /// Returns how many of the pods have to stop so that a replica fits on their node.
    fn enough(
        &self,
        node: Id<NodeRow>,
        pool: Id<PoolRow>,
        pods: &[Id<PodRow>],
        need: &Need,
    ) -> Option<usize> {
        let free = self.state.host_in(node, pool)?.bucket().free;
        let mut freed = 0;
        let mut room = self.state.room(node);
        for (index, &pod) in pods.iter().enumerate() {
            let row = &self.state.pods[pod];
            freed += row.gpus;
            room += Amounts {
                cpu_milli: row.pod.cpu_milli.cast_signed(),
                memory: row.pod.memory.cast_signed(),
                pods: 1,
            };
            let gpus = freed >= need.in_pool && free + freed >= need.shape.gpus;
            if gpus && room.covers(&Amounts::of(&need.shape, 1)) {
                return Some(index + 1);
            }
        }
        None
    }
}
