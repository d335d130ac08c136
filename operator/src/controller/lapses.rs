//! Pods that tenants run under a registration that is not in force, and what becomes of them.
//!
//! Pods of Miners are not among them: the plan takes their GPUs back by itself. Everything else was
//! created by a tenant or a controller of Kubernetes, and Daylight ends it only where the approved
//! registration says so.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_cluster::slim::Pod;
use daylight_crds::{ActivityCategory, OnLapse};
use daylight_planner::explain::{Plan, Reason};
use daylight_planner::model::Approval;

use super::status::registration;
use crate::conditions::ReasonText;
use crate::view::View;

/// The reason of the condition `Lapsed` while pods run.
pub(crate) const PODS_STILL_RUN: &str = "PodsStillRun";
/// The reason of the condition `Lapsed` while none does.
const NO_PODS_LEFT: &str = "NoPodsLeft";

/// The pods that run under one registration without being allowed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lapse {
    /// All of them, sorted by key.
    pub pods: Vec<Name>,
    /// Those that Daylight evicts.
    pub evicted: Vec<Name>,
}

/// What follows for the pods under a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    InForce,
    /// Not in force, for a reason that may end by itself or lie with the installation: it was not
    /// approved yet, the authority's keys cannot be read, its object is malformed.
    Reported,
    /// Decided, edited, expired or deleted.
    Over,
}

/// Returns the registrations under which pods run although they are not in force.
pub fn all(view: &View, plan: &Plan, now: Timestamp) -> BTreeMap<Name, Lapse> {
    let mut registrations: Vec<&Name> = view.registrations_with_own_pods().collect();
    if registrations.is_empty() {
        return BTreeMap::new();
    }
    registrations.sort_unstable();
    let reports: BTreeMap<&Name, &Reason> =
        plan.registrations.iter().map(|report| (&report.registration, &report.state)).collect();
    let mut all = BTreeMap::new();
    for key in registrations {
        let standing = standing(view, key, reports.get(key).copied(), now);
        if standing == Standing::InForce {
            continue;
        }
        let evicts = standing == Standing::Over && view.on_lapse(key) == OnLapse::Evict;
        let mut lapse = Lapse::default();
        for pod in view.own_pods_under(key) {
            lapse.pods.push(pod.key.clone());
            if evicts && may_be_evicted(view, pod) {
                lapse.evicted.push(pod.key.clone());
            }
        }
        all.insert(key.clone(), lapse);
    }
    all
}

/// Returns `true` for work under financial regulation and for declared work. AI, and what is not
/// known to be anything else, is never ended for a paper that lapsed.
fn may_be_evicted(view: &View, pod: &Pod) -> bool {
    let cluster = view.cluster();
    let class = cluster.class_of(pod);
    let class = class.and_then(|class| cluster.class(&class).map(|class| class.spec.category));
    matches!(class, Some(ActivityCategory::FinancialRegulated | ActivityCategory::Declared))
}

fn standing(view: &View, key: &Name, reason: Option<&Reason>, now: Timestamp) -> Standing {
    let cluster = view.cluster();
    let Some(reason) = reason else {
        // One that cannot be read is there all the same.
        let exists = cluster.registrations.get(key).is_some_and(|object| !object.deleting);
        return if exists { Standing::Reported } else { Standing::Over };
    };
    match reason {
        // Miners stop a drain time before the end.
        Reason::Expired { at, .. } if now < *at => Standing::InForce,
        Reason::Expired { .. }
        | Reason::ApprovalVoided { .. }
        | Reason::NotApproved {
            approval:
                Approval::Rejected | Approval::Suspended | Approval::Revoked | Approval::Voided,
            ..
        } => Standing::Over,
        reason if registration::state(reason) == daylight_crds::RegistrationState::Active => {
            Standing::InForce
        }
        _ => Standing::Reported,
    }
}

/// Returns the condition `Lapsed` of a registration: whether it holds, and why.
pub(crate) fn condition(key: &Name, lapse: Option<&Lapse>) -> (bool, ReasonText) {
    let Some(Lapse { pods, evicted }) = lapse else {
        return (false, ReasonText::new(NO_PODS_LEFT, "No pod runs without it being in force."));
    };
    let run = match pods.len() {
        1 => "1 pod still runs".to_owned(),
        pods => format!("{pods} pods still run"),
    };
    let then = match evicted.len() {
        0 => "Stop them, or have them name a registration in force.".to_owned(),
        evicted if evicted == pods.len() => "Daylight evicts them (spec.onLapse).".to_owned(),
        evicted => format!("Daylight evicts {evicted} of them (spec.onLapse); stop the others."),
    };
    let sentence = format!("Registration {key} is not in force, and {run} under it. {then}");
    (true, ReasonText::new(PODS_STILL_RUN, &sentence))
}

#[cfg(test)]
mod tests {
    use daylight_crds::{ActivityClass, Registration};
    use daylight_planner::Planner;
    use serde_json::{Value, json};

    use super::*;
    use crate::view::digest;
    use crate::view::tests::TestCluster;
    use crate::view::tests::test_cluster::{START, class, node, patched, registration, running};

    /// A class of validators; of AI by its `category`.
    fn listed(category: &str) -> Value {
        patched(&class("validator", "Guaranteed"), &json!({"spec": {"category": category}}))
    }

