//! The effects of Daylight's own writes, before the watches show them.
//!
//! Before a request is sent, its effect is foreseen, so that no plan made meanwhile repeats it. The
//! answer is then applied as if a watch had reported it, or the foreseen effect is withdrawn.
//! Nothing here overrides a newer observation of a watch. A foreseen end or state is withdrawn after
//! two minutes unless a watch confirms it, and a foreseen pod once the watch must have reported it.
//! What the server confirmed stays until a watch or a list shows otherwise.

use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_cluster::slim::{BatchJob, Custom, Pod};
use daylight_cluster::store::shared;
use daylight_crds::{ActivityClass, AiJob, GpuPool, Miner, Registration};
use daylight_planner::model::{Delta, JobState};
use rustc_hash::FxHashMap;

use super::View;

/// Time after which a foreseen end or state is withdrawn that nothing confirmed.
const FORESEEN_FOR: Duration = Duration::from_mins(2);

/// Effects that are not on the objects themselves yet.
#[derive(Debug, Default)]
pub(super) struct Foreseen {
    /// Pods that Daylight has requested to end: their UID, and the time of the request.
    endings: FxHashMap<Name, (Box<str>, Timestamp)>,
    /// States of jobs that Daylight is writing, and the time of the request.
    states: FxHashMap<Name, (JobState, Timestamp)>,
}

impl Foreseen {
    /// Returns `true` if Daylight has requested the end of exactly this pod.
    pub(super) fn ends(&self, pod: &Pod) -> bool {
        self.endings.get(&pod.key).is_some_and(|(uid, _)| *uid == pod.uid)
    }

    /// Returns `true` if Daylight has requested the end of a pod of this name.
    pub(super) fn ends_name(&self, key: &str) -> bool {
        self.endings.contains_key(key)
    }

    /// The state of a job that is being written.
    pub(super) fn state(&self, job: &str) -> Option<&JobState> {
        self.states.get(job).map(|(state, _)| state)
    }

    pub(super) fn forget_ending(&mut self, pod: &str) {
        self.endings.remove(pod);
    }

    pub(super) fn forget_state(&mut self, job: &str) {
        self.states.remove(job);
    }

    /// Moves all times, because the clock was set.
    pub(super) fn move_times(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        for (_, since) in self.endings.values_mut() {
            *since = moved(*since);
        }
        for (state, since) in self.states.values_mut() {
            *since = moved(*since);
            move_state(state, &moved);
        }
    }

    /// The time at which the first effect expires.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        let endings = self.endings.values().map(|(_, since)| *since);
        let states = self.states.values().map(|(_, since)| *since);
        endings.chain(states).min().map(|since| since + FORESEEN_FOR)
    }
}

macro_rules! assume {
    ($name:ident, $store:ident, $type:ty, $changed:ident) => {
        /// Applies the API server's answer to a write.
        pub fn $name(&mut self, object: $type, now: Timestamp, out: &mut Vec<Delta>) {
            self.now = now;
            let changed = self.cluster.$store.assume(Box::new(object.into()), now);
            self.each(changed, out, Self::$changed);
        }
    };
}

impl View {
    assume!(assume_batch_job, batch_jobs, BatchJob, batch_job_changed);
    assume!(assume_pool, pools, GpuPool, pool_changed);
    assume!(assume_class, classes, ActivityClass, class_changed);
    assume!(assume_registration, registrations, Registration, registration_changed);
    assume!(assume_miner, miners, Miner, miner_changed);

    /// Applies the API server's answer to a write; a state foreseen with
    /// [`View::foresee_state`] ends.
    pub fn assume_ai_job(&mut self, job: AiJob, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = now;
        let job = Custom::from(job);
        let key = job.key.clone();
        self.foreseen.forget_state(&key);
        let changed = self.cluster.ai_jobs.assume(Box::new(job), now);
        self.each(changed, out, Self::ai_job_changed);
        if self.warm {
            self.emit_job(&key, out);
        }
    }

    /// Applies the pod with which the API server answered a POST or a DELETE.
    pub fn assume_pod(&mut self, pod: Pod, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = now;
        let changed = self.cluster.pods.assume(shared(pod, &mut self.cluster.names), now);
        self.pods_changed(changed, out);
    }

    /// Adds a pod that is about to be created, read from the JSON that is to be sent. From now on
    /// the planner counts it.
    pub fn foresee_pod(&mut self, mut pod: Pod, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = now;
        if pod.created == Timestamp::default() {
            // In whole seconds, as the server will write it.
            pod.created = Timestamp(now.0 - now.0.rem_euclid(1000));
        }
        // Until the server answers, it counts with what admission will add to it.
        let miner = pod.lease.as_ref().and_then(|lease| self.emitted.miners.get(&lease.miner));
        if let Some(shape) = miner.map(|miner| miner.shape) {
            let requests = &mut pod.requests;
            requests.cpu_milli = requests.cpu_milli.max(shape.cpu_milli);
            requests.memory = requests.memory.max(shape.memory);
        }
        let changed = self.cluster.pods.foresee(shared(pod, &mut self.cluster.names), now);
        self.pods_changed(changed, out);
    }

