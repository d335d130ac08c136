//! The requests of each change, in order.

use std::time::Duration;

use daylight_crds::AiJob;
use serde::de::DeserializeOwned;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::send::{Answer, Failure, Sender, is_disruption_budget, is_webhook_failure};
use crate::api_requests::{
    ApiRequest, create_priority_class, delete_pod, evict_pod, forget_start, read_pod,
    read_priority_class, read_service,
};
use crate::controller::gang_services::is_controlled_by;
use daylight_cluster::names::parts;
use daylight_cluster::slim::{BatchJob, Pod};
use daylight_cluster::well_known::{MINER_PRIORITY, MINER_PRIORITY_CLASS};

/// The end of a change.
#[derive(Debug)]
pub enum ChangeOutcome {
    /// The pod exists, made by this request or before it.
    Granted(Box<Pod>),
    /// The pod is ending.
    Ending {
        /// `true` if a disruption budget refused the eviction and the pod was deleted.
        overruled: bool,
    },
    /// The pod no longer exists.
    Gone,
    /// The AIJob after its step, and its Job if that changed too.
    Stepped(Box<AiJob>, Option<Box<BatchJob>>),
    /// The AIJob's Job exists.
    GangMade(Option<Box<BatchJob>>),
    /// Another request was made; the body is its answer.
    Made(bytes::Bytes),
    /// The API server rejected the change.
    Refused { code: u16, message: String },
    /// Another client changed the object first; the next plan takes that into account.
    Overtaken,
    /// The change may have been made; the watches will show it.
    Unknown,
    /// The pod may have been created, or may yet be: the request is sent again until it is answered.
    Unanswered(ApiRequest),
    /// The change was not sent, because this process does not lead.
    NotLeading,
}

impl From<Failure> for ChangeOutcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotLeading => Self::NotLeading,
            Failure::Unknown(why) => {
                tracing::warn!(%why, "The outcome of a request is unknown; the watches will show it.");
                Self::Unknown
            }
        }
    }
}

fn refused(status: kube::core::Status) -> ChangeOutcome {
    ChangeOutcome::Refused { code: status.code, message: status.message }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    match serde_json::from_slice(body) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::warn!(%error, "Cannot parse an answer of the API server.");
            None
        }
    }
}

fn read_slim<T>(body: &[u8]) -> Option<Box<T>>
where
    T: for<'de> serde::Deserialize<'de>,
{
    serde_json::from_slice(body).ok().map(Box::new)
}

