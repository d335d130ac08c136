//! Requests of created pods, which a `LimitRange` or a webhook may have raised.
//!
//! The planner goes by what a template or a miner sets. What admission adds to it shows in the first
//! pod only; from then on it is planned with, so that nothing is displaced for pods that cannot fit.

use std::sync::Arc;

use daylight_base::Name;
use daylight_cluster::pod_requests::Requests;
use daylight_cluster::slim::Pod;
use daylight_planner::model::{Delta, Shape};
use rustc_hash::FxHashMap;

use super::View;

/// What pods of AI jobs and miners were seen to request beyond what these set.
#[derive(Debug, Default)]
pub(super) struct Created {
    /// By AI job, until its spec changes.
    jobs: FxHashMap<Name, Raised>,
    /// By miner, for one revision of it.
    miners: FxHashMap<Name, (u64, Raised)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Raised {
    requests: Requests,
    sentence: Arc<str>,
}

impl Created {
    pub(super) fn forget_job(&mut self, job: &str) {
        self.jobs.remove(job);
    }

    pub(super) fn forget_miner(&mut self, miner: &str) {
        self.miners.remove(miner);
    }

    /// Raises the shape of a job's workers to what they were seen to request; returns the sentence
    /// about it.
    pub(super) fn raise_job(
        &self,
        job: &str,
        resource: &str,
        shape: &mut Shape,
    ) -> Option<Arc<str>> {
        Some(raise(self.jobs.get(job)?, resource, shape))
    }

    /// Raises the shape of a miner's replicas to what they were seen to request; returns the sentence
    /// about it.
    pub(super) fn raise_miner(
        &self,
        miner: &str,
        revision: u64,
        shape: &mut Shape,
    ) -> Option<Arc<str>> {
        let (of, raised) = self.miners.get(miner)?;
        (*of == revision).then(|| raise(raised, "", shape))
    }

    /// Returns `true` if pods of a miner were seen to request more than it sets.
    pub(super) fn raised(&self, miner: &str) -> bool {
        self.miners.contains_key(miner)
    }
}

/// The resource of a miner's GPUs depends on its pool, and nothing adds GPUs to its pods alone: they
/// are left as they are for an empty `resource`.
fn raise(raised: &Raised, resource: &str, shape: &mut Shape) -> Arc<str> {
    let Requests { cpu_milli, memory, huge_pages, .. } = &raised.requests;
    shape.gpus = shape.gpus.max(raised.requests.of(resource));
    shape.cpu_milli = shape.cpu_milli.max(*cpu_milli);
    shape.memory = shape.memory.max(*memory);
    shape.huge_pages = [0, 1].map(|at| shape.huge_pages[at].max(huge_pages[at]));
    raised.sentence.clone()
}

/// Returns a sentence if a pod requests more than was set for it.
fn compare(pod: &Pod, set: &Shape, resource: Option<&str>) -> Option<Arc<str>> {
    let requests = &pod.requests;
    let gpus = resource.map_or(set.gpus, |resource| requests.of(resource));
    let mut more = Vec::new();
    if gpus > set.gpus {
        let resource = resource.unwrap_or_default();
        more.push(format!("requests {gpus} {resource}, {} are set", set.gpus));
    }
    if requests.cpu_milli > set.cpu_milli {
        more.push(format!("requests {}m CPU, {}m are set", requests.cpu_milli, set.cpu_milli));
    }
    if requests.memory > set.memory {
        more.push(format!("requests {} bytes of memory, {} are set", requests.memory, set.memory));
    }
    if more.is_empty() {
        return None;
    }
    let by = if pod.limit_ranged { "A LimitRange of the namespace" } else { "A webhook" };
    Some(format!("Pod {} {}. {by} added to it.", pod.key, more.join("; ")).into())
}

impl View {
    /// Compares a pod with the object that it was created for, and plans with more where it requests
    /// more.
    pub(super) fn note_created(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let Some(pod) = self.cluster.pod(key).filter(|pod| !pod.is_terminal()) else { return };
        if let Some(lease) = &pod.lease {
            let miner = lease.miner.clone();
            let Some(view) = self.emitted.miners.get(&miner) else { return };
            if view.revision != lease.revision {
                return;
            }
            let Some(sentence) = compare(pod, &view.shape, None) else { return };
            let raised = Raised { requests: pod.requests.clone(), sentence };
            self.created.miners.insert(miner.clone(), (lease.revision, raised));
            self.emit_miner(&miner, out);
        } else if let Some(job) = pod.ai_job.clone()
            && self.is_worker(pod, &job)
            && let Some(view) = self.emitted.jobs.get(&job)
            && let Some(sentence) = compare(pod, &view.shape, Some(&view.resource))
        {
            let raised = Raised { requests: pod.requests.clone(), sentence };
            self.created.jobs.insert(job.clone(), raised);
            self.emit_job(&job, out);
        }
    }
}
