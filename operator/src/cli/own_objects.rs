//! Registrations, miners and AI jobs with their statuses: the part of `daylight status` for users who may
//! not list the pods and nodes of the whole cluster.

use std::fmt::Debug;

use daylight_base::Name;
use daylight_cluster::Kind;
use daylight_crds::{AiJob, GpuPool, Miner, Registration};
use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CommandError, ErrorCode};
use super::status::{Leader, Pool, SiteStatus};
use super::table::table;
use super::why::{Explained, explanation};
use crate::clock::wall_clock;

/// The name of pools among the kinds that are left out.
pub(super) const POOLS: &str = "gpupools";

/// Objects in a page of a list.
const PAGE: u32 = 500;

/// An object with its state.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnObject {
    pub(super) kind: &'static str,
    pub(super) name: Name,
    /// The state, or for a miner the replicas that run, of those that are wanted.
    pub(super) state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gpus: Option<u32>,
    pub(super) reason: String,
    pub(super) message: String,
}

/// Reads the objects of one namespace, and the pools.
pub(super) async fn in_namespace(
    client: &Client,
    namespace: &str,
    leader: Leader,
) -> Result<SiteStatus, CommandError> {
    let lists = Lists::read(client, Some(namespace)).await?;
    if lists.has_none() {
        return Err(CommandError::new(format!(
            "You may not list registrations, miners or aijobs in namespace {namespace}"
        ))
        .code(ErrorCode::Forbidden)
        .remedy(format!(
            "Ask an administrator for the ClusterRole daylight-view there, or name another with -n \
             (`kubectl auth can-i list miners.daylight.dev -n {namespace}`)"
        )));
    }
    lists.status(client, Vec::new(), leader).await
}

/// Reads the objects of all namespaces or, if the user may not, and `fallback` is `true`, those of the
/// context's namespace. `kinds` are those that the user may not list.
pub(super) async fn as_permitted(
    client: &Client,
    kinds: Vec<Kind>,
    fallback: bool,
    leader: Leader,
) -> Result<SiteStatus, CommandError> {
    let lists = Lists::read(client, None).await?;
    if lists.has_none() && fallback {
        return in_namespace(client, client.default_namespace(), leader).await;
    }
    // Pools, registrations, miners and AI jobs name themselves.
    let others = kinds.into_iter().filter_map(|kind| match kind {
        Kind::Pod => Some("pods"),
        Kind::Node => Some("nodes"),
        Kind::Namespace => Some("namespaces"),
        Kind::BatchJob => Some("jobs"),
        Kind::ActivityClass => Some("activityclasses"),
        Kind::EmergencyStop | Kind::AuthorityKeys => Some("Daylight's configmaps"),
        Kind::RegistrationMirror | Kind::ClassMirror => Some("admissionlists"),
        Kind::GpuPool
        | Kind::Registration
        | Kind::Miner
        | Kind::AiJob
        | Kind::Workload
        | Kind::RuntimeClass => None,
    });
    let mut others: Vec<String> = others.map(str::to_owned).collect();
    others.dedup();
    lists.status(client, others, leader).await
}

/// The objects of Daylight in one namespace or in all; `None` for a kind that the user may not list.
struct Lists {
    namespace: Option<String>,
    registrations: Option<Vec<Registration>>,
    miners: Option<Vec<Miner>>,
    jobs: Option<Vec<AiJob>>,
}

