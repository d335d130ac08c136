//! The queue of AI jobs: the order of jobs, their reservations and their release.

use std::cmp::Reverse;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::explain::{Action, Reason};
use crate::model::{ClassAssignment, Job, JobState, MiningPolicy, Placement, Queueing};
use crate::plan::Run;
use crate::plan::gang::{Gang, Placed};
use crate::plan::shadow::{Fit, Shadow};
use crate::state::amounts::Amounts;
use crate::state::host::Host;
use crate::state::table::Id;
use crate::state::{JobRow, NodeRow, PodRow, PoolRow, State};
use daylight_base::{Name, Timestamp};

/// Time that a job waits after its gang was not bound in time: doubled each time, up to the longest.
///
/// The first is short, since the next placement sees the pods that took the GPUs of the last one. The
/// doubling bounds how often a gang that never binds keeps its GPUs idle.
const BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_mins(10);

/// Results of a run for the jobs.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) reasons: FxHashMap<Id<JobRow>, Reason>,
    /// The first waiting job, by pool.
    heads: FxHashMap<Id<PoolRow>, Head>,
}

struct Head {
    job: Name,
    shadow: Shadow,
    /// Jobs behind it that were tried.
    tried: u32,
}

/// Jobs behind the first that are tried in a pool: bounds the time of a plan, however long the queue
/// is.
const BACKFILL_DEPTH: u32 = 100;

/// Key that sorts jobs by priority, then age.
pub(super) fn job_order(state: &State, id: Id<JobRow>) -> (Reverse<i32>, Timestamp, Name) {
    let job = state.jobs[id].object.as_ref();
    (
        Reverse(job.map_or(0, |job| job.priority)),
        job.map_or(Timestamp(0), |job| job.created),
        state.jobs.name(id).clone(),
    )
}

/// Returns when a suspended job may be tried again.
fn tried_again(attempts: u32, suspended_at: Timestamp) -> Timestamp {
    let doubled = BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    suspended_at + doubled.min(LONGEST_BACKOFF)
}

