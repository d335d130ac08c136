//! Checks of pools and of the pods on their nodes.

use std::collections::{BTreeMap, BTreeSet};

use daylight_crds::{CONDITION_METERED, CONDITION_READY, labels};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;

use super::snapshot::Installation;
use super::{Check, Findings, admission};
use crate::cli::output::key_of;
use daylight_cluster::quantity::Quantity;
use daylight_cluster::well_known::MINER_PRIORITY_CLASS;

/// Pods named in one sentence; further ones are only counted.
const NAMED: usize = 5;

/// Seconds that an ended pod may wait for the auditor.
const MAX_WAIT: i64 = 300;

pub(super) fn check(installation: &Installation, findings: &mut Findings) {
    pools(installation, findings);
    let (Some(pods), Some(pools), Some(nodes)) = (
        findings.read(&installation.pods),
        findings.read(&installation.pools),
        findings.read(&installation.nodes),
    ) else {
        return;
    };
    let resources: BTreeSet<&str> = pools.iter().map(|pool| &*pool.spec.resource).collect();
    // Nodes that offer the resource of a pool.
    let pool_nodes: BTreeSet<String> = nodes
        .iter()
        .filter(|node| {
            let offers = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
            offers.is_some_and(|offers| offers.keys().any(|name| resources.contains(&**name)))
        })
        .map(ResourceExt::name_any)
        .collect();
    let classes: Option<BTreeSet<String>> = findings
        .read(&installation.classes)
        .map(|classes| classes.iter().map(ResourceExt::name_any).collect());

    let mut defective: BTreeMap<(Check, &str), Vec<String>> = BTreeMap::new();
    for pod in pods {
        let key = key_of(pod);
        for why in defects(pod, installation, &resources, &pool_nodes, classes.as_ref()) {
            defective.entry(why).or_default().push(key.clone());
        }
    }
    for ((check, why), pods) in &defective {
        let more = pods.len().saturating_sub(NAMED);
        let names = pods.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        findings.problem(*check, format!("{names}{more}: {why}"));
    }
    if defective.is_empty() {
        findings.passed(
            Check::PodClass,
            "Every pod that holds GPUs of a pool is on the positive list.",
        );
    }
}

fn pools(installation: &Installation, findings: &mut Findings) {
    let Some(pools) = findings.read(&installation.pools) else { return };
    if pools.is_empty() {
        findings.warning(
            Check::Pools,
            "There is no GpuPool, so nothing mines: create one, first with the policy Observe.",
        );
    }
    for pool in pools {
        let name = pool.name_any();
        let conditions = pool.status.iter().flat_map(|status| &status.conditions);
        let mut wrong = false;
        for condition in conditions {
            if [CONDITION_READY, CONDITION_METERED].contains(&&*condition.type_)
                && condition.status != "True"
            {
                wrong = true;
                let (kind, why) = (&condition.type_, &condition.message);
                findings.warning(
                    Check::Pools,
                    format!("GpuPool {name} is not {kind}: {}", sentence(why)),
                );
            }
        }
        if pool.status.as_ref().is_none_or(|status| status.conditions.is_empty()) {
            findings.warning(Check::Pools, format!(
                "GpuPool {name} has no conditions, since no controller has processed it: check that one leads."
            ));
        } else if !wrong {
            findings.passed(Check::Pools, format!("GpuPool {name} reports no problem."));
        }
    }
}