    /// A registration without pools that evicts, approved as it is.
    fn approved(class: &Value) -> Value {
        let spec = json!({
            "pools": null, "activityClass": "validator", "onLapse": "Evict",
            "limits": {"gpus": null, "replicas": 2},
        });
        let object = patched(&registration("reg"), &json!({ "spec": spec }));
        let read: Registration = serde_json::from_value(object.clone()).unwrap();
        let class: ActivityClass = serde_json::from_value(class.clone()).unwrap();
        let content = digest::content(&read, Some(&class), |_| None);
        let approval = json!({
            "state": "Approved", "by": "olga", "at": "2026-11-23T00:00:00Z", "generation": 1,
            "specDigest": digest::of(&content), "digestVersion": 1,
            "approvedContent": digest::canonical(&content),
        });
        patched(&object, &json!({"status": {"approval": approval}}))
    }

    fn pod(name: &str) -> Value {
        let labels = json!({
            "daylight.dev/activity": "validator", "daylight.dev/registration": "reg",
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "team", "uid": format!("pod-{name}"), "labels": labels,
            },
            "spec": {"containers": [{"name": "c"}]},
            "status": {"phase": "Pending"},
        });
        running(&pod, "n1")
    }

    fn lapse(cluster: &TestCluster) -> Option<Lapse> {
        let plan = Planner::new(cluster.view.snapshot()).plan(cluster.now);
        let mut all = all(&cluster.view, &plan, cluster.now);
        let lapse = all.remove("team/reg");
        assert!(all.is_empty(), "{all:?}");
        lapse
    }

    fn with(class: &Value, registration: &Value) -> TestCluster {
        let objects =
            [class.clone(), registration.clone(), node("n1", "a"), pod("v-0"), pod("v-1")];
        TestCluster::with(&objects)
    }

    fn evicted(cluster: &TestCluster) -> Option<usize> {
        let lapse = lapse(cluster)?;
        assert_eq!(lapse.pods.len(), 2);
        Some(lapse.evicted.len())
    }

    #[test]
    fn pods_lapse_with_their_registration_and_go_if_that_was_approved() {
        let class = listed("FinancialRegulated");
        let good = approved(&class);
        let mut cluster = with(&class, &good);
        assert_eq!(evicted(&cluster), None);
        // Decisions keep the content that was approved.
        for (state, expected) in
            [("Suspended", Some(2)), ("Rejected", Some(2)), ("Revoked", Some(2))]
        {
            let decided = json!({"status": {"approval": {"state": state, "message": "why"}}});
            cluster.apply(&patched(&good, &decided));
            assert_eq!(evicted(&cluster), expected, "{state}");
        }
        // An edit that takes the eviction back is not approved.
        let edit = json!({"metadata": {"generation": 2}, "spec": {"onLapse": "Report"}});
        cluster.apply(&patched(&good, &edit));
        assert_eq!(evicted(&cluster), Some(2));
        cluster.apply(&good);
        assert_eq!(evicted(&cluster), None);
        // Before anything was decided, nothing was said about pods that run.
        cluster.apply(&patched(&good, &json!({"status": {"approval": null}})));
        assert_eq!(evicted(&cluster), Some(0));
        // A deleted one is remembered as long as its pods run.
        cluster.apply(&good);
        cluster.delete(&good);
        assert_eq!(evicted(&cluster), Some(2));
        let restarted = TestCluster::with(&[class, node("n1", "a"), pod("v-0"), pod("v-1")]);
        assert_eq!(evicted(&restarted), Some(0));
    }

    #[test]
    fn validity_ends_at_its_end() {
        let class = listed("FinancialRegulated");
        let mut cluster = with(&class, &approved(&class));
        let until = Timestamp::from_seconds(1_798_761_600);
        cluster.wait((until.0 - START.0) / 1000 - 1);
        assert_eq!(evicted(&cluster), None);
        cluster.wait(1);
        assert_eq!(evicted(&cluster), Some(2));
    }

    #[test]
    fn ai_is_never_evicted_nor_what_is_not_on_the_list() {
        for (category, expected) in
            [("DataIndustry", 0), ("FinancialRegulated", 2), ("Declared", 2), ("Prohibited", 0)]
        {
            let class = listed(category);
            let good = approved(&class);
            let revoked = json!({"status": {"approval": {"state": "Revoked", "message": "why"}}});
            let cluster = with(&class, &patched(&good, &revoked));
            assert_eq!(evicted(&cluster), Some(expected), "{category}");
        }
        let class = listed("FinancialRegulated");
        let good = approved(&class);
        let mut cluster = with(&class, &good);
        cluster.delete(&class);
        assert_eq!(evicted(&cluster), Some(0));
    }

    #[test]
    fn the_condition_says_what_runs_and_what_follows() {
        let key = Name::from("team/reg");
        let sentence = |pods: usize, evicted: usize| {
            let names = |count| (0..count).map(|it| Name::from(format!("team/v-{it}"))).collect();
            let lapse = Lapse { pods: names(pods), evicted: names(evicted) };
            condition(&key, Some(&lapse)).1.sentence
        };
        let lapsed = "Registration team/reg is not in force, and";
        assert_eq!(
            sentence(1, 0),
            format!(
                "{lapsed} 1 pod still runs under it. Stop them, or have them name a registration in force."
            )
        );
        assert_eq!(
            sentence(2, 2),
            format!("{lapsed} 2 pods still run under it. Daylight evicts them (spec.onLapse).")
        );
        assert_eq!(
            sentence(3, 1),
            format!(
                "{lapsed} 3 pods still run under it. Daylight evicts 1 of them (spec.onLapse); stop the others."
            )
        );
        assert!(!condition(&key, None).0);
    }
}
