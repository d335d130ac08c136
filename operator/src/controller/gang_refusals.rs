//! AIJobs whose pods the API server rejects, for a quota or a policy.
//!
//! Kubernetes' Job controller creates their pods and reports a rejection in Events only. Watching
//! all Events of a cluster would cost more than all other watches together, so the Events of one
//! Job are listed, and only while it is released and lacks pods.

use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_crds::{AiJob, AiJobState};
use jiff::Timestamp as Time;
use rustc_hash::FxHashMap;
use serde::Deserialize;

use crate::api_requests::{ApiRequest, read_refusals};
use crate::view::View;
use daylight_cluster::slim::BatchJob;

/// Time that the Job controller has to create the pods of a gang before its Events are listed, and
/// time after which they are listed again.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(5);

/// The AIJobs whose Events were listed, by key, and those whose Job is rejected itself.
#[derive(Debug, Default)]
pub struct GangRefusals {
    lookups: FxHashMap<Name, Lookup>,
    /// The answer of the API server to the last attempt to create the Job.
    jobs: FxHashMap<Name, String>,
}

/// The last list of a job's Events, and the rejection that the Events reported.
#[derive(Debug)]
struct Lookup {
    at: Timestamp,
    message: Option<String>,
}

/// The answer of the API server: the Events of a Job.
#[derive(Deserialize)]
struct EventList {
    items: Vec<FailedCreate>,
}

/// An Event that reports a rejected pod.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FailedCreate {
    #[serde(default)]
    message: String,
    last_timestamp: Option<Time>,
    event_time: Option<Time>,
}

impl GangRefusals {
    /// Returns the lists of Events that are due, and the time of the next. Forgets jobs that have all
    /// their pods or are over.
    pub fn due(
        &mut self,
        view: &View,
        now: Timestamp,
    ) -> (Vec<(Name, ApiRequest)>, Option<Timestamp>) {
        let mut lists = Vec::new();
        let mut wake_at: Option<Timestamp> = None;
        let waits = |key: &Name| {
            let job = view.cluster().ai_job(key);
            job.is_some_and(|job| {
                is_queued(job) || released_at(job).is_some() && lacks_pods(view, key, job)
            })
        };
        self.lookups.retain(|key, _| waits(key));
        self.jobs.retain(|key, _| view.cluster().ai_job(key).is_some());
        for (key, job) in view.cluster().ai_jobs() {
            let (Some(released), Some(batch)) = (released_at(job), view.cluster().batch_job(key))
            else {
                continue;
            };
            if !lacks_pods(view, key, job) {
                continue;
            }
            let again = self.lookups.get(key).map(|lookup| lookup.at + AGAIN);
            let due = again.map_or(released + PATIENCE, |at| at.max(released + PATIENCE));
            if due > now {
                wake_at = Some(wake_at.map_or(due, |at| at.min(due)));
                continue;
            }
            let message = self.lookups.remove(key).and_then(|lookup| lookup.message);
            self.lookups.insert(key.clone(), Lookup { at: now, message });
            lists.push((key.clone(), read_refusals(key, &batch.uid)));
            let again = now + AGAIN;
            wake_at = Some(wake_at.map_or(again, |at| at.min(again)));
        }
        (lists, wake_at)
    }

    /// The API server rejected the Job of an AIJob with this message, or, with `None`, accepted it.
    pub fn job_answered(&mut self, key: &Name, refusal: Option<&str>) {
        match refusal {
            Some(message) => drop(self.jobs.insert(key.clone(), message.to_owned())),
            None => drop(self.jobs.remove(key)),
        }
    }

    /// The reason why the API server rejects the Job of an AIJob, if it does.
    pub fn of_job(&self, job: &str) -> Option<&str> {
        self.jobs.get(job).map(String::as_str)
    }

    /// Takes in the Events of a job: the newest since the release of the job counts. Returns its
    /// message if it is another than before.
    pub fn take_events(&mut self, key: &Name, body: &[u8], job: &AiJob) -> Option<&str> {
        let (lookup, released) = (self.lookups.get_mut(key)?, released_at(job)?);
        let events = serde_json::from_slice::<EventList>(body).ok()?;
        let since = Timestamp(released.0.div_euclid(1000) * 1000);
        let at = |event: &FailedCreate| {
            let at = event.last_timestamp.or(event.event_time)?;
            Some(Timestamp(at.as_millisecond()))
        };
        let newest =
            events.items.iter().filter(|event| at(event) >= Some(since)).max_by_key(|e| at(e));
        let message = &newest?.message;
        let message = message.strip_prefix("Error creating: ").unwrap_or(message);
        if lookup.message.as_deref() == Some(message) {
            return None;
        }
        Some(lookup.message.insert(message.to_owned()).as_str())
    }

    /// The reason why the API server rejects pods of a job, if it does.
    pub fn get(&self, job: &str) -> Option<&str> {
        self.lookups.get(job)?.message.as_deref()
    }
}

fn state(job: &AiJob) -> Option<AiJobState> {
    job.status.as_ref().and_then(|status| status.state)
}

/// Returns `true` if the job waits to be released, perhaps again.
fn is_queued(job: &AiJob) -> bool {
    matches!(state(job), Some(AiJobState::Queued | AiJobState::Reserved))
}

/// The time of its release, while not all of its workers are bound.
fn released_at(job: &AiJob) -> Option<Timestamp> {
    let at = job.status.as_ref()?.released_at.as_ref()?;
    (state(job) == Some(AiJobState::Starting)).then(|| Timestamp(at.0.as_millisecond()))
}

/// Returns `true` if some of its workers have no pod at all.
fn lacks_pods(view: &View, key: &Name, job: &AiJob) -> bool {
    let ended = |batch: &BatchJob| batch.succeeded + batch.failed;
    let ended = view.cluster().batch_job(key).map_or(0, ended);
    let pods = view.pods_of_job(key).into_iter().filter(|pod| !pod.is_terminal()).count();
    (pods as u32).saturating_add(ended) < job.spec.workers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(released: &str) -> AiJob {
        serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "AIJob",
            "metadata": {"name": "llm", "namespace": "team-b", "uid": "77aa", "generation": 1},
            "spec": {
                "workers": 2, "activityClass": "ai-training",
                "template": {"spec": {"containers": [{"name": "train"}]}},
            },
            "status": {"state": "Starting", "releasedAt": released},
        }))
        .unwrap()
    }

    #[test]
    fn the_newest_refusal_since_the_release_counts() {
        let key = Name::from("team-b/llm");
        let mut refusals = GangRefusals::default();
        let list = |refusals: &mut GangRefusals| {
            refusals.lookups.insert(key.clone(), Lookup { at: Timestamp(0), message: None });
        };
        let events = json!({"items": [
            {"message": "Error creating: the second", "lastTimestamp": "2026-01-01T00:00:07Z"},
            {"message": "Error creating: the first", "lastTimestamp": "2026-01-01T00:00:05Z"},
            {"message": "of no time", "lastTimestamp": null},
        ]});
        let events = serde_json::to_vec(&events).unwrap();
        list(&mut refusals);
        // Events have whole seconds.
        let released = job("2026-01-01T00:00:07.900Z");
        assert_eq!(refusals.take_events(&key, &events, &released), Some("the second"));
        assert_eq!(refusals.take_events(&key, &events, &released), None, "it is known");
        assert_eq!(refusals.get(&key), Some("the second"));
        list(&mut refusals);
        refusals.take_events(&key, &events, &job("2026-01-01T00:00:08Z"));
        assert_eq!(refusals.get(&key), None);
    }
}
