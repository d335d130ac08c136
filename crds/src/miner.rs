//! `Miner`: registered work that runs on idle GPUs.

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

/// The program to run, and the number of replicas. Running replicas keep the settings with which
/// they were started.
#[skip_serializing_none]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "daylight.dev",
    version = "v1alpha1",
    kind = "Miner",
    doc = "Registered work that runs on idle GPUs, and releases them when AI work needs them.",
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
    printcolumn(name = "Wanted", type_ = "integer", json_path = ".spec.replicas", description = "Maximum number of replicas"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.readyReplicas", description = "Replicas that run"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", description = "Why all replicas run or not, as one word"),
    printcolumn(name = "Hashrate", type_ = "string", json_path = ".status.work.hashrate", description = "Hashes per second of all replicas"),
    printcolumn(name = "Shares", type_ = "integer", json_path = ".status.work.sharesAccepted", description = "Shares that mining pools accepted"),
    printcolumn(name = "Registration", type_ = "string", json_path = ".spec.registration", description = "Registration of the work"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Entitled", type_ = "integer", json_path = ".status.entitled", priority = 1, description = "Replicas that the plan gives it now"),
    printcolumn(name = "Eligible at", type_ = "string", json_path = ".status.eligibleAt", priority = 1, description = "When more replicas may run, if known"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1, description = "Explanation of the reason")
)]
#[serde(rename_all = "camelCase")]
pub struct MinerSpec {
    /// The Registration of the work, in this namespace. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::immutable("registration is immutable, since past work was booked under it: create another Miner"))]
    pub registration: String,

    /// Maximum number of replicas. From 0 to 100000.
    #[serde(default = "MinerSpec::default_replicas")]
    #[schemars(range(min = 0, max = 100_000))]
    pub replicas: u32,

    /// GPUs of each replica, all on one node. From 1 to 16. Immutable.
    #[serde(default = "MinerSpec::default_gpus_per_replica")]
    #[schemars(range(min = 1, max = 16))]
    #[x_kube(validation = rules::immutable("gpusPerReplica is immutable, since leases are booked by it: create another Miner"))]
    pub gpus_per_replica: u32,

    /// The miner's share of GPUs among miners of the same rank. Twice the weight gets twice the
    /// GPUs. From 1 to 1000.
    #[serde(default = "MinerSpec::default_weight")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,

    /// The `GpuPools` to run in, from those of the registration; an empty list means all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub pools: Vec<String>,

    /// The image to run. The activity class must allow it.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::matches("^[A-Za-z0-9][A-Za-z0-9._:/@-]*$", "image must be an image name, such as registry.example.com/miners/kaspa:1.4"))]
    pub image: String,

    /// The first process of the image. Daylight: it is `daylight-miner`, which checks the wallet
    /// against the registration and reports its health and figures. Other: any other program.
    #[serde(default)]
    pub agent: Agent,

    /// The mining program in the image.
    pub engine: Option<Engine>,

    /// Mining pools in order of preference, as host:port or scheme://host:port. The container
    /// gets them as `POOL_ENDPOINTS`, separated by commas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = rules::endpoints("poolEndpoints"))]
    pub pool_endpoints: Vec<String>,

    /// The certificates, or their public keys, that mining pools with TLS must present, regardless
    /// of their issuer. A pool that has several presents one of them. The container gets them as
    /// `POOL_PINS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["endpoint".into(), "sha256".into()]))]
    pub pool_certificates: Vec<PoolCertificate>,

    /// The Secret in this namespace with the wallet's address. The container gets the address in
    /// the file that `WALLET_FILE` names.
    pub wallet_secret_ref: Option<WalletSecret>,

    /// The Secret in this namespace with the password for the mining pools. The container gets
    /// the password in the file that `POOL_PASSWORD_FILE` names.
    pub pool_password_secret_ref: Option<PasswordSecret>,

    /// Additional environment variables of the container, as plain values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::plain_env")]
    pub env: Vec<EnvVar>,

    /// Time that a replica needs for an orderly stop. The pool's drainTimeout applies if it is
    /// shorter. At most 1h.
    #[serde(default = "MinerSpec::default_drain_timeout")]
    #[x_kube(validation = rules::at_most("1h", "drainTimeout must be at most 1h, since AI work waits that long for a GPU"))]
    pub drain_timeout: GoDuration,

