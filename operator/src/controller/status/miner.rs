//! The status of a `Miner`.

use daylight_crds::labels::MINER;
use daylight_crds::{CONDITION_READY, Miner, MinerStatus};
use daylight_planner::explain::{MinerReport, Reason};
use daylight_planner::time::Timestamp;
use kube::ResourceExt as _;

use crate::conditions::{Conditions, Why, time};
use crate::names::PODS_REFUSED;

/// A miner's pods that have not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// All of them, those that are stopping included.
    pub alive: u32,
    /// Those that run.
    pub ready: u32,
    /// GPUs that they hold.
    pub gpus: u32,
}

/// What the plan says of a miner, as its status. `refusal` is why the API server takes none of
/// its pods, if it does not.
pub(super) fn status(
    miner: &Miner,
    report: &MinerReport,
    replicas: Replicas,
    refusal: Option<&str>,
    now: Timestamp,
) -> MinerStatus {
    let observed = miner.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = miner.metadata.generation;
    let (ready, why) = readiness(report, replicas, refusal);
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
    }
}

fn readiness(report: &MinerReport, replicas: Replicas, refusal: Option<&str>) -> (bool, Why) {
    if let Some(refusal) = refusal {
        let sentence = format!("The API server does not take its pods: {refusal}");
        return (false, Why::new(PODS_REFUSED, &sentence));
    }
    match report.reason {
        Reason::Running if replicas.ready < report.wanted => {
            let sentence = format!("{} of {} replicas run.", replicas.ready, report.wanted);
            (false, Why::new("Starting", &sentence))
        }
        Reason::Running | Reason::NothingWanted => (true, Why::from(&report.reason)),
        _ => (false, Why::from(&report.reason)),
    }
}
