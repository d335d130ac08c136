//! AI jobs, and the Jobs of `batch/v1` that Daylight makes of them.

use std::sync::Arc;

use daylight_base::Name;
use daylight_crds::{AiJob, AiJobState};
use daylight_planner::model;
use daylight_planner::model::{Delta, JobState, Placement, Shape};

use super::pods::Seen;
use super::pools::same_spec;
use super::slim::{BatchJob, Custom, Template};
use super::store::Touched;
use super::{Index, Kind, moment};

impl Index {
    pub(super) fn ai_job_touched(
        &mut self,
        Touched { key, before }: Touched<Custom<AiJob>>,
        out: &mut Vec<Delta>,
    ) {
        let after = self.ai_jobs.get(&key);
        let same = same_spec(before.as_deref(), after, |job| &job.spec);
        if !same {
            self.read_template(&key);
        }
        if self.ai_jobs.get(&key).is_none() {
            self.states.remove(&key);
            self.seen.push(Seen::AiJobGone { job: key.clone() });
        }
        self.tell_job(&key, out);
        if !same {
            self.tell_workers(&key, out);
        }
    }

    pub(super) fn batch_job_touched(
        &mut self,
        Touched { key, before }: Touched<BatchJob>,
        out: &mut Vec<Delta>,
    ) {
        let after = self.batch_jobs.get(&key);
        let same = before
            .zip(after)
            .is_some_and(|(before, after)| before.uid == after.uid && before.owner == after.owner);
        self.tell_job(&key, out);
        if !same {
            self.tell_workers(&key, out);
        }
    }

    fn tell_workers(&mut self, job: &Name, out: &mut Vec<Delta>) {
        let mut pods: Vec<Name> = self.workers.get(job).into_iter().flatten().cloned().collect();
        pods.sort_unstable();
        for pod in pods {
            self.tell_pod(&pod, out);
        }
    }

    pub(super) fn read_template(&mut self, key: &Name) {
        let template = self
            .ai_jobs
            .get(key)
            .and_then(Custom::get)
            .and_then(|job| Template::new(&job.spec.template).ok());
        if template.as_ref().is_some_and(|template| !template.scheduling.nodes.is_open()) {
            self.restricted.insert(key.clone());
        } else {
            self.restricted.remove(key);
        }
        match template {
            Some(template) => self.templates.insert(key.clone(), Arc::new(template)),
            None => self.templates.remove(key),
        };
    }

    pub(super) fn tell_job(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let (view, problem) = match self.ai_jobs.get(key) {
            None => (None, None),
            Some(job) => match &job.object {
                Err(problem) => (None, Some(problem.clone())),
                Ok(object) => {
                    let view = self.job_view(key, job, object);
                    let problem = view.problem.clone();
                    (Some(view), problem)
                }
            },
        };
        self.set_problem(Kind::AiJob, key, problem);
        self.given.job(key, view, out);
    }

    fn job_view(&self, key: &Name, custom: &Custom<AiJob>, job: &AiJob) -> model::Job {
        let spec = &job.spec;
        let template = self.templates.get(key);
        let (resource, gpus, problem) = match template {
            None => (
                Arc::from(""),
                0,
                Some("spec.template cannot be read; check its quantities.".to_owned()),
            ),
            Some(template) => self.asked(spec.pool.as_deref(), template),
        };
        let state = self.job_state(key, custom, job);
        // Where it may run is only asked until it runs.
        let chooses = !matches!(state, JobState::Finished | JobState::Running { .. });
        let allowed_nodes = template
            .filter(|template| chooses && !template.scheduling.nodes.is_open())
            .and_then(|template| {
                let nodes = &template.scheduling.nodes;
                self.allowed_nodes(|node| nodes.matches(&node.name, &node.labels))
            });
        model::Job {
            key: key.clone(),
            created: custom.created,
            priority: spec.priority,
            workers: spec.workers,
            shape: Shape {
                gpus,
                cpu_milli: template.map_or(0, |template| template.requests.cpu_milli),
                memory: template.map_or(0, |template| template.requests.memory),
            },
            class: Arc::from(spec.activity_class.as_str()),
            resource,
            pool: spec.pool.as_deref().map(Arc::from),
            allowed_nodes,
            max_run_time: spec.max_run_time.as_ref().map(daylight_crds::GoDuration::as_duration),
            gang_timeout: spec.gang_timeout.as_duration(),
            state,
            problem: problem.map(Arc::from),
        }
    }

