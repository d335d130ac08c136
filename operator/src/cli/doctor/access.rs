//! Rights that only Daylight and the approving officers should have.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, RoleBinding, RoleRef, Subject,
};
use kube::ResourceExt as _;

use super::snapshot::Installation;
use super::{Check, Findings, Level};
use crate::shipped::{self, Comparison};

/// A right that few subjects should have.
struct Right {
    verbs: &'static [&'static str],
    group: &'static str,
    resource: &'static str,
    scope: Scope,
    /// The end of the sentence "ROLE lets SUBJECT …".
    allows: &'static str,
    /// Daylight's role that grants it.
    role: Option<&'static str>,
    /// The level of the finding that another role grants it.
    level: Level,
}

/// The scope of a resource. A `RoleBinding` grants rights only to namespaced ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Cluster,
    Namespace,
}

const RIGHTS: [Right; 8] = [
    Right {
        verbs: &["assign"],
        group: "daylight.dev",
        resource: "activityclasses",
        scope: Scope::Cluster,
        allows: "start pods of classes that fill idle GPUs, and so mine without a registration",
        role: Some("daylight-controller"),
        level: Level::Problem,
    },
    Right {
        verbs: &["approve"],
        group: "daylight.dev",
        resource: "registrations",
        scope: Scope::Namespace,
        allows: "approve registrations",
        role: Some("daylight-approver"),
        // An installation may have its own role for its officers.
        level: Level::Warning,
    },
    Right {
        verbs: &["submit-for"],
        group: "daylight.dev",
        resource: "registrations",
        scope: Scope::Namespace,
        allows: "submit and edit registrations in the name of others, and approve these if they may approve",
        role: None,
        level: Level::Warning,
    },
    acting_as(&["impersonate"], "users"),
    acting_as(&["impersonate"], "serviceaccounts"),
    acting_as(&["create"], "serviceaccounts/token"),
    change_of("validatingadmissionpolicies"),
    change_of("validatingadmissionpolicybindings"),
];

/// A right in the whole cluster to act as another user or account.
const fn acting_as(verbs: &'static [&'static str], resource: &'static str) -> Right {
    Right {
        verbs,
        group: "",
        resource,
        scope: Scope::Cluster,
        allows: "act as another user or service account, also as Daylight's or an approving officer's",
        role: None,
        level: Level::Warning,
    }
}

const fn change_of(resource: &'static str) -> Right {
    Right {
        verbs: &["update", "patch", "delete", "deletecollection"],
        group: "admissionregistration.k8s.io",
        resource,
        scope: Scope::Cluster,
        allows: "change the admission policies",
        role: None,
        level: Level::Problem,
    }
}

/// Daylight's roles. Those that are not its accounts' are for the people of an installation, which binds
/// them to its own subjects.
const DAYLIGHT_ROLES: [(&str, For); 6] = [
    ("daylight-controller", For::Account),
    ("daylight-auditor", For::Account),
    ("daylight-approver", For::People),
    ("daylight-view", For::People),
    ("daylight-edit", For::People),
    ("daylight-site-view", For::People),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Account,
    People,
}

pub(super) fn check(installation: &Installation, findings: &mut Findings) {
    let (Some(roles), Some(bindings)) =
        (findings.read(&installation.cluster_roles), findings.read(&installation.cluster_bindings))
    else {
        return;
    };
    let namespaced = findings.read(&installation.role_bindings).map_or(&[][..], Vec::as_slice);
    let mut all_powerful: BTreeSet<String> = BTreeSet::new();
    for role in roles {
        let name = role.name_any();
        let rules = role.rules.as_deref().unwrap_or_default();
        let everywhere = subjects(&name, bindings);
        if rules.iter().any(allows_everything) {
            all_powerful.extend(everywhere);
            continue;
        }
        if let Some((_, whom)) = DAYLIGHT_ROLES.iter().find(|(role, _)| *role == name) {
            daylight_role(installation, role, *whom, &everywhere, findings);
            continue;
        }
        for right in RIGHTS.iter().filter(|right| rules.iter().any(|rule| gives(rule, right))) {
            let mut subjects = everywhere.clone();
            // Kubernetes' own components have their rights by roles of the API server.
            subjects.retain(|subject| !is_component(subject));
            if right.scope == Scope::Namespace {
                subjects.extend(namespaced_subjects(&name, namespaced));
            }
            if !subjects.is_empty() {
                findings.add(Check::Rights, right.level, granted(&name, right, &subjects));
            }
        }
    }
    if !all_powerful.is_empty() {
        findings.add(
            Check::AllRights,
            Level::Unknown,
            format!(
                "Subjects with all rights can bypass everything that Daylight enforces: {}.",
                joined(&all_powerful)
            ),
        );
    }
}