/// Starts a replica. If a pod of that name exists, it is the replica: names are unique to a grant.
///
/// Without an answer, only the same request again can tell what happened. That no pod exists proves
/// nothing, because the first request may still be under way in the API server.
pub(super) async fn grant(sender: Sender, write: ApiRequest, key: String) -> ChangeOutcome {
    match sender.send(&write).await {
        Ok(Answer::Done(body)) => match read_slim(&body) {
            Some(pod) => ChangeOutcome::Granted(pod),
            None => ChangeOutcome::Unknown,
        },
        Ok(Answer::Refused(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
            match sender.send(&read_pod(&key)).await {
                Ok(Answer::Done(body)) => {
                    read_slim(&body).map_or(ChangeOutcome::Unknown, ChangeOutcome::Granted)
                }
                // It was deleted in the meantime.
                Ok(Answer::Refused(_)) => ChangeOutcome::Overtaken,
                Err(_) => ChangeOutcome::Unanswered(write),
            }
        }
        // Another client changed the quota at the same time.
        Ok(Answer::Refused(status)) if status.code == 409 => ChangeOutcome::Overtaken,
        Ok(Answer::Refused(status)) => refused(*status),
        Err(Failure::NotLeading) => ChangeOutcome::NotLeading,
        Err(Failure::Unknown(why)) => {
            tracing::warn!(pod = key, why, "No answer to the creation of a pod; asking again.");
            ChangeOutcome::Unanswered(write)
        }
    }
}

/// Evicts a pod, or deletes it with the same grace if a disruption budget refuses the eviction.
/// Without `grace` the pod's own applies.
pub(super) async fn evict(
    sender: Sender,
    key: String,
    uid: String,
    grace: Option<Duration>,
) -> ChangeOutcome {
    match sender.send(&evict_pod(&key, &uid, grace)).await {
        Ok(Answer::Done(_)) => ChangeOutcome::Ending { overruled: false },
        Ok(Answer::Refused(status)) if matches!(status.code, 404 | 409) => ChangeOutcome::Gone,
        Ok(Answer::Refused(status)) if is_webhook_failure(&status) => refused(*status),
        Ok(Answer::Refused(status)) => {
            // More than one budget over a pod is a configuration that the eviction API answers with
            // 500, and that no retry changes.
            let overruled = is_disruption_budget(&status) || status.code == 500;
            match delete(sender, key, uid, grace).await {
                ChangeOutcome::Ending { .. } => ChangeOutcome::Ending { overruled },
                other => other,
            }
        }
        Err(failure) => failure.into(),
    }
}

/// Records the end of a pod's lease, and then releases the pod.
pub(super) async fn record(
    sender: Sender,
    record: ApiRequest,
    release: ApiRequest,
) -> ChangeOutcome {
    match sender.send(&record).await {
        Ok(Answer::Done(_)) => {}
        // The record exists already: its name contains the pod's UID.
        Ok(Answer::Refused(status)) if status.code == 409 => {}
        // A namespace that is being deleted accepts no new object, and its deletion must not wait.
        Ok(Answer::Refused(status)) if status.code == 403 && is_ending(&status) => {
            tracing::warn!(
                path = %record.path, message = %status.message,
                "The end of a lease is not recorded, because its namespace is being deleted."
            );
        }
        Ok(Answer::Refused(status)) => return refused(*status),
        Err(failure) => return failure.into(),
    }
    match sender.send(&release).await {
        Ok(Answer::Done(body)) => ChangeOutcome::Made(body),
        Ok(Answer::Refused(status)) if matches!(status.code, 404 | 409 | 422) => {
            ChangeOutcome::Overtaken
        }
        Ok(Answer::Refused(status)) => refused(*status),
        Err(failure) => failure.into(),
    }
}

/// Returns `true` if the request was refused because its namespace is being deleted.
fn is_ending(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| {
        details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
    })
}

/// Deletes a pod.
pub(super) async fn delete(
    sender: Sender,
    key: String,
    uid: String,
    grace: Option<Duration>,
) -> ChangeOutcome {
    match sender.send(&delete_pod(&key, &uid, grace)).await {
        Ok(Answer::Done(_)) => ChangeOutcome::Ending { overruled: false },
        Ok(Answer::Refused(status)) if matches!(status.code, 404 | 409) => ChangeOutcome::Gone,
        Ok(Answer::Refused(status)) => refused(*status),
        Err(failure) => failure.into(),
    }
}

/// Changes a Job, if that is part of the step, and then records the step in the AIJob's status. If
/// this process ends in between, the next leader repeats the step to the same effect.
pub(super) async fn step(
    sender: Sender,
    job: Option<(ApiRequest, String, String)>,
    status: ApiRequest,
) -> ChangeOutcome {
    let mut batch = None;
    if let Some((patch, key, uid)) = job {
        let answer = match sender.send(&patch).await {
            // Before Kubernetes 1.35, the node affinity of a Job that ran before can be changed only
            // after its start time was removed.
            Ok(Answer::Refused(status)) if status.code == 422 => {
                match sender.send(&forget_start(&key, &uid)).await {
                    Ok(Answer::Done(_)) => sender.send(&patch).await,
                    other => other,
                }
            }
            answer => answer,
        };
        match answer {
            Ok(Answer::Done(body)) => batch = read_slim(&body),
            Ok(Answer::Refused(status)) if matches!(status.code, 404 | 409) => {
                return ChangeOutcome::Overtaken;
            }
            Ok(Answer::Refused(status)) => return refused(*status),
            Err(failure) => return failure.into(),
        }
    }
    match sender.send(&status).await {
        Ok(Answer::Done(body)) => match read(&body) {
            Some(job) => ChangeOutcome::Stepped(Box::new(job), batch),
            None => ChangeOutcome::Unknown,
        },
        Ok(Answer::Refused(status)) if matches!(status.code, 404 | 409) => ChangeOutcome::Overtaken,
        Ok(Answer::Refused(status)) => refused(*status),
        Err(failure) => failure.into(),
    }
}

