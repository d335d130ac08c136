//! AI jobs, and the `batch/v1` Jobs that Daylight makes of them.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_cluster::names::{key as key_of, parts};
use daylight_cluster::selector::NodeFilter;
use daylight_cluster::slim::{BatchJob, Custom, Node, Template, Workload};
use daylight_cluster::{Changed, Kind, keys, same_spec, timestamp};
use daylight_crds::{AiJob, AiJobState, AiJobStatus};
use daylight_planner::model;
use daylight_planner::model::{Delta, ExternalStage, JobState, Placement, Shape};
use rustc_hash::{FxHashMap, FxHashSet};

use super::runtime_classes::add_overhead;
use super::{Observation, View};

/// The end of the year 9999: the time of what has not begun.
const NEVER: Timestamp = Timestamp::from_seconds(253_402_300_799);

/// The pod templates of AI jobs, reduced to what the planner needs.
#[derive(Debug, Default)]
pub(super) struct Templates {
    by_job: FxHashMap<Name, Arc<Template>>,
    /// Problems with templates that cannot be read.
    problems: FxHashMap<Name, String>,
    /// Jobs whose pods may not run on every node, as they were last evaluated.
    restricted: FxHashSet<Name>,
}

impl Templates {
    /// Reads the template of a job again; `None` if the job is gone or cannot be read.
    pub(super) fn read(&mut self, key: &Name, job: Option<&AiJob>) {
        self.problems.remove(key);
        let template = job.and_then(|job| match Template::new(&job.spec.template) {
            Ok(template) => Some(template),
            Err(problem) => {
                self.problems.insert(key.clone(), problem);
                None
            }
        });
        match template {
            Some(template) => self.by_job.insert(key.clone(), Arc::new(template)),
            None => self.by_job.remove(key),
        };
    }
}

/// Returns whether a node passes all filters.
fn pass(filters: &[&NodeFilter], node: &Node) -> bool {
    filters.iter().all(|nodes| nodes.matches(&node.name, &node.labels))
}

/// The times in the states of AI jobs: as written in the status, and when they were first seen.
///
/// The status may have been written by another process, whose clock differs.
#[derive(Debug, Default)]
pub(super) struct JobTimes(FxHashMap<Name, (Timestamp, Timestamp)>);

impl JobTimes {
    /// Notes the time in a job's state; returns when it was first seen.
    fn note(
        &mut self,
        key: &Name,
        written: Option<Timestamp>,
        now: Timestamp,
        at_start: bool,
    ) -> Option<Timestamp> {
        let Some(written) = written else {
            self.0.remove(key);
            return None;
        };
        if let Some((_, seen)) = self.0.get(key).filter(|(known, _)| *known == written) {
            return Some(*seen);
        }
        let seen = if at_start { written.min(now) } else { now };
        self.0.insert(key.clone(), (written, seen));
        Some(seen)
    }

    fn seen(&self, key: &str) -> Option<Timestamp> {
        self.0.get(key).map(|(_, seen)| *seen)
    }

    /// Moves all times, because the clock was set.
    pub(super) fn move_times(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        for (_, seen) in self.0.values_mut() {
            *seen = moved(*seen);
        }
    }
}

impl View {
    pub(super) fn ai_job_changed(
        &mut self,
        Changed { key, before }: Changed<Custom<AiJob>>,
        out: &mut Vec<Delta>,
    ) {
        let after = self.cluster.ai_jobs.get(&key);
        let same = same_spec(before.as_deref(), after, |job| &job.spec);
        let gone = after.is_none();
        if !same {
            self.read_template(&key);
            self.created.forget_job(&key);
        }
        if gone {
            self.foreseen.forget_state(&key);
            self.observations.push(Observation::AiJobGone { job: key.clone() });
        }
        self.emit_job(&key, out);
        if !same {
            self.emit_workers(&key, out);
        }
    }

    pub(super) fn batch_job_changed(
        &mut self,
        Changed { key, before }: Changed<BatchJob>,
        out: &mut Vec<Delta>,
    ) {
        let same = before
            .zip(self.cluster.batch_job(&key))
            .is_some_and(|(before, after)| before.uid == after.uid && before.owner == after.owner);
        self.emit_job(&key, out);
        if !same {
            self.emit_workers(&key, out);
        }
    }

