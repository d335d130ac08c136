//! The requests to the API server that the processes send, each in its final form.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use daylight_crds::labels::{AI_JOB, MANAGED_BY, METERED_FINALIZER};
use daylight_crds::{AdmissionList, AiJob, Declaration, LeaseRecord};
use http::Method;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use k8s_openapi::api::events;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Resource;
use serde::Serialize;
use serde_json::{Value, json};

use crate::view::Repair;
use daylight_cluster::names::parts;
use daylight_cluster::well_known::{MINER_PRIORITY, MINER_PRIORITY_CLASS, QUEUE_MANAGER};

/// A request that can be sent again.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    /// The name of the request in metrics: `create pod`, `evict pod`.
    pub what: &'static str,
    pub method: Method,
    /// The path, with its query if it has one.
    pub path: String,
    pub content_type: &'static str,
    pub body: Bytes,
}

/// Plain JSON.
pub const JSON: &str = "application/json";
/// An RFC 7396 merge patch.
pub const MERGE_PATCH: &str = "application/merge-patch+json";
/// A patch that knows the fields of Kubernetes' own kinds.
pub const STRATEGIC_MERGE_PATCH: &str = "application/strategic-merge-patch+json";
/// A server-side apply; JSON is YAML.
pub const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// Writes a value as JSON. It must consist of strings, numbers, lists and maps with string keys, so
/// that this cannot fail.
pub(crate) fn body(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn path<K: Resource<DynamicType = ()>>(key: &str) -> String {
    let (namespace, name) = parts(key);
    let namespace = (!namespace.is_empty()).then_some(namespace);
    format!("{}/{name}", K::url_path(&(), namespace))
}

fn create<K>(what: &'static str, namespace: &str, manager: &str, object: &K) -> ApiRequest
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize,
{
    ApiRequest {
        what,
        method: Method::POST,
        path: format!("{}?fieldManager={manager}", K::url_path(&(), Some(namespace))),
        content_type: JSON,
        body: body(object),
    }
}

/// Creates an Event.
pub fn create_event(namespace: &str, event: &events::v1::Event) -> ApiRequest {
    ApiRequest {
        what: "create event",
        method: Method::POST,
        path: events::v1::Event::url_path(&(), Some(namespace)),
        content_type: JSON,
        body: body(event),
    }
}

/// Creates a miner's pod. An apply would bring back a pod that was deleted.
pub fn create_pod(namespace: &str, pod: &Pod) -> ApiRequest {
    create("create pod", namespace, "daylight/grants", pod)
}

/// Creates an AIJob's Service.
pub fn create_service(namespace: &str, service: &Service) -> ApiRequest {
    create("create service", namespace, QUEUE_MANAGER, service)
}

/// Reads the Service that has the name of an AIJob.
pub fn read_service(key: &str) -> ApiRequest {
    ApiRequest {
        what: "read service",
        method: Method::GET,
        path: path::<Service>(key),
        content_type: JSON,
        body: Bytes::new(),
    }
}

/// Lists the Services of all AIJobs, as the API server has them in memory.
pub fn list_services() -> ApiRequest {
    let path = Service::url_path(&(), None);
    ApiRequest {
        what: "list services",
        method: Method::GET,
        path: format!("{path}?labelSelector={AI_JOB}&resourceVersion=0"),
        content_type: JSON,
        body: Bytes::new(),
    }
}

/// Creates an AIJob's Job.
pub fn create_job(namespace: &str, job: &Job) -> ApiRequest {
    create("create job", namespace, QUEUE_MANAGER, job)
}

/// Reads a pod, after the answer to its creation was lost or its name was taken.
pub fn read_pod(key: &str) -> ApiRequest {
    ApiRequest {
        what: "read pod",
        method: Method::GET,
        path: path::<Pod>(key),
        content_type: JSON,
        body: Bytes::new(),
    }
}

/// Lists the Events by which the Job controller reports that it could not create pods of one Job.
pub fn read_refusals(key: &str, job_uid: &str) -> ApiRequest {
    let (namespace, _) = parts(key);
    let path = Event::url_path(&(), Some(namespace));
    ApiRequest {
        what: "list events",
        method: Method::GET,
        path: format!(
            "{path}?fieldSelector=involvedObject.uid%3D{job_uid}%2Creason%3DFailedCreate"
        ),
        content_type: JSON,
        body: Bytes::new(),
    }
}

/// Delete options with the grace of the decision, and a precondition: the request must not affect a
/// later object of the same name.
fn delete_options(uid: &str, grace: Option<Duration>) -> Value {
    let mut options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": { "uid": uid },
    });
    if let Some(grace) = grace {
        options["gracePeriodSeconds"] = json!(grace.as_secs());
    }
    options
}