fn sentence(text: &str) -> String {
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

/// Returns what is wrong with a pod, each after "POD: ".
fn defects(
    pod: &Pod,
    installation: &Installation,
    resources: &BTreeSet<&str>,
    pool_nodes: &BTreeSet<String>,
    classes: Option<&BTreeSet<String>>,
) -> Vec<(Check, &'static str)> {
    let mut defects = Vec::new();
    let Some(spec) = &pod.spec else { return defects };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let waits = pod.finalizers().iter().any(|one| one == labels::METERED_FINALIZER);
    if matches!(phase, "Succeeded" | "Failed") {
        let deleted = pod.metadata.deletion_timestamp.as_ref();
        if waits
            && deleted.is_some_and(|at| installation.now.as_second() - at.0.as_second() > MAX_WAIT)
        {
            defects.push((
                Check::PodEnd,
                "ended and still waits for the auditor: check that auditor and controller run.",
            ));
        }
        return defects;
    }
    let on_pool_node = spec.node_name.as_ref().is_some_and(|node| pool_nodes.contains(node));
    if !on_pool_node {
        return defects;
    }
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let holds = containers().any(|container| {
        let limits = container.resources.as_ref().and_then(|it| it.limits.as_ref());
        limits.is_some_and(|limits| {
            limits.iter().any(|(name, amount)| resources.contains(&**name) && !is_zero(amount))
        })
    });
    let class = pod.labels().get(labels::ACTIVITY);
    let is_miner = spec.priority_class_name.as_deref() == Some(MINER_PRIORITY_CLASS);
    let ours = [labels::MINER, labels::REGISTRATION];
    if is_miner && !ours.iter().all(|label| pod.labels().contains_key(*label)) {
        defects.push((Check::PodPriority, "has the miners' priority but is not one of Daylight's miners, and was admitted without the policies: delete it."));
    }
    if holds && class.is_some_and(|class| classes.is_some_and(|known| !known.contains(class))) {
        defects.push((Check::PodClass, "holds GPUs under a class that is not on the positive list: add the ActivityClass, or delete the pod."));
    }
    if holds && class.is_none() && !namespace_has_class(pod, installation) {
        // The labels of a pod are immutable, so it cannot be given a class.
        defects.push((Check::PodClass, "holds GPUs of a pool and declares no class; it was admitted before the policies were enforced, or in the mode Audit: delete it and create it again with the label daylight.dev/activity."));
    }
    let bindings = installation.bindings.as_deref().unwrap_or_default();
    let exempt = admission::exempt_namespaces(bindings);
    if !exempt.contains(&*pod.namespace().unwrap_or_default()) {
        if containers().any(names_devices) {
            defects.push((Check::PodDevices, "sets NVIDIA_VISIBLE_DEVICES on a node of a pool, so it may use GPUs that were not assigned to it: start it without the variable."));
        }
        if containers().any(is_privileged) {
            defects.push((Check::PodDevices, "is privileged on a node of a pool, so it may use any GPU there: start it unprivileged, or in an exempt namespace."));
        }
    }
    defects
}

/// Returns `true` if an amount is nothing. One that cannot be read counts as something.
fn is_zero(amount: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> bool {
    amount.0.parse::<Quantity>().is_ok_and(|amount| amount == Quantity::ZERO)
}

/// Returns `true` if the namespace of a pod gives it a class, or cannot be read.
fn namespace_has_class(pod: &Pod, installation: &Installation) -> bool {
    let Ok(namespaces) = &installation.namespaces else { return true };
    let name = pod.namespace().unwrap_or_default();
    namespaces
        .iter()
        .any(|one| one.name_any() == name && one.labels().contains_key(labels::ACTIVITY))
}

fn names_devices(container: &Container) -> bool {
    let harmless = |value: &String| ["", "void", "none"].contains(&&**value);
    container.env.iter().flatten().any(|one| {
        one.name == "NVIDIA_VISIBLE_DEVICES" && !one.value.as_ref().is_some_and(harmless)
    })
}

fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|it| it.privileged) == Some(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::doctor::snapshot::Installation;

    fn defects_of(namespace: &str, env: &str, more: &Value) -> Vec<(Check, &'static str)> {
        let mut pod = json!({
            "metadata": {"name": "pod", "namespace": namespace},
            "spec": {"nodeName": "gpu-1", "containers": [{
                "name": "main", "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": env}],
            }]},
            "status": {"phase": "Running"},
        });
        for (path, value) in more.as_object().unwrap() {
            *pod.pointer_mut(path).unwrap() = value.clone();
        }
        let binding = json!({
            "metadata": {"name": "daylight-gpu-pods"},
            "spec": {"policyName": "daylight-gpu-pods", "matchResources": {"namespaceSelector": {
                "matchExpressions": [{
                    "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["drivers"],
                }],
            }}},
        });
        let installation = Installation {
            bindings: Ok(vec![serde_json::from_value(binding).unwrap()]),
            namespaces: Ok(Vec::new()),
            ..Installation::unreadable()
        };
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let nodes = BTreeSet::from(["gpu-1".to_owned()]);
        defects(&pod, &installation, &BTreeSet::from(["nvidia.com/gpu"]), &nodes, None)
    }

    #[test]
    fn device_variables_are_reported_where_they_give_devices() {
        assert!(defects_of("tenant", "all", &json!({}))[0].1.contains("NVIDIA_VISIBLE_DEVICES"));
        for harmless in ["", "void", "none"] {
            assert!(defects_of("tenant", harmless, &json!({})).is_empty(), "{harmless}");
        }
        assert!(defects_of("drivers", "all", &json!({})).is_empty());
        let ended = json!({"/status/phase": "Failed"});
        assert!(defects_of("tenant", "all", &ended).is_empty());
        let elsewhere = json!({"/spec/nodeName": "cpu-1"});
        assert!(defects_of("tenant", "all", &elsewhere).is_empty());
    }

    #[test]
    fn a_pod_without_a_class_is_reported_if_it_holds_gpus() {
        let holding = |amount: &str| {
            let container = json!({
                "name": "main", "resources": {"limits": {"nvidia.com/gpu": amount}},
            });
            let mut defects = defects_of("plain", "", &json!({"/spec/containers/0": container}));
            defects.retain(|(check, _)| *check == Check::PodClass);
            defects.len()
        };
        assert_eq!(holding("1"), 1);
        assert_eq!((holding("0"), holding("0k")), (0, 0));
    }
}