    fn emit_workers(&mut self, job: &Name, out: &mut Vec<Delta>) {
        let mut pods: Vec<Name> = self.tracking.workers(job).cloned().collect();
        pods.sort_unstable();
        for pod in pods {
            self.emit_pod(&pod, out);
        }
    }

    pub(super) fn read_template(&mut self, key: &Name) {
        let job = self.cluster.ai_job(key).map(AsRef::as_ref);
        self.templates.read(key, job);
    }

    pub(super) fn emit_job(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let written = self.cluster.ai_job(key).and_then(|job| written_time(job));
        let since = self.job_times.note(key, written, self.now, self.starting);
        let (view, problem) = match self.cluster.ai_jobs.get(key) {
            None => (None, None),
            Some(job) => match &job.object {
                Err(problem) => (None, Some(problem.clone())),
                Ok(object) => {
                    let view = self.job_view(key, job, object, since);
                    let problem = view.problem.clone();
                    (Some(view), problem)
                }
            },
        };
        self.problems.set(Kind::AiJob, key, problem);
        self.emitted.job(key, view, out);
        if self.node_filters(key).is_empty() {
            self.templates.restricted.remove(key);
        } else {
            self.templates.restricted.insert(key.clone());
        }
    }

    /// The constraints on the nodes of a job's workers: those of its template, and of the workers'
    /// `RuntimeClass`. Without any, every node passes.
    fn node_filters(&self, key: &Name) -> Vec<&NodeFilter> {
        let Some(template) = self.templates.by_job.get(key) else { return Vec::new() };
        let pool = self.cluster.ai_job(key).and_then(|job| job.spec.pool.as_deref());
        let class = self.runtime_class_of_job(template.runtime_class.as_deref(), pool);
        let of_class = class.map(|class| &class.nodes);
        let filters = std::iter::once(&template.scheduling.nodes).chain(of_class);
        filters.filter(|nodes| !nodes.is_open()).collect()
    }

    /// The jobs that a node began or ceased to suit, sorted.
    pub(super) fn jobs_affected_by(
        &self,
        before: Option<&Node>,
        after: Option<&Node>,
    ) -> Vec<Name> {
        let restricted = self.templates.restricted.iter();
        let affected = restricted.filter(|job| {
            let filters = self.node_filters(job);
            before.map(|node| pass(&filters, node)) != after.map(|node| pass(&filters, node))
        });
        let mut jobs: Vec<Name> = affected.cloned().collect();
        jobs.sort_unstable();
        jobs
    }

    /// Evaluates the jobs in a namespace again.
    pub(super) fn emit_jobs_in(&mut self, namespace: &str, out: &mut Vec<Delta>) {
        for job in keys(&self.cluster.ai_jobs) {
            if parts(&job).0 == namespace {
                self.emit_job(&job, out);
            }
        }
    }

    fn job_view(
        &self,
        key: &Name,
        custom: &Custom<AiJob>,
        job: &AiJob,
        since: Option<Timestamp>,
    ) -> model::Job {
        let spec = &job.spec;
        let template = self.templates.by_job.get(key);
        let (resource, gpus, problem) = match template {
            None => {
                let problem = self.templates.problems.get(key).map_or("", String::as_str);
                (Arc::from(""), 0, Some(format!("spec.template cannot be read: {problem}.")))
            }
            Some(template) => self.requested(spec.pool.as_deref(), template),
        };
        let batch = self.cluster.batch_job(key).filter(|batch| batch.owner == custom.uid);
        let state = self.read_state(key, custom, job, since);
        // The planner places a job only until it runs.
        let chooses = !matches!(state, JobState::Finished | JobState::Running { .. });
        let class = template.and_then(|template| template.runtime_class.as_deref());
        let class = self.runtime_class_of_job(class, spec.pool.as_deref());
        let filters = if chooses { self.node_filters(key) } else { Vec::new() };
        let allowed_nodes =
            if filters.is_empty() { None } else { self.allowed_nodes(|node| pass(&filters, node)) };
        let mut shape = Shape {
            gpus,
            cpu_milli: template.map_or(0, |template| template.requests.cpu_milli),
            memory: template.map_or(0, |template| template.requests.memory),
            huge_pages: template.map_or([0; 2], |template| template.requests.huge_pages),
        };
        add_overhead(&mut shape, class);
        let requests_changed = self.created.raise_job(key, &resource, &mut shape);
        model::Job {
            key: key.clone(),
            created: custom.created,
            priority: spec.priority,
            workers: spec.workers,
            shape,
            class: Arc::from(spec.activity_class.as_str()),
            resource,
            pool: spec.pool.as_deref().map(Arc::from),
            allowed_nodes,
            max_run_time: spec.max_run_time.as_ref().map(daylight_crds::GoDuration::as_duration),
            gang_timeout: spec.gang_timeout.as_duration(),
            state,
            succeeded: batch.map_or(0, |batch| batch.succeeded),
            suspended_by: batch.and_then(|batch| batch.suspended_by.clone()),
            requests_changed,
            problem: problem.map(Arc::from),
        }
    }

