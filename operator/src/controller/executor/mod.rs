//! The only module that writes to the cluster.
//!
//! A plan's actions become changes, which begin in the order of their urgency while fewer than a
//! limit are under way. Before a request is sent, its effect is foreseen in the view, so that the
//! next plan, made while it is under way, does not repeat it. The answer is taken in as if a watch
//! had reported it, or the foreseen effect is taken back. A new plan replaces the changes that have
//! not begun.

pub mod build;
pub mod job_status;
pub(super) mod outcomes;
pub mod perform;
pub mod queue;
pub mod retries;
pub mod send;
mod start;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use daylight_base::Name;
use daylight_planner::explain::{Action, Grant, ReclaimReason};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::task::{JoinError, JoinSet};

use self::perform::ChangeOutcome;
use self::retries::{PodRefusal, Retries};
use self::send::Sender;
use crate::api_requests::ApiRequest;
use crate::controller::executor::queue::{Change, Pace, Queue};
use crate::controller::state::State;
use crate::metric_table::signed;
use daylight_cluster::Kind;

/// Limits of the executor, and times that it keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Changes under way at once.
    pub concurrency: usize,
    /// Changes that may begin in a second; 0 sets no limit.
    pub per_second: u32,
    /// `true` if an auditor records the end of pods, so that they carry its finalizer.
    pub metered: bool,
    /// Time after which an agent that no auditor has scraped stops mining; `None` sets no limit.
    pub agent_lease: Option<Duration>,
    /// Time for which a miner's pod that failed by itself is kept, so that its log can be read.
    pub failed_pods_kept: Duration,
    /// Time that the auditor has to record the end of a pod before the controller does.
    pub record_after: Duration,
}

/// The most miners' pods that wait for kube-scheduler at once.
const MOST_UNBOUND: usize = 1000;

/// Ending pods of which the executor remembers the reason before it looks whether they exist.
const MOST_RECLAIMS: usize = 10_000;

/// Statuses and Events under way at once, while there is nothing more urgent and while there is.
const BACKGROUND: usize = 16;
const BACKGROUND_BUSY: usize = 4;

/// The subject of a request. At most one request a target is under way; Events have no limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Pod(Name),
    /// An AIJob and its Job.
    Job(Name),
    /// The part of a status that explains an object.
    Status(Kind, Name),
    Event,
    /// The PriorityClass of miners.
    PriorityClass,
    /// A ConfigMap from which admission reads registrations or classes.
    Mirror(Kind),
    /// The Events that explain why an AIJob lacks pods.
    GangRefusal(Name),
    /// The Services of all AIJobs.
    Services,
    /// The Service of an AIJob that runs.
    Service(Name),
}

/// The end of a change, whether it was made or not.
#[derive(Debug)]
struct Completion {
    target: Target,
    change: Option<Change>,
    uid: Box<str>,
    outcome: ChangeOutcome,
}

/// Carries out plans.
///
/// [`Executor::submit`] takes a plan, [`Executor::dispatch`] begins its changes, [`Executor::next`]
/// waits for the end of one, and [`Executor::take`] takes it in.
pub struct Executor {
    sender: Sender,
    limits: Limits,
    queue: Queue,
    pace: Pace,
    background: VecDeque<(Target, ApiRequest)>,
    running: JoinSet<Completion>,
    running_background: JoinSet<Completion>,
    in_flight: FxHashSet<Target>,
    /// Targets of `background`.
    waiting: FxHashSet<Target>,
    reserving: FxHashSet<Name>,
    /// Grants whose request has no answer yet, by the pod.
    unanswered: FxHashMap<Name, (Grant, ApiRequest)>,
    /// Targets whose last request had no lasting effect yet.
    retries: Retries,
    /// Miners' pods that may not be bound yet.
    unbound: FxHashSet<Name>,
    /// Pods that are ending, with the reason and the time of the eviction.
    reclaims: FxHashMap<Name, (ReclaimReason, Instant)>,
    /// AIJobs that wait or waited for miners to leave, with begin and end of the wait.
    drains: FxHashMap<Name, (Instant, Option<Instant>)>,
    /// Permission to start miners by their PriorityClass, or the problem that it has; `None` until
    /// it was read.
    may_grant: Option<Result<(), String>>,
    /// `true` after a pod was refused, perhaps because the PriorityClass is gone.
    doubts_priority_class: bool,
}

impl Executor {
    /// Creates an executor without changes.
    pub fn new(sender: Sender, limits: Limits) -> Self {
        Self {
            sender,
            limits,
            queue: Queue::default(),
            pace: Pace::new(limits.per_second),
            background: VecDeque::new(),
            running: JoinSet::new(),
            running_background: JoinSet::new(),
            in_flight: FxHashSet::default(),
            waiting: FxHashSet::default(),
            reserving: FxHashSet::default(),
            unanswered: FxHashMap::default(),
            retries: Retries::default(),
            unbound: FxHashSet::default(),
            reclaims: FxHashMap::default(),
            drains: FxHashMap::default(),
            may_grant: None,
            doubts_priority_class: false,
        }
    }

    /// Replaces the changes of the last plan that have not begun by those of a new one. `upkeep` are
    /// the changes that are due in addition to it.
    pub fn submit(&mut self, actions: Vec<Action>, upkeep: Vec<Change>, now: Instant) {
        let actions = actions.into_iter().map(Change::from);
        let changes: Vec<Change> = actions.chain(upkeep).collect();
        let ending = changes.iter().filter_map(|change| match change {
            Change::Evict { pod, .. }
            | Change::EvictLapsed { pod, .. }
            | Change::Remove { pod }
            | Change::Record { pod } => Some(pod),
            _ => None,
        });
        self.retries.sweep(&ending.collect(), now);
        self.queue.replace(changes, &self.reserving);
    }