    /// The pool resource that a template asks for, how much of it, and what is
    /// wrong with that.
    fn asked(&self, pool: Option<&str>, template: &Template) -> (Name, u32, Option<String>) {
        let asked: Vec<&(Name, u32)> = template
            .requests
            .extended
            .iter()
            .filter(|(resource, _)| self.resources.contains(resource))
            .collect();
        let of_pool = pool.and_then(|pool| self.pool(pool)).map(|pool| pool.spec.resource.as_str());
        match (&*asked, of_pool) {
            ([], Some(resource)) => (
                Arc::from(resource),
                0,
                Some(format!(
                    "spec.template asks for no {resource}, the resource of its pool; set it in a container's resources.limits."
                )),
            ),
            ([], None) => {
                let mut known: Vec<&str> = self.resources.iter().map(|name| &**name).collect();
                known.sort_unstable();
                let remedy = if known.is_empty() {
                    "create a GpuPool first".to_owned()
                } else {
                    format!("set {} in a container's resources.limits", known.join(" or "))
                };
                (
                    Arc::from(""),
                    0,
                    Some(format!("spec.template asks for no pool's resource; {remedy}.")),
                )
            }
            ([(resource, count)], of_pool) => {
                let problem = of_pool.filter(|of_pool| **of_pool != **resource).map(|of_pool| {
                    format!(
                        "spec.template asks for {resource}, and pool {} has {of_pool}; name another pool or ask for that.",
                        pool.unwrap_or_default()
                    )
                });
                (resource.clone(), *count, problem)
            }
            ([(resource, count), other, ..], _) => (
                resource.clone(),
                *count,
                Some(format!(
                    "spec.template asks for both {resource} and {}; a job can ask for the resource of one kind of pool only.",
                    other.0
                )),
            ),
        }
    }

    fn job_state(&self, key: &Name, custom: &Custom<AiJob>, job: &AiJob) -> JobState {
        let status = job.status.as_ref();
        let state = status.and_then(|status| status.state);
        let over = matches!(state, Some(AiJobState::Succeeded | AiJobState::Failed))
            || custom.deleting
            || self
                .batch_jobs
                .get(key)
                .is_some_and(|batch| batch.owner == custom.uid && batch.outcome.is_some());
        if over {
            return JobState::Finished;
        }
        if job.spec.queue_name.is_some() {
            return JobState::External;
        }
        if let Some((state, _)) = self.states.get(key) {
            return state.clone();
        }
        let Some(status) = status else {
            return JobState::Queued { attempts: 0, suspended_at: None };
        };
        let placement = || {
            status
                .placement
                .iter()
                .map(|one| Placement { node: Arc::from(one.node.as_str()), workers: one.workers })
                .collect()
        };
        // The status counts releases; all but the present one were in vain.
        let releases = status.attempts.unwrap_or(0);
        match status.state {
            None | Some(AiJobState::Queued) => {
                JobState::Queued { attempts: releases, suspended_at: suspended_at(job) }
            }
            Some(AiJobState::Reserved) => {
                JobState::Reserved { placement: placement(), attempts: releases }
            }
            Some(AiJobState::Starting) => JobState::Released {
                placement: placement(),
                at: status.released_at.as_ref().map(moment).unwrap_or_default(),
                attempts: releases.saturating_sub(1),
            },
            Some(AiJobState::Running) => JobState::Running {
                since: status.started_at.as_ref().map(moment).unwrap_or_default(),
            },
            Some(AiJobState::Succeeded | AiJobState::Failed) => JobState::Finished,
        }
    }
}

/// When the gang was last suspended: since when it is not admitted.
fn suspended_at(job: &AiJob) -> Option<daylight_base::Timestamp> {
    let status = job.status.as_ref()?;
    if status.attempts.unwrap_or(0) == 0 {
        return None;
    }
    status
        .conditions
        .iter()
        .find(|one| one.type_ == daylight_crds::CONDITION_ADMITTED && one.status == "False")
        .map(|one| moment(&one.last_transition_time))
}
