//! Reclaiming GPUs from miners: how many, and from which miners.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::explain::ReclaimReason;
use crate::model::Shape;
use crate::plan::claim::Claim;
use crate::plan::modes::Mode;
use crate::plan::power::Counted;
use crate::plan::queue::job_order;
use crate::plan::{Run, lease};
use crate::state::amounts::Amounts;
use crate::state::host::HolderKind;
use crate::state::pods::by_age;
use crate::state::table::Id;
use crate::state::{Hold, MinerRow, NodeRow, PodRow, PoolRow, RegistrationRow, Resource};
use daylight_base::{Name, Timestamp};

/// Time for which a node's GPUs may be gone before its miners are stopped.
///
/// While a kubelet or a device plugin restarts, the node reports no GPUs, while the pods run on.
pub const SHRUNK_TOLERANCE: Duration = Duration::from_mins(5);

/// The pods among which miners are chosen.
#[derive(Clone, Copy)]
enum Scope<'a> {
    Pool(Id<PoolRow>),
    Registrations(&'a [Id<RegistrationRow>]),
    Miner(Id<MinerRow>),
}

/// The amount to reclaim.
#[derive(Clone, Copy)]
enum Excess {
    Gpus(u32),
    /// What draws more watts than these.
    Watts(u64),
}

