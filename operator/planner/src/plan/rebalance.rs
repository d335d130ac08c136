//! Rebalancing: a waiting miner takes replicas from one with a weaker claim, once those have run for
//! the pool's minimum time.

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::explain::ReclaimReason;
use crate::model::Shape;
use crate::plan::candidate::MinerCandidate;
use crate::plan::claim::Claim;
use crate::plan::search::When;
use crate::plan::{Run, lease};
use crate::state::amounts::Amounts;
use crate::state::host::Host;
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

/// One replica in exchange for others.
struct Exchange {
    /// The miners that give up pods; none where there is room already.
    donors: Vec<Claim>,
    /// The donors' pods that stop.
    pods: Vec<Id<PodRow>>,
    /// The node on which the replica then starts.
    node: Id<NodeRow>,
}

/// Pods that one or several donors can give up for one replica of a taker.
#[derive(Default)]
struct Offer {
    /// Pods of the weakest claim first, of each miner the youngest first.
    pods: Vec<Id<PodRow>>,
    /// The most pods that each of the miners yields.
    most: FxHashMap<Id<MinerRow>, usize>,
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
            let held = self.state.miners[claim.miner].held;
            let mut missing = candidate.miner.replicas.saturating_sub(held);
            // In the order of now: grants since the refusal may have changed it.
            let pools = self.in_order(&candidate).into_iter();
            for pool in pools.filter(|pool| contested.contains(pool)) {
                self.take_for(claim.miner, &candidate, pool, &mut missing, &mut donors);
            }
        }
    }

    fn donors(&self) -> FxHashMap<Id<PoolRow>, Donors> {
        let mut donors: FxHashMap<_, Donors> = FxHashMap::default();
        for &id in self.state.miners_by_key.values() {
            let active = self.state.miners[id].replicas.iter().filter(|there| there.active > 0);
            active.for_each(|there| {
                donors.entry(there.pool).or_default().claims.insert(self.donor(id));
            });
        }
        donors
    }

    /// Returns the claim of a miner that may give up replicas, by what it holds. The places kept for it
    /// do not count: it has nothing there yet.
    fn donor(&self, id: Id<MinerRow>) -> Claim {
        let claim = self.claim(id);
        Claim { gpus: claim.gpus - self.state.miners[id].kept_gpus, ..claim }
    }

    /// Returns whether miners are stopping in a pool for another reason than this step.
    fn drains(&self, pool: Id<PoolRow>) -> bool {
        let rebalanced = self.rebalanced.get(&pool).copied().unwrap_or_default();
        self.state.pools[pool].held.draining_gpus != rebalanced
    }

    /// Takes replicas for a miner from those with weaker claims in a pool, as far as the miner can then
    /// start: within every cap, and on a node that takes it.
    fn take_for(
        &mut self,
        miner: Id<MinerRow>,
        candidate: &MinerCandidate,
        pool: Id<PoolRow>,
        missing: &mut u32,
        donors: &mut FxHashMap<Id<PoolRow>, Donors>,
    ) {
        let shape = candidate.miner.shape;
        // Without a place at first, there is none later but where a larger replica has left.
        let mut place = self.place_then(pool, miner, shape);
        let mut later_are_left_out = false;
        for _ in 0..BATCH {
            if *missing == 0 || self.within_registration(miner, candidate, When::Drained).is_err() {
                return;
            }
            if place.is_none() && !later_are_left_out {
                // Others are not displaced for replicas that start by themselves after some time.
                *missing = missing.saturating_sub(self.places_later(pool, miner, shape));
                later_are_left_out = true;
                continue;
            }
            let Some(there) = donors.get_mut(&pool) else { return };
            let claim = self.claim(miner);
            let Some(Exchange { donors: gave, pods, node }) =
                self.exchange(&claim, candidate, pool, place, there)
            else {
                return;
            };
            if !pods.is_empty() {
                self.search_again(pool);
            }
            for pod in pods {
                let gpus = self.state.pods[pod].gpus;
                self.evict(pod, ReclaimReason::Rebalance, Some(&claim.key));
                *self.rebalanced.entry(pool).or_default() += gpus;
            }
            self.keep(candidate, pool, node);
            *missing -= 1;
            place = match place {
                Some(_) => self.place_then(pool, miner, shape),
                None => Some(node)
                    .filter(|&node| self.takes(node, pool, miner, &shape, When::Drained).is_ok()),
            };
            for donor in &gave {
                there.ripe.remove(&donor.miner);
            }
            for donor in gave {
                let left = self.donor(donor.miner);
                for there in donors.values_mut() {
                    if there.claims.remove(&donor) {
                        there.claims.insert(left.clone());
                    }
                }
            }
        }
    }

    /// Returns what one more replica of the taker takes. There may be room already: then no donor is
    /// needed.
    fn exchange(
        &mut self,
        taker: &Claim,
        candidate: &MinerCandidate,
        pool: Id<PoolRow>,
        place: Option<Id<NodeRow>>,
        there: &mut Donors,
    ) -> Option<Exchange> {
        if let Some(node) = place
            && self.with_others(Vec::new(), &Offer::default(), pool, candidate).is_some()
        {
            return Some(Exchange { donors: Vec::new(), pods: Vec::new(), node });
        }
        // One donor, if one alone makes room; otherwise several, which together do.
        let mut all = Offer::default();
        let mut several = Vec::new();
        for donor in &there.claims {
            // The claims are sorted, so if this one is too strong, all that follow are.
            let Some(most) = self.most_yielded(donor, taker, candidate) else { break };
            if donor.miner == taker.miner || most == 0 {
                continue;
            }
            let ripe = there.ripe.entry(donor.miner);
            let ripe = ripe.or_insert_with(|| self.ripe(donor.miner, pool));
            let most = FxHashMap::from_iter([(donor.miner, most)]);
            let offer = Offer { pods: std::mem::take(ripe), most };
            let found = self.taken(taker.miner, candidate, pool, place, &offer);
            if let Some((pods, node)) = found {
                return Some(Exchange { donors: vec![donor.clone()], pods, node });
            }
            let room = DEPTH.saturating_sub(all.pods.len());
            if !offer.pods.is_empty() && room > 0 {
                all.pods.extend(offer.pods.iter().take(room));
                all.most.extend(offer.most);
                several.push(donor.clone());
            }
            *ripe = offer.pods;
        }
        if several.len() < 2 {
            return None;
        }
        let (pods, node) = self.taken(taker.miner, candidate, pool, place, &all)?;
        let pods = self.without_spare(pods, place, node, pool, candidate);
        let gave: FxHashSet<_> = pods.iter().filter_map(|&pod| self.miner_of(pod)).collect();
        several.retain(|donor| gave.contains(&donor.miner));
        Some(Exchange { donors: several, pods, node })
    }

    /// Returns the pods of an offer after whose end one more replica of the taker starts, and its node.
    fn taken(
        &mut self,
        taker: Id<MinerRow>,
        candidate: &MinerCandidate,
        pool: Id<PoolRow>,
        place: Option<Id<NodeRow>>,
        offer: &Offer,
    ) -> Option<(Vec<Id<PodRow>>, Id<NodeRow>)> {
        match place {
            Some(node) => {
                let pods = self.with_others(Vec::new(), offer, pool, candidate)?;
                Some((pods, node))
            }
            None => self.clear_node(taker, candidate, pool, offer),
        }
    }

    /// Returns pods without those that turn out not to be needed: what one donor gives can make what
    /// a weaker one gave before superfluous.
    fn without_spare(
        &self,
        mut pods: Vec<Id<PodRow>>,
        place: Option<Id<NodeRow>>,
        node: Id<NodeRow>,
        pool: Id<PoolRow>,
        candidate: &MinerCandidate,
    ) -> Vec<Id<PodRow>> {
        for index in (0..pods.len()).rev() {
            let pod = pods.remove(index);
            let there = |pod: &Id<PodRow>| self.state.pods[*pod].node == Some(node);
            let on_node: Vec<_> = pods.iter().copied().filter(there).collect();
            let is_spare = (place.is_some()
                || self.are_enough(node, pool, &on_node, &candidate.miner.shape))
                && self.has_room_without(&pods, pool, candidate);
            if !is_spare {
                pods.insert(index, pod);
            }
        }
        pods
    }

    fn miner_of(&self, pod: Id<PodRow>) -> Option<Id<MinerRow>> {
        lease(&self.state.pods[pod]).map(|(miner, ..)| miner)
    }

    /// Returns how many GPUs a pool is short of for one more replica: idle, or under its cap.
    fn gpu_shortage(&self, pool: Id<PoolRow>, candidate: &MinerCandidate) -> u32 {
        let row = &self.state.pools[pool];
        let gpus = candidate.miner.shape.gpus;
        let limit = row.object.as_ref().and_then(|pool| pool.max_gpus).unwrap_or(u32::MAX);
        let over = row.held.gpus_then().saturating_add(gpus).saturating_sub(limit);
        self.short_in(pool, gpus).max(over)
    }

    /// Returns how many idle GPUs a pool is short of for a replica with `gpus`, once the stopping miners
    /// have stopped.
    pub(super) fn short_in(&self, pool: Id<PoolRow>, gpus: u32) -> u32 {
        let row = &self.state.pools[pool];
        let headroom = row.object.as_ref().map_or(0, |pool| pool.headroom.of(row.sums.usable));
        gpus.saturating_add(headroom).saturating_sub(row.sums.free + row.sums.coming)
    }

    /// Returns how many replicas of a miner start on idle GPUs of a pool after some time, when an idle
    /// delay or a quarantine is over.
    fn places_later(&mut self, pool: Id<PoolRow>, miner: Id<MinerRow>, shape: Shape) -> u32 {
        let row = &self.state.pools[pool];
        let headroom = row.object.as_ref().map_or(0, |pool| pool.headroom.of(row.sums.usable));
        let nodes = row.buckets.fillable.range(shape.gpus..);
        let nodes = nodes.flat_map(|(free, nodes)| nodes.iter().map(move |(_, node)| (free, node)));
        let (mut places, mut first) = (0, None);
        for (free, &node) in nodes {
            let refused = self.takes(node, pool, miner, &shape, When::Now).err();
            if let Some(at) = refused.and_then(|reason| reason.earliest()) {
                places += free / shape.gpus.max(1);
                first = first.into_iter().chain([at]).min();
            }
        }
        let places = places.min(row.sums.free.saturating_sub(headroom) / shape.gpus.max(1));
        // Even a replica that has to wait for room under a cap waits for the node first.
        if let Some(at) = first {
            self.wake(at);
        }
        places
    }

    /// Returns how many replicas a donor yields at most for one of a taker, so that it keeps at least
    /// the taker's share, or all of a lower rank; `None` if its claim is too strong as it is.
    /// Otherwise the two would take from each other forever.
    fn most_yielded(
        &self,
        donor: &Claim,
        taker: &Claim,
        candidate: &MinerCandidate,
    ) -> Option<usize> {
        if donor.rank != taker.rank {
            return (donor.rank < taker.rank).then_some(usize::MAX);
        }
        let size = self.state.miners[donor.miner].object.as_ref().map_or(1, |m| m.shape.gpus);
        let then = u64::from(taker.gpus.saturating_add(candidate.miner.shape.gpus));
        let keeps = (then * u64::from(donor.weight)).div_ceil(taker.weight.max(1).into());
        let spare = u64::from(donor.gpus).checked_sub(keeps)?;
        Some((spare / u64::from(size.max(1))) as usize)
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
            // A place that is kept is a pod without a node.
            let Some(node) = self.state.pods[id].node else { return false };
            let ripe = self.created(id) + min_run_time.max(JUST_GRANTED);
            self.wake(ripe);
            let host = self.state.host_in(node, pool);
            self.now >= ripe && host.is_some_and(Host::fillable)
        });
        pods
    }

    /// Returns pods of an offer that make room for one replica of the taker on one node, and the node.
    fn clear_node(
        &mut self,
        taker: Id<MinerRow>,
        candidate: &MinerCandidate,
        pool: Id<PoolRow>,
        offer: &Offer,
    ) -> Option<(Vec<Id<PodRow>>, Id<NodeRow>)> {
        let mut by_node: FxHashMap<Id<NodeRow>, Option<Vec<Id<PodRow>>>> = FxHashMap::default();
        for &pod in &offer.pods {
            let node = self.state.pods[pod].node?;
            let pods = by_node.entry(node).or_insert_with(|| {
                // Nothing is taken where the taker may not start yet.
                let Some(reason) = self.closed_until(node, pool, taker) else {
                    return Some(Vec::new());
                };
                if let Some(at) = reason.earliest() {
                    self.wake(at);
                }
                None
            });
            let Some(pods) = pods else { continue };
            if !self.is_yielded(pod, pods, offer) {
                continue;
            }
            pods.push(pod);
            if self.are_enough(node, pool, pods, &candidate.miner.shape) {
                let pods = std::mem::take(pods);
                let pods = self.with_others(pods, offer, pool, candidate);
                return pods.map(|pods| (pods, node));
            }
        }
        None
    }

    /// Returns whether a replica fits on a node once these pods have stopped there.
    fn are_enough(
        &self,
        node: Id<NodeRow>,
        pool: Id<PoolRow>,
        pods: &[Id<PodRow>],
        shape: &Shape,
    ) -> bool {
        let Some(host) = self.state.host_in(node, pool) else { return false };
        let bucket = host.bucket();
        let (mut gpus, mut room) = (bucket.free + bucket.coming, self.state.room(node));
        for &pod in pods {
            let row = &self.state.pods[pod];
            gpus += row.gpus;
            room += Amounts::of_pod(&row.pod);
        }
        gpus >= shape.gpus && room.covers(&Amounts::of(shape, 1))
    }

    /// Returns whether the miner of a pod yields it in addition to these pods.
    fn is_yielded(&self, pod: Id<PodRow>, pods: &[Id<PodRow>], offer: &Offer) -> bool {
        let Some(miner) = self.miner_of(pod) else { return false };
        let most = offer.most.get(&miner).copied().unwrap_or_default();
        let of_it = |pod: &&Id<PodRow>| self.miner_of(**pod) == Some(miner);
        most > pods.len() || most > pods.iter().filter(of_it).count()
    }

    /// Returns pods after whose end a pool has room for one more replica, in idle GPUs and under its
    /// caps: those given, and the first of the others as far as these are not enough; `None` if all
    /// of them are not.
    fn with_others(
        &self,
        mut pods: Vec<Id<PodRow>>,
        offer: &Offer,
        pool: Id<PoolRow>,
        candidate: &MinerCandidate,
    ) -> Option<Vec<Id<PodRow>>> {
        let first: FxHashSet<_> = pods.iter().copied().collect();
        let mut others = offer.pods.iter().filter(|pod| !first.contains(pod));
        while !self.has_room_without(&pods, pool, candidate) {
            pods.push(*others.find(|pod| self.is_yielded(**pod, &pods, offer))?);
        }
        Some(pods)
    }

    /// Returns whether a pool has room for one more replica once these pods have stopped, in idle GPUs
    /// and under its caps.
    fn has_room_without(
        &self,
        pods: &[Id<PodRow>],
        pool: Id<PoolRow>,
        candidate: &MinerCandidate,
    ) -> bool {
        let Some(object) = self.state.pools[pool].object.as_ref() else { return false };
        let more = (candidate.registration, candidate.declared());
        let gpus: u32 = pods.iter().map(|&pod| self.state.pods[pod].gpus).sum();
        let is_over = |most| self.pool_watts_without(pool, pods, more) > most;
        gpus >= self.gpu_shortage(pool, candidate)
            && !object.power_budget_watts.is_some_and(is_over)
    }
}
