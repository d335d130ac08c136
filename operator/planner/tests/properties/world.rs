//! A simulated site: it carries out plans, and events happen to it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_planner::explain::{Action, Plan};
use daylight_planner::model::*;

/// The site, object by object.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) stop: Option<EmergencyStop>,
    pub(crate) pools: BTreeMap<Name, Pool>,
    pub(crate) classes: BTreeMap<Name, Class>,
    pub(crate) registrations: BTreeMap<Name, Registration>,
    pub(crate) miners: BTreeMap<Name, Miner>,
    pub(crate) jobs: BTreeMap<Name, Job>,
    pub(crate) nodes: BTreeMap<Name, Node>,
    pub(crate) pods: BTreeMap<Name, Pod>,
    pub(crate) made: u32,
}

pub(crate) fn name(text: impl AsRef<str>) -> Name {
    Arc::from(text.as_ref())
}

/// One object a line: a failing site has to be read by a person.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} stop: {:?}", self.now, self.stop)?;
        self.pools.values().try_for_each(|object| writeln!(f, "{object:?}"))?;
        self.classes.values().try_for_each(|object| writeln!(f, "{object:?}"))?;
        self.registrations.values().try_for_each(|object| writeln!(f, "{object:?}"))?;
        self.miners.values().try_for_each(|object| writeln!(f, "{object:?}"))?;
        self.jobs.values().try_for_each(|object| writeln!(f, "{object:?}"))?;
        self.nodes.values().try_for_each(|object| writeln!(f, "{object:?}"))?;
        self.pods.values().try_for_each(|object| writeln!(f, "{object:?}"))
    }
}

impl World {
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            emergency_stop: self.stop.clone(),
            pools: self.pools.values().cloned().collect(),
            classes: self.classes.values().cloned().collect(),
            registrations: self.registrations.values().cloned().collect(),
            miners: self.miners.values().cloned().collect(),
            jobs: self.jobs.values().cloned().collect(),
            nodes: self.nodes.values().cloned().collect(),
            pods: self.pods.values().cloned().collect(),
        }
    }

    pub(crate) fn put_pod(&mut self, pod: Pod) -> Delta {
        self.pods.insert(pod.key.clone(), pod.clone());
        Delta::Pod(pod)
    }

    fn put_job(&mut self, key: &Name, state: JobState) -> Option<Delta> {
        let job = self.jobs.get_mut(key)?;
        job.state = state;
        Some(Delta::Job(job.clone()))
    }

    pub(crate) fn fresh(&mut self, prefix: &str) -> Name {
        self.made += 1;
        name(format!("{prefix}-{}", self.made))
    }

    /// Carries out a plan; returns the changes.
    pub(crate) fn carry_out(&mut self, plan: &Plan) -> Vec<Delta> {
        let mut deltas = Vec::new();
        for action in &plan.actions {
            let state = |job: &Name| self.jobs[job].state.clone();
            let advanced =
                action.advances(state, self.now).map(|(job, state)| (job.clone(), state));
            match action {
                Action::Grant(grant) => {
                    let miner = self.miners[&grant.miner].clone();
                    let pool = self.pools[&grant.pool].clone();
                    let key = self.fresh(&format!("pod/{}", grant.slot));
                    deltas.push(self.put_pod(Pod {
                        node: Some(grant.node.clone()),
                        ..Pod::replica(key, &miner, &pool, grant.slot, self.now)
                    }));
                }
                Action::Evict { pod, .. } => {
                    let mut pod = self.pods[pod].clone();
                    assert!(!pod.deleting, "{} is evicted twice", pod.key);
                    pod.deleting = true;
                    pod.gone_by = Some(self.now + seconds(10));
                    deltas.push(self.put_pod(pod));
                }
                Action::Reserve { .. } | Action::Release { .. } | Action::Requeue { .. } => {}
                Action::Suspend { job } => {
                    let workers: Vec<_> = self
                        .pods
                        .values()
                        .filter(
                            |pod| matches!(&pod.role, Role::Worker { job: of, .. } if of == job),
                        )
                        .cloned()
                        .collect();
                    for mut pod in workers {
                        pod.deleting = true;
                        deltas.push(self.put_pod(pod));
                    }
                }
            }
            if let Some((job, state)) = advanced {
                deltas.extend(self.put_job(&job, state));
            }
        }
        deltas
    }

    /// GPUs of a resource on a node that no pod holds.
    pub(crate) fn idle(&self, node: &Name, resource: &Name) -> i64 {
        let held: i64 = self.pods_on(node).map(|pod| i64::from(gpus(pod, resource))).sum();
        i64::from(self.allocatable(node, resource)) - held
    }

    pub(crate) fn allocatable(&self, node: &Name, resource: &Name) -> u32 {
        let node = self.nodes.get(node);
        let gpus = node.and_then(|node| node.gpus.iter().find(|(name, _)| name == resource));
        gpus.map_or(0, |(_, count)| *count)
    }

    pub(crate) fn pods_on<'a>(&'a self, node: &'a Name) -> impl Iterator<Item = &'a Pod> {
        self.pods.values().filter(move |pod| pod.node.as_ref() == Some(node))
    }

    /// The pool that has a node's GPUs of a resource: the oldest that claims them.
    pub(crate) fn pool_of(&self, node: &Node, resource: &Name) -> Option<&Pool> {
        let pools = node.pools.iter().filter_map(|member| self.pools.get(&member.pool));
        pools
            .filter(|pool| pool.resource == *resource)
            .min_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)))
    }

    /// GPUs on a node that are promised to workers still unbound or to nominated pods.
    pub(crate) fn promised(&self, node: &Name, resource: &Name) -> u32 {
        let nominated: u32 = self
            .pods
            .values()
            .filter(|pod| pod.node.is_none() && pod.nominated.as_ref() == Some(node))
            .map(|pod| gpus(pod, resource))
            .sum();
        nominated
            + self
                .jobs
                .values()
                .filter(|job| job.resource == *resource)
                .map(|job| self.held_back(job, node).saturating_mul(job.shape.gpus))
                .sum::<u32>()
    }

    /// Workers of a job that a node is still to take.
    pub(crate) fn held_back(&self, job: &Job, node: &Name) -> u32 {
        let (JobState::Reserved { placement, .. } | JobState::Released { placement, .. }) =
            &job.state
        else {
            return 0;
        };
        let mut left = job.workers - self.bound(&job.key);
        for placement in placement {
            let here = self
                .pods_on(&placement.node)
                .filter(|pod| matches!(&pod.role, Role::Worker { job: of, .. } if *of == job.key && !pod.deleting))
                .count() as u32;
            let workers = placement.workers.saturating_sub(here).min(left);
            left -= workers;
            if placement.node == *node {
                return workers;
            }
        }
        0
    }

    pub(crate) fn bound(&self, job: &Name) -> u32 {
        let workers = self.pods.values().filter(
            |pod| matches!(&pod.role, Role::Worker { job: of, .. } if of == job && pod.node.is_some() && !pod.deleting),
        );
        workers.count() as u32
    }
}

pub(crate) fn gpus(pod: &Pod, resource: &Name) -> u32 {
    pod.gpus.iter().filter(|(name, _)| name == resource).map(|(_, count)| count).sum()
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