    /// The pool's resource that a template requests, its count, and the problem with it.
    fn requested(&self, pool: Option<&str>, template: &Template) -> (Name, u32, Option<String>) {
        let extended = template.requests.extended.iter();
        let requested: Vec<&(Name, u32)> =
            extended.filter(|(resource, _)| self.pools.has_resource(resource)).collect();
        let of_pool =
            pool.and_then(|pool| self.cluster.pool(pool)).map(|pool| pool.spec.resource.as_str());
        match (&*requested, of_pool) {
            ([], Some(resource)) => (
                Arc::from(resource),
                0,
                Some(format!(
                    "spec.template requests no {resource}, the resource of its pool; set it in a container's resources.limits."
                )),
            ),
            ([], None) => {
                let mut known: Vec<&str> = self.pools.resources().map(|name| &**name).collect();
                known.sort_unstable();
                let remedy = if known.is_empty() {
                    "create a GpuPool first".to_owned()
                } else {
                    format!("set {} in a container's resources.limits", known.join(" or "))
                };
                (
                    Arc::from(""),
                    0,
                    Some(format!("spec.template requests no pool's resource; {remedy}.")),
                )
            }
            ([(resource, count)], of_pool) => {
                let problem = of_pool.filter(|of_pool| **of_pool != **resource).map(|of_pool| {
                    format!(
                        "spec.template requests {resource}, but pool {} has {of_pool}; name another pool or request {of_pool}.",
                        pool.unwrap_or_default()
                    )
                });
                (resource.clone(), *count, problem)
            }
            ([(resource, count), other, ..], _) => (
                resource.clone(),
                *count,
                Some(format!(
                    "spec.template requests both {resource} and {}; a job can use one pool's resource only, so remove one of them.",
                    other.0
                )),
            ),
        }
    }

    /// The time at which a job that has ended was first seen to have; clocks that are set do not count.
    pub fn finished_since(&self, key: &str) -> Option<Timestamp> {
        self.job_times.seen(key)
    }

    /// Returns Kueue's `LocalQueue` of a job, `namespace/name`: the one that it names, or the one that
    /// Kueue gave to its Job because the namespace has a default.
    pub fn queue_of(&self, key: &str, job: &AiJob) -> Option<Name> {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let given = || {
            let batch = self.cluster.batch_job(key).filter(|batch| *batch.owner == *uid);
            batch.and_then(|batch| batch.queue.as_deref())
        };
        let queue = job.spec.queue_name.as_deref().or_else(given)?;
        Some(key_of(parts(key).0, queue).into())
    }

    /// The reason why Kueue has not admitted the Job of an AIJob, as its Workload states it.
    fn pending_in_queue(&self, key: &str) -> Option<Arc<str>> {
        let batch = self.cluster.batch_job(key)?;
        let workload = self.cluster.workloads.get(self.workloads.get(key)?)?;
        let job = workload.job.as_ref().filter(|job| job.uid == batch.uid)?;
        job.pending.as_deref().map(Arc::from)
    }

    pub(super) fn workload_changed(
        &mut self,
        Changed { key, before }: Changed<Workload>,
        out: &mut Vec<Delta>,
    ) {
        let after = self.cluster.workloads.get(&key);
        let job = |workload: Option<&Workload>| workload?.job.as_ref().map(|job| job.key.clone());
        let (was, is) = (job(before.as_deref()), job(after));
        if let Some(job) = was.filter(|was| Some(was) != is.as_ref())
            && self.workloads.get(&job) == Some(&key)
        {
            self.workloads.remove(&job);
            self.emit_job(&job, out);
        }
        if let Some(job) = is {
            self.workloads.insert(job.clone(), key);
            self.emit_job(&job, out);
        }
    }

