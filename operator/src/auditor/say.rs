//! What the auditor writes in the cluster: its own finalizer away, what registrations have used,
//! whether pools are metered, and `LeaseRecord`s away that are in the journal.

use daylight_crds::labels::METERED_FINALIZER;
use daylight_crds::{CONDITION_METERED, GpuPool, LeaseRecord, Millijoules, Registration};
use daylight_meter::{Imbalance, Timestamp, Usage};
use daylight_planner::model::Name;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::controller::status::conditions::{Conditions, Why};
use crate::index::names::parts;

/// As which manager the auditor writes.
const MANAGER: &str = "daylight/auditor";

/// A status to apply.
pub(super) enum Status {
    Registration(Name, Value),
    Pool(Name, Value),
}

/// Takes the auditor's finalizer off a pod, and no other.
pub(super) async fn release(client: Client, key: Name, uid: Name) {
    let (namespace, name) = parts(&key);
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let patch = json!({
        "metadata": { "uid": &*uid, "$deleteFromPrimitiveList/finalizers": [METERED_FINALIZER] },
    });
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let released = pods.patch_metadata(name, &params, &Patch::Strategic(patch)).await;
    log("A pod cannot be let go", &key, released.err());
}

/// Deletes a `LeaseRecord`.
pub(super) async fn delete_record(client: Client, key: Name, uid: String) {
    let (namespace, name) = parts(&key);
    let records: Api<LeaseRecord> = Api::namespaced(client, namespace);
    let preconditions = Preconditions { uid: Some(uid), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    log("A LeaseRecord cannot be deleted", &key, records.delete(name, &params).await.err());
}

/// Applies a status.
pub(super) async fn apply(client: Client, status: Status) {
    let params = PatchParams::apply(MANAGER).force();
    match status {
        Status::Registration(key, body) => {
            let (namespace, name) = parts(&key);
            let api: Api<Registration> = Api::namespaced(client, namespace);
            let applied = api.patch_status(name, &params, &Patch::Apply(&body)).await;
            log("What a registration has used cannot be written", &key, applied.err());
        }
        Status::Pool(name, body) => {
            let api: Api<GpuPool> = Api::all(client);
            let applied = api.patch_status(&name, &params, &Patch::Apply(&body)).await;
            log("The condition of a pool cannot be written", &name, applied.err());
        }
    }
}

/// What is gone or changed meanwhile is no trouble.
fn log(what: &str, key: &str, error: Option<kube::Error>) {
    match error {
        Some(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Some(error) => tracing::warn!(object = key, %error, "{what}."),
        None => {}
    }
}

/// What a registration has used, as its status; `None` where it is not metered.
pub(super) fn usage(key: &Name, registration: &Registration, usage: &Usage) -> Option<Status> {
    let time = |at: Timestamp| {
        let seconds = jiff::Timestamp::from_second(at.0.div_euclid(1000)).ok()?;
        Some(Time(seconds))
    };
    let (namespace, name) = parts(key);
    let used = daylight_crds::Usage {
        metered_until: time(usage.metered_until?)?,
        period_start: time(usage.start)?,
        millijoules: Millijoules(usage.millijoules),
        peak_watts: (usage.peak_watts > 0).then_some(usage.peak_watts),
    };
    let body = json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "Registration",
        "metadata": {
            "namespace": namespace, "name": name, "uid": registration.metadata.uid,
        },
        "status": { "usage": used },
    });
    Some(Status::Registration(key.clone(), body))
}

/// How the books stand.
pub(super) struct Standing<'a> {
    /// Why the journal cannot be written.
    pub(super) trouble: Option<&'a str>,
    /// Whether entries that wait for it still find room in memory.
    pub(super) has_room: bool,
    /// What of the books does not close.
    pub(super) imbalance: Option<Imbalance>,
}

impl Standing<'_> {
    fn why(&self) -> (bool, Why) {
        match (self, self.trouble) {
            (Self { has_room: false, .. }, trouble) => {
                let trouble = trouble.unwrap_or("the journal is too slow");
                let sentence = format!(
                    "Nothing more can be taken on record ({trouble}), and no miner is started until it can."
                );
                (false, Why::new("JournalFull", &sentence))
            }
            (_, Some(trouble)) => {
                let sentence = format!("What happens is kept in memory only: {trouble}.");
                (false, Why::new("JournalUnwritable", &sentence))
            }
            (Self { imbalance: Some(imbalance), .. }, None) => {
                (false, Why::new("BooksOpen", &format!("{imbalance}, which is a bug.")))
            }
            _ => (true, Why::new("Metering", "Every lease is taken on record.")),
        }
    }
}

/// Whether a pool is metered, as a condition; `None` where that is said already.
pub(super) fn metered(pool: &GpuPool, standing: &Standing<'_>, now: Timestamp) -> Option<Status> {
    let (holds, why) = standing.why();
    let observed = pool.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = pool.metadata.generation;
    let now = daylight_planner::time::Timestamp(now.0);
    let wanted = Conditions { observed, generation, now }.make(CONDITION_METERED, holds, &why);
    if observed.contains(&wanted) {
        return None;
    }
    let name = pool.metadata.name.clone()?;
    let body = json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "GpuPool",
        "metadata": { "name": name, "uid": pool.metadata.uid },
        "status": { "conditions": [wanted] },
    });
    Some(Status::Pool(name.into(), body))
}
