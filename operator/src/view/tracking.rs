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
    /// Time at which its end was seen, if it has ended.
    pub ended_at: Option<Timestamp>,
}

/// The reason for which a miner's pod has to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeftoverReason {
    Ended,
    /// kube-scheduler found no room on its node in time, the node did not prepare it, or another
    /// container keeps it running though the miner has ended.
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

/// The times at which the states of a pod were first seen.
///
/// The times that a pod itself carries are of the clocks of the API server, the scheduler and its
/// node, which may differ from this process's by any amount. What is decided by the age of a state
/// therefore goes by when it was first seen. A pod that exists when the process starts has no such
/// time: then its own times count, as far as they are not in the future.
#[derive(Clone, Debug, Default)]
pub(super) struct Sighting {
    uid: Box<str>,
    pub(super) created: Timestamp,
    bound: Option<Timestamp>,
    /// `true` while it has a scheduling gate.
    gated: bool,
    /// The time at which its last gate was removed.
    ungated: Option<Timestamp>,
    /// The time that the pod gives, and when it was first seen.
    unschedulable: Option<(Timestamp, Timestamp)>,
    /// The time at which a miner's container ended.
    container_ended: Option<Timestamp>,
    pub(super) ended: Option<Timestamp>,
    /// The entry of the pod in `Tracking::due`.
    due: Option<Timestamp>,
    /// The entry of the pod in `Tracking::awaited`.
    awaited: Option<Timestamp>,
    /// The time by which it has not come one step further.
    late: Option<Timestamp>,
}

impl Sighting {
    /// Notes the present state of a pod at `now`.
    fn note(&mut self, pod: &Pod, now: Timestamp, at_start: bool) {
        let seen = |claimed: Option<Timestamp>| match claimed {
            Some(claimed) if at_start => claimed.min(now),
            _ => now,
        };
        // A foreseen pod has no UID yet. Any other one with another UID is another pod.
        if self.uid != pod.uid {
            if self.created == Timestamp::default() || !self.uid.is_empty() {
                let created = seen(Some(pod.created));
                *self = Self { created, due: self.due, awaited: self.awaited, ..Self::default() };
            }
            self.uid.clone_from(&pod.uid);
        }
        if self.created == Timestamp::default() {
            self.created = seen(Some(pod.created));
        }
        match pod.node {
            Some(_) => _ = self.bound.get_or_insert_with(|| seen(pod.bound_at)),
            None => self.bound = None,
        }
        if self.gated && pod.gates.is_empty() {
            self.ungated = Some(now);
        }
        self.gated = !pod.gates.is_empty();
        match (pod.unschedulable_since, self.unschedulable) {
            (Some(claimed), Some((known, _))) if claimed == known => {}
            (Some(claimed), _) => self.unschedulable = Some((claimed, seen(Some(claimed)))),
            (None, _) => self.unschedulable = None,
        }
        if pod.own_ended {
            self.container_ended.get_or_insert(now);
        }
        if pod.is_terminal() {
            self.ended.get_or_insert_with(|| seen(pod.finished_at));
        }
    }

    /// The time since when kube-scheduler finds no node for the pod.
    pub(super) fn unschedulable_since(&self) -> Option<Timestamp> {
        self.unschedulable.map(|(_, seen)| seen)
    }

    /// The time by which another component must have brought a miner's pod one step further.
    fn next_step_by(&self, pod: &Pod) -> Option<Timestamp> {
        let lease = pod.lease.as_ref()?;
        // A pod that kube-scheduler has not looked at proves nothing of miner or node.
        let since = match pod.node {
            // One with a scheduling gate waits for the system that set the gate.
            None if !pod.gates.is_empty() => return None,
            None => self.unschedulable_since()?.max(self.ungated.unwrap_or_default()),
            Some(_) if lease.unprepared => self.bound.unwrap_or(self.created),
            Some(_) if pod.own_ended => self.container_ended?,
            Some(_) => return None,
        };
        Some(since + STEP_WITHIN)
    }

    fn move_times(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        let Self {
            uid: _,
            created,
            bound,
            gated: _,
            ungated,
            unschedulable,
            container_ended,
            ended,
            due,
            awaited,
            late,
        } = self;
        let seen = unschedulable.as_mut().map(|(_, seen)| seen);
        for time in [bound, ungated, container_ended, ended, due, awaited, late]
            .into_iter()
            .filter_map(Option::as_mut)
            .chain(seen)
        {
            *time = moved(*time);
        }
        *created = moved(*created);
    }
}

/// Sets and times derived from pods.
#[derive(Debug, Default)]
pub(super) struct Tracking {
    sightings: FxHashMap<Name, Sighting>,
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
    /// Times by which a miner's pod must have come one step further. They are judged only by what
    /// the watch is known to have reported until then.
    awaited: BTreeSet<(Timestamp, Name)>,
    /// Time at which the deletion of a miner's pod was first seen; kept until the pod ends, because
    /// the drain is measured from here.
    deletions: FxHashMap<Name, Timestamp>,
}

