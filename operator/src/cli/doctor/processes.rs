//! Daylight's own processes.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;

use super::Findings;
use super::look::Installation;

const CONTROLLER: &str = "daylight-controller";
const AUDITOR: &str = "daylight-auditor";

/// A lease that was not renewed for so many times its duration is nobody's.
const LAPSED: i64 = 2;

pub(super) fn examine(seen: &Installation, found: &mut Findings) {
    controller(seen, found);
    leader(seen, found);
    auditor(seen, found);
}

fn controller(seen: &Installation, found: &mut Findings) {
    let namespace = &seen.namespace;
    let Some(deployments) = found.read(&seen.deployments) else { return };
    match deployments.iter().find(|one| one.name_any() == CONTROLLER) {
        None => found.warning(format!(
            "There is no Deployment {namespace}/{CONTROLLER}: where the controller runs otherwise, see its /readyz."
        )),
        Some(deployment) => {
            let wanted = deployment.spec.replicas.unwrap_or(1);
            let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas);
            let ready = ready.unwrap_or_default();
            if ready == 0 {
                found.problem(format!(
                    "No replica of Deployment {namespace}/{CONTROLLER} is ready: AI pods run, and no miner or AIJob starts; see its pods."
                ));
            } else if ready < wanted {
                found.warning(format!(
                    "{ready} of {wanted} replicas of Deployment {namespace}/{CONTROLLER} are ready: see its pods."
                ));
            } else {
                found.fine(format!("Deployment {namespace}/{CONTROLLER} has {ready} ready replicas."));
            }
        }
    }
}

fn leader(seen: &Installation, found: &mut Findings) {
    let Some(leases) = found.read(&seen.leases) else { return };
    let spec =
        leases.iter().find(|one| one.name_any() == CONTROLLER).and_then(|one| one.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let duration = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(15);
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    let age = renewed.map(|at| seen.now.as_second() - at.0.as_second());
    if holder.is_empty() {
        found
            .problem("No controller leads, so nobody writes: see whether one is ready.".to_owned());
    } else if age.is_none_or(|age| age > LAPSED * i64::from(duration)) {
        found.problem(format!(
            "Controller {holder} has the lease and does not renew it: see whether one is ready."
        ));
    } else {
        found.fine(format!("Controller {holder} leads."));
    }
}

fn auditor(seen: &Installation, found: &mut Findings) {
    let Some(sets) = found.read(&seen.stateful_sets) else { return };
    let Some(set) = sets.iter().find(|one| one.name_any() == AUDITOR) else {
        found.warning(format!(
            "There is no StatefulSet {}/{AUDITOR}, so nothing is metered and kWh limits hold mining: set auditor.enabled.",
            seen.namespace
        ));
        return;
    };
    let replicas = set.spec.replicas.unwrap_or(1);
    let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
    if replicas != 1 {
        found.problem(format!(
            "StatefulSet {}/{AUDITOR} has {replicas} replicas, each with books of its own: scale it to 1.",
            seen.namespace
        ));
    } else if ready == 0 {
        found.problem(format!(
            "The auditor is not ready, so ends of leases wait for it and kWh limits hold mining: see pod {}/{AUDITOR}-0.",
            seen.namespace
        ));
    } else {
        found.fine("The auditor is ready.");
    }
    if exporter(set).is_none() {
        found.warning("The auditor reads no exporter, so energy is what miners declare: set auditor.exporter.");
    }
}

/// The exporter that the auditor's arguments name.
fn exporter(set: &StatefulSet) -> Option<&str> {
    let pod = set.spec.template.spec.as_ref()?;
    let arguments = pod.containers.iter().flat_map(|one| one.args.iter().flatten());
    let mut arguments = arguments.map(String::as_str);
    arguments.find(|one| *one == "--exporter" || one.starts_with("--exporter="))
}
