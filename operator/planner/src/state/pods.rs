//! Pods: their holdings, and whether a miner's pod still fits its miner and node.

use std::cmp::Ordering;
use std::collections::btree_map::Entry;
use std::time::Duration;

use daylight_base::Timestamp;
use rustc_hash::FxHashMap;

use crate::explain::ReclaimReason;
use crate::model::{Activity, Pod, Role};
use crate::state::amounts::Amounts;
use crate::state::clamp;
use crate::state::host::{Holder, HolderKind};
use crate::state::table::{Id, Table};
use crate::state::{
    Held, Holding, MinerRow, NodeRow, PodRow, PoolRow, Replicas, Resource, RoleIds, Stale, State,
    starts,
};

/// Time after the end of its grace from which a pod is no longer expected to stop soon.
///
/// A kubelet needs seconds to remove a pod whose containers have ended. One that needs longer is
/// cut off, or its container cannot be killed.
const STUCK_AFTER: Duration = Duration::from_secs(30);

impl State {
    pub(super) fn apply_pod(&mut self, mut pod: Pod) {
        clamp::pod(&mut pod);
        let key = pod.key.clone();
        let row = self.pod_row(pod);
        let id = match self.pods.insert_new(&key, row) {
            Ok(id) => id,
            Err((known, row)) => {
                if self.pods[known].pod == row.pod {
                    return;
                }
                // The new row is enlisted before the old one is removed, so that rows that only this pod
                // refers to survive.
                let new = self.pods.insert_unnamed(&key, row);
                self.enlist(new);
                self.remove_pod(known);
                self.pods.name_row(new);
                self.book(new);
                self.check_fit(new);
                return;
            }
        };
        self.enlist(id);
        self.book(id);
        self.check_fit(id);
    }

    /// Adds a pod that is found by its id only.
    pub(crate) fn add_unnamed_pod(&mut self, pod: Pod) -> Id<PodRow> {
        let key = pod.key.clone();
        let row = self.pod_row(pod);
        let id = self.pods.insert_unnamed(&key, row);
        self.enlist(id);
        self.book(id);
        id
    }

    fn pod_row(&mut self, pod: Pod) -> PodRow {
        let node = pod.node.as_ref().map(|name| self.node_entry(name));
        let nominated = match node {
            Some(_) => None,
            None => pod.nominated.as_ref().map(|name| self.node_entry(name)),
        };
        let role = match &pod.role {
            Role::Miner { miner, registration, pool, .. } => RoleIds::Miner {
                miner: self.miners.entry(miner),
                registration: self.registrations.entry(registration),
                pool: self.pools.entry(pool),
            },
            Role::Worker { job, .. } => RoleIds::Worker { job: self.jobs.entry(job) },
            Role::Other { .. } => RoleIds::Other,
        };
        let gpus = pod.gpus.iter().map(|(_, count)| count).sum();
        PodRow { pod, node, nominated, role, gpus, stuck: false, places: [0; 2] }
    }

    /// Books the holdings of a new pod.
    fn book(&mut self, id: Id<PodRow>) {
        self.charge(id, true);
        let row = &self.pods[id];
        if let Some(gone_by) = stops_by(row) {
            self.stopping.insert((gone_by, id));
        }
        let (node, nominated) = (row.node, row.nominated);
        if let Some(node) = node {
            self.hold(id, node);
            self.mark(node, Stale::Counts);
        }
        if let Some(node) = nominated {
            self.nodes[node].nominees.push(id);
            self.mark(node, Stale::Counts);
        }
    }

    /// Books the holdings of a pod on its node.
    fn hold(&mut self, id: Id<PodRow>, node: Id<NodeRow>) {
        let row = &self.pods[id];
        let (pool, slot) = match (row.role, &row.pod.role) {
            (RoleIds::Miner { pool, .. }, Role::Miner { slot, .. }) => (Some(pool), Some(*slot)),
            _ => (None, None),
        };
        let first = Holder {
            pod: id,
            kind: holder_kind(row),
            pool,
            slot,
            resource: Resource::NONE,
            gpus: 0,
            by_claim: false,
            amounts: Amounts::of_pod(&row.pod),
        };
        let mut holder = first;
        for index in 0..row.pod.gpus.len().max(1) {
            if let Some((name, gpus)) = self.pods[id].pod.gpus.get(index) {
                let by_claim = self.pods[id].pod.by_claim.contains(name);
                let resource = self.resources.entry(name);
                holder = Holder { resource, gpus: *gpus, by_claim, ..holder };
            }
            self.nodes[node].pods.push(holder);
            holder.amounts = Amounts::default();
        }
    }

