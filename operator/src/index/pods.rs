//! Pods: what they are to Daylight, and what their comings and goings mean.

use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_planner::model;
use daylight_planner::model::{Delta, Role};

use super::preemption::SETTLE;
use super::quarantine::LONG_ENOUGH;
use super::slim::{Phase, Pod, Trouble};
use super::store::Touched;
use super::{Index, Why};

/// How long a miner's pod may take to be bound, since its node was chosen because it fits; and then
/// until its node has prepared all but its image.
const STEP_WITHIN: Duration = Duration::from_mins(1);

/// By when a miner's pod has to be one step further, if somebody else has to take it.
fn next_step_by(pod: &Pod) -> Option<Timestamp> {
    let lease = pod.lease.as_ref()?;
    let waits = pod.node.is_none() || lease.unprepared;
    waits.then(|| pod.bound_at.unwrap_or(pod.created) + STEP_WITHIN)
}

/// Something that happened, for metrics and events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A pod that is not a miner's, and asks for a pool's resource, was bound.
    AiPodBound {
        pod: Name,
        /// Its class, if it declares one.
        class: Option<Name>,
        /// The pool of its node.
        pool: Option<Name>,
        /// From its creation to its binding, as Daylight saw it.
        waited: Duration,
    },
    /// A miner's pod ended.
    MinerEnded {
        pod: Name,
        /// The pool it was granted in.
        pool: Name,
        phase: Phase,
        miner: Name,
        /// Whether it failed by itself.
        failed: bool,
        /// Why, where that is known.
        trouble: Option<Box<Trouble>>,
        /// How long it ran, where that is known.
        ran: Option<Duration>,
        /// From when its deletion was seen to its end, if it was deleted.
        drained_for: Option<Duration>,
    },
    /// The container of a miner's pod cannot be started.
    MinerStuck { miner: Name, trouble: Box<Trouble> },
    /// A miner's pod became ready.
    MinerReady { miner: Name },
    /// An AIJob was deleted. It may be said more than once.
    AiJobGone {
        /// Its namespace and name.
        job: Name,
    },
}

impl Index {
    pub(super) fn share_pod(&mut self, pod: &mut Pod) {
        let names = &mut self.names;
        if let Some(lease) = &mut pod.lease {
            names.share(&mut lease.miner);
            names.share(&mut lease.registration);
            names.share(&mut lease.pool);
            names.share(&mut lease.image);
        }
        for name in [
            &mut pod.ai_job,
            &mut pod.activity,
            &mut pod.registration,
            &mut pod.node,
            &mut pod.pinned,
            &mut pod.nominated,
            &mut pod.reason,
        ] {
            names.share_some(name);
        }
        for (resource, _) in &mut pod.requests.extended {
            names.share(resource);
        }
    }

    pub(super) fn pods_touched(&mut self, touched: Vec<Touched<Pod>>, out: &mut Vec<Delta>) {
        self.each(touched, out, |index, Touched { key, before }, out| {
            let nodes = index.track_pod(&key, before.as_deref());
            index.tell_pod(&key, out);
            for node in nodes {
                index.tell_node(&node, out);
            }
        });
        self.tell_drawn(out);
    }

    /// Keeps what is derived from a pod; gives the nodes that are to be told again.
    pub(super) fn track_pod(&mut self, key: &Name, before: Option<&Pod>) -> Vec<Name> {
        let after = self.pods.get(key);
        let mut nodes = Vec::new();

        let (was, is) = (before.and_then(spot), after.and_then(spot));
        if was != is {
            if let Some(node) = was
                && let Some(pods) = self.on_node.get_mut(node)
            {
                pods.remove(key);
                if pods.is_empty() {
                    self.on_node.remove(node);
                }
            }
            if let Some(node) = is {
                self.on_node.entry(node.clone()).or_default().insert(key.clone());
            }
            // A node outside of all pools is told of while miners are on it.
            nodes.extend(was.into_iter().chain(is).cloned());
        }

        let (was, is) =
            (before.and_then(|pod| pod.ai_job.as_ref()), after.and_then(|pod| pod.ai_job.as_ref()));
        if was != is {
            if let Some(job) = was
                && let Some(pods) = self.workers.get_mut(job)
            {
                pods.remove(key);
                if pods.is_empty() {
                    self.workers.remove(job);
                }
            }
            if let Some(job) = is {
                self.workers.entry(job.clone()).or_default().insert(key.clone());
            }
        }

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
                && since + SETTLE > self.now
            {
                self.due.insert((since + SETTLE, key.clone()));
            }
        }

        match after.and_then(|pod| Some((pod, pod.lease.as_ref()?))) {
            Some((pod, lease)) => {
                if let Some(node) = pod.place() {
                    let highest =
                        self.epochs.entry((node.clone(), lease.slot)).or_insert(lease.epoch);
                    *highest = lease.epoch.max(*highest);
                }
                if pod.is_terminal() {
                    self.leftovers.insert(key.clone(), Why::Ended);
                } else if pod.stuck().is_some() {
                    self.leftovers.insert(key.clone(), Why::NeverStarts);
                } else {
                    let by = next_step_by(pod);
                    let late = by.is_some_and(|by| by <= self.now);
                    if !late {
                        self.leftovers.remove(key);
                    }
                    if let Some(by) = by
                        && !self.leftovers.contains_key(key)
                    {
                        self.due.insert((by, key.clone()));
                    }
                }
            }
            None => {
                self.leftovers.remove(key);
            }
        }

