//! Registrations, classes and pools, as the journal records them.

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr, VariantArray};

/// A kind of objects that are registered.
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
    /// An entry of the positive list.
    ActivityClass,
    /// A set of nodes.
    GpuPool,
    Registration,
}

/// An object as it was seen.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectSeen {
    pub object: ObjectKind,
    /// Its name; `namespace/name` of a registration.
    pub name: Name,
    pub uid: Name,
    /// Its `metadata.generation`, which every edit of its spec moves by one.
    #[serde(with = "crate::amount::decimal")]
    pub generation: u64,
    /// SHA-256 of its spec.
    pub digest: Name,
    /// What was decided about it, of a registration.
    pub decision: Option<Decision>,
    /// Whether it is in force, or why not, as the auditor itself finds; of a registration.
    pub standing: Option<Name>,
}

/// A decision about a registration, as it stands in its status.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// `Approved`, `Rejected`, `Suspended` or `Revoked`.
    pub state: Name,
    pub by: Name,
    /// When, as they say.
    pub at: Timestamp,
    /// About what, by its digest.
    pub digest: Option<Name>,
    pub signature: Option<Name>,
}

/// A change of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectEntry {
    /// How it was seen.
    #[serde(flatten)]
    pub seen: ObjectSeen,
    /// When it was seen so first.
    pub at: Timestamp,
    /// Edits since it was last seen, or since it was created, that nobody saw.
    #[serde(
        default,
        with = "crate::amount::decimal",
        skip_serializing_if = "crate::amount::is_zero"
    )]
    pub unseen: u64,
    /// Whether it is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}
