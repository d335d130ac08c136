//! `GpuPool`: a set of GPUs that Daylight manages, and when they may mine.

use k8s_openapi::{
    api::core::v1::Toleration,
    apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};

use crate::{Mining, MiningPolicy, rules, schema};

/// The GPUs of a pool, their site, and when they may mine.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "daylight.dev",
    version = "v1alpha1",
    kind = "GpuPool",
    doc = "A set of nodes whose GPUs serve AI jobs first, and registered miners while they are idle.",
    plural = "gpupools",
    shortname = "gpool",
    category = "daylight",
    status = "GpuPoolStatus",
    derive = "PartialEq",
    cel,
    validation = rules::name_fits_label(),
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".status.gpus.total", description = "GPUs on the pool's nodes"),
    printcolumn(name = "AI", type_ = "integer", json_path = ".status.gpus.ai", description = "GPUs that AI work holds"),
    printcolumn(name = "Mining", type_ = "integer", json_path = ".status.gpus.mining", description = "GPUs that miners hold"),
    printcolumn(name = "Idle", type_ = "integer", json_path = ".status.gpus.idle", description = "Usable GPUs that no pod holds"),
    printcolumn(name = "Headroom", type_ = "integer", json_path = ".status.gpus.headroom", description = "GPUs kept free for AI"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".status.policy", description = "Mining policy in force now"),
    printcolumn(name = "Why", type_ = "string", json_path = ".status.reason", description = "Why that policy is in force, or why idle GPUs do not mine"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes", priority = 1, description = "Nodes that match spec.nodeSelector"),
    printcolumn(name = "Unlisted", type_ = "integer", json_path = ".status.gpus.unlisted", priority = 1, description = "GPUs held by pods whose activity class does not exist, or is prohibited"),
    printcolumn(name = "Undeclared", type_ = "integer", json_path = ".status.gpus.undeclared", priority = 1, description = "GPUs held by pods without an activity class"),
    printcolumn(name = "Unavailable", type_ = "integer", json_path = ".status.gpus.unavailable", priority = 1, description = "GPUs that are not usable now"),
    printcolumn(name = "Next change", type_ = "string", json_path = ".status.nextChange", priority = 1, description = "When the policy in force may change next"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1, description = "Explanation of the reason")
)]
#[serde(rename_all = "camelCase")]
pub struct GpuPoolSpec {
    /// Selects the nodes of the pool by their labels. A node belongs to at most one pool.
    #[schemars(schema_with = "schema::node_selector")]
    pub node_selector: LabelSelector,

    /// The extended resource that represents a GPU, for instance nvidia.com/gpu. Immutable.
    #[schemars(length(min = 3, max = 253))]
    #[x_kube(validation = rules::matches("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", "resource must be the name of an extended resource, such as nvidia.com/gpu: write a domain, a slash and a name"))]
    #[x_kube(validation = rules::immutable("resource is immutable: create another pool for another resource"))]
    pub resource: String,

    /// DRA device classes that allocate the same GPUs, for clusters that also use
    /// `ResourceClaims`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub device_classes: Vec<String>,

    /// Tolerations that Daylight adds to the pods of miners and AI jobs in the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,

    /// The `RuntimeClass` of miners' pods in the pool, and of AI jobs that name the pool and set none
    /// in their template. Required where pods see no GPU without it, as on k3s and RKE2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::matches("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "runtimeClassName must be the name of a RuntimeClass, such as nvidia"))]
    pub runtime_class_name: Option<String>,

    /// The site of the nodes.
    pub site: Site,

    /// When and within which limits idle GPUs mine.
    #[serde(default)]
    pub mining: Mining,

    /// The order in which `AIJobs` start in the pool. `StrictFifo`: no job starts before one that
    /// is ahead of it. Backfill: a later job may start first if it delays none ahead of it.
    #[serde(default)]
    pub queueing: Queueing,
}