/// Creates an AIJob's Service and Job. `key` is the AIJob's, and `uid` its UID.
pub(super) async fn make_gang(
    sender: Sender,
    service: ApiRequest,
    job: ApiRequest,
    key: String,
    uid: String,
) -> ChangeOutcome {
    match make_service(sender.clone(), service, key, uid).await {
        ChangeOutcome::Made(_) => {}
        other => return other,
    }
    match sender.send(&job).await {
        Ok(Answer::Done(body)) => ChangeOutcome::GangMade(read_slim(&body)),
        Ok(Answer::Refused(status)) => refused(*status),
        Err(failure) => failure.into(),
    }
}

/// Creates an AIJob's Service, unless it exists and belongs to the AIJob. One of another owner has the
/// name under which the gang's workers look for each other, so that they would not meet.
pub(super) async fn make_service(
    sender: Sender,
    service: ApiRequest,
    key: String,
    uid: String,
) -> ChangeOutcome {
    match sender.send(&service).await {
        Ok(Answer::Done(body)) => return ChangeOutcome::Made(body),
        Ok(Answer::Refused(status)) if status.code == 409 => {}
        Ok(Answer::Refused(status)) => return refused(*status),
        Err(failure) => return failure.into(),
    }
    let body = match sender.send(&read_service(&key)).await {
        Ok(Answer::Done(body)) => body,
        // It was deleted in the meantime.
        Ok(Answer::Refused(status)) if status.code == 404 => return ChangeOutcome::Unknown,
        Ok(Answer::Refused(status)) => return refused(*status),
        Err(failure) => return failure.into(),
    };
    let Some(found) = read::<Service>(&body) else { return ChangeOutcome::Unknown };
    match (is_controlled_by(&found, &uid), found.metadata.deletion_timestamp.is_some()) {
        (true, false) => ChangeOutcome::Made(body),
        // It is about to go, and is made again then.
        (_, true) => ChangeOutcome::Unknown,
        (false, false) => ChangeOutcome::Refused {
            code: 409,
            message: format!("services \"{}\" already exists", parts(&key).1),
        },
    }
}

/// Sends one request whose answer the caller reads.
pub(super) async fn make(sender: Sender, write: ApiRequest) -> ChangeOutcome {
    match sender.send(&write).await {
        Ok(Answer::Done(body)) => ChangeOutcome::Made(body),
        Ok(Answer::Refused(status)) if matches!(status.code, 404 | 409) => ChangeOutcome::Overtaken,
        Ok(Answer::Refused(status)) => refused(*status),
        Err(failure) => failure.into(),
    }
}

/// Creates the PriorityClass of miners if it is missing, and checks it: with another priority,
/// miners would displace AI.
pub(super) async fn priority_class(sender: Sender) -> ChangeOutcome {
    let mut found = make(sender.clone(), read_priority_class()).await;
    if matches!(found, ChangeOutcome::Overtaken) {
        found = make(sender, create_priority_class()).await;
    }
    let body = match found {
        ChangeOutcome::Made(body) => body,
        ChangeOutcome::Refused { code, message } => {
            let message = format!(
                "PriorityClass {MINER_PRIORITY_CLASS} cannot be read or created, so no miner \
                 starts ({message}). Apply its YAML from docs/install.md."
            );
            return ChangeOutcome::Refused { code, message };
        }
        other => return other,
    };
    let Some(class) = read::<PriorityClass>(&body) else { return ChangeOutcome::Unknown };
    let never = class.preemption_policy.as_deref() == Some("Never");
    if class.value == Some(MINER_PRIORITY) && never && class.global_default != Some(true) {
        return ChangeOutcome::Made(body);
    }
    let message = format!(
        "PriorityClass {MINER_PRIORITY_CLASS} must have value {MINER_PRIORITY} and \
         preemptionPolicy Never, and must not be the global default, so that miners cannot \
         displace AI. Delete it, and Daylight creates it again."
    );
    ChangeOutcome::Refused { code: 0, message }
}
