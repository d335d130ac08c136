//! Pods that kube-scheduler will not make room for.
//!
//! A pod with `preemptionPolicy: Never` displaces nobody by itself. Daylight makes
//! room for it, but only where it is certain that this helps: where nothing but
//! node selector, required node affinity and taints restricts it, and
//! kube-scheduler has found no place for it for a few seconds.

use std::time::Duration;

use daylight_base::Name;
use daylight_planner::model::{Delta, Preemption};

use super::Index;
use super::marks::MINER_PRIORITY;
use super::slim::Pod;
use super::taints::tolerated;

/// How long kube-scheduler is left alone with a pod that it finds no place for.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);

impl Index {
    pub(super) fn preemption(&self, pod: &Pod) -> Preemption {
        let Some(waiting) = &pod.waiting else {
            return Preemption::ByScheduler;
        };
        let unknown = waiting.opaque
            || pod.requests.others
            || pod.requests.extended.iter().any(|(resource, _)| !self.resources.contains(resource));
        if unknown || pod.priority <= MINER_PRIORITY {
            return Preemption::Never;
        }
        // It may still fit as things are: that is kube-scheduler's to find out.
        if pod.unschedulable_since.is_none_or(|since| since + SETTLE > self.now) {
            return Preemption::ByScheduler;
        }
        Preemption::ByDaylight {
            allowed_nodes: self.allowed_nodes(|node| {
                waiting.nodes.matches(&node.name, &node.labels)
                    && tolerated(&waiting.tolerations, &node.taints)
            }),
        }
    }

    /// Tells again of the pods that kube-scheduler will not preempt for.
    pub(super) fn tell_waiting(&mut self, out: &mut Vec<Delta>) {
        let mut waiting: Vec<Name> = self.waiting.iter().cloned().collect();
        waiting.sort_unstable();
        for pod in waiting {
            self.tell_pod(&pod, out);
        }
    }
}
