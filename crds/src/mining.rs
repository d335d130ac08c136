//! The mining settings of a `GpuPool`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};

use crate::{GoDuration, rules, schema};

/// When and within which limits the idle GPUs of a pool mine.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mining {
    /// The use of idle GPUs. Observe: plan, explain and meter only; start and stop nothing. Fill:
    /// run miners on them. Hold: start no miner, keep those that run. Drain: stop all miners.
    #[serde(default)]
    pub policy: MiningPolicy,

    /// When mining is allowed, in the site's time zone. Windows may overlap; an empty list means
    /// always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub windows: Vec<MiningWindow>,

    /// Maximum number of GPUs that mine at once; absent means no limit.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_gpus: Option<u32>,

    /// Usable GPUs kept free of miners, so that AI work can start at once: a count, or a
    /// percentage of the pool's usable GPUs (rounded up) such as "5%".
    #[serde(default = "Mining::default_headroom")]
    #[schemars(schema_with = "schema::count_or_percent")]
    pub headroom: IntOrString,

    /// Maximum power of mining, in watts; absent means no limit. A miner's power is the larger of
    /// the declared and the measured watts.
    #[schemars(range(min = 0, max = 100_000_000_000_i64))]
    pub power_budget_watts: Option<u64>,

    /// Time that a GPU must be idle before it mines. At most 24h.
    #[serde(default = "Mining::default_idle_delay")]
    #[x_kube(validation = rules::at_most("24h", "mining.idleDelay must be at most 24h"))]
    pub idle_delay: GoDuration,

    /// Time for which no other miner can displace a running miner. AI work, limits, windows and
    /// drains do not wait for it. At most 24h.
    #[serde(default = "Mining::default_min_run_time")]
    #[x_kube(validation = rules::at_most("24h", "mining.minRunTime must be at most 24h"))]
    pub min_run_time: GoDuration,

    /// Maximum time for a miner to stop when its GPU is reclaimed. The miner's own drainTimeout
    /// applies if it is shorter. At most 1h.
    #[serde(default = "Mining::default_drain_timeout")]
    #[x_kube(validation = rules::at_most("1h", "mining.drainTimeout must be at most 1h, since AI work waits that long for a GPU"))]
    pub drain_timeout: GoDuration,

    /// The unit of reclaim for AI work. Gpu: as many GPUs as are needed. Node: all miners of a
    /// node, for strict NUMA alignment or jobs that take whole nodes.
    #[serde(default)]
    pub reclaim_unit: ReclaimUnit,

    /// The use of nodes that an autoscaler manages. Skip: they do not mine, so that mining never
    /// prevents a scale-down. Use: they mine like any other node.
    #[serde(default)]
    pub autoscaled_nodes: AutoscaledNodes,
}

impl Mining {
    fn default_headroom() -> IntOrString {
        IntOrString::Int(0)
    }

    fn default_idle_delay() -> GoDuration {
        GoDuration::from_secs(5)
    }

    fn default_min_run_time() -> GoDuration {
        GoDuration::from_secs(60)
    }

    fn default_drain_timeout() -> GoDuration {
        GoDuration::from_secs(30)
    }
}

impl Default for Mining {
    fn default() -> Self {
        Self {
            policy: MiningPolicy::default(),
            windows: Vec::new(),
            max_gpus: None,
            headroom: Self::default_headroom(),
            power_budget_watts: None,
            idle_delay: Self::default_idle_delay(),
            min_run_time: Self::default_min_run_time(),
            drain_timeout: Self::default_drain_timeout(),
            reclaim_unit: ReclaimUnit::default(),
            autoscaled_nodes: AutoscaledNodes::default(),
        }
    }
}

/// The use of a pool's idle GPUs.
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
// In an optional field, a description of the type would replace the one of the field.
/// Whether and how idle GPUs mine.
#[schemars(description = "")]
pub enum MiningPolicy {
    /// Plan, explain and meter; write nothing but status.
    #[default]
    Observe,
    /// Run miners on idle GPUs.
    Fill,
    /// Start no miner; keep those that run.
    Hold,
    /// Stop all miners.
    Drain,
}

/// A recurring period in which mining is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MiningWindow {
    /// The window's name, for instance night.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// When the window opens: five cron fields (minute, hour, day of month, month, day of
    /// week) in the site's time zone, for instance "0 22 * * 1-5".
    #[schemars(length(min = 9, max = 128))]
    #[x_kube(validation = rules::matches("^[^ \\t]+( [^ \\t]+){4}$", "windows.schedule must have five cron fields with single spaces between them, such as \"0 22 * * 1-5\""))]
    pub schedule: String,

    /// Elapsed time for which the window stays open. From 1m to 168h.
    #[x_kube(validation = rules::within("1m", "168h", "windows.duration must be from 1m to 168h; for always, remove the windows"))]
    pub duration: GoDuration,
}

/// The unit in which GPUs are reclaimed.
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
pub enum ReclaimUnit {
    /// As many GPUs as are needed.
    #[default]
    Gpu,
    /// All miners of a node.
    Node,
}

/// The use of nodes that an autoscaler manages.
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
pub enum AutoscaledNodes {
    /// They do not mine.
    #[default]
    Skip,
    /// They mine like any other node.
    Use,
}