/// Evicts a pod, which a disruption budget may refuse.
pub fn evict_pod(key: &str, uid: &str, grace: Option<Duration>) -> ApiRequest {
    let (namespace, name) = parts(key);
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": { "namespace": namespace, "name": name },
        "deleteOptions": delete_options(uid, grace),
    });
    ApiRequest {
        what: "evict pod",
        method: Method::POST,
        path: format!("{}/eviction", path::<Pod>(key)),
        content_type: JSON,
        body: body(&eviction),
    }
}

/// Deletes a pod, regardless of disruption budgets; without `grace` the pod's own applies.
pub fn delete_pod(key: &str, uid: &str, grace: Option<Duration>) -> ApiRequest {
    ApiRequest {
        what: "delete pod",
        method: Method::DELETE,
        path: path::<Pod>(key),
        content_type: JSON,
        body: body(&delete_options(uid, grace)),
    }
}

/// Records the end of a lease.
pub fn create_lease_record(namespace: &str, record: &LeaseRecord) -> ApiRequest {
    create("create leaserecord", namespace, "daylight/leases", record)
}

/// Creates a declaration.
pub fn create_declaration(namespace: &str, declaration: &Declaration, manager: &str) -> ApiRequest {
    create("create declaration", namespace, manager, declaration)
}

/// Deletes the record of a lease.
pub fn delete_lease_record(key: &str, uid: &str) -> ApiRequest {
    ApiRequest {
        what: "delete leaserecord",
        method: Method::DELETE,
        path: path::<LeaseRecord>(key),
        content_type: JSON,
        body: body(&delete_options(uid, None)),
    }
}

/// Releases a pod: removes the auditor's finalizer, and no other.
pub fn release_pod(key: &str, uid: &str, manager: &str) -> ApiRequest {
    let patch = json!({
        "metadata": { "uid": uid, "$deleteFromPrimitiveList/finalizers": [METERED_FINALIZER] },
    });
    ApiRequest {
        what: "release pod",
        method: Method::PATCH,
        path: format!("{}?fieldManager={manager}", path::<Pod>(key)),
        content_type: STRATEGIC_MERGE_PATCH,
        body: body(&patch),
    }
}

/// Deletes an expired AIJob; its Job and Service follow.
pub fn delete_ai_job(key: &str, uid: &str) -> ApiRequest {
    let mut options = delete_options(uid, None);
    options["propagationPolicy"] = json!("Background");
    ApiRequest {
        what: "delete aijob",
        method: Method::DELETE,
        path: path::<AiJob>(key),
        content_type: JSON,
        body: body(&options),
    }
}

/// Changes a Job; the patch names its uid.
pub fn patch_job(key: &str, patch: &Value) -> ApiRequest {
    ApiRequest {
        what: "patch job",
        method: Method::PATCH,
        path: format!("{}?fieldManager={QUEUE_MANAGER}", path::<Job>(key)),
        content_type: MERGE_PATCH,
        body: body(patch),
    }
}

/// Removes the start time of a Job that ran before: Kubernetes before 1.35 allows changes of its
/// scheduling directives only without one.
pub fn forget_start(key: &str, uid: &str) -> ApiRequest {
    ApiRequest {
        what: "patch job status",
        method: Method::PATCH,
        path: format!("{}/status?fieldManager={QUEUE_MANAGER}", path::<Job>(key)),
        content_type: MERGE_PATCH,
        body: body(&json!({ "metadata": { "uid": uid }, "status": { "startTime": null } })),
    }
}

