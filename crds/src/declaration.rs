//! `Declaration`: what a registration did in one period, for the authority.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};

use crate::{Millijoules, rules, schema};

/// The period of a registration that is declared. The auditor writes it and the figures in the status,
/// which anyone can compute again from the ledger.
#[skip_serializing_none]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "daylight.dev",
    version = "v1alpha1",
    kind = "Declaration",
    doc = "What a registration did in one period, with figures from the ledger. Daylight's auditor writes it; kubectl daylight file records that it was filed with the authority.",
    plural = "declarations",
    shortname = "decl",
    category = "daylight",
    namespaced,
    status = "DeclarationStatus",
    derive = "PartialEq",
    cel,
    selectable = ".spec.registration",
    validation = Rule::new("self.spec == oldSelf.spec").message("spec is immutable, since figures were declared for it: leave it to the auditor, which writes another Declaration").field_path(".spec"),
    validation = Rule::new("!has(self.status) || !has(self.status.filing) || !has(self.spec.submittedBy) || self.status.filing.by != self.spec.submittedBy").message(
        "filing.by must differ from spec.submittedBy: have another user file"
    ).field_path(".status.filing.by"),
    printcolumn(name = "Registration", type_ = "string", json_path = ".spec.registration", description = "Registration of the work"),
    printcolumn(name = "Period", type_ = "string", json_path = ".spec.period", description = "Calendar period in the time zone of the site"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "Draft, Ready, Filed or Superseded"),
    printcolumn(name = "GPU time", type_ = "string", json_path = ".status.gpuTime", description = "Time of all GPUs"),
    printcolumn(name = "Energy", type_ = "string", json_path = ".status.energy", description = "Energy, with its bounds"),
    printcolumn(name = "Due", type_ = "string", json_path = ".spec.dueAt", description = "Time by which it is due"),
    printcolumn(name = "Filed by", type_ = "string", json_path = ".status.filing.by", priority = 1, description = "User who filed it"),
    printcolumn(name = "Reference", type_ = "string", json_path = ".status.filing.reference", priority = 1, description = "The authority's reference"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1, description = "Explanation of the state"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.end > self.start").message("end must be later than start: correct one of them").field_path(".end"))]
pub struct DeclarationSpec {
    /// The Registration in this namespace.
    #[schemars(length(min = 1, max = 63))]
    pub registration: String,

    /// The calendar period: a month (2026-11), a quarter (2026-Q4) or a year (2026).
    #[schemars(length(min = 4, max = 7))]
    #[x_kube(validation = rules::matches("^[0-9]{4}(-(0[1-9]|1[0-2]|Q[1-4]))?$", "period must be a month such as 2026-11, a quarter such as 2026-Q4, or a year such as 2026"))]
    pub period: String,

    /// Start of the period.
    pub start: Time,

    /// End of the period, which does not belong to it.
    pub end: Time,

    /// The time zone of the site, by whose calendar the period is.
    #[schemars(length(min = 1, max = 63))]
    pub time_zone: String,

    /// Version of the time zone database by which start and end were computed.
    #[schemars(length(min = 1, max = 16))]
    pub tzdata: String,

    /// 0, or the number of this correction of the declaration of the same period.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub correction: u32,

    /// Time by which it is due.
    pub due_at: Time,

    /// The user who submitted the registration, who may not file its declarations.
    #[schemars(length(min = 1, max = 512))]
    pub submitted_by: Option<String>,
}

/// Figures of a declaration, and its filing.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.filing) || (has(self.filing) && self.filing == oldSelf.filing)")
        .message("filing is final: what was filed is corrected by the next Declaration of the period")
        .field_path(".filing"),
    validation = Rule::new("!has(oldSelf.filing) || (has(self.totals) == has(oldSelf.totals) && (!has(self.totals) || self.totals == oldSelf.totals) && has(self.ledger) == has(oldSelf.ledger) && (!has(self.ledger) || self.ledger == oldSelf.ledger))")
        .message("totals and ledger are final once they are filed: they are corrected by the next Declaration of the period")
        .field_path(".totals"),
    validation = Rule::new("!has(self.filing) || (has(self.ledger) && self.ledger.rootHash == self.filing.rootHash)")
        .message("filing.rootHash must be ledger.rootHash, which identifies the figures: read them again, then use kubectl daylight file")
        .field_path(".filing.rootHash"),
)]
pub struct DeclarationStatus {
    /// Ready: the figures are final. Overdue: it is not filed, and the due day is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Draft: the period or its reports are not complete. Ready: every node has reported up to the
    /// end. Filed: a user filed it. Superseded: a correction replaces it.
    pub state: Option<DeclarationState>,

    /// Why the declaration is in that state, as one sentence.
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// The figures.
    pub totals: Option<DeclaredTotals>,

