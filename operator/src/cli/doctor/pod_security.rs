//! Checks that the namespaces of tenants are at a Pod Security Standard: a pod that may mount a path of its
//! host for writing, or share its namespaces, can take control of the node, whatever Daylight refuses.

use std::collections::BTreeSet;

use daylight_crds::labels::ACTIVITY;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;

use super::snapshot::Installation;
use super::{Check, Findings, admission};

/// The label that names the standard which the API server enforces in a namespace.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// The standards that keep pods off their nodes.
const STANDARDS: [&str; 2] = ["baseline", "restricted"];

pub(super) fn check(installation: &Installation, findings: &mut Findings) {
    let (Some(namespaces), Some(bindings)) =
        (findings.read(&installation.namespaces), findings.read(&installation.bindings))
    else {
        return;
    };
    let exempt = admission::exempt_namespaces(bindings);
    let missing: Vec<&str> = exempt
        .iter()
        .filter(|name| !namespaces.iter().any(|namespace| namespace.name_any() == **name))
        .copied()
        .collect();
    if !missing.is_empty() {
        findings.warning(
            Check::ExemptNamespaces,
            format!(
                "The exempt namespaces {} do not exist, so a user who may create namespaces may take any GPU in them: create them, or remove them from admission.exemptNamespaces.",
                missing.join(", ")
            ),
        );
    }
    let tenants = tenants(installation, findings);
    let lax: Vec<String> = namespaces
        .iter()
        .filter(|namespace| {
            let name = namespace.name_any();
            let has_work = tenants.contains(&name) || namespace.labels().contains_key(ACTIVITY);
            let is_own = name == installation.namespace;
            (is_own || has_work && !exempt.contains(&*name)) && !is_strict(namespace)
        })
        .map(ResourceExt::name_any)
        .collect();
    if lax.is_empty() {
        findings.passed(
            Check::PodSecurity,
            "All namespaces with work of tenants enforce Pod Security baseline or stricter.",
        );
    } else {
        findings.warning(
            Check::PodSecurity,
            format!(
                "Pods in the namespaces {} can take control of their nodes, by host paths for instance: set the label {ENFORCE} to baseline or restricted, unless the API server's defaults enforce that.",
                lax.join(", ")
            ),
        );
    }
}

fn is_strict(namespace: &Namespace) -> bool {
    namespace.labels().get(ENFORCE).is_some_and(|level| STANDARDS.contains(&&**level))
}

/// Returns the namespaces with registrations, miners, or pods that request GPUs of a pool.
fn tenants(installation: &Installation, findings: &mut Findings) -> BTreeSet<String> {
    let mut tenants = BTreeSet::new();
    if let Some(registrations) = findings.read(&installation.registrations) {
        tenants.extend(registrations.iter().filter_map(ResourceExt::namespace));
    }
    if let Some(miners) = findings.read(&installation.miners) {
        tenants.extend(miners.iter().filter_map(ResourceExt::namespace));
    }
    let (Some(pods), Some(pools)) =
        (findings.read(&installation.pods), findings.read(&installation.pools))
    else {
        return tenants;
    };
    let requests = |pod: &&k8s_openapi::api::core::v1::Pod| {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        containers
            .filter_map(|container| container.resources.as_ref()?.limits.as_ref())
            .any(|limits| pools.iter().any(|pool| limits.contains_key(&pool.spec.resource)))
    };
    tenants.extend(pods.iter().filter(requests).filter_map(ResourceExt::namespace));
    tenants
}
