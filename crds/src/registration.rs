//! `Registration`: who may do which declared work, where, until when, and within which limits.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};

use crate::{EnergyLimit, RegistrationStatus, rules};

/// The registered work. An edit of it, of its class or of its pools voids the approval until the
/// approved content is there again.
#[skip_serializing_none]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "daylight.dev",
    version = "v1alpha1",
    kind = "Registration",
    doc = "Who may do which declared work, where, until when, and within which limits. It takes effect once status.approval approves it; an edit of the spec voids the approval until the approved content is there again.",
    plural = "registrations",
    shortname = "reg",
    category = "daylight",
    namespaced,
    status = "RegistrationStatus",
    derive = "PartialEq",
    cel,
    selectable = ".spec.activityClass",
    validation = rules::name_fits_label(),
    validation = rules::name_is_not_reserved(),
    validation = Rule::new("!has(self.status) || !has(self.status.approval) || self.status.approval.state != 'Approved' || self.status.approval.by != self.spec.submittedBy").message(
        "approval.by must differ from spec.submittedBy: have another user approve, or edit"
    ).field_path(".status.approval.by"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.activityClass", description = "Activity class"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "State; only Active permits work"),
    printcolumn(name = "Limits used", type_ = "string", json_path = ".status.limitsUsed", description = "Use of the limits"),
    printcolumn(name = "Days left", type_ = "integer", json_path = ".status.daysLeft", description = "Whole days until the end of validity"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Operator", type_ = "string", json_path = ".spec.operator.name", priority = 1, description = "Operator of the work"),
    printcolumn(name = "Approved by", type_ = "string", json_path = ".status.approval.by", priority = 1, description = "User who made the last decision"),
    printcolumn(name = "Valid until", type_ = "string", json_path = ".spec.validUntil", priority = 1, description = "End of validity"),
    printcolumn(name = "Site", type_ = "string", json_path = ".spec.site", priority = 1, description = "Site of the work"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1, description = "Explanation of the state")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.validUntil > self.validFrom")
        .message("validUntil must be later than validFrom: correct one of them")
        .field_path(".validUntil"),
    validation = Rule::new("!has(self.ownerLimits) || has(self.operator.ownerPseudonym)")
        .message("ownerLimits needs operator.ownerPseudonym, which identifies the owner's registrations: set it, or remove ownerLimits")
        .field_path(".ownerLimits"),
    validation = Rule::new("!has(self.ownerLimits) || !has(self.ownerLimits.energy) || !has(self.limits.energy) || self.ownerLimits.energy.period == self.limits.energy.period")
        .message("limits.energy.period and ownerLimits.energy.period must be equal, since use is counted over one period: change one of them")
        .field_path(".ownerLimits.energy.period"),
    validation = Rule::new("!has(self.limits.gpus) || (has(self.pools) && size(self.pools) > 0)")
        .message("limits.gpus needs pools, since GPUs are counted in pools: name pools, or set limits.replicas instead")
        .field_path(".limits.gpus"),
    validation = Rule::new("!has(self.limits.watts) || has(self.wattsPerReplica) || (has(self.pools) && size(self.pools) > 0)")
        .message("limits.watts needs wattsPerReplica in a registration without pools: set it to the most that one pod draws, or remove limits.watts")
        .field_path(".limits.watts"),
    validation = Rule::new("!has(self.ownerLimits) || !has(self.ownerLimits.replicas)")
        .message("ownerLimits.replicas does not exist, since pods are counted by registration: remove it, and set limits.replicas")
        .field_path(".ownerLimits.replicas"),
)]
pub struct RegistrationSpec {
    /// The operator of the work.
    pub operator: Operator,

    /// The registration in this namespace that this one renews. From validFrom on, miners that
    /// name the old one work under this one, each pod from its next start. Class, site and owner
    /// must be the same. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::immutable("renews is immutable, since past work was booked by it: create another Registration"))]
    pub renews: Option<String>,

    /// The filing with the authority; absent until the registration is filed.
    pub filing: Option<Filing>,

    /// The name of the user who wrote this spec. Another user must approve it. A user who edits the
    /// spec of another user enters their own name, once the last edit is approved or rejected.
    #[schemars(length(min = 1, max = 512))]
    pub submitted_by: String,

    /// The `ActivityClass` of the work. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::immutable("activityClass is immutable, since past work was booked under it: create another Registration"))]
    pub activity_class: String,

    /// The site of the work, which is the site of all its pools. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::immutable("site is immutable, since past work was booked under it: create another Registration"))]
    pub site: String,

    /// The `GpuPools` in which the work may run. Work that requests no GPU names none; miners need
    /// one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub pools: Vec<String>,

    /// Start of validity.
    pub valid_from: Time,

    /// End of validity. From then on the registration permits no work.
    pub valid_until: Time,

    /// Limits on all work under this registration together.
    pub limits: Limits,

    /// Limits on all registrations of the same owner (operator.ownerPseudonym) together. If they
    /// state different limits, the lowest applies.
    pub owner_limits: Option<Limits>,

    /// The most that one pod without GPUs draws, in watts. It is booked for such pods where no meter
    /// attributes energy to them, and counts for limits.watts. Miners declare their own watts.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub watts_per_replica: Option<u32>,

    /// What becomes of pods that still run when the registration is no longer in force. Report:
    /// status, Event, metric and alert name them. Evict: Daylight evicts them, too, unless their
    /// class has the category `DataIndustry`. Miners stop in any case.
    #[serde(default, skip_serializing_if = "OnLapse::is_report")]
    pub on_lapse: OnLapse,

