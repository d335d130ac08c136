//! Checks of what the API server enforces: policies, their bindings and lists, and priorities.

use std::collections::BTreeSet;

use daylight_crds::{AdmissionList, Assignment};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::ResourceExt;

use super::snapshot::Installation;
use super::{Check, Findings, Level};
use crate::gpu_resources::is_listed;
use crate::shipped::{self, Comparison};
use daylight_cluster::well_known::{
    CLASS_MIRROR, MINER_PRIORITY, MINER_PRIORITY_CLASS, REGISTRATION_MIRROR,
};

/// Minor versions of Kubernetes 1 that Daylight supports.
const VERSIONS: std::ops::RangeInclusive<u32> = 34..=37;

/// The binding that leaves out the classes in the chart's admission.guaranteedClasses.
const IDLE_ONLY: &str = "daylight-idle-only-classes";

pub(super) fn check(installation: &Installation, findings: &mut Findings) {
    if let Some(minor) = findings.read(&installation.minor) {
        if VERSIONS.contains(minor) {
            findings
                .passed(Check::KubernetesVersion, format!("Kubernetes 1.{minor} is supported."));
        } else {
            findings.warning(
                Check::KubernetesVersion,
                format!(
                    "Kubernetes 1.{minor} is not supported: use 1.{} to 1.{}.",
                    VERSIONS.start(),
                    VERSIONS.end()
                ),
            );
        }
    }
    definitions(installation, findings);
    policies(installation, findings);
    bindings(installation, findings);
    guaranteed(installation, findings);
    pool_resources(installation, findings);
    lists(installation, findings);
    lists_in_use(installation, findings);
    priority(installation, findings);
}

fn definitions(installation: &Installation, findings: &mut Findings) {
    let Some(there) = findings.read(&installation.definitions) else { return };
    let before = findings.count(Level::Problem);
    for definition in daylight_crds::definitions() {
        let name = definition.name_any();
        let established = there.iter().find(|one| one.name_any() == name).is_some_and(|one| {
            let conditions =
                one.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|one| one.type_ == "Established" && one.status == "True")
        });
        if !established {
            findings.problem(Check::Definitions, format!(
                "CustomResourceDefinition {name} is missing or not established: install the chart daylight-crds of this version."
            ));
        }
    }
    if findings.count(Level::Problem) == before {
        findings.passed(Check::Definitions, "All CustomResourceDefinitions are established.");
    }
}

fn policies(installation: &Installation, findings: &mut Findings) {
    let Some(there) = findings.read(&installation.policies) else { return };
    let mut other_values = Vec::new();
    for wanted in shipped::objects("ValidatingAdmissionPolicy") {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let Some(policy) = there.iter().find(|one| one.name_any() == name) else {
            findings.problem(Check::Policies, format!(
                "ValidatingAdmissionPolicy {name} is missing, so requests that it refuses are admitted: install the chart daylight again."
            ));
            continue;
        };
        let spec = serde_json::to_value(&policy.spec).unwrap_or_default();
        match shipped::compare(&wanted["spec"], &spec, &installation.namespace) {
            Comparison::Same => {
                findings.passed(Check::Policies, format!("ValidatingAdmissionPolicy {name} is as shipped with this version."));
            }
            Comparison::OtherValues => other_values.push(name.to_owned()),
            Comparison::Different => findings.problem(Check::Policies, format!(
                "ValidatingAdmissionPolicy {name} differs from this version: it was edited, or the chart has another version; install the chart daylight again."
            )),
        }
        for warning in type_warnings(policy) {
            findings.warning(Check::PolicyWarnings, format!(
                "The API server reports a warning about ValidatingAdmissionPolicy {name}: {warning}."
            ));
        }
    }
    if !other_values.is_empty() {
        findings.warning(Check::GpuLists, format!(
            "Other lists of resources, device classes and paths than the chart's defaults are in {}: check that `helm get values daylight` lists all that are GPUs here.",
            other_values.join(", ")
        ));
    }
}

