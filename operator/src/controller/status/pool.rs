//! The status of a `GpuPool`.

use daylight_base::Timestamp;
use daylight_crds::{CONDITION_READY, GpuCounts, GpuPool, GpuPoolStatus, MiningPolicy};
use daylight_planner::explain::{PoolGpus, PoolReport, Reason};

use crate::conditions::{Conditions, ReasonText, time};

/// The status of a pool by the plan.
pub(super) fn status(pool: &GpuPool, report: &PoolReport, now: Timestamp) -> GpuPoolStatus {
    let observed = pool.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = pool.metadata.generation;
    let conditions = Conditions { observed, generation, now };
    let wrong = match (&report.mining, &report.overlap) {
        (reason @ (Reason::Invalid { .. } | Reason::NoGpus { .. }), _) | (_, Some(reason)) => {
            Some(reason)
        }
        // An emergency stop is the reason why nothing mines, and yet the selector needs attention.
        (_, None) if report.nodes == 0 => Some(&Reason::NoNodes),
        _ => None,
    };
    let ready = if let Some(reason) = wrong {
        conditions.make(CONDITION_READY, false, &reason.into())
    } else {
        let accepted = ReasonText::new("Accepted", "The spec is valid and in effect.");
        conditions.make(CONDITION_READY, true, &accepted)
    };
    let planned = match report.mining {
        Reason::Observing { would_mine } => report.gpus.mining + would_mine,
        _ => report.gpus.mining,
    };
    let why = ReasonText::from(&report.mining);
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

/// The policy in effect: a stop of mining drains it, whatever policy the spec has.
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
    let &PoolGpus {
        total,
        ai,
        mining,
        undeclared,
        unlisted,
        idle,
        headroom,
        unavailable,
        quarantined,
    } = gpus;
    GpuCounts { total, ai, mining, idle, headroom, undeclared, unlisted, unavailable, quarantined }
}
