//! The only place that writes.
//!
//! A plan's actions become changes, the most urgent of which begin as long as few enough are
//! under way. Before a request is sent, its effect is foreseen in the index, so that the next
//! plan, made while it is under way, does not do it again; its answer is taken in as if a watch
//! had told it, or what was foreseen is taken back. Changes that have not begun are no facts: a
//! new plan replaces them.

pub mod build;
pub mod job_status;
pub(super) mod outcomes;
pub mod perform;
pub mod queue;
pub mod send;
mod start;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use daylight_base::Name;
use daylight_planner::explain::{Action, ReclaimReason};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::task::{JoinError, JoinSet};

use self::perform::Outcome;
use self::send::Sender;
use crate::api_requests::ApiRequest;
use crate::controller::executor::queue::{Change, Pace, Queue};
use crate::controller::state::State;
use daylight_cluster::Kind;

/// How much is done at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub concurrency: usize,
    /// Changes a second; 0 is as many as can be.
    pub per_second: u32,
    /// Whether an auditor takes the end of pods on record, so that they carry its finalizer.
    pub metered: bool,
    /// How long agents of miners work on without an auditor that asks them, if that is to end.
    pub agent_lease: Option<Duration>,
    /// How long a miner's pod that failed by itself is kept, so that its log can be read.
    pub failed_pods_kept: Duration,
    /// How long the auditor may take to have the end of a pod on record.
    pub record_after: Duration,
}

/// The most miners' pods that wait for kube-scheduler at once.
const MOST_UNBOUND: usize = 1000;

/// Statuses and Events under way at once, while there is nothing more urgent and while there is.
const BACKGROUND: usize = 16;
const BACKGROUND_BUSY: usize = 4;

/// What a request concerns. No two requests concern the same at once.
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
    /// A ConfigMap by which admission knows registrations or classes.
    Mirror(Kind),
    /// Why an AIJob lacks pods.
    GangRefusal(Name),
}

/// A change that has been made, or not.
#[derive(Debug)]
struct Done {
    target: Target,
    change: Option<Change>,
    uid: Box<str>,
    outcome: Outcome,
}

/// Does what plans say.
pub struct Executor {
    sender: Sender,
    limits: Limits,
    queue: Queue,
    pace: Pace,
    background: VecDeque<(Target, ApiRequest)>,
    running: JoinSet<Done>,
    running_background: JoinSet<Done>,
    busy: FxHashSet<Target>,
    /// Statuses that wait to be written.
    waiting: FxHashSet<Target>,
    reserving: FxHashSet<Name>,
    /// `AIJobs` whose last change failed, and when it may be tried again.
    held_back: FxHashMap<Name, Instant>,
    /// Miners' pods that may not be bound yet.
    unbound: FxHashSet<Name>,
    /// Pods that are ending, why, and since when.
    reclaims: FxHashMap<Name, (ReclaimReason, Instant)>,
    /// AIJobs that wait for miners to leave, or waited, and from when until when.
    drains: FxHashMap<Name, (Instant, Option<Instant>)>,
    /// Whether miners may be started, as far as their PriorityClass goes; `None` before it was
    /// looked at.
    may_grant: Option<Result<(), String>>,
    /// A pod was refused, perhaps because the PriorityClass is gone.
    doubts_priority_class: bool,
}

impl Executor {
    /// An executor that has nothing to do.
    pub fn new(sender: Sender, limits: Limits) -> Self {
        Self {
            sender,
            limits,
            queue: Queue::default(),
            pace: Pace::new(limits.per_second),
            background: VecDeque::new(),
            running: JoinSet::new(),
            running_background: JoinSet::new(),
            busy: FxHashSet::default(),
            waiting: FxHashSet::default(),
            reserving: FxHashSet::default(),
            held_back: FxHashMap::default(),
            unbound: FxHashSet::default(),
            reclaims: FxHashMap::default(),
            drains: FxHashMap::default(),
            may_grant: None,
            doubts_priority_class: false,
        }
    }

    /// Takes a new plan in place of what has not begun of the last one. `upkeep` is what has to
    /// be done beside it.
    pub fn submit(&mut self, actions: Vec<Action>, upkeep: Vec<Change>) {
        let actions = actions.into_iter().map(Change::from);
        self.queue.replace(actions.chain(upkeep), &self.reserving);
    }

    /// Takes statuses and Events to be written when there is time.
    pub fn submit_background(&mut self, writes: impl IntoIterator<Item = (Target, ApiRequest)>) {
        for (target, write) in writes {
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

    /// Begins as much as may be under way at once.
    pub fn dispatch(&mut self, state: &mut State) {
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
            self.start_background(target, write);
        }
        state.metrics.queued_writes.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
    }

    /// Whether kube-scheduler keeps up: pods that it does not get to in time would be taken for
    /// pods that cannot be bound.
    fn has_room(&mut self, state: &State) -> bool {
        if self.unbound.len() >= MOST_UNBOUND {
            self.unbound.retain(|key| {
                let pod = state.view.cluster().pod(key);
                pod.is_some_and(|pod| pod.node.is_none() && !pod.is_terminal())
            });
        }
        self.unbound.len() < MOST_UNBOUND
    }

    /// How long until more may begin without anything else happening, if ever.
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

    /// Takes in what [`Executor::next`] gave, and all else that has ended by now.
    ///
    /// # Errors
    ///
    /// A request's task panicked, which is a bug: what is under way is not known any more.
    pub fn take(&mut self, ended: Ended, state: &mut State) -> Result<(), JoinError> {
        self.finish(ended.0?, state);
        while let Some(done) = self.running.try_join_next() {
            self.finish(done?, state);
        }
        Ok(())
    }

    /// Whether the target is being written.
    pub fn is_busy(&self, target: &Target) -> bool {
        self.busy.contains(target)
    }

    /// Whether a status of this object waits to be written or is being written.
    pub fn has_background(&self, target: &Target) -> bool {
        self.is_busy(target) || self.waiting.contains(target)
    }

    /// Whether anything waits to be written, or is being written, besides statuses and Events.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }

    /// Whether no request at all is under way.
    pub fn is_settled(&self) -> bool {
        self.running.is_empty() && self.running_background.is_empty()
    }

    /// Whether miners may be started, as far as is known.
    pub fn may_grant(&self) -> bool {
        self.may_grant == Some(Ok(()))
    }

    /// Returns `true` if the PriorityClass of miners should be read again soon.
    pub fn doubts_priority_class(&self) -> bool {
        self.doubts_priority_class || !self.may_grant()
    }

    /// Why no miner is started at all, if so.
    pub fn no_grants(&self) -> Option<&str> {
        self.may_grant.as_ref()?.as_ref().err().map(String::as_str)
    }

    /// Forgets what has not begun: this process leads no more.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.background.clear();
        self.waiting.clear();
        self.held_back.clear();
    }

    /// An AIJob is gone: it waits for nothing any more.
    pub fn forget_job(&mut self, job: &Name) {
        self.drains.remove(job);
        self.held_back.remove(job);
    }

    /// A miner's pod has ended.
    pub fn ended(&mut self, pod: &str, state: &State) {
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
pub struct Ended(Result<Done, JoinError>);
