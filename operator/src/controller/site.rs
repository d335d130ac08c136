//! What the main loop knows: the picture, and what follows from it and is not told yet.

use std::time::{Duration, Instant};

use daylight_base::{Name, Timestamp};
use daylight_planner::model;
use daylight_planner::model::{Delta, JobState, Role};
use rustc_hash::FxHashMap;

use super::events::Events;
use super::executor::gang_refusals::GangRefusals;
use super::executor::refusals::Refusals;
use super::metrics::Metrics;
use crate::clock::wall_clock;
use crate::view::View;
use daylight_cluster::slim::PodFailure;

/// What the main loop knows.
pub struct Site {
    pub view: View,
    /// What the index said for the planner, and the planner was not told yet.
    pub deltas: Vec<Delta>,
    /// What users are to be told.
    pub events: Events,
    pub metrics: Metrics,
    /// Miners that get no more for a while.
    pub refusals: Refusals,
    /// Why a miner's pod failed last, until one is ready again.
    pub failures: FxHashMap<Name, PodFailure>,
    /// AIJobs whose pods it does not take.
    pub gang_refusals: GangRefusals,
    /// Now, by the wall clock and by the monotonic one.
    pub now: Timestamp,
    /// See `now`.
    pub instant: Instant,
    miners: FxHashMap<Name, model::Miner>,
    /// AIJobs that do not run yet, and since when they wait.
    waiting_jobs: FxHashMap<Name, Timestamp>,
    /// Pods for which kube-scheduler displaces others, and since when.
    displacing: FxHashMap<Name, Timestamp>,
}

/// An object's creation is told in whole seconds: one that is seen within that time of it was
/// created when it was seen.
const JUST_CREATED: Duration = Duration::from_secs(2);

impl Site {
    /// Nothing is known yet.
    pub fn new(view: View, events: Events, metrics: Metrics) -> Self {
        let now = wall_clock();
        Self {
            view,
            deltas: Vec::new(),
            events,
            metrics,
            refusals: Refusals::default(),
            failures: FxHashMap::default(),
            gang_refusals: GangRefusals::default(),
            now,
            instant: Instant::now(),
            miners: FxHashMap::default(),
            waiting_jobs: FxHashMap::default(),
            displacing: FxHashMap::default(),
        }
    }

    /// Looks at the clocks. Caps of refused miners that end in between are lifted.
    pub fn tick(&mut self) {
        let before = self.instant;
        self.instant = Instant::now();
        self.now = wall_clock();
        for miner in self.refusals.lifted(before, self.instant) {
            self.tell_again(&miner);
        }
    }

    /// The planner is told of the miner once more, with the cap that holds now.
    pub fn tell_again(&mut self, miner: &str) {
        if let Some(miner) = self.miners.get(miner) {
            self.deltas.push(Delta::Miner(miner.clone()));
        }
    }

    /// Takes the deltas out, for the planner.
    pub fn take_deltas(&mut self) -> Vec<Delta> {
        let mut deltas = std::mem::take(&mut self.deltas);
        for delta in &mut deltas {
            match delta {
                Delta::Miner(miner) => {
                    self.miners.insert(miner.key.clone(), miner.clone());
                    if let Some(cap) = self.refusals.cap(&miner.key, self.instant) {
                        miner.replicas = miner.replicas.min(cap);
                    }
                }
                Delta::MinerGone(key) => {
                    self.miners.remove(key);
                    self.refusals.forget(key);
                    self.failures.remove(key);
                }
                Delta::Job(job) => self.note_job(job),
                Delta::JobGone(key) => {
                    self.waiting_jobs.remove(key);
                }
                Delta::Pod(pod) => {
                    let other = matches!(pod.role, Role::Other { .. });
                    if other && pod.node.is_none() && pod.nominated.is_some() {
                        self.displacing.entry(pod.key.clone()).or_insert(self.now);
                    }
                }
                Delta::PodGone(key) => {
                    self.displacing.remove(key);
                }
                _ => {}
            }
        }
        deltas
    }

    fn note_job(&mut self, job: &model::Job) {
        match job.state {
            JobState::Running { .. } | JobState::Finished => {}
            _ => {
                let seen = self.now.since(job.created) < JUST_CREATED;
                let since = if seen { self.now } else { job.created };
                self.waiting_jobs.entry(job.key.clone()).or_insert(since);
            }
        }
    }

    /// How long an AIJob waited until now, as it begins to run.
    pub fn waited(&mut self, job: &str) -> Option<Duration> {
        self.waiting_jobs.remove(job).map(|since| self.now.since(since))
    }

    /// How long kube-scheduler waited for those that it displaced for a pod, which is bound now.
    pub fn displaced_for(&mut self, pod: &str) -> Duration {
        self.displacing.remove(pod).map_or(Duration::ZERO, |since| self.now.since(since))
    }

    /// Replicas of a miner that exist and have not ended.
    pub fn held(&self, miner: &str) -> u32 {
        let is_held = |pod: &&daylight_cluster::slim::Pod| {
            !pod.is_terminal()
                && !pod.uid.is_empty()
                && pod.lease.as_ref().is_some_and(|lease| *lease.miner == *miner)
        };
        self.view.cluster().pods().filter(is_held).count() as u32
    }
}
