//! What Daylight has done itself, before the watches show it.
//!
//! Before a request is sent, what it will do is foreseen, so that no plan made
//! meanwhile does it again; the answer is then taken in as if a watch had seen it,
//! or what was foreseen is taken back. Nothing here undoes what a watch tells
//! that is newer, and nothing here lasts longer than two minutes if no watch
//! confirms it.

use daylight_base::{Name, Timestamp};
use daylight_crds::{ActivityClass, AiJob, GpuPool, Miner, Registration};
use daylight_planner::model::{Delta, JobState};

use super::Index;
use super::slim::{BatchJob, Custom, Pod};
use super::store::ASSUMED_FOR;

macro_rules! assume {
    ($name:ident, $store:ident, $type:ty, $touched:ident) => {
        /// Takes in what the API server answered to a write.
        pub fn $name(&mut self, object: $type, now: Timestamp, out: &mut Vec<Delta>) {
            self.now = self.now.max(now);
            let touched = self.$store.assume(Box::new(object.into()), now);
            self.each(touched, out, Self::$touched);
        }
    };
}

impl Index {
    assume!(assume_batch_job, batch_jobs, BatchJob, batch_job_touched);
    assume!(assume_pool, pools, GpuPool, pool_touched);
    assume!(assume_class, classes, ActivityClass, class_touched);
    assume!(assume_registration, registrations, Registration, registration_touched);
    assume!(assume_miner, miners, Miner, miner_touched);

    /// Takes in what the API server answered to a write; a state foreseen with
    /// [`Index::foresee_state`] ends.
    pub fn assume_ai_job(&mut self, job: AiJob, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = self.now.max(now);
        let job = Custom::from(job);
        let key = job.key.clone();
        self.states.remove(&key);
        let touched = self.ai_jobs.assume(Box::new(job), now);
        self.each(touched, out, Self::ai_job_touched);
        if self.warm {
            self.tell_job(&key, out);
        }
    }

    /// Takes in the pod that the API server answered with, to a POST or a DELETE.
    pub fn assume_pod(&mut self, mut pod: Pod, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = self.now.max(now);
        self.share_pod(&mut pod);
        let touched = self.pods.assume(Box::new(pod), now);
        self.pods_touched(touched, out);
    }

    /// Foresees a pod that is about to be created: read it from the JSON that is
    /// to be sent. From now on the planner counts it.
    pub fn foresee_pod(&mut self, mut pod: Pod, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = self.now.max(now);
        self.share_pod(&mut pod);
        if pod.created == Timestamp::default() {
            // To the second, as the server will have it.
            pod.created = Timestamp(now.0 - now.0.rem_euclid(1000));
        }
        let touched = self.pods.foresee(Box::new(pod), now);
        self.pods_touched(touched, out);
    }

    /// The pod that was foreseen was not created, and will not be.
    pub fn unforesee_pod(&mut self, key: &str, out: &mut Vec<Delta>) {
        let touched = self.pods.unforesee(key);
        self.pods_touched(touched, out);
    }

    /// Foresees the end of a pod that is about to be evicted or deleted: from now
    /// on it counts as one that is being deleted.
    pub fn foresee_end(&mut self, key: &str, uid: &str, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = self.now.max(now);
        let known = self.pods.get(key).filter(|pod| *pod.uid == *uid);
        if let Some(name) = known.map(|pod| pod.key.clone()) {
            self.ending.insert(name.clone(), (uid.into(), now));
            self.tell_pod(&name, out);
        }
    }

    /// The pod was not evicted or deleted, and will not be.
    pub fn unforesee_end(&mut self, key: &str, out: &mut Vec<Delta>) {
        if let Some((name, _)) = self.ending.remove_entry(key) {
            // It may have been unbound for too long meanwhile.
            self.pod_due(&name, out);
        }
    }

    /// The API server said that the pod with this UID does not exist any more.
    pub fn assume_gone(&mut self, key: &str, uid: &str, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = self.now.max(now);
        let touched = self.pods.assume_gone(key, uid);
        self.pods_touched(touched, out);
    }

    /// Foresees the state of a job that is about to be written.
    pub fn foresee_state(
        &mut self,
        job: &str,
        state: JobState,
        now: Timestamp,
        out: &mut Vec<Delta>,
    ) {
        self.now = self.now.max(now);
        let name = self.names.get(job);
        self.states.insert(name.clone(), (state, now));
        self.tell_job(&name, out);
    }

    /// The state was not written, and will not be.
    pub fn unforesee_state(&mut self, job: &str, out: &mut Vec<Delta>) {
        if let Some((name, _)) = self.states.remove_entry(job) {
            self.tell_job(&name, out);
        }
    }

    /// Gives up what nothing confirmed in time.
    pub(super) fn expire(&mut self, out: &mut Vec<Delta>) {
        let now = self.now;
        let touched = self.pods.expire(now);
        self.pods_touched(touched, out);
        self.batch_jobs.settle(now);
        self.pools.settle(now);
        self.classes.settle(now);
        self.registrations.settle(now);
        self.miners.settle(now);
        self.ai_jobs.settle(now);
        for key in late(self.ending.iter().map(|(key, (_, since))| (key, *since)), now) {
            self.unforesee_end(&key, out);
        }
        for key in late(self.states.iter().map(|(key, (_, since))| (key, *since)), now) {
            self.unforesee_state(&key, out);
        }
    }

    /// When the first of it has to be given up.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        let ending = self.ending.values().map(|(_, since)| *since);
        let states = self.states.values().map(|(_, since)| *since);
        let first = ending.chain(states).min().map(|since| since + ASSUMED_FOR);
        [first, self.pods.expires_at()].into_iter().flatten().min()
    }
}

/// What was foreseen too long ago, sorted.
fn late<'a>(foreseen: impl Iterator<Item = (&'a Name, Timestamp)>, now: Timestamp) -> Vec<Name> {
    let mut late: Vec<Name> = foreseen
        .filter(|(_, since)| now >= *since + ASSUMED_FOR)
        .map(|(key, _)| key.clone())
        .collect();
    late.sort_unstable();
    late
}
