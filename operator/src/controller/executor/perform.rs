//! What one change takes, request by request.

use std::time::Duration;

use daylight_crds::AiJob;
use serde::de::DeserializeOwned;

use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::send::{Answer, Failure, Sender, is_disruption_budget};
use crate::api_requests::{
    ApiRequest, create_priority_class, delete_mirror, delete_pod, evict_pod, forget_start,
    read_pod, read_priority_class,
};
use daylight_cluster::slim::{BatchJob, Pod};
use daylight_cluster::well_known::{MINER_PRIORITY, MINER_PRIORITY_CLASS};

/// How a change ended.
#[derive(Debug)]
pub enum Outcome {
    /// The pod is there, as we or somebody else made it.
    Granted(Box<Pod>),
    /// The pod ends. Whether that took a deletion, since a budget refused the eviction.
    Ending {
        /// A disruption budget was overruled.
        overruled: bool,
    },
    /// The pod does not exist any more.
    Gone,
    /// The AIJob is a step further; its Job, where that was changed too.
    Stepped(Box<AiJob>, Option<Box<BatchJob>>),
    /// The AIJob's Job exists.
    GangMade(Option<Box<BatchJob>>),
    /// A request without a lasting effect on the picture was made.
    Made(bytes::Bytes),
    /// The API server will not do it, and says why.
    Refused { code: u16, message: String },
    /// Somebody else changed something first; the next plan sees it.
    Overtaken,
    /// It may or may not have been done; the watches will tell.
    Unknown,
    /// It was not done, since this process does not lead.
    NotLeading,
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotLeading => Self::NotLeading,
            Failure::Unknown(why) => {
                tracing::warn!(%why, "A request's outcome is not known.");
                Self::Unknown
            }
        }
    }
}

fn refused(status: kube::core::Status) -> Outcome {
    Outcome::Refused { code: status.code, message: status.message }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    match serde_json::from_slice(body) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::warn!(%error, "The API server's answer cannot be read.");
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

/// Starts a replica. Where the name is taken, whoever has it counts.
pub(super) async fn grant(sender: Sender, write: ApiRequest, key: String) -> Outcome {
    match sender.send(&write).await {
        Ok(Answer::Done(body)) => match read_slim(&body) {
            Some(pod) => Outcome::Granted(pod),
            None => Outcome::Unknown,
        },
        Ok(Answer::Refused(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
            find(&sender, &key).await
        }
        // A quota that somebody else changed at the same moment.
        Ok(Answer::Refused(status)) if status.code == 409 => Outcome::Overtaken,
        Ok(Answer::Refused(status)) => refused(*status),
        Err(Failure::NotLeading) => Outcome::NotLeading,
        Err(Failure::Unknown(_)) => find(&sender, &key).await,
    }
}

async fn find(sender: &Sender, key: &str) -> Outcome {
    match sender.send(&read_pod(key)).await {
        Ok(Answer::Done(body)) => read_slim(&body).map_or(Outcome::Unknown, Outcome::Granted),
        Ok(Answer::Refused(_)) => Outcome::Overtaken,
        Err(failure) => failure.into(),
    }
}

/// Ends a pod: by an eviction, or where a budget refuses that by a deletion with the same grace.
pub(super) async fn evict(sender: Sender, key: String, uid: String, grace: Duration) -> Outcome {
    match sender.send(&evict_pod(&key, &uid, grace)).await {
        Ok(Answer::Done(_)) => Outcome::Ending { overruled: false },
        Ok(Answer::Refused(status)) if matches!(status.code, 404 | 409) => Outcome::Gone,
        Ok(Answer::Refused(status)) => {
            let overruled = is_disruption_budget(&status) || status.code == 500;
            match delete(sender, key, uid, Some(grace)).await {
                Outcome::Ending { .. } => Outcome::Ending { overruled },
                other => other,
            }
        }
        Err(failure) => failure.into(),
    }
}

/// Writes down the end of a pod's lease, and then lets the pod go.
pub(super) async fn record(sender: Sender, record: ApiRequest, release: ApiRequest) -> Outcome {
    match sender.send(&record).await {
        Ok(Answer::Done(_)) => {}
        // It is written already: its name is the pod's UID.
        Ok(Answer::Refused(status)) if status.code == 409 => {}
        // A namespace that ends takes no new object, and must not be held up for it.
        Ok(Answer::Refused(status)) if status.code == 403 && is_ending(&status) => {
            tracing::warn!(message = %status.message, "The end of a lease goes unrecorded.");
        }
        Ok(Answer::Refused(status)) => return refused(*status),
        Err(failure) => return failure.into(),
    }
    match sender.send(&release).await {
        Ok(Answer::Done(body)) => Outcome::Made(body),
        Ok(Answer::Refused(status)) if matches!(status.code, 404 | 409 | 422) => Outcome::Overtaken,
        Ok(Answer::Refused(status)) => refused(*status),
        Err(failure) => failure.into(),
    }
}

/// Whether something is refused because its namespace is being deleted.
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
) -> Outcome {
    match sender.send(&delete_pod(&key, &uid, grace)).await {
        Ok(Answer::Done(_)) => Outcome::Ending { overruled: false },
        Ok(Answer::Refused(status)) if matches!(status.code, 404 | 409) => Outcome::Gone,
        Ok(Answer::Refused(status)) => refused(*status),
        Err(failure) => failure.into(),
    }
}

/// Changes a Job, if that is part of the step, and then says in the AIJob's status that it is
/// done: if this process ends in between, the next one does it again to the same effect.
pub(super) async fn step(
    sender: Sender,
    job: Option<(ApiRequest, String, String)>,
    status: ApiRequest,
) -> Outcome {
    let mut batch = None;
    if let Some((patch, key, uid)) = job {
        let answer = match sender.send(&patch).await {
            // A Job that ran before keeps its node affinity on Kubernetes before 1.35, unless
            // its start time is taken away.
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
                return Outcome::Overtaken;
            }
            Ok(Answer::Refused(status)) => return refused(*status),
            Err(failure) => return failure.into(),
        }
    }
    match sender.send(&status).await {
        Ok(Answer::Done(body)) => match read(&body) {
            Some(job) => Outcome::Stepped(Box::new(job), batch),
            None => Outcome::Unknown,
        },
        Ok(Answer::Refused(status)) if matches!(status.code, 404 | 409) => Outcome::Overtaken,
        Ok(Answer::Refused(status)) => refused(*status),
        Err(failure) => failure.into(),
    }
}

