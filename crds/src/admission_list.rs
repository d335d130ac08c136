//! `AdmissionList`: what the admission policies must know about registrations or classes.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A list that admission policies read as their parameter. It is a kind of its own because the API server
/// reads parameters of its built-in kinds only until their last policy binding is deleted, and from then
/// on decides by what it read last (kubernetes/kubernetes#133827). Lists of this kind are read again after
/// the policies are uninstalled and installed.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "daylight.dev",
    version = "v1alpha1",
    kind = "AdmissionList",
    doc = "What the admission policies must know about registrations or classes. Only Daylight's controller may write it.",
    plural = "admissionlists",
    category = "daylight-internal",
    namespaced,
    derive = "PartialEq",
    cel,
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionListSpec {
    /// The entries by their keys: NAMESPACE.NAME of a registration, or the name of a class.
    #[serde(default)]
    #[schemars(extend(
        "maxProperties" = 32_768,
        "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 65_536})
    ))]
    pub entries: BTreeMap<String, String>,
}