    /// Maximum power of a replica, in watts, for all its GPUs together. Required if a pool or a
    /// registration limits power or energy.
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

/// The first process of an image.
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
    /// Any other program.
    #[default]
    Other,
}

/// The mining program in an image.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// The program's name. The container gets it as ENGINE.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// The program's arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub args: Vec<String>,

    /// The algorithm, in lower case. The activity class must allow it. The container gets it as
    /// ALGORITHM.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::algorithm("engine.algorithm"))]
    pub algorithm: Option<String>,

    /// The ConfigMap in this namespace with the agent's configuration. The container gets the
    /// configuration in the file that `DAYLIGHT_MINER_CONFIG` names.
    pub config_ref: Option<EngineConfig>,
}

/// A `ConfigMap` with the agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EngineConfig {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key of the configuration.
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

    /// SHA-256 of the certificate in DER, or of its `SubjectPublicKeyInfo`, as 64 lower-case
    /// hexadecimal digits. A pool that renews its certificate usually keeps the key.
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::matches("^[0-9a-f]{64}$", "poolCertificates.sha256 must be 64 lower-case hexadecimal digits"))]
    pub sha256: String,
}

/// A Secret with the password for mining pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key of the password.
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

    /// The key of the address.
    #[serde(default = "WalletSecret::default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,

    /// The key of the salt of the registration's payout.addressCommitment. The container gets the
    /// salt in the file that `WALLET_SALT_FILE` names.
    #[schemars(length(min = 1, max = 253))]
    pub salt_key: Option<String>,
}

impl WalletSecret {
    fn default_key() -> String {
        "address".into()
    }
}

/// CPU and memory of a miner's replica, as request and as limit.
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

    /// Huge pages of 2 MiB, in bytes, for instance 2400Mi. RandomX is faster with them. The nodes
    /// must provide them.
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

/// The state of a miner, and why not all its replicas run.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MinerStatus {
    /// The metadata.generation that this status was computed from.
    pub observed_generation: Option<i64>,

    /// Ready: all of spec.replicas run, or why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Pods that have not ended, terminating pods included.
    #[serde(default)]
    pub replicas: u32,

    /// Pods that run.
    #[serde(default)]
    pub ready_replicas: u32,

    /// Replicas that the plan gives the miner now. Under a pool's policy Observe, they would run.
    pub entitled: Option<u32>,

    /// GPUs that the miner's pods hold.
    pub gpus: Option<u32>,

    /// The label selector of the miner's pods, for the scale subresource.
    #[schemars(length(max = 512))]
    pub selector: Option<String>,

    /// Why not all of spec.replicas run, as one word.
    #[schemars(length(max = 63))]
    pub reason: Option<String>,

    /// Why not all of spec.replicas run, as one sentence.
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// The earliest time at which more replicas may run, if known.
    pub eligible_at: Option<Time>,

    /// The work that the agents of the replicas last reported. Written by the auditor.
    pub work: Option<MinerWork>,
}

/// The work that a miner's agents report, for display only. Accounting does not use it.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MinerWork {
    /// Hashes per second of all replicas that report, as a quantity with three digits, for
    /// instance 29.4M.
    #[schemars(length(max = 32))]
    pub hashrate: String,

    /// Shares of all replicas so far that mining pools accepted.
    #[serde(default)]
    pub shares_accepted: u64,

    /// Shares of all replicas so far that mining pools rejected.
    #[serde(default)]
    pub shares_rejected: u64,

    /// The part of these shares that comes from replicas that have ended.
    #[serde(default)]
    pub ended: EndedWork,

    /// Replicas that report.
    #[serde(default)]
    pub replicas: u32,

    /// The most frequent reason why replicas do not work, as one word.
    #[schemars(length(max = 63))]
    pub not_ready: Option<String>,

    /// Replicas that report and do not work.
    #[serde(default)]
    pub not_ready_replicas: u32,
}

/// The work of replicas that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndedWork {
    /// Shares that mining pools accepted.
    #[serde(default)]
    pub shares_accepted: u64,

    /// Shares that mining pools rejected.
    #[serde(default)]
    pub shares_rejected: u64,
}
