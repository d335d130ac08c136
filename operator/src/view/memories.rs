//! Memory of nodes, in addition to what they report.

use daylight_base::{Name, Timestamp};
use daylight_cluster::Cluster;
use daylight_cluster::slim::Node;
use rustc_hash::FxHashMap;

use super::pools::PoolMap;
use super::quarantine::Quarantine;

/// The memory of one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The most that it ever had of each resource.
    normal: Vec<(Name, u32)>,
    /// Time at which it last lost some of a pool's resource; `None` while it has the most that it
    /// ever had.
    pub(super) shrunk_at: Option<Timestamp>,
    /// Time at which an AI pod last released GPUs on it.
    pub(super) ai_released_at: Option<Timestamp>,
    pub(super) quarantine: Quarantine,
}

/// The memories of all nodes.
#[derive(Debug, Default)]
pub(super) struct Memories(FxHashMap<Name, Memory>);

impl Memories {
    pub(super) fn get(&self, node: &str) -> Option<&Memory> {
        self.0.get(node)
    }

    pub(super) fn of(&mut self, node: &Name) -> &mut Memory {
        self.0.entry(node.clone()).or_default()
    }

    /// Moves all times, because the clock was set.
    pub(super) fn move_times(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        for memory in self.0.values_mut() {
            let Memory { normal: _, shrunk_at, ai_released_at, quarantine } = memory;
            for time in [shrunk_at, ai_released_at].into_iter().flatten() {
                *time = moved(*time);
            }
            quarantine.move_times(&moved);
        }
    }

    pub(super) fn forget(&mut self, node: &str) {
        self.0.remove(node);
    }

    /// Compares the resources of a node with those that it had.
    pub(super) fn compare(
        &mut self,
        node: &Node,
        before: Option<&Node>,
        pools: &PoolMap,
        now: Timestamp,
    ) {
        let memory = self.of(&node.name);
        let has = |resource: &Name| node.allocatable.of(resource);
        for (resource, count) in &node.allocatable.extended {
            match memory.normal.iter_mut().find(|(known, _)| known == resource) {
                Some((_, normal)) => *normal = (*normal).max(*count),
                None => memory.normal.push((resource.clone(), *count)),
            }
        }
        let pooled = |(resource, _): &&(Name, u32)| pools.has_resource(resource);
        let fewer = before.is_some_and(|before| {
            let mut had = before.allocatable.extended.iter().filter(pooled);
            had.any(|(resource, count)| has(resource) < *count)
        });
        let mut normal = memory.normal.iter().filter(pooled);
        if normal.all(|(resource, count)| has(resource) >= *count) {
            memory.shrunk_at = None;
        } else if fewer {
            memory.shrunk_at = Some(now);
        }
    }

    /// Assumes a node's past when the process starts: its idle GPUs were released by AI work just
    /// now, and GPUs that pods hold but the node does not offer were lost just now. If these
    /// assumptions are wrong, they delay mining and not AI work.
    pub(super) fn assume_past<'a>(
        &mut self,
        node: &Node,
        pods: impl Iterator<Item = &'a Name>,
        cluster: &Cluster,
        pools: &PoolMap,
        started: Timestamp,
    ) {
        self.compare(node, None, pools, started);
        let pods: Vec<_> = pods.filter_map(|pod| cluster.pod(pod)).collect();
        let (mut idle, mut missing) = (false, false);
        for resource in pools.resources() {
            let held: u32 = pods.iter().map(|pod| pod.requests.of(resource)).sum();
            let has = node.allocatable.of(resource);
            idle |= held < has;
            missing |= held > has;
        }
        let memory = self.of(&node.name);
        memory.ai_released_at = idle.then_some(started);
        memory.shrunk_at = missing.then_some(started);
    }
}