impl Tracking {
    /// Updates everything with the former and the present state of a pod; returns the nodes that it
    /// left or arrived at. With `at_start`, the pod is one that existed when the process started.
    pub(super) fn track(
        &mut self,
        key: &Name,
        before: Option<&Pod>,
        after: Option<&Pod>,
        now: Timestamp,
        at_start: bool,
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
        self.sight(key, after, now, at_start);
        self.track_waiting(key, after, now);
        self.track_leftover(key, after);
        self.unreleased.track(key, after, now);
        if after.is_some_and(|pod| pod.lease.is_some() && pod.deletion.is_some()) {
            self.deletions.entry(key.clone()).or_insert(now);
        }
        // The planner knows a node outside of all pools only while miners are on it, so both nodes
        // have to be evaluated again.
        if moved { was.into_iter().chain(is).cloned().collect() } else { Vec::new() }
    }

    /// Notes when the states of a pod were first seen, and takes it out of the times that are due.
    fn sight(&mut self, key: &Name, after: Option<&Pod>, now: Timestamp, at_start: bool) {
        let mut sighting = self.sightings.remove(key).unwrap_or_default();
        if let Some(due) = sighting.due.take() {
            self.due.remove(&(due, key.clone()));
        }
        if let Some(awaited) = sighting.awaited.take() {
            self.awaited.remove(&(awaited, key.clone()));
        }
        if let Some(pod) = after {
            sighting.note(pod, now, at_start);
            self.sightings.insert(key.clone(), sighting);
        }
    }

    /// The times at which the states of a pod were first seen.
    pub(super) fn sighting(&self, key: &str) -> Option<&Sighting> {
        self.sightings.get(key)
    }

    fn track_waiting(&mut self, key: &Name, after: Option<&Pod>, now: Timestamp) {
        self.waiting.remove(key);
        if let Some(pod) = after
            && pod.waiting.is_some()
            && !pod.is_terminal()
        {
            self.waiting.insert(key.clone());
            if let Some(sighting) = self.sightings.get_mut(key)
                && let Some(since) = sighting.unschedulable_since()
                && since + SETTLE > now
            {
                sighting.due = Some(since + SETTLE);
                self.due.insert((since + SETTLE, key.clone()));
            }
        }
    }

    fn track_leftover(&mut self, key: &Name, after: Option<&Pod>) {
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
        } else if pod.stuck().is_some() || pod.place().is_none() {
            self.leftovers.insert(key.clone(), LeftoverReason::NeverStarts);
        } else {
            let Some(sighting) = self.sightings.get_mut(key) else { return };
            let by = sighting.next_step_by(pod);
            // A pod that is already late stays late until it comes one step further: `View::pod_due`
            // has acted on it.
            if by.is_some() && sighting.late == by {
                self.leftovers.insert(key.clone(), LeftoverReason::Late);
                return;
            }
            self.leftovers.remove(key);
            sighting.awaited = by;
            self.awaited.extend(by.map(|by| (by, key.clone())));
        }
    }

    /// Marks a pod as late; returns `false` if it was marked before, or is not late any more.
    pub(super) fn mark_late(&mut self, key: &Name, pod: &Pod) -> bool {
        let Some(sighting) = self.sightings.get_mut(key) else { return false };
        let by = sighting.next_step_by(pod);
        if by.is_none() || sighting.late == by {
            return false;
        }
        sighting.late = by;
        self.leftovers.insert(key.clone(), LeftoverReason::Late);
        true
    }

    /// Takes the next pod that should have come one step further at a time until which the watch has
    /// reported everything.
    pub(super) fn take_late(&mut self, reported_until: Timestamp) -> Option<Name> {
        self.awaited.first().filter(|(by, _)| *by <= reported_until)?;
        let (_, key) = self.awaited.pop_first()?;
        if let Some(sighting) = self.sightings.get_mut(&key) {
            sighting.awaited = None;
        }
        Some(key)
    }

    /// Returns the time at which the deletion of a miner's pod was first seen.
    pub(super) fn deletion_seen(&self, key: &str) -> Option<Timestamp> {
        self.deletions.get(key).copied()
    }

    /// Takes the time at which a pod's deletion was first seen.
    pub(super) fn take_deletion(&mut self, key: &Name) -> Option<Timestamp> {
        self.deletions.remove(key)
    }

    /// Takes the next pod that is due at `now`.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Name> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        let (_, key) = self.due.pop_first()?;
        if let Some(sighting) = self.sightings.get_mut(&key) {
            sighting.due = None;
        }
        Some(key)
    }

    /// Moves all times, because the clock was set.
    pub(super) fn move_times(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        for sighting in self.sightings.values_mut() {
            sighting.move_times(&moved);
        }
        for times in [&mut self.due, &mut self.awaited] {
            *times = std::mem::take(times).into_iter().map(|(at, key)| (moved(at), key)).collect();
        }
        for at in self.deletions.values_mut().chain(self.unreleased.0.values_mut()) {
            *at = moved(*at);
        }
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
            .filter_map(|(key, reason)| {
                let ended_at = self.sightings.get(key).and_then(|sighting| sighting.ended);
                Some(Leftover { pod: cluster.pod(key)?, reason: *reason, ended_at })
            })
            .collect();
        all.sort_unstable_by(|one, other| one.pod.key.cmp(&other.pod.key));
        all
    }

    /// Forgets the epochs of nodes that are gone with all their pods.
    pub(super) fn forget_nodes(&mut self, exists: impl Fn(&Name) -> bool) {
        let on_node = &self.on_node;
        self.epochs.retain(|(node, _), _| exists(node) || on_node.contains_key(node));
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
