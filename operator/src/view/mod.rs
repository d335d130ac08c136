//! The cluster in the planner's terms.
//!
//! [`View::apply`] applies the events of the watches and returns what changed for the planner, as
//! [`Delta`]s. It is synchronous and has no clock: time is an argument. Only this module knows both
//! Kubernetes objects and the planner's types.
//!
//! No delta is returned before every watch has listed once; then all are returned at once, so that
//! the planner never sees half a cluster.

mod admission;
mod assigned;
pub mod authority;
mod created;
pub mod digest;
mod emitted;
pub mod energy;
mod foreseen;
pub mod image_pattern;
mod jobs;
mod memories;
pub mod miners;
mod nodes;
mod observation;
mod pods;
pub mod pools;
mod preemption;
mod problems;
pub mod quarantine;
mod registered;
mod registrations;
mod renewals;
mod runtime_classes;
mod stop;
mod tracking;
mod windows;
mod work;

#[cfg(test)]
pub(crate) mod tests;

use std::time::{Duration, Instant};

use daylight_base::{Name, Timestamp};
use daylight_cluster::slim::Pod;
use daylight_cluster::{Changed, Cluster, Event, Kind, Touched, keys};
use daylight_planner::model;
use daylight_planner::model::{Delta, EmergencyStop, Snapshot};
use rustc_hash::FxHashMap;

pub use admission::Repair;
pub use assigned::{Assigned, assigned};
pub use observation::Observation;
pub use registered::RegisteredWork;
pub use tracking::{Leftover, LeftoverReason, Unreleased};
pub use work::{Running, Work, report_columns};

use admission::Mirror;
use assigned::AssignedSums;
use authority::Authority;
use created::Created;
use emitted::Emitted;
use energy::Energy;
use foreseen::Foreseen;
use jobs::{JobTimes, Templates};
use memories::Memories;
use pools::PoolMap;
use problems::Problems;
use registered::RegisteredPods;
use renewals::Renewals;
use tracking::Tracking;
use windows::CompiledWindows;
use work::WorkSums;

/// A clock that differs by this much from the time that has passed was set.
const CLOCK_STEP: Duration = Duration::from_millis(500);

/// Interval at which names are dropped that no object uses any more.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// The cluster in the planner's terms.
///
/// 0. [`View::tick`] whenever the clocks were read, before anything else.
/// 1. [`View::apply`] each event; the `assume_*`, `foresee_*` and `unforesee_*` functions apply
///    Daylight's own writes and their answers.
/// 2. [`View::refresh`] at [`View::wake_at`], or more often.
/// 3. Send the returned deltas to the planner, in order.
/// 4. [`View::take_observations`] for metrics and Events.
#[derive(Debug, Default)]
pub struct View {
    cluster: Cluster,
    started: Timestamp,
    now: Timestamp,
    /// The clocks as last read: the wall clock and the monotonic one.
    clocks: Option<(Timestamp, Instant)>,
    /// Time before which the watch of pods has reported every change.
    pods_reported_until: Timestamp,
    swept_at: Timestamp,
    /// `true` once every watch has listed and everything was sent.
    warm: bool,
    /// `true` while everything is sent for the first time.
    starting: bool,

    tracking: Tracking,
    foreseen: Foreseen,
    memories: Memories,
    pools: PoolMap,
    windows: CompiledWindows,
    templates: Templates,
    created: Created,
    job_times: JobTimes,
    authority: Authority,
    renewals: Renewals,
    energy: Energy,
    mirror: Mirror,
    problems: Problems,
    assigned: AssignedSums,
    registered: RegisteredPods,
    work: WorkSums,
    /// Kueue's Workloads by the AIJob that their Job is of.
    workloads: FxHashMap<Name, Name>,

    emitted: Emitted,
    observations: Vec<Observation>,
}

impl View {
    /// Creates an empty view; `started` is the time at which the process began to watch.
    pub fn new(started: Timestamp) -> Self {
        Self { started, now: started, energy: Energy::new(started), ..Self::default() }
    }

