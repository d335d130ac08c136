//! When the first job of a queue can start at the latest, and what later jobs
//! may take without delaying it: EASY backfill (Lifka, "The ANL/IBM SP
//! Scheduling System", 1995), node by node.

use std::ops::Add;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{Job, JobState};
use crate::plan::Run;
use crate::state::host::Amounts;
use crate::state::table::Id;
use crate::state::{JobRow, NodeRow, PoolRow};
use daylight_base::Timestamp;

/// The start that the first job of a queue can count on.
pub(super) struct Shadow {
    /// When it can start at the latest, as far as running jobs say when they end.
    pub(super) at: Option<Timestamp>,
    /// GPUs that it leaves on each node at that time; without one, GPUs on
    /// nodes that it could never use.
    pub(super) spare: FxHashMap<Id<NodeRow>, u32>,
}

/// What AI can have on a node.
#[derive(Clone, Copy)]
struct Available {
    gpus: u32,
    beside: Amounts,
}

impl Available {
    fn workers(&self, job: &Job) -> u32 {
        let shape = &job.shape;
        let by = |have: i64, need: u64| match need {
            0 => u32::MAX,
            need => u32::try_from(have.max(0).cast_unsigned() / need).unwrap_or(u32::MAX),
        };
        (self.gpus / shape.gpus)
            .min(by(self.beside.cpu_milli, shape.cpu_milli))
            .min(by(self.beside.memory, shape.memory))
            .min(self.beside.pods.max(0) as u32)
    }
}

/// How many workers of a job can be had.
#[derive(Clone, Copy, Default)]
pub(super) struct Fit {
    /// If all work of AI were over.
    pub(super) ever: u32,
    /// Now, miners having left.
    pub(super) now: u32,
}

impl Fit {
    /// What one of two pools can take, a gang being placed in one.
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
    /// What AI can have on a node, if it is an open one of a pool.
    fn available(&self, node: Id<NodeRow>, pool: Id<PoolRow>) -> Option<Available> {
        let host = self.state.host_in(node, pool).filter(|host| host.open)?;
        let used = &self.state.nodes[node].used;
        let beside = self.state.capacity(node) - used.fixed - used.claimed;
        Some(Available { gpus: host.bucket().available(), beside })
    }

    /// How many workers of a job a node of a pool can take.
    pub(super) fn fit_on(&self, node: Id<NodeRow>, pool: Id<PoolRow>, job: &Job) -> Option<Fit> {
        let available = self.available(node, pool)?;
        let gpus = self.state.host_in(node, pool)?.allocatable;
        let whole = Available { gpus, beside: self.state.capacity(node) };
        Some(Fit { now: available.workers(job), ever: whole.workers(job) })
    }

    /// When a job can start in a pool at the latest, and what the pool can take of it.
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
            node.beside += freed.beside;
            total += node.workers(job);
            if total >= job.workers {
                at = Some(end);
            }
        }
        if at.is_none() {
            return (Shadow { at, spare: never }, fit);
        }

        // The job takes nodes that are of little use today first, so that
        // others may use today's.
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

    /// What running jobs give back, and when at the latest.
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
                    let gpus = if same { job.shape.gpus * workers } else { 0 };
                    let beside = Amounts::of(&job.shape, workers);
                    releases.push((end.max(self.now), node, Available { gpus, beside }));
                }
            }
        }
        releases.sort_by_key(|&(end, node, _)| (end, self.state.at(node).0));
        releases
    }
}

/// When a job is over at the latest, if it says so.
fn ends(job: &Job) -> Option<Timestamp> {
    let run_time = job.max_run_time?;
    match job.state {
        JobState::Running { since } => Some(since + run_time),
        JobState::Released { at, .. } => Some(at + job.gang_timeout + run_time),
        _ => None,
    }
}

/// The workers of a job by node, those on their way included.
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
