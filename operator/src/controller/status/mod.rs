//! Statuses, from the plan's explanations.
//!
//! Every statement comes from the planner or the view. A status is written only if it differs from
//! the one in the cluster, and at most once a second for each object, so that statuses do not
//! compete with the changes that they describe.

mod ai_job;
mod class;
mod explained;
mod miner;
mod pool;
pub(crate) mod registration;

use std::time::{Duration, Instant};

use daylight_base::Name;
use daylight_cluster::Kind;
use daylight_cluster::well_known::{API_SERVER_SILENT, PODS_REFUSED};
use daylight_crds::{
    CONDITION_LAPSED, CONDITION_LIMIT_FORECAST, CONDITION_OVER_LIMIT, RegistrationState,
};
use daylight_planner::explain::Plan;
use kube::Resource;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::executor::{Executor, Target};
use super::lapses;
use super::state::{NO_GRANTS_WHILE_STALE, State};
use crate::api_requests::{ApiRequest, apply_status};
use crate::conditions::ReasonText;
use crate::view::View;

use explained::{Announce, Explained, notices};

pub use ai_job::Progress;
pub use miner::Replicas;
pub use pool::gpu_counts;

/// The field manager of the statuses written here.
const MANAGER: &str = "daylight/status";

/// Statuses explain a picture of the cluster that may be stale after this time: a lost connection is
/// usually replaced before.
const STALE_FOR: Duration = Duration::from_secs(5);

/// The status of an object is written again after this time at the earliest.
const AGAIN: Duration = Duration::from_secs(1);

/// Decides which statuses are written, and when.
#[derive(Debug, Default)]
pub struct Statuses {
    /// The resources that admission takes for GPUs; empty if they are not known.
    gpu_resources: Vec<String>,
    written: FxHashMap<(Kind, Name), Instant>,
}

/// One pass over all objects.
struct Pass<'a> {
    statuses: &'a mut Statuses,
    state: &'a mut State,
    executor: &'a Executor,
    writes: Vec<(Target, ApiRequest)>,
    later: bool,
}

impl Statuses {
    /// Creates it with the resources that admission takes for GPUs; none if they are not known.
    pub fn new(gpu_resources: Vec<String>) -> Self {
        Self { gpu_resources, ..Self::default() }
    }

    /// Returns the statuses to write now, and `true` if others are due a little later.
    pub fn due(
        &mut self,
        plan: &Plan,
        state: &mut State,
        executor: &Executor,
    ) -> (Vec<(Target, ApiRequest)>, bool) {
        let now = state.instant;
        self.written.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        let mut pass = Pass { statuses: self, state, executor, writes: Vec::new(), later: false };
        pass.pools(plan);
        pass.registrations(plan);
        pass.classes(plan);
        pass.miners(plan);
        pass.jobs(plan);
        (pass.writes, pass.later)
    }
}

