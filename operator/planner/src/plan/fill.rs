//! Idle GPUs go to miners: by rank of class, then by weighted fair share, one
//! replica at a time, as far as caps and nodes allow.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use crate::explain::{Action, Grant, Reason};
use crate::model::{Miner, Pod, Role};
use crate::plan::search::{Searches, note};
use crate::plan::standing::{Mode, projected_watts};
use crate::plan::{Run, Undo};
use crate::state::table::Id;
use crate::state::{MinerRow, NodeRow, PoolRow, RegistrationRow};
use daylight_base::{Name, Timestamp};

/// How long a pod that just came is expected to be placed by kube-scheduler;
/// so long, idle GPUs are kept for it.
const SCHEDULING: std::time::Duration = std::time::Duration::from_secs(30);

/// Which pools are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Grant,
    /// Those that only observe: what would be granted.
    Observe,
}

/// What became of a miner in this run.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Why it does not hold all that it wants, if it does not.
    pub(super) reason: Option<Reason>,
    /// The pools where only the others' shares stand in its way.
    pub(super) contested: Vec<Id<PoolRow>>,
}

impl Outcome {
    /// Of the reasons in several pools, keeps the one that says most.
    fn note(&mut self, reason: Reason) {
        if self.reason.is_some() {
            note(&mut self.reason, reason);
        } else {
            self.reason = Some(reason);
        }
    }
}

/// A miner's claim to the next replica; the greatest is served first.
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

/// What one replica of a miner needs, and under which limits.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) miner: Miner,
    registration: Id<RegistrationRow>,
    pub(super) pools: Vec<Id<PoolRow>>,
}

/// Why a miner gets nothing in a pool.
enum Refusal {
    /// Whatever other miners hold.
    Own(Reason),
    /// As long as other miners hold what they hold.
    Contested(Reason),
}

