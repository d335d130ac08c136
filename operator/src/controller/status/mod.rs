//! Statuses, from the plan's explanations.
//!
//! Nothing is computed here that the planner or the index has not said. A status is written only
//! where it differs from what is seen, and at most once a second for each object, so that
//! statuses never compete with the changes that they describe.

mod ai_job;
mod class;
mod miner;
mod pool;
pub(crate) mod registration;

use std::time::{Duration, Instant};

use daylight_base::Name;
use daylight_crds::{
    ActivityClass, AiJob, AiJobStatus, CONDITION_ADMITTED, CONDITION_LIMIT_FORECAST,
    CONDITION_OVER_LIMIT, GpuPool, Miner, MinerStatus, Registration, RegistrationState,
};
use daylight_planner::explain::Plan;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::events::What;
use super::executor::{Executor, Target};
use super::site::Site;
use crate::conditions::Why;
use crate::requests::{Write, apply_status};
use crate::view::View;
use daylight_cluster::Kind;
use daylight_cluster::well_known::PODS_REFUSED;

pub use ai_job::Progress;
pub use miner::Replicas;

/// The field manager of what is written here.
const MANAGER: &str = "daylight/status";

/// How soon the status of an object is written again.
const AGAIN: Duration = Duration::from_secs(1);

/// Decides which statuses are written, and when.
#[derive(Debug, Default)]
pub struct Statuses {
    written: FxHashMap<(Kind, Name), Instant>,
}

/// One pass over all objects.
struct Pass<'a> {
    statuses: &'a mut Statuses,
    site: &'a mut Site,
    executor: &'a Executor,
    writes: Vec<(Target, Write)>,
    later: bool,
}

impl Statuses {
    /// The statuses that are to be written now, and whether others are due a little later.
    pub fn due(
        &mut self,
        plan: &Plan,
        site: &mut Site,
        executor: &Executor,
    ) -> (Vec<(Target, Write)>, bool) {
        let now = site.instant;
        self.written.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        let mut pass = Pass { statuses: self, site, executor, writes: Vec::new(), later: false };
        pass.pools(plan);
        pass.registrations(plan);
        pass.classes(plan);
        pass.miners(plan);
        pass.jobs(plan);
        (pass.writes, pass.later)
    }
}

