//! Waiting pods that Daylight does not start. Most are left to kube-scheduler, which preempts miners
//! for them; for those that never preempt, Daylight makes room.

use std::cmp::Reverse;
use std::time::Duration;

use rustc_hash::FxHashSet;

use crate::explain::Reason;
use crate::model::{MiningPolicy, Preemption, Role, Shape};
use crate::plan::Run;
use crate::plan::gang::Gang;
use crate::state::buckets::Bucket;
use crate::state::table::Id;
use crate::state::{NodeRow, PodRow, Resource};

/// Time that kube-scheduler has to place a pod that never preempts, before miners are displaced for
/// it: a few of its attempts, so that no miner stops for a pod that fits anyway.
const PATIENCE: Duration = Duration::from_secs(5);

/// The room that a waiting pod needs, where Daylight makes it.
struct Request {
    /// Its place among the waiting pods, the oldest first.
    age: usize,
    pod: Id<PodRow>,
    resource: Resource,
    shape: Shape,
    allowed: Option<FxHashSet<Id<NodeRow>>>,
}

impl Run<'_> {
    /// Makes room for pods that kube-scheduler does not preempt for, and finds a reason for each
    /// waiting pod.
    ///
    /// First come those for which no miner has to stop any more, then the others, the oldest first. Among
    /// the former, those with the least choice of nodes come first: otherwise a small pod would take
    /// the room that an earlier plan made for a large one, and each plan would displace more miners.
    pub(super) fn serve_waiting_pods(&mut self) {
        let mut waiting: Vec<_> = self.state.waiting.values().copied().collect();
        waiting.sort_by_cached_key(|&id| {
            let pod = &self.state.pods[id].pod;
            (pod.created, pod.key.clone())
        });
        let mut requests = Vec::new();
        for (age, id) in waiting.into_iter().enumerate() {
            match self.request(age, id) {
                Ok(request) => requests.push(request),
                Err(reason) => {
                    self.pod_reasons.insert(id, reason);
                }
            }
        }
        requests.sort_by_key(|Request { shape, allowed, .. }| {
            let choice = allowed.as_ref().map_or(usize::MAX, FxHashSet::len);
            (choice, Reverse(shape.gpus))
        });
        let mut others: Vec<_> =
            requests.into_iter().filter(|request| !self.serve(request, true)).collect();
        others.sort_by_key(|request| request.age);
        for request in others {
            if !self.serve(&request, false) {
                let reason = self.no_room(request.resource, request.shape.gpus);
                self.pod_reasons.insert(request.pod, reason);
            }
        }
    }

    /// Returns what Daylight makes room for, or the reason why it makes none.
    fn request(&mut self, age: usize, id: Id<PodRow>) -> Result<Request, Reason> {
        let pod = &self.state.pods[id].pod;
        if pod.is_gated() {
            return Err(Reason::Gated { gates: pod.gates.clone() });
        }
        let allowed = match &pod.role {
            Role::Other { preemption, .. } | Role::Worker { preemption, .. } => match preemption {
                Preemption::Never => return Err(Reason::NotPreempting),
                Preemption::ByDaylight { allowed_nodes } => allowed_nodes.as_ref(),
                Preemption::ByScheduler => return Err(Reason::SchedulerDecides),
            },
            Role::Miner { .. } => return Err(Reason::SchedulerDecides),
        };
        if pod.nominated.is_some() || pod.deleting {
            return Err(Reason::SchedulerDecides);
        }
        let until = pod.created + PATIENCE;
        if self.now < until {
            self.wake(until);
            return Err(Reason::SchedulerFirst { until });
        }
        let [(name, gpus)] = pod.gpus.as_slice() else {
            return Err(Reason::NotPreempting);
        };
        let gpus = *gpus;
        let Some(resource) = self.state.resources.find(name) else {
            return Err(Reason::NoNodeLargeEnough { gpus });
        };
        let huge_pages = pod.huge_pages;
        let shape = Shape { gpus, cpu_milli: pod.cpu_milli, memory: pod.memory, huge_pages };
        let allowed = allowed
            .map(|nodes| nodes.iter().filter_map(|node| self.state.nodes.find(node)).collect());
        Ok(Request { age, pod: id, resource, shape, allowed })
    }

    /// Keeps the room of a waiting pod, and displaces miners for it unless it is to be `spared`.
    /// Returns whether there is such a node.
    fn serve(&mut self, request: &Request, spared: bool) -> bool {
        let &Request { age: _, pod, resource, shape, ref allowed } = request;
        let gpus = shape.gpus;
        let placed = self.state.pools_by_name.values().find_map(|&pool| {
            let row = &self.state.pools[pool];
            let observes = row.object.as_ref()?.policy == MiningPolicy::Observe;
            if row.resource != resource || observes {
                return None;
            }
            let allowed = allowed.as_ref();
            let gang = Gang { pool, resource, shape, workers: 1, allowed, bound: None };
            self.place(&gang)
        });
        let placed = placed.filter(|placed| !spared || placed.displaced == 0);
        let Some(&(node, _)) = placed.as_ref().and_then(|placed| placed.nodes.first()) else {
            return false;
        };
        let Some(host) = self.state.host(node, resource) else {
            return false;
        };
        let bucket = host.bucket();
        let (short, awaited) = match host.cleared_whole {
            true => (host.mining, host.mining + host.draining),
            false => (host.short_for(gpus), gpus.saturating_sub(bucket.free)),
        };
        // For this run only: the next plan finds the same node again, or a better one.
        self.nominate(pod, node);
        let need = self.need_with(node, short);
        let key = self.state.pods[pod].pod.key.clone();
        self.displace(node, resource, need, &[(key, gpus)]);
        let reason = match awaited == 0 && self.is_roomy(node) {
            true => Reason::RoomKept,
            false => Reason::WaitingForDrain { gpus: awaited },
        };
        self.pod_reasons.insert(pod, reason);
        true
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