/// Returns `true` for the subjects of Kubernetes' own components, and not for the groups of all users.
fn is_component(subject: &str) -> bool {
    const EVERYBODY: [&str; 2] = ["system:authenticated", "system:unauthenticated"];
    match subject.split_once(' ') {
        Some(("ServiceAccount", name)) => name.starts_with("kube-system/"),
        Some((_, name)) => {
            name.starts_with("system:")
                && !EVERYBODY.contains(&name)
                && !name.starts_with("system:serviceaccount")
        }
        None => false,
    }
}

fn granted(name: &str, right: &Right, subjects: &BTreeSet<String>) -> String {
    let remedy = match right.role {
        Some(role) => format!("only the role {role} should grant that; remove the right"),
        None => {
            "remove the right, or accept that these subjects can bypass the positive list".into()
        }
    };
    format!("ClusterRole {name} lets {} {}: {remedy}.", joined(subjects), right.allows)
}

fn joined(subjects: &BTreeSet<String>) -> String {
    subjects.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Returns the subjects that have a `ClusterRole` in the whole cluster.
fn subjects(role: &str, bindings: &[ClusterRoleBinding]) -> BTreeSet<String> {
    let bindings = bindings.iter().filter(|one| is_cluster_role(&one.role_ref, role));
    bindings.flat_map(|one| one.subjects.iter().flatten()).map(subject).collect()
}

/// Returns the subjects that have a `ClusterRole` in a namespace.
fn namespaced_subjects(role: &str, bindings: &[RoleBinding]) -> Vec<String> {
    let bindings = bindings.iter().filter(|one| is_cluster_role(&one.role_ref, role));
    bindings
        .flat_map(|one| {
            let namespace = one.namespace().unwrap_or_default();
            let subjects = one.subjects.iter().flatten();
            subjects.map(move |one| format!("{} in {namespace}", subject(one)))
        })
        .collect()
}

fn is_cluster_role(reference: &RoleRef, name: &str) -> bool {
    reference.kind == "ClusterRole" && reference.name == name
}

/// Checks that Daylight's role has the rights that this version ships, and, if it is an account's, that
/// no other subject is bound to it.
fn daylight_role(
    installation: &Installation,
    role: &ClusterRole,
    whom: For,
    subjects: &BTreeSet<String>,
    findings: &mut Findings,
) {
    let name = role.name_any();
    let shipped = shipped::objects("ClusterRole");
    let Some(wanted) = shipped.iter().find(|one| one["metadata"]["name"] == *name) else { return };
    let rules = serde_json::to_value(&role.rules).unwrap_or_default();
    if shipped::compare(&wanted["rules"], &rules, &installation.namespace) == Comparison::Same {
        findings.passed(
            Check::RoleRights,
            format!("ClusterRole {name} has the rights that this version ships."),
        );
    } else {
        findings.problem(Check::RoleRights, format!(
            "ClusterRole {name} does not have the rights that this version ships: it was edited, or the chart has another version; install the chart daylight again."
        ));
    }
    let own = format!("ServiceAccount {}/{name}", installation.namespace);
    if whom == For::Account {
        for other in subjects.iter().filter(|one| **one != own) {
            findings.problem(Check::RoleSubjects, format!(
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