impl Run<'_> {
    /// Evicts miners that may not run at all: for their pool, registration, miner or node.
    pub(super) fn reclaim_unfit(&mut self) {
        for pod in self.state.misfits.values().copied().collect::<Vec<_>>() {
            if let Some(reason) = self.state.misfit(pod) {
                self.evict(pod, reason, None);
            }
        }
        let mut stops: Vec<_> = Vec::new();
        for (&id, mode) in &self.modes {
            if let Mode::Stop(reason, _) = mode {
                stops.push((id, *reason));
            }
        }
        for (pool, reason) in stops {
            self.evict_all(self.state.pools[pool].leases.clone(), reason);
        }
        let mut inactive: Vec<_> = Vec::new();
        for (&id, verdict) in &self.verdicts {
            if let Some((reason, _)) = &verdict.stop {
                inactive.push((id, *reason));
            }
        }
        for (registration, reason) in inactive {
            let leases = &self.state.registrations[registration].leases;
            self.evict_all(leases.clone(), reason);
        }
        self.reclaim_unregistered();
        self.reclaim_from_shrunk_nodes();
    }

    /// Evicts miners whose registration is gone, and replicas whose own registration is gone though
    /// their miner continues under a renewal.
    fn reclaim_unregistered(&mut self) {
        let gone: Vec<_> = self
            .state
            .miners_by_key
            .values()
            .filter(|&&id| {
                let row = &self.state.miners[id];
                row.active() > 0
                    && row.object.as_ref().is_some_and(|miner| {
                        !self.state.registrations_by_key.contains_key(&miner.registration)
                    })
            })
            .copied()
            .collect();
        let orphans = self.state.registrations.iter().filter(|(_, name, row)| {
            !row.leases.is_empty() && !self.state.registrations_by_key.contains_key(*name)
        });
        let orphans: Vec<_> = orphans.flat_map(|(_, _, row)| row.leases.iter().copied()).collect();
        self.evict_all(orphans, ReclaimReason::RegistrationInactive);
        for miner in gone {
            let pods = self.state.miners[miner].pods().collect();
            self.evict_all(pods, ReclaimReason::RegistrationInactive);
        }
    }

    fn evict_all(&mut self, mut pods: Vec<Id<PodRow>>, reason: ReclaimReason) {
        pods.retain(|&pod| !self.state.pods[pod].pod.deleting);
        pods.sort_by(|&a, &b| self.state.pods[a].pod.key.cmp(&self.state.pods[b].pod.key));
        pods.into_iter().for_each(|pod| self.evict(pod, reason, None));
    }

    fn reclaim_from_shrunk_nodes(&mut self) {
        for (_, node) in self.state.watched.iter().copied().collect::<Vec<_>>() {
            let shrunk_at = self.state.nodes[node].object.as_ref().and_then(|node| node.shrunk_at);
            let Some(shrunk_at) = shrunk_at else { continue };
            if self.now < shrunk_at + SHRUNK_TOLERANCE {
                self.wake(shrunk_at + SHRUNK_TOLERANCE);
                continue;
            }
            for index in 0..self.state.nodes[node].hosts.len() {
                let host = &self.state.nodes[node].hosts[index];
                let missing = (-host.idle() - i64::from(host.draining)).max(0) as u32;
                let need = Shape { gpus: missing.min(host.mining), ..Shape::default() };
                let resource = host.resource;
                for pod in self.victims(node, resource, need).unwrap_or_default() {
                    self.evict(pod, ReclaimReason::NodeUnavailable, None);
                }
            }
        }
    }

    /// Evicts miners beyond what their own scale, registrations, owners and pools allow.
    ///
    /// From the narrowest scope to the widest: what a narrow one evicts counts for the wider ones, so
    /// that no more miners stop than the tightest caps require.
    pub(super) fn reclaim_over_caps(&mut self) {
        for miner in self.state.miners_by_key.values().copied().collect::<Vec<_>>() {
            let row = &self.state.miners[miner];
            let Some(object) = &row.object else { continue };
            let surplus = row.active().saturating_sub(object.replicas);
            let gpus = surplus.saturating_mul(object.shape.gpus);
            self.shed(Scope::Miner(miner), Excess::Gpus(gpus), ReclaimReason::ScaledDown);
        }
        for id in self.state.registrations_by_key.values().copied().collect::<Vec<_>>() {
            let Some(verdict) = self.verdicts.get(&id) else {
                continue;
            };
            let (gpus, watts) = (verdict.gpus, verdict.watts);
            self.shed_over(Scope::Registrations(&[id]), gpus, watts);
        }
        // Sorted, since the order of a hash map must not decide a plan.
        let mut owners: Vec<_> = self.owners.keys().cloned().collect();
        owners.sort();
        for name in owners {
            let owner = &self.owners[&name];
            let (gpus, watts) = (owner.gpus, owner.watts);
            let registrations = owner.registrations.clone();
            self.shed_over(Scope::Registrations(&registrations), gpus, watts);
        }
        for id in self.state.pools_by_name.values().copied().collect::<Vec<_>>() {
            let Some(pool) = &self.state.pools[id].object else { continue };
            let gpus = pool.max_gpus.unwrap_or(u32::MAX);
            let watts = pool.power_budget_watts.unwrap_or(u64::MAX);
            self.shed_over(Scope::Pool(id), gpus, watts);
        }
        if cfg!(debug_assertions) {
            self.assert_caps();
        }
    }

    /// Evicts miners within a scope that hold more GPUs or watts than allowed.
    fn shed_over(&mut self, scope: Scope<'_>, gpus: u32, watts: u64) {
        // GPUs first: each GPU that goes takes its watts along.
        let over = self.active_gpus_in(scope).saturating_sub(gpus);
        self.shed(scope, Excess::Gpus(over), ReclaimReason::GpuLimit);
        self.shed(scope, Excess::Watts(watts), ReclaimReason::PowerBudget);
    }

    /// Returns the GPUs of the miners within a scope that run on.
    fn active_gpus_in(&self, scope: Scope<'_>) -> u32 {
        match scope {
            Scope::Pool(id) => self.state.pools[id].held.active_gpus,
            Scope::Registrations(ids) => {
                let held = ids.iter().map(|&id| self.state.registrations[id].held.active_gpus);
                held.fold(0, u32::saturating_add)
            }
            Scope::Miner(id) => self.state.miners[id].active_gpus,
        }
    }

    /// Returns the watts that count for the miners within a scope that run on; a single miner has no
    /// limit on them.
    fn active_watts_in(&self, scope: Scope<'_>) -> u64 {
        match scope {
            Scope::Pool(id) => self.pool_watts(id, Counted::Active, None),
            Scope::Registrations(ids) => {
                ids.iter().map(|&id| self.active_watts(id)).fold(0, u64::saturating_add)
            }
            Scope::Miner(_) => 0,
        }
    }

    fn is_over(&self, scope: Scope<'_>, excess: Excess, shed_gpus: u32) -> bool {
        match excess {
            Excess::Gpus(gpus) => shed_gpus < gpus,
            Excess::Watts(watts) => watts < u64::MAX && self.active_watts_in(scope) > watts,
        }
    }

    /// Restores the idle reserve of the pools.
    pub(super) fn reclaim_for_headroom(&mut self) {
        for id in self.state.pools_by_name.values().copied().collect::<Vec<_>>() {
            if !matches!(self.modes.get(&id), Some(Mode::Fill(_) | Mode::Keep(_))) {
                continue;
            }
            let row = &self.state.pools[id];
            let Some(pool) = &row.object else { continue };
            let wanted = pool.headroom.of(row.sums.usable);
            let missing = wanted.saturating_sub(row.sums.free + row.sums.coming);
            self.shed(Scope::Pool(id), Excess::Gpus(missing), ReclaimReason::Headroom);
        }
    }

    /// Evicts miners within a scope until the excess is gone: from the weakest claim, the youngest pod
    /// first. Claims change with every pod, so each eviction chooses again.
    fn shed(&mut self, scope: Scope<'_>, excess: Excess, reason: ReclaimReason) {
        let mut shed = 0;
        if !self.is_over(scope, excess, shed) {
            return;
        }
        // By claim, the weakest first, each with its pods once they have been looked up.
        let mut givers: BTreeMap<Claim, Option<Vec<Id<PodRow>>>> = BTreeMap::new();
        for &miner in self.state.miners_by_key.values() {
            let row = &self.state.miners[miner];
            let within = match scope {
                Scope::Pool(id) => row.replicas_in(id).is_some_and(|there| there.active > 0),
                Scope::Registrations(_) => row.active() > 0,
                Scope::Miner(id) => miner == id,
            };
            if within {
                givers.insert(self.claim(miner), None);
            }
        }
        while self.is_over(scope, excess, shed) {
            let Some((mut claim, pods)) = givers.pop_first() else {
                break;
            };
            let mut pods = pods.unwrap_or_else(|| self.youngest_last(claim.miner, scope));
            // A GPU that is promised, or on a node where no pod can be bound, restores no headroom.
            let useful = |pod: &Id<PodRow>| {
                !self.state.pods[*pod].pod.deleting
                    && (reason != ReclaimReason::Headroom || self.frees_something(*pod))
            };
            let Some(pod) = std::iter::from_fn(|| pods.pop()).find(useful) else {
                continue;
            };
            shed += self.state.pods[pod].gpus;
            self.evict(pod, reason, None);
            claim.gpus = self.state.miners[claim.miner].active_gpus;
            givers.insert(claim, Some(pods));
        }
    }

    /// Returns a miner's pods within a scope, the youngest last.
    fn youngest_last(&mut self, miner: Id<MinerRow>, scope: Scope<'_>) -> Vec<Id<PodRow>> {
        if let Scope::Pool(pool) = scope {
            return self.state.pods_by_age(miner, pool).to_vec();
        }
        let within = |pod: &Id<PodRow>| match (scope, lease(&self.state.pods[*pod])) {
            (Scope::Registrations(ids), Some((_, id, _))) => ids.contains(&id),
            _ => true,
        };
        let mut pods: Vec<_> = self.state.miners[miner].pods().filter(within).collect();
        pods.sort_by(|&a, &b| by_age(&self.state.pods, a, b));
        pods
    }

    fn frees_something(&self, pod: Id<PodRow>) -> bool {
        let row = &self.state.pods[pod];
        let (Some(node), Some((.., pool))) = (row.node, lease(row)) else {
            return false;
        };
        self.state.host_in(node, pool).is_some_and(|host| {
            host.open && host.idle() + i64::from(host.draining) >= host.claimed()
        })
    }

    /// Evicts the miners that reservations wait for.
    pub(super) fn reclaim_for_reservations(&mut self) {
        for (_, node) in self.state.short.iter().copied().collect::<Vec<_>>() {
            for index in 0..self.state.nodes[node].hosts.len() {
                let host = &self.state.nodes[node].hosts[index];
                let (short, resource) = (host.short(), host.resource);
                let need = self.need_with(node, short);
                let beneficiaries = self.beneficiaries(node, resource, short);
                self.displace(node, resource, need, &beneficiaries);
            }
        }
    }

    /// Returns the jobs for which the last `short` GPUs reserved on a node are, each with how many, in
    /// the order of jobs.
    fn beneficiaries(&self, node: Id<NodeRow>, resource: Resource, short: u32) -> Vec<(Name, u32)> {
        let holds = self.state.nodes[node].holds.iter().filter(|hold| hold.reserved);
        let mut holds: Vec<_> = holds.collect();
        holds.sort_by_cached_key(|hold| job_order(self.state, hold.job));
        let gpus = |hold: &Hold| match hold.resource == resource {
            true => hold.gpus(),
            false => 0,
        };
        let mut left = short;
        let mut beneficiaries = Vec::new();
        for hold in holds.into_iter().rev() {
            let taken = gpus(hold).min(left);
            left -= taken;
            if taken > 0 || short == 0 {
                beneficiaries.push((self.state.jobs.name(hold.job).clone(), taken));
            }
        }
        beneficiaries.reverse();
        beneficiaries
    }

    /// Returns what miners must free on a node: `gpus`, and as much CPU, memory and huge pages as the
    /// promises there are short of.
    pub(super) fn need_with(&self, node: Id<NodeRow>, gpus: u32) -> Shape {
        self.state.room(node).missing(gpus)
    }

    /// Returns whether CPU, memory and pod slots of a node suffice for all that is promised there,
    /// while the stopping miners still hold theirs.
    pub(super) fn is_roomy(&self, node: Id<NodeRow>) -> bool {
        let room = self.state.room(node) - self.state.nodes[node].used.draining;
        room.covers(&Amounts::default())
    }

    /// Evicts miners from a node so that AI gets what it needs there.
    pub(super) fn displace(
        &mut self,
        node: Id<NodeRow>,
        resource: Resource,
        need: Shape,
        beneficiaries: &[(Name, u32)],
    ) {
        let whole = self.state.clears_whole(node);
        if need == Shape::default() && self.state.room(node).pods >= 0 && !whole {
            return;
        }
        let Some(host) = self.state.host(node, resource) else {
            return;
        };
        let victims = if whole || host.cleared_whole {
            self.miners_on(node)
        } else {
            self.victims(node, resource, need).unwrap_or_else(|| self.miners_on(node))
        };
        let mut beneficiaries = beneficiaries.iter();
        let (mut beneficiary, mut given) = (beneficiaries.next(), 0);
        for pod in victims {
            if let Some((_, gpus)) = beneficiary
                && given >= *gpus
                && beneficiaries.len() > 0
            {
                beneficiary = beneficiaries.next();
                given = 0;
            }
            given += self.state.pods[pod].gpus;
            self.evict(pod, ReclaimReason::AiDemand, beneficiary.map(|(name, _)| name));
        }
    }

    /// Returns the miners on a node that are not stopping, the weakest claim first.
    pub(super) fn miners_on(&self, node: Id<NodeRow>) -> Vec<Id<PodRow>> {
        let holders = self.state.nodes[node].pods.iter();
        let run_on = holders.filter(|holder| holder.kind == HolderKind::Miner && holder.is_first());
        let mut pods: Vec<_> = run_on.map(|holder| holder.pod).collect();
        pods.sort_by(|&a, &b| {
            let (row_a, row_b) = (&self.state.pods[a], &self.state.pods[b]);
            let by_claim = match (lease(row_a), lease(row_b)) {
                (Some((a, ..)), Some((b, ..))) => self.by_claim(a, b),
                _ => Ordering::Equal,
            };
            let youngest_first = row_b.pod.created.cmp(&row_a.pod.created);
            by_claim.then(youngest_first).then_with(|| row_a.pod.key.cmp(&row_b.pod.key))
        });
        pods
    }

    /// Chooses the fewest miners on a node that free what is needed; `None` if all of them together
    /// would not.
    ///
    /// Greedy: while no single miner is enough, the largest goes. For GPUs alone that is exact; where
    /// CPU or memory is short too, it is an approximation.
    pub(super) fn victims(
        &self,
        node: Id<NodeRow>,
        resource: Resource,
        need: Shape,
    ) -> Option<Vec<Id<PodRow>>> {
        let frees = |pod: Id<PodRow>| {
            let (mut freed, mut amounts) = (Shape::default(), Amounts::default());
            let held = self.state.nodes[node].pods.iter().filter(|holder| holder.pod == pod);
            for holder in held {
                amounts += holder.amounts;
                freed.gpus += if holder.resource == resource { holder.gpus } else { 0 };
            }
            freed.cpu_milli = amounts.cpu_milli.cast_unsigned();
            freed.memory = amounts.memory.cast_unsigned();
            freed.huge_pages = amounts.huge_pages.map(i64::cast_unsigned);
            freed
        };
        let mut slots = (-self.state.room(node).pods).max(0);
        let mut candidates = self.miners_on(node);
        let (mut left, mut victims) = (need, Vec::new());
        while left != Shape::default() || slots > 0 {
            // The smallest that is enough; else the largest. While several pod slots are missing, no
            // single miner is enough.
            let enough = (0..candidates.len())
                .filter(|&index| slots <= 1 && covers(frees(candidates[index]), left))
                .min_by_key(|&index| frees(candidates[index]).gpus);
            let index = enough.or_else(|| {
                (0..candidates.len()).rev().max_by_key(|&index| {
                    let freed = frees(candidates[index]);
                    let huge_pages = [0, 1].map(|at| freed.huge_pages[at].min(left.huge_pages[at]));
                    (freed.gpus.min(left.gpus), freed.cpu_milli.min(left.cpu_milli), huge_pages)
                })
            })?;
            let victim = candidates.remove(index);
            let freed = frees(victim);
            left.gpus = left.gpus.saturating_sub(freed.gpus);
            left.cpu_milli = left.cpu_milli.saturating_sub(freed.cpu_milli);
            left.memory = left.memory.saturating_sub(freed.memory);
            left.huge_pages =
                [0, 1].map(|at| left.huge_pages[at].saturating_sub(freed.huge_pages[at]));
            slots -= 1;
            victims.push(victim);
        }
        Some(victims)
    }

    /// Counts the miners that must stop on a node, besides those that are stopping, for `workers` more
    /// of a shape; `None` if the workers do not fit even then.
    pub(super) fn displaced_by(
        &self,
        node: Id<NodeRow>,
        resource: Resource,
        shape: &Shape,
        workers: u32,
    ) -> Option<u32> {
        let host = self.state.host(node, resource)?;
        let bucket = host.bucket();
        let gpus = shape.gpus.saturating_mul(workers);
        if gpus > bucket.available() {
            return None;
        }
        let short = host.short_for(gpus);
        let room = self.state.room(node) - Amounts::of(shape, workers);
        if room.covers(&Amounts::default()) {
            return Some(bucket.sizes.fewest_for(short));
        }
        let used = self.state.nodes[node].used.mining;
        let mut all_gone = room;
        all_gone += used;
        if !all_gone.covers(&Amounts::default()) {
            return None;
        }
        let need = room.missing(short);
        let victims = self.victims(node, resource, need)?.len() as u32;
        Some(victims.max((-room.pods).max(0) as u32))
    }

    /// Returns when a pod was created.
    pub(super) fn created(&self, pod: Id<PodRow>) -> Timestamp {
        self.state.pods[pod].pod.created
    }
}

fn covers(freed: Shape, left: Shape) -> bool {
    let mut huge_pages = freed.huge_pages.into_iter().zip(left.huge_pages);
    freed.gpus >= left.gpus
        && freed.cpu_milli >= left.cpu_milli
        && freed.memory >= left.memory
        && huge_pages.all(|(freed, left)| freed >= left)
}
