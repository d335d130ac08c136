//! The part of an `AIJob`'s status that explains it. The executor writes the rest as it acts: state,
//! nodes, times and the condition Admitted.

use daylight_base::Timestamp;
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
    /// The outcome in a sentence, once the job has ended.
    pub outcome: Option<&'a str>,
    /// The reason why the API server rejects its pods, if it does.
    pub refusal: Option<&'a str>,
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
    let why = match (state, progress.outcome) {
        (AiJobState::Succeeded, _) => ReasonText::new("Succeeded", "All workers succeeded."),
        (AiJobState::Failed, outcome) => ReasonText::new(
            "Failed",
            outcome.unwrap_or("The job failed; see the logs of its pods."),
        ),
        _ => match (progress.refusal, &report.reason) {
            (Some(refusal), Reason::Starting { .. } | Reason::GangBackoff { .. }) => {
                rejected(refusal)
            }
            (Some(refusal), Reason::External) if state == AiJobState::Starting => rejected(refusal),
            (_, reason) => ReasonText::from(reason),
        },
    };
    let workers = job.spec.workers;
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
