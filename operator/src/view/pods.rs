//! Pods: their role, and the meaning of their beginnings and ends.

use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_cluster::Changed;
use daylight_cluster::slim::{Lease, Namespace, Phase, Pod, PodFailure};
use daylight_planner::model;
use daylight_planner::model::{Activity, Delta, Role};

use super::quarantine::LONG_ENOUGH;
use super::{Observation, View};

/// A miner runs until it is stopped. One that ends before this time, even without an error, would do so
/// again at once.
const EARLY: Duration = Duration::from_mins(1);

impl View {
    pub(super) fn pods_changed(&mut self, changed: Vec<Changed<Pod>>, out: &mut Vec<Delta>) {
        self.each(changed, out, |view, Changed { key, before }, out| {
            let nodes = view.track_pod(&key, before.as_deref());
            view.emit_pod(&key, out);
            view.note_created(&key, out);
            for node in nodes {
                view.emit_node(&node, out);
            }
        });
        self.emit_drawn(out);
    }

    /// Updates everything derived from a pod; returns the nodes that have to be evaluated again.
    ///
    /// Both states matter, not the event: an end may be observed as a deletion, as a terminal
    /// phase, as a gap between two lists, or as an answer to Daylight's own request, and may be
    /// observed more than once. Each step below therefore compares the former state with the
    /// present one, and counts an end only when the pod was not over before.
    pub(super) fn track_pod(&mut self, key: &Name, before: Option<&Pod>) -> Vec<Name> {
        let after = self.cluster.pod(key);
        let mut nodes = self.tracking.track(key, before, after, self.now, self.starting);

        let over = after.is_none_or(Pod::is_terminal);
        // A pod that is new and terminal counts as an end, too: the process has just started, or
        // the pod was created and ended between two lists.
        let ended = over && before.is_none_or(|pod| !pod.is_terminal());
        let last = after.or(before);
        if let Some(last) = last.filter(|_| ended) {
            self.energy.lease_ended(last, self.now);
        }
        nodes.extend(self.note_beginning(key, before));
        if ended {
            nodes.extend(self.note_end(key, before));
        }
        // After `note_end`, which has to know whether Daylight requested the end.
        if over {
            self.foreseen.forget_ending(key);
            // A later event of the terminal pod noted its deletion again.
            self.tracking.take_deletion(key);
        }
        self.note_binding(key, before);
        self.recount(key);
        self.note_registered(key);
        nodes.sort_unstable();
        nodes.dedup();
        debug_assert!(
            !over || !self.foreseen.ends_name(key),
            "no end of {key} is foreseen any more"
        );
        nodes
    }

    /// Notes that a miner's pod is ready or cannot be started; returns its node if the node has
    /// to be evaluated again.
    fn note_beginning(&mut self, key: &Name, before: Option<&Pod>) -> Option<Name> {
        let pod = self.cluster.pod(key)?;
        let lease = pod.lease.as_ref()?;
        let miner = lease.miner.clone();
        if pod.ready && before.is_none_or(|pod| !pod.ready) {
            self.observations.push(Observation::MinerReady { miner });
            return None;
        }
        let failure = pod.stuck().filter(|_| before.is_none_or(|pod| pod.stuck().is_none()))?;
        let failure = Box::new(failure.clone());
        // A failure that the miner would have on any node does not count against this one.
        let node = pod.place().filter(|_| !failure.own).cloned();
        if let Some(node) = &node {
            self.miner_failed(node, &miner, self.now);
        }
        self.observations.push(Observation::MinerStuck { miner, failure });
        node
    }

