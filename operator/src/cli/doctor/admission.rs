//! What the API server enforces: policies, their bindings and lists, and the miners' priority.

use std::collections::BTreeSet;

use daylight_crds::Assignment;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::look::Installation;
use super::shipped::{self, Likeness};
use super::{Findings, Level};
use daylight_cluster::well_known::{
    CLASS_MIRROR, MINER_PRIORITY, MINER_PRIORITY_CLASS, REGISTRATION_MIRROR,
};

/// Minor versions of Kubernetes 1 that Daylight is made for.
const VERSIONS: std::ops::RangeInclusive<u32> = 34..=37;

/// The binding that leaves out classes which are known to be Guaranteed.
const IDLE_ONLY: &str = "daylight-idle-only-classes";

pub(super) fn examine(seen: &Installation, found: &mut Findings) {
    if let Some(minor) = found.read(&seen.minor) {
        if VERSIONS.contains(minor) {
            found.fine(format!("Kubernetes 1.{minor} is a version that Daylight is made for."));
        } else {
            found.warning(format!(
                "Kubernetes is 1.{minor}; Daylight is made for 1.{} to 1.{}.",
                VERSIONS.start(),
                VERSIONS.end()
            ));
        }
    }
    definitions(seen, found);
    policies(seen, found);
    bindings(seen, found);
    guaranteed(seen, found);
    lists(seen, found);
    priority(seen, found);
}

fn definitions(seen: &Installation, found: &mut Findings) {
    let Some(there) = found.read(&seen.definitions) else { return };
    let before = found.count(Level::Problem);
    for definition in daylight_crds::definitions() {
        let name = definition.name_any();
        let established = there.iter().find(|one| one.name_any() == name).is_some_and(|one| {
            let conditions =
                one.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|one| one.type_ == "Established" && one.status == "True")
        });
        if !established {
            found.problem(format!(
                "CustomResourceDefinition {name} is not there, or not established: install the chart daylight-crds of this version."
            ));
        }
    }
    if found.count(Level::Problem) == before {
        found.fine("All CustomResourceDefinitions are established.");
    }
}

fn policies(seen: &Installation, found: &mut Findings) {
    let Some(there) = found.read(&seen.policies) else { return };
    let mut valued = Vec::new();
    for wanted in shipped::objects("ValidatingAdmissionPolicy") {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let Some(policy) = there.iter().find(|one| one.name_any() == name) else {
            found.problem(format!(
                "ValidatingAdmissionPolicy {name} is missing, so what it refuses is admitted: install the chart daylight again."
            ));
            continue;
        };
        let spec = serde_json::to_value(&policy.spec).unwrap_or_default();
        match shipped::compare(&wanted["spec"], &spec, &seen.namespace) {
            Likeness::Same => {
                found.fine(format!("ValidatingAdmissionPolicy {name} is as this version ships it."));
            }
            Likeness::OtherValues => valued.push(name.to_owned()),
            Likeness::Different => found.problem(format!(
                "ValidatingAdmissionPolicy {name} is not what this version ships: somebody edited it, or the chart is of another version; install the chart daylight again."
            )),
        }
        for warning in type_warnings(policy) {
            found.warning(format!(
                "The API server warns of ValidatingAdmissionPolicy {name}: {warning}."
            ));
        }
    }
    if !valued.is_empty() {
        found.warning(format!(
            "What {} compare with are not the chart's own lists of resources, device classes and paths: see whether `helm get values daylight` has all that are GPUs here.",
            valued.join(", ")
        ));
    }
}

fn type_warnings(policy: &ValidatingAdmissionPolicy) -> Vec<String> {
    let checked = policy.status.as_ref().and_then(|status| status.type_checking.as_ref());
    let warnings = checked.iter().flat_map(|checked| checked.expression_warnings.iter().flatten());
    warnings.map(|one| one.warning.trim_end_matches('.').to_owned()).collect()
}

