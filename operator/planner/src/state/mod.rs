//! The planner's state: the objects of the site, and sums over them that every change updates.
//!
//! All sums derive from the objects alone, so that the order of changes leaves no trace.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use crate::model::{
    Class, Delta, EmergencyStop, Job, JobState, Miner, Node, Pod, Pool, Registration, Shape,
    Snapshot,
};
use crate::state::buckets::{Buckets, NodeAt, Sums};
use crate::state::host::{Holder, Host, NodeUse};
use crate::state::table::{Id, Table};
use daylight_base::{Name, Timestamp};

pub(crate) mod amounts;
pub(crate) mod buckets;
mod clamp;
pub(crate) mod host;
mod jobs;
pub(crate) mod nodes;
pub(crate) mod pods;
pub(crate) mod table;

/// A pool, known or only referred to.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolRow {
    pub(crate) object: Option<Pool>,
    /// The extended resource of its GPUs.
    pub(crate) resource: Resource,
    /// Number of nodes that match its selector.
    pub(crate) claims: u32,
    pub(crate) sums: Sums,
    pub(crate) buckets: Buckets,
    /// Miners' pods granted in it.
    pub(crate) leases: Vec<Id<PodRow>>,
    pub(crate) held: Held,
    /// The same by registration.
    pub(crate) held_under: BTreeMap<Id<RegistrationRow>, Held>,
    /// Number of its nodes that belong to an older pool, by that pool.
    pub(crate) lost_to: BTreeMap<Name, u32>,
}

/// GPUs and watts that miners hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// GPUs of miners that run on.
    pub(crate) active_gpus: u32,
    /// GPUs of miners that are stopping.
    pub(crate) draining_gpus: u32,
    /// GPUs of the places that are kept for replicas until others have stopped.
    pub(crate) kept_gpus: u32,
    /// What miners that run on declare.
    pub(crate) active: Declared,
    /// What miners that are stopping declare.
    pub(crate) draining: Declared,
    /// What the replicas declare for which places are kept.
    pub(crate) kept: Declared,
}

/// The way in which a miner's pod holds GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    Active,
    Draining,
    /// During a plan: a place for a replica that starts once others have stopped.
    Kept,
}

/// Watts that replicas declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) replicas: u32,
    pub(crate) watts: u64,
}

impl Declared {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            replicas: self.replicas.saturating_add(other.replicas),
            watts: self.watts.saturating_add(other.watts),
        }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            replicas: self.replicas.saturating_sub(other.replicas),
            watts: self.watts.saturating_sub(other.watts),
        }
    }
}

impl Held {
    /// Returns the GPUs held now.
    pub(crate) fn gpus(&self) -> u32 {
        self.active_gpus + self.draining_gpus
    }

    /// Returns what all of them declare.
    pub(crate) fn declared(&self) -> Declared {
        self.active.plus(self.draining)
    }

    /// Returns the GPUs held once the stopping miners have stopped, and others are in the places
    /// kept for them.
    pub(crate) fn gpus_then(&self) -> u32 {
        self.active_gpus + self.kept_gpus
    }

    /// Returns what all declare that hold GPUs then.
    pub(crate) fn declared_then(&self) -> Declared {
        self.active.plus(self.kept)
    }

    fn change(&mut self, gpus: u32, watts: u64, holding: Holding, add: bool) {
        let (held_gpus, declared) = match holding {
            Holding::Active => (&mut self.active_gpus, &mut self.active),
            Holding::Draining => (&mut self.draining_gpus, &mut self.draining),
            Holding::Kept => (&mut self.kept_gpus, &mut self.kept),
        };
        if add {
            *held_gpus += gpus;
            declared.replicas += 1;
            declared.watts += watts;
        } else {
            *held_gpus -= gpus;
            declared.replicas -= 1;
            declared.watts -= watts;
        }
    }
}

/// A registration, known or only referred to.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegistrationRow {
    pub(crate) object: Option<Registration>,
    pub(crate) held: Held,
    /// Miners' pods granted under it.
    pub(crate) leases: Vec<Id<PodRow>>,
    /// Number of those pods by miner.
    pub(crate) miners: BTreeMap<Id<MinerRow>, u32>,
}

