//! What the doctor looks at, read once.

use daylight_crds::{ActivityClass, GpuPool};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

/// What was read, or why not, in one sentence.
pub(super) type Read<T> = Result<T, String>;

/// An installation as it is seen.
pub(super) struct Installation {
    pub(super) namespace: String,
    pub(super) now: jiff::Timestamp,
    /// The minor version of the API server.
    pub(super) minor: Read<u32>,
    pub(super) definitions: Read<Vec<CustomResourceDefinition>>,
    pub(super) policies: Read<Vec<ValidatingAdmissionPolicy>>,
    pub(super) bindings: Read<Vec<ValidatingAdmissionPolicyBinding>>,
    pub(super) priorities: Read<Vec<PriorityClass>>,
    pub(super) lists: Read<Vec<ConfigMap>>,
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
}

/// Objects in a page of a list.
const PAGE: u32 = 500;

/// Reads all of it. What cannot be read stops nothing else.
pub(super) async fn at(client: &Client, namespace: &str) -> Installation {
    let ours = || namespace.to_owned();
    Installation {
        namespace: ours(),
        now: jiff::Timestamp::now(),
        minor: version(client).await,
        definitions: all(Api::all(client.clone())).await,
        policies: all(Api::all(client.clone())).await,
        bindings: all(Api::all(client.clone())).await,
        priorities: all(Api::all(client.clone())).await,
        lists: all(Api::namespaced(client.clone(), namespace)).await,
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
    }
}

async fn version(client: &Client) -> Read<u32> {
    let unread = |error: &dyn std::fmt::Display| {
        format!("The API server does not tell its version ({error}).")
    };
    let version = client.apiserver_version().await.map_err(|error| unread(&error))?;
    version.minor.trim_end_matches('+').parse().map_err(|error| unread(&error))
}

async fn all<K>(api: Api<K>) -> Read<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let (mut items, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let list = api.list(&page).await.map_err(|error| unread::<K>(error))?;
        items.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(items),
        }
    }
}

fn unread<K: Resource<DynamicType = ()>>(error: kube::Error) -> String {
    let plural = K::plural(&());
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("You may not list {plural}, so what depends on them is not checked.")
        }
        kube::Error::Api(status) if status.code == 404 => {
            format!("The API server has no {plural}, so what depends on them is not checked.")
        }
        error => format!(
            "The {plural} cannot be listed ({}), so what depends on them is not checked.",
            crate::cli::output::chain(&error)
        ),
    }
}

#[cfg(test)]
impl Installation {
    /// One of which nothing can be read.
    pub(super) fn nothing() -> Self {
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
        }
    }
}