    /// Queues statuses and Events, which are written after more urgent changes.
    pub fn submit_background(
        &mut self,
        writes: impl IntoIterator<Item = (Target, ApiRequest)>,
        now: Instant,
    ) {
        for (target, write) in writes {
            // What is left out here is submitted again as long as it is due.
            if self.retries.block(&target, now) {
                continue;
            }
            if target != Target::Event {
                self.waiting.insert(target.clone());
            }
            match target {
                // Grants wait for it.
                Target::Mirror(_) => self.background.push_front((target, write)),
                _ => self.background.push_back((target, write)),
            }
        }
    }

    /// Begins changes, up to the limits.
    pub fn dispatch(&mut self, state: &mut State) {
        self.ask_again(state);
        while self.running.len() < self.limits.concurrency && self.pace.allows(state.instant) {
            let room = self.has_room(state);
            let Some(change) = self.queue.pop(room) else { break };
            if self.start(change, state) {
                self.pace.spend();
            }
        }
        let most = if self.queue.is_empty() { BACKGROUND } else { BACKGROUND_BUSY };
        while self.running_background.len() < most {
            let Some((target, write)) = self.background.pop_front() else { break };
            self.waiting.remove(&target);
            self.start_background(target, write, state);
        }
        state.metrics.queued_writes.set(signed(self.queue.len()));
    }

    /// Returns `true` while kube-scheduler keeps up: pods that it does not reach in time would be
    /// taken for pods that cannot be bound.
    fn has_room(&mut self, state: &State) -> bool {
        if self.unbound.len() >= MOST_UNBOUND {
            self.unbound.retain(|key| {
                let pod = state.view.cluster().pod(key);
                pod.is_some_and(|pod| pod.node.is_none() && !pod.is_terminal())
            });
        }
        self.unbound.len() < MOST_UNBOUND
    }

    /// Time until the next change may begin without another event, if one can.
    pub fn wait(&self) -> Option<Duration> {
        let waits = !self.queue.is_empty() && self.running.len() < self.limits.concurrency;
        let full = self.unbound.len() >= MOST_UNBOUND;
        let least = Duration::from_millis(if full { 20 } else { 1 });
        waits.then(|| self.pace.wait().max(least))
    }

    /// Waits until a request has ended and takes its answer in; never returns while none is
    /// under way. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Ended {
        let done = tokio::select! {
            biased;
            Some(done) = self.running.join_next() => done,
            Some(done) = self.running_background.join_next() => done,
            else => std::future::pending().await,
        };
        Ended(done)
    }

    /// Takes in the request that [`Executor::next`] returned, and all others that have ended by now.
    ///
    /// # Errors
    ///
    /// The task of a request panicked, which is a bug: the requests under way are no longer known.
    pub fn take(&mut self, ended: Ended, state: &mut State) -> Result<(), JoinError> {
        self.finish(ended.0?, state);
        while let Some(done) = self.running.try_join_next() {
            self.finish(done?, state);
        }
        Ok(())
    }

    /// Returns `true` while a request for the target is under way.
    pub fn is_in_flight(&self, target: &Target) -> bool {
        self.in_flight.contains(target)
    }

    /// Returns `true` if a request for the target is under way or waits in the background queue.
    pub fn has_background(&self, target: &Target) -> bool {
        self.is_in_flight(target) || self.waiting.contains(target)
    }

    /// Returns `true` if no change waits or is under way, apart from statuses and Events.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }

    /// Returns `true` if no request at all is under way.
    pub fn is_settled(&self) -> bool {
        self.running.is_empty() && self.running_background.is_empty()
    }

    /// Returns `true` if the PriorityClass of miners was read and permits miners to start.
    pub fn may_grant(&self) -> bool {
        self.may_grant == Some(Ok(()))
    }

    /// Returns `true` if the PriorityClass of miners should be read again soon.
    pub fn doubts_priority_class(&self) -> bool {
        self.doubts_priority_class || !self.may_grant()
    }

    /// The problem that keeps all miners from starting, if there is one.
    pub fn no_grants(&self) -> Option<&str> {
        self.may_grant.as_ref()?.as_ref().err().map(String::as_str)
    }

    /// The time at which a request that had no effect may be repeated.
    pub fn retry_at(&self, now: Instant) -> Option<Instant> {
        self.retries.wake_at(now)
    }

    /// The refusals to end pods, or to record their ends, by miner, with the number of its pods.
    pub fn pod_refusals(&self) -> FxHashMap<Name, (u32, &PodRefusal)> {
        self.retries.refusals()
    }

    /// Forgets the changes that have not begun, because this process no longer leads.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.background.clear();
        self.waiting.clear();
        self.retries.clear();
        // Another leader may have decided otherwise by now.
        self.unanswered.clear();
    }

    /// Forgets an AIJob that was deleted.
    pub fn forget_job(&mut self, job: &Name) {
        self.drains.remove(job);
        self.retries.forget(&Target::Job(job.clone()));
    }

    /// Takes in that a miner's pod ended.
    pub fn ended(&mut self, pod: &Name, state: &State) {
        self.retries.forget(&Target::Pod(pod.clone()));
        if let Some((reason, since)) = self.reclaims.remove(pod) {
            let took = state.instant.saturating_duration_since(since);
            state
                .metrics
                .reclaim_duration
                .with_label_values(&[reason.code()])
                .observe(took.as_secs_f64());
        }
    }
}

/// A request that has ended.
#[derive(Debug)]
pub struct Ended(Result<Completion, JoinError>);