/// A miner, known or only referred to.
#[derive(Clone, Debug, Default)]
pub(crate) struct MinerRow {
    pub(crate) object: Option<Miner>,
    /// Number of its pods, stopping ones included.
    pub(crate) held: u32,
    pub(crate) draining: u32,
    /// Number of those that have a scheduling gate and are not stopping.
    pub(crate) gated: u32,
    /// GPUs of its replicas that run on, and of the places kept for others.
    pub(crate) active_gpus: u32,
    /// Of those, GPUs of places that are kept.
    pub(crate) kept_gpus: u32,
    /// Its pods by the pool they were granted in, in no particular order.
    pub(crate) replicas: Vec<Replicas>,
}

impl MinerRow {
    pub(crate) fn active(&self) -> u32 {
        self.held - self.draining
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = Id<PodRow>> {
        self.replicas.iter().flat_map(|replicas| replicas.pods.iter().copied())
    }

    pub(crate) fn replicas_in(&self, pool: Id<PoolRow>) -> Option<&Replicas> {
        self.replicas.iter().find(|replicas| replicas.pool == pool)
    }

    fn replicas_in_mut(&mut self, pool: Id<PoolRow>) -> &mut Replicas {
        let place = self.replicas.iter().position(|replicas| replicas.pool == pool);
        let place = place.unwrap_or_else(|| {
            self.replicas.push(Replicas { pool, active: 0, pods: Vec::new(), by_age: false });
            self.replicas.len() - 1
        });
        &mut self.replicas[place]
    }
}

/// A miner's pods in one pool.
#[derive(Clone, Debug)]
pub(crate) struct Replicas {
    pub(crate) pool: Id<PoolRow>,
    /// Number of pods that are not stopping.
    pub(crate) active: u32,
    pods: Vec<Id<PodRow>>,
    /// The pods are sorted by age. They are from the first time that the order is needed.
    by_age: bool,
}

/// A job, known or only referred to.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobRow {
    pub(crate) object: Option<Job>,
    /// The extended resource of its workers' GPUs.
    pub(crate) resource: Resource,
    /// Its pods, bound or not.
    pub(crate) pods: Vec<Id<PodRow>>,
    /// Workers bound or nominated, by node.
    pub(crate) placed: FxHashMap<Id<NodeRow>, u32>,
    pub(crate) placed_total: u32,
    pub(crate) bound_total: u32,
    /// Nodes with promises to it.
    pub(crate) holds: Vec<Id<NodeRow>>,
}

/// A promise to a job: room on a node for workers that are not bound yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) job: Id<JobRow>,
    pub(crate) workers: u32,
    pub(crate) shape: Shape,
    pub(crate) resource: Resource,
    /// The job still waits for a drain; otherwise its workers are being bound.
    pub(crate) reserved: bool,
}

impl Hold {
    /// Returns the GPUs of all its workers.
    pub(crate) fn gpus(&self) -> u32 {
        self.shape.gpus.saturating_mul(self.workers)
    }
}

/// A node, known or only referred to.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeRow {
    pub(crate) object: Option<Node>,
    /// Its place in the order of names.
    pub(crate) order: u64,
    /// The pools that have GPUs of it.
    pub(crate) hosts: Vec<Host>,
    pub(crate) used: NodeUse,
    /// Holdings of the pods that are bound or pinned to it.
    pub(crate) pods: Vec<Holder>,
    /// Pods that kube-scheduler nominated to it.
    pub(crate) nominees: Vec<Id<PodRow>>,
    pub(crate) holds: Vec<Hold>,
    /// Pools whose selector matches it.
    claims: Vec<Id<PoolRow>>,
    /// Of those, the ones that lost it, each with the older pool that got it.
    lost: Vec<(Id<PoolRow>, Name)>,
    stale: Option<Stale>,
}

/// The part of a node's account that is out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    /// The sums over its pods and promises.
    Counts,
    /// Those, and what the node offers.
    Node,
    /// All of it: the pools that the node belongs to, too.
    Pools,
}

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct PodRow {
    pub(crate) pod: Pod,
    pub(crate) node: Option<Id<NodeRow>>,
    pub(crate) nominated: Option<Id<NodeRow>>,
    pub(crate) role: RoleIds,
    /// Sum of its GPUs of all resources.
    pub(crate) gpus: u32,
    /// It should have stopped long ago.
    pub(crate) stuck: bool,
    /// Its indices in the pod lists of its pool and registration, or in that of its job.
    places: [u32; 2],
}

