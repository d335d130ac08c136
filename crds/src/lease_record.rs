//! `LeaseRecord`: the end of one lease that the auditor has not taken on record in time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::rules;

/// What was leased to whom, from when until when. Written once by the controller when it lets a
/// pod go that the auditor has not; deleted by the auditor, which then has it in its journal.
#[skip_serializing_none]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "daylight.dev",
    version = "v1alpha1",
    kind = "LeaseRecord",
    doc = "The end of one lease which the auditor has not taken on record in time. Written by Daylight's controller, and deleted by its auditor.",
    plural = "leaserecords",
    shortname = "lease",
    category = "daylight-internal",
    namespaced,
    derive = "PartialEq",
    cel,
    validation = Rule::new("self.spec == oldSelf.spec").message("spec is immutable, since it is evidence: leave it to the auditor, which deletes it").field_path(".spec"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.pod", description = "The pod that held the GPUs"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node", description = "Where"),
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".spec.gpus", description = "How many"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.activityClass", description = "Activity class"),
    printcolumn(name = "Registration", type_ = "string", json_path = ".spec.registration", description = "The registration it worked under"),
    printcolumn(name = "Finished", type_ = "string", json_path = ".spec.finishedAt", description = "When it ended"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRecordSpec {
    /// The name of the pod.
    #[schemars(length(min = 1, max = 253))]
    pub pod: String,

    /// The UID of the pod.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::matches("^[A-Za-z0-9-]+$", "podUid must be the UID of a pod"))]
    pub pod_uid: String,

    /// The node on which it held its GPUs.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,

    /// The extended resource, such as nvidia.com/gpu.
    #[schemars(length(min = 1, max = 253))]
    pub resource: String,

    /// How many it held.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub gpus: u32,

    /// The `GpuPool` that had them.
    #[schemars(length(min = 1, max = 63))]
    pub pool: Option<String>,

    /// Its class, if it declared one.
    #[schemars(length(min = 1, max = 63))]
    pub activity_class: Option<String>,

    /// The Registration in this namespace that it worked under, if any.
    #[schemars(length(min = 1, max = 63))]
    pub registration: Option<String>,

    /// Watts declared for it.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub watts: Option<u64>,

    /// When it was bound to the node: the GPUs were its own from then on.
    pub bound_at: Option<Time>,

    /// When the kubelet took it up.
    pub started_at: Option<Time>,

    /// When its last container ended, as the kubelet says; absent where none says it.
    pub finished_at: Option<Time>,

    /// What its container said of its work as it ended, if it did.
    #[schemars(length(max = 4096))]
    pub termination_message: Option<String>,

    /// The image of that container.
    #[schemars(length(max = 1024))]
    pub image: Option<String>,

    /// When the controller saw that it had ended: not later than that it had.
    pub seen_ended_at: Time,
}
