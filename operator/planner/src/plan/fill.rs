//! Grants of idle GPUs to miners: in the order of their claims, one replica at a time, as far as caps
//! and nodes allow.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::explain::{Action, Grant, Reason};
use crate::model::Pod;
use crate::plan::candidate::MinerCandidate;
use crate::plan::claim::Claim;
use crate::plan::modes::Mode;
use crate::plan::search::{Searches, When, note};
use crate::plan::{Run, Undo, grace};
use crate::state::table::Id;
use crate::state::{MinerRow, NodeRow, PoolRow};
use daylight_base::{Name, Timestamp};

/// Time that kube-scheduler has to place a new pod, for which idle GPUs are kept meanwhile.
///
/// It places most within a second; a pod that it could not place is tried again after a back-off of
/// at most 10 s.
const SCHEDULING: Duration = Duration::from_secs(30);

/// The pools that a pass fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Pools with the policy `Fill`.
    Grant,
    /// Pools with the policy `Observe`: what would be granted.
    Observe,
}

/// Result of a run for one miner.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// The reason why it holds less than it wants, if it does.
    pub(super) reason: Option<Reason>,
    /// The pools where only what other miners hold prevents a grant.
    pub(super) contested: Vec<Id<PoolRow>>,
}

impl Outcome {
    /// Of the reasons in several pools, keeps the most informative one.
    fn note(&mut self, reason: Reason) {
        if self.reason.is_some() {
            note(&mut self.reason, reason);
        } else {
            self.reason = Some(reason);
        }
    }
}

/// The reason why a miner gets nothing in a pool.
enum GrantRefusal {
    /// The miner's own limits, whatever other miners hold.
    OwnLimit(Reason),
    /// What other miners hold now.
    Contested(Reason),
}