        if after.is_some_and(|pod| pod.metered && pod.is_terminal()) {
            self.unreleased.entry(key.clone()).or_insert(self.now);
        } else {
            self.unreleased.remove(key);
        }

        let deleting = after.is_some_and(|pod| pod.lease.is_some() && pod.deletion.is_some());
        if deleting {
            self.deletions.entry(key.clone()).or_insert(self.now);
        }

        let over = after.is_none_or(Pod::is_terminal);
        let ended = over && before.is_none_or(|pod| !pod.is_terminal());
        let last = self.pods.get(key).map(|pod| pod as &Pod).or(before);
        if let Some(last) = last.filter(|last| ended && last.lease.is_some()).cloned()
            && let Some(registration) = self.note_drawn(&last)
        {
            self.drawn.insert(registration);
        }
        nodes.extend(self.note_beginning(key, before));
        nodes.extend(self.note_end(key, before));
        if over {
            self.ending.remove(key);
        }
        self.note_binding(key, before);
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// How a miner's pod begins: that it is ready, or cannot be started; gives the node that this
    /// means something for.
    fn note_beginning(&mut self, key: &Name, before: Option<&Pod>) -> Option<Name> {
        let pod = self.pods.get(key)?;
        let lease = pod.lease.as_ref()?;
        let miner = lease.miner.clone();
        if pod.ready && before.is_none_or(|pod| !pod.ready) {
            self.seen.push(Seen::MinerReady { miner });
            return None;
        }
        let trouble = pod.stuck().filter(|_| before.is_none_or(|pod| pod.stuck().is_none()))?;
        let trouble = Box::new(trouble.clone());
        let node = pod.place().filter(|_| !trouble.own).cloned();
        if let Some(node) = &node {
            let memory = self.memories.entry(node.clone()).or_default();
            memory.quarantine.failed(lease.slot, self.now);
        }
        self.seen.push(Seen::MinerStuck { miner, trouble });
        node
    }

    /// What the end of a pod means for its node; gives the node if it means anything.
    fn note_end(&mut self, key: &Name, before: Option<&Pod>) -> Option<Name> {
        let after = self.pods.get(key);
        let ended =
            before.is_none_or(|pod| !pod.is_terminal()) && after.is_none_or(Pod::is_terminal);
        let last = after.or(before).filter(|_| ended)?;
        let node = last.place()?.clone();
        // A node that is gone needs no memory.
        self.nodes.get(&node)?;
        let Some(lease) = &last.lease else {
            let held = before.is_some_and(|pod| pod.node.is_some())
                && last
                    .requests
                    .extended
                    .iter()
                    .any(|(resource, _)| self.resources.contains(resource));
            if held {
                let memory = self.memories.entry(node.clone()).or_default();
                memory.ai_released_at = Some(self.now);
            }
            return held.then_some(node);
        };
        let ended_at = last.finished_at.unwrap_or(self.now).min(self.now);
        let asked_to = self.ending.get(key).is_some_and(|(uid, _)| **uid == *last.uid);
        let deliberate = last.disrupted || last.reason.as_deref().is_some_and(is_deliberate);
        let put_out = last.trouble.as_ref().is_some_and(|trouble| trouble.put_out);
        let failed = after.is_some()
            && !asked_to
            && last.deletion.is_none()
            && (put_out || last.phase == Phase::Failed && !deliberate);
        let ran = last.started_at.map(|at| ended_at.since(at));
        let memory = self.memories.entry(node.clone()).or_default();
        if ran.is_some_and(|ran| ran >= LONG_ENOUGH) {
            memory.quarantine.succeeded(lease.slot);
        }
        let trouble = last.trouble.clone().filter(|_| failed);
        // What a miner would meet everywhere is no reason to keep others from here.
        if failed && !trouble.as_ref().is_some_and(|trouble| trouble.own) {
            memory.quarantine.failed(lease.slot, ended_at);
        }
        let drained_for = self.deletions.remove(key).map(|since| self.now.since(since));
        self.seen.push(Seen::MinerEnded {
            pod: key.clone(),
            miner: lease.miner.clone(),
            pool: lease.pool.clone(),
            phase: last.phase,
            failed,
            trouble,
            ran,
            drained_for,
        });
        Some(node)
    }

    /// Notes that a pod which is not a miner's got its GPUs.
    fn note_binding(&mut self, key: &Name, before: Option<&Pod>) {
        let Some(pod) = self.pods.get(key) else {
            return;
        };
        let Some(node) = &pod.node else { return };
        if pod.lease.is_some() || before.is_none_or(|pod| pod.node.is_some()) {
            return;
        }
        let Some((resource, _)) =
            pod.requests.extended.iter().find(|(resource, _)| self.resources.contains(resource))
        else {
            return;
        };
        self.seen.push(Seen::AiPodBound {
            pod: key.clone(),
            class: self.class_of(pod),
            pool: self.pool_of(node, resource).cloned(),
            waited: self.now.since(pod.created),
        });
    }