impl Pass<'_> {
    /// Writes `wanted` if it differs from `seen`. A new reason in it becomes an Event, as `announce`
    /// says.
    fn compare<K, S>(
        &mut self,
        kind: Kind,
        key: &Name,
        object: &K,
        seen: Option<&S>,
        wanted: &S,
        announce: Announce,
    ) where
        K: Resource<DynamicType = ()>,
        S: Explained + PartialEq + Serialize,
    {
        let own_part = seen.map(Explained::own_part);
        if own_part.as_ref() == Some(wanted) {
            return;
        }
        let target = Target::Status(kind, key.clone());
        let at = (kind, key.clone());
        if self.statuses.written.contains_key(&at) || self.executor.has_background(&target) {
            self.later = true;
            return;
        }
        let Some(uid) = object.meta().uid.as_deref() else { return };
        self.statuses.written.insert(at, self.state.instant);
        self.writes.push((target, apply_status::<K>(key, uid, MANAGER, wanted)));
        for notice in notices(seen, wanted, announce) {
            let subject = object.object_ref(&());
            self.state.events.note(&subject, notice, 0, None, self.state.instant);
        }
    }

    fn pools(&mut self, plan: &Plan) {
        for report in &plan.pools {
            let key = &report.pool;
            let Some(pool) = self.state.view.cluster().pool(key).cloned() else { continue };
            let wanted = pool::status(&pool, report, &self.statuses.gpu_resources, self.state.now);
            let warning = wanted.conditions.iter().any(|one| one.status != "True");
            let announce = Announce::warning_if(warning);
            self.compare(Kind::GpuPool, key, &*pool, pool.status.as_ref(), &wanted, announce);
        }
    }

    fn registrations(&mut self, plan: &Plan) {
        let lapses = lapses::all(&self.state.view, plan, self.state.now);
        for report in &plan.registrations {
            let key = &report.registration;
            let Some(object) = self.state.view.cluster().registration(key).cloned() else {
                continue;
            };
            let work = self.state.view.registered_work(key);
            let lapse = lapses.get(key);
            let wanted = registration::status(&object, report, work, lapse, self.state.now);
            let announce = Announce::warning_if(wanted.state != Some(RegistrationState::Active));
            let seen = object.status.as_ref();
            self.compare(Kind::Registration, key, &*object, seen, &wanted, announce);
        }
    }

    fn classes(&mut self, plan: &Plan) {
        let mut members: FxHashMap<String, class::Members> = FxHashMap::default();
        for report in &plan.registrations {
            let Some(object) = self.state.view.cluster().registration(&report.registration) else {
                continue;
            };
            let members = members.entry(object.spec.activity_class.clone()).or_default();
            members.registrations += 1;
            let active = registration::state(&report.state) == RegistrationState::Active;
            members.active += u32::from(active);
        }
        for (assigned, gpus) in self.state.view.assigned() {
            if let Some(class) = &assigned.class {
                let of_class = &mut members.entry(class.to_string()).or_default().gpus;
                *of_class = of_class.saturating_add(u32::try_from(gpus).unwrap_or(u32::MAX));
            }
        }
        let classes: Vec<_> = self
            .state
            .view
            .cluster()
            .classes()
            .map(|(key, class)| (key.clone(), class.clone()))
            .collect();
        for (key, object) in classes {
            let members = members.get(&*key).copied().unwrap_or_default();
            let problem = self.state.view.problem(Kind::ActivityClass, &key).map(str::to_owned);
            let wanted = class::status(&object, members, problem.as_deref(), self.state.now);
            let seen = object.status.as_ref();
            self.compare(Kind::ActivityClass, &key, &*object, seen, &wanted, Announce::Normal);
        }
    }

    fn miners(&mut self, plan: &Plan) {
        let replicas = replicas(&self.state.view);
        let refused = self.executor.pod_refusals();
        for report in &plan.miners {
            let key = &report.miner;
            let Some(object) = self.state.view.cluster().miner(key).cloned() else { continue };
            let replicas = replicas.get(key).copied().unwrap_or_default();
            let refusal = self.state.refusals.shown(key);
            // A refusal became an Event when it was raised.
            let announced = refusal.is_some() && !refused.contains_key(key);
            let stays = || {
                let (pods, refusal) = refused.get(key)?;
                Some(ReasonText::new(refusal.code(), &refusal.sentence(*pods)))
            };
            let refusal = refusal.map(|it| ReasonText::new(&it.word, &it.sentence));
            let refusal = stays().or(refusal).or_else(|| {
                let wants = report.held < report.wanted || replicas.alive < report.held;
                if !wants {
                    return None;
                }
                if self.state.is_stale_for(STALE_FOR) {
                    return Some(ReasonText::new(API_SERVER_SILENT, NO_GRANTS_WHILE_STALE));
                }
                let problem = self.executor.no_grants()?;
                Some(ReasonText::new(PODS_REFUSED, problem))
            });
            let failure = self.state.refusals.failure(key);
            let announce = match &refusal {
                _ if announced => Announce::Already,
                refusal => Announce::warning_if(refusal.is_some()),
            };
            let pods = miner::PodFacts { replicas, refusal, failure };
            let wanted = miner::status(&object, report, pods, self.state.now);
            self.compare(Kind::Miner, key, &*object, object.status.as_ref(), &wanted, announce);
        }
    }

    fn jobs(&mut self, plan: &Plan) {
        for report in &plan.jobs {
            let key = &report.job;
            let Some(object) = self.state.view.cluster().ai_job(key).cloned() else { continue };
            let running = self
                .state
                .view
                .pods_of_job(key)
                .into_iter()
                .filter(|pod| pod.ready && !pod.is_terminal())
                .count() as u32;
            let batch = self.state.view.cluster().batch_job(key);
            let outcome = batch
                .and_then(|batch| batch.outcome.as_ref())
                .map(|outcome| outcome.message.to_string());
            let refusal = self.state.gang_refusals.get(key);
            let succeeded = batch.map_or(0, |batch| batch.succeeded);
            let job_refusal = self.state.gang_refusals.of_job(key).filter(|_| batch.is_none());
            let outcome = outcome.as_deref();
            let progress = Progress { running, succeeded, outcome, refusal, job_refusal };
            let wanted = ai_job::status(&object, report, progress, self.state.now);
            let announce = Announce::warning_if(matches!(
                wanted.reason.as_deref(),
                Some(PODS_REFUSED | "JobSuspended" | "WorkersMissing")
            ));
            self.compare(Kind::AiJob, key, &*object, object.status.as_ref(), &wanted, announce);
        }
    }
}

/// The reason of a miner or a gang whose pods the API server rejects.
fn rejected(message: &str) -> ReasonText {
    ReasonText::new(PODS_REFUSED, &format!("The API server rejects its pods: {message}"))
}

/// Counts the pods of each miner that have not ended.
pub fn replicas(view: &View) -> FxHashMap<Name, Replicas> {
    let mut all: FxHashMap<Name, Replicas> = FxHashMap::default();
    for pod in view.cluster().pods() {
        let Some(lease) = pod.lease.as_ref().filter(|_| !pod.is_terminal()) else { continue };
        let replicas = all.entry(lease.miner.clone()).or_default();
        replicas.alive += 1;
        replicas.ready += u32::from(pod.ready);
        if pod.gates.is_empty() {
            replicas.gpus += pod.requests.extended.iter().map(|(_, count)| count).sum::<u32>();
        }
    }
    all
}