fn bindings(seen: &Installation, found: &mut Findings) {
    let Some(there) = found.read(&seen.bindings) else { return };
    let mut modes = BTreeSet::new();
    for wanted in shipped::objects("ValidatingAdmissionPolicyBinding") {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let Some(binding) = there.iter().find(|one| one.name_any() == name) else {
            found.problem(format!(
                "ValidatingAdmissionPolicyBinding {name} is missing, so its policy refuses nothing: install the chart daylight again."
            ));
            continue;
        };
        let mut spec = serde_json::to_value(&binding.spec).unwrap_or_default();
        // The mode is a value of the chart, and looked at below.
        spec["validationActions"] = wanted["spec"]["validationActions"].clone();
        if shipped::compare(&wanted["spec"], &spec, &seen.namespace) == Likeness::Different {
            found.problem(format!(
                "ValidatingAdmissionPolicyBinding {name} is not what this version ships: somebody edited it, or the chart is of another version; install the chart daylight again."
            ));
        }
        let actions: BTreeSet<&str> =
            binding.spec.validation_actions.iter().map(String::as_str).collect();
        let always = wanted["spec"]["validationActions"]
            .as_array()
            .is_some_and(|actions| actions.iter().any(|action| action == "Deny"));
        if always && !actions.contains("Deny") {
            found.problem(format!(
                "ValidatingAdmissionPolicyBinding {name} only has the actions {}, and rules about miners are always enforced: install the chart daylight again.",
                actions.into_iter().collect::<Vec<_>>().join(", ")
            ));
        } else if !always {
            modes.insert(mode(&actions));
        }
    }
    match modes.iter().copied().collect::<Vec<_>>()[..] {
        [] => {}
        ["Enforce"] => found.fine("What is not on the positive list is refused (admission.mode: Enforce)."),
        [mode @ ("Audit" | "Warn")] => found.warning(format!(
            "What others than miners do off the positive list is admitted (admission.mode: {mode}): set it to Enforce when nothing legitimate is reported any more."
        )),
        _ => found.problem(format!(
            "Bindings are in different modes ({}), as no value of the chart makes them: install the chart daylight again.",
            modes.into_iter().collect::<Vec<_>>().join(", ")
        )),
    }
    exempt(there, found);
}

fn mode(actions: &BTreeSet<&str>) -> &'static str {
    if actions.contains("Deny") {
        "Enforce"
    } else if actions.contains("Warn") {
        "Warn"
    } else if actions.contains("Audit") {
        "Audit"
    } else {
        "nothing"
    }
}

/// The namespaces in which rules about others than miners do not hold.
pub(super) fn exempt_namespaces(bindings: &[ValidatingAdmissionPolicyBinding]) -> BTreeSet<&str> {
    let mut exempt: BTreeSet<&str> = BTreeSet::new();
    for binding in bindings.iter().filter(|one| one.name_any().starts_with("daylight-")) {
        let selector =
            binding.spec.match_resources.as_ref().and_then(|m| m.namespace_selector.as_ref());
        let rules =
            selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
        for rule in rules.filter(|rule| rule.key == "kubernetes.io/metadata.name") {
            exempt.extend(rule.values.iter().flatten().map(String::as_str));
        }
    }
    exempt
}

/// Who may create pods in an exempt namespace may take any GPU.
fn exempt(bindings: &[ValidatingAdmissionPolicyBinding], found: &mut Findings) {
    let names: Vec<&str> = exempt_namespaces(bindings).into_iter().collect();
    if !names.is_empty() {
        found.add(
            Level::Unknown,
            format!(
                "In the exempt namespaces {} any pod may take any GPU: let nobody but the platform create pods there (`kubectl auth can-i create pods -n NAMESPACE --as USER` tells for one user).",
                names.join(", ")
            ),
        );
    }
}

