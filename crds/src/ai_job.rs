//! `AIJob`: a gang of workers that starts when all of it has GPUs.

use k8s_openapi::{
    api::core::v1::PodTemplateSpec,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};

use crate::{GoDuration, rules, schema};

/// The gang, its place in the queue, and how long it may take.
#[skip_serializing_none]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "daylight.dev",
    version = "v1alpha1",
    kind = "AIJob",
    root = "AiJob",
    doc = "A gang of workers that starts when all of it has GPUs.",
    plural = "aijobs",
    singular = "aijob",
    shortname = "aij",
    category = "daylight",
    namespaced,
    status = "AiJobStatus",
    derive = "PartialEq",
    cel,
    // The pods of an indexed Job are named <job>-<index>-<5 characters>; with an index of up to
    // four digits that leaves 52 of the 63 characters of a label, so that no name is cut.
    validation = Rule::new("size(self.metadata.name) <= 52").message(
        "metadata.name must be at most 52 characters, since its pods are named <name>-<index>-<5 characters> and that must fit into 63: choose a shorter name"
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message(
        "metadata.name becomes a Service and host names: use lower-case letters, digits and '-', beginning with a letter and without dots"
    ),
    validation = Rule::new("self.spec.priority == oldSelf.spec.priority || !has(oldSelf.status) || !has(oldSelf.status.state) || oldSelf.status.state == 'Queued'").message(
        "spec.priority can change only while the job is Queued: delete the job and create it again to give it another priority"
    ).field_path(".spec.priority"),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".spec.workers", description = "Workers of the gang"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "How far it is"),
    printcolumn(name = "Waiting for", type_ = "string", json_path = ".status.reason", description = "What it waits for"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".status.pool", description = "The pool it runs in"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.workers.running", priority = 1, description = "Workers that run"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority", priority = 1, description = "Place in the queue, higher first"),
    printcolumn(name = "Start", type_ = "string", json_path = ".status.estimatedStart", priority = 1, description = "When it is expected to start"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1, description = "What it waits for, as a sentence")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::optional_immutable("pool", "pool is immutable: delete the job and create it again for another pool"),
    validation = rules::optional_immutable("queueName", "queueName is immutable: delete the job and create it again for another queue"),
    validation = rules::optional_immutable("maxRunTime", "maxRunTime is immutable, since others were let wait on its word: delete the job and create it again"),
)]
pub struct AiJobSpec {
    /// How many workers the gang has; they start together or not at all. From 1 to 4096.
    /// Immutable.
    #[serde(default = "AiJobSpec::default_workers")]
    #[schemars(range(min = 1, max = 4096))]
    #[x_kube(validation = rules::immutable("workers is immutable: delete the job and create it again with another number"))]
    pub workers: u32,

