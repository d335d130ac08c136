//! Checks of Daylight's processes.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;

use super::snapshot::Installation;
use super::{Check, Findings};

const CONTROLLER: &str = "daylight-controller";
const AUDITOR: &str = "daylight-auditor";

/// The age at which a lease has lapsed, in lease durations. Not 1: the age compares this machine's
/// clock with the leader's.
const LAPSED_AFTER: i64 = 2;

pub(super) fn check(installation: &Installation, findings: &mut Findings) {
    controller(installation, findings);
    leader(installation, findings);
    auditor(installation, findings);
}

fn controller(installation: &Installation, findings: &mut Findings) {
    let namespace = &installation.namespace;
    let Some(deployments) = findings.read(&installation.deployments) else { return };
    match deployments.iter().find(|one| one.name_any() == CONTROLLER) {
        None => findings.warning(Check::Controller, format!(
            "There is no Deployment {namespace}/{CONTROLLER}: if the controller runs elsewhere, check its /readyz."
        )),
        Some(deployment) => {
            let wanted = deployment.spec.replicas.unwrap_or(1);
            let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas);
            let ready = ready.unwrap_or_default();
            if ready == 0 {
                findings.problem(Check::Controller, format!(
                    "No replica of Deployment {namespace}/{CONTROLLER} is ready, so AI pods run but no miner or AIJob starts: check its pods."
                ));
            } else if ready < wanted {
                findings.warning(Check::Controller, format!(
                    "{ready} of {wanted} replicas of Deployment {namespace}/{CONTROLLER} are ready: check its pods."
                ));
            } else {
                findings.passed(Check::Controller, format!("Deployment {namespace}/{CONTROLLER} has {ready} ready replicas."));
            }
        }
    }
}

fn leader(installation: &Installation, findings: &mut Findings) {
    let Some(leases) = findings.read(&installation.leases) else { return };
    let spec =
        leases.iter().find(|one| one.name_any() == CONTROLLER).and_then(|one| one.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let duration = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(15);
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    let age = renewed.map(|at| installation.now.as_second() - at.0.as_second());
    if holder.is_empty() {
        findings.problem(
            Check::Leader,
            "No controller leads, so no miner or AIJob starts: check that one is ready.",
        );
    } else if age.is_none_or(|age| age > LAPSED_AFTER * i64::from(duration)) {
        findings.problem(Check::Leader, format!(
            "Controller {holder} holds the lease and does not renew it: check that one is ready."
        ));
    } else {
        findings.passed(Check::Leader, format!("Controller {holder} leads."));
    }
}

fn auditor(installation: &Installation, findings: &mut Findings) {
    let Some(sets) = findings.read(&installation.stateful_sets) else { return };
    let Some(set) = sets.iter().find(|one| one.name_any() == AUDITOR) else {
        findings.warning(Check::Auditor, format!(
            "There is no StatefulSet {}/{AUDITOR}, so nothing is metered and no miner under a kWh limit runs: set auditor.enabled.",
            installation.namespace
        ));
        return;
    };
    let replicas = set.spec.replicas.unwrap_or(1);
    let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
    if replicas != 1 {
        findings.problem(Check::AuditorReplicas, format!(
            "StatefulSet {}/{AUDITOR} has {replicas} replicas, each with its own books: scale it to 1.",
            installation.namespace
        ));
    } else if ready == 0 {
        findings.problem(Check::Auditor, format!(
            "The auditor is not ready, so ended pods wait for it and no miner under a kWh limit runs: {}.",
            auditor_pod(installation)
        ));
    } else {
        findings.passed(Check::Auditor, "The auditor is ready.");
    }
    if exporter(set).is_none() {
        findings.warning(
            Check::Exporter,
            "The auditor has no exporter, so energy is what miners declare, and miners with an energy limit do not run: set auditor.exporter.",
        );
    }
}

/// Returns why the auditor's pod is not ready, as far as its conditions show it, or where to look.
fn auditor_pod(installation: &Installation) -> String {
    let name = format!("{AUDITOR}-0");
    let pods = installation.pods.iter().flatten();
    let mut pods = pods.filter(|pod| {
        pod.namespace().as_deref() == Some(&*installation.namespace) && pod.name_any() == name
    });
    let status = pods.next().and_then(|pod| pod.status.as_ref());
    let conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unscheduled = conditions
        .filter(|one| one.type_ == "PodScheduled" && one.status == "False")
        .find_map(|one| one.message.as_deref());
    let waiting = status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref())
        .find_map(|waiting| waiting.message.as_deref().or(waiting.reason.as_deref()));
    let namespace = &installation.namespace;
    match (unscheduled, waiting) {
        (Some(why), _) => {
            format!("pod {namespace}/{name} has no node ({})", why.trim_end_matches('.'))
        }
        (None, Some(why)) => {
            format!("pod {namespace}/{name} does not start ({})", why.trim_end_matches('.'))
        }
        (None, None) => format!("check pod {namespace}/{name}"),
    }
}

/// Returns the argument by which the auditor reads an exporter.
fn exporter(set: &StatefulSet) -> Option<&str> {
    let pod = set.spec.template.spec.as_ref()?;
    let arguments = pod.containers.iter().flat_map(|one| one.args.iter().flatten());
    let mut arguments = arguments.map(String::as_str);
    arguments.find(|one| *one == "--exporter" || one.starts_with("--exporter="))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_auditors_pod_says_why_it_is_not_ready() {
        let with = |status: serde_json::Value| {
            let pod = json!({
                "metadata": {"name": "daylight-auditor-0", "namespace": "daylight-system"},
                "status": status,
            });
            let pod: Pod = serde_json::from_value(pod).unwrap();
            auditor_pod(&Installation { pods: Ok(vec![pod]), ..Installation::unreadable() })
        };
        let unscheduled = json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/5 nodes are available: 5 node(s) didn't match Pod's node affinity.",
        }]});
        assert_eq!(
            with(unscheduled),
            "pod daylight-system/daylight-auditor-0 has no node (0/5 nodes are available: 5 node(s) \
             didn't match Pod's node affinity)"
        );
        let image = json!({"containerStatuses": [{
            "name": "auditor", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff"}},
        }]});
        assert_eq!(
            with(image),
            "pod daylight-system/daylight-auditor-0 does not start (ImagePullBackOff)"
        );
        assert_eq!(with(json!({})), "check pod daylight-system/daylight-auditor-0");
        // Pods that cannot be read are no reason to name none.
        assert_eq!(
            auditor_pod(&Installation::unreadable()),
            "check pod daylight-system/daylight-auditor-0"
        );
    }
}