/// The rows that a pod's role refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RoleIds {
    Miner { miner: Id<MinerRow>, registration: Id<RegistrationRow>, pool: Id<PoolRow> },
    Worker { job: Id<JobRow> },
    Other,
}

/// The number of an extended resource's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resource(u16);

impl Resource {
    const NONE: Self = Self(u16::MAX);
}

impl Default for Resource {
    fn default() -> Self {
        Self::NONE
    }
}

/// The names of extended resources, by their numbers; there are few.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resources(Vec<Name>);

impl Resources {
    /// Returns the number of a name, if it was ever used.
    pub(crate) fn find(&self, name: &Name) -> Option<Resource> {
        let place = self.0.iter().position(|known| known == name)?;
        Some(Resource(place as u16))
    }

    fn entry(&mut self, name: &Name) -> Resource {
        self.find(name).unwrap_or_else(|| {
            self.0.push(name.clone());
            Resource((self.0.len() - 1) as u16)
        })
    }
}

/// The whole site.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) emergency_stop: Option<EmergencyStop>,
    pub(crate) resources: Resources,
    pub(crate) classes: BTreeMap<Name, Class>,
    pub(crate) pools: Table<PoolRow>,
    pub(crate) registrations: Table<RegistrationRow>,
    pub(crate) miners: Table<MinerRow>,
    pub(crate) jobs: Table<JobRow>,
    pub(crate) nodes: Table<NodeRow>,
    pub(crate) pods: Table<PodRow>,
    /// Known objects by name, for walks in order.
    pub(crate) pools_by_name: BTreeMap<Name, Id<PoolRow>>,
    pub(crate) registrations_by_key: BTreeMap<Name, Id<RegistrationRow>>,
    pub(crate) miners_by_key: BTreeMap<Name, Id<MinerRow>>,
    pub(crate) jobs_by_key: BTreeMap<Name, Id<JobRow>>,
    /// Nodes by name, known or referred to.
    nodes_by_name: BTreeMap<Name, Id<NodeRow>>,
    /// Pods that request GPUs, are not bound to a node, and are neither miners nor workers of a job that
    /// Daylight starts.
    pub(crate) waiting: BTreeMap<Name, Id<PodRow>>,
    /// Miners' pods that no longer fit their miner or their node.
    pub(crate) misfits: BTreeMap<Name, Id<PodRow>>,
    /// Miners' pods that are being deleted, by the time by which they have to be gone.
    stopping: BTreeSet<(Timestamp, Id<PodRow>)>,
    /// Number of nodes that are closed to a miner alone, by miner.
    pub(crate) closed_to: FxHashMap<Name, u32>,
    /// Nodes whose plan depends on the time: shrunk or quarantined.
    pub(crate) watched: BTreeSet<NodeAt>,
    /// Nodes where a reservation is short of GPUs, CPU, memory or pod slots.
    pub(crate) short: BTreeSet<NodeAt>,
    /// Nodes whose sums are out of date.
    stale: Vec<Id<NodeRow>>,
}