/// Makes an AIJob's Service and Job. What exists already is left as it is.
pub(super) async fn make_gang(sender: Sender, service: ApiRequest, job: ApiRequest) -> Outcome {
    match sender.send(&service).await {
        Ok(Answer::Done(_)) => {}
        Ok(Answer::Refused(status)) if status.code == 409 => {}
        Ok(Answer::Refused(status)) => return refused(*status),
        Err(failure) => return failure.into(),
    }
    match sender.send(&job).await {
        Ok(Answer::Done(body)) => Outcome::GangMade(read_slim(&body)),
        Ok(Answer::Refused(status)) => refused(*status),
        Err(failure) => failure.into(),
    }
}

/// Makes one request whose answer the caller reads.
pub(super) async fn make(sender: Sender, write: ApiRequest) -> Outcome {
    match sender.send(&write).await {
        Ok(Answer::Done(body)) => Outcome::Made(body),
        Ok(Answer::Refused(status)) if matches!(status.code, 404 | 409) => Outcome::Overtaken,
        Ok(Answer::Refused(status)) => refused(*status),
        Err(failure) => failure.into(),
    }
}

/// Puts a mirror right. One that was made immutable is deleted: the next repair makes it anew.
pub(super) async fn mirror(sender: Sender, repair: ApiRequest) -> Outcome {
    match make(sender.clone(), repair.clone()).await {
        Outcome::Refused { code: 422, .. } if repair.method == http::Method::PATCH => {
            make(sender, delete_mirror(&repair)).await
        }
        other => other,
    }
}

/// Sees to it that the PriorityClass of miners is there and is what it must be: with another
/// priority, miners would displace AI.
pub(super) async fn priority_class(sender: Sender) -> Outcome {
    let remedy = "see docs/install.md for its YAML";
    let mut found = make(sender.clone(), read_priority_class()).await;
    if matches!(found, Outcome::Overtaken) {
        found = make(sender, create_priority_class()).await;
    }
    let body = match found {
        Outcome::Made(body) => body,
        Outcome::Refused { code, message } => {
            let message = format!(
                "PriorityClass {MINER_PRIORITY_CLASS} cannot be read or made ({message}); {remedy}."
            );
            return Outcome::Refused { code, message };
        }
        other => return other,
    };
    let Some(class) = read::<PriorityClass>(&body) else { return Outcome::Unknown };
    let never = class.preemption_policy.as_deref() == Some("Never");
    if class.value == Some(MINER_PRIORITY) && never && class.global_default != Some(true) {
        return Outcome::Made(body);
    }
    let message = format!(
        "PriorityClass {MINER_PRIORITY_CLASS} must have value {MINER_PRIORITY} and \
         preemptionPolicy Never, and not be the default, else miners could displace AI; delete \
         it, and Daylight makes it anew."
    );
    Outcome::Refused { code: 0, message }
}
