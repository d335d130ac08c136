//! The Services under which the workers of gangs find each other.
//!
//! A Service that a user or a garbage collector deletes is made again while its AIJob is not over.
//! Nothing else depends on Services, so they are listed now and then rather than watched: all at
//! once, as the API server has them in memory, and only while there are gangs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use daylight_base::Name;
use daylight_crds::{AiJob, AiJobState};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use serde::Deserialize;

use super::executor::build::gang;
use super::executor::{Executor, Target};
use crate::api_requests::{self, ApiRequest};
use crate::view::View;
use daylight_cluster::names::{key, parts};

/// Time after which the Services are listed again.
const EVERY: Duration = Duration::from_secs(10);

/// The AIJobs whose Services are missing, as of the last list.
#[derive(Debug, Default)]
pub struct GangServices {
    listed_at: Option<Instant>,
    missing: BTreeSet<Name>,
}

/// The answer of the API server.
#[derive(Deserialize)]
struct List {
    items: Vec<Service>,
}

impl GangServices {
    /// The requests that are due.
    pub fn due(
        &mut self,
        view: &View,
        executor: &Executor,
        now: Instant,
    ) -> Vec<(Target, ApiRequest)> {
        self.missing.retain(|job| gang_of(view, job).is_some());
        let mut requests: Vec<_> = self
            .missing
            .iter()
            .filter(|job| !executor.has_background(&Target::Service((*job).clone())))
            .filter_map(|job| {
                let service = gang::service(gang_of(view, job)?);
                let create = api_requests::create_service(parts(job).0, &service);
                Some((Target::Service(job.clone()), create))
            })
            .collect();
        let due = self.listed_at.is_none_or(|at| now.saturating_duration_since(at) >= EVERY);
        if due {
            self.listed_at = Some(now);
            if view.cluster().ai_jobs().any(|(job, _)| gang_of(view, job).is_some()) {
                requests.push((Target::Services, api_requests::list_services()));
            }
        }
        requests
    }

    /// The time of the next list.
    pub fn wake_at(&self) -> Option<Instant> {
        self.listed_at.map(|at| at + EVERY)
    }

    /// Takes in the list of Services. It may lack a Service that has just been made: making it again
    /// has no effect.
    pub fn take_list(&mut self, body: &[u8], view: &View) {
        let Ok(list) = serde_json::from_slice::<List>(body) else { return };
        let found: BTreeSet<Name> = list.items.iter().filter_map(|one| owned(one, view)).collect();
        let jobs = view.cluster().ai_jobs().map(|(job, _)| job);
        self.missing = jobs
            .filter(|job| !found.contains(*job) && gang_of(view, job).is_some())
            .cloned()
            .collect();
    }

    /// The Service of an AIJob was made again.
    pub fn made(&mut self, job: &Name) {
        self.missing.remove(job);
    }
}

/// The AIJob that a Service belongs to.
fn owned(service: &Service, view: &View) -> Option<Name> {
    let name = key(service.metadata.namespace.as_deref()?, service.metadata.name.as_deref()?);
    let job = view.cluster().ai_job(&name)?;
    let stays = service.metadata.deletion_timestamp.is_none();
    let uid = job.metadata.uid.as_deref();
    (stays && uid.is_some_and(|uid| is_controlled_by(service, uid))).then(|| name.into())
}

/// Returns `true` if the object with this UID controls a Service.
pub(super) fn is_controlled_by(service: &Service, uid: &str) -> bool {
    let mut owners = service.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// An AIJob that is not over and whose Job was made, with the Service before it.
fn gang_of<'a>(view: &'a View, job: &str) -> Option<&'a AiJob> {
    let cluster = view.cluster();
    let object = cluster.ai_job(job)?;
    let state = object.status.as_ref().and_then(|status| status.state);
    let over = matches!(state, Some(AiJobState::Succeeded | AiJobState::Failed));
    let uid = object.uid()?;
    let made = cluster.batch_job(job).is_some_and(|batch| *batch.owner == *uid);
    let ending = object.metadata.deletion_timestamp.is_some() || view.is_terminating(job);
    (made && !over && !ending).then_some(object)
}