impl State {
    /// Creates the state of a whole site.
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        let mut state = Self { emergency_stop: snapshot.emergency_stop, ..Self::default() };
        state.add_nodes(snapshot.nodes);
        snapshot.pools.into_iter().for_each(|pool| state.apply(Delta::Pool(pool)));
        snapshot.classes.into_iter().for_each(|class| state.apply(Delta::Class(class)));
        let registrations = snapshot.registrations.into_iter();
        registrations.for_each(|registration| state.apply(Delta::Registration(registration)));
        snapshot.miners.into_iter().for_each(|miner| state.apply(Delta::Miner(miner)));
        snapshot.jobs.into_iter().for_each(|job| state.apply(Delta::Job(job)));
        state.pods.reserve(snapshot.pods.len());
        snapshot.pods.into_iter().for_each(|pod| state.apply_pod(pod));
        state
    }

    /// Records one change.
    pub(crate) fn apply(&mut self, delta: Delta) {
        match delta {
            Delta::EmergencyStop(stop) => self.emergency_stop = stop,
            Delta::Class(class) => {
                self.classes.insert(class.name.clone(), class);
            }
            Delta::ClassGone(name) => {
                self.classes.remove(&name);
            }
            Delta::Pool(pool) => self.apply_pool(pool),
            Delta::PoolGone(name) => self.remove_pool(&name),
            Delta::Registration(registration) => {
                let id = self.registrations.entry(&registration.key);
                self.registrations_by_key.insert(registration.key.clone(), id);
                self.registrations[id].object = Some(registration);
            }
            Delta::RegistrationGone(key) => {
                self.registrations_by_key.remove(&key);
                if let Some(id) = self.registrations.find(&key) {
                    self.registrations[id].object = None;
                    self.forget_registration(id);
                }
            }
            Delta::Miner(mut miner) => {
                clamp::miner(&mut miner);
                let id = self.miners.entry(&miner.key);
                self.miners_by_key.insert(miner.key.clone(), id);
                self.miners[id].object = Some(miner);
                self.check_fit_of_miner(id);
            }
            Delta::MinerGone(key) => {
                self.miners_by_key.remove(&key);
                if let Some(id) = self.miners.find(&key) {
                    self.miners[id].object = None;
                    self.check_fit_of_miner(id);
                    self.forget_miner(id);
                }
            }
            Delta::Job(job) => self.apply_job(job),
            Delta::JobGone(key) => self.remove_job(&key),
            Delta::Node(node) => self.apply_node(node),
            Delta::NodeGone(name) => self.remove_node(&name),
            Delta::Pod(pod) => self.apply_pod(pod),
            Delta::PodGone(key) => {
                if let Some(id) = self.pods.find(&key) {
                    self.remove_pod(id);
                }
            }
        }
    }

    fn apply_pool(&mut self, pool: Pool) {
        let id = self.pools.entry(&pool.name);
        self.pools_by_name.insert(pool.name.clone(), id);
        let resource = self.resources.entry(&pool.resource);
        self.pools[id].resource = resource;
        let old = self.pools[id].object.replace(pool);
        let new = self.pools[id].object.as_ref();
        // Only these fields decide where the GPUs of a node count and whether they may mine. Any other
        // edit leaves the nodes as they are, which matters in a pool of thousands.
        let placed = |pool: &Pool| {
            (pool.created, pool.resource.clone(), pool.autoscaled_nodes, pool.reclaim_unit)
        };
        if old.as_ref().map(placed) != new.map(placed) {
            self.mark_nodes_of(id);
        }
    }

    fn remove_pool(&mut self, name: &Name) {
        self.pools_by_name.remove(name);
        if let Some(id) = self.pools.find(name) {
            self.pools[id].object = None;
            self.mark_nodes_of(id);
            self.forget_pool(id);
        }
    }

    fn mark_nodes_of(&mut self, pool: Id<PoolRow>) {
        if self.pools[pool].claims == 0 {
            return;
        }
        let nodes = self.nodes.iter().filter(|(_, _, row)| row.claims.contains(&pool));
        let nodes: Vec<_> = nodes.map(|(node, ..)| node).collect();
        nodes.into_iter().for_each(|node| self.mark(node, Stale::Pools));
    }

    // A row that nothing refers to any more is removed, so that the state does not grow with every
    // name that was ever used.

    fn forget_pool(&mut self, id: Id<PoolRow>) {
        let row = &self.pools[id];
        if row.object.is_none()
            && row.claims == 0
            && row.leases.is_empty()
            && row.sums == Sums::default()
        {
            self.pools.remove(id);
        }
    }

    fn forget_registration(&mut self, id: Id<RegistrationRow>) {
        let row = &self.registrations[id];
        if row.object.is_none() && row.leases.is_empty() {
            self.registrations.remove(id);
        }
    }

    fn forget_miner(&mut self, id: Id<MinerRow>) {
        let row = &self.miners[id];
        if row.object.is_none() && row.held == 0 {
            self.miners.remove(id);
        }
    }

    fn forget_job(&mut self, id: Id<JobRow>) {
        let row = &self.jobs[id];
        if row.object.is_none() && row.pods.is_empty() {
            self.jobs.remove(id);
        }
    }
}

/// Returns whether Daylight starts the job, so that its unbound workers are not demand of their own.
/// Once a job runs, a worker that is replaced is.
pub(crate) fn starts(job: Option<&Job>) -> bool {
    job.is_some_and(|job| {
        !matches!(job.state, JobState::External { .. } | JobState::Running { .. })
    })
}