impl Run<'_> {
    /// Compares two miners' claims; the lesser one yields first.
    pub(super) fn by_claim(&self, a: Id<MinerRow>, b: Id<MinerRow>) -> Ordering {
        self.claim(a).cmp(&self.claim(b))
    }

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

    /// Grants idle GPUs. In a pass that observes, returns what would be
    /// granted, by pool.
    pub(super) fn fill(&mut self, pass: Pass) -> FxHashMap<Id<PoolRow>, u32> {
        let mut granted = FxHashMap::default();
        // What is kept for a miner depends on caps too, and those on what
        // others are granted after it.
        while self.fill_once(pass, &mut granted) {}
        granted
    }

    /// Grants what can be granted; whether that may let more be granted.
    fn fill_once(&mut self, pass: Pass, granted_in: &mut FxHashMap<Id<PoolRow>, u32>) -> bool {
        let fills = |mode: &Mode| match pass {
            Pass::Grant => matches!(mode, Mode::Fill(_)),
            Pass::Observe => matches!(mode, Mode::Observe(_)),
        };
        if pass == Pass::Observe && !self.modes.values().any(fills) {
            return false;
        }
        let mut searches = Searches::new(self.arriving());
        let mut candidates: FxHashMap<Id<MinerRow>, Candidate> = FxHashMap::default();
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
        while let Some(claim) = heap.pop() {
            let candidate = &candidates[&claim.miner];
            let mut outcome = Outcome { reason: None, contested: Vec::new() };
            let mut granted = None;
            for pool in self.in_order(candidate) {
                match self.find_room(pool, claim.miner, candidate, &mut searches) {
                    Ok(node) => {
                        granted = Some((pool, node));
                        break;
                    }
                    Err(Refusal::Own(reason)) => outcome.note(reason),
                    Err(Refusal::Contested(reason)) => {
                        outcome.note(reason);
                        outcome.contested.push(pool);
                    }
                }
            }
            if let Some((pool, node)) = granted {
                let gpus = candidate.miner.shape.gpus;
                *granted_in.entry(pool).or_default() += gpus;
                self.grant(candidate, pool, node, pass);
                searches.count(pool, candidate.miner.shape);
                let row = &self.state.miners[claim.miner];
                if row.held < candidate.miner.replicas {
                    heap.push(Claim { gpus: row.active_gpus, ..claim });
                } else {
                    self.outcomes.remove(&claim.miner);
                }
            } else {
                for &pool in &outcome.contested {
                    self.keep_nodes(pool, claim.miner, candidate, &mut searches);
                }
                if pass == Pass::Grant {
                    self.outcomes.insert(claim.miner, outcome);
                }
            }
        }
        searches.may_go_on()
    }

    /// The pools of a miner in the order in which they are tried: its own, or,
    /// where it leaves the choice, the one with the most idle GPUs first, so
    /// that those who depend on a small one find some there.
    fn in_order(&self, candidate: &Candidate) -> Vec<Id<PoolRow>> {
        let mut pools = candidate.pools.clone();
        if candidate.miner.pools.is_empty() {
            pools.sort_by_key(|&pool| Reverse(self.state.pools[pool].sums.free));
        }
        pools
    }

    /// GPUs that waiting pods may take within moments, by resource.
    fn arriving(&mut self) -> FxHashMap<Name, u32> {
        let mut arriving: FxHashMap<Name, u32> = FxHashMap::default();
        let mut over = Vec::new();
        for &id in self.state.waiting.values() {
            let row = &self.state.pods[id];
            if row.nominated.is_some() || row.pod.deleting {
                continue;
            }
            let end = row.pod.created + SCHEDULING;
            if self.now < end {
                over.push(end);
                for (resource, count) in &row.pod.gpus {
                    *arriving.entry(resource.clone()).or_default() += count;
                }
            }
        }
        over.into_iter().for_each(|end| self.wake(end));
        arriving
    }

    /// What a miner may be granted, or why nothing; no reason if it lacks nothing.
    pub(super) fn candidate(&self, id: Id<MinerRow>) -> Result<Candidate, Option<Reason>> {
        let row = &self.state.miners[id];
        let Some(miner) = &row.object else {
            return Err(None);
        };
        if let Some(problem) = miner.problem.clone() {
            return Err(Some(Reason::Invalid { problem }));
        }
        let registration = miner.registration.clone();
        let found = self.state.registrations.find(&registration);
        let Some((found, object, standing)) = found.and_then(|id| {
            let object = self.state.registrations[id].object.as_ref()?;
            Some((id, object, self.standings.get(&id)?))
        }) else {
            return Err(Some(Reason::RegistrationMissing { registration }));
        };
        if let Some((_, reason)) = &standing.stop {
            return Err(Some(reason.clone()));
        }
        if miner.replicas == 0 {
            return Err(Some(Reason::NothingWanted));
        }
        let registered = |name: &&Name| object.pools.contains(*name);
        let wanted = if miner.pools.is_empty() { &object.pools } else { &miner.pools };
        let pools: Vec<_> = wanted
            .iter()
            .filter(registered)
            .filter_map(|name| self.state.pools_by_name.get(name).copied())
            .collect();
        if pools.is_empty() {
            return Err(Some(Reason::PoolNotRegistered { registration }));
        }
        if row.active() >= miner.replicas {
            return Err(None);
        }
        if let Some(reason) = &standing.held_back {
            return Err(Some(reason.clone()));
        }
        let open = |pool: &Id<PoolRow>| {
            matches!(self.modes.get(pool), Some(Mode::Fill(_) | Mode::Observe(_)))
        };
        if !pools.iter().any(open) {
            let reason = pools.iter().find_map(|pool| match self.modes.get(pool)? {
                Mode::Keep(reason) | Mode::Stop(_, reason) => Some(reason.clone()),
                Mode::Fill(_) | Mode::Observe(_) => None,
            });
            return Err(reason);
        }
        if row.held >= miner.replicas {
            return Err(Some(Reason::Stopping { replicas: row.draining }));
        }
        Ok(Candidate { miner: miner.clone(), registration: found, pools })
    }

    /// The node for one more replica of a miner in a pool.
    fn find_room(
        &mut self,
        pool: Id<PoolRow>,
        miner: Id<MinerRow>,
        candidate: &Candidate,
        searches: &mut Searches,
    ) -> Result<Id<NodeRow>, Refusal> {
        self.within_registration(miner, candidate).map_err(Refusal::Own)?;
        let gpus = candidate.miner.shape.gpus;
        let row = &self.state.pools[pool];
        let Some(object) = &row.object else {
            let pool = self.state.pools.name(pool).clone();
            return Err(Refusal::Own(Reason::PoolUnknown { pool }));
        };
        let name = object.name.clone();
        let over = |held: u64, more: u64, limit: Option<u64>| {
            limit.filter(|limit| held.saturating_add(more) > *limit)
        };
        let limit = object.max_gpus.map(u64::from);
        if over(row.held.gpus().into(), gpus.into(), limit).is_some() {
            let limit = object.max_gpus.unwrap_or_default();
            return Err(Refusal::Contested(Reason::PoolGpuLimit { pool: name, limit }));
        }
        let budget = object.power_budget_watts;
        if let Some(watts) = over(row.held.watts(), candidate.miner.watts, budget) {
            return Err(Refusal::Contested(Reason::PowerBudget { pool: name, watts }));
        }
        let arriving = searches.arriving.get(&object.resource).copied().unwrap_or_default();
        let headroom = object.headroom.of(row.sums.usable);
        if row.sums.free < gpus {
            return Err(Refusal::Contested(Reason::WaitingForIdleGpus { gpus }));
        }
        if row.sums.free < gpus + headroom + arriving {
            let reason = if row.sums.free < gpus + headroom {
                Reason::Headroom { pool: name, gpus: headroom }
            } else {
                Reason::KeptForPods { gpus: arriving }
            };
            return Err(Refusal::Contested(reason));
        }
        if let Some(&(kept, miner)) = searches.kept.gpus.get(&pool)
            && row.sums.free + row.sums.coming < gpus + headroom + arriving + kept
        {
            let miner = self.state.miners.name(miner).clone();
            return Err(Refusal::Contested(Reason::KeptForMiner { miner }));
        }
        self.search(pool, candidate.miner.shape, searches).map_err(Refusal::Contested)
    }

    /// Whether a registration and its owner allow one more replica of a miner.
    fn within_registration(
        &self,
        miner: Id<MinerRow>,
        candidate: &Candidate,
    ) -> Result<(), Reason> {
        let Some(standing) = self.standings.get(&candidate.registration) else {
            return Ok(());
        };
        let held = self.state.registrations[candidate.registration].held;
        let (gpus, watts) = (candidate.miner.shape.gpus, candidate.miner.watts);
        let registration = candidate.miner.registration.clone();
        if held.gpus().saturating_add(gpus) > standing.gpus {
            let limit = standing.gpus;
            return Err(Reason::RegistrationGpuLimit { registration, limit });
        }
        if held.watts().saturating_add(watts) > standing.watts {
            let watts = standing.watts;
            return Err(Reason::RegistrationPowerLimit { registration, watts });
        }
        if self.projected(candidate.registration, Some(watts)) > standing.energy_watts {
            return Err(Reason::EnergyLimit { registration });
        }
        if let Some(owner) = standing.owner.as_ref().and_then(|owner| self.owners.get(owner)) {
            let (mut owner_gpus, mut owner_watts, mut projected) = (gpus, watts, 0_u64);
            for &id in &owner.registrations {
                let more = (id == candidate.registration).then_some(watts);
                projected = projected.saturating_add(self.projected(id, more));
                owner_gpus = owner_gpus.saturating_add(self.state.registrations[id].held.gpus());
                owner_watts = owner_watts.saturating_add(self.state.registrations[id].held.watts());
            }
            if owner_gpus > owner.gpus {
                return Err(Reason::OwnerGpuLimit { limit: owner.gpus });
            }
            if owner_watts > owner.watts {
                return Err(Reason::OwnerPowerLimit { watts: owner.watts });
            }
            if projected > owner.energy_watts {
                return Err(Reason::EnergyLimit { registration });
            }
        }
        // Miners of one registration may be of several pools; the miner's own
        // replicas are counted by its pods, stopping ones included.
        debug_assert!(self.state.miners[miner].held < candidate.miner.replicas);
        Ok(())
    }

    /// The watts that a registration is reckoned with against its energy limit,
    /// with one replica of `more` watts added if there is to be one.
    fn projected(&self, id: Id<RegistrationRow>, more: Option<u64>) -> u64 {
        let row = &self.state.registrations[id];
        let replicas = row.leases.len() as u64 + u64::from(more.is_some());
        let peak = self.standings.get(&id).map_or(0, |standing| standing.peak_watts);
        projected_watts(row.held.watts().saturating_add(more.unwrap_or_default()), replicas, peak)
    }

    fn grant(&mut self, candidate: &Candidate, pool: Id<PoolRow>, node: Id<NodeRow>, pass: Pass) {
        let Ok(slot) = self.free_slot(node) else {
            return;
        };
        let miner = &candidate.miner;
        let Some(object) = &self.state.pools[pool].object else {
            return;
        };
        let (pool_name, resource) = (object.name.clone(), object.resource.clone());
        let grace = miner.drain.min(object.drain_timeout);
        let window = match self.modes.get(&pool) {
            Some(Mode::Fill(until) | Mode::Observe(until)) => *until,
            _ => None,
        };
        let valid = self.standings.get(&candidate.registration).map(|standing| standing.until);
        let until = match (window, valid) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let node_name = self.state.nodes.name(node).clone();
        if pass == Pass::Grant {
            self.actions.push(Action::Grant(Grant {
                miner: miner.key.clone(),
                registration: miner.registration.clone(),
                pool: pool_name.clone(),
                node: node_name.clone(),
                slot,
                grace,
                until,
            }));
        }
        let pod = Pod {
            key: self.unnamed.clone(),
            node: Some(node_name),
            nominated: None,
            gpus: vec![(resource, miner.shape.gpus)],
            cpu_milli: miner.shape.cpu_milli,
            memory: miner.shape.memory,
            created: self.now,
            deleting: false,
            role: Role::Miner {
                miner: miner.key.clone(),
                registration: miner.registration.clone(),
                pool: pool_name,
                slot,
                revision: miner.revision,
                watts: miner.watts,
            },
        };
        let id = self.state.add_unnamed_pod(pod);
        self.state.refresh();
        self.undo.push(Undo::Grant(id));
    }
}
