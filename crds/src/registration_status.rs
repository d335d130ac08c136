//! The status of a `Registration`: the decision about it, its state, and the use of its limits.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};

use crate::{EnergyPeriod, Millijoules, rules, schema};

/// The decision about a registration, its state, and the use of its limits.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.approval) || oldSelf.approval.state != 'Revoked' || (has(self.approval) && self.approval.state == 'Revoked')")
    .message("approval.state Revoked is final: create another Registration (Suspended is the state that can be lifted)")
    .field_path(".approval.state"))]
pub struct RegistrationStatus {
    /// The metadata.generation that this status was computed from.
    pub observed_generation: Option<i64>,

    /// Ready: the registration is in force, or why it is not. `OverLimit`: a limit is exceeded.
    /// `LimitForecast`: an energy limit will be reached in this period. Lapsed: pods of tenants
    /// still run though it is not in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The last decision. Writing it takes the verb approve on registrations.
    pub approval: Option<Approval>,

    /// The state that follows from approval, spec and time. Only Active permits work.
    pub state: Option<RegistrationState>,

    /// Why the registration is in that state, as one word.
    #[schemars(length(max = 63))]
    pub reason: Option<String>,

    /// Why the registration is in that state, as one sentence.
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// Energy counted in the current period. Written by the auditor.
    pub usage: Option<Usage>,

    /// What pods hold under the registration now, terminating pods included.
    pub held: Option<Held>,

    /// Use of the limits, to be read by people, such as GPUs 4/8, 31% of 6000 kWh.
    #[schemars(length(max = 128))]
    pub limits_used: Option<String>,

    /// Whole days until validUntil.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub days_left: Option<u32>,

    /// When an energy limit will be reached at the present power; absent if not in this period.
    pub forecast: Option<LimitForecast>,
}

/// When an energy limit will be reached if nothing changes. Mining stops before that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitForecast {
    /// When the limit will be reached.
    pub at: Time,
    /// Whose limit it is: Registration or Owner.
    pub limit: LimitOf,
    /// The power assumed, in watts.
    #[schemars(range(min = 0, max = 100_000_000_000_i64))]
    pub watts: u64,
}

/// The holder of a limit.
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
pub enum LimitOf {
    /// The registration.
    Registration,
    /// The owner, for all registrations together.
    Owner,
}

/// A decision about a registration.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.state != 'Approved' || (has(self.specDigest) && has(self.generation))")
        .message("approval.state Approved needs specDigest and generation, which identify what was approved: use kubectl daylight approve")
        .field_path(".specDigest"),
    validation = Rule::new("self.state == 'Approved' || (has(self.message) && self.message != '')")
        .message("approval.message must give the reason for the states Rejected, Suspended and Revoked: set approval.message")
        .field_path(".message"),
)]
pub struct Approval {
    /// Approved, Rejected, Suspended (can be lifted) or Revoked (final).
    pub state: ApprovalState,

    /// The user who decided. It must be the user who sends the request and, for Approved, differ
    /// from spec.submittedBy.
    #[schemars(length(min = 1, max = 512))]
    pub by: String,

    /// The time of the decision.
    pub at: Time,

    /// The digest of what was approved: sha256: followed by 64 hexadecimal digits. It is SHA-256
    /// of the canonical JSON (RFC 8785) of the stored specs of registration, class and pools.
    #[schemars(length(max = 71))]
    #[x_kube(validation = rules::sha256("approval.specDigest must be sha256: and 64 lower-case hexadecimal digits: use kubectl daylight approve"))]
    pub spec_digest: Option<String>,

    /// What was last approved, as the canonical JSON (RFC 8785) that specDigest is the digest of.
    /// Later decisions keep it, so that what changed since can be displayed.
    #[schemars(length(max = 131_072))]
    pub approved_content: Option<String>,