    /// Assumes, for read-only use, that every lease that ended before start-up has been metered.
    #[must_use]
    pub fn taking_readings_as_complete(mut self) -> Self {
        self.energy = Energy::default();
        self
    }

    /// Accepts no approval without the authority's signature.
    #[must_use]
    pub fn requiring_signatures(mut self, required: bool) -> Self {
        self.authority = Authority::new(required);
        self
    }

    /// Takes in both clocks. If the wall clock was set since the last call, everything that this view
    /// remembers stays as long ago as it was: a clock that is wrong for a while changes no decision
    /// for longer.
    pub fn tick(&mut self, now: Timestamp, instant: Instant, out: &mut Vec<Delta>) {
        let before = self.clocks.replace((now, instant));
        self.now = now;
        let Some((wall, at)) = before else { return };
        let expected = wall + instant.saturating_duration_since(at);
        let step = now.0.saturating_sub(expected.0);
        if u128::from(step.unsigned_abs()) >= CLOCK_STEP.as_millis() {
            tracing::warn!(
                seconds = step as f64 / 1000.0,
                "The clock of this machine was set, or the machine slept."
            );
            self.clock_was_set(step, out);
        }
    }

    fn clock_was_set(&mut self, step: i64, out: &mut Vec<Delta>) {
        let moved = |at: Timestamp| Timestamp(at.0.saturating_add(step));
        for time in [&mut self.started, &mut self.pods_reported_until, &mut self.swept_at] {
            *time = moved(*time);
        }
        self.cluster.move_times(moved);
        self.tracking.move_times(moved);
        self.foreseen.move_times(moved);
        self.memories.move_times(moved);
        self.job_times.move_times(moved);
        self.energy.move_times(moved);
        if self.warm {
            self.windows.forget_all();
            self.renewals.evaluate_from(self.now);
            self.emit_policies(out);
            self.emit_work(out);
            self.refresh_mirror(false, out);
        }
    }

    /// Applies an event that a watch reported at `now`; adds the deltas for the planner to `out`.
    pub fn apply(&mut self, event: Event, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = now;
        let current =
            event.current().and_then(|(kind, as_of)| Some((kind, self.wall_time_of(as_of)?)));
        if let Some((kind, reported_until)) = current {
            self.cluster.note_current(kind, reported_until);
        }
        let reported = current.filter(|(kind, _)| *kind == Kind::Pod).map(|(_, until)| until);
        let touched = self.cluster.apply(event);
        // The planner may grant under a registration only once the mirror contains it.
        let mirror_seen = matches!(touched, Touched::RegistrationMirror(_));
        let of_mirrors =
            matches!(touched, Touched::ClassMirror(_) | Touched::ActivityClass(_)) || mirror_seen;
        self.mirror.changes += u64::from(of_mirrors);
        match touched {
            Touched::Pod(changed) => self.pods_changed(changed, out),
            Touched::Node(changed) => self.each(changed, out, Self::node_changed),
            Touched::Namespace(changed) => self.each(changed, out, Self::namespace_changed),
            Touched::BatchJob(changed) => self.each(changed, out, Self::batch_job_changed),
            Touched::GpuPool(changed) => self.each(changed, out, Self::pool_changed),
            Touched::ActivityClass(changed) => self.each(changed, out, Self::class_changed),
            Touched::Registration(changed) => self.each(changed, out, Self::registration_changed),
            Touched::Miner(changed) => self.each(changed, out, Self::miner_changed),
            Touched::AiJob(changed) => self.each(changed, out, Self::ai_job_changed),
            Touched::Workload(changed) => self.each(changed, out, Self::workload_changed),
            Touched::RuntimeClass(changed) => self.each(changed, out, Self::runtime_class_changed),
            Touched::EmergencyStop(_) => {
                if self.warm {
                    self.emit_stop(out);
                }
            }
            Touched::AuthorityKeys(_) => self.authority_keys_changed(out),
            // Read where they are needed.
            Touched::RegistrationMirror(_) | Touched::ClassMirror(_) => {}
        }
        if !self.warm && self.cluster.is_complete() {
            self.warm_up(out);
        }
        if let Some(reported_until) = reported {
            self.pods_reported_until = self.pods_reported_until.max(reported_until);
            if self.warm {
                self.judge_late_pods(out);
                self.expire_pods(out);
            }
        }
        self.refresh_mirror(mirror_seen, out);
    }

