//! State derived from pods: their nodes, the jobs whose workers they are, and those that need
//! attention.

use std::collections::BTreeSet;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_cluster::Cluster;
use daylight_cluster::slim::Pod;
use rustc_hash::{FxHashMap, FxHashSet};

use super::preemption::SETTLE;

/// Time within which a miner's pod is bound, since its node was chosen because it fits; and then
/// the time within which its node prepares everything but the image.
const STEP_WITHIN: Duration = Duration::from_mins(1);

/// A miner's pod that has to be removed.
#[derive(Clone, Copy, Debug)]
pub struct Leftover<'a> {
    pub pod: &'a Pod,
    pub reason: LeftoverReason,
}

/// The reason for which a miner's pod has to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeftoverReason {
    Ended,
    /// It was not bound in time, or its node did not prepare it.
    Late,
    /// Its container cannot be started.
    NeverStarts,
}

/// Pods that have ended and still carry the auditor's finalizer, with the time at which this was
/// first seen.
#[derive(Debug, Default)]
pub struct Unreleased(FxHashMap<Name, Timestamp>);

impl Unreleased {
    /// Updates the set with the present state of a pod; `None` if it is gone.
    pub fn track(&mut self, key: &Name, pod: Option<&Pod>, now: Timestamp) {
        if pod.is_some_and(|pod| pod.metered && pod.is_terminal()) {
            self.0.entry(key.clone()).or_insert(now);
        } else {
            self.0.remove(key);
        }
    }

    /// Returns the pods, sorted by key, each with the time since when it waits.
    pub fn pods<'a>(&self, cluster: &'a Cluster) -> Vec<(&'a Pod, Timestamp)> {
        let pods = self.0.iter().filter_map(|(key, since)| Some((cluster.pod(key)?, *since)));
        let mut all: Vec<_> = pods.collect();
        all.sort_unstable_by(|one, other| one.0.key.cmp(&other.0.key));
        all
    }
}

/// Sets and times derived from pods.
#[derive(Debug, Default)]
pub(super) struct Tracking {
    /// Pods by their node; a miner's pod that is not bound, by the node it is pinned to. Terminal
    /// pods are left out.
    on_node: FxHashMap<Name, FxHashSet<Name>>,
    /// Pods by the `AIJob` that they name.
    workers: FxHashMap<Name, FxHashSet<Name>>,
    /// Pods that kube-scheduler will not preempt for.
    waiting: FxHashSet<Name>,
    /// Miners' pods that are terminal, cannot start, or were not bound in time.
    leftovers: FxHashMap<Name, LeftoverReason>,
    pub(super) unreleased: Unreleased,
    /// The highest epoch seen of each slot.
    epochs: FxHashMap<(Name, u32), u32>,
    /// Times at which a pod has to be evaluated again.
    due: BTreeSet<(Timestamp, Name)>,
    /// Time at which the deletion of a miner's pod was first seen; kept until the pod ends, because
    /// the drain is measured from here.
    deletions: FxHashMap<Name, Timestamp>,
}

impl Tracking {
    /// Updates everything with the former and the present state of a pod; returns the nodes that it
    /// left or arrived at.
    pub(super) fn track(
        &mut self,
        key: &Name,
        before: Option<&Pod>,
        after: Option<&Pod>,
        now: Timestamp,
    ) -> Vec<Name> {
        let (was, is) = (before.and_then(occupied_node), after.and_then(occupied_node));
        let moved = was != is;
        if moved {
            regroup(&mut self.on_node, key, was, is);
        }
        let job = |pod: Option<&Pod>| pod.and_then(|pod| pod.ai_job.clone());
        let (former, present) = (job(before), job(after));
        if former != present {
            regroup(&mut self.workers, key, former.as_ref(), present.as_ref());
        }
        self.track_waiting(key, before, after, now);
        self.track_leftover(key, after, now);
        self.unreleased.track(key, after, now);
        if after.is_some_and(|pod| pod.lease.is_some() && pod.deletion.is_some()) {
            self.deletions.entry(key.clone()).or_insert(now);
        }
        // The planner knows a node outside of all pools only while miners are on it, so both nodes
        // have to be evaluated again.
        if moved { was.into_iter().chain(is).cloned().collect() } else { Vec::new() }
    }

