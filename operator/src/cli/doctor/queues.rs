//! Checks of queueing systems that may hold miners back.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::snapshot::Installation;
use super::{Check, Findings};
use daylight_cluster::well_known::MINER_PRIORITY_CLASS;

pub(super) fn check(installation: &Installation, findings: &mut Findings) {
    if let Some(pods) = findings.read(&installation.pods) {
        gates(pods, findings);
    }
    let (Some(queues), Some(miners)) =
        (findings.read(&installation.default_queues), findings.read(&installation.miners))
    else {
        return;
    };
    let miners: BTreeSet<String> = miners.iter().filter_map(kube::ResourceExt::namespace).collect();
    let mut passed = true;
    for namespace in queues.iter().filter(|namespace| miners.contains(*namespace)) {
        passed = false;
        findings.warning(Check::DefaultQueues, format!(
            "Namespace {namespace} has Miners and a LocalQueue named default, so Kueue may hold the miners and count their GPUs against its quota: rename the LocalQueue, or exclude the namespace in Kueue (docs/kueue.md)."
        ));
    }
    if passed {
        findings.passed(
            Check::DefaultQueues,
            "No namespace with Miners has a LocalQueue named default.",
        );
    }
}

fn gates(pods: &[Pod], findings: &mut Findings) {
    let mut gated = pods.iter().filter_map(|pod| {
        let spec = pod.spec.as_ref()?;
        let is_miner = spec.priority_class_name.as_deref() == Some(MINER_PRIORITY_CLASS);
        let gate = spec.scheduling_gates.iter().flatten().next().filter(|_| is_miner)?;
        Some((pod, &gate.name))
    });
    let Some((pod, gate)) = gated.next() else {
        findings.passed(Check::PodGates, "No miner is held by a scheduling gate.");
        return;
    };
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let more = match gated.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    findings.warning(Check::PodGates, format!(
        "{namespace}/{name}{more}: held by the scheduling gate {gate}, so it does not mine: exclude the miners' namespaces in the queueing system that sets the gate (docs/kueue.md)."
    ));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::Level;

    fn check_with(gates: &[&str], queues: &[&str]) -> Vec<(Level, String)> {
        let gates: Vec<_> = gates.iter().map(|gate| json!({"name": gate})).collect();
        let pod = json!({
            "metadata": {"name": "m-1", "namespace": "tenant"},
            "spec": {
                "priorityClassName": "daylight-miner", "containers": [], "schedulingGates": gates,
            },
        });
        let miner = json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "Miner",
            "metadata": {"name": "m", "namespace": "tenant"},
            "spec": {"registration": "r", "replicas": 1, "image": "i"},
        });
        let installation = Installation {
            pods: Ok(vec![serde_json::from_value(pod).unwrap()]),
            miners: Ok(vec![serde_json::from_value(miner).unwrap()]),
            default_queues: Ok(queues.iter().map(|one| (*one).to_owned()).collect()),
            ..Installation::unreadable()
        };
        let mut findings = Findings::default();
        check(&installation, &mut findings);
        findings.0.into_iter().map(|finding| (finding.level, finding.sentence)).collect()
    }

    #[test]
    fn a_gate_and_a_default_queue_hold_miners_back() {
        let found = check_with(&["kueue.x-k8s.io/admission"], &["ml", "tenant"]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|(level, _)| *level == Level::Warning), "{found:?}");
        assert!(found[0].1.starts_with("tenant/m-1: held by the scheduling gate kueue.x-k8s.io"));
        assert!(found[1].1.starts_with("Namespace tenant has Miners and a LocalQueue"));
        let passed = check_with(&[], &["ml"]);
        assert!(passed.iter().all(|(level, _)| *level == Level::Passed), "{passed:?}");
    }
}
