//! AI jobs: their placed workers, and the promises to workers still to be bound.

use rustc_hash::FxHashMap;

use crate::model::{Job, JobState, Placement};
use crate::state::clamp;
use crate::state::table::Id;
use crate::state::{Hold, JobRow, NodeRow, Stale, State, starts};

impl State {
    pub(super) fn apply_job(&mut self, mut job: Job) {
        clamp::job(&mut job);
        let id = self.jobs.entry(&job.key);
        self.jobs_by_key.insert(job.key.clone(), id);
        self.replace_job(id, Some(job));
    }

    pub(super) fn remove_job(&mut self, key: &str) {
        self.jobs_by_key.remove(key);
        if let Some(id) = self.jobs.find(key) {
            self.replace_job(id, None);
            self.forget_job(id);
        }
    }

    fn replace_job(&mut self, id: Id<JobRow>, job: Option<Job>) {
        let before = starts(self.jobs[id].object.as_ref());
        let after = starts(job.as_ref());
        if let Some(job) = &job {
            self.jobs[id].resource = self.resources.entry(&job.resource);
        }
        self.jobs[id].object = job;
        if before != after {
            self.rate_workers(id, after);
        }
        self.set_holds(id);
    }

    /// Adds the unbound workers of a job to the waiting pods, or removes them: they are demand of their
    /// own only while Daylight does not start the job.
    fn rate_workers(&mut self, id: Id<JobRow>, started_here: bool) {
        let unbound = self.jobs[id].pods.iter().filter(|&&pod| {
            let row = &self.pods[pod];
            row.node.is_none() && !row.pod.deleting && row.gpus > 0
        });
        let unbound: Vec<_> = unbound.map(|&pod| (self.pods[pod].pod.key.clone(), pod)).collect();
        for (key, pod) in unbound {
            if started_here {
                self.waiting.remove(&key);
            } else {
                self.waiting.insert(key, pod);
            }
        }
    }

    /// Sets the state of a job during a plan; returns the old one.
    pub(crate) fn set_job_state(&mut self, id: Id<JobRow>, state: JobState) -> Option<JobState> {
        let job = self.jobs[id].object.as_mut()?;
        let old = std::mem::replace(&mut job.state, state);
        self.set_holds(id);
        self.refresh();
        Some(old)
    }

    /// Counts a worker that is bound or nominated to a node.
    pub(super) fn count_placed(
        &mut self,
        id: Id<JobRow>,
        node: Id<NodeRow>,
        bound: bool,
        add: bool,
    ) {
        let row = &mut self.jobs[id];
        let count = row.placed.entry(node).or_default();
        if add {
            *count += 1;
            row.placed_total += 1;
            row.bound_total += u32::from(bound);
        } else {
            *count -= 1;
            row.placed_total -= 1;
            row.bound_total -= u32::from(bound);
            if *count == 0 {
                row.placed.remove(&node);
            }
        }
        self.set_holds(id);
    }

    /// Books the promises to a job: its placement, less the workers that are bound or nominated.
    fn set_holds(&mut self, id: Id<JobRow>) {
        let new = self.promises(id);
        let old = std::mem::take(&mut self.jobs[id].holds);
        // Only nodes whose promise changes are recounted: a large gang is on many nodes, and its workers
        // are bound one at a time.
        for &node in &old {
            let kept = new.get(&node);
            let holds = &mut self.nodes[node].holds;
            if kept.is_none() || holds.iter().find(|hold| hold.job == id) != kept {
                holds.retain(|hold| hold.job != id);
                self.mark(node, Stale::Counts);
            }
        }
        self.jobs[id].holds = new.keys().copied().collect();
        for (node, hold) in new {
            let holds = &mut self.nodes[node].holds;
            if !holds.iter().any(|hold| hold.job == id) {
                holds.push(hold);
                self.mark(node, Stale::Counts);
            }
        }
    }

    fn promises(&mut self, id: Id<JobRow>) -> FxHashMap<Id<NodeRow>, Hold> {
        let mut promises = FxHashMap::default();
        let row = &self.jobs[id];
        let Some(job) = &row.object else {
            return promises;
        };
        let (placement, reserved) = match &job.state {
            JobState::Reserved { placement, .. } => (placement.clone(), true),
            JobState::Released { placement, .. } => (placement.clone(), false),
            _ => return promises,
        };
        let (shape, resource) = (job.shape, row.resource);
        // Workers may be bound elsewhere than planned, so no more is promised than is still to be
        // bound. Nominated pods are counted as such.
        let mut left = job.workers.saturating_sub(row.placed_total);
        for Placement { node, workers } in placement {
            let node = self.node_entry(&node);
            let placed = self.jobs[id].placed.get(&node).copied().unwrap_or_default();
            let workers = workers.saturating_sub(placed).min(left);
            left -= workers;
            if workers > 0 {
                promises.insert(node, Hold { job: id, workers, shape, resource, reserved });
            }
        }
        promises
    }
}
