//! The status of a `GpuPool`.

use daylight_base::Timestamp;
use daylight_crds::{CONDITION_READY, GpuCounts, GpuPool, GpuPoolStatus, MiningPolicy};
use daylight_planner::explain::{PoolGpus, PoolReport, Reason};

use crate::conditions::{Conditions, ReasonText, time};
use crate::gpu_resources::is_listed;

/// The status of a pool by the plan. `gpu_resources` are those that admission takes for GPUs, as far as
/// they are known.
pub(super) fn status(
    pool: &GpuPool,
    report: &PoolReport,
    gpu_resources: &[String],
    now: Timestamp,
) -> GpuPoolStatus {
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
    } else if let Some(unlisted) = unlisted_resource(pool, gpu_resources) {
        conditions.make(CONDITION_READY, false, &unlisted)
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
        gpus: Some(gpu_counts(&report.gpus)),
        planned_mining_gpus: Some(planned),
        policy: Some(in_force(pool.spec.mining.policy, &report.mining)),
        reason: Some(why.word),
        message: Some(why.sentence),
        next_change: report.mining.earliest().and_then(time),
        ..GpuPoolStatus::default()
    }
}

/// Returns why the positive list does not hold in a pool: pods that request its resource need no class.
fn unlisted_resource(pool: &GpuPool, gpu_resources: &[String]) -> Option<ReasonText> {
    let resource = &pool.spec.resource;
    if gpu_resources.is_empty() || is_listed(resource, gpu_resources) {
        return None;
    }
    let sentence = format!(
        "Admission does not take {resource} for a GPU, so pods that request it need no class. Add it to the chart's gpuResources."
    );
    Some(ReasonText::new("ResourceNotListed", &sentence))
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

/// The GPUs of a pool, as its status has them.
pub fn gpu_counts(gpus: &PoolGpus) -> GpuCounts {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pool_whose_resource_admission_does_not_know_is_not_ready() {
        let pool = |resource: &str| -> GpuPool {
            serde_json::from_value(json!({
                "metadata": {"name": "a"},
                "spec": {
                    "nodeSelector": {"matchLabels": {"a": "b"}}, "resource": resource,
                    "site": {"name": "site-1"},
                },
            }))
            .unwrap()
        };
        let listed = ["nvidia.com/gpu".to_owned(), "nvidia.com/mig-*".to_owned()];
        for resource in ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb"] {
            assert!(unlisted_resource(&pool(resource), &listed).is_none(), "{resource}");
        }
        let found = unlisted_resource(&pool("amd.com/cpx_nps1"), &listed).unwrap();
        assert_eq!(found.word, "ResourceNotListed");
        assert!(found.sentence.contains("amd.com/cpx_nps1"), "{}", found.sentence);
        // Outside of a cluster, nothing is known of the chart.
        assert!(unlisted_resource(&pool("amd.com/cpx_nps1"), &[]).is_none());
    }
}