    fn track_waiting(
        &mut self,
        key: &Name,
        before: Option<&Pod>,
        after: Option<&Pod>,
        now: Timestamp,
    ) {
        // The old entries of `due` are found by computing their times again from the former state.
        // These times must therefore depend on the state of the pod alone.
        if let Some(since) = before.and_then(|pod| pod.unschedulable_since) {
            self.due.remove(&(since + SETTLE, key.clone()));
        }
        if let Some(by) = before.and_then(next_step_by) {
            self.due.remove(&(by, key.clone()));
        }
        self.waiting.remove(key);
        if let Some(pod) = after
            && pod.waiting.is_some()
            && !pod.is_terminal()
        {
            self.waiting.insert(key.clone());
            if let Some(since) = pod.unschedulable_since
                && since + SETTLE > now
            {
                self.due.insert((since + SETTLE, key.clone()));
            }
        }
    }

    fn track_leftover(&mut self, key: &Name, after: Option<&Pod>, now: Timestamp) {
        let Some((pod, lease)) = after.and_then(|pod| Some((pod, pod.lease.as_ref()?))) else {
            self.leftovers.remove(key);
            return;
        };
        if let Some(node) = pod.place() {
            // Never lowered: if the name of a removed pod were used again, a late answer about the
            // old pod would be mistaken for one about the new pod.
            let highest = self.epochs.entry((node.clone(), lease.slot)).or_insert(lease.epoch);
            *highest = lease.epoch.max(*highest);
        }
        if pod.is_terminal() {
            self.leftovers.insert(key.clone(), LeftoverReason::Ended);
        } else if pod.stuck().is_some() {
            self.leftovers.insert(key.clone(), LeftoverReason::NeverStarts);
        } else {
            let by = next_step_by(pod);
            if by.is_none_or(|by| by > now) {
                self.leftovers.remove(key);
            }
            // A pod that is already late stays late: `View::pod_due` has acted on it.
            if let Some(by) = by
                && !self.leftovers.contains_key(key)
            {
                self.due.insert((by, key.clone()));
            }
        }
    }

    /// Marks a pod as late; returns `false` if it was marked before.
    pub(super) fn mark_late(&mut self, key: &Name) -> bool {
        self.leftovers.insert(key.clone(), LeftoverReason::Late).is_none()
    }

    /// Takes the time at which a pod's deletion was first seen.
    pub(super) fn take_deletion(&mut self, key: &Name) -> Option<Timestamp> {
        self.deletions.remove(key)
    }

    /// Takes the next pod that is due at `now`.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Name> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.pop_first().map(|(_, key)| key)
    }

    /// The time at which the first pod is due.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The pods on a node, in no order.
    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = &Name> {
        self.on_node.get(node).into_iter().flatten()
    }

    /// The pods that name an `AIJob`, in no order.
    pub(super) fn workers(&self, job: &str) -> impl Iterator<Item = &Name> {
        self.workers.get(job).into_iter().flatten()
    }

    /// The pods that kube-scheduler will not preempt for, sorted.
    pub(super) fn waiting(&self) -> Vec<Name> {
        let mut waiting: Vec<Name> = self.waiting.iter().cloned().collect();
        waiting.sort_unstable();
        waiting
    }

    /// The miners' pods that have to be removed, sorted by key.
    pub(super) fn leftovers<'a>(&self, cluster: &'a Cluster) -> Vec<Leftover<'a>> {
        let pods = self.leftovers.iter();
        let mut all: Vec<_> = pods
            .filter_map(|(key, reason)| Some(Leftover { pod: cluster.pod(key)?, reason: *reason }))
            .collect();
        all.sort_unstable_by(|one, other| one.pod.key.cmp(&other.pod.key));
        all
    }

    /// The epoch for the next pod in a slot: above that of every pod seen there.
    pub(super) fn next_epoch(&self, node: &str, slot: u32) -> u32 {
        self.epochs.get(&(Name::from(node), slot)).map_or(0, |highest| highest + 1)
    }
}

/// Moves `key` from one group to another; a group without members is removed.
fn regroup(
    groups: &mut FxHashMap<Name, FxHashSet<Name>>,
    key: &Name,
    from: Option<&Name>,
    to: Option<&Name>,
) {
    if let Some(from) = from
        && let Some(members) = groups.get_mut(from)
    {
        members.remove(key);
        if members.is_empty() {
            groups.remove(from);
        }
    }
    if let Some(to) = to {
        groups.entry(to.clone()).or_default().insert(key.clone());
    }
}

/// The node on which a pod holds resources.
fn occupied_node(pod: &Pod) -> Option<&Name> {
    pod.place().filter(|_| !pod.is_terminal())
}

/// The time by which another component must have brought a miner's pod one step further.
pub(super) fn next_step_by(pod: &Pod) -> Option<Timestamp> {
    let lease = pod.lease.as_ref()?;
    let waits = pod.node.is_none() || lease.unprepared;
    waits.then(|| pod.bound_at.unwrap_or(pod.created) + STEP_WITHIN)
}
