//! One picture of the cluster in memory, and what of it the planner must know.
//!
//! [`Index::apply`] takes what the [`watch`]es see and tells what changed in the
//! planner's terms, as [`Delta`]s. It is synchronous and has no clock: time is an
//! argument. Nothing else knows both Kubernetes objects and the planner's types.
//!
//! Until every watch has listed once, nothing is told; then everything at once.
//! So the planner never sees half a cluster.

mod amounts;
mod assume;
pub mod digest;
pub mod energy;
mod event;
mod given;
mod jobs;
pub mod marks;
pub mod miners;
pub mod mirror;
pub mod names;
mod nodes;
mod pods;
mod pools;
mod preemption;
pub mod quantity;
pub mod quarantine;
mod reads;
mod registrations;
mod renewals;
pub mod requests;
pub mod selector;
pub mod slim;
mod stop;
pub(crate) mod store;
mod taints;
pub mod watch;
pub mod windows;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_crds::{ActivityClass, AiJob, GpuPool, Miner, Registration};
use daylight_planner::model::{Delta, JobState, Snapshot};
use daylight_planner::windows::Windows;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rustc_hash::{FxHashMap, FxHashSet};

pub use event::{Change, Event, Kind, Round, Trouble};
pub use pods::Seen;
pub use reads::{Assigned, Leftover, Why};

use energy::Energy;
use given::Given;
use mirror::Mirror;
use names::Names;
use nodes::Memory;
use pools::PoolFacts;
use renewals::Renewals;
use slim::{BatchJob, ConfigMap, Custom, Namespace, Node, Pod, Template};
use store::{Store, Touched};

use crate::registration_signature::AuthorityKeys;

/// How often names that nothing uses any more are forgotten.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// The picture: see the module's documentation.
#[derive(Debug, Default)]
pub struct Index {
    started: Timestamp,
    /// From when on ends of leases were seen.
    ends_known_since: Timestamp,
    now: Timestamp,
    warm: bool,
    names: Names,
    swept_at: Timestamp,

    pods: Store<Pod>,
    nodes: Store<Node>,
    namespaces: Store<Namespace>,
    batch_jobs: Store<BatchJob>,
    pools: Store<Custom<GpuPool>>,
    classes: Store<Custom<ActivityClass>>,
    registrations: Store<Custom<Registration>>,
    miners: Store<Custom<Miner>>,
    ai_jobs: Store<Custom<AiJob>>,
    stops: Store<ConfigMap>,
    registration_mirror: Store<ConfigMap>,
    class_mirror: Store<ConfigMap>,
    authority_keys: Store<ConfigMap>,

    /// Pods by the node they are on, miners' pods by the node they are pinned to.
    on_node: FxHashMap<Name, FxHashSet<Name>>,
    /// Pods by the `AIJob` that they name.
    workers: FxHashMap<Name, FxHashSet<Name>>,
    /// Pods that kube-scheduler will not preempt for.
    waiting: FxHashSet<Name>,
    /// Miners' pods that are terminal or were not bound in time.
    leftovers: FxHashMap<Name, Why>,
    /// Pods that have ended and that the auditor has not let go, and since when that is known.
    unreleased: FxHashMap<Name, Timestamp>,
    /// Jobs whose pods may not run on every node.
    restricted: FxHashSet<Name>,
    /// What is known of the templates of jobs.
    templates: FxHashMap<Name, Arc<Template>>,
    /// What is remembered of nodes beside what they say of themselves.
    memories: FxHashMap<Name, Memory>,
    /// The pools as they bear on nodes, the oldest first.
    pool_facts: Vec<PoolFacts>,
    /// When each pool may mine, or why that cannot be told.
    windows: FxHashMap<Name, Result<Windows, String>>,
    /// The extended resources that pools name.
    resources: FxHashSet<Name>,
    /// What only this can find wrong with objects.
    problems: FxHashMap<(Kind, Name), Arc<str>>,
    /// The highest epoch seen of each slot.
    epochs: FxHashMap<(Name, u32), u32>,
    /// Pods that are to be looked at again.
    due: BTreeSet<(Timestamp, Name)>,

    /// Pods that Daylight has asked to end, by UID, and since when.
    ending: FxHashMap<Name, (Box<str>, Timestamp)>,
    /// When the deletion of miners' pods was first seen.
    deletions: FxHashMap<Name, Timestamp>,
    /// States that Daylight is writing, and since when.
    states: FxHashMap<Name, (JobState, Timestamp)>,

    /// What admission should know.
    mirror: Mirror,
    renewals: Renewals,
    energy: Energy,
    /// Registrations whose leases ended just now.
    drawn: BTreeSet<Name>,
    /// Whether approvals count only with the authority's signature, and its keys.
    signature_required: bool,
    authority: AuthorityKeys,

    given: Given,
    seen: Vec<Seen>,
}

impl Index {
    /// An empty picture; `started` is when the process began to look.
    pub fn new(started: Timestamp) -> Self {
        Self { started, now: started, ends_known_since: started, ..Self::default() }
    }

    /// For a look that decides nothing: takes it that no lease ended before it which a meter may
    /// not have counted.
    #[must_use]
    pub fn taking_readings_as_complete(mut self) -> Self {
        self.ends_known_since = Timestamp::default();
        self
    }

    /// Lets no approval count without the authority's signature.
    #[must_use]
    pub fn requiring_signatures(mut self, required: bool) -> Self {
        self.signature_required = required;
        self
    }

