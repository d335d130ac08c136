//! Memory of nodes, in addition to what they report.

use std::collections::BTreeSet;

use daylight_base::{Name, Timestamp};
use daylight_cluster::Cluster;
use daylight_cluster::slim::Node;
use daylight_planner::SHRUNK_TOLERANCE;
use rustc_hash::FxHashMap;

use super::pools::PoolMap;
use super::quarantine::Quarantine;

/// The memory of one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The most that it ever had of each resource.
    normal: Vec<(Name, u32)>,
    /// What it had of each resource when it last had any, devices that do not work included.
    had: Vec<(Name, u32)>,
    /// Time at which it last lost some of a pool's resource; `None` once it has the most that it
    /// ever had, or the loss lasts.
    pub(super) shrunk_at: Option<Timestamp>,
    /// The loss is assumed, since pods held more at the start.
    assumed: bool,
    /// Time at which an AI pod last released GPUs on it.
    pub(super) ai_released_at: Option<Timestamp>,
    pub(super) quarantine: Quarantine,
}

/// The memories of all nodes.
#[derive(Debug, Default)]
pub(super) struct Memories {
    nodes: FxHashMap<Name, Memory>,
    /// Times from which on a loss may last.
    settling: BTreeSet<(Timestamp, Name)>,
}

impl Memory {
    /// Returns the resources that the node lacks now, with the count of each.
    pub(super) fn lost(&self, node: &Node) -> Vec<(Name, u32)> {
        let most = |resource: &Name| {
            let of = |known: &[(Name, u32)]| {
                known.iter().find(|(name, _)| name == resource).map_or(0, |(_, count)| *count)
            };
            // Within the tolerance the former count is expected to come back.
            of(&self.had).max(if self.shrunk_at.is_some() { of(&self.normal) } else { 0 })
        };
        let resources = self.had.iter().map(|(resource, _)| resource);
        let lost = resources.map(|resource| {
            let count = most(resource).saturating_sub(node.allocatable.of(resource));
            (resource.clone(), count)
        });
        lost.filter(|(_, count)| *count > 0).collect()
    }
}

impl Memories {
    pub(super) fn get(&self, node: &str) -> Option<&Memory> {
        self.nodes.get(node)
    }

    pub(super) fn of(&mut self, node: &Name) -> &mut Memory {
        self.nodes.entry(node.clone()).or_default()
    }

    /// Moves all times, because the clock was set.
    pub(super) fn move_times(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        let settling = std::mem::take(&mut self.settling);
        self.settling = settling.into_iter().map(|(at, node)| (moved(at), node)).collect();
        for memory in self.nodes.values_mut() {
            let Memory { normal: _, had: _, assumed: _, shrunk_at, ai_released_at, quarantine } =
                memory;
            for time in [shrunk_at, ai_released_at].into_iter().flatten() {
                *time = moved(*time);
            }
            quarantine.move_times(&moved);
        }
    }

    /// Forgets the failures of a miner; returns the nodes that were closed to it, sorted.
    pub(super) fn forget_miner(&mut self, miner: &Name) -> Vec<Name> {
        let memories = self.nodes.iter_mut();
        let failed = memories
            .filter_map(|(node, memory)| memory.quarantine.forget(miner).then(|| node.clone()));
        let mut nodes: Vec<Name> = failed.collect();
        nodes.sort_unstable();
        nodes
    }

    pub(super) fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Takes the next node whose loss may last at `now`.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Name> {
        self.settling.first().filter(|(at, _)| *at <= now)?;
        self.settling.pop_first().map(|(_, node)| node)
    }

    /// The time from which on the first loss may last.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        self.settling.first().map(|(at, _)| *at)
    }

    /// Accepts a loss that has lasted for the tolerance once pods hold no more than is left, so that
    /// the node mines with the rest.
    pub(super) fn settle(
        &mut self,
        node: &Node,
        held: impl Fn(&Name) -> u32,
        pools: &PoolMap,
        now: Timestamp,
    ) {
        let Some(memory) = self.nodes.get_mut(&node.name) else { return };
        if memory.shrunk_at.is_some_and(|at| now >= at + SHRUNK_TOLERANCE)
            && pools.resources().all(|resource| held(resource) <= node.allocatable.of(resource))
        {
            memory.shrunk_at = None;
            memory.assumed = false;
            memory.normal = node.allocatable.extended.to_vec();
        }
    }

    /// Compares the resources of a node with those that it had.
    pub(super) fn compare(
        &mut self,
        node: &Node,
        before: Option<&Node>,
        pools: &PoolMap,
        now: Timestamp,
    ) {
        let memory = self.nodes.entry(node.name.clone()).or_default();
        let has = |resource: &Name| node.allocatable.of(resource);
        let reported = node.allocatable.extended.iter().chain(&node.capacity);
        let mut most: Vec<(Name, u32)> = Vec::new();
        for (resource, count) in reported {
            match most.iter_mut().find(|(known, _)| known == resource) {
                Some((_, most)) => *most = (*most).max(*count),
                None => most.push((resource.clone(), *count)),
            }
        }
        // Of a resource that is gone as a whole, the former count is kept.
        memory.had.retain(|(resource, _)| !most.iter().any(|(known, _)| known == resource));
        memory.had.extend(most);
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
            if !memory.assumed {
                memory.shrunk_at = None;
            }
        } else if fewer {
            memory.shrunk_at = Some(now);
            self.settling.insert((now + SHRUNK_TOLERANCE, node.name.clone()));
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
        memory.assumed = missing;
        if missing {
            self.settling.insert((started + SHRUNK_TOLERANCE, node.name.clone()));
        }
    }
}
