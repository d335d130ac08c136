//! Rights that only Daylight and the approving officers should have.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Subject};
use kube::ResourceExt as _;

use super::shipped::{self, Comparison};
use super::snapshot::Installation;
use super::{Findings, Level};

/// A right that few subjects should have.
struct Right {
    verbs: &'static [&'static str],
    group: &'static str,
    resource: &'static str,
    /// What it allows, after "lets SUBJECT".
    allows: &'static str,
    /// Daylight's role that grants it; empty for none.
    ours: &'static str,
}

const RIGHTS: [Right; 4] = [
    Right {
        verbs: &["assign"],
        group: "daylight.dev",
        resource: "activityclasses",
        allows: "start pods of classes that fill idle GPUs, and so mine without a registration",
        ours: "daylight-controller",
    },
    Right {
        verbs: &["approve"],
        group: "daylight.dev",
        resource: "registrations",
        allows: "approve registrations",
        ours: "daylight-approver",
    },
    Right {
        verbs: &["update", "patch", "delete", "deletecollection"],
        group: "admissionregistration.k8s.io",
        resource: "validatingadmissionpolicies",
        allows: "change the admission policies",
        ours: "",
    },
    Right {
        verbs: &["update", "patch", "delete", "deletecollection"],
        group: "admissionregistration.k8s.io",
        resource: "validatingadmissionpolicybindings",
        allows: "change the admission policies",
        ours: "",
    },
];

/// The label of roles that the API server creates.
const BOOTSTRAP: &str = "kubernetes.io/bootstrapping";

/// Daylight's roles, each for one purpose.
const OURS: [&str; 3] = ["daylight-controller", "daylight-auditor", "daylight-approver"];

pub(super) fn check(installation: &Installation, findings: &mut Findings) {
    let (Some(roles), Some(bindings)) =
        (findings.read(&installation.cluster_roles), findings.read(&installation.cluster_bindings))
    else {
        return;
    };
    let namespaced = findings.read(&installation.role_bindings);
    let mut all_powerful: BTreeSet<String> = BTreeSet::new();
    for role in roles {
        let name = role.name_any();
        let rules = role.rules.as_deref().unwrap_or_default();
        let whom = |cluster_wide: bool| {
            let bound = bindings
                .iter()
                .filter(|one| one.role_ref.kind == "ClusterRole" && one.role_ref.name == name);
            let mut whom: BTreeSet<String> =
                bound.flat_map(|one| one.subjects.iter().flatten()).map(subject).collect();
            if !cluster_wide {
                let bound = namespaced
                    .into_iter()
                    .flatten()
                    .filter(|one| one.role_ref.kind == "ClusterRole" && one.role_ref.name == name);
                for one in bound {
                    let namespace = one.namespace().unwrap_or_default();
                    let subjects = one.subjects.iter().flatten();
                    whom.extend(subjects.map(|one| format!("{} in {namespace}", subject(one))));
                }
            }
            whom
        };
        if rules.iter().any(allows_everything) {
            all_powerful.extend(whom(true));
            continue;
        }
        if OURS.contains(&&*name) {
            ours(installation, role, &whom(true), findings);
            continue;
        }
        // The API server restores its own roles, and they belong to its own components.
        if role.labels().get(BOOTSTRAP).is_some_and(|of| of == "rbac-defaults") {
            continue;
        }
        for right in &RIGHTS {
            if rules.iter().any(|rule| gives(rule, right)) {
                let whom =
                    whom(right.group != "daylight.dev" || right.resource == "activityclasses");
                if !whom.is_empty() {
                    let list: Vec<String> = whom.into_iter().collect();
                    let level =
                        if right.verbs == ["approve"] { Level::Warning } else { Level::Problem };
                    findings.add(
                        level,
                        format!(
                            "ClusterRole {name} lets {} {}: {}.",
                            list.join(", "),
                            right.allows,
                            if right.ours.is_empty() {
                                "remove the right, or accept that these subjects can bypass the positive list"
                                    .to_owned()
                            } else {
                                format!("only {} needs it; remove the right", right.ours)
                            }
                        ),
                    );
                }
            }
        }
    }
    if !all_powerful.is_empty() {
        let list: Vec<String> = all_powerful.into_iter().collect();
        findings.add(
            Level::Unknown,
            format!(
                "Subjects with all rights can bypass everything that Daylight enforces: {}.",
                list.join(", ")
            ),
        );
    }
}

/// Checks that Daylight's role has the rights that this version ships, and that only its own account
/// is bound to it.
fn ours(
    installation: &Installation,
    role: &ClusterRole,
    whom: &BTreeSet<String>,
    findings: &mut Findings,
) {
    let name = role.name_any();
    let shipped = shipped::objects("ClusterRole");
    let Some(wanted) = shipped.iter().find(|one| one["metadata"]["name"] == *name) else { return };
    let rules = serde_json::to_value(&role.rules).unwrap_or_default();
    if shipped::compare(&wanted["rules"], &rules, &installation.namespace) == Comparison::Same {
        findings.passed(format!("ClusterRole {name} has the rights that this version ships."));
    } else {
        findings.problem(format!(
            "ClusterRole {name} does not have the rights that this version ships: it was edited, or the chart has another version; install the chart daylight again."
        ));
    }
    let own = format!("ServiceAccount {}/{name}", installation.namespace);
    // Each installation binds its own officers to the approver's role.
    if wanted["metadata"]["name"] != "daylight-approver" {
        for other in whom.iter().filter(|one| **one != own) {
            findings.problem(format!(
                "{other} has the ClusterRole {name}, which only {own} should have: remove the ClusterRoleBinding."
            ));
        }
    }
}

fn subject(subject: &Subject) -> String {
    match subject.namespace.as_deref() {
        Some(namespace) => format!("{} {namespace}/{}", subject.kind, subject.name),
        None => format!("{} {}", subject.kind, subject.name),
    }
}

fn has(list: Option<&[String]>, wanted: &str) -> bool {
    list.unwrap_or_default().iter().any(|one| one == wanted || one == "*")
}

fn allows_everything(rule: &PolicyRule) -> bool {
    has(rule.api_groups.as_deref(), "*")
        && has(rule.resources.as_deref(), "*")
        && has(Some(&rule.verbs), "*")
}

fn gives(rule: &PolicyRule, right: &Right) -> bool {
    has(rule.api_groups.as_deref(), right.group)
        && has(rule.resources.as_deref(), right.resource)
        && right.verbs.iter().any(|verb| has(Some(&rule.verbs), verb))
}
