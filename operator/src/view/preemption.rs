//! Preemption for pods that kube-scheduler does not preempt for.
//!
//! A pod with `preemptionPolicy: Never` displaces no other pod by itself. Daylight makes room for
//! it, but only where it is certain that this helps: where nothing but node selector, required node
//! affinity and taints restricts it, and kube-scheduler has found no place for it for a few
//! seconds.

use std::time::Duration;

use daylight_cluster::slim::Pod;
use daylight_cluster::taints::tolerated;
use daylight_cluster::well_known::MINER_PRIORITY;
use daylight_planner::model::{Delta, Preemption};

use super::View;
use super::tracking::Sighting;

/// Time for which a pod must be unschedulable before Daylight makes room for it. Until then,
/// kube-scheduler may place it without help.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);

impl View {
    pub(super) fn preemption(&self, pod: &Pod) -> Preemption {
        let Some(waiting) = &pod.waiting else {
            return Preemption::ByScheduler;
        };
        let extended = &pod.requests.extended;
        let unknown = waiting.opaque
            || pod.requests.others
            || extended.iter().any(|(resource, _)| !self.pools.has_resource(resource));
        if unknown || pod.priority <= MINER_PRIORITY {
            return Preemption::Never;
        }
        // It may still fit without preemption: kube-scheduler has not finished trying.
        let sighting = self.tracking.sighting(&pod.key);
        let since = sighting.and_then(Sighting::unschedulable_since);
        if since.is_none_or(|since| since + SETTLE > self.now) {
            return Preemption::ByScheduler;
        }
        Preemption::ByDaylight {
            allowed_nodes: self.allowed_nodes(|node| {
                waiting.nodes.matches(&node.name, &node.labels)
                    && tolerated(&waiting.tolerations, &node.taints)
            }),
        }
    }

    /// Evaluates the pods again that kube-scheduler will not preempt for.
    pub(super) fn emit_waiting(&mut self, out: &mut Vec<Delta>) {
        for pod in self.tracking.waiting() {
            self.emit_pod(&pod, out);
        }
    }
}
