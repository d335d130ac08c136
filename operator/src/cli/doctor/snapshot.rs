//! The objects of an installation, read once.

use std::error::Error;

use daylight_crds::{ActivityClass, AdmissionList, GpuPool, Miner, Registration};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::probe::{self, Probe};
use crate::failure::chain;

/// The result of reading; the error is the sentence that states why it failed.
pub(super) type Read<T> = Result<T, String>;

/// The objects that the checks need.
pub(super) struct Installation {
    pub(super) namespace: String,
    pub(super) now: jiff::Timestamp,
    /// The minor version of the API server.
    pub(super) minor: Read<u32>,
    pub(super) definitions: Read<Vec<CustomResourceDefinition>>,
    pub(super) policies: Read<Vec<ValidatingAdmissionPolicy>>,
    pub(super) bindings: Read<Vec<ValidatingAdmissionPolicyBinding>>,
    pub(super) priorities: Read<Vec<PriorityClass>>,
    pub(super) lists: Read<Vec<AdmissionList>>,
    pub(super) registrations: Read<Vec<Registration>>,
    /// What the API server knows of registrations.
    pub(super) probes: Read<Vec<Probe>>,
    pub(super) cluster_roles: Read<Vec<ClusterRole>>,
    pub(super) cluster_bindings: Read<Vec<ClusterRoleBinding>>,
    pub(super) role_bindings: Read<Vec<RoleBinding>>,
    pub(super) deployments: Read<Vec<Deployment>>,
    pub(super) stateful_sets: Read<Vec<StatefulSet>>,
    pub(super) leases: Read<Vec<Lease>>,
    pub(super) classes: Read<Vec<ActivityClass>>,
    pub(super) pools: Read<Vec<GpuPool>>,
    pub(super) namespaces: Read<Vec<Namespace>>,
    pub(super) nodes: Read<Vec<Node>>,
    pub(super) pods: Read<Vec<Pod>>,
    pub(super) miners: Read<Vec<Miner>>,
    /// Namespaces with a Kueue `LocalQueue` named `default`; none without Kueue.
    pub(super) default_queues: Read<Vec<String>>,
}

/// Objects in a page of a list.
const PAGE: u32 = 500;

/// Reads all of them. A kind that cannot be read does not stop the others.
pub(super) async fn read(client: &Client, namespace: &str) -> Installation {
    let registrations = all(Api::all(client.clone())).await;
    let probes = probe::read(client, namespace, &registrations).await;
    Installation {
        namespace: namespace.to_owned(),
        now: jiff::Timestamp::now(),
        minor: version(client).await,
        definitions: all(Api::all(client.clone())).await,
        policies: all(Api::all(client.clone())).await,
        bindings: all(Api::all(client.clone())).await,
        priorities: all(Api::all(client.clone())).await,
        lists: all(Api::namespaced(client.clone(), namespace)).await,
        registrations,
        probes,
        cluster_roles: all(Api::all(client.clone())).await,
        cluster_bindings: all(Api::all(client.clone())).await,
        role_bindings: all(Api::all(client.clone())).await,
        deployments: all(Api::namespaced(client.clone(), namespace)).await,
        stateful_sets: all(Api::namespaced(client.clone(), namespace)).await,
        leases: all(Api::namespaced(client.clone(), namespace)).await,
        classes: all(Api::all(client.clone())).await,
        pools: all(Api::all(client.clone())).await,
        namespaces: all(Api::all(client.clone())).await,
        nodes: all(Api::all(client.clone())).await,
        pods: all(Api::all(client.clone())).await,
        miners: all(Api::all(client.clone())).await,
        default_queues: default_queues(client).await,
    }
}

async fn version(client: &Client) -> Read<u32> {
    let unread = |error: &dyn Error| {
        format!("Cannot read the version of the API server ({}).", chain(error))
    };
    let version = client.apiserver_version().await.map_err(|error| unread(&error))?;
    version.minor.trim_end_matches('+').parse().map_err(|error| unread(&error))
}

/// Returns the namespaces in which Kueue gives a queue to whatever names none.
async fn default_queues(client: &Client) -> Read<Vec<String>> {
    let kind = GroupVersionKind::gvk("kueue.x-k8s.io", "v1beta2", "LocalQueue");
    let kind = ApiResource::from_gvk_with_plural(&kind, "localqueues");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    match api.list(&ListParams::default().fields("metadata.name=default")).await {
        Ok(list) => Ok(list.items.into_iter().filter_map(|one| one.metadata.namespace).collect()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(unread(&kind.plural, error)),
    }
}

async fn all<K>(api: Api<K>) -> Read<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let (mut items, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let list = api.list(&page).await.map_err(|error| unread(&K::plural(&()), error))?;
        items.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(items),
        }
    }
}

fn unread(plural: &str, error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("You may not list {plural}, so the checks that need them were skipped.")
        }
        kube::Error::Api(status) if status.code == 404 => {
            format!("The API server has no {plural}, so the checks that need them were skipped.")
        }
        error => format!(
            "Cannot list {plural} ({}), so the checks that need them were skipped.",
            chain(&error)
        ),
    }
}

#[cfg(test)]
impl Installation {
    /// An installation of which nothing can be read.
    pub(super) fn unreadable() -> Self {
        fn unread<T>() -> Read<T> {
            Err("unread".into())
        }
        Self {
            namespace: "daylight-system".into(),
            now: jiff::Timestamp::UNIX_EPOCH,
            minor: unread(),
            definitions: unread(),
            policies: unread(),
            bindings: unread(),
            priorities: unread(),
            lists: unread(),
            registrations: unread(),
            probes: unread(),
            cluster_roles: unread(),
            cluster_bindings: unread(),
            role_bindings: unread(),
            deployments: unread(),
            stateful_sets: unread(),
            leases: unread(),
            classes: unread(),
            pools: unread(),
            namespaces: unread(),
            nodes: unread(),
            pods: unread(),
            miners: unread(),
            default_queues: unread(),
        }
    }
}
