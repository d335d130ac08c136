//! Checks of Daylight's processes.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;

use super::Findings;
use super::snapshot::Installation;

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
        None => findings.warning(format!(
            "There is no Deployment {namespace}/{CONTROLLER}: if the controller runs elsewhere, check its /readyz."
        )),
        Some(deployment) => {
            let wanted = deployment.spec.replicas.unwrap_or(1);
            let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas);
            let ready = ready.unwrap_or_default();
            if ready == 0 {
                findings.problem(format!(
                    "No replica of Deployment {namespace}/{CONTROLLER} is ready, so AI pods run but no miner or AIJob starts: check its pods."
                ));
            } else if ready < wanted {
                findings.warning(format!(
                    "{ready} of {wanted} replicas of Deployment {namespace}/{CONTROLLER} are ready: check its pods."
                ));
            } else {
                findings.passed(format!("Deployment {namespace}/{CONTROLLER} has {ready} ready replicas."));
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
        findings
            .problem("No controller leads, so no miner or AIJob starts: check that one is ready.");
    } else if age.is_none_or(|age| age > LAPSED_AFTER * i64::from(duration)) {
        findings.problem(format!(
            "Controller {holder} holds the lease and does not renew it: check that one is ready."
        ));
    } else {
        findings.passed(format!("Controller {holder} leads."));
    }
}

fn auditor(installation: &Installation, findings: &mut Findings) {
    let Some(sets) = findings.read(&installation.stateful_sets) else { return };
    let Some(set) = sets.iter().find(|one| one.name_any() == AUDITOR) else {
        findings.warning(format!(
            "There is no StatefulSet {}/{AUDITOR}, so nothing is metered and no miner under a kWh limit runs: set auditor.enabled.",
            installation.namespace
        ));
        return;
    };
    let replicas = set.spec.replicas.unwrap_or(1);
    let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
    if replicas != 1 {
        findings.problem(format!(
            "StatefulSet {}/{AUDITOR} has {replicas} replicas, each with its own books: scale it to 1.",
            installation.namespace
        ));
    } else if ready == 0 {
        findings.problem(format!(
            "The auditor is not ready, so ended pods wait for it and no miner under a kWh limit runs: check pod {}/{AUDITOR}-0.",
            installation.namespace
        ));
    } else {
        findings.passed("The auditor is ready.");
    }
    if exporter(set).is_none() {
        findings.warning(
            "The auditor has no exporter, so energy is what miners declare: set auditor.exporter.",
        );
    }
}

/// Returns the argument by which the auditor reads an exporter.
fn exporter(set: &StatefulSet) -> Option<&str> {
    let pod = set.spec.template.spec.as_ref()?;
    let arguments = pod.containers.iter().flat_map(|one| one.args.iter().flatten());
    let mut arguments = arguments.map(String::as_str);
    arguments.find(|one| *one == "--exporter" || one.starts_with("--exporter="))
}