/// Applies the fields of a status that a field manager owns. Fields that it wrote before and omits
/// now are removed; those of other managers stay. With the uid in it, no other object is changed.
pub fn apply_status<K>(key: &str, uid: &str, manager: &str, status: &impl Serialize) -> ApiRequest
where
    K: Resource<DynamicType = ()>,
{
    let (namespace, name) = parts(key);
    let mut metadata = json!({ "name": name, "uid": uid });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    });
    ApiRequest {
        what: "apply status",
        method: Method::PATCH,
        path: format!("{}/status?fieldManager={manager}&force=true", path::<K>(key)),
        content_type: APPLY_PATCH,
        body: body(&object),
    }
}

/// Creates the PriorityClass of miners.
pub fn create_priority_class() -> ApiRequest {
    let class = PriorityClass {
        metadata: kube::api::ObjectMeta {
            name: Some(MINER_PRIORITY_CLASS.into()),
            ..kube::api::ObjectMeta::default()
        },
        value: Some(MINER_PRIORITY),
        preemption_policy: Some("Never".into()),
        description: Some(
            "Registered miners: below all other pods, without preemption. Only Daylight's \
             controller may use it."
                .into(),
        ),
        ..PriorityClass::default()
    };
    ApiRequest {
        what: "create priorityclass",
        method: Method::POST,
        path: format!("{}?fieldManager=daylight/grants", PriorityClass::url_path(&(), None)),
        content_type: JSON,
        body: body(&class),
    }
}

/// Creates a mirror, or patches its differences: entries of other writers are removed, and a write by
/// another replica of this process in the meantime is a conflict.
pub fn repair_mirror(namespace: &str, name: &str, repair: &Repair<'_>) -> ApiRequest {
    let path = AdmissionList::url_path(&(), Some(namespace));
    let Some(found) = repair.found else {
        let list = json!({
            "apiVersion": AdmissionList::api_version(&()), "kind": AdmissionList::kind(&()),
            "metadata": {
                "name": name, "namespace": namespace,
                "labels": { "app.kubernetes.io/managed-by": MANAGED_BY },
            },
            "spec": { "entries": repair.wanted },
        });
        return ApiRequest {
            what: "create admissionlist",
            method: Method::POST,
            path: format!("{path}?fieldManager=daylight/mirror"),
            content_type: JSON,
            body: body(&list),
        };
    };
    let foreign = found.entries.iter().filter(|(key, _)| !repair.wanted.contains_key(&**key));
    let mut entries: BTreeMap<&str, Value> =
        foreign.map(|(key, _)| (&**key, Value::Null)).collect();
    for (key, value) in &repair.wanted {
        if found.get(key) != Some(value) {
            entries.insert(key, json!(value));
        }
    }
    let patch = json!({
        "metadata": { "uid": found.uid, "resourceVersion": found.version.to_string() },
        "spec": { "entries": entries },
    });
    ApiRequest {
        what: "patch admissionlist",
        method: Method::PATCH,
        path: format!("{path}/{name}?fieldManager=daylight/mirror"),
        content_type: MERGE_PATCH,
        body: body(&patch),
    }
}

/// Reads the PriorityClass of miners.
pub fn read_priority_class() -> ApiRequest {
    ApiRequest {
        what: "read priorityclass",
        method: Method::GET,
        path: path::<PriorityClass>(MINER_PRIORITY_CLASS),
        content_type: JSON,
        body: Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: &ApiRequest) -> Value {
        json!({
            "method": write.method.as_str(), "path": write.path,
            "content type": write.content_type,
            "body": serde_json::from_slice::<Value>(&write.body).unwrap_or(Value::Null),
        })
    }

    #[test]
    fn an_end_concerns_one_pod_and_keeps_its_grace() {
        let grace = Duration::from_secs(10);
        insta::assert_yaml_snapshot!([
            text(&evict_pod("team-a/kaspa-1", "u-1", Some(grace))),
            text(&delete_pod("team-a/kaspa-1", "u-1", Some(grace))),
            text(&delete_pod("team-a/kaspa-1", "u-1", None)),
        ]);
    }

    #[test]
    fn a_status_is_applied_to_the_object_it_was_made_for() {
        let status = json!({ "state": "Queued" });
        insta::assert_yaml_snapshot!([
            text(&apply_status::<AiJob>("team-b/llm", "u-2", "daylight/queue", &status)),
            text(&apply_status::<daylight_crds::GpuPool>(
                "hall-1",
                "u-3",
                "daylight/status",
                &status
            )),
        ]);
    }
}