impl Pass<'_> {
    /// Writes `wanted` if it is not what is seen. A new word for why it is so becomes an Event.
    fn compare<K, S>(
        &mut self,
        kind: Kind,
        key: &Name,
        object: &K,
        seen: Option<&S>,
        wanted: &S,
        words: &[Words<'_>],
    ) where
        K: Resource<DynamicType = ()>,
        S: PartialEq + Serialize,
    {
        if seen == Some(wanted) {
            return;
        }
        let target = Target::Status(kind, key.clone());
        let at = (kind, key.clone());
        if self.statuses.written.contains_key(&at) || self.executor.has_background(&target) {
            self.later = true;
            return;
        }
        let Some(uid) = object.meta().uid.as_deref() else { return };
        self.statuses.written.insert(at, self.site.instant);
        self.writes.push((target, apply_status::<K>(key, uid, MANAGER, wanted)));
        for words in words.iter().filter(|words| words.seen != words.wanted) {
            self.tell(&object.object_ref(&()), words);
        }
    }

    fn tell(&mut self, subject: &ObjectReference, words: &Words<'_>) {
        let what = What::State {
            word: words.wanted.unwrap_or_default().into(),
            sentence: words.sentence.unwrap_or_default().into(),
            warning: words.warning,
        };
        self.site.events.note(subject, what, 0, None, self.site.instant);
    }

    fn pools(&mut self, plan: &Plan) {
        for report in &plan.pools {
            let Some(pool) = self.site.view.cluster().pool(&report.pool).cloned() else { continue };
            let wanted = pool::status(&pool, report, self.site.now);
            let words = Words {
                seen: pool.status.as_ref().and_then(|status| status.reason.as_deref()),
                wanted: wanted.reason.as_deref(),
                sentence: wanted.message.as_deref(),
                warning: wanted.conditions.iter().any(|one| one.status != "True"),
            };
            let seen = pool.status.as_ref();
            self.compare::<GpuPool, _>(Kind::GpuPool, &report.pool, &pool, seen, &wanted, &[words]);
        }
    }

    fn registrations(&mut self, plan: &Plan) {
        for report in &plan.registrations {
            let key = &report.registration;
            let Some(object) = self.site.view.cluster().registration(key).cloned() else {
                continue;
            };
            let wanted = registration::status(&object, report, self.site.now);
            let mut seen = object.status.clone();
            if let Some(seen) = &mut seen {
                // Others write these.
                (seen.approval, seen.usage) = (None, None);
            }
            let words = Words {
                seen: object.status.as_ref().and_then(|status| status.reason.as_deref()),
                wanted: wanted.reason.as_deref(),
                sentence: wanted.message.as_deref(),
                warning: wanted.state != Some(RegistrationState::Active),
            };
            let observed = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
            let mut words = vec![words];
            for limit in [CONDITION_OVER_LIMIT, CONDITION_LIMIT_FORECAST] {
                words.extend(Words::of(limit, observed, &wanted.conditions));
            }
            self.compare::<Registration, _>(
                Kind::Registration,
                key,
                &object,
                seen.as_ref(),
                &wanted,
                &words,
            );
        }
    }

    fn classes(&mut self, plan: &Plan) {
        let mut members: FxHashMap<String, class::Members> = FxHashMap::default();
        for report in &plan.registrations {
            let Some(object) = self.site.view.cluster().registration(&report.registration) else {
                continue;
            };
            let members = members.entry(object.spec.activity_class.clone()).or_default();
            members.registrations += 1;
            let active = registration::state(&report.state) == RegistrationState::Active;
            members.active += u32::from(active);
        }
        for (assigned, gpus) in self.site.view.assigned() {
            if let Some(class) = assigned.class {
                members.entry(class.to_string()).or_default().gpus += gpus;
            }
        }
        let classes: Vec<_> = self
            .site
            .view
            .cluster()
            .classes()
            .map(|(key, class)| (key.clone(), class.clone()))
            .collect();
        for (key, object) in classes {
            let members = members.get(&*key).copied().unwrap_or_default();
            let problem = self.site.view.problem(Kind::ActivityClass, &key).map(str::to_owned);
            let wanted = class::status(&object, members, problem.as_deref(), self.site.now);
            let seen = object.status.as_ref();
            self.compare::<ActivityClass, _>(
                Kind::ActivityClass,
                &key,
                &object,
                seen,
                &wanted,
                &[],
            );
        }
    }

    fn miners(&mut self, plan: &Plan) {
        let replicas = replicas(&self.site.view);
        for report in &plan.miners {
            let key = &report.miner;
            let Some(object) = self.site.view.cluster().miner(key).cloned() else { continue };
            let replicas = replicas.get(key).copied().unwrap_or_default();
            let refusal = self.site.refusals.get(key);
            let refusal = refusal.map(|it| Why::new(&it.word, &it.sentence)).or_else(|| {
                let wants = report.held < report.wanted || replicas.alive < report.held;
                let none = wants.then(|| self.executor.no_grants()).flatten()?;
                Some(Why::new(
                    PODS_REFUSED,
                    &format!("The API server does not take its pods: {none}"),
                ))
            });
            let failure = self.site.failures.get(key);
            let standing = miner::Standing { replicas, refusal, failure };
            let wanted = miner::status(&object, report, standing, self.site.now);
            let words = Words {
                seen: object.status.as_ref().and_then(|status| status.reason.as_deref()),
                wanted: wanted.reason.as_deref(),
                sentence: wanted.message.as_deref(),
                warning: false,
            };
            // The auditor writes of their work.
            let seen = object.status.clone().map(|status| MinerStatus { work: None, ..status });
            let seen = seen.as_ref();
            self.compare::<Miner, _>(Kind::Miner, key, &object, seen, &wanted, &[words]);
        }
    }

    fn jobs(&mut self, plan: &Plan) {
        for report in &plan.jobs {
            let key = &report.job;
            let Some(object) = self.site.view.cluster().ai_job(key).cloned() else { continue };
            let running = self
                .site
                .view
                .pods_of_job(key)
                .into_iter()
                .filter(|pod| pod.ready && !pod.is_terminal())
                .count() as u32;
            let batch = self.site.view.cluster().batch_job(key);
            let outcome = batch
                .and_then(|batch| batch.outcome.as_ref())
                .map(|outcome| outcome.message.to_string());
            let refusal = self.site.gang_refusals.get(key);
            let progress = Progress { running, outcome: outcome.as_deref(), refusal };
            let wanted = ai_job::status(&object, report, progress, self.site.now);
            let words = Words {
                seen: object.status.as_ref().and_then(|status| status.reason.as_deref()),
                wanted: wanted.reason.as_deref(),
                sentence: wanted.message.as_deref(),
                warning: wanted.reason.as_deref() == Some(PODS_REFUSED),
            };
            let seen = object.status.as_ref().map(explained);
            self.compare::<AiJob, _>(Kind::AiJob, key, &object, seen.as_ref(), &wanted, &[words]);
        }
    }
}

/// The word for why an object is as it is, before and after.
struct Words<'a> {
    seen: Option<&'a str>,
    wanted: Option<&'a str>,
    sentence: Option<&'a str>,
    warning: bool,
}

impl<'a> Words<'a> {
    /// Of a condition that warns while it holds: what is told of it now, if that is worth telling.
    fn of(condition: &str, seen: &'a [Condition], wanted: &'a [Condition]) -> Option<Self> {
        let find = |all: &'a [Condition]| all.iter().find(|one| one.type_ == condition);
        let (seen, wanted) = (find(seen), find(wanted)?);
        let holds = |one: &Condition| one.status == "True";
        (holds(wanted) || seen.is_some_and(holds)).then(|| Self {
            seen: seen.map(|seen| &*seen.reason),
            wanted: Some(&wanted.reason),
            sentence: Some(&wanted.message),
            warning: holds(wanted),
        })
    }
}

/// The part of a job's status that is written here.
fn explained(status: &AiJobStatus) -> AiJobStatus {
    let mut conditions = status.conditions.clone();
    conditions.retain(|condition| condition.type_ != CONDITION_ADMITTED);
    AiJobStatus {
        observed_generation: status.observed_generation,
        conditions,
        workers: status.workers,
        reason: status.reason.clone(),
        message: status.message.clone(),
        estimated_start: status.estimated_start.clone(),
        backoff_until: status.backoff_until.clone(),
        ..AiJobStatus::default()
    }
}

/// The pods of every miner that have not ended.
pub fn replicas(view: &View) -> FxHashMap<Name, Replicas> {
    let mut all: FxHashMap<Name, Replicas> = FxHashMap::default();
    for pod in view.cluster().pods() {
        let Some(lease) = pod.lease.as_ref().filter(|_| !pod.is_terminal()) else { continue };
        let replicas = all.entry(lease.miner.clone()).or_default();
        replicas.alive += 1;
        replicas.ready += u32::from(pod.ready);
        replicas.gpus += pod.requests.extended.iter().map(|(_, count)| count).sum::<u32>();
    }
    all
}
