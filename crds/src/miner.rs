//! `Miner`: registered work that runs on GPUs which nobody else wants.

use k8s_openapi::{
    api::core::v1::EnvVar,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{Condition, Time},
    },
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};

use crate::{GoDuration, rules, schema};

/// What to run, and how much of it. Running replicas keep what they were started with.
#[skip_serializing_none]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "daylight.dev",
    version = "v1alpha1",
    kind = "Miner",
    doc = "Registered work that runs on GPUs which nobody else wants, and leaves when they are wanted.",
    plural = "miners",
    shortname = "mnr",
    category = "daylight",
    namespaced,
    status = "MinerStatus",
    derive = "PartialEq",
    cel,
    selectable = ".spec.registration",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = rules::name_fits_label(),
    printcolumn(name = "Wanted", type_ = "integer", json_path = ".spec.replicas", description = "Replicas asked for"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.readyReplicas", description = "Replicas that run"),
    printcolumn(name = "Why not", type_ = "string", json_path = ".status.reason", description = "Why not all run"),
    printcolumn(name = "Hashrate", type_ = "string", json_path = ".status.work.hashrate", description = "Hashes per second, all replicas together"),
    printcolumn(name = "Shares", type_ = "integer", json_path = ".status.work.sharesAccepted", description = "Shares that mining pools took"),
    printcolumn(name = "Registration", type_ = "string", json_path = ".spec.registration", description = "The registration it works under"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Entitled", type_ = "integer", json_path = ".status.entitled", priority = 1, description = "Replicas that the plan gives it now"),
    printcolumn(name = "Eligible at", type_ = "string", json_path = ".status.eligibleAt", priority = 1, description = "When more may run, where that is known"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1, description = "The reason as a sentence")
)]
#[serde(rename_all = "camelCase")]
pub struct MinerSpec {
    /// The Registration in this namespace under which it works. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::immutable("registration is immutable, since past work was booked under it: create another Miner"))]
    pub registration: String,

    /// How many replicas to run at most. From 0 to 100000.
    #[serde(default = "MinerSpec::default_replicas")]
    #[schemars(range(min = 0, max = 100_000))]
    pub replicas: u32,

    /// Whole GPUs for each replica, all on one node. From 1 to 16. Immutable.
    #[serde(default = "MinerSpec::default_gpus_per_replica")]
    #[schemars(range(min = 1, max = 16))]
    #[x_kube(validation = rules::immutable("gpusPerReplica is immutable, since leases are booked by it: create another Miner"))]
    pub gpus_per_replica: u32,

    /// Its share among miners of the same rank: with twice the weight it gets twice the GPUs.
    #[serde(default = "MinerSpec::default_weight")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,

    /// `GpuPools` to run in, of those that the registration names; an empty list means all of
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub pools: Vec<String>,

    /// The image to run. It must be among those that the activity class allows.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::matches("^[A-Za-z0-9][A-Za-z0-9._:/@-]*$", "image must be an image name, such as registry.example.com/miners/kaspa:1.4"))]
    pub image: String,

    /// Whether `daylight-miner` is the image's first process: then Daylight asks it whether it
    /// works, has it check the wallet against the registration, and shows its figures.
    #[serde(default)]
    pub agent: Agent,

    /// What runs in the image.
    pub engine: Option<Engine>,

    /// Mining pools in the order of preference, as host:port or scheme://host:port. Handed to
    /// the image as `POOL_ENDPOINTS`, separated by commas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = rules::endpoints("poolEndpoints"))]
    pub pool_endpoints: Vec<String>,

    /// Certificates that mining pools with TLS have to show, whoever made them. Handed to the
    /// image as `POOL_PINS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["endpoint".into()]))]
    pub pool_certificates: Vec<PoolCertificate>,

    /// The Secret in this namespace with the wallet's address. Handed to the image as a file,
    /// which `WALLET_FILE` names.
    pub wallet_secret_ref: Option<WalletSecret>,

    /// The Secret in this namespace with the password at the mining pools. Handed to the image as
    /// a file, which `POOL_PASSWORD_FILE` names.
    pub pool_password_secret_ref: Option<PasswordSecret>,

    /// Further environment variables for the image, as plain values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::plain_env")]
    pub env: Vec<EnvVar>,

    /// How long a replica needs to end in good order. The pool's drainTimeout may cut it short.
    /// At most 1h.
    #[serde(default = "MinerSpec::default_drain_timeout")]
    #[x_kube(validation = rules::at_most("1h", "drainTimeout must be at most 1h, since AI waits that long for a GPU"))]
    pub drain_timeout: GoDuration,

    /// The power that a replica draws at most, in watts, all its GPUs together. Needed where a
    /// pool or a registration limits power or energy.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub watts_per_replica: Option<u32>,

    /// CPU and memory of each replica.
    #[serde(default)]
    pub resources: MinerResources,
}

impl MinerSpec {
    fn default_replicas() -> u32 {
        1
    }

    fn default_gpus_per_replica() -> u32 {
        1
    }

    fn default_weight() -> u32 {
        100
    }

    fn default_drain_timeout() -> GoDuration {
        GoDuration::from_secs(10)
    }
}

/// What the first process of an image is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    Display,
    IntoStaticStr,
    VariantArray,
)]
pub enum Agent {
    /// `daylight-miner`.
    Daylight,
    /// Anything else.
    #[default]
    Other,
}