    /// The time that a pod was given has passed.
    pub(super) fn pod_due(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let Some(pod) = self.pods.get(key) else {
            return;
        };
        let late = pod.lease.as_ref().filter(|_| {
            !pod.is_terminal()
                && pod.deletion.is_none()
                && next_step_by(pod).is_some_and(|by| by <= self.now)
                && !self.ending.contains_key(key)
        });
        if let (Some(lease), Some(node)) = (late, pod.place().cloned()) {
            let (slot, miner, bound) = (lease.slot, lease.miner.clone(), pod.node.is_some());
            if self.leftovers.insert(key.clone(), Why::Late).is_none() {
                let memory = self.memories.entry(node.clone()).or_default();
                memory.quarantine.failed(slot, self.now);
                if bound {
                    let trouble = Box::new(Trouble::unprepared());
                    self.seen.push(Seen::MinerStuck { miner, trouble });
                }
                self.tell_node(&node, out);
            }
        }
        self.tell_pod(key, out);
    }

    pub(super) fn tell_pod(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let view = self.pods.get(key).and_then(|pod| self.pod_view(pod));
        self.given.pod(key, view, out);
    }

    fn pod_view(&self, pod: &Pod) -> Option<model::Pod> {
        if pod.is_terminal() {
            return None;
        }
        let role = self.role(pod);
        let gpus: Vec<_> = pod
            .requests
            .extended
            .iter()
            .filter(|(resource, _)| self.resources.contains(resource))
            .cloned()
            .collect();
        let counts = !gpus.is_empty()
            || !matches!(role, Role::Other { .. })
            || pod.node.as_ref().is_some_and(|node| self.is_in_pool(node));
        counts.then(|| model::Pod {
            key: pod.key.clone(),
            node: pod.place().cloned(),
            nominated: pod.nominated.clone(),
            gpus,
            cpu_milli: pod.requests.cpu_milli,
            memory: pod.requests.memory,
            created: pod.created,
            deleting: pod.deletion.is_some()
                || self.ending.get(&pod.key).is_some_and(|(uid, _)| *uid == pod.uid),
            role,
        })
    }

    fn role(&self, pod: &Pod) -> Role {
        if let Some(lease) = pod.lease.as_ref().filter(|_| pod.place().is_some()) {
            return Role::Miner {
                miner: lease.miner.clone(),
                registration: lease.registration.clone(),
                pool: lease.pool.clone(),
                slot: lease.slot,
                revision: lease.revision,
                watts: lease.watts,
            };
        }
        if let Some(job) = &pod.ai_job
            && self.is_worker(pod, job)
        {
            return Role::Worker { job: job.clone() };
        }
        Role::Other { class: self.class_of(pod), preemption: self.preemption(pod) }
    }

    /// Whether a pod belongs to an `AIJob`. Its label alone proves nothing: the
    /// chain of owners must lead from the pod over the Job to the `AIJob`.
    fn is_worker(&self, pod: &Pod, job: &str) -> bool {
        let Some(owner) = pod.owner.as_ref().filter(|owner| owner.is_job) else {
            return false;
        };
        let (Some(batch_job), Some(ai_job)) = (self.batch_jobs.get(job), self.ai_jobs.get(job))
        else {
            return false;
        };
        owner.uid == batch_job.uid && batch_job.owner == ai_job.uid
    }

    /// The class that a pod, or else its namespace, declares.
    pub fn class_of(&self, pod: &Pod) -> Option<Name> {
        pod.activity.clone().or_else(|| {
            let namespace = self.namespaces.get(pod.namespace())?;
            namespace.activity.clone()
        })
    }

    pub(super) fn namespace_touched(
        &mut self,
        Touched { key, before }: Touched<super::Namespace>,
        out: &mut Vec<Delta>,
    ) {
        let (before, after) = (before.as_deref(), self.namespaces.get(&key));
        let ends = |namespace: Option<&super::Namespace>| {
            namespace.is_some_and(|namespace| namespace.deleting)
        };
        let activity = |namespace: Option<&super::Namespace>| {
            namespace.and_then(|namespace| namespace.activity.clone())
        };
        let same_activity = activity(before) == activity(after);
        if ends(before) != ends(after) {
            self.tell_miners_in(&key, out);
        }
        if same_activity {
            return;
        }
        let mut pods: Vec<Name> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.activity.is_none() && pod.namespace() == &*key)
            .map(|(key, _)| key.clone())
            .collect();
        pods.sort_unstable();
        for pod in pods {
            self.tell_pod(&pod, out);
        }
    }
}

/// The node on which a pod holds something.
fn spot(pod: &Pod) -> Option<&Name> {
    pod.place().filter(|_| !pod.is_terminal())
}

/// Whether a pod that failed for this reason was ended, as opposed to broken.
fn is_deliberate(reason: &str) -> bool {
    matches!(reason, "DeadlineExceeded" | "Preempting" | "NodeShutdown" | "Shutdown" | "Terminated")
}