/// The site of a pool: the location of its nodes, and their electricity supply.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Site {
    /// The site's name, to which registrations refer. Immutable, since the books are kept by
    /// site.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::matches("^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", "site.name must fit in a label: use letters, digits, '-', '_' and '.', with a letter or digit at both ends"))]
    #[x_kube(validation = rules::immutable("site.name is immutable, since the books are kept by site: create another pool for another site"))]
    pub name: String,

    /// The IANA time zone of mining windows and energy periods, for instance Europe/Berlin.
    #[serde(default = "Site::default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = rules::matches("^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$", "site.timeZone must be a name of the IANA time zone database, such as Europe/Berlin or Etc/UTC"))]
    pub time_zone: String,

    /// Power usage effectiveness: facility energy divided by IT energy, as a decimal such as
    /// "1.25". Used only to display an estimate of facility energy.
    #[schemars(length(max = 8))]
    #[x_kube(validation = rules::matches("^[1-9][0-9]?([.][0-9]{1,4})?$", "site.pue must be a decimal from 1 to 99.9999 in quotes, such as \"1.25\""))]
    pub pue: Option<String>,

    /// The site's connection to the grid, for declarations.
    pub grid_connection: Option<GridConnection>,
}

impl Site {
    fn default_time_zone() -> String {
        "Etc/UTC".into()
    }
}

/// A connection to the electricity grid.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.operator) || has(self.meteringPoint) || has(self.contractedWatts)")
    .message("gridConnection is empty: set operator, meteringPoint or contractedWatts, or remove it"))]
pub struct GridConnection {
    /// The grid operator's name.
    #[schemars(length(min = 1, max = 253))]
    pub operator: Option<String>,

    /// The number of the metering point.
    #[schemars(length(min = 1, max = 128))]
    pub metering_point: Option<String>,

    /// The power that the contract allows, in watts.
    #[schemars(range(min = 1, max = 100_000_000_000_i64))]
    pub contracted_watts: Option<u64>,
}

/// The order in which `AIJobs` start.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
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
pub enum Queueing {
    /// No job starts before one that is ahead of it.
    StrictFifo,
    /// A later job may start first if it delays none ahead of it.
    #[default]
    Backfill,
}

/// The state of a pool.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuPoolStatus {
    /// The metadata.generation that this status was computed from.
    pub observed_generation: Option<i64>,

    /// Ready: the pool's spec is valid, or what to correct. Metered: the pool's leases are
    /// recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Nodes that match spec.nodeSelector.
    pub nodes: Option<u32>,

    /// The pool's GPUs by use.
    pub gpus: Option<GpuCounts>,

    /// GPUs that the plan gives to miners now. Under the policy Observe, they would mine.
    pub planned_mining_gpus: Option<u32>,

    /// The power that is counted for mining, in watts.
    pub mining_watts: Option<u64>,

    /// The mining policy in force: spec.mining.policy, unless a closed window or an emergency
    /// stop overrides it.
    pub policy: Option<MiningPolicy>,

    /// Why that policy is in force or why idle GPUs do not mine, as one word.
    #[schemars(length(max = 63))]
    pub reason: Option<String>,

    /// The reason as one sentence.
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// When the policy in force may change next, if known.
    pub next_change: Option<Time>,
}

/// GPUs by use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GpuCounts {
    /// All GPUs of the pool.
    pub total: u32,
    /// Held by pods of a class with guaranteed assignment, or reserved for an `AIJob`.
    pub ai: u32,
    /// Held by miners, terminating ones included.
    pub mining: u32,
    /// Usable, and held by no pod.
    pub idle: u32,
    /// Usable, and kept free for AI work by spec.mining.headroom.
    pub headroom: u32,
    /// Held by pods without an activity class.
    pub undeclared: u32,
    /// Held by pods whose activity class does not exist, or is prohibited.
    pub unlisted: u32,
    /// Not usable now: node cordoned, not ready or unreachable, or device unhealthy.
    pub unavailable: u32,
    /// Excluded from mining for a while, because miners failed there.
    pub quarantined: u32,
}
