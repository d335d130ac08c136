//! One decision about a whole site.
//!
//! Every step changes the state as its actions will change the site, so that the next step sees them
//! done; at the end all of it is taken back. Taking back takes time
//! for what the plan changed; a copy of the state would take time for the whole site.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::Margins;
use crate::explain::{Action, Plan, Reason, ReclaimReason};
use crate::model::{JobState, Miner, Pool, Role};
use crate::state::buckets::Sums;
use crate::state::table::Id;
use crate::state::{
    Held, JobRow, MinerRow, NodeRow, PodRow, PoolRow, RegistrationRow, RoleIds, State,
};
use daylight_base::{Name, Timestamp};

mod candidate;
mod claim;
mod energy;
mod fill;
mod forecast;
mod gang;
mod invariants;
mod kept;
mod modes;
mod power;
mod queue;
mod rebalance;
mod reclaim;
mod report;
mod search;
mod shadow;
mod verdicts;
mod waiting_pods;

pub use reclaim::SHRUNK_TOLERANCE;

use fill::Outcome;
use kept::Kept;
use modes::Mode;
use queue::Queue;
use verdicts::{OwnerVerdict, RegistrationVerdict};

/// A decision in progress.
pub(crate) struct Run<'a> {
    state: &'a mut State,
    margins: Margins,
    now: Timestamp,
    actions: Vec<Action>,
    undo: Vec<Undo>,
    wake_at: Option<Timestamp>,
    modes: FxHashMap<Id<PoolRow>, Mode>,
    verdicts: FxHashMap<Id<RegistrationRow>, RegistrationVerdict>,
    owners: FxHashMap<Name, OwnerVerdict>,
    /// Ranks of the miners' classes.
    ranks: FxHashMap<Id<MinerRow>, u32>,
    outcomes: FxHashMap<Id<MinerRow>, Outcome>,
    queue: Queue,
    pod_reasons: FxHashMap<Id<PodRow>, Reason>,
    /// GPUs that miners give up for others in this run, by pool.
    rebalanced: FxHashMap<Id<PoolRow>, u32>,
    /// Places that are kept for miners in this pass.
    kept: Kept,
    /// Name of the pods that are granted in this run and do not exist yet.
    unnamed: Name,
}

enum Undo {
    Drain(Id<PodRow>),
    Grant(Id<PodRow>),
    Job(Id<JobRow>, JobState),
    Nominate(Id<PodRow>),
}

impl<'a> Run<'a> {
    pub(crate) fn new(state: &'a mut State, margins: Margins, now: Timestamp) -> Self {
        let stuck_at = state.mark_stuck(now);
        state.refresh();
        Self {
            state,
            margins,
            now,
            actions: Vec::new(),
            undo: Vec::new(),
            wake_at: stuck_at,
            modes: FxHashMap::default(),
            verdicts: FxHashMap::default(),
            owners: FxHashMap::default(),
            ranks: FxHashMap::default(),
            outcomes: FxHashMap::default(),
            queue: Queue::default(),
            pod_reasons: FxHashMap::default(),
            rebalanced: FxHashMap::default(),
            kept: Kept::default(),
            unnamed: Arc::from(""),
        }
    }

    pub(crate) fn plan(mut self) -> Plan {
        let before = self.fingerprint();
        let mut plan = Plan { pools: self.report_pools(), ..Plan::default() };
        // Each step may rely on those before it: AI is served once the miners that must
        // go anyway are evicted, headroom is restored from what AI left, and miners get the rest. What miners
        // take from each other comes last, when it is certain that nothing idle would do.
        self.judge();
        self.reclaim_unfit();
        self.reclaim_over_caps();
        self.serve_jobs();
        self.reclaim_for_reservations();
        self.serve_waiting_pods();
        self.reclaim_for_headroom();
        self.fill(fill::Pass::Grant);
        self.rebalance();
        self.release_kept();
        if !self.rebalanced.is_empty() {
            // Places that were kept move to where miners stop now, and what becomes idle is for others.
            self.fill(fill::Pass::Grant);
            self.release_kept();
        }
        plan.registrations = self.report_registrations();
        plan.miners = self.report_miners();
        plan.jobs = self.report_jobs();
        plan.waiting_pods = self.report_waiting_pods();
        let would_mine = self.fill(fill::Pass::Observe);
        self.release_kept();
        self.explain_pools(&mut plan.pools, &would_mine);
        if cfg!(debug_assertions) {
            self.assert_grants();
            self.assert_caps();
            self.assert_explanations(&plan);
        }
        self.take_back();
        debug_assert_eq!(before, self.fingerprint(), "what is kept between plans is a cache only");
        self.actions.sort_by_key(stage);
        plan.actions = std::mem::take(&mut self.actions);
        plan.wake_at = self.wake_at;
        plan
    }

