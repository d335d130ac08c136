//! What was decided about a `Registration`, and what its work takes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};

use crate::{Millijoules, rules, schema};

/// What was decided about a registration, and what its work takes now.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.approval) || oldSelf.approval.state != 'Revoked' || (has(self.approval) && self.approval.state == 'Revoked')")
    .message("approval.state Revoked is final: create another Registration (Suspended is the state that can be lifted)")
    .field_path(".approval.state"))]
pub struct RegistrationStatus {
    /// The metadata.generation that this status was computed from.
    pub observed_generation: Option<i64>,

    /// Ready: whether the registration counts now, and if not, why. `OverLimit`: whether a limit is
    /// passed. `LimitForecast`: whether an energy limit will be met in this period.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The last decision. Only who has the verb approve may write it.
    pub approval: Option<Approval>,

    /// The state that follows from approval, spec and time. Only Active counts.
    pub state: Option<RegistrationState>,

    /// Why it is in that state, as one word.
    #[schemars(length(max = 63))]
    pub reason: Option<String>,

    /// The same as one sentence.
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// What the meter has counted in the current period. Written by the auditor.
    pub usage: Option<Usage>,

    /// What pods hold under the registration now, those that are ending included.
    pub held: Option<Held>,

    /// What is used of the limits, for people, such as GPUs 4/8, 31% of 6000 kWh.
    #[schemars(length(max = 128))]
    pub limits_used: Option<String>,

    /// Whole days until validUntil.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub days_left: Option<u32>,

    /// When an energy limit will be met at the present rate; absent if not in this period.
    pub forecast: Option<LimitForecast>,
}

/// When an energy limit will be met if nothing changes. Mining stops before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitForecast {
    /// When.
    pub at: Time,
    /// Whose limit it is: Registration or Owner.
    pub limit: LimitOf,
    /// The present rate, in watts.
    #[schemars(range(min = 0, max = 100_000_000_000_i64))]
    pub watts: u64,
}

/// Whose limit it is.
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
    /// The registration's own.
    Registration,
    /// The owner's, over all registrations.
    Owner,
}

/// A decision about a registration.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.state != 'Approved' || (has(self.specDigest) && has(self.generation))")
        .message("approval.state Approved needs specDigest and generation, which say what was approved: use kubectl daylight approve")
        .field_path(".specDigest"),
    validation = Rule::new("self.state == 'Approved' || (has(self.message) && self.message != '')")
        .message("approval.message must say why for the states Rejected, Suspended and Revoked")
        .field_path(".message"),
)]
pub struct Approval {
    /// Approved, Rejected, Suspended (may be lifted) or Revoked (final).
    pub state: ApprovalState,

    /// The user name that decided. It must be the requesting user, and for Approved not
    /// spec.submittedBy.
    #[schemars(length(min = 1, max = 512))]
    pub by: String,

    /// When it was decided.
    pub at: Time,

    /// What was approved: SHA-256 over the canonical JSON (RFC 8785) of the stored specs of
    /// registration, class and pools, as sha256: and 64 hexadecimal digits.
    #[schemars(length(max = 71))]
    #[x_kube(validation = rules::sha256("approval.specDigest must be sha256: and 64 lower-case hexadecimal digits: use kubectl daylight approve"))]
    pub spec_digest: Option<String>,

    /// The version of the rules by which specDigest was computed.
    #[serde(default = "Approval::default_digest_version")]
    #[schemars(range(min = 1, max = 1000))]
    pub digest_version: u32,

    /// The metadata.generation that was approved.
    #[schemars(range(min = 1))]
    pub generation: Option<i64>,

    /// Why, for people. Required unless Approved.
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// The authority's own detached Ed25519 signature, in base64: of specDigest, and of which
    /// registration that is. `kubectl daylight approve --print-message` prints what is signed.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::matches("^[A-Za-z0-9+/]+={0,2}$", "approval.signature must be base64"))]
    pub signature: Option<String>,
}

impl Approval {
    fn default_digest_version() -> u32 {
        1
    }
}

/// What was decided.
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
    /// It may not.
    Rejected,
    /// It may not for now.
    Suspended,
    /// It may never again.
    Revoked,
}

/// The state that follows from approval, spec and time.
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
pub enum RegistrationState {
    /// Nobody has decided yet.
    Pending,
    /// Approved, but validFrom lies ahead.
    Scheduled,
    /// It counts.
    Active,
    /// Spec, class or pools changed after the approval, which is void.
    Changed,
    /// Approved without the authority's signature, which the installation requires.
    SignatureMissing,
    /// Approved with a signature that is not the authority's for it.
    SignatureInvalid,
    /// validUntil has passed.
    Expired,
    /// The authority said no.
    Rejected,
    /// The authority said not now.
    Suspended,
    /// The authority said never again.
    Revoked,
    /// It names what does not exist or does not fit, for instance an unknown class.
    Invalid,
}

/// What the meter has counted in the current energy period.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Up to when the meter has counted.
    pub metered_until: Time,

    /// When the period began.
    pub period_start: Time,

    /// Energy since then, in millijoules, upper bound, as a decimal string.
    pub millijoules: Millijoules,

    /// The highest mean power of one replica, in watts.
    #[schemars(range(min = 0, max = 100_000_000_000_i64))]
    pub peak_watts: Option<u64>,
}

/// What pods hold under a registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Held {
    /// GPUs.
    pub gpus: u32,
    /// Power reckoned for them, in watts.
    pub watts: u64,
}