    /// Enters a pod into the lists of its miner, pool and registration, or of its job.
    fn enlist(&mut self, id: Id<PodRow>) {
        fn push(list: &mut Vec<Id<PodRow>>, id: Id<PodRow>) -> u32 {
            list.push(id);
            (list.len() - 1) as u32
        }
        // A pod knows its places in the lists, so that it is removed without a search: a pool may have tens
        // of thousands of leases.
        let places = match self.pods[id].role {
            RoleIds::Miner { miner, registration, pool } => {
                self.miners[miner].held += 1;
                self.miners[miner].replicas_in_mut(pool).insert(id, &self.pods);
                *self.registrations[registration].miners.entry(miner).or_default() += 1;
                [
                    push(&mut self.pools[pool].leases, id),
                    push(&mut self.registrations[registration].leases, id),
                ]
            }
            RoleIds::Worker { job } => [push(&mut self.jobs[job].pods, id), 0],
            RoleIds::Other => [0; 2],
        };
        self.pods[id].places = places;
    }

    /// Removes a pod from those lists.
    fn delist(&mut self, id: Id<PodRow>) {
        fn remove(pods: &mut Table<PodRow>, list: &mut Vec<Id<PodRow>>, place: u32, which: usize) {
            list.swap_remove(place as usize);
            if let Some(&moved) = list.get(place as usize) {
                pods[moved].places[which] = place;
            }
        }
        let places = self.pods[id].places;
        match self.pods[id].role {
            RoleIds::Miner { miner, registration, pool } => {
                self.miners[miner].held -= 1;
                self.miners[miner].replicas_in_mut(pool).remove(id, &self.pods);
                self.miners[miner].replicas.retain(|replicas| !replicas.pods.is_empty());
                remove(&mut self.pods, &mut self.pools[pool].leases, places[0], 0);
                let row = &mut self.registrations[registration];
                if let Entry::Occupied(mut count) = row.miners.entry(miner) {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
                remove(&mut self.pods, &mut row.leases, places[1], 1);
            }
            RoleIds::Worker { job } => {
                remove(&mut self.pods, &mut self.jobs[job].pods, places[0], 0);
            }
            RoleIds::Other => {}
        }
    }

    /// Returns a miner's pods in a pool, the youngest last.
    pub(crate) fn pods_by_age(&mut self, miner: Id<MinerRow>, pool: Id<PoolRow>) -> &[Id<PodRow>] {
        let mut replicas = self.miners[miner].replicas.iter_mut();
        match replicas.find(|replicas| replicas.pool == pool) {
            Some(replicas) => replicas.by_age(&self.pods),
            None => &[],
        }
    }

    pub(crate) fn remove_pod(&mut self, id: Id<PodRow>) {
        self.charge(id, false);
        self.delist(id);
        let Some(row) = self.pods.remove(id) else {
            return;
        };
        self.misfits.remove(&row.pod.key);
        if let Some(gone_by) = stops_by(&row) {
            self.stopping.remove(&(gone_by, id));
        }
        if let Some(node) = row.node {
            self.nodes[node].pods.retain(|holder| holder.pod != id);
            self.mark(node, Stale::Counts);
        }
        if let Some(node) = row.nominated {
            self.nodes[node].nominees.retain(|&pod| pod != id);
            self.mark(node, Stale::Counts);
        }
        match row.role {
            RoleIds::Miner { miner, registration, pool } => {
                self.forget_miner(miner);
                self.forget_registration(registration);
                self.forget_pool(pool);
            }
            RoleIds::Worker { job } => self.forget_job(job),
            RoleIds::Other => {}
        }
    }

    /// Marks a miner's pod as stopping during a plan, or takes the mark back.
    pub(crate) fn set_deleting(&mut self, id: Id<PodRow>, deleting: bool) {
        self.charge(id, false);
        self.pods[id].pod.deleting = deleting;
        self.charge(id, true);
        if let Some(node) = self.pods[id].node {
            // Recounted at once, not at the next refresh: the next step of a plan must see it.
            self.set_kind(id, node);
            self.recount(node);
        }
    }

    /// Counts the pods that should have stopped by `now` as ones that do not stop; returns when the
    /// next one becomes one of them.
    pub(crate) fn mark_stuck(&mut self, now: Timestamp) -> Option<Timestamp> {
        let changed = self
            .stopping
            .iter()
            .filter(|(gone_by, pod)| self.pods[*pod].stuck != (now >= *gone_by + STUCK_AFTER));
        for (_, pod) in changed.copied().collect::<Vec<_>>() {
            self.pods[pod].stuck ^= true;
            if let Some(node) = self.pods[pod].node {
                self.set_kind(pod, node);
                self.mark(node, Stale::Counts);
            }
        }
        let ends = self.stopping.iter().map(|(gone_by, _)| *gone_by + STUCK_AFTER);
        ends.filter(|end| *end > now).min()
    }

    /// Returns the number of miners' pods in each pool that should have stopped.
    pub(crate) fn overdue(&self) -> FxHashMap<Id<PoolRow>, u32> {
        let mut overdue = FxHashMap::default();
        for (_, pod) in &self.stopping {
            let row = &self.pods[*pod];
            if let (true, RoleIds::Miner { pool, .. }) = (row.stuck, &row.role) {
                *overdue.entry(*pool).or_default() += 1;
            }
        }
        overdue
    }

    /// Returns the first of the pods in a pool that should have stopped.
    pub(crate) fn first_stuck(&self, pools: &[Id<PoolRow>]) -> Option<&PodRow> {
        let pods = self.stopping.iter().map(|(_, pod)| &self.pods[*pod]);
        let stuck = pods.filter(|row| {
            row.stuck && matches!(row.role, RoleIds::Miner { pool, .. } if pools.contains(&pool))
        });
        stuck.min_by(|a, b| a.pod.key.cmp(&b.pod.key))
    }

    fn set_kind(&mut self, pod: Id<PodRow>, node: Id<NodeRow>) {
        let kind = holder_kind(&self.pods[pod]);
        let held = self.nodes[node].pods.iter_mut().filter(|holder| holder.pod == pod);
        held.for_each(|holder| holder.kind = kind);
    }

    /// Sets the node that is reserved for an unbound pod.
    pub(crate) fn set_nominated(&mut self, id: Id<PodRow>, node: Option<Id<NodeRow>>) {
        let old = std::mem::replace(&mut self.pods[id].nominated, node);
        if let Some(old) = old {
            self.nodes[old].nominees.retain(|&pod| pod != id);
            self.recount(old);
        }
        if let Some(node) = node {
            self.nodes[node].nominees.push(id);
            self.recount(node);
        }
    }

    /// Books the holdings of a pod with its miner, registration, pool or job, or takes them back.
    fn charge(&mut self, id: Id<PodRow>, add: bool) {
        let row = &self.pods[id];
        let gpus = row.gpus;
        match (row.role, &row.pod.role) {
            (RoleIds::Miner { miner, registration, pool }, &Role::Miner { watts, .. }) => {
                let deleting = row.pod.deleting;
                let holding = match row.node {
                    None => Holding::Kept,
                    Some(_) if deleting => Holding::Draining,
                    Some(_) => Holding::Active,
                };
                self.pools[pool].held.change(gpus, watts, holding, add);
                let gated = row.pod.is_gated() && !deleting;
                let under = self.pools[pool].held_under.entry(registration).or_default();
                under.change(gpus, watts, holding, add);
                if *under == Held::default() {
                    self.pools[pool].held_under.remove(&registration);
                }
                self.registrations[registration].held.change(gpus, watts, holding, add);
                let miner = &mut self.miners[miner];
                if add {
                    miner.gated += u32::from(gated);
                } else {
                    miner.gated -= u32::from(gated);
                }
                if add {
                    miner.draining += u32::from(deleting);
                } else {
                    miner.draining -= u32::from(deleting);
                }
                let active = u32::from(holding == Holding::Active);
                let kept = if holding == Holding::Kept { gpus } else { 0 };
                if !deleting && add {
                    miner.active_gpus += gpus;
                    miner.kept_gpus += kept;
                    miner.replicas_in_mut(pool).active += active;
                } else if !deleting {
                    miner.active_gpus -= gpus;
                    miner.kept_gpus -= kept;
                    miner.replicas_in_mut(pool).active -= active;
                }
            }
            (RoleIds::Worker { job }, _) => {
                if row.pod.deleting {
                    // A deleted worker no longer belongs to the gang.
                } else if let Some(node) = row.node.or(row.nominated) {
                    let bound = row.node.is_some();
                    self.count_placed(job, node, bound, add);
                }
                let row = &self.pods[id];
                let unbound = row.node.is_none() && !row.pod.deleting;
                if unbound && gpus > 0 && !starts(self.jobs[job].object.as_ref()) {
                    self.set_waiting(id, add);
                }
            }
            _ => {
                if gpus > 0 && row.node.is_none() {
                    self.set_waiting(id, add);
                }
            }
        }
    }

    fn set_waiting(&mut self, id: Id<PodRow>, waiting: bool) {
        let key = self.pods[id].pod.key.clone();
        if waiting {
            self.waiting.insert(key, id);
        } else {
            self.waiting.remove(&key);
        }
    }

    pub(super) fn check_fit_of_miner(&mut self, miner: Id<MinerRow>) {
        let pods: Vec<_> = self.miners[miner].pods().collect();
        pods.into_iter().for_each(|pod| self.check_fit(pod));
    }

    pub(super) fn check_fit(&mut self, id: Id<PodRow>) {
        if self.misfit(id).is_some() {
            let key = self.pods[id].pod.key.clone();
            self.misfits.insert(key, id);
        } else if !self.misfits.is_empty() {
            self.misfits.remove(&self.pods[id].pod.key);
        }
    }

    /// Returns the reason why a miner's pod cannot stay, regardless of the rest of the site.
    pub(crate) fn misfit(&self, id: Id<PodRow>) -> Option<ReclaimReason> {
        let row = &self.pods[id];
        let RoleIds::Miner { miner, pool, .. } = row.role else {
            return None;
        };
        let Role::Miner { revision, pool: pool_name, .. } = &row.pod.role else {
            return None;
        };
        let Some(object) = &self.miners[miner].object else {
            return Some(ReclaimReason::ScaledDown);
        };
        if object.revision != *revision
            || !(object.pools.is_empty() || object.pools.contains(pool_name))
        {
            return Some(ReclaimReason::Updated);
        }
        let node = row.node?;
        // The pods of a deleted node are deleted with it; a node whose pools are out of date is checked
        // when they are updated.
        let row = &self.nodes[node];
        if row.object.is_none() || row.stale == Some(Stale::Pools) {
            return None;
        }
        self.host_in(node, pool).is_none().then_some(ReclaimReason::PoolDrained)
    }
}

impl Replicas {
    fn insert(&mut self, id: Id<PodRow>, pods: &Table<PodRow>) {
        let place = match self.by_age {
            true => self.pods.partition_point(|&other| by_age(pods, other, id).is_le()),
            false => self.pods.len(),
        };
        self.pods.insert(place, id);
    }