/// A class that a binding leaves out, since it is known to be Guaranteed, must be that.
fn guaranteed(seen: &Installation, found: &mut Findings) {
    let (Some(bindings), Some(classes)) = (found.read(&seen.bindings), found.read(&seen.classes))
    else {
        return;
    };
    let Some(binding) = bindings.iter().find(|one| one.name_any() == IDLE_ONLY) else { return };
    let selector = binding.spec.match_resources.as_ref().and_then(|m| m.object_selector.as_ref());
    let rules = selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    let known: BTreeSet<&str> = rules
        .filter(|rule| rule.operator == "NotIn")
        .flat_map(|rule| rule.values.iter().flatten().map(String::as_str))
        .collect();
    let mut good = true;
    for class in classes.iter().filter(|class| known.contains(&*class.name_any())) {
        if class.spec.assignment != Assignment::Guaranteed {
            good = false;
            found.problem(format!(
                "ActivityClass {} is {:?}, but admission.guaranteedClasses of the chart has it, so anybody may start its pods: take it out there.",
                class.name_any(),
                class.spec.assignment
            ));
        }
    }
    if good {
        found.fine("All classes that admission takes for Guaranteed are.");
    }
}

fn lists(seen: &Installation, found: &mut Findings) {
    let Some(maps) = found.read(&seen.lists) else { return };
    for (name, what) in [
        (REGISTRATION_MIRROR, "what names a registration is refused"),
        (CLASS_MIRROR, "images and registrations of classes are not checked"),
    ] {
        match maps.iter().find(|map| map.name_any() == name) {
            Some(map) => {
                found.fine(format!("ConfigMap {}/{name} is there.", seen.namespace));
                if name == CLASS_MIRROR {
                    unlisted_classes(seen, map, found);
                }
            }
            None => found.problem(format!(
                "ConfigMap {}/{name} is missing, so {what}: the controller writes it; see whether one runs and leads.",
                seen.namespace
            )),
        }
    }
}

/// Whether the controller has listed every class.
fn unlisted_classes(seen: &Installation, list: &ConfigMap, found: &mut Findings) {
    let Some(classes) = found.read(&seen.classes) else { return };
    let listed = |name: &String| list.data.as_ref().is_some_and(|data| data.contains_key(name));
    let missing: Vec<String> =
        classes.iter().map(ResourceExt::name_any).filter(|name| !listed(name)).collect();
    if !missing.is_empty() {
        found.problem(format!(
            "ConfigMap {}/{CLASS_MIRROR} does not have the classes {}, so their images and registrations are not checked: see whether a controller leads.",
            seen.namespace,
            missing.join(", ")
        ));
    }
}

fn priority(seen: &Installation, found: &mut Findings) {
    let Some(classes) = found.read(&seen.priorities) else { return };
    match classes.iter().find(|class| class.name_any() == MINER_PRIORITY_CLASS) {
        None => found.problem(format!(
            "PriorityClass {MINER_PRIORITY_CLASS} is missing, so no miner is started: install the chart daylight with minerPriorityClass.create."
        )),
        Some(class)
            if class.value == Some(MINER_PRIORITY)
                && class.preemption_policy.as_deref() == Some("Never")
                && class.global_default != Some(true) =>
        {
            found.fine(format!("PriorityClass {MINER_PRIORITY_CLASS} lets AI displace miners."));
        }
        Some(class) => found.problem(format!(
            "PriorityClass {MINER_PRIORITY_CLASS} has the value {} and preemptionPolicy {}, so AI may wait for miners: it must be {MINER_PRIORITY}, Never and no default; delete it and install the chart daylight again.",
            class.value.unwrap_or_default(),
            class.preemption_policy.as_deref().unwrap_or("PreemptLowerPriority")
        )),
    }
    for class in classes {
        let value = class.value.unwrap_or_default();
        if value <= MINER_PRIORITY && class.name_any() != MINER_PRIORITY_CLASS {
            found.problem(format!(
                "PriorityClass {} has the value {}, so its pods cannot displace miners: give it more than {MINER_PRIORITY}.",
                class.name_any(),
                value
            ));
        }
    }
}
