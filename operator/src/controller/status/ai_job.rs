//! The part of an `AIJob`'s status that explains it. The executor writes the rest as it acts: state,
//! nodes, times and the condition Admitted.

use daylight_base::Timestamp;
use daylight_cluster::well_known::PODS_REFUSED;
use daylight_crds::{
    AiJob, AiJobState, AiJobStatus, CONDITION_FINISHED, CONDITION_READY, WorkerCounts,
};
use daylight_planner::explain::{JobReport, Reason};

use super::rejected;
use crate::conditions::{Conditions, ReasonText, time};

/// The state of a job's pods, and the outcome of the job.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress<'a> {
    pub running: u32,
    pub succeeded: u32,
    /// The outcome in a sentence, once the job has ended.
    pub outcome: Option<&'a str>,
    /// The reason why the API server rejects its pods, if it does.
    pub refusal: Option<&'a str>,
    /// The reason why the API server rejects its Job, if it does.
    pub job_refusal: Option<&'a str>,
}

/// The status of a job by the plan.
pub(super) fn status(
    job: &AiJob,
    report: &JobReport,
    progress: Progress<'_>,
    now: Timestamp,
) -> AiJobStatus {
    let known = job.status.as_ref();
    let observed = known.map_or(&[][..], |status| &status.conditions);
    let generation = job.metadata.generation;
    let conditions = Conditions { observed, generation, now };
    let state = known.and_then(|status| status.state).unwrap_or(AiJobState::Queued);
    let finished = matches!(state, AiJobState::Succeeded | AiJobState::Failed);
    let workers = job.spec.workers;
    let why = match (state, progress.outcome) {
        (AiJobState::Succeeded, _) => ReasonText::new("Succeeded", "All workers succeeded."),
        (AiJobState::Failed, outcome) => ReasonText::new(
            "Failed",
            outcome.unwrap_or("The job failed; see the logs of its pods."),
        ),
        _ => match (progress.job_refusal, progress.refusal, &report.reason) {
            (Some(refusal), ..) => {
                ReasonText::new(PODS_REFUSED, &format!("The API server rejects its Job: {refusal}"))
            }
            (None, Some(refusal), Reason::Starting { .. } | Reason::GangBackoff { .. }) => {
                rejected(refusal)
            }
            (_, _, Reason::Running) => running(progress, workers),
            (.., reason) => ReasonText::from(reason),
        },
    };
    let ready = state == AiJobState::Running && progress.running >= workers;
    let backoff_until = match report.reason {
        Reason::GangBackoff { until } => time(until),
        _ => None,
    };
    AiJobStatus {
        observed_generation: generation,
        conditions: vec![
            conditions.make(CONDITION_READY, ready, &why),
            conditions.make(CONDITION_FINISHED, finished, &why),
        ],
        workers: Some(WorkerCounts {
            wanted: workers,
            bound: if finished { 0 } else { report.bound },
            running: progress.running,
        }),
        reason: Some(why.word),
        message: Some(why.sentence),
        estimated_start: report.reason.earliest().and_then(time),
        backoff_until,
        ..AiJobStatus::default()
    }
}

/// The reason of a job whose workers are all bound: whether all of them run is known from their pods.
fn running(progress: Progress<'_>, workers: u32) -> ReasonText {
    let Progress { running, succeeded, .. } = progress;
    if running.saturating_add(succeeded) < workers {
        let sentence = format!(
            "{running} of {workers} workers are ready. If it stays so, look at the logs and Events \
             of the others."
        );
        return ReasonText::new("Starting", &sentence);
    }
    if running < workers {
        let sentence =
            format!("{running} of {workers} workers are running; {succeeded} succeeded.");
        return ReasonText::new(Reason::Running.code(), &sentence);
    }
    ReasonText::from(&Reason::Running)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job() -> AiJob {
        serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "AIJob",
            "metadata": {"name": "llm", "namespace": "team-b", "uid": "77aa", "generation": 1},
            "spec": {
                "workers": 3, "activityClass": "ai-training",
                "template": {"spec": {"containers": [{"name": "train"}]}},
            },
            "status": {"state": "Running"},
        }))
        .unwrap()
    }

    /// The reason, the sentence, and whether the job is ready.
    fn shown(reason: Reason, bound: u32, running: u32, succeeded: u32) -> (String, String, bool) {
        let report = JobReport { job: "team-b/llm".into(), bound, reason };
        let progress = Progress { running, succeeded, ..Progress::default() };
        let status = status(&job(), &report, progress, Timestamp(0));
        let ready =
            status.conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
        (status.reason.unwrap(), status.message.unwrap(), ready)
    }

    #[test]
    fn all_run_is_said_only_of_all() {
        let (word, sentence, ready) = shown(Reason::Running, 3, 3, 0);
        assert_eq!((&*word, &*sentence, ready), ("Running", "All pods are running.", true));
        let (word, sentence, ready) = shown(Reason::Running, 2, 2, 1);
        let expected = "2 of 3 workers are running; 1 succeeded.";
        assert_eq!((&*word, &*sentence, ready), ("Running", expected, false));
        // Its containers crash and are restarted in place.
        let (word, sentence, ready) = shown(Reason::Running, 3, 1, 0);
        assert!(sentence.starts_with("1 of 3 workers are ready."), "{sentence}");
        assert_eq!((&*word, ready), ("Starting", false));
        // One was evicted.
        let (word, _, ready) = shown(Reason::WorkersMissing { bound: 2, workers: 3 }, 2, 2, 0);
        assert_eq!((&*word, ready), ("WorkersMissing", false));
    }
}