    /// Notes the end of a pod; returns its node if the node has to be evaluated again.
    fn note_end(&mut self, key: &Name, before: Option<&Pod>) -> Option<Name> {
        let after = self.cluster.pod(key);
        let last = after.or(before)?;
        let phase = last.phase;
        let deletion_seen = self.tracking.take_deletion(key);
        let node = last.place()?.clone();
        // A node that is gone needs no memory.
        self.cluster.node(&node)?;
        let Some(lease) = &last.lease else {
            let held = before.is_some_and(|pod| pod.node.is_some())
                && self.pools.first_of(&last.requests.extended).is_some();
            if held {
                self.memories.of(&node).ai_released_at = Some(self.now);
            }
            return held.then_some(node);
        };
        let ended_at = self.tracking.sighting(key).and_then(|it| it.ended).unwrap_or(self.now);
        // Both times are of the node's clock.
        let ran = last.started_at.map(|at| last.finished_at.unwrap_or(self.now).since(at));
        let by_itself = after.is_some() && !self.foreseen.ends(last) && ended_by_itself(last);
        let evicted = last.failure.as_ref().is_some_and(|failure| failure.evicted);
        let failed = by_itself && (evicted || phase == Phase::Failed);
        let early = by_itself && !failed && ran.is_none_or(|ran| ran < EARLY);
        let failed = failed || early;
        let failure = match early {
            true => Some(Box::new(PodFailure::ended_early(ran.unwrap_or_default()))),
            false => last.failure.clone().filter(|_| failed),
        };
        let drained_for = deletion_seen.map(|since| self.now.since(since));
        let Lease { miner, pool, .. } = &**lease;
        let (miner, pool) = (miner.clone(), pool.clone());
        if ran.is_some_and(|ran| ran >= LONG_ENOUGH) {
            self.memories.of(&node).quarantine.succeeded(&miner);
        }
        // A failure that the miner would have on any node does not count against this one.
        if failed && !failure.as_ref().is_some_and(|failure| failure.own) {
            self.miner_failed(&node, &miner, ended_at);
        }
        self.observations.push(Observation::MinerEnded {
            pod: key.clone(),
            miner,
            pool,
            phase,
            failed,
            failure,
            ran,
            drained_for,
        });
        Some(node)
    }

    /// Notes that a pod of a miner failed on a node. A miner that works there shows that the node is not
    /// the cause.
    fn miner_failed(&mut self, node: &Name, miner: &Name, at: Timestamp) {
        let mut there = self.tracking.on_node(node).filter_map(|key| self.cluster.pod(key));
        let others_work = there.any(|pod| {
            let other = pod.lease.as_ref().is_some_and(|lease| lease.miner != *miner);
            other && pod.ready && pod.started_at.is_some_and(|started| at.since(started) >= EARLY)
        });
        self.memories.of(node).quarantine.failed(miner, at, others_work);
    }

    /// Notes that a pod which is not a miner's received its GPUs.
    fn note_binding(&mut self, key: &Name, before: Option<&Pod>) {
        let Some(pod) = self.cluster.pod(key) else { return };
        let Some(node) = &pod.node else { return };
        // Without a former state the pod is from a list, and was bound at an unknown time before.
        if pod.lease.is_some() || before.is_none_or(|pod| pod.node.is_some()) {
            return;
        }
        let Some((resource, _)) = self.pools.first_of(&pod.requests.extended) else { return };
        self.observations.push(Observation::AiPodBound {
            pod: key.clone(),
            class: self.cluster.class_of(pod),
            pool: self.pool_of(node, resource).cloned(),
            waited: self.now.since(self.created(pod)),
        });
    }

    /// Judges the pods that should have come one step further by now. What the watch reported counts
    /// only until the time up to which it is known to be complete: a silent watch proves nothing.
    pub(super) fn judge_late_pods(&mut self, out: &mut Vec<Delta>) {
        while let Some(key) = self.tracking.take_late(self.pods_reported_until) {
            self.judge_late_pod(&key, out);
        }
    }

    fn judge_late_pod(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let Some(pod) = self.cluster.pod(key) else { return };
        let awaited = !pod.is_terminal() && pod.deletion.is_none() && !self.foreseen.ends_name(key);
        let Some(lease) = pod.lease.as_ref().filter(|_| awaited) else { return };
        if let Some(node) = pod.place().cloned()
            && self.tracking.mark_late(key, pod)
        {
            let failure = match pod.node {
                Some(_) if pod.own_ended => {
                    pod.failure.as_deref().cloned().unwrap_or_else(PodFailure::kept_running)
                }
                Some(_) => PodFailure::unprepared(),
                None => PodFailure::unschedulable(),
            };
            let miner = lease.miner.clone();
            // One that requests more than was planned says nothing about the node.
            if !failure.own && !self.created.raised(&miner) {
                self.miner_failed(&node, &miner, self.now);
            }
            self.observations.push(Observation::MinerStuck { miner, failure: Box::new(failure) });
            self.emit_node(&node, out);
        }
    }

