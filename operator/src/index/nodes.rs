//! Nodes: their pools, what they have, and what is remembered of them.

use daylight_base::{Name, Timestamp};
use daylight_planner::model;
use daylight_planner::model::{Delta, Membership, NodeCondition};

use super::Index;
use super::quarantine::Quarantine;
use super::slim::{Node, Readiness};
use super::store::Touched;
use super::taints::{NOT_READY, UNREACHABLE, UNSCHEDULABLE, tolerated};

/// What is remembered of a node beside what it says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The most it had of each resource.
    normal: Vec<(Name, u32)>,
    shrunk_at: Option<Timestamp>,
    pub(super) ai_released_at: Option<Timestamp>,
    pub(super) quarantine: Quarantine,
}

impl Index {
    pub(super) fn share_node(&mut self, node: &mut Node) {
        let names = &mut self.names;
        names.share(&mut node.name);
        for (key, value) in node.labels.iter_mut() {
            names.share(key);
            // Most values repeat from node to node; a host name does not, but is short.
            names.share(value);
        }
        for taint in &mut node.taints {
            names.share(&mut taint.key);
            names.share(&mut taint.value);
        }
        for (resource, _) in &mut node.allocatable.extended {
            names.share(resource);
        }
    }

    pub(super) fn node_touched(
        &mut self,
        Touched { key, before }: Touched<Node>,
        out: &mut Vec<Delta>,
    ) {
        if self.nodes.get(&key).is_some() {
            self.remember(&key, before.as_deref());
        } else {
            self.memories.remove(&key);
        }
        self.tell_node(&key, out);
        self.tell_filtered(&key, before.as_deref(), out);
    }

    /// Compares what a node has with what it had.
    fn remember(&mut self, name: &Name, before: Option<&Node>) {
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        let memory = self.memories.entry(name.clone()).or_default();
        let has = |resource: &Name| node.allocatable.of(resource);
        for (resource, count) in &node.allocatable.extended {
            match memory.normal.iter_mut().find(|(known, _)| known == resource) {
                Some((_, normal)) => *normal = (*normal).max(*count),
                None => memory.normal.push((resource.clone(), *count)),
            }
        }
        let pooled = |(resource, _): &&(Name, u32)| self.resources.contains(resource);
        let fewer = before.is_some_and(|before| {
            let mut had = before.allocatable.extended.iter().filter(pooled);
            had.any(|(resource, count)| has(resource) < *count)
        });
        let mut normal = memory.normal.iter().filter(pooled);
        if normal.all(|(resource, count)| has(resource) >= *count) {
            memory.shrunk_at = None;
        } else if fewer {
            memory.shrunk_at = Some(self.now);
        }
    }

    /// What to assume of a node's past when the process starts: that its idle
    /// GPUs were just released by AI, and that GPUs which are held but not
    /// there went away just now.
    pub(super) fn remember_first(&mut self, name: &Name) {
        self.remember(name, None);
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        let (mut idle, mut missing) = (false, false);
        for resource in &self.resources {
            let held: u32 = self
                .on_node
                .get(name)
                .into_iter()
                .flatten()
                .filter_map(|pod| self.pods.get(pod))
                .map(|pod| pod.requests.of(resource))
                .sum();
            let has = node.allocatable.of(resource);
            idle |= held < has;
            missing |= held > has;
        }
        let memory = self.memories.entry(name.clone()).or_default();
        memory.ai_released_at = idle.then_some(self.started);
        memory.shrunk_at = missing.then_some(self.started);
    }

    /// Tells of a node, and of the pods on it if they begin or cease to count.
    pub(super) fn tell_node(&mut self, name: &Name, out: &mut Vec<Delta>) {
        let was = self.is_in_pool(name);
        let view = self.nodes.get(name).and_then(|node| self.node_view(node));
        self.given.node(name, view, out);
        if was != self.is_in_pool(name) {
            let mut pods: Vec<Name> =
                self.on_node.get(name).into_iter().flatten().cloned().collect();
            pods.sort_unstable();
            for pod in pods {
                self.tell_pod(&pod, out);
            }
        }
    }

