//! Registrations, classes, pools and what admission decides by, as the journal records them.

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};

/// Kind of an object in the register.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    IntoStaticStr,
    VariantArray,
)]
#[strum(const_into_str)]
pub enum ObjectKind {
    ActivityClass,
    Declaration,
    GpuPool,
    Registration,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
}

/// Object as observed.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedObject {
    pub object: ObjectKind,
    /// `namespace/name` for a registration or a declaration.
    pub name: Name,
    pub uid: Name,
    /// `metadata.generation`: each edit of the spec adds one.
    #[serde(with = "crate::amount::decimal")]
    pub generation: u64,
    /// SHA-256 of the spec; for a registration, of its class and pools as well; for a declaration, of what
    /// was filed.
    pub digest: Name,
    /// For a registration: the decision in its status. For a declaration: its filing.
    pub decision: Option<Decision>,
    /// For a registration: its state, as verified by the auditor.
    pub standing: Option<Name>,
    /// For a declaration: what it declares. Not in entries of earlier versions.
    pub declares: Option<DeclaredPeriod>,
}

/// Registration and period of a declaration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredPeriod {
    /// `namespace/name` of the registration.
    pub registration: Name,
    /// Such as `2026-11`, `2026-Q4` or `2026`.
    pub period: Name,
    /// 0 for the first declaration of the period, then the number of the correction.
    #[serde(default, skip_serializing_if = "crate::amount::is_zero")]
    pub correction: u32,
}

/// Decision about a registration, or filing of a declaration, from its status.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// `Approved`, `Rejected`, `Suspended`, `Revoked` or `Filed`.
    pub state: Name,
    pub by: Name,
    /// Time of the decision, according to `by`.
    pub at: Timestamp,
    /// Digest of what was decided about.
    pub digest: Option<Name>,
    pub signature: Option<Name>,
    /// The authority's reference, of a filing.
    pub reference: Option<Name>,
}

/// Change of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectEntry {
    #[serde(flatten)]
    pub seen: ObservedObject,
    /// Time of the first observation of the change.
    pub at: Timestamp,
    /// Number of edits in between that were not observed.
    #[serde(
        default,
        with = "crate::amount::decimal",
        skip_serializing_if = "crate::amount::is_zero"
    )]
    pub unseen: u64,
    /// True if it was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}