    /// The time that the wall clock, as it is set now, would have shown at this instant.
    fn wall_time_of(&self, instant: Instant) -> Option<Timestamp> {
        let (wall, at) = self.clocks?;
        Some(wall + instant.saturating_duration_since(at) - at.saturating_duration_since(instant))
    }

    /// Evaluates everything that depends on time. Call it at [`View::wake_at`], or more often.
    pub fn refresh(&mut self, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = now;
        if !self.warm {
            return;
        }
        while let Some(key) = self.tracking.take_due(self.now) {
            self.emit_pod(&key, out);
        }
        self.expire(out);
        while let Some(node) = self.memories.take_due(self.now) {
            self.emit_node(&node, out);
        }
        self.refresh_windows(out);
        self.refresh_energy(out);
        self.refresh_renewals(out);
        self.refresh_mirror(false, out);
        if self.now.since(self.swept_at) >= SWEEP_EVERY {
            self.swept_at = self.now;
            let cluster = &self.cluster;
            self.tracking.forget_nodes(|node| cluster.node(node).is_some());
            self.cluster.names.sweep();
            self.forget_on_lapse();
        }
    }

    /// Returns the next time at which something changes by time alone.
    pub fn wake_at(&self) -> Option<Timestamp> {
        [
            self.tracking.due_at(),
            self.memories.due_at(),
            self.foreseen.expires_at(),
            self.windows.due_at(),
            self.mirror.due_at(),
            self.renewals.due_at(&self.emitted.registrations),
            self.energy.due_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Returns the objects of the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns `true` once every watch has listed; no delta is returned before.
    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// Returns the kinds whose picture may be stale. No miner should start while there is one: a cap
    /// may have been lowered, a registration revoked, or mining stopped.
    pub fn stale(&self) -> Vec<Kind> {
        self.cluster.stale().collect()
    }

    /// Returns `true` while the picture of any kind may be stale; see [`View::stale`].
    pub fn is_stale(&self) -> bool {
        self.cluster.stale().next().is_some()
    }

    /// Returns everything sent to the planner so far, sorted by key.
    pub fn snapshot(&self) -> Snapshot {
        self.emitted.snapshot()
    }

    /// Takes the observations since the last call, for metrics and Events.
    pub fn take_observations(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.observations)
    }

    /// Returns a registration as sent to the planner; `None` for one that is being deleted.
    pub fn known_registration(&self, registration: &str) -> Option<&model::Registration> {
        self.emitted.registrations.get(registration)
    }

    /// Returns the state of an AIJob as sent to the planner.
    pub fn job_state(&self, job: &str) -> Option<&model::JobState> {
        self.emitted.jobs.get(job).map(|job| &job.state)
    }

    /// Returns a pool as sent to the planner.
    pub fn known_pool(&self, pool: &str) -> Option<&model::Pool> {
        self.emitted.pools.get(pool)
    }

    /// Returns the emergency stop, if it is active.
    pub fn emergency_stop(&self) -> Option<&EmergencyStop> {
        self.emitted.stop()
    }

    /// Returns the problem of an object that its schema cannot detect, in one sentence.
    pub fn problem(&self, kind: Kind, key: &str) -> Option<&str> {
        self.problems.get(kind, key)
    }

    /// Returns all objects with such problems, sorted by kind and key.
    pub fn all_problems(&self) -> Vec<(Kind, &str, &str)> {
        self.problems.all()
    }

    /// Returns the revision of a miner, which its new pods carry.
    pub fn revision(&self, miner: &str) -> Option<u64> {
        self.emitted.miners.get(miner).map(|miner| miner.revision)
    }

    /// Returns the epoch for the next pod in a slot: above that of every pod that this process has
    /// seen there, in any state.
    pub fn next_epoch(&self, node: &str, slot: u32) -> u32 {
        self.tracking.next_epoch(node, slot)
    }

    /// Returns the miners' pods that have to be removed, sorted by key.
    pub fn leftovers(&self) -> Vec<Leftover<'_>> {
        self.tracking.leftovers(&self.cluster)
    }

