//! Nodes: their pools, their resources, and their condition.

use daylight_base::Name;
use daylight_cluster::Changed;
use daylight_cluster::slim::{Node, Pod, Readiness};
use daylight_cluster::taints::{NOT_READY, UNREACHABLE, UNSCHEDULABLE};
use daylight_planner::model;
use daylight_planner::model::{Delta, NodeCondition};

use super::View;

impl View {
    pub(super) fn node_changed(
        &mut self,
        Changed { key, before }: Changed<Node>,
        out: &mut Vec<Delta>,
    ) {
        match self.cluster.node(&key) {
            Some(node) => self.memories.compare(node, before.as_deref(), &self.pools, self.now),
            None => self.memories.forget(&key),
        }
        // Its labels decide in which pools it is.
        let same = before.as_deref().zip(self.cluster.node(&key));
        if same.is_none_or(|(before, after)| before.labels != after.labels) {
            self.recount_on(&key);
        }
        self.emit_node(&key, out);
        self.emit_restricted(&key, before.as_deref(), out);
    }

    /// Evaluates a node, and the pods on it if they begin or cease to count.
    pub(super) fn emit_node(&mut self, name: &Name, out: &mut Vec<Delta>) {
        let was = self.is_in_pool(name);
        if let Some(node) = self.cluster.node(name) {
            let held = |resource: &Name| {
                let pods = || self.tracking.on_node(name).filter_map(|pod| self.cluster.pod(pod));
                let is_mine = |pod: &Pod| pod.lease.is_some() && pod.requests.of(resource) > 0;
                // Without miners there, nothing is left to stop.
                let is_mined = pods().any(is_mine);
                if is_mined { pods().map(|pod| pod.requests.of(resource)).sum() } else { 0 }
            };
            self.memories.settle(node, held, &self.pools, self.now);
        }
        let view = self.cluster.node(name).and_then(|node| self.node_view(node));
        self.emitted.node(name, view, out);
        if was != self.is_in_pool(name) {
            let mut pods: Vec<Name> = self.tracking.on_node(name).cloned().collect();
            pods.sort_unstable();
            for pod in pods {
                self.emit_pod(&pod, out);
            }
        }
    }

    fn node_view(&self, node: &Node) -> Option<model::Node> {
        let pools = self.pools.memberships(node);
        // A node outside of all pools matters only while miners are left on it.
        let counts = !pools.is_empty() || {
            let mut pods = self.tracking.on_node(&node.name);
            pods.any(|pod| self.cluster.pod(pod).is_some_and(|pod| pod.lease.is_some()))
        };
        let memory = self.memories.get(&node.name);
        let extended = node.allocatable.extended.iter();
        counts.then(|| model::Node {
            name: node.name.clone(),
            pools,
            gpus: extended
                .filter(|(resource, _)| self.pools.has_resource(resource))
                .cloned()
                .collect(),
            lost: memory
                .map(|memory| memory.lost(node))
                .unwrap_or_default()
                .into_iter()
                .filter(|(resource, _)| self.pools.has_resource(resource))
                .collect(),
            cpu_milli: node.allocatable.cpu_milli,
            memory: node.allocatable.memory,
            huge_pages: node.allocatable.huge_pages,
            pod_slots: node.allocatable.pods,
            condition: condition(node),
            autoscaled: node.autoscaled,
            ai_released_at: memory.and_then(|memory| memory.ai_released_at),
            shrunk_at: memory.and_then(|memory| memory.shrunk_at),
            quarantined_until: memory.and_then(|memory| memory.quarantine.node_until(self.now)),
            closed_to: memory
                .map(|memory| memory.quarantine.closed_to(self.now))
                .unwrap_or_default(),
        })
    }

    /// Returns `true` if a node belongs to a pool, as the planner knows it.
    pub(super) fn is_in_pool(&self, node: &str) -> bool {
        self.emitted.nodes.get(node).is_some_and(|node| !node.pools.is_empty())
    }

    /// The pool nodes that pass a filter, sorted; `None` if all do.
    pub(super) fn allowed_nodes(&self, passes: impl Fn(&Node) -> bool) -> Option<Vec<Name>> {
        let mut all = true;
        let mut allowed: Vec<Name> = Vec::new();
        for node in self.cluster.nodes().filter(|node| self.is_in_pool(&node.name)) {
            if passes(node) {
                allowed.push(node.name.clone());
            } else {
                all = false;
            }
        }
        if all {
            return None;
        }
        allowed.sort_unstable();
        Some(allowed)
    }

    /// Evaluates again what may run only on some nodes, where a node began or ceased to be one of
    /// them.
    fn emit_restricted(&mut self, name: &Name, before: Option<&Node>, out: &mut Vec<Delta>) {
        let after = self.cluster.node(name);
        let same = match (before, after) {
            (Some(before), Some(after)) => {
                before.labels == after.labels && before.taints == after.taints
            }
            (before, after) => before.is_none() && after.is_none(),
        };
        if same {
            return;
        }
        let jobs = self.jobs_affected_by(before, after);
        self.emit_waiting(out);
        for job in jobs {
            self.emit_job(&job, out);
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