    fn remove(&mut self, id: Id<PodRow>, pods: &Table<PodRow>) {
        let end = match self.by_age {
            true => self.pods.partition_point(|&other| by_age(pods, other, id).is_le()),
            false => self.pods.len(),
        };
        if let Some(place) = self.pods[..end].iter().rposition(|&pod| pod == id) {
            self.pods.remove(place);
        }
    }

    fn by_age(&mut self, pods: &Table<PodRow>) -> &[Id<PodRow>] {
        if !self.by_age {
            self.pods.sort_by(|&a, &b| by_age(pods, a, b));
            self.by_age = true;
        }
        &self.pods
    }
}

/// Compares pods by age, the younger being greater; pods of the same age by key, in reverse.
pub(crate) fn by_age(pods: &Table<PodRow>, a: Id<PodRow>, b: Id<PodRow>) -> Ordering {
    let (a, b) = (&pods[a].pod, &pods[b].pod);
    a.created.cmp(&b.created).then_with(|| b.key.cmp(&a.key))
}

/// Returns the time by which a miner's pod that is being deleted has to be gone.
fn stops_by(row: &PodRow) -> Option<Timestamp> {
    row.pod.gone_by.filter(|_| row.pod.deleting && matches!(row.role, RoleIds::Miner { .. }))
}

/// Returns the kind of holder that a pod is.
fn holder_kind(row: &PodRow) -> HolderKind {
    match (&row.pod.role, row.pod.deleting) {
        (Role::Miner { .. }, _) if row.pod.is_gated() => HolderKind::Gated,
        (Role::Miner { .. }, true) if row.stuck => HolderKind::Stuck,
        (Role::Miner { .. }, false) => HolderKind::Miner,
        (Role::Miner { .. }, true) => HolderKind::Stopping,
        (Role::Other { activity: Activity::Undeclared, .. }, _) => HolderKind::Undeclared,
        (Role::Other { activity: Activity::Unlisted, .. }, _) => HolderKind::Unlisted,
        (Role::Worker { .. } | Role::Other { .. }, _) => HolderKind::Ai,
    }
}
