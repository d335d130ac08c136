//! Waiting pods that Daylight does not start. Most are left to kube-scheduler, which preempts miners
//! for them; for those that never preempt, Daylight makes room.

use std::time::Duration;

use rustc_hash::FxHashSet;

use crate::explain::Reason;
use crate::model::{MiningPolicy, Pod, Preemption, Role, Shape};
use crate::plan::Run;
use crate::plan::gang::Gang;
use crate::state::buckets::Bucket;
use crate::state::table::Id;
use crate::state::{PodRow, Resource};

/// Time that kube-scheduler has to place a pod that never preempts, before miners are displaced for
/// it: a few of its attempts, so that no miner stops for a pod that fits anyway.
const PATIENCE: Duration = Duration::from_secs(5);

impl Run<'_> {
    /// Makes room for pods that kube-scheduler does not preempt for, the oldest first, and finds a
    /// reason for each waiting pod.
    pub(super) fn serve_waiting_pods(&mut self) {
        let mut waiting: Vec<_> = self.state.waiting.values().copied().collect();
        waiting.sort_by_cached_key(|&id| {
            let pod = &self.state.pods[id].pod;
            (pod.created, pod.key.clone())
        });
        for id in waiting {
            let pod = self.state.pods[id].pod.clone();
            let reason = self.serve_pod(id, &pod);
            self.pod_reasons.insert(id, reason);
        }
    }

    fn serve_pod(&mut self, id: Id<PodRow>, pod: &Pod) -> Reason {
        if pod.is_gated() {
            return Reason::Gated { gates: pod.gates.clone() };
        }
        let allowed = match &pod.role {
            Role::Other { preemption, .. } | Role::Worker { preemption, .. } => match preemption {
                Preemption::Never => return Reason::NotPreempting,
                Preemption::ByDaylight { allowed_nodes } => allowed_nodes.as_ref(),
                Preemption::ByScheduler => return Reason::SchedulerDecides,
            },
            Role::Miner { .. } => return Reason::SchedulerDecides,
        };
        if pod.nominated.is_some() || pod.deleting {
            return Reason::SchedulerDecides;
        }
        let until = pod.created + PATIENCE;
        if self.now < until {
            self.wake(until);
            return Reason::SchedulerFirst { until };
        }
        let [(name, gpus)] = pod.gpus.as_slice() else {
            return Reason::NotPreempting;
        };
        let gpus = *gpus;
        let Some(resource) = self.state.resources.find(name) else {
            return Reason::NoNodeLargeEnough { gpus };
        };
        let huge_pages = pod.huge_pages;
        let shape = Shape { gpus, cpu_milli: pod.cpu_milli, memory: pod.memory, huge_pages };
        let allowed: Option<FxHashSet<_>> = allowed
            .map(|nodes| nodes.iter().filter_map(|node| self.state.nodes.find(node)).collect());
        let pools: Vec<_> = self.state.pools_by_name.values().copied().collect();
        let placed = pools.into_iter().find_map(|pool| {
            let row = &self.state.pools[pool];
            let observes = row.object.as_ref()?.policy == MiningPolicy::Observe;
            if row.resource != resource || observes {
                return None;
            }
            let allowed = allowed.as_ref();
            self.place(&Gang { pool, resource, shape, workers: 1, allowed, bound: None })
        });
        let Some(&(node, _)) = placed.as_ref().and_then(|placed| placed.nodes.first()) else {
            return self.no_room(resource, gpus);
        };
        let Some(host) = self.state.host(node, resource) else {
            return Reason::SchedulerDecides;
        };
        let bucket = host.bucket();
        let (short, awaited) = match host.cleared_whole {
            true => (host.mining, host.mining + host.draining),
            false => (host.short_for(gpus), gpus.saturating_sub(bucket.free)),
        };
        // For this run only: the next plan finds the same node again, or a better one.
        self.nominate(id, node);
        let need = self.need_with(node, short);
        self.displace(node, resource, need, &[(pod.key.clone(), gpus)]);
        if awaited == 0 && self.is_roomy(node) {
            Reason::RoomKept
        } else {
            Reason::WaitingForDrain { gpus: awaited }
        }
    }

    /// Returns the reason why no node has room for a pod with `gpus`.
    fn no_room(&self, resource: Resource, gpus: u32) -> Reason {
        let (mut largest, mut available) = (0, 0);
        for &pool in self.state.pools_by_name.values() {
            let row = &self.state.pools[pool];
            if row.resource == resource {
                let sizes = row.buckets.allocatable.keys().next_back();
                largest = largest.max(sizes.copied().unwrap_or_default());
                let buckets = row.buckets.open.keys().map(Bucket::available);
                available = available.max(buckets.max().unwrap_or_default());
            }
        }
        if largest < gpus {
            Reason::NoNodeLargeEnough { gpus }
        } else {
            Reason::WaitingForCapacity { gpus, available, at: None }
        }
    }
}
