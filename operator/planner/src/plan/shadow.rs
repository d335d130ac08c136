//! The latest start of the first job of a queue, and what later jobs may take without delaying it:
//! EASY backfill (Lifka, "The ANL/IBM SP Scheduling System", 1995), node by node.

use std::ops::Add;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{Job, JobState};
use crate::plan::Run;
use crate::state::amounts::Amounts;
use crate::state::table::Id;
use crate::state::{JobRow, NodeRow, PoolRow};
use daylight_base::Timestamp;

/// The start that the first job of a queue can count on.
pub(super) struct Shadow {
    /// Its latest start, if enough running jobs have a maximum run time.
    pub(super) at: Option<Timestamp>,
    /// GPUs that it leaves on each node at that time; without such a time, GPUs on nodes that it could
    /// never use.
    pub(super) spare: FxHashMap<Id<NodeRow>, u32>,
}

/// Resources that AI can have on a node.
#[derive(Clone, Copy)]
struct Available {
    gpus: u32,
    amounts: Amounts,
}

impl Available {
    fn workers(&self, job: &Job) -> u32 {
        (self.gpus / job.shape.gpus).min(self.amounts.pods_of(&job.shape))
    }
}

/// How many workers of a job fit.
#[derive(Clone, Copy, Default)]
pub(super) struct Fit {
    /// If no AI work ran.
    pub(super) ever: u32,
    /// Now, if all miners left.
    pub(super) now: u32,
}

impl Fit {
    /// Returns the better of two pools: a gang is placed in one of them.
    pub(super) fn or(self, other: Self) -> Self {
        Self { ever: self.ever.max(other.ever), now: self.now.max(other.now) }
    }
}

impl Add for Fit {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { ever: self.ever + other.ever, now: self.now + other.now }
    }
}

impl Run<'_> {
    /// Returns what AI can have on a node, if the node is open in the pool.
    fn available(&self, node: Id<NodeRow>, pool: Id<PoolRow>) -> Option<Available> {
        let host = self.state.host_in(node, pool).filter(|host| host.open)?;
        let used = &self.state.nodes[node].used;
        let amounts = self.state.capacity(node) - used.fixed - used.claimed;
        Some(Available { gpus: host.bucket().available(), amounts })
    }

    /// Returns how many workers of a job a node of a pool can take.
    pub(super) fn fit_on(&self, node: Id<NodeRow>, pool: Id<PoolRow>, job: &Job) -> Option<Fit> {
        let available = self.available(node, pool)?;
        let gpus = self.state.host_in(node, pool)?.allocatable;
        let whole = Available { gpus, amounts: self.state.capacity(node) };
        Some(Fit { now: available.workers(job), ever: whole.workers(job) })
    }

    /// Returns the latest start of a job in a pool, and how many of its workers the pool can take.
    pub(super) fn shadow(
        &self,
        pool: Id<PoolRow>,
        job: &Job,
        allowed: Option<&FxHashSet<Id<NodeRow>>>,
    ) -> (Shadow, Fit) {
        let mut available: FxHashMap<Id<NodeRow>, Available> = FxHashMap::default();
        let mut never: FxHashMap<Id<NodeRow>, u32> = FxHashMap::default();
        let mut fit = Fit::default();
        for (id, ..) in self.state.nodes.iter() {
            let (Some(node), Some(here)) = (self.available(id, pool), self.fit_on(id, pool, job))
            else {
                continue;
            };
            if here.ever > 0 && allowed.is_none_or(|allowed| allowed.contains(&id)) {
                fit = fit + here;
                available.insert(id, node);
            } else {
                never.insert(id, node.gpus);
            }
        }

        // Ends of running jobs in order of time, until the job fits. All that ends at that moment is
        // counted, so that the result does not depend on the order of equal times.
        let mut total = fit.now;
        let before = available.clone();
        let mut at = None;
        for (end, node, freed) in self.releases(pool) {
            if at.is_some_and(|at| end > at) {
                break;
            }
            let Some(node) = available.get_mut(&node) else {
                continue;
            };
            total -= node.workers(job);
            node.gpus += freed.gpus;
            node.amounts += freed.amounts;
            total += node.workers(job);
            if total >= job.workers {
                at = Some(end);
            }
        }
        if at.is_none() {
            return (Shadow { at, spare: never }, fit);
        }

        // The job is assumed on the nodes that have little room today, which leaves today's room to
        // later jobs.
        let mut nodes: Vec<_> = available.iter().map(|(&id, &node)| (id, node)).collect();
        nodes.sort_by_key(|(id, _)| (before[id].workers(job), self.state.at(*id).0));
        let (mut left, mut spare) = (job.workers, never);
        for (id, node) in nodes {
            let workers = node.workers(job).min(left);
            left -= workers;
            spare.insert(id, node.gpus - workers * job.shape.gpus);
        }
        (Shadow { at, spare }, fit)
    }

    /// Returns what running jobs give back on the nodes of a pool, and when at the latest.
    fn releases(&self, pool: Id<PoolRow>) -> Vec<(Timestamp, Id<NodeRow>, Available)> {
        let mut releases = Vec::new();
        for &id in self.state.jobs_by_key.values() {
            let row = &self.state.jobs[id];
            let Some((job, end)) = row.object.as_ref().and_then(|job| Some((job, ends(job)?)))
            else {
                continue;
            };
            for (node, workers) in workers_on(self, id) {
                if let Some(host) = self.state.host_in(node, pool) {
                    let same = host.resource == row.resource;
                    let gpus = if same { job.shape.gpus.saturating_mul(workers) } else { 0 };
                    let amounts = Amounts::of(&job.shape, workers);
                    releases.push((end.max(self.now), node, Available { gpus, amounts }));
                }
            }
        }
        releases.sort_by_key(|&(end, node, _)| (end, self.state.at(node).0));
        releases
    }
}

/// Returns the latest end of a job, if it has a maximum run time.
fn ends(job: &Job) -> Option<Timestamp> {
    let run_time = job.max_run_time?;
    match job.state {
        JobState::Running { since } => Some(since + run_time),
        JobState::Released { at, .. } => Some(at + job.gang_timeout + run_time),
        _ => None,
    }
}

/// Returns the workers of a job by node, those not bound yet included.
fn workers_on(run: &Run<'_>, id: Id<JobRow>) -> Vec<(Id<NodeRow>, u32)> {
    let row = &run.state.jobs[id];
    let mut workers: FxHashMap<Id<NodeRow>, u32> = row.placed.clone();
    for &node in &row.holds {
        for hold in run.state.nodes[node].holds.iter().filter(|hold| hold.job == id) {
            *workers.entry(node).or_default() += hold.workers;
        }
    }
    workers.into_iter().collect()
}