    pub(super) fn emit_pod(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let view = self.cluster.pod(key).and_then(|pod| self.pod_view(pod));
        self.emitted.pod(key, view, out);
    }

    fn pod_view(&self, pod: &Pod) -> Option<model::Pod> {
        // A pod that is deleted before it was bound never starts: the API server refuses to bind it.
        if pod.is_terminal() || pod.node.is_none() && pod.deletion.is_some() {
            return None;
        }
        // A webhook took the pin from a miner's pod: it is removed, and counts nowhere until then.
        if pod.lease.is_some() && pod.place().is_none() {
            return None;
        }
        let role = self.role(pod);
        let extended = pod.requests.extended.iter();
        let gpus: Vec<_> =
            extended.filter(|(resource, _)| self.pools.has_resource(resource)).cloned().collect();
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
            huge_pages: pod.requests.huge_pages,
            created: self.created(pod),
            deleting: pod.deletion.is_some() || self.foreseen.ends(pod),
            // By this process's clock: that of the API server may be wrong.
            gone_by: self.tracking.deletion_seen(&pod.key).map(|seen| seen + pod.deletion_grace),
            by_claim: pod.by_claim.to_vec(),
            gates: pod.gates.to_vec(),
            role,
        })
    }

    /// The time at which a pod was first seen.
    fn created(&self, pod: &Pod) -> Timestamp {
        self.tracking.sighting(&pod.key).map_or(pod.created, |sighting| sighting.created)
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
            return Role::Worker { job: job.clone(), preemption: self.preemption(pod) };
        }
        Role::Other { activity: self.activity(pod), preemption: self.preemption(pod) }
    }

    fn activity(&self, pod: &Pod) -> Activity {
        match self.cluster.class_of(pod) {
            None => Activity::Undeclared,
            Some(class) if self.cluster.is_off_the_list(&class) => Activity::Unlisted,
            Some(class) => Activity::Listed(class),
        }
    }

    /// Emits the pods of a class that has come onto the positive list or left it.
    pub(super) fn emit_pods_of_class(&mut self, class: &Name, out: &mut Vec<Delta>) {
        let pods = self.cluster.pods();
        let of_class = pods.filter(|pod| self.cluster.class_of(pod).as_ref() == Some(class));
        let mut pods: Vec<Name> = of_class.map(|pod| pod.key.clone()).collect();
        pods.sort_unstable();
        for pod in pods {
            self.emit_pod(&pod, out);
        }
    }

    /// Returns `true` if a pod belongs to an `AIJob`.
    pub(super) fn is_worker(&self, pod: &Pod, job: &str) -> bool {
        self.cluster.ai_job_of(pod, job).is_some()
    }

    pub(super) fn namespace_changed(
        &mut self,
        Changed { key, before }: Changed<Namespace>,
        out: &mut Vec<Delta>,
    ) {
        let state = |namespace: Option<&Namespace>| {
            namespace.map_or((false, None), |one| (one.deleting, one.activity.clone()))
        };
        let (was_ending, former_class) = state(before.as_deref());
        let (is_ending, class) = state(self.cluster.namespace(&key));
        if was_ending != is_ending {
            self.emit_miners_in(&key, out);
            self.emit_jobs_in(&key, out);
        }
        if former_class == class {
            return;
        }
        let unclassed = |pod: &&Pod| pod.activity.is_none() && pod.namespace() == &*key;
        let pods = self.cluster.pods().filter(unclassed);
        let mut pods: Vec<Name> = pods.map(|pod| pod.key.clone()).collect();
        pods.sort_unstable();
        for pod in pods {
            self.recount(&pod);
            self.emit_pod(&pod, out);
        }
    }
}

/// Returns `true` if a pod ended because of its container, or its node evicted it, as opposed to being
/// ended on purpose.
fn ended_by_itself(pod: &Pod) -> bool {
    // Reasons that the kubelet and controllers set on pods that they end on purpose.
    let deliberate = ["DeadlineExceeded", "Preempting", "NodeShutdown", "Shutdown", "Terminated"];
    let on_purpose =
        pod.disrupted || pod.reason.as_deref().is_some_and(|reason| deliberate.contains(&reason));
    let evicted = pod.failure.as_ref().is_some_and(|failure| failure.evicted);
    pod.deletion.is_none() && (evicted || !on_purpose)
}
