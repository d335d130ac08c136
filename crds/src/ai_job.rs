//! `AIJob`: a gang of workers that starts when GPUs for all of them are free.

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

/// The gang, its priority, and its time limits.
#[skip_serializing_none]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "daylight.dev",
    version = "v1alpha1",
    kind = "AIJob",
    root = "AiJob",
    doc = "A gang of workers that starts when GPUs for all of them are free.",
    plural = "aijobs",
    singular = "aijob",
    shortname = "aij",
    category = "daylight",
    namespaced,
    status = "AiJobStatus",
    derive = "PartialEq",
    cel,
    // The pods of an indexed Job are named <job>-<index>-<5 characters>. With an index of four
    // digits, 52 of a label's 63 characters are left for the job's name.
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
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "State of the job"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", description = "Why it is in that state, as one word"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".status.pool", description = "Pool that was chosen"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.workers.running", priority = 1, description = "Workers that run"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority", priority = 1, description = "Priority in the queue, higher first"),
    printcolumn(name = "Start", type_ = "string", json_path = ".status.estimatedStart", priority = 1, description = "When it is expected to start"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1, description = "Explanation of the reason")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::optional_immutable("pool", "pool is immutable: delete the job and create it again for another pool"),
    validation = rules::optional_immutable("queueName", "queueName is immutable: delete the job and create it again for another queue"),
    validation = rules::optional_immutable("maxRunTime", "maxRunTime is immutable, since other jobs were scheduled by it: delete the job and create it again with another limit"),
)]
pub struct AiJobSpec {
    /// The number of workers in the gang, which start together or not at all. From 1 to 4096.
    /// Immutable.
    #[serde(default = "AiJobSpec::default_workers")]
    #[schemars(range(min = 1, max = 4096))]
    #[x_kube(validation = rules::immutable("workers is immutable: delete the job and create it again with another number"))]
    pub workers: u32,

    /// The pod of each worker (a Kubernetes `PodTemplateSpec`). A worker gets the GPUs that the
    /// template requests of the pool's resource. An absent restartPolicy means Never. Immutable.
    #[schemars(schema_with = "schema::pod_template")]
    #[x_kube(validation = Rule::new("!has(self.spec.restartPolicy) || self.spec.restartPolicy in ['Never', 'OnFailure']")
        .message("template.spec.restartPolicy must be Never or OnFailure, since the workers are pods of a Job: set one of them, or remove it")
        .field_path(".spec.restartPolicy"))]
    #[x_kube(validation = rules::immutable_template("template is immutable: delete the job and create it again with another template"))]
    pub template: PodTemplateSpec,

    /// The `ActivityClass` of the work, for instance ai-training. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::immutable("activityClass is immutable, since the work is booked under it: delete the job and create it again"))]
    pub activity_class: String,

    /// Priority in the queue: higher first, then older first. From -1000 to 1000. It can be
    /// changed while the job is Queued.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,

    /// The `GpuPool` to run in; absent means any suitable pool. Immutable.
    #[schemars(length(min = 1, max = 63))]
    pub pool: Option<String>,

    /// Maximum run time, after which the job is stopped. From 1s to 8760h. Later jobs can be
    /// scheduled around this one only if it is set. Immutable.
    #[x_kube(validation = rules::within("1s", "8760h", "maxRunTime must be from 1s to 8760h (one year)"))]
    pub max_run_time: Option<GoDuration>,

    /// Maximum time from the gang's release until every worker is bound to a node. After that,
    /// the gang is suspended and tried again later. From 1s to 1h. With queueName it has no effect:
    /// Kueue's waitForPodsReady does the same there.
    #[serde(default = "AiJobSpec::default_gang_timeout")]
    #[x_kube(validation = rules::within("1s", "1h", "gangTimeout must be from 1s to 1h, since an incomplete gang holds GPUs that long"))]
    pub gang_timeout: GoDuration,

    /// Time after which a finished job is deleted; absent means never. At most 8760h.
    #[x_kube(validation = rules::at_most("8760h", "ttlAfterFinished must be at most 8760h (one year)"))]
    pub ttl_after_finished: Option<GoDuration>,

    /// The Kueue `LocalQueue` of the job. If it is set, Kueue alone decides when the job starts.
    /// Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::matches("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "queueName must be the name of a Kueue LocalQueue: lower-case letters, digits, '-' and '.'"))]
    pub queue_name: Option<String>,

    /// The port on which worker 0 waits for the others. The workers get it as `MASTER_PORT` and
    /// `PET_MASTER_PORT`. Immutable.
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

/// The state of an `AIJob`.
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
// In an optional field, a description of the type would replace the one of the field.
/// State of an AI job.
#[schemars(description = "")]
pub enum AiJobState {
    /// It waits for GPUs.
    Queued,
    /// Its nodes are chosen; miners are leaving them.
    Reserved,
    /// It is released to the scheduler; not all workers run yet.
    Starting,
    /// All workers run.
    Running,
    /// All workers have succeeded.
    Succeeded,
    /// It ended in any other way.
    Failed,
}

/// The state of a job, and why it waits.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AiJobStatus {
    /// The metadata.generation that this status was computed from.
    pub observed_generation: Option<i64>,

    /// Ready: all workers run. Admitted: the gang has its GPUs. Finished: the job has ended, and
    /// its outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Queued, Reserved (miners are leaving), Starting, Running, Succeeded or Failed.
    pub state: Option<AiJobState>,

    /// The gang's workers by state.
    pub workers: Option<WorkerCounts>,

    /// The pool that was chosen.
    #[schemars(length(max = 63))]
    pub pool: Option<String>,

    /// The reserved nodes, with the number of workers on each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["node".into()]))]
    pub placement: Vec<Placement>,

    /// Why the job waits, as one word.
    #[schemars(length(max = 63))]
    pub reason: Option<String>,

    /// Why the job waits, as one sentence.
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// The expected start, if it can be estimated.
    pub estimated_start: Option<Time>,

    /// When the job joined the queue.
    pub queued_at: Option<Time>,

    /// When nodes were chosen for the job.
    pub reserved_at: Option<Time>,

    /// When the job was released to the scheduler.
    pub released_at: Option<Time>,

    /// When all workers were running.
    pub started_at: Option<Time>,

    /// When the job ended.
    pub finished_at: Option<Time>,

    /// Number of times that the job was released to the scheduler.
    pub attempts: Option<u32>,

    /// End of the waiting time after an attempt in which the gang was not complete in time.
    pub backoff_until: Option<Time>,

    /// Number of miner pods that were reclaimed for the job.
    pub displaced: Option<u32>,
}

/// The workers of a gang by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkerCounts {
    /// Workers in the gang.
    pub wanted: u32,
    /// Workers bound to a node.
    pub bound: u32,
    /// Workers that run.
    pub running: u32,
}

/// Workers of a gang on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The node's name.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// Number of workers on the node.
    #[schemars(range(min = 1, max = 4096))]
    pub workers: u32,
}
