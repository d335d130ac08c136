//! `LeaseRecord`: the end of a lease that the auditor did not record in time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::rules;

/// A lease that has ended. The controller writes it once, when it releases a pod whose end the
/// auditor has not recorded. The auditor deletes it after writing it to its journal.
#[skip_serializing_none]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "daylight.dev",
    version = "v1alpha1",
    kind = "LeaseRecord",
    doc = "The end of a lease that the auditor did not record in time. Daylight's controller writes it, and its auditor deletes it.",
    plural = "leaserecords",
    shortname = "lease",
    category = "daylight-internal",
    namespaced,
    derive = "PartialEq",
    cel,
    validation = Rule::new("self.spec == oldSelf.spec").message("spec is immutable, since it is evidence: leave it to the auditor, which deletes it").field_path(".spec"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.pod", description = "The pod that held the GPUs"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node", description = "Node of the pod"),
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".spec.gpus", description = "GPUs that the pod held"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.activityClass", description = "Activity class"),
    printcolumn(name = "Registration", type_ = "string", json_path = ".spec.registration", description = "Registration of the work"),
    printcolumn(name = "Finished", type_ = "string", json_path = ".spec.finishedAt", description = "When the pod ended"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRecordSpec {
    /// The name of the pod.
    #[schemars(length(min = 1, max = 253))]
    pub pod: String,

    /// The UID of the pod.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::matches("^[A-Za-z0-9-]+$", "podUid must be the UID of a pod: use metadata.uid"))]
    pub pod_uid: String,

    /// The node of the pod.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,

    /// The extended resource, such as nvidia.com/gpu.
    #[schemars(length(min = 1, max = 253))]
    pub resource: String,

    /// GPUs that the pod held.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub gpus: u32,

    /// The `GpuPool` of the node.
    #[schemars(length(min = 1, max = 63))]
    pub pool: Option<String>,

    /// The `ActivityClass` of the pod, if it declared one.
    #[schemars(length(min = 1, max = 63))]
    pub activity_class: Option<String>,

    /// The Registration of the work in this namespace, if any.
    #[schemars(length(min = 1, max = 63))]
    pub registration: Option<String>,

    /// Power declared for the pod, in watts.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub watts: Option<u64>,

    /// When the pod was bound to the node. It held the GPUs from then on.
    pub bound_at: Option<Time>,

    /// When the kubelet accepted the pod.
    pub started_at: Option<Time>,

    /// When the pod's last container ended, as the kubelet reported it; absent if it did not.
    pub finished_at: Option<Time>,

    /// The container's termination message, if any.
    #[schemars(length(max = 4096))]
    pub termination_message: Option<String>,

    /// The container's image.
    #[schemars(length(max = 1024))]
    pub image: Option<String>,

    /// The job that the pod works for, in its namespace.
    pub job: Option<RecordedJob>,

    /// When the controller observed that the pod had ended.
    pub seen_ended_at: Time,
}

/// The job of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedJob {
    /// AIJob, or Job for a Job that no `AIJob` controls.
    pub kind: RecordedJobKind,

    /// The name of the job.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The UID of the job.
    #[schemars(length(min = 1, max = 63))]
    pub uid: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
// In a field, a description of the type would replace the one of the field.
/// Kind of a job.
#[schemars(description = "")]
pub enum RecordedJobKind {
    AIJob,
    Job,
}