    /// The asset that the work earns, and the payout address.
    pub payout: Option<Payout>,

    /// How often the work is declared, and when a declaration is due.
    #[serde(default)]
    pub reporting: Reporting,
}

/// The operator of registered work.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.ownerPseudonym) || (has(self.ownerPseudonym) && self.ownerPseudonym == oldSelf.ownerPseudonym)")
    .message("operator.ownerPseudonym is immutable once set, since owner limits are counted by it: create another Registration")
    .field_path(".ownerPseudonym"))]
pub struct Operator {
    /// The name to display. The audit trail contains only a keyed pseudonym of it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Official identifiers, as salted commitments only. A Secret holds the plain text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["scheme".into()]))]
    pub identifiers: Vec<Identifier>,

    /// The Secret in this namespace with the identifiers' plain text and salts, by scheme.
    pub identifiers_secret_ref: Option<IdentifiersSecret>,

    /// A keyed pseudonym of the owner: 64 lower-case hexadecimal digits. Registrations with the
    /// same pseudonym belong to one owner and share the owner's limits. Immutable once set.
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::matches("^[0-9a-f]{64}$", "operator.ownerPseudonym must be 64 lower-case hexadecimal digits (HMAC-SHA-256 of the owner)"))]
    pub owner_pseudonym: Option<String>,
}

/// An official identifier, as a commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identifier {
    /// The kind of identifier, for instance lei, vat or org-number.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::matches("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "identifiers.scheme must be written in lower case, such as lei, vat or org-number"))]
    pub scheme: String,

    /// SHA-256 of salt and identifier: sha256: followed by 64 hexadecimal digits.
    #[schemars(length(max = 71))]
    #[x_kube(validation = rules::sha256("identifiers.commitment must be sha256: and 64 lower-case hexadecimal digits, never the identifier itself"))]
    pub commitment: String,
}

/// A Secret with the plain text of identifiers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentifiersSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The filing of a registration with an authority.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Filing {
    /// The authority's name.
    #[schemars(length(min = 1, max = 253))]
    pub authority: String,

    /// The authority's reference number.
    #[schemars(length(min = 1, max = 128))]
    pub number: String,

    /// The https address where the filing can be looked up.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() == 'https'")
        .message("filing.link must be an https address, such as https://register.example.org/4711"))]
    pub link: Option<String>,
}

/// Limits on registered work. What is absent has no limit.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.gpus) || has(self.replicas) || has(self.watts) || has(self.energy)")
    .message("limits must set at least one of gpus, replicas, watts and energy: work without a limit cannot be checked"))]
pub struct Limits {
    /// Maximum number of GPUs at once.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub gpus: Option<u32>,

    /// Maximum number of pods at once, for pods that tenants create. More are reported and
    /// alarmed, not refused.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub replicas: Option<u32>,

    /// Maximum power at once, in watts. Power is the larger of the declared and the measured
    /// watts.
    #[schemars(range(min = 0, max = 100_000_000_000_i64))]
    pub watts: Option<u64>,

    /// Maximum energy in a calendar period. Mining stops if no meter counts it.
    pub energy: Option<EnergyLimit>,
}

/// What becomes of pods that run when their registration is no longer in force.
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
pub enum OnLapse {
    /// They are reported.
    #[default]
    Report,
    /// They are reported and evicted.
    Evict,
}

impl OnLapse {
    /// Returns `true` for the default, which is not written: approvals of registrations from before
    /// the field existed keep their digest.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_report(&self) -> bool {
        *self == Self::Report
    }
}

/// The asset that registered work earns, and the payout address.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Payout {
    /// The ticker of the asset earned, for instance KAS.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::matches("^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$", "payout.asset must be a ticker, such as KAS"))]
    pub asset: String,

    /// The algorithm, in lower case, for instance kheavyhash.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::algorithm("payout.algorithm"))]
    pub algorithm: Option<String>,

    /// SHA-256 of salt and payout address: sha256: followed by 64 hexadecimal digits.
    #[schemars(length(max = 71))]
    #[x_kube(validation = rules::sha256("payout.addressCommitment must be sha256: and 64 lower-case hexadecimal digits, never the address itself"))]
    pub address_commitment: Option<String>,

    /// The mining pools that the work may use, as host:port or scheme://host:port; an empty
    /// list allows any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = rules::endpoints("payout.poolEndpoints"))]
    pub pool_endpoints: Vec<String>,
}

/// The interval and the due day of declarations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reporting {
    /// The calendar period of a declaration, in the site's time zone: Month, Quarter or Year.
    #[serde(default)]
    pub period: ReportingPeriod,

    /// The day on which a declaration is due, in the month after its period. From 1 to 28.
    #[serde(default = "Reporting::default_due_day")]
    #[schemars(range(min = 1, max = 28))]
    pub due_day: u32,
}

impl Reporting {
    fn default_due_day() -> u32 {
        20
    }
}

impl Default for Reporting {
    fn default() -> Self {
        Self { period: ReportingPeriod::default(), due_day: Self::default_due_day() }
    }
}

/// The calendar period of a declaration.
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
pub enum ReportingPeriod {
    /// A calendar month.
    #[default]
    Month,
    /// A quarter; the first begins in January.
    Quarter,
    /// A calendar year.
    Year,
}
