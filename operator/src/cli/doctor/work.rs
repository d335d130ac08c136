//! What runs: pools, and pods that hold their GPUs.

use std::collections::{BTreeMap, BTreeSet};

use daylight_crds::{CONDITION_METERED, CONDITION_READY, labels};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;

use super::look::Installation;
use super::{Findings, admission};
use daylight_cluster::well_known::MINER_PRIORITY_CLASS;

/// Pods that are named in one sentence; of more only their number is told.
const NAMED: usize = 5;

/// How long a pod that has ended may wait for the auditor, in seconds.
const PATIENCE: i64 = 300;

pub(super) fn examine(seen: &Installation, found: &mut Findings) {
    pools(seen, found);
    let (Some(pods), Some(pools), Some(nodes)) =
        (found.read(&seen.pods), found.read(&seen.pools), found.read(&seen.nodes))
    else {
        return;
    };
    let resources: BTreeSet<&str> = pools.iter().map(|pool| &*pool.spec.resource).collect();
    // Nodes that offer what a pool is of.
    let pool_nodes: BTreeSet<String> = nodes
        .iter()
        .filter(|node| {
            let offers = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
            offers.is_some_and(|offers| offers.keys().any(|name| resources.contains(&**name)))
        })
        .map(ResourceExt::name_any)
        .collect();
    let classes: Option<BTreeSet<String>> = found
        .read(&seen.classes)
        .map(|classes| classes.iter().map(ResourceExt::name_any).collect());

    let mut odd: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pod in pods {
        let key = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        for why in oddities(pod, seen, &resources, &pool_nodes, classes.as_ref()) {
            odd.entry(why).or_default().push(key.clone());
        }
    }
    for (why, pods) in &odd {
        let more = pods.len().saturating_sub(NAMED);
        let names = pods.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        found.problem(format!("{names}{more}: {why}"));
    }
    if odd.is_empty() {
        found.fine("Every pod that holds GPUs of a pool is on the positive list.");
    }
}

fn pools(seen: &Installation, found: &mut Findings) {
    let Some(pools) = found.read(&seen.pools) else { return };
    if pools.is_empty() {
        found.warning(
            "There is no GpuPool, so nothing mines: apply one, first with the policy Observe.",
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
                found.warning(format!("GpuPool {name} is not {kind}: {}", sentence(why)));
            }
        }
        if pool.status.as_ref().is_none_or(|status| status.conditions.is_empty()) {
            found.warning(format!(
                "GpuPool {name} has no conditions: no controller has looked at it yet."
            ));
        } else if !wrong {
            found.fine(format!("GpuPool {name} is as it should be."));
        }
    }
}

fn sentence(text: &str) -> String {
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

/// What is odd about a pod.
fn oddities(
    pod: &Pod,
    seen: &Installation,
    resources: &BTreeSet<&str>,
    pool_nodes: &BTreeSet<String>,
    classes: Option<&BTreeSet<String>>,
) -> Vec<&'static str> {
    let mut odd = Vec::new();
    let Some(spec) = &pod.spec else { return odd };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let waits = pod.finalizers().iter().any(|one| one == labels::METERED_FINALIZER);
    if matches!(phase, "Succeeded" | "Failed") {
        let deleted = pod.metadata.deletion_timestamp.as_ref();
        if waits && deleted.is_some_and(|at| seen.now.as_second() - at.0.as_second() > PATIENCE) {
            odd.push(
                "ended and still waits for the auditor; see whether auditor and controller run.",
            );
        }
        return odd;
    }
    let on_pool_node = spec.node_name.as_ref().is_some_and(|node| pool_nodes.contains(node));
    if !on_pool_node {
        return odd;
    }
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let holds = containers().any(|container| {
        let limits = container.resources.as_ref().and_then(|it| it.limits.as_ref());
        limits.is_some_and(|limits| limits.keys().any(|name| resources.contains(&**name)))
    });
    let class = pod.labels().get(labels::ACTIVITY);
    let is_miner = spec.priority_class_name.as_deref() == Some(MINER_PRIORITY_CLASS);
    let ours = [labels::MINER, labels::REGISTRATION];
    if is_miner && !ours.iter().all(|label| pod.labels().contains_key(*label)) {
        odd.push("has the miners' priority and is no miner of Daylight's; it was admitted before the policies were, or around them: delete it.");
    }
    if holds && class.is_some_and(|class| classes.is_some_and(|known| !known.contains(class))) {
        odd.push("holds GPUs under a class that is not on the positive list: add the ActivityClass or end it.");
    }
    if holds && class.is_none() && !namespace_has_class(pod, seen) {
        odd.push("holds GPUs of a pool and declares no class; it was admitted before the policies were enforced, or in the mode Audit: label it anew or end it.");
    }
    let bindings = seen.bindings.as_deref().unwrap_or_default();
    let exempt = admission::exempt_namespaces(bindings);
    if !exempt.contains(&*pod.namespace().unwrap_or_default()) {
        if containers().any(names_devices) {
            odd.push("sets NVIDIA_VISIBLE_DEVICES on a node of a pool, and may use GPUs that it was not given: start it without.");
        }
        if containers().any(is_privileged) {
            odd.push("is privileged on a node of a pool, and may use any GPU there: start it without, or in an exempt namespace.");
        }
    }
    odd
}

/// Whether the namespace of a pod gives it a class; where they cannot be read, it may.
fn namespace_has_class(pod: &Pod, seen: &Installation) -> bool {
    let Ok(namespaces) = &seen.namespaces else { return true };
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
    use crate::cli::doctor::look::Installation;

    fn odd(namespace: &str, env: &str, more: &Value) -> Vec<&'static str> {
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
        let seen = Installation {
            bindings: Ok(vec![serde_json::from_value(binding).unwrap()]),
            ..Installation::nothing()
        };
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let nodes = BTreeSet::from(["gpu-1".to_owned()]);
        oddities(&pod, &seen, &BTreeSet::from(["nvidia.com/gpu"]), &nodes, None)
    }

    #[test]
    fn device_variables_are_told_where_they_give_devices() {
        assert!(odd("tenant", "all", &json!({}))[0].contains("NVIDIA_VISIBLE_DEVICES"));
        for harmless in ["", "void", "none"] {
            assert!(odd("tenant", harmless, &json!({})).is_empty(), "{harmless}");
        }
        assert!(odd("drivers", "all", &json!({})).is_empty());
        let ended = json!({"/status/phase": "Failed"});
        assert!(odd("tenant", "all", &ended).is_empty());
        let elsewhere = json!({"/spec/nodeName": "cpu-1"});
        assert!(odd("tenant", "all", &elsewhere).is_empty());
    }
}
