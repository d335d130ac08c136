//! Pods: what each holds, for whom, and whether a miner's pod still fits.

use crate::explain::ReclaimReason;
use crate::model::{Pod, Role};
use crate::state::table::Id;
use crate::state::{MinerRow, NodeRow, PodRow, RoleIds, Stale, State, starts};

impl State {
    pub(super) fn apply_pod(&mut self, pod: Pod) {
        if let Some(id) = self.pods.find(&pod.key) {
            if self.pods[id].pod == pod {
                return;
            }
            self.remove_pod(id);
        }
        self.add_pod(pod, true);
    }

    /// Adds a pod; one without a name can be found by its number only.
    pub(crate) fn add_pod(&mut self, pod: Pod, named: bool) -> Id<PodRow> {
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
            Role::Worker { job } => RoleIds::Worker { job: self.jobs.entry(job) },
            Role::Other { .. } => RoleIds::Other,
        };
        if let RoleIds::Worker { job } = role {
            self.jobs[job].pods += 1;
        }
        let key = pod.key.clone();
        let row = PodRow { pod, node, nominated, role };
        let id =
            if named { self.pods.insert(&key, row) } else { self.pods.insert_unnamed(&key, row) };
        if let Some(node) = node {
            self.nodes[node].pods.push(id);
            self.mark(node, Stale::Counts);
        }
        if let Some(node) = nominated {
            self.nodes[node].nominees.push(id);
            self.mark(node, Stale::Counts);
        }
        self.charge(id, true);
        self.check_fit(id);
        id
    }

    pub(crate) fn remove_pod(&mut self, id: Id<PodRow>) {
        self.charge(id, false);
        let Some(row) = self.pods.remove(id) else {
            return;
        };
        self.misfits.remove(&row.pod.key);
        if let Some(node) = row.node {
            self.nodes[node].pods.retain(|&pod| pod != id);
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
            RoleIds::Worker { job } => {
                self.jobs[job].pods -= 1;
                self.forget_job(job);
            }
            RoleIds::Other => {}
        }
    }

    /// Says of a miner's pod that it is stopping, or is not after all.
    pub(crate) fn set_deleting(&mut self, id: Id<PodRow>, deleting: bool) {
        self.charge(id, false);
        self.pods[id].pod.deleting = deleting;
        self.charge(id, true);
        if let Some(node) = self.pods[id].node {
            self.recount(node);
        }
    }

    /// Says which node is kept for an unbound pod.
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

    /// Books what a pod holds for others than its node, or takes it back.
    fn charge(&mut self, id: Id<PodRow>, add: bool) {
        let row = &self.pods[id];
        let gpus = row.gpus();
        match (row.role, &row.pod.role) {
            (RoleIds::Miner { miner, registration, pool }, &Role::Miner { watts, .. }) => {
                let deleting = row.pod.deleting;
                self.pools[pool].held.change(gpus, watts, deleting, add);
                self.registrations[registration].held.change(gpus, watts, deleting, add);
                let miner = &mut self.miners[miner];
                if add {
                    miner.pods.insert(id);
                    self.pools[pool].leases.insert(id);
                    self.registrations[registration].leases.insert(id);
                    miner.draining += u32::from(deleting);
                } else {
                    miner.pods.remove(&id);
                    self.pools[pool].leases.remove(&id);
                    self.registrations[registration].leases.remove(&id);
                    miner.draining -= u32::from(deleting);
                }
                if !deleting {
                    miner.count_active(pool, gpus, add);
                }
            }
            (RoleIds::Worker { job }, _) => {
                if row.pod.deleting {
                    // It leaves: it is no part of the gang any more.
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
        let pods: Vec<_> = self.miners[miner].pods.iter().copied().collect();
        pods.into_iter().for_each(|pod| self.check_fit(pod));
    }

    pub(super) fn check_fit(&mut self, id: Id<PodRow>) {
        let key = self.pods[id].pod.key.clone();
        if self.misfit(id).is_some() {
            self.misfits.insert(key, id);
        } else {
            self.misfits.remove(&key);
        }
    }

    /// Why a miner's pod cannot stay whatever the rest of the site is like.
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
        // A node that is gone takes its pods along.
        self.nodes[node].object.as_ref()?;
        self.host_in(node, pool).is_none().then_some(ReclaimReason::PoolDrained)
    }
}
