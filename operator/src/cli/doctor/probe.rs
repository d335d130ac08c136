//! By which list of registrations the API server decides, as dry runs of pods show.
//!
//! The list that is stored says nothing of that: an API server that no longer reads it decides by what it
//! read last.

use std::time::Duration;

use daylight_cluster::well_known::REGISTRATION_MIRROR;
use daylight_crds::{AdmissionList, Registration, labels};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::snapshot::Read;
use crate::failure::chain;

/// Registrations that are tried, those with the latest decisions first.
const MOST: usize = 20;

/// Time after which an API server must have read a list that was written.
const LAG: Duration = Duration::from_secs(3);

/// What admission knows of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// `namespace/name`.
    pub(super) registration: String,
    /// `true` if the list has it.
    pub(super) is_listed: bool,
    /// `true` if the API server goes by a list that has it.
    pub(super) is_known: bool,
}

/// Returns what the API server knows of the latest registrations. What it has not read yet is tried again.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    registrations: &Read<Vec<Registration>>,
) -> Read<Vec<Probe>> {
    let mut registrations: Vec<&Registration> =
        registrations.as_ref().map_err(Clone::clone)?.iter().collect();
    registrations.sort_by_key(|one| std::cmp::Reverse(decided(one)));
    let mut probes = Vec::new();
    for registration in registrations.into_iter().take(MOST) {
        let mut probe = one(client, namespace, registration).await?;
        if probe.is_known != probe.is_listed {
            tokio::time::sleep(LAG).await;
            probe = one(client, namespace, registration).await?;
        }
        probes.push(probe);
    }
    Ok(probes)
}

fn decided(registration: &Registration) -> Option<jiff::Timestamp> {
    let approval = registration.status.as_ref().and_then(|status| status.approval.as_ref());
    approval.map(|approval| approval.at.0)
}

async fn one(client: &Client, namespace: &str, registration: &Registration) -> Read<Probe> {
    let (home, name) = (registration.namespace().unwrap_or_default(), registration.name_any());
    let pods: Api<Pod> = Api::namespaced(client.clone(), &home);
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let answer = pods.create(&params, &pod(&name)).await;
    let lists: Api<AdmissionList> = Api::namespaced(client.clone(), namespace);
    let list = lists.get_opt(REGISTRATION_MIRROR).await;
    let list = list.map_err(|error| unknown(&chain(&error)))?;
    let entry = format!("{home}.{name}");
    let is_listed = list.is_some_and(|list| list.spec.entries.contains_key(&entry));
    let is_known = match answer {
        Ok(_) => true,
        Err(kube::Error::Api(status)) => {
            knows(&status.message).ok_or_else(|| unknown(&status.message))?
        }
        Err(error) => return Err(unknown(&chain(&error))),
    };
    Ok(Probe { registration: format!("{home}/{name}"), is_listed, is_known })
}

/// Reads from a refusal whether the registration is known; `None` if something else refused the pod.
fn knows(refusal: &str) -> Option<bool> {
    let of_policy = refusal.contains("'daylight-registered-pods'");
    of_policy.then(|| !refusal.contains("no approved Registration of that name"))
}

fn unknown(cause: &str) -> String {
    format!(
        "Cannot check by which list of registrations the API server decides: the dry run of a pod was answered with \"{cause}\"."
    )
}

/// A pod under a registration, without its class, which meets the strictest Pod Security Standard.
fn pod(registration: &str) -> Pod {
    let pod = json!({
        "metadata": {
            "name": "daylight-doctor", "labels": { (labels::REGISTRATION): registration },
        },
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "probe", "image": "daylight.invalid/probe",
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                },
            }],
        },
    });
    serde_json::from_value(pod).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_what_the_api_server_knows() {
        let policy = |sentence: &str| {
            format!(
                "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'daylight-registered-pods' with binding 'daylight-registered-pods' denied request: {sentence}"
            )
        };
        for (refusal, known) in [
            (
                policy(
                    "Pod x names the registration night, but its namespace has no approved Registration of that name: name one",
                ),
                Some(false),
            ),
            (
                policy(
                    "Pod x has class (none), but its registration night is for class pow-mining: set the label",
                ),
                Some(true),
            ),
            ("pods is forbidden: User \"x\" cannot create resource \"pods\"".to_owned(), None),
        ] {
            assert_eq!(knows(&refusal), known, "{refusal}");
        }
        assert_eq!(pod("night").labels()["daylight.dev/registration"], "night");
    }
}