impl Run<'_> {
    /// Grants idle GPUs. In a pass that observes, returns what would be
    /// granted, by pool.
    pub(super) fn fill(&mut self, pass: Pass) -> FxHashMap<Id<PoolRow>, u32> {
        let mut granted = FxHashMap::default();
        // Where places are kept depends on what is idle, so after grants they are found again, as the
        // next plan will find them. Each round grants something, so the rounds end.
        while self.fill_once(pass, &mut granted) {
            self.release_kept();
        }
        granted
    }

    /// Grants what can be granted; returns whether another round may grant more.
    fn fill_once(&mut self, pass: Pass, granted_in: &mut FxHashMap<Id<PoolRow>, u32>) -> bool {
        let fills = |mode: &Mode| match pass {
            Pass::Grant => matches!(mode, Mode::Fill(_)),
            Pass::Observe => matches!(mode, Mode::Observe(_)),
        };
        if pass == Pass::Observe && !self.modes.values().any(fills) {
            return false;
        }
        let mut searches = Searches::new(self.arriving());
        let drains = self.any_drains();
        let mut candidates: FxHashMap<Id<MinerRow>, MinerCandidate> = FxHashMap::default();
        let mut heap = BinaryHeap::new();
        for id in self.state.miners_by_key.values().copied().collect::<Vec<_>>() {
            match self.candidate(id) {
                Ok(mut candidate) => {
                    candidate.pools.retain(|pool| self.modes.get(pool).is_some_and(fills));
                    if candidate.pools.is_empty() {
                        continue;
                    }
                    candidates.insert(id, candidate);
                    heap.push(self.claim(id));
                }
                Err(reason) => {
                    self.outcomes.insert(id, Outcome { reason, contested: Vec::new() });
                }
            }
        }
        // Within a pass caps and nodes only fill up, so what a miner could not have once it cannot have
        // later: from its first failure on, only places are kept for it.
        let (mut waiting, mut any_granted) = (FxHashSet::default(), false);
        while let Some(claim) = heap.pop() {
            let candidate = &candidates[&claim.miner];
            if waiting.contains(&claim.miner) {
                self.wait_in_line(claim, candidate, &mut heap, &mut searches);
                continue;
            }
            let mut outcome = Outcome { reason: None, contested: Vec::new() };
            let mut granted = None;
            for pool in self.in_order(candidate) {
                match self.find_room(pool, claim.miner, candidate, &mut searches) {
                    Ok(node) => {
                        granted = Some((pool, node));
                        break;
                    }
                    Err(GrantRefusal::OwnLimit(reason)) => outcome.note(reason),
                    Err(GrantRefusal::Contested(reason)) => {
                        outcome.note(reason);
                        outcome.contested.push(pool);
                    }
                }
            }
            if let Some((pool, node)) = granted {
                let gpus = candidate.miner.shape.gpus;
                *granted_in.entry(pool).or_default() += gpus;
                self.grant(candidate, pool, node, pass);
                any_granted = true;
                let alone = self.is_closed_anywhere(claim.miner).then_some(claim.miner);
                searches.count(pool, candidate.miner.shape, alone);
                let row = &self.state.miners[claim.miner];
                if row.held < candidate.miner.replicas {
                    heap.push(Claim { gpus: row.active_gpus, ..claim });
                } else {
                    self.outcomes.remove(&claim.miner);
                }
            } else {
                if pass == Pass::Grant {
                    self.outcomes.insert(claim.miner, outcome);
                }
                if drains {
                    waiting.insert(claim.miner);
                    self.wait_in_line(claim, candidate, &mut heap, &mut searches);
                }
            }
        }
        any_granted && !self.kept.is_empty()
    }

    /// Keeps a place for one replica that cannot start now; the miner stays in the heap while there may
    /// be more.
    fn wait_in_line(
        &mut self,
        claim: Claim,
        candidate: &MinerCandidate,
        heap: &mut BinaryHeap<Claim>,
        searches: &mut Searches,
    ) {
        let Some(pool) = self.keep_place(claim.miner, candidate) else { return };
        searches.count_kept(pool);
        let row = &self.state.miners[claim.miner];
        if row.held < candidate.miner.replicas {
            heap.push(Claim { gpus: row.active_gpus, ..claim });
        }
    }

    /// Returns the pools of a miner in the order in which they are tried: its own order, or,
    /// without one, the pool with the most idle GPUs first, which leaves the small pools to the
    /// miners that depend on them.
    pub(super) fn in_order(&self, candidate: &MinerCandidate) -> Vec<Id<PoolRow>> {
        let mut pools = candidate.pools.clone();
        if candidate.miner.pools.is_empty() {
            pools.sort_by_key(|&pool| Reverse(self.state.pools[pool].sums.free));
        }
        pools
    }

    /// Returns the GPUs that new pods may take within moments, by resource.
    fn arriving(&mut self) -> FxHashMap<Name, u32> {
        let mut arriving: FxHashMap<Name, u32> = FxHashMap::default();
        let mut over = Vec::new();
        for &id in self.state.waiting.values() {
            let row = &self.state.pods[id];
            if row.nominated.is_some() || row.pod.deleting || row.pod.is_gated() {
                continue;
            }
            let end = row.pod.created + SCHEDULING;
            if self.now < end {
                over.push(end);
                for (resource, count) in &row.pod.gpus {
                    // A request that no node can meet never takes what is kept for it.
                    if self.largest_node(resource) >= *count {
                        let gpus: &mut u32 = arriving.entry(resource.clone()).or_default();
                        *gpus = gpus.saturating_add(*count);
                    }
                }
            }
        }
        over.into_iter().for_each(|end| self.wake(end));
        arriving
    }

    /// Returns the most GPUs of a resource that a node on which pods can be bound has.
    fn largest_node(&self, resource: &Name) -> u32 {
        let resource = self.state.resources.find(resource);
        let pools = self.state.pools_by_name.values().map(|&pool| &self.state.pools[pool]);
        let pools = pools.filter(|pool| Some(pool.resource) == resource);
        let sizes = pools.filter_map(|pool| pool.buckets.allocatable.keys().next_back());
        sizes.max().copied().unwrap_or_default()
    }

    /// Returns the idle GPUs of a pool on nodes that observe the idle delay, and the end of the first
    /// delay.
    fn resting(&self, pool: Id<PoolRow>) -> (u32, Option<Timestamp>) {
        let row = &self.state.pools[pool];
        let Some(object) = &row.object else { return (0, None) };
        let (mut gpus, mut first) = (0, None);
        for (&free, nodes) in &row.buckets.fillable {
            for &(_, node) in nodes {
                let node = self.state.nodes[node].object.as_ref();
                let Some(released) = node.and_then(|node| node.ai_released_at) else { continue };
                let until = released + object.idle_delay;
                if self.now < until {
                    gpus += free;
                    first = Some(first.map_or(until, |first: Timestamp| first.min(until)));
                }
            }
        }
        (gpus, first)
    }

    /// Finds a node for one more replica of a miner in a pool.
    fn find_room(
        &mut self,
        pool: Id<PoolRow>,
        miner: Id<MinerRow>,
        candidate: &MinerCandidate,
        searches: &mut Searches,
    ) -> Result<Id<NodeRow>, GrantRefusal> {
        let kept = |run: &Self| run.kept.reason(pool);
        self.within_registration(miner, candidate, When::Now).map_err(GrantRefusal::OwnLimit)?;
        if let Err(reason) = self.within_registration(miner, candidate, When::Drained) {
            return Err(GrantRefusal::OwnLimit(kept(self).unwrap_or(reason)));
        }
        let gpus = candidate.miner.shape.gpus;
        let row = &self.state.pools[pool];
        let Some(object) = &row.object else {
            let pool = self.state.pools.name(pool).clone();
            return Err(GrantRefusal::OwnLimit(Reason::PoolUnknown { pool }));
        };
        let name = object.name.clone();
        let arriving = searches.arriving.get(&object.resource).copied().unwrap_or_default();
        let headroom = object.headroom.of(row.sums.usable);
        let (free, kept_idle) = (row.sums.free, self.kept.idle_in(pool));
        if let Some(reason) = self.over_pool_caps(pool, candidate, When::Now) {
            return Err(GrantRefusal::Contested(reason));
        }
        if let Some(reason) = self.over_pool_caps(pool, candidate, When::Drained) {
            return Err(GrantRefusal::Contested(kept(self).unwrap_or(reason)));
        }
        // GPUs that AI work has just released do not replace the headroom: the next work is likely to
        // take them, and miners on the former headroom would have to leave again.
        if headroom > 0 {
            let resting = searches.resting.entry(pool).or_insert_with(|| self.resting(pool));
            if let (resting, Some(until)) = *resting
                && free >= gpus.saturating_add(headroom)
                && free.saturating_sub(resting) < gpus.saturating_add(headroom)
            {
                self.wake(until);
                return Err(GrantRefusal::Contested(Reason::IdleDelay { until }));
            }
        }
        let needed = gpus.saturating_add(headroom);
        if free < needed.saturating_add(arriving) {
            let reason = match () {
                () if free < needed && free + kept_idle >= needed => kept(self),
                () if free < gpus => None,
                () if free < needed => Some(Reason::Headroom { pool: name, gpus: headroom }),
                () => Some(Reason::KeptForPods { gpus: arriving }),
            };
            let reason = reason.unwrap_or(Reason::WaitingForIdleGpus { gpus });
            return Err(GrantRefusal::Contested(reason));
        }
        self.search(pool, miner, candidate.miner.shape, searches).map_err(|reason| {
            // A time says that nothing else is missing.
            let kept = kept(self).filter(|_| reason.earliest().is_none());
            GrantRefusal::Contested(kept.unwrap_or(reason))
        })
    }

    /// Returns the cap of a pool that one more replica of a miner would exceed, if any.
    pub(super) fn over_pool_caps(
        &self,
        pool: Id<PoolRow>,
        candidate: &MinerCandidate,
        when: When,
    ) -> Option<Reason> {
        let row = &self.state.pools[pool];
        let object = row.object.as_ref()?;
        let name = || object.name.clone();
        let gpus = when.counted().gpus(&row.held).saturating_add(candidate.miner.shape.gpus);
        if let Some(limit) = object.max_gpus.filter(|limit| gpus > *limit) {
            return Some(Reason::PoolGpuLimit { pool: name(), limit });
        }
        let more = Some((candidate.registration, candidate.declared()));
        let over = |limit: &u64| self.pool_watts(pool, when.counted(), more) > *limit;
        let watts = object.power_budget_watts.filter(over)?;
        Some(Reason::PowerBudget { pool: name(), watts })
    }

    fn grant(
        &mut self,
        candidate: &MinerCandidate,
        pool: Id<PoolRow>,
        node: Id<NodeRow>,
        pass: Pass,
    ) {
        let Ok(slot) = self.free_slot(node, When::Now) else {
            return;
        };
        let miner = &candidate.miner;
        let Some(object) = &self.state.pools[pool].object else {
            return;
        };
        let grace = grace(Some(miner), Some(object));
        let window = match self.modes.get(&pool) {
            Some(Mode::Fill(until) | Mode::Observe(until)) => *until,
            _ => None,
        };
        let valid = self.verdicts.get(&candidate.registration).map(|verdict| verdict.until);
        let until = window.into_iter().chain(valid).min();
        let node_name = self.state.nodes.name(node).clone();
        if pass == Pass::Grant {
            self.actions.push(Action::Grant(Grant {
                miner: miner.key.clone(),
                registration: miner.registration.clone(),
                pool: object.name.clone(),
                node: node_name.clone(),
                slot,
                grace,
                until,
            }));
        }
        let pod = Pod {
            node: Some(node_name),
            ..Pod::replica(self.unnamed.clone(), miner, object, slot, self.now)
        };
        let id = self.state.add_unnamed_pod(pod);
        self.state.refresh();
        self.undo.push(Undo::Grant(id));
    }
}
