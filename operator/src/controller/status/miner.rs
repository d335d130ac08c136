//! The status of a `Miner`.

use daylight_agent_api::NotReady;
use daylight_base::Timestamp;
use daylight_crds::labels::MINER;
use daylight_crds::{CONDITION_READY, Miner, MinerStatus, MinerWork};
use daylight_planner::explain::{MinerReport, Reason};
use kube::ResourceExt as _;

use crate::conditions::{Conditions, ReasonText, time};
use daylight_cluster::slim::PodFailure;

/// A miner's pods that have not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// All pods, including those that are stopping.
    pub alive: u32,
    pub ready: u32,
    /// GPUs that the pods hold.
    pub gpus: u32,
}

/// Facts about a miner's pods.
pub(super) struct PodFacts<'a> {
    pub(super) replicas: Replicas,
    /// The refusal of its pods, if any.
    pub(super) refusal: Option<ReasonText>,
    /// The failure of its last pod, if none has been ready since.
    pub(super) failure: Option<&'a PodFailure>,
}

/// The status of a miner by the plan and the state of its pods.
pub(super) fn status(
    miner: &Miner,
    report: &MinerReport,
    pods: PodFacts<'_>,
    now: Timestamp,
) -> MinerStatus {
    let status = miner.status.as_ref();
    let observed = status.map_or(&[][..], |status| &status.conditions);
    let generation = miner.metadata.generation;
    let replicas = pods.replicas;
    let work = status.and_then(|status| status.work.as_ref());
    let (ready, why) = readiness(report, pods, work);
    let condition = Conditions { observed, generation, now }.make(CONDITION_READY, ready, &why);
    MinerStatus {
        observed_generation: generation,
        conditions: vec![condition],
        replicas: replicas.alive,
        ready_replicas: replicas.ready,
        entitled: Some(report.held),
        gpus: Some(replicas.gpus),
        selector: Some(format!("{MINER}={}", miner.name_any())),
        reason: Some(why.word),
        message: Some(why.sentence),
        eligible_at: report.reason.earliest().and_then(time),
        work: None,
    }
}

fn readiness(
    report: &MinerReport,
    pods: PodFacts<'_>,
    work: Option<&MinerWork>,
) -> (bool, ReasonText) {
    let PodFacts { replicas, refusal, failure } = pods;
    if let Some(refusal) = refusal {
        return (false, refusal);
    }
    let failed = |failure: &PodFailure, then: &str| {
        ReasonText::new(&failure.word, &format!("A replica failed: {}. {then}", failure.sentence))
    };
    let why = ReasonText::from(&report.reason);
    match report.reason {
        Reason::Running if replicas.ready < report.wanted => {
            let run = format!("{} of {} replicas are ready.", replicas.ready, report.wanted);
            let lacks = work.and_then(|work| Some((work.not_ready.as_ref()?, work)));
            let why = match (failure, lacks) {
                (Some(failure), _) => failed(failure, &run),
                (None, Some((word, work))) => {
                    let lacks = lacking(word);
                    ReasonText::new(
                        word,
                        &format!("{} of its replicas {lacks}. {run}", work.not_ready_replicas),
                    )
                }
                (None, None) => ReasonText::new("Starting", &run),
            };
            (false, why)
        }
        Reason::Running | Reason::NothingWanted => (true, why),
        Reason::Stopping { .. } => match failure {
            Some(failure) => (false, failed(failure, &why.sentence)),
            None => (false, why),
        },
        // The failure may be the reason why slots rest, or why nodes are closed or gone.
        Reason::WaitingForIdleGpus { .. }
        | Reason::NodesClosed { .. }
        | Reason::Quarantined { .. } => {
            let sentence = failure.map(|failure| failed(failure, &why.sentence).sentence);
            (false, ReasonText { sentence: sentence.unwrap_or(why.sentence), ..why })
        }
        _ => (false, why),
    }
}

/// The state of agents that are not ready, as the rest of a sentence.
fn lacking(word: &str) -> &'static str {
    match word.parse() {
        Ok(NotReady::PoolUnreachable) => "cannot reach any mining pool",
        Ok(NotReady::NotAuthorised) => "could not log in to the mining pool",
        Ok(NotReady::NotHashing) => "report no hashes, as while the engine starts",
        Ok(NotReady::NoFigures) => "got no figures from the engine",
        Ok(NotReady::EngineNotConnected) => {
            "have an engine that does not connect to the agent's port"
        }
        Ok(NotReady::Restarting) => "had to restart the engine",
        Ok(NotReady::Starting | NotReady::Draining) | Err(_) => "did not become ready",
    }
}
