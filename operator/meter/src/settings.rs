//! Settings of a site that decide, apart from its objects, as the journal records them.

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// Settings as observed.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedSettings {
    /// Rule for the authority's signature on approvals.
    pub signature: SignatureRule,
    /// The authority's keys, each as 32 bytes in base64, sorted.
    pub authority_keys: Vec<Name>,
    /// Emergency stop that is in force.
    pub emergency_stop: Option<StopInForce>,
    /// Mode of the admission policies, as they were installed with the auditor.
    pub admission_mode: Option<Name>,
    /// Public keys that sign the ledger: the old and the new one while a key is replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ledger_keys: Vec<Name>,
}

/// Rule for the authority's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignatureRule {
    /// No approval counts without it.
    Required,
    Optional,
}

/// Emergency stop of all mining.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopInForce {
    /// The user who set it, according to its object.
    pub by: Name,
}

/// Change of settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsEntry {
    #[serde(flatten)]
    pub seen: ObservedSettings,
    /// Time of the first observation of the change.
    pub at: Timestamp,
}