    /// Removes a pod that was foreseen: it was not created, and will not be.
    pub fn unforesee_pod(&mut self, key: &str, out: &mut Vec<Delta>) {
        let changed = self.cluster.pods.unforesee(key);
        self.pods_changed(changed, out);
    }

    /// Removes the pods that were foreseen and that no request is `under_way` for, because a list shows
    /// by now which of the requests had an effect.
    pub fn unforesee_pods(&mut self, under_way: impl Fn(&Name) -> bool, out: &mut Vec<Delta>) {
        let pods = self.cluster.pods();
        let foreseen = pods.filter(|pod| pod.uid.is_empty() && !under_way(&pod.key));
        let foreseen: Vec<Name> = foreseen.map(|pod| pod.key.clone()).collect();
        for key in foreseen {
            self.unforesee_pod(&key, out);
        }
    }

    /// Foresees the end of a pod that is about to be evicted or deleted: from now on it counts as
    /// one that is being deleted.
    pub fn foresee_end(&mut self, key: &str, uid: &str, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = now;
        let known = self.cluster.pod(key).filter(|pod| *pod.uid == *uid);
        if let Some(name) = known.map(|pod| pod.key.clone()) {
            self.foreseen.endings.insert(name.clone(), (uid.into(), now));
            self.emit_pod(&name, out);
        }
    }

    /// Withdraws the end of a pod: it was not evicted or deleted, and will not be.
    pub fn unforesee_end(&mut self, key: &str, out: &mut Vec<Delta>) {
        if let Some((name, _)) = self.foreseen.endings.remove_entry(key) {
            // It may have become late meanwhile.
            let pod = self.cluster.pod(&name);
            self.tracking.track(&name, pod, pod, self.now, false);
            self.emit_pod(&name, out);
        }
    }

    /// Removes the pod with this UID, which does not exist any more according to an answer.
    pub fn assume_gone(&mut self, key: &str, uid: &str, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = now;
        let changed = self.cluster.pods.assume_gone(key, uid);
        self.pods_changed(changed, out);
    }

    /// Foresees the state of a job that is about to be written.
    pub fn foresee_state(
        &mut self,
        job: &str,
        state: JobState,
        now: Timestamp,
        out: &mut Vec<Delta>,
    ) {
        self.now = now;
        let name = self.cluster.names.get(job);
        self.foreseen.states.insert(name.clone(), (state, now));
        self.emit_job(&name, out);
    }

    /// Withdraws the state of a job: it was not written, and will not be.
    pub fn unforesee_state(&mut self, job: &str, out: &mut Vec<Delta>) {
        if let Some((name, _)) = self.foreseen.states.remove_entry(job) {
            self.emit_job(&name, out);
        }
    }

    /// Withdraws the ends and states that nothing confirmed in time.
    pub(super) fn expire(&mut self, out: &mut Vec<Delta>) {
        let now = self.now;
        let endings = self.foreseen.endings.iter();
        for key in expired(endings.map(|(key, (_, since))| (key, *since)), now) {
            self.unforesee_end(&key, out);
        }
        let states = self.foreseen.states.iter();
        for key in expired(states.map(|(key, (_, since))| (key, *since)), now) {
            self.unforesee_state(&key, out);
        }
    }

    /// Withdraws the pods that were foreseen so long ago that the watch must have reported them.
    pub(super) fn expire_pods(&mut self, out: &mut Vec<Delta>) {
        let changed = self.cluster.pods.expire(self.pods_reported_until);
        self.pods_changed(changed, out);
    }
}

/// Moves the time in a state of a job.
pub(super) fn move_state(state: &mut JobState, moved: impl Fn(Timestamp) -> Timestamp) {
    match state {
        JobState::Queued { suspended_at: Some(at), .. }
        | JobState::Released { at, .. }
        | JobState::Running { since: at } => *at = moved(*at),
        JobState::Queued { suspended_at: None, .. }
        | JobState::Reserved { .. }
        | JobState::External { .. }
        | JobState::Finished => {}
    }
}

/// The effects that were foreseen too long ago, sorted.
fn expired<'a>(foreseen: impl Iterator<Item = (&'a Name, Timestamp)>, now: Timestamp) -> Vec<Name> {
    let late = foreseen.filter(|(_, since)| now >= *since + FORESEEN_FOR);
    let mut late: Vec<Name> = late.map(|(key, _)| key.clone()).collect();
    late.sort_unstable();
    late
}