/// The mining program in an image.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// The program's name. Handed to the image as ENGINE.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// Arguments for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub args: Vec<String>,

    /// The algorithm, in lower case. Handed to the image as ALGORITHM. It must be among those
    /// that the activity class allows.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::algorithm("engine.algorithm"))]
    pub algorithm: Option<String>,

    /// The ConfigMap in this namespace with the agent's configuration. Handed to the image as a
    /// file, which `DAYLIGHT_MINER_CONFIG` names.
    pub config_ref: Option<EngineConfig>,
}

/// A `ConfigMap` with the agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EngineConfig {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key in it.
    #[serde(default = "EngineConfig::default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl EngineConfig {
    fn default_key() -> String {
        "miner.toml".into()
    }
}

/// The certificate of a mining pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolCertificate {
    /// The mining pool, as host:port.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::matches("^[^ /@]+:[0-9]+$", "poolCertificates.endpoint must be host:port, such as pool.example.com:443"))]
    pub endpoint: String,

    /// SHA-256 of the certificate in DER, as 64 lower-case hexadecimal digits.
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::matches("^[0-9a-f]{64}$", "poolCertificates.sha256 must be 64 lower-case hexadecimal digits"))]
    pub sha256: String,
}

/// A Secret with the password at mining pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key in it.
    #[serde(default = "PasswordSecret::default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl PasswordSecret {
    fn default_key() -> String {
        "password".into()
    }
}

/// A Secret with a wallet's address.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalletSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key in it.
    #[serde(default = "WalletSecret::default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,

    /// The key of the salt with which the registration commits to the address, in
    /// payout.addressCommitment. `WALLET_SALT_FILE` names its file.
    #[schemars(length(min = 1, max = 253))]
    pub salt_key: Option<String>,
}

impl WalletSecret {
    fn default_key() -> String {
        "address".into()
    }
}

/// CPU and memory of a miner's replica: both request and limit.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MinerResources {
    /// CPU in cores, for instance 500m or 2.
    #[serde(default = "MinerResources::default_cpu")]
    #[schemars(schema_with = "schema::quantity")]
    pub cpu: Quantity,

    /// Memory in bytes, for instance 2Gi.
    #[serde(default = "MinerResources::default_memory")]
    #[schemars(schema_with = "schema::quantity")]
    pub memory: Quantity,

    /// Huge pages of 2 MiB in bytes, for instance 2400Mi, on nodes that have them: RandomX is
    /// faster with them.
    // `default`: with `schema_with`, schemars does not see that the field is optional.
    #[serde(default, rename = "hugePages2Mi")]
    #[schemars(schema_with = "schema::quantity")]
    pub huge_pages_2mi: Option<Quantity>,
}

impl MinerResources {
    fn default_cpu() -> Quantity {
        Quantity("1".into())
    }

    fn default_memory() -> Quantity {
        Quantity("2Gi".into())
    }
}

impl Default for MinerResources {
    fn default() -> Self {
        Self { cpu: Self::default_cpu(), memory: Self::default_memory(), huge_pages_2mi: None }
    }
}

/// How far a miner gets, and why no further.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MinerStatus {
    /// The metadata.generation that this status was computed from.
    pub observed_generation: Option<i64>,

    /// Ready: whether all replicas wanted run, and if not, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Pods that exist and have not ended, those that are ending included.
    #[serde(default)]
    pub replicas: u32,

    /// Those of them that run.
    #[serde(default)]
    pub ready_replicas: u32,

    /// Replicas that the plan gives the miner now: what would run, while a pool only observes.
    pub entitled: Option<u32>,

    /// GPUs that its pods hold.
    pub gpus: Option<u32>,

    /// The label selector of its pods, for the scale subresource.
    #[schemars(length(max = 512))]
    pub selector: Option<String>,

    /// Why not all replicas wanted run, as one word.
    #[schemars(length(max = 63))]
    pub reason: Option<String>,

    /// The same as one sentence.
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// The earliest time at which more may run, where one can be known.
    pub eligible_at: Option<Time>,

    /// What its agents say of their work, as the auditor last read it.
    pub work: Option<MinerWork>,
}

/// What a miner's agents say of their work: for eyes. What counts is in the books.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MinerWork {
    /// Hashes per second of all replicas that say, as a quantity with three digits, for instance
    /// 29.4M.
    #[schemars(length(max = 32))]
    pub hashrate: String,

    /// Shares that mining pools took, of all replicas so far.
    #[serde(default)]
    pub shares_accepted: u64,

    /// Shares that mining pools did not take, of all replicas so far.
    #[serde(default)]
    pub shares_rejected: u64,

    /// The part of these of replicas that have ended.
    #[serde(default)]
    pub ended: EndedWork,

    /// Replicas that say how they are.
    #[serde(default)]
    pub replicas: u32,

    /// What most of those that do not work lack, as one word.
    #[schemars(length(max = 63))]
    pub not_ready: Option<String>,

    /// How many of them do not work.
    #[serde(default)]
    pub not_ready_replicas: u32,
}

/// The work of replicas that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndedWork {
    /// Shares that mining pools took.
    #[serde(default)]
    pub shares_accepted: u64,

    /// Shares that they did not.
    #[serde(default)]
    pub shares_rejected: u64,
}