    /// Returns the pods that have ended and still carry the auditor's finalizer, sorted by key,
    /// each with the time at which this was first seen.
    pub fn unreleased(&self) -> Vec<(&Pod, Timestamp)> {
        self.tracking.unreleased.pods(&self.cluster)
    }

    /// Returns the pods that name an `AIJob` in their label, sorted by key.
    pub fn pods_of_job(&self, job: &str) -> Vec<&Pod> {
        let pods = self.tracking.workers(job).filter_map(|key| self.cluster.pod(key));
        let mut pods: Vec<&Pod> = pods.collect();
        pods.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        pods
    }

    /// Returns the GPUs that a pod requests: its first resource that a pool has, and the count of all
    /// resources that pools have.
    pub fn gpus_of(&self, pod: &Pod) -> Option<(Name, u32)> {
        let extended = &pod.requests.extended;
        let (resource, _) = self.pools.first_of(extended)?;
        let counts = extended.iter().filter(|(resource, _)| self.pools.has_resource(resource));
        let gpus = counts.fold(0_u32, |sum, (_, count)| sum.saturating_add(*count));
        Some((resource.clone(), gpus))
    }

    /// Returns the pool that has a resource of a node: the oldest one that claims it.
    pub fn pool_of(&self, node: &str, resource: &str) -> Option<&Name> {
        self.pools.pool_of(self.cluster.node(node)?, resource)
    }

    /// Handles each object that changed.
    fn each<T>(
        &mut self,
        changed: Vec<Changed<T>>,
        out: &mut Vec<Delta>,
        handle: impl Fn(&mut Self, Changed<T>, &mut Vec<Delta>),
    ) {
        // Before the view is warm, only the objects are kept.
        if self.warm {
            for one in changed {
                handle(self, one, out);
            }
        }
    }

    /// Sends everything, once every watch has listed.
    ///
    /// The order matters: a miner is derived from its registration, a node from the memory of its
    /// pods, and a job from the nodes in pools.
    fn warm_up(&mut self, out: &mut Vec<Delta>) {
        self.warm = true;
        self.starting = true;
        self.emit_stop(out);
        self.pools.rebuild(&mut self.cluster);
        self.emit_policies(out);
        // Before the nodes, whose memory depends on the pods on them.
        for key in keys(&self.cluster.pods) {
            self.track_pod(&key, None);
        }
        self.emit_drawn(out);
        for key in keys(&self.cluster.nodes) {
            if let Some(node) = self.cluster.node(&key) {
                let pods = self.tracking.on_node(&key);
                self.memories.assume_past(node, pods, &self.cluster, &self.pools, self.started);
            }
        }
        self.index_workloads();
        for key in keys(&self.cluster.ai_jobs) {
            self.read_template(&key);
        }
        self.emit_work(out);
        self.starting = false;
        // Nothing has happened yet: these observations describe the time before the start.
        self.observations.clear();
    }

    /// Sends what changed of pools, classes, registrations and miners.
    fn emit_policies(&mut self, out: &mut Vec<Delta>) {
        for key in keys(&self.cluster.pools) {
            self.emit_pool(&key, out);
        }
        for key in keys(&self.cluster.classes) {
            self.emit_class(&key, out);
        }
        self.emit_registrations_and_miners(out);
    }

    /// Sends what changed of nodes, jobs and pods.
    fn emit_work(&mut self, out: &mut Vec<Delta>) {
        for key in keys(&self.cluster.nodes) {
            self.emit_node(&key, out);
        }
        for key in keys(&self.cluster.ai_jobs) {
            self.emit_job(&key, out);
        }
        for key in keys(&self.cluster.pods) {
            self.emit_pod(&key, out);
        }
    }
}