impl Lists {
    async fn read(client: &Client, namespace: Option<&str>) -> Result<Self, CommandError> {
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            registrations: list(api(client, namespace)).await?,
            miners: list(api(client, namespace)).await?,
            jobs: list(api(client, namespace)).await?,
        })
    }

    fn has_none(&self) -> bool {
        let Self { namespace: _, registrations, miners, jobs } = self;
        registrations.is_none() && miners.is_none() && jobs.is_none()
    }

    async fn status(
        self,
        client: &Client,
        mut left_out: Vec<String>,
        leader: Leader,
    ) -> Result<SiteStatus, CommandError> {
        let Self { namespace, registrations, miners, jobs } = self;
        let pools: Option<Vec<GpuPool>> = list(Api::all(client.clone())).await?;
        for (name, is_listed) in [
            (POOLS, pools.is_some()),
            ("registrations", registrations.is_some()),
            ("miners", miners.is_some()),
            ("aijobs", jobs.is_some()),
        ] {
            if !is_listed {
                left_out.push(name.into());
            }
        }
        let pools = pools.iter().flatten();
        let pools = pools.filter_map(|pool| Pool::written(pool, &pool.name_any().into(), &leader));
        let pools = pools.collect();
        let registrations = registrations.iter().flatten().map(registration);
        let miners = miners.iter().flatten().map(miner);
        let jobs = jobs.iter().flatten().map(ai_job);
        let objects = registrations.chain(miners).chain(jobs).collect();
        Ok(SiteStatus {
            at: wall_clock().to_string(),
            leader,
            namespace,
            left_out,
            emergency_stop: None,
            pools,
            who: None,
            holders: Vec::new(),
            objects,
            waiting: Vec::new(),
        })
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Lists a kind; `None` if the user may not.
async fn list<K>(api: Api<K>) -> Result<Option<Vec<K>>, CommandError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let (mut items, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let list = match api.list(&page).await {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.is_forbidden() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        items.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(Some(items)),
        }
    }
}

fn registration(object: &Registration) -> OwnObject {
    let held = object.status.as_ref().and_then(|status| status.held.as_ref());
    own_object("registration", object, held.map(|held| held.gpus), None)
}

fn miner(object: &Miner) -> OwnObject {
    let status = object.status.as_ref();
    let ready = status.map_or(0, |status| status.ready_replicas);
    let state = format!("{ready}/{}", object.spec.replicas);
    own_object("miner", object, status.and_then(|status| status.gpus), Some(state))
}

fn ai_job(object: &AiJob) -> OwnObject {
    own_object("aijob", object, None, None)
}

fn own_object<K: Explained>(
    kind: &'static str,
    object: &K,
    gpus: Option<u32>,
    state: Option<String>,
) -> OwnObject {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let name = object.meta().name.as_deref().unwrap_or_default();
    let name: Name = format!("{namespace}/{name}").into();
    let (known, reason, message) = explanation(object, &name).map_or_else(
        || {
            let message = "The controller has not processed it.";
            (None, "NotProcessed".to_owned(), message.to_owned())
        },
        |one| (one.state, one.reason, one.caveat.unwrap_or(one.message)),
    );
    let state = state.or(known).unwrap_or_else(|| "-".into());
    OwnObject { kind, name, state, gpus, reason, message }
}

pub(super) fn draw(objects: &[OwnObject]) -> String {
    let row = |one: &OwnObject| {
        let gpus = one.gpus.map_or("-".into(), |gpus| gpus.to_string());
        vec![format!("{}/{}", one.kind, one.name), one.state.clone(), gpus, one.message.clone()]
    };
    let rows: Vec<Vec<String>> = objects.iter().map(row).collect();
    table(&["object", "state", "gpus", "why"], &rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_shown_with_its_state_or_as_not_processed() {
        let miner_with = |status: serde_json::Value| -> Miner {
            let miner = json!({
                "metadata": {"name": "kaspa", "namespace": "tenant-a", "generation": 1},
                "spec": {"registration": "night", "replicas": 2, "image": "miner"},
                "status": status,
            });
            serde_json::from_value(miner).unwrap()
        };
        let fresh = miner(&miner_with(json!(null)));
        assert_eq!((&*fresh.state, &*fresh.reason), ("0/2", "NotProcessed"));
        let waiting = miner(&miner_with(json!({
            "observedGeneration": 1, "readyReplicas": 1, "gpus": 1,
            "reason": "WaitingForIdleGpus", "message": "No node has 1 idle GPU.",
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "WaitingForIdleGpus", "message": "",
                "lastTransitionTime": "2026-11-24T20:31:28Z",
            }],
        })));
        assert_eq!(
            draw(&[waiting]),
            "OBJECT                STATE  GPUS  WHY\n\
             miner/tenant-a/kaspa  1/2    1     No node has 1 idle GPU.\n"
        );
    }
}