    /// The part of the ledger from which the figures follow.
    pub ledger: Option<LedgerRange>,

    /// The filing with the authority. Writing it takes the verb file on declarations.
    pub filing: Option<DeclarationFiling>,

    /// The Declaration that corrects this one.
    #[schemars(length(min = 1, max = 253))]
    pub corrected_by: Option<String>,

    /// Time of all GPUs, to be read by people, such as 1234.5 GPU-hours.
    #[schemars(length(max = 64))]
    pub gpu_time: Option<String>,

    /// Energy with its bounds, to be read by people, such as 12.3 kWh (12.1 to 12.9).
    #[schemars(length(max = 128))]
    pub energy: Option<String>,
}

/// State of a declaration.
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
pub enum DeclarationState {
    /// The period is not over, or a node has not reported up to its end.
    #[default]
    Draft,
    /// The figures are final, and not filed.
    Ready,
    /// A user filed it.
    Filed,
    /// It was filed, and a correction replaces it.
    Superseded,
}

/// Figures of one registration in one period.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredTotals {
    /// Time of all GPUs together, in milliseconds.
    pub gpu_milliseconds: DeclaredTime,

    /// Operating time of all pods together, in milliseconds.
    pub pod_milliseconds: DeclaredTime,

    /// Energy by the method by which it is known, in millijoules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub energy: Vec<DeclaredEnergy>,

    /// Highest mean power of one replica.
    pub peak: Option<DeclaredPeak>,

    /// What limits in kWh counted, which is the upper bound of the energy by the time at which it may
    /// have been drawn; the figures above are by the reading in which it was found.
    pub limit_millijoules: Millijoules,

    /// Leases that ended.
    #[schemars(range(min = 0))]
    pub ended_leases: i64,

    /// Hashes that miners computed, in the leases that ended, as a whole number; absent if no miner
    /// reported any.
    #[schemars(length(max = 40))]
    pub hashes: Option<String>,

    /// Shares that mining pools accepted, in the leases that ended.
    #[schemars(range(min = 0))]
    pub shares_accepted: Option<i64>,

    /// Seen: Daylight's agent counted hashes and shares between engine and pool. Claimed: the miner
    /// reported them.
    pub work_is: Option<WorkSource>,

    /// Gaps in the readings and observations of the nodes.
    #[schemars(range(min = 0))]
    pub gaps: i64,
}

/// A time with its bounds, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeclaredTime {
    /// The time.
    #[schemars(range(min = 0))]
    pub value: i64,
    /// By how much it may be less.
    #[schemars(range(min = 0))]
    pub below: i64,
    /// By how much it may be more.
    #[schemars(range(min = 0))]
    pub above: i64,
}

/// An energy with its bounds, in millijoules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeclaredAmount {
    /// The energy.
    pub value: Millijoules,
    /// By how much it may be less.
    pub below: Millijoules,
    /// By how much it may be more.
    pub above: Millijoules,
}

/// Energy that is known by one method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeclaredEnergy {
    /// The method, such as counter, power or declared.
    #[schemars(length(min = 1, max = 32))]
    pub method: String,
    /// The energy, in millijoules.
    #[serde(flatten)]
    pub amount: DeclaredAmount,
}

/// Highest mean power of one replica, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeclaredPeak {
    /// In watts.
    #[schemars(range(min = 0, max = 100_000_000_000_i64))]
    pub watts: u64,
    /// Start of the time in which it was measured.
    pub from: Time,
    /// End of that time.
    pub until: Time,
}

/// Who counted hashes and shares.
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
pub enum WorkSource {
    /// Daylight's agent, between engine and pool.
    Seen,
    /// The miner.
    Claimed,
    /// Some of each.
    Mixed,
}

/// Part of a ledger from which figures follow.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerRange {
    /// The ledger's name.
    #[schemars(length(min = 1, max = 253))]
    pub origin: String,
    /// Index of the first entry that counts.
    #[schemars(range(min = 0))]
    pub first: Option<i64>,
    /// Index of the last entry that counts.
    #[schemars(range(min = 0))]
    pub last: Option<i64>,
    /// Number of the entries that the root hash is about.
    #[schemars(range(min = 0))]
    pub size: i64,
    /// Root hash of these entries, in base64.
    #[schemars(length(min = 1, max = 64))]
    pub root_hash: String,
}

/// The filing of a declaration with an authority.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeclarationFiling {
    /// The user who filed it. It must be the user who sends the request, and differ from
    /// spec.submittedBy.
    #[schemars(length(min = 1, max = 512))]
    pub by: String,
    /// The time of the filing.
    pub at: Time,
    /// The authority's reference.
    #[schemars(length(min = 1, max = 128))]
    pub reference: String,
    /// The ledger.rootHash of what was filed.
    #[schemars(length(min = 1, max = 64))]
    pub root_hash: String,
}