    fn node_view(&self, node: &Node) -> Option<model::Node> {
        let pools: Vec<_> = self
            .pool_facts
            .iter()
            .filter(|pool| pool.selector.matches(&node.labels))
            .map(|pool| Membership {
                pool: pool.name.clone(),
                tolerated: tolerated(&pool.tolerations, &node.taints),
            })
            .collect();
        // A node outside of all pools matters only while miners are left on it.
        let counts = !pools.is_empty()
            || self.on_node.get(&node.name).is_some_and(|pods| {
                let mut pods = pods.iter().filter_map(|pod| self.pods.get(pod));
                pods.any(|pod| pod.lease.is_some())
            });
        let memory = self.memories.get(&node.name);
        counts.then(|| model::Node {
            name: node.name.clone(),
            pools,
            gpus: node
                .allocatable
                .extended
                .iter()
                .filter(|(resource, _)| self.resources.contains(resource))
                .cloned()
                .collect(),
            cpu_milli: node.allocatable.cpu_milli,
            memory: node.allocatable.memory,
            pod_slots: node.allocatable.pods,
            condition: condition(node),
            autoscaled: node.autoscaled,
            ai_released_at: memory.and_then(|memory| memory.ai_released_at),
            shrunk_at: memory.and_then(|memory| memory.shrunk_at),
            quarantined_until: memory.and_then(|memory| memory.quarantine.node_until(self.now)),
            quarantined_slots: memory
                .map(|memory| memory.quarantine.slots_until(self.now))
                .unwrap_or_default(),
        })
    }

    /// Whether a node belongs to a pool, as the planner was told.
    pub(super) fn is_in_pool(&self, node: &str) -> bool {
        self.given.nodes.get(node).is_some_and(|node| !node.pools.is_empty())
    }

    /// The pool nodes that pass a filter, sorted; `None` if all do.
    pub(super) fn allowed_nodes(&self, passes: impl Fn(&Node) -> bool) -> Option<Vec<Name>> {
        let mut all = true;
        let mut allowed: Vec<Name> = self
            .nodes
            .iter()
            .filter(|(name, _)| self.is_in_pool(name))
            .filter(|(_, node)| {
                let passes = passes(node);
                all &= passes;
                passes
            })
            .map(|(name, _)| name.clone())
            .collect();
        if all {
            return None;
        }
        allowed.sort_unstable();
        Some(allowed)
    }

    /// Tells again of what may run only on some nodes, where a node began or
    /// ceased to be one of them.
    fn tell_filtered(&mut self, name: &Name, before: Option<&Node>, out: &mut Vec<Delta>) {
        let after = self.nodes.get(name);
        let same = match (before, after) {
            (Some(before), Some(after)) => {
                before.labels == after.labels && before.taints == after.taints
            }
            (before, after) => before.is_none() && after.is_none(),
        };
        if same {
            return;
        }
        let filter = |job: &Name, node: Option<&Node>| {
            let template = self.templates.get(job)?;
            let node = node?;
            Some(template.scheduling.nodes.matches(&node.name, &node.labels))
        };
        let mut jobs: Vec<Name> = self
            .restricted
            .iter()
            .filter(|job| filter(job, before) != filter(job, after))
            .cloned()
            .collect();
        jobs.sort_unstable();
        self.tell_waiting(out);
        for job in jobs {
            self.tell_job(&job, out);
        }
    }
}

fn condition(node: &Node) -> NodeCondition {
    let tainted = |key: &str| node.taints.iter().any(|taint| *taint.key == *key);
    if node.readiness == Readiness::Unknown || tainted(UNREACHABLE) {
        NodeCondition::Unreachable
    } else if node.readiness == Readiness::NotReady || tainted(NOT_READY) {
        NodeCondition::NotReady
    } else if node.unschedulable || node.deleting || tainted(UNSCHEDULABLE) {
        NodeCondition::Cordoned
    } else {
        NodeCondition::Ready
    }
}