fn type_warnings(policy: &ValidatingAdmissionPolicy) -> Vec<String> {
    let checked = policy.status.as_ref().and_then(|status| status.type_checking.as_ref());
    let warnings = checked.iter().flat_map(|checked| checked.expression_warnings.iter().flatten());
    warnings.map(|one| one.warning.trim_end_matches('.').to_owned()).collect()
}

fn bindings(installation: &Installation, findings: &mut Findings) {
    let Some(there) = findings.read(&installation.bindings) else { return };
    let mut modes = BTreeSet::new();
    for wanted in shipped::objects("ValidatingAdmissionPolicyBinding") {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let Some(binding) = there.iter().find(|one| one.name_any() == name) else {
            findings.problem(Check::Bindings, format!(
                "ValidatingAdmissionPolicyBinding {name} is missing, so its policy refuses nothing: install the chart daylight again."
            ));
            continue;
        };
        let mut spec = serde_json::to_value(&binding.spec).unwrap_or_default();
        // The mode is a value of the chart, and is checked below.
        spec["validationActions"] = wanted["spec"]["validationActions"].clone();
        if shipped::compare(&wanted["spec"], &spec, &installation.namespace)
            == Comparison::Different
        {
            findings.problem(Check::Bindings, format!(
                "ValidatingAdmissionPolicyBinding {name} differs from this version: it was edited, or the chart has another version; install the chart daylight again."
            ));
        }
        let actions: BTreeSet<&str> =
            binding.spec.validation_actions.iter().map(String::as_str).collect();
        let always = wanted["spec"]["validationActions"]
            .as_array()
            .is_some_and(|actions| actions.iter().any(|action| action == "Deny"));
        if always && !actions.contains("Deny") {
            findings.problem(Check::Bindings, format!(
                "ValidatingAdmissionPolicyBinding {name} has only the actions {}, but rules about miners must always be enforced: install the chart daylight again.",
                actions.into_iter().collect::<Vec<_>>().join(", ")
            ));
        } else if !always {
            modes.insert(mode(&actions));
        }
    }
    match modes.iter().copied().collect::<Vec<_>>()[..] {
        [] => {}
        ["Enforce"] => findings.passed(Check::AdmissionMode, "Work that is not on the positive list is refused (admission.mode: Enforce)."),
        [mode @ ("Audit" | "Warn")] => findings.warning(Check::AdmissionMode, format!(
            "Pods other than miners are admitted even if they are not on the positive list (admission.mode: {mode}): set Enforce once no legitimate pod is reported."
        )),
        _ => findings.problem(Check::Bindings, format!(
            "Bindings have different modes ({}), which no value of the chart produces: install the chart daylight again.",
            modes.into_iter().collect::<Vec<_>>().join(", ")
        )),
    }
    exempt(there, findings);
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

/// Returns the namespaces in which only the rules about miners hold.
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

/// Reports the exempt namespaces: a pod created there may take any GPU.
fn exempt(bindings: &[ValidatingAdmissionPolicyBinding], findings: &mut Findings) {
    let names: Vec<&str> = exempt_namespaces(bindings).into_iter().collect();
    if !names.is_empty() {
        findings.add(Check::ExemptNamespaces,
            Level::Unknown,
            format!(
                "In the exempt namespaces {} any pod may take any GPU: let only the platform create pods there (`kubectl auth can-i create pods -n NAMESPACE --as USER` checks one user).",
                names.join(", ")
            ),
        );
    }
}

/// Checks that each class which the binding leaves out as Guaranteed is Guaranteed.
fn guaranteed(installation: &Installation, findings: &mut Findings) {
    let (Some(bindings), Some(classes)) =
        (findings.read(&installation.bindings), findings.read(&installation.classes))
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
    let mut all_guaranteed = true;
    for class in classes.iter().filter(|class| known.contains(&*class.name_any())) {
        if class.spec.assignment != Assignment::Guaranteed {
            all_guaranteed = false;
            findings.problem(Check::GuaranteedClasses, format!(
                "ActivityClass {} is {}, but the chart's admission.guaranteedClasses lists it, so anyone may start its pods: remove it from that list.",
                class.name_any(),
                class.spec.assignment
            ));
        }
    }
    if all_guaranteed {
        findings.passed(
            Check::GuaranteedClasses,
            "All classes that admission treats as Guaranteed are Guaranteed.",
        );
    }
}

/// The policy that requires a class of pods which request GPUs.
const GPU_PODS: &str = "daylight-gpu-pods";

/// Checks that admission takes the resources of all pools for GPUs: a pod that requests any other needs
/// no class.
fn pool_resources(installation: &Installation, findings: &mut Findings) {
    let (Some(policies), Some(pools)) =
        (findings.read(&installation.policies), findings.read(&installation.pools))
    else {
        return;
    };
    let Some(policy) = policies.iter().find(|one| one.name_any() == GPU_PODS) else { return };
    let variables = policy.spec.as_ref().and_then(|spec| spec.variables.as_ref());
    let expression = variables.into_iter().flatten().find(|one| one.name == "gpus");
    let names = expression.map(|one| shipped::names(&one.expression)).unwrap_or_default();
    let mut all_listed = true;
    for pool in pools {
        let resource = &pool.spec.resource;
        if !is_listed(resource, &names) {
            all_listed = false;
            findings.problem(Check::PoolResources, format!(
                "GpuPool {} has the resource {resource}, which the chart's gpuResources does not list, so pods that request it need no activity class: add it to gpuResources.",
                pool.name_any()
            ));
        }
    }
    if all_listed {
        findings
            .passed(Check::PoolResources, "Admission takes the resources of all pools for GPUs.");
    }
}

fn lists(installation: &Installation, findings: &mut Findings) {
    let Some(lists) = findings.read(&installation.lists) else { return };
    for (name, effect) in [
        (REGISTRATION_MIRROR, "pods that name a registration are refused"),
        (CLASS_MIRROR, "images and registrations of classes are not checked"),
    ] {
        match lists.iter().find(|list| list.name_any() == name) {
            Some(list) => {
                findings.passed(Check::Mirrors, format!("AdmissionList {}/{name} exists.", installation.namespace));
                if name == CLASS_MIRROR {
                    unlisted_classes(installation, list, findings);
                }
            }
            None => findings.problem(Check::Mirrors, format!(
                "AdmissionList {}/{name} is missing, so {effect}: check that a controller runs and leads, which writes it.",
                installation.namespace
            )),
        }
    }
}

/// Checks that the controller has listed every class.
fn unlisted_classes(installation: &Installation, list: &AdmissionList, findings: &mut Findings) {
    let Some(classes) = findings.read(&installation.classes) else { return };
    let listed = |name: &String| list.spec.entries.contains_key(name);
    let missing: Vec<String> =
        classes.iter().map(ResourceExt::name_any).filter(|name| !listed(name)).collect();
    if !missing.is_empty() {
        findings.problem(Check::Mirrors, format!(
            "AdmissionList {}/{CLASS_MIRROR} lacks the classes {}, so their images and registrations are not checked: check that a controller leads.",
            installation.namespace,
            missing.join(", ")
        ));
    }
}

/// Checks that the API server decides by the list that is stored.
fn lists_in_use(installation: &Installation, findings: &mut Findings) {
    let probes = match &installation.probes {
        Ok(probes) => probes,
        Err(sentence) if installation.registrations.is_ok() => {
            findings.add(Check::MirrorsInUse, Level::Unknown, sentence.clone());
            return;
        }
        Err(_) => {
            findings.read(&installation.registrations);
            return;
        }
    };
    let mut is_current = true;
    for probe in probes.iter().filter(|probe| probe.is_known != probe.is_listed) {
        is_current = false;
        let (effect, is) = match probe.is_known {
            true => ("takes", "is not"),
            false => ("refuses", "is"),
        };
        findings.problem(Check::MirrorsInUse, format!(
            "The API server {effect} pods under registration {}, which {is} in AdmissionList {}/{REGISTRATION_MIRROR}, so it decides by an old list: restart the API servers, one after the other.",
            probe.registration, installation.namespace
        ));
    }
    if is_current && !probes.is_empty() {
        findings.passed(
            Check::MirrorsInUse,
            "The API server decides by the current list of registrations.",
        );
    }
}

fn priority(installation: &Installation, findings: &mut Findings) {
    let Some(classes) = findings.read(&installation.priorities) else { return };
    match classes.iter().find(|class| class.name_any() == MINER_PRIORITY_CLASS) {
        None => findings.problem(Check::MinerPriority, format!(
            "PriorityClass {MINER_PRIORITY_CLASS} is missing, so no miner starts: install the chart daylight with minerPriorityClass.create."
        )),
        Some(class)
            if class.value == Some(MINER_PRIORITY)
                && class.preemption_policy.as_deref() == Some("Never")
                && class.global_default != Some(true) =>
        {
            findings.passed(Check::MinerPriority, format!("PriorityClass {MINER_PRIORITY_CLASS} lets AI displace miners."));
        }
        Some(class) => findings.problem(Check::MinerPriority, format!(
            "PriorityClass {MINER_PRIORITY_CLASS} has the value {} and preemptionPolicy {}, so AI may wait for miners: delete it and install the chart daylight again, which sets {MINER_PRIORITY} and Never, not as the default.",
            class.value.unwrap_or_default(),
            class.preemption_policy.as_deref().unwrap_or("PreemptLowerPriority")
        )),
    }
    for class in classes {
        let value = class.value.unwrap_or_default();
        if value <= MINER_PRIORITY && class.name_any() != MINER_PRIORITY_CLASS {
            findings.problem(Check::OtherPriorities, format!(
                "PriorityClass {} has the value {}, so its pods cannot displace miners: raise it above {MINER_PRIORITY}.",
                class.name_any(),
                value
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::probe::Probe;
    use crate::cli::doctor::snapshot::Installation;

    /// The problems with a pool of this resource, under the policies as shipped.
    fn problems(resource: &str) -> Vec<String> {
        let policies = shipped::objects("ValidatingAdmissionPolicy");
        let policies = policies.into_iter().map(|policy| serde_json::from_value(policy).unwrap());
        let pool = json!({
            "metadata": {"name": "hall-1"},
            "spec": {
                "nodeSelector": {}, "resource": resource,
                "site": {"name": "site-1", "timeZone": "Etc/UTC"},
            },
        });
        let installation = Installation {
            policies: Ok(policies.collect()),
            pools: Ok(vec![serde_json::from_value(pool).unwrap()]),
            ..Installation::unreadable()
        };
        let mut findings = Findings::default();
        pool_resources(&installation, &mut findings);
        let problems = findings.0.into_iter().filter(|one| one.level == Level::Problem);
        problems.map(|one| one.sentence).collect()
    }

    #[test]
    fn a_pool_whose_resource_admission_does_not_know_is_a_problem() {
        for known in ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "amd.com/gpu", "amd.com/cpx_nps1"]
        {
            assert!(problems(known).is_empty(), "{known}");
        }
        let unknown = problems("example.com/accelerator");
        assert_eq!(unknown.len(), 1, "{unknown:?}");
        assert!(unknown[0].contains("GpuPool hall-1 has the resource example.com/accelerator"));
    }

    #[test]
    fn an_api_server_that_decides_by_an_old_list_is_a_problem() {
        let found = |is_listed, is_known| {
            let registration = "team-a/night".to_owned();
            let probes = Ok(vec![Probe { registration, is_listed, is_known }]);
            let installation = Installation { probes, ..Installation::unreadable() };
            let mut findings = Findings::default();
            lists_in_use(&installation, &mut findings);
            let first = findings.0.remove(0);
            (first.level, first.sentence)
        };
        for listed in [true, false] {
            assert_eq!(found(listed, listed).0, Level::Passed);
            let (level, sentence) = found(listed, !listed);
            assert_eq!(level, Level::Problem);
            let effect = if listed { "refuses" } else { "takes" };
            let effect = format!("{effect} pods under registration team-a/night");
            assert!(sentence.contains(&effect), "{sentence}");
            assert!(sentence.contains("restart the API servers"), "{sentence}");
        }
    }
}
