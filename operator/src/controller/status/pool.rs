//! The status of a `GpuPool`.

use daylight_base::Timestamp;
use daylight_crds::{CONDITION_READY, GpuCounts, GpuPool, GpuPoolStatus, MiningPolicy};
use daylight_planner::explain::{PoolGpus, PoolReport, Reason};

use crate::conditions::{Conditions, Why, time};

/// What the plan says of a pool, as its status.
pub(super) fn status(pool: &GpuPool, report: &PoolReport, now: Timestamp) -> GpuPoolStatus {
    let observed = pool.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = pool.metadata.generation;
    let conditions = Conditions { observed, generation, now };
    let wrong = match (&report.mining, &report.overlap) {
        (reason @ (Reason::Invalid { .. } | Reason::NoNodes), _) | (_, Some(reason)) => {
            Some(reason)
        }
        _ => None,
    };
    let ready = if let Some(reason) = wrong {
        conditions.make(CONDITION_READY, false, &reason.into())
    } else {
        let accepted = Why::new("Accepted", "The pool is acted upon as its spec says.");
        conditions.make(CONDITION_READY, true, &accepted)
    };
    let planned = match report.mining {
        Reason::Observing { would_mine } => report.gpus.mining + would_mine,
        _ => report.gpus.mining,
    };
    let why = Why::from(&report.mining);
    GpuPoolStatus {
        observed_generation: generation,
        conditions: vec![ready],
        nodes: Some(report.nodes),
        gpus: Some(counts(&report.gpus)),
        planned_mining_gpus: Some(planned),
        policy: Some(in_force(pool.spec.mining.policy, &report.mining)),
        reason: Some(why.word),
        message: Some(why.sentence),
        next_change: report.mining.earliest().and_then(time),
        ..GpuPoolStatus::default()
    }
}

/// The policy that holds now: what stops mining drains it, whatever the spec says.
fn in_force(policy: MiningPolicy, mining: &Reason) -> MiningPolicy {
    match mining {
        Reason::EmergencyStop { .. } | Reason::WindowClosed { .. }
            if policy != MiningPolicy::Observe =>
        {
            MiningPolicy::Drain
        }
        Reason::Invalid { .. } if policy == MiningPolicy::Fill => MiningPolicy::Hold,
        _ => policy,
    }
}

fn counts(gpus: &PoolGpus) -> GpuCounts {
    let &PoolGpus { total, ai, mining, undeclared, idle, headroom, unavailable, quarantined } =
        gpus;
    GpuCounts { total, ai, mining, idle, headroom, undeclared, unavailable, quarantined }
}