    /// Requests a wake-up at `at`, if that is in the future.
    fn wake(&mut self, at: Timestamp) {
        if at > self.now && self.wake_at.is_none_or(|earliest| at < earliest) {
            self.wake_at = Some(at);
        }
    }

    fn evict(&mut self, id: Id<PodRow>, reason: ReclaimReason, beneficiary: Option<&Name>) {
        let row = &self.state.pods[id];
        debug_assert!(matches!(row.role, RoleIds::Miner { .. }), "evictions: only miners go");
        if row.pod.deleting {
            return;
        }
        self.actions.push(Action::Evict {
            pod: row.pod.key.clone(),
            reason,
            beneficiary: beneficiary.cloned(),
            grace: self.grace_of(row),
        });
        self.state.set_deleting(id, true);
        self.undo.push(Undo::Drain(id));
    }

    /// Returns the grace of a pod; zero if it is not a miner's.
    fn grace_of(&self, row: &PodRow) -> Duration {
        let RoleIds::Miner { miner, pool, .. } = row.role else {
            return Duration::ZERO;
        };
        let (miner, pool) = (&self.state.miners[miner], &self.state.pools[pool]);
        grace(miner.object.as_ref(), pool.object.as_ref())
    }

    fn set_job_state(&mut self, id: Id<JobRow>, state: JobState) {
        if let Some(old) = self.state.set_job_state(id, state) {
            self.undo.push(Undo::Job(id, old));
        }
    }

    /// Reserves room on a node for a waiting pod.
    fn nominate(&mut self, id: Id<PodRow>, node: Id<NodeRow>) {
        self.state.set_nominated(id, Some(node));
        self.undo.push(Undo::Nominate(id));
    }

    /// Sums that must be the same before and after a run.
    fn fingerprint(&self) -> Vec<(Sums, Held)> {
        if cfg!(debug_assertions) {
            let pools = self.state.pools_by_name.values();
            pools.map(|&id| (self.state.pools[id].sums, self.state.pools[id].held)).collect()
        } else {
            Vec::new()
        }
    }

    fn take_back(&mut self) {
        // In reverse order: a later step may have changed what an earlier one made.
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Drain(pod) => self.state.set_deleting(pod, false),
                Undo::Grant(pod) => self.state.remove_pod(pod),
                Undo::Nominate(pod) => self.state.set_nominated(pod, None),
                Undo::Job(job, old) => {
                    self.state.set_job_state(job, old);
                }
            }
        }
        self.state.refresh();
    }
}

/// Time that a replica has to stop: the shorter drain timeout of its miner and its pool, as far as
/// they still exist.
fn grace(miner: Option<&Miner>, pool: Option<&Pool>) -> Duration {
    let miner = miner.map(|miner| miner.drain_timeout);
    let pool = pool.map(|pool| pool.drain_timeout);
    miner.into_iter().chain(pool).min().unwrap_or_default()
}

/// Position of an action in the order in which actions are carried out: a reservation exists before
/// the evictions that serve it, so that a crash in between leaves no GPUs without a beneficiary.
fn stage(action: &Action) -> u8 {
    match action {
        Action::Suspend { .. } | Action::Requeue { .. } => 0,
        Action::Reserve { .. } => 1,
        Action::Release { .. } => 2,
        Action::Evict { .. } => 3,
        Action::Grant(_) => 4,
    }
}

/// The miner, registration and pool that a miner's pod was granted for; `None` for another pod.
fn lease(row: &PodRow) -> Option<(Id<MinerRow>, Id<RegistrationRow>, Id<PoolRow>)> {
    match (row.role, &row.pod.role) {
        (RoleIds::Miner { miner, registration, pool }, Role::Miner { .. }) => {
            Some((miner, registration, pool))
        }
        _ => None,
    }
}
