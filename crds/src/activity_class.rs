//! `ActivityClass`: an entry of the positive list.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};

use crate::{rules, schema};

/// The category of the work, how it gets GPUs, and what it must report.
#[skip_serializing_none]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "daylight.dev",
    version = "v1alpha1",
    kind = "ActivityClass",
    doc = "An entry of the positive list: a kind of work, and the rules for it.",
    plural = "activityclasses",
    shortname = "actclass",
    shortname = "ac",
    category = "daylight",
    status = "ActivityClassStatus",
    derive = "PartialEq",
    cel,
    validation = rules::name_fits_label(),
    validation = rules::name_is_not_reserved(),
    printcolumn(name = "Category", type_ = "string", json_path = ".spec.category", description = "Category of the work"),
    printcolumn(name = "Assignment", type_ = "string", json_path = ".spec.assignment", description = "How the work gets GPUs"),
    printcolumn(name = "Registration", type_ = "string", json_path = ".spec.registration", description = "Whether the work must be registered"),
    printcolumn(name = "Rank", type_ = "integer", json_path = ".spec.rank", description = "Order among the classes that fill idle GPUs, higher first"),
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".status.gpus", description = "GPUs that pods of the class hold"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Registrations", type_ = "integer", json_path = ".status.registrations", priority = 1, description = "Registrations that name the class"),
    printcolumn(name = "Description", type_ = "string", json_path = ".spec.description", priority = 1, description = "Description of the work")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.category == 'Prohibited') == (self.assignment == 'None')")
        .message("assignment must be None for category Prohibited, and Guaranteed or IdleOnly for every other category: change assignment")
        .field_path(".assignment"),
    validation = Rule::new("!(self.category in ['Declared', 'FinancialRegulated']) || self.registration == 'Required'")
        .message("registration must be Required for the categories Declared and FinancialRegulated: set registration: Required")
        .field_path(".registration"),
    validation = Rule::new("self.category != 'Prohibited' || self.registration == 'NotRequired'")
        .message("registration must be NotRequired for category Prohibited, since prohibited work cannot be registered: remove registration")
        .field_path(".registration"),
    validation = Rule::new("self.rank == 0 || self.assignment == 'IdleOnly'")
        .message("rank orders the fillers of idle GPUs: remove rank, or set assignment: IdleOnly")
        .field_path(".rank"),
)]
pub struct ActivityClassSpec {
    /// The category of the work: `DataIndustry`, `FinancialRegulated`, Declared (lawful if it is
    /// registered and declared) or Prohibited. Immutable.
    #[x_kube(validation = rules::immutable("category is immutable, since past work was booked under it: create another class"))]
    pub category: ActivityCategory,

    /// How the work gets GPUs. Guaranteed: like any pod. `IdleOnly`: idle GPUs only, through a
    /// Miner. None: not at all. Immutable.
    #[x_kube(validation = rules::immutable("assignment is immutable, since past work was booked under it: create another class"))]
    pub assignment: Assignment,

    /// Whether pods of the class must name an approved Registration: Required or `NotRequired`.
    #[serde(default)]
    pub registration: RegistrationRule,

    /// Order among the classes that fill idle GPUs. A class of higher rank is served before every
    /// class of lower rank; within a rank, miners share by weight. From 0 to 1000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub rank: u32,

    /// Images that pods of the class may run; an empty list allows every image. A pattern must
    /// match the whole image name as the pod states it. `*` matches any number of characters,
    /// '/' and ':' included; every other character matches itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = rules::all_match("^[A-Za-z0-9._/:@*-]+$", "allowedImages must be image names with '*' as the only wildcard, such as registry.example.com/miners/*"))]
    #[x_kube(validation = Rule::new("self.all(p, p == '*' || p.matches('^[^*]*(/.*)?$'))")
        .message("allowedImages must have a '/' before the first '*', because registry.example.com* would allow registry.example.com.attacker.net: write registry.example.com/*"))]
    pub allowed_images: Vec<String>,

    /// Algorithms that miners of the class may run, in lower case; an empty list allows every
    /// algorithm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = rules::algorithms("algorithms"))]
    pub algorithms: Vec<String>,

    /// Items that a declaration of the class must contain: `GpuTime`, Energy, `PeakPower`,
    /// `OperatingHours`, Hashrate, Shares or `AssetAmount`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub reporting: Vec<ReportItem>,

    /// The columns of a declaration in which the work is counted: Compute, Finance or Mining.
    /// Work that computes and mines at the same time is counted in several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub report_columns: Vec<ReportColumn>,

    /// A description of the work, to be read by people.
    #[schemars(length(min = 1, max = 1024))]
    pub description: Option<String>,
}

/// The legal category of a kind of work.
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
pub enum ActivityCategory {
    /// Such as AI training.
    DataIndustry,
    /// Such as validating a blockchain.
    FinancialRegulated,
    /// Lawful if it is registered and declared, such as mining.
    Declared,
    /// Not allowed.
    Prohibited,
}

/// The way in which a kind of work gets GPUs.
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
pub enum Assignment {
    /// Like any pod.
    Guaranteed,
    /// Idle GPUs only.
    IdleOnly,
    /// Not at all.
    None,
}

/// The registration that pods of a class need.
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
pub enum RegistrationRule {
    /// Pods must name an approved Registration.
    Required,
    /// Pods need no Registration.
    #[default]
    NotRequired,
}

/// An item that declarations must contain.
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
pub enum ReportItem {
    /// GPU-time assigned.
    GpuTime,
    /// Energy by method, with error bounds.
    Energy,
    /// Maximum power.
    PeakPower,
    /// Hours in operation.
    OperatingHours,
    /// Mean hashrate.
    Hashrate,
    /// Shares accepted and rejected.
    Shares,
    /// Amount of the asset earned.
    AssetAmount,
}

/// A column of a declaration.
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
pub enum ReportColumn {
    /// Computing for others.
    Compute,
    /// Work under financial regulation.
    Finance,
    /// Mining of all kinds.
    Mining,
}

/// The use of a class.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivityClassStatus {
    /// The metadata.generation that this status was computed from.
    pub observed_generation: Option<i64>,

    /// Ready: the class is valid, or what to correct.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Registrations that name the class.
    pub registrations: Option<u32>,

    /// Registrations that name the class and are Active.
    pub active_registrations: Option<u32>,

    /// GPUs that pods of the class hold.
    pub gpus: Option<u32>,
}
