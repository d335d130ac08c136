//! AIJobs whose pods the API server does not take, for a quota or a policy.
//!
//! Their pods are made by Kubernetes' Job controller, which tells of a refusal in Events only. To
//! watch all Events of a cluster would cost more than all else that is watched, so those of one Job
//! are asked for, and only while it was released and lacks pods.

use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_crds::{AiJob, AiJobState};
use jiff::Timestamp as Time;
use rustc_hash::FxHashMap;
use serde::Deserialize;

use crate::api_requests::{ApiRequest, read_refusals};
use crate::view::View;
use daylight_cluster::slim::BatchJob;

/// How long the Job controller has to make the pods of a gang before it is asked why it did not, and
/// how long until it is asked again.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(5);

/// What is known of such jobs, by key.
#[derive(Debug, Default)]
pub struct GangRefusals(FxHashMap<Name, Asked>);

#[derive(Debug)]
struct Asked {
    at: Timestamp,
    message: Option<String>,
}

/// The Events of a Job, as they are read.
#[derive(Deserialize)]
struct Events {
    items: Vec<Told>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    #[serde(default)]
    message: String,
    last_timestamp: Option<Time>,
    event_time: Option<Time>,
}

impl GangRefusals {
    /// Asks why pods are missing, and says when to look again. What is known of jobs that have all
    /// their pods, or are over, is forgotten.
    pub fn due(
        &mut self,
        view: &View,
        now: Timestamp,
    ) -> (Vec<(Name, ApiRequest)>, Option<Timestamp>) {
        let mut asks = Vec::new();
        let mut wake_at: Option<Timestamp> = None;
        let waits = |key: &Name| {
            let job = view.cluster().ai_job(key);
            job.is_some_and(|job| {
                is_queued(job) || released_at(job).is_some() && lacks_pods(view, key, job)
            })
        };
        self.0.retain(|key, _| waits(key));
        for (key, job) in view.cluster().ai_jobs() {
            let (Some(released), Some(batch)) = (released_at(job), view.cluster().batch_job(key))
            else {
                continue;
            };
            if !lacks_pods(view, key, job) {
                continue;
            }
            let asked = self.0.get(key).map(|asked| asked.at + AGAIN);
            let due = asked.map_or(released + PATIENCE, |at| at.max(released + PATIENCE));
            if due > now {
                wake_at = Some(wake_at.map_or(due, |at| at.min(due)));
                continue;
            }
            let message = self.0.remove(key).and_then(|asked| asked.message);
            self.0.insert(key.clone(), Asked { at: now, message });
            asks.push((key.clone(), read_refusals(key, &batch.uid)));
            let again = now + AGAIN;
            wake_at = Some(wake_at.map_or(again, |at| at.min(again)));
        }
        (asks, wake_at)
    }

    /// Takes in the Events that were asked for: the newest since the release of the job counts.
    pub fn answered(&mut self, key: &Name, body: &[u8], job: &AiJob) {
        let (Some(asked), Some(released)) = (self.0.get_mut(key), released_at(job)) else { return };
        let Ok(events) = serde_json::from_slice::<Events>(body) else { return };
        let since = Timestamp(released.0.div_euclid(1000) * 1000);
        let at = |event: &Told| {
            let at = event.last_timestamp.or(event.event_time)?;
            Some(Timestamp(at.as_millisecond()))
        };
        let newest =
            events.items.iter().filter(|event| at(event) >= Some(since)).max_by_key(|e| at(e));
        if let Some(event) = newest {
            let message = event.message.strip_prefix("Error creating: ").unwrap_or(&event.message);
            asked.message = Some(message.to_owned());
        }
    }

    /// Why the API server takes no pods of a job, if it does not.
    pub fn get(&self, job: &str) -> Option<&str> {
        self.0.get(job)?.message.as_deref()
    }
}

fn state(job: &AiJob) -> Option<AiJobState> {
    job.status.as_ref().and_then(|status| status.state)
}

/// Whether it waits to be released, perhaps again.
fn is_queued(job: &AiJob) -> bool {
    matches!(state(job), Some(AiJobState::Queued | AiJobState::Reserved))
}

/// When it was released, if it was and its workers are not all bound yet.
fn released_at(job: &AiJob) -> Option<Timestamp> {
    let at = job.status.as_ref()?.released_at.as_ref()?;
    (state(job) == Some(AiJobState::Starting)).then(|| Timestamp(at.0.as_millisecond()))
}

/// Whether some of its workers have not even a pod.
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
        let ask = |refusals: &mut GangRefusals| {
            refusals.0.insert(key.clone(), Asked { at: Timestamp(0), message: None });
        };
        let events = json!({"items": [
            {"message": "Error creating: the second", "lastTimestamp": "2026-01-01T00:00:07Z"},
            {"message": "Error creating: the first", "lastTimestamp": "2026-01-01T00:00:05Z"},
            {"message": "of no time", "lastTimestamp": null},
        ]});
        let events = serde_json::to_vec(&events).unwrap();
        ask(&mut refusals);
        // Events have whole seconds.
        refusals.answered(&key, &events, &job("2026-01-01T00:00:07.900Z"));
        assert_eq!(refusals.get(&key), Some("the second"));
        ask(&mut refusals);
        refusals.answered(&key, &events, &job("2026-01-01T00:00:08Z"));
        assert_eq!(refusals.get(&key), None);
    }
}