    /// The version of the rules by which specDigest was computed.
    #[serde(default = "Approval::default_digest_version")]
    #[schemars(range(min = 1, max = 1000))]
    pub digest_version: u32,

    /// The metadata.generation that was approved. A later one shows that the spec was edited, while
    /// specDigest says what the approval covers: taking the edit back restores the approval.
    #[schemars(range(min = 1))]
    pub generation: Option<i64>,

    /// The reason for the decision. Required unless Approved.
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// The authority's detached Ed25519 signature, in base64. It signs specDigest and the
    /// registration's identity. `kubectl daylight approve --print-message` prints the message.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::matches("^[A-Za-z0-9+/]+={0,2}$", "approval.signature must be base64: encode the 64 bytes of the signature"))]
    pub signature: Option<String>,
}

impl Approval {
    fn default_digest_version() -> u32 {
        1
    }
}

/// The outcome of a decision.
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
pub enum ApprovalState {
    /// The work may be done as registered.
    Approved,
    /// The work may not be done.
    Rejected,
    /// Approval withdrawn for now; a later approval lifts it.
    Suspended,
    /// Approval withdrawn for good.
    Revoked,
}

/// The state of a `Registration`.
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
/// State of a registration.
#[schemars(description = "")]
pub enum RegistrationState {
    /// There is no decision yet.
    Pending,
    /// Approved, but validFrom is in the future.
    Scheduled,
    /// In force.
    Active,
    /// Spec, class or pools changed after the approval, which is void.
    Changed,
    /// Approved without the authority's signature, which the installation requires.
    SignatureMissing,
    /// Approved with a signature that the authority did not make for this registration.
    SignatureInvalid,
    /// validUntil has passed.
    Expired,
    /// The authority rejected it.
    Rejected,
    /// The authority suspended its approval.
    Suspended,
    /// The authority withdrew its approval for good.
    Revoked,
    /// It refers to objects that do not exist or do not fit, for instance an unknown class.
    Invalid,
}

/// Energy counted in the current energy period.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The time up to which energy has been counted.
    pub metered_until: Time,

    /// Start of the period.
    pub period_start: Time,

    /// End of the period. After an edit of the period, the pools or their time zone, the period
    /// that was approved continues until the edit is approved.
    pub period_end: Option<Time>,

    /// Upper bound of the energy since periodStart, in millijoules, as a decimal string.
    pub millijoules: Millijoules,

    /// Upper bound of the energy since periodStart of the same owner's registrations that were
    /// deleted or now name another owner, in millijoules, as a decimal string. It counts against
    /// ownerLimits.
    pub deleted_millijoules: Option<Millijoules>,

    /// Energy in the periods of the owner's limits that differ from the period above, each with its
    /// own length. Other registrations of the owner set them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["period".into()]))]
    pub other_periods: Vec<PeriodUsage>,

    /// The highest mean power of one replica over a time that is long compared with the age of
    /// readings, in watts. It is at most a sixth below the truth, and never above.
    #[schemars(range(min = 0, max = 100_000_000_000_i64))]
    pub peak_watts: Option<u64>,
}

/// Energy counted in the current period of another limit of the owner.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeriodUsage {
    /// The calendar period: Day, Week, Month or Year.
    pub period: EnergyPeriod,

    /// Start of the period.
    pub period_start: Time,

    /// End of the period.
    pub period_end: Time,

    /// Upper bound of the registration's energy since periodStart, in millijoules, as a decimal
    /// string.
    pub millijoules: Millijoules,

    /// Upper bound of the energy since periodStart of the same owner's registrations that were
    /// deleted or now name another owner, in millijoules, as a decimal string.
    pub deleted_millijoules: Option<Millijoules>,
}

/// Pods that run under a registration, and what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Held {
    /// GPUs that the pods hold.
    pub gpus: u32,
    /// Pods that have a node and have not ended.
    pub replicas: u32,
    /// Power that is counted for these GPUs and for pods without GPUs, in watts.
    pub watts: u64,
}