    /// Takes in what a watch saw at `now`, and tells what changed for the planner.
    pub fn apply(&mut self, event: Event, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = self.now.max(now);
        // Whether what was seen of the mirror of registrations may have changed.
        let mut seen = false;
        match event {
            Event::Pod(mut change) => {
                change.edit(|pod| self.share_pod(pod));
                let touched = self.pods.apply(change);
                self.pods_touched(touched, out);
            }
            Event::Node(mut change) => {
                change.edit(|node| self.share_node(node));
                let touched = self.nodes.apply(change);
                self.each(touched, out, Self::node_touched);
            }
            Event::Namespace(change) => {
                let touched = self.namespaces.apply(change);
                self.each(touched, out, Self::namespace_touched);
            }
            Event::BatchJob(change) => {
                let touched = self.batch_jobs.apply(change);
                self.each(touched, out, Self::batch_job_touched);
            }
            Event::GpuPool(change) => {
                let touched = self.pools.apply(change);
                self.each(touched, out, Self::pool_touched);
            }
            Event::ActivityClass(change) => {
                let touched = self.classes.apply(change);
                self.each(touched, out, Self::class_touched);
            }
            Event::Registration(change) => {
                let touched = self.registrations.apply(change);
                self.each(touched, out, Self::registration_touched);
            }
            Event::Miner(change) => {
                let touched = self.miners.apply(change);
                self.each(touched, out, Self::miner_touched);
            }
            Event::AiJob(change) => {
                let touched = self.ai_jobs.apply(change);
                self.each(touched, out, Self::ai_job_touched);
            }
            Event::EmergencyStop(change) => {
                self.stops.apply(change);
                if self.warm {
                    self.tell_stop(out);
                }
            }
            Event::RegistrationMirror(change) => {
                self.registration_mirror.apply(change);
                seen = true;
            }
            Event::ClassMirror(change) => {
                self.class_mirror.apply(change);
            }
            Event::AuthorityKeys(change) => {
                self.authority_keys.apply(change);
                self.authority_keys_touched(out);
            }
        }
        if !self.warm && self.rounds().all(|round| round.is_some()) {
            self.warm_up(out);
        }
        self.refresh_mirror(seen, out);
    }

    /// Lets what depends on time change. Call it at [`Index::wake_at`], or more often.
    pub fn refresh(&mut self, now: Timestamp, out: &mut Vec<Delta>) {
        self.now = self.now.max(now);
        if !self.warm {
            return;
        }
        while let Some((at, _)) = self.due.first() {
            if *at > self.now {
                break;
            }
            let Some((_, key)) = self.due.pop_first() else {
                break;
            };
            self.pod_due(&key, out);
        }
        self.expire(out);
        self.refresh_windows(out);
        self.refresh_energy(out);
        self.refresh_renewals(out);
        self.refresh_mirror(false, out);
        if self.now.since(self.swept_at) >= SWEEP_EVERY {
            self.swept_at = self.now;
            self.names.sweep();
        }
    }

    /// When something changes by time alone, if ever.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let due = self.due.first().map(|(at, _)| *at);
        let turns = [
            self.windows_due_at(),
            self.mirror_due_at(),
            self.renewal_due_at(),
            self.energy_due_at(),
        ];
        [due, self.expires_at()].into_iter().chain(turns).flatten().min()
    }

    /// Whether every watch has listed once; nothing is told before.
    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// All that the planner was told, sorted by key.
    pub fn snapshot(&self) -> Snapshot {
        self.given.snapshot()
    }

    /// Handles each object that changed.
    fn each<T>(
        &mut self,
        touched: Vec<Touched<T>>,
        out: &mut Vec<Delta>,
        handle: impl Fn(&mut Self, Touched<T>, &mut Vec<Delta>),
    ) {
        // Before the picture is complete, only the objects are kept.
        if self.warm {
            for one in touched {
                handle(self, one, out);
            }
        }
    }

    /// Every watch has listed: tells everything.
    fn warm_up(&mut self, out: &mut Vec<Delta>) {
        self.warm = true;
        self.tell_stop(out);
        self.rebuild_pools();
        for key in keys(&self.pools) {
            self.tell_pool(&key, out);
        }
        for key in keys(&self.classes) {
            self.tell_class(&key, out);
        }
        for key in keys(&self.registrations) {
            self.tell_registration(&key, out);
        }
        for key in keys(&self.miners) {
            self.tell_miner(&key, out);
        }
        // What runs where decides what is remembered of the nodes.
        for key in keys(&self.pods) {
            self.track_pod(&key, None);
        }
        self.tell_drawn(out);
        for key in keys(&self.nodes) {
            self.remember_first(&key);
            self.tell_node(&key, out);
        }
        for key in keys(&self.ai_jobs) {
            self.read_template(&key);
            self.tell_job(&key, out);
        }
        for key in keys(&self.pods) {
            self.tell_pod(&key, out);
        }
        // What happened before the start is no news.
        self.seen.clear();
    }
}

/// A moment of Kubernetes as the planner has it.
fn moment(time: &Time) -> Timestamp {
    Timestamp(time.0.as_millisecond())
}

/// The keys of a store, sorted, so that the same cluster is always told in the same order.
fn keys<T: store::Stored>(store: &Store<T>) -> Vec<Name> {
    let mut keys: Vec<Name> = store.iter().map(|(key, _)| key.clone()).collect();
    keys.sort_unstable();
    keys
}