impl Run<'_> {
    /// Decides about every job that waits.
    pub(super) fn serve_jobs(&mut self) {
        let (mut released, mut reserved, mut queued) = (Vec::new(), Vec::new(), Vec::new());
        for &id in self.state.jobs_by_key.values() {
            let Some(job) = &self.state.jobs[id].object else {
                continue;
            };
            match job.state {
                JobState::Released { .. } => released.push(id),
                JobState::Reserved { .. } => reserved.push(id),
                JobState::Queued { .. } => queued.push(id),
                JobState::Running { .. } | JobState::External { .. } | JobState::Finished => {}
            }
        }
        // Gangs that timed out first: what they held is available to all others. They queue again in
        // the same run, behind their back-off.
        for id in released {
            if self.gang_timed_out(id) {
                queued.push(id);
            }
        }
        reserved.sort_by_cached_key(|&id| job_order(self.state, id));
        // Reservations before the queue: miners already drain for them, so that a job of higher
        // priority that arrives now does not make those drains useless.
        let mut given_up = FxHashSet::default();
        for id in reserved {
            if !self.keep_reservation(id) {
                given_up.insert(id);
                queued.push(id);
            }
        }
        queued.sort_by_cached_key(|&id| job_order(self.state, id));
        for id in queued {
            let reason = self.serve_queued(id);
            let reason = self.or_requests_changed(id, reason);
            self.queue.reasons.insert(id, reason);
            // Only now: a job that found another place in the same run has replaced its reservation.
            if given_up.contains(&id) {
                self.give_up(id);
            }
        }
    }

    /// Deletes the reservation of a job that found no other place.
    fn give_up(&mut self, id: Id<JobRow>) {
        let Some(job) = &self.state.jobs[id].object else { return };
        if matches!(job.state, JobState::Queued { .. }) {
            self.actions.push(Action::Requeue { job: job.key.clone() });
        }
    }

    /// Replaces the reason of a job whose pods request more than its template sets, where that is the
    /// likely cause.
    fn or_requests_changed(&self, id: Id<JobRow>, reason: Reason) -> Reason {
        let job = self.state.jobs[id].object.as_ref();
        match (&reason, job.and_then(|job| job.requests_changed.clone())) {
            (
                Reason::Starting { .. }
                | Reason::GangBackoff { .. }
                | Reason::NoNodeLargeEnough { .. }
                | Reason::PoolTooSmall { .. },
                Some(change),
            ) => Reason::RequestsChanged { change },
            _ => reason,
        }
    }

    /// Suspends a job whose gang is not bound in time.
    fn gang_timed_out(&mut self, id: Id<JobRow>) -> bool {
        let row = &self.state.jobs[id];
        let Some(job) = &row.object else { return false };
        let JobState::Released { at, .. } = job.state else {
            return false;
        };
        let deadline = at + job.gang_timeout;
        // Workers that have ended already were bound before.
        if row.bound_total.saturating_add(job.succeeded) >= job.workers {
            self.queue.reasons.insert(id, Reason::Running);
            return false;
        }
        let starting = Reason::Starting { bound: row.bound_total, workers: job.workers };
        let starting = self.or_requests_changed(id, starting);
        if self.now < deadline {
            self.wake(deadline);
            self.queue.reasons.insert(id, starting);
            return false;
        }
        let state = job.state.suspended(self.now);
        self.actions.push(Action::Suspend { job: job.key.clone() });
        self.set_job_state(id, state);
        true
    }

    /// Keeps a reservation, replaces what was lost of it, and releases the job once all is free.
    /// Returns `false` if the job has to queue again.
    fn keep_reservation(&mut self, id: Id<JobRow>) -> bool {
        let Some(job) = self.state.jobs[id].object.clone() else {
            return true;
        };
        let JobState::Reserved { placement, .. } = &job.state else {
            return true;
        };
        if self.admissible(&job).is_err() {
            self.set_job_state(id, job.state.requeued());
            return false;
        }
        let mut kept = Vec::new();
        for Placement { node, workers } in placement {
            let possible = self
                .state
                .nodes
                .find(node)
                .map_or(0, |node| self.workers_possible(node, id, &job).min(*workers));
            if possible > 0 {
                kept.push(Placement { node: node.clone(), workers: possible });
            }
        }
        let held: u32 = kept.iter().map(|placement| placement.workers).sum();
        if held >= job.workers && kept == *placement {
            if self.is_free(id, &job) {
                self.release(id, &job, kept);
            } else {
                self.explain_drain(id, &job);
            }
            return true;
        }
        // Some of it is lost: keep the rest, find the missing workers elsewhere. The state is set
        // first, so that the search for them does not count the lost part as promised.
        self.set_job_state(id, job.state.reserved(&kept));
        // A gang stays within one pool.
        let home = kept.first().and_then(|kept| {
            let node = self.state.nodes.find(&kept.node)?;
            self.state.host(node, self.state.jobs[id].resource).map(|host| host.pool)
        });
        let pools = home.map_or_else(|| self.candidate_pools(&job), |home| vec![home]);
        let allowed = self.allowed_nodes(&job);
        let found = pools.into_iter().find_map(|pool| {
            self.place(&Gang {
                pool,
                resource: self.state.jobs[id].resource,
                shape: job.shape,
                workers: job.workers.saturating_sub(held),
                allowed: allowed.as_ref(),
                bound: None,
            })
        });
        if let Some(placed) = found {
            let placement = merge(kept, self.placement(&placed));
            self.reserve_or_release(id, &job, placement, placed.displaced);
            return true;
        }
        self.set_job_state(id, job.state.requeued());
        false
    }

    /// Returns how many workers of a reserved job its node can still take, after the jobs before it.
    fn workers_possible(&self, node: Id<NodeRow>, id: Id<JobRow>, job: &Job) -> u32 {
        let resource = self.state.jobs[id].resource;
        let Some(host) = self.state.host(node, resource).filter(|host| host.open) else {
            return 0;
        };
        let before = self.promised_before(node, id);
        let gpus = i64::from(host.allocatable)
            - i64::from(host.ai)
            - i64::from(host.undeclared)
            - i64::from(host.unlisted)
            - i64::from(host.stuck)
            - i64::from(before.gpus);
        let amounts =
            self.state.capacity(node) - self.state.nodes[node].used.fixed - before.amounts;
        let by_gpus = match job.shape.gpus {
            0 => u32::MAX,
            need => u32::try_from(gpus.max(0)).unwrap_or(u32::MAX) / need,
        };
        by_gpus.min(amounts.pods_of(&job.shape))
    }

    /// Returns what is promised on a node to released and nominated pods, and to jobs before this one.
    fn promised_before(&self, node: Id<NodeRow>, id: Id<JobRow>) -> Promised {
        let row = &self.state.nodes[node];
        let mut before = Promised { gpus: 0, amounts: row.used.claimed };
        let resource = self.state.jobs[id].resource;
        before.gpus = self.state.host(node, resource).map_or(0, |host| host.expected);
        let own = job_order(self.state, id);
        for hold in &row.holds {
            let first = !hold.reserved || job_order(self.state, hold.job) < own;
            if hold.reserved && first && hold.resource == resource {
                before.gpus = before.gpus.saturating_add(hold.gpus());
            }
            if !first || hold.job == id {
                before.amounts -= Amounts::of(&hold.shape, hold.workers);
            }
        }
        before
    }

    /// Returns the GPUs that must be idle on a node before a job's workers can have theirs, and how
    /// many of them are the job's.
    fn needed(&self, node: Id<NodeRow>, id: Id<JobRow>, job: &Job) -> (i64, i64) {
        let holds = self.state.nodes[node].holds.iter();
        let own: u32 = holds.filter(|hold| hold.job == id).map(|hold| hold.workers).sum();
        let own = i64::from(own * job.shape.gpus);
        (i64::from(self.promised_before(node, id).gpus) + own, own)
    }

    /// Returns whether all that a job reserved is free now.
    fn is_free(&self, id: Id<JobRow>, job: &Job) -> bool {
        self.state.jobs[id].holds.iter().all(|&node| {
            let row = &self.state.nodes[node];
            let own = row.holds.iter().filter(|hold| hold.job == id).map(|hold| hold.workers);
            let workers: u32 = own.sum();
            let (need, _) = self.needed(node, id, job);
            let before = self.promised_before(node, id);
            let idle = self.state.host(node, self.state.jobs[id].resource).map_or(0, Host::idle);
            let amounts = self.state.capacity(node)
                - row.used.fixed
                - row.used.mining
                - row.used.draining
                - before.amounts;
            let miners = row.used.mining.pods + row.used.draining.pods;
            idle >= need
                && (miners == 0 || !self.state.clears_whole(node))
                && amounts.covers(&Amounts::of(&job.shape, workers))
        })
    }

    fn explain_drain(&mut self, id: Id<JobRow>, job: &Job) {
        let awaited = self.state.jobs[id].holds.iter().map(|&node| {
            let (need, own) = self.needed(node, id, job);
            let host = self.state.host(node, self.state.jobs[id].resource);
            host.map_or(0, |host| match host.cleared_whole {
                true => host.mining + host.draining,
                false => (need - host.idle()).clamp(0, own) as u32,
            })
        });
        let reason = Reason::WaitingForDrain { gpus: awaited.sum() };
        self.queue.reasons.insert(id, reason);
    }

    fn reserve_or_release(
        &mut self,
        id: Id<JobRow>,
        job: &Job,
        placement: Vec<Placement>,
        displaced: u32,
    ) {
        self.set_job_state(id, job.state.reserved(&placement));
        if self.is_free(id, job) {
            self.release(id, job, placement);
        } else {
            self.explain_drain(id, job);
            let job = job.key.clone();
            self.actions.push(Action::Reserve { job, placement, displaced });
        }
    }

    fn release(&mut self, id: Id<JobRow>, job: &Job, placement: Vec<Placement>) {
        let placed: u32 = placement.iter().map(|placement| placement.workers).sum();
        debug_assert!(placed >= job.workers || job.shape.gpus == 0, "half a gang is released");
        let state = job.state.released(&placement, self.now);
        self.actions.push(Action::Release { job: job.key.clone(), placement });
        self.set_job_state(id, state);
        self.wake(self.now + job.gang_timeout);
        let bound = self.state.jobs[id].bound_total;
        self.queue.reasons.insert(id, Reason::Starting { bound, workers: job.workers });
    }

    /// Places a queued job; returns its new reason.
    fn serve_queued(&mut self, id: Id<JobRow>) -> Reason {
        let Some(job) = self.state.jobs[id].object.clone() else {
            return Reason::Finished;
        };
        if let Err(reason) = self.admissible(&job) {
            return reason;
        }
        if let JobState::Queued { attempts, suspended_at: Some(at) } = job.state
            && attempts > 0
        {
            let until = tried_again(attempts, at);
            if self.now < until {
                self.wake(until);
                return Reason::GangBackoff { until };
            }
        }
        if job.shape.gpus == 0 {
            self.release(id, &job, Vec::new());
            return Reason::Starting { bound: 0, workers: job.workers };
        }
        let allowed = self.allowed_nodes(&job);
        let pools = self.candidate_pools(&job);
        let mut best: Option<(Id<PoolRow>, Placed)> = None;
        for &pool in &pools {
            if let Some(placed) = self.place_behind_head(pool, &job, allowed.as_ref())
                && best.as_ref().is_none_or(|(_, best)| placed.displaced < best.displaced)
            {
                best = Some((pool, placed));
            }
        }
        let Some((pool, placed)) = best else {
            return self.wait(&job, &pools, allowed.as_ref());
        };
        let object = self.state.pools[pool].object.as_ref();
        let drain = object.map_or(Duration::ZERO, |pool| pool.drain_timeout);
        let observes = object.is_some_and(|pool| pool.policy == MiningPolicy::Observe);
        // A job that may outlast the start of the first one takes from what the first one spares.
        if let Some(head) = self.queue.heads.get_mut(&pool)
            && !ends_before(&job, self.now, head.shadow.at, drain)
        {
            for &(node, workers) in &placed.nodes {
                if let Some(spare) = head.shadow.spare.get_mut(&node) {
                    *spare -= workers * job.shape.gpus;
                }
            }
        }
        let placement = self.placement(&placed);
        if observes {
            // Daylight evicts nothing in a pool that observes; kube-scheduler makes room.
            self.release(id, &job, placement);
        } else {
            self.reserve_or_release(id, &job, placement, placed.displaced);
        }
        self.queue.reasons.remove(&id).unwrap_or(Reason::Running)
    }

    /// Checks that the job is valid, its class is for AI jobs, and its pool exists.
    fn admissible(&self, job: &Job) -> Result<(), Reason> {
        if let Some(problem) = job.problem.clone() {
            return Err(Reason::Invalid { problem });
        }
        if let Some(manager) = job.suspended_by.clone() {
            return Err(Reason::JobSuspended { manager, job: job.key.clone() });
        }
        let class = job.class.clone();
        match self.state.classes.get(&class).map(|class| class.assignment) {
            None => Err(Reason::ClassUnknown { class }),
            Some(ClassAssignment::Prohibited) => Err(Reason::ClassProhibited { class }),
            Some(ClassAssignment::IdleOnly) => Err(Reason::ClassNotForJobs { class }),
            Some(ClassAssignment::Guaranteed) => match &job.pool {
                Some(pool) if !self.state.pools_by_name.contains_key(pool) => {
                    Err(Reason::PoolUnknown { pool: pool.clone() })
                }
                _ => Ok(()),
            },
        }
    }

    fn candidate_pools(&self, job: &Job) -> Vec<Id<PoolRow>> {
        let named = |name: &Name| job.pool.as_ref().is_none_or(|pool| pool == name);
        self.state
            .pools_by_name
            .iter()
            .filter(|(name, id)| {
                let pool = self.state.pools[**id].object.as_ref();
                named(name) && pool.is_some_and(|pool| pool.resource == job.resource)
            })
            .map(|(_, &id)| id)
            .collect()
    }

    fn allowed_nodes(&self, job: &Job) -> Option<FxHashSet<Id<NodeRow>>> {
        let nodes = job.allowed_nodes.as_ref()?;
        Some(nodes.iter().filter_map(|node| self.state.nodes.find(node)).collect())
    }

    /// Places a job in a pool so that it does not delay the first job there.
    fn place_behind_head(
        &mut self,
        pool: Id<PoolRow>,
        job: &Job,
        allowed: Option<&FxHashSet<Id<NodeRow>>>,
    ) -> Option<Placed> {
        let object = self.state.pools[pool].object.as_ref()?;
        let (queueing, drain) = (object.queueing, object.drain_timeout);
        let mut gang = Gang {
            pool,
            resource: self.state.pools[pool].resource,
            shape: job.shape,
            workers: job.workers,
            allowed,
            bound: None,
        };
        let Some(head) = self.queue.heads.get_mut(&pool) else {
            return self.place(&gang);
        };
        if queueing == Queueing::StrictFifo || head.tried >= BACKFILL_DEPTH {
            return None;
        }
        head.tried += 1;
        let head = &self.queue.heads[&pool];
        let spare = |node| head.shadow.spare.get(&node).copied().unwrap_or_default();
        if !ends_before(job, self.now, head.shadow.at, drain) {
            if head.shadow.spare.is_empty() {
                return None;
            }
            gang.bound = Some(&spare);
        }
        self.place(&gang)
    }

    /// Returns the reason why a job waits. The job becomes the first of each of its pools that has no
    /// waiting job yet.
    fn wait(
        &mut self,
        job: &Job,
        pools: &[Id<PoolRow>],
        allowed: Option<&FxHashSet<Id<NodeRow>>>,
    ) -> Reason {
        let mut fit = Fit::default();
        let (mut shadows, mut ahead) = (Vec::new(), None);
        for &pool in pools {
            if let Some(head) = self.queue.heads.get(&pool) {
                let queueing = self.state.pools[pool].object.as_ref().map(|pool| pool.queueing);
                let known = head.shadow.at.is_some();
                ahead.get_or_insert((head.job.clone(), queueing, known));
                fit = fit.or(self.rough_fit(pool, job, allowed));
            } else if self.rough_fit(pool, job, allowed).ever > 0 {
                let (shadow, here) = self.shadow(pool, job, allowed);
                fit = fit.or(here);
                // Only a pool that can ever take the whole job has to wait for it.
                if here.ever >= job.workers {
                    shadows.push((pool, shadow));
                }
            }
        }
        let gpus = job.shape.gpus;
        if fit.ever == 0 {
            return Reason::NoNodeLargeEnough { gpus };
        }
        if fit.ever < job.workers {
            // It can never start in the pools as they are, so it must not block the queue.
            return Reason::PoolTooSmall { gpus: gpus * job.workers, most: gpus * fit.ever };
        }
        let at = shadows.iter().filter_map(|(_, shadow)| shadow.at).min();
        for (pool, shadow) in shadows {
            self.queue.heads.insert(pool, Head { job: job.key.clone(), shadow, tried: 0 });
        }
        let available = gpus * fit.now;
        match ahead {
            Some((first, Some(Queueing::StrictFifo), _)) => Reason::BehindJob { job: first },
            Some((first, _, known)) if fit.now >= job.workers => match known {
                true => Reason::WouldDelay { job: first },
                false => Reason::BehindJob { job: first },
            },
            _ if fit.now < job.workers
                && let Some(stuck) = self.state.first_stuck(pools) =>
            {
                self.not_stopping(stuck)
            }
            _ => Reason::WaitingForCapacity { gpus: gpus * job.workers, available, at },
        }
    }

    /// Returns the reason of a job that waits for a miner's pod that should have stopped.
    fn not_stopping(&self, stuck: &PodRow) -> Reason {
        let node = stuck.node.map(|node| self.state.nodes.name(node).clone());
        Reason::PodNotStopping {
            pod: stuck.pod.key.clone(),
            node: node.unwrap_or_default(),
            gone_by: stuck.pod.gone_by.unwrap_or_default(),
        }
    }

    /// Returns how many workers of a job a pool can take: exactly if the job is restricted to some
    /// nodes, otherwise without regard to CPU and memory, which would need a look at every node.
    fn rough_fit(
        &self,
        pool: Id<PoolRow>,
        job: &Job,
        allowed: Option<&FxHashSet<Id<NodeRow>>>,
    ) -> Fit {
        if let Some(allowed) = allowed {
            let fits = allowed.iter().filter_map(|&node| self.fit_on(node, pool, job));
            return fits.fold(Fit::default(), std::ops::Add::add);
        }
        let gpus = job.shape.gpus;
        let sizes = self.state.pools[pool].buckets.allocatable.iter();
        Fit {
            now: self.workers_available(pool, gpus),
            ever: sizes.map(|(size, nodes)| size / gpus * nodes).sum(),
        }
    }

    fn placement(&self, placed: &Placed) -> Vec<Placement> {
        let nodes = placed.nodes.iter();
        nodes
            .map(|&(node, workers)| Placement {
                node: self.state.nodes.name(node).clone(),
                workers,
            })
            .collect()
    }
}

struct Promised {
    gpus: u32,
    amounts: Amounts,
}

/// Returns whether a job that starts now ends before the first job can start.
fn ends_before(
    job: &Job,
    now: Timestamp,
    shadow: Option<Timestamp>,
    drain_timeout: Duration,
) -> bool {
    match (job.max_run_time, shadow) {
        (Some(run_time), Some(shadow)) => {
            now + drain_timeout + job.gang_timeout + run_time <= shadow
        }
        _ => false,
    }
}

fn merge(mut kept: Vec<Placement>, more: Vec<Placement>) -> Vec<Placement> {
    for placement in more {
        match kept.iter_mut().find(|kept| kept.node == placement.node) {
            Some(kept) => kept.workers += placement.workers,
            None => kept.push(placement),
        }
    }
    kept.sort_by(|a, b| a.node.cmp(&b.node));
    kept
}