    /// The pod of each worker (a Kubernetes `PodTemplateSpec`). What it requests of the pool's
    /// resource is what the worker gets. restartPolicy is Never when it is absent. Immutable.
    #[schemars(schema_with = "schema::pod_template")]
    #[x_kube(validation = Rule::new("!has(self.spec.restartPolicy) || self.spec.restartPolicy in ['Never', 'OnFailure']")
        .message("template.spec.restartPolicy must be Never or OnFailure, since the workers are pods of a Job: set one of them, or remove it")
        .field_path(".spec.restartPolicy"))]
    #[x_kube(validation = rules::immutable("template is immutable: delete the job and create it again with another template"))]
    pub template: PodTemplateSpec,

    /// The `ActivityClass` of the work, for instance ai-training. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::immutable("activityClass is immutable, since the work is booked under it: delete the job and create it again"))]
    pub activity_class: String,

    /// Place in the queue: higher first, then older first. From -1000 to 1000. It can change
    /// while the job is Queued.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,

    /// The `GpuPool` to run in; absent means any that fits. Immutable.
    #[schemars(length(min = 1, max = 63))]
    pub pool: Option<String>,

    /// The longest it runs, from 1s; then it is ended. Others may be scheduled around it only
    /// when it is set. Immutable.
    #[x_kube(validation = rules::within("1s", "8760h", "maxRunTime must be from 1s to 8760h (a year)"))]
    pub max_run_time: Option<GoDuration>,

    /// How long the whole gang may take from its release until every worker is bound to a node;
    /// then it is suspended and tried again later. From 1s to 1h.
    #[serde(default = "AiJobSpec::default_gang_timeout")]
    #[x_kube(validation = rules::within("1s", "1h", "gangTimeout must be from 1s to 1h, since a half gang holds GPUs that long"))]
    pub gang_timeout: GoDuration,

    /// How long the job is kept after it has finished; absent means until somebody deletes it.
    #[x_kube(validation = rules::at_most("8760h", "ttlAfterFinished must be at most 8760h (a year)"))]
    pub ttl_after_finished: Option<GoDuration>,

    /// The Kueue `LocalQueue` to wait in; then Kueue alone decides when the job starts.
    /// Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::matches("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "queueName must be the name of a Kueue LocalQueue: lower-case letters, digits, '-' and '.'"))]
    pub queue_name: Option<String>,

    /// The port on which worker 0 awaits the others (`MASTER_PORT`, `PET_MASTER_PORT`). Immutable.
    #[serde(default = "AiJobSpec::default_master_port")]
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = rules::immutable("masterPort is immutable: delete the job and create it again with another port"))]
    pub master_port: u16,
}

impl AiJobSpec {
    fn default_workers() -> u32 {
        1
    }

    fn default_gang_timeout() -> GoDuration {
        GoDuration::from_secs(60)
    }

    fn default_master_port() -> u16 {
        // torchrun's default.
        29500
    }
}

/// How far an `AIJob` is.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    Display,
    IntoStaticStr,
    VariantArray,
)]
pub enum AiJobState {
    /// It waits for GPUs.
    Queued,
    /// Its nodes are chosen; miners are leaving them.
    Reserved,
    /// It is released; not all workers run yet.
    Starting,
    /// All workers run.
    Running,
    /// All workers ended well.
    Succeeded,
    /// It ended otherwise.
    Failed,
}

/// How far a job is, and what it waits for.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AiJobStatus {
    /// The metadata.generation that this status was computed from.
    pub observed_generation: Option<i64>,

    /// Ready: whether all workers run. Admitted: whether the gang has its GPUs. Finished:
    /// whether it has ended, and how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Queued, Reserved (miners are leaving), Starting, Running, Succeeded or Failed.
    pub state: Option<AiJobState>,

    /// The gang's workers by how far they are.
    pub workers: Option<WorkerCounts>,

    /// The pool chosen.
    #[schemars(length(max = 63))]
    pub pool: Option<String>,

    /// The nodes reserved, and how many workers go to each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["node".into()]))]
    pub placement: Vec<Placement>,

    /// What it waits for, as one word.
    #[schemars(length(max = 63))]
    pub reason: Option<String>,

    /// The same as one sentence.
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// When it is expected to start, where that can be known.
    pub estimated_start: Option<Time>,

    /// When it joined the queue.
    pub queued_at: Option<Time>,

    /// When nodes were chosen for it.
    pub reserved_at: Option<Time>,

    /// When it was released to the scheduler.
    pub released_at: Option<Time>,

    /// When all workers ran.
    pub started_at: Option<Time>,

    /// When it ended.
    pub finished_at: Option<Time>,

    /// How often it was released.
    pub attempts: Option<u32>,

    /// Until when it waits after an attempt in which the gang was not complete in time.
    pub backoff_until: Option<Time>,

    /// How many miner pods made way for it.
    pub displaced: Option<u32>,
}

/// The workers of a gang by how far they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkerCounts {
    /// All of them.
    pub wanted: u32,
    /// Those bound to a node.
    pub bound: u32,
    /// Those that run.
    pub running: u32,
}

/// Workers of a gang on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The node's name.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// How many workers go there.
    #[schemars(range(min = 1, max = 4096))]
    pub workers: u32,
}