    /// Enters the Workloads that exist before the view is warm.
    pub(super) fn index_workloads(&mut self) {
        let workloads = self.cluster.workloads.iter();
        let of_jobs =
            workloads.filter_map(|(key, workload)| Some((&workload.job.as_ref()?.key, key)));
        self.workloads = of_jobs.map(|(job, key)| (job.clone(), key.clone())).collect();
    }

    fn read_state(
        &self,
        key: &Name,
        custom: &Custom<AiJob>,
        job: &AiJob,
        since: Option<Timestamp>,
    ) -> JobState {
        let status = job.status.as_ref();
        let state = status.and_then(|status| status.state);
        let batch = self.cluster.batch_job(key).filter(|batch| batch.owner == custom.uid);
        let over = matches!(state, Some(AiJobState::Succeeded | AiJobState::Failed))
            || custom.deleting
            || self.is_terminating(key)
            || batch.is_some_and(|batch| batch.outcome.is_some());
        if over {
            return JobState::Finished;
        }
        if let Some(queue) = self.queue_of(key, job) {
            let stage = match state {
                Some(AiJobState::Starting) => ExternalStage::Starting,
                Some(AiJobState::Running) => ExternalStage::Running,
                _ => ExternalStage::Waiting(self.pending_in_queue(key)),
            };
            return JobState::External { queue, stage };
        }
        if let Some(state) = self.foreseen.state(key) {
            return state.clone();
        }
        let placement = || -> Vec<Placement> {
            let placement = status.map_or(&[][..], |status| &status.placement);
            placement
                .iter()
                .map(|one| Placement { node: Arc::from(one.node.as_str()), workers: one.workers })
                .collect()
        };
        // The status counts releases. All but the present one failed to start the gang.
        let releases = status.and_then(|status| status.attempts).unwrap_or(0);
        // The Job was resumed, and the status does not say so yet: the process that resumed it
        // ended before it wrote that, or another client resumed it.
        if batch.is_some_and(|batch| !batch.suspended)
            && matches!(state, None | Some(AiJobState::Queued | AiJobState::Reserved))
        {
            // Its time begins once the status says so.
            return JobState::Released { placement: placement(), at: NEVER, attempts: releases };
        }
        let Some(status) = status else {
            return JobState::Queued { attempts: 0, suspended_at: None };
        };
        match status.state {
            // A placement of another number of workers is not Daylight's: it would keep GPUs free
            // for nothing.
            Some(AiJobState::Reserved) if placed(status) == u64::from(job.spec.workers) => {
                JobState::Reserved { placement: placement(), attempts: releases }
            }
            None | Some(AiJobState::Queued | AiJobState::Reserved) => {
                JobState::Queued { attempts: releases, suspended_at: since }
            }
            Some(AiJobState::Starting) => JobState::Released {
                placement: placement(),
                at: since.unwrap_or_default(),
                attempts: releases.saturating_sub(1),
            },
            Some(AiJobState::Running) => JobState::Running { since: since.unwrap_or_default() },
            Some(AiJobState::Succeeded | AiJobState::Failed) => JobState::Finished,
        }
    }
}

/// Number of workers that a reservation places.
fn placed(status: &AiJobStatus) -> u64 {
    status.placement.iter().map(|one| u64::from(one.workers)).sum()
}

/// The time in the state of a job, as written in its status.
fn written_time(job: &AiJob) -> Option<Timestamp> {
    let status = job.status.as_ref()?;
    match status.state {
        // Kept through a reservation: a job that loses it has waited long enough.
        None | Some(AiJobState::Queued | AiJobState::Reserved) => suspended_at(job),
        Some(AiJobState::Starting) => status.released_at.as_ref().map(timestamp),
        Some(AiJobState::Running) => status.started_at.as_ref().map(timestamp),
        Some(AiJobState::Succeeded | AiJobState::Failed) => {
            status.finished_at.as_ref().map(timestamp)
        }
    }
}

/// The time at which the gang was last suspended: that of the condition `Admitted`.
fn suspended_at(job: &AiJob) -> Option<Timestamp> {
    let status = job.status.as_ref()?;
    if status.attempts.unwrap_or(0) == 0 {
        return None;
    }
    status
        .conditions
        .iter()
        .find(|one| one.type_ == daylight_crds::CONDITION_ADMITTED && one.status == "False")
        .map(|one| timestamp(&one.last_transition_time))
}
