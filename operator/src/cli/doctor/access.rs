//! Who else may do what only Daylight and the approving officers should.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Subject};
use kube::ResourceExt as _;

use super::look::Installation;
use super::shipped::{self, Likeness};
use super::{Findings, Level};

/// A right that should be few people's.
struct Right {
    verbs: &'static [&'static str],
    group: &'static str,
    resource: &'static str,
    /// What who has it may do.
    means: &'static str,
    /// The role of Daylight's that gives it.
    ours: &'static str,
}

const RIGHTS: [Right; 4] = [
    Right {
        verbs: &["assign"],
        group: "daylight.dev",
        resource: "activityclasses",
        means: "start pods of classes that fill idle GPUs, and so mine without registration",
        ours: "daylight-controller",
    },
    Right {
        verbs: &["approve"],
        group: "daylight.dev",
        resource: "registrations",
        means: "approve registrations",
        ours: "daylight-approver",
    },
    Right {
        verbs: &["update", "patch", "delete", "deletecollection"],
        group: "admissionregistration.k8s.io",
        resource: "validatingadmissionpolicies",
        means: "change what is refused",
        ours: "",
    },
    Right {
        verbs: &["update", "patch", "delete", "deletecollection"],
        group: "admissionregistration.k8s.io",
        resource: "validatingadmissionpolicybindings",
        means: "change what is refused",
        ours: "",
    },
];

/// The label of roles that the API server makes.
const BOOTSTRAP: &str = "kubernetes.io/bootstrapping";

/// Roles of Daylight's, each with its purpose.
const OURS: [&str; 3] = ["daylight-controller", "daylight-auditor", "daylight-approver"];

pub(super) fn examine(seen: &Installation, found: &mut Findings) {
    let (Some(roles), Some(bindings)) =
        (found.read(&seen.cluster_roles), found.read(&seen.cluster_bindings))
    else {
        return;
    };
    let namespaced = found.read(&seen.role_bindings);
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
        if rules.iter().any(is_everything) {
            all_powerful.extend(whom(true));
            continue;
        }
        if OURS.contains(&&*name) {
            ours(seen, role, &whom(true), found);
            continue;
        }
        // Kubernetes' own roles, which it puts right by itself.
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
                    found.add(
                        level,
                        format!(
                            "ClusterRole {name} lets {} {}: {}.",
                            list.join(", "),
                            right.means,
                            if right.ours.is_empty() {
                                "take it away, or know that they stand above the positive list"
                                    .to_owned()
                            } else {
                                format!("that is for {}; take it away", right.ours)
                            }
                        ),
                    );
                }
            }
        }
    }
    if !all_powerful.is_empty() {
        let list: Vec<String> = all_powerful.into_iter().collect();
        found.add(
            Level::Unknown,
            format!(
                "These may do everything, and so stand above all that Daylight enforces: {}.",
                list.join(", ")
            ),
        );
    }
}

/// Daylight's own role has the rights that are shipped, and only its own account has it.
fn ours(seen: &Installation, role: &ClusterRole, whom: &BTreeSet<String>, found: &mut Findings) {
    let name = role.name_any();
    let shipped = shipped::objects("ClusterRole");
    let Some(wanted) = shipped.iter().find(|one| one["metadata"]["name"] == *name) else { return };
    let rules = serde_json::to_value(&role.rules).unwrap_or_default();
    if shipped::compare(&wanted["rules"], &rules, &seen.namespace) == Likeness::Same {
        found.fine(format!("ClusterRole {name} has the rights that this version ships."));
    } else {
        found.problem(format!(
            "ClusterRole {name} has other rights than this version ships: somebody edited it, or the chart is of another version; install the chart daylight again."
        ));
    }
    let own = format!("ServiceAccount {}/{name}", seen.namespace);
    // Who approves is the installation's to say.
    if wanted["metadata"]["name"] != "daylight-approver" {
        for other in whom.iter().filter(|one| **one != own) {
            found.problem(format!(
                "{other} has the ClusterRole {name}, which is for {own} alone: take the ClusterRoleBinding away."
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

fn is_everything(rule: &PolicyRule) -> bool {
    has(rule.api_groups.as_deref(), "*")
        && has(rule.resources.as_deref(), "*")
        && has(Some(&rule.verbs), "*")
}

fn gives(rule: &PolicyRule, right: &Right) -> bool {
    has(rule.api_groups.as_deref(), right.group)
        && has(rule.resources.as_deref(), right.resource)
        && right.verbs.iter().any(|verb| has(Some(&rule.verbs), verb))
}
