//! Pods of exporters, from which the auditor scrapes power.

use std::borrow::Cow;
use std::net::IpAddr;

use daylight_base::Name;
use serde::{Deserialize, Deserializer};

use crate::slim::meta::Meta;
use crate::store::stored;

/// A pod in the namespace of an exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExporterPod {
    /// `namespace/name`.
    pub key: Name,
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    /// Name of the `DaemonSet` that controls it.
    pub daemon_set: Option<Box<str>>,
    /// The node it is bound to.
    pub node: Option<Name>,
    pub ip: Option<IpAddr>,
    /// `true` if it runs and is not being deleted.
    pub runs: bool,
}

stored!(ExporterPod, key);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    spec: Spec<'a>,
    #[serde(borrow)]
    status: Status<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec<'a> {
    #[serde(borrow)]
    node_name: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status<'a> {
    #[serde(borrow)]
    phase: Cow<'a, str>,
    #[serde(borrow, rename = "podIP")]
    pod_ip: Cow<'a, str>,
}

impl<'de> Deserialize<'de> for ExporterPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Raw { metadata, spec, status } = Raw::deserialize(deserializer)?;
        let owner = metadata.controller();
        Ok(Self {
            key: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            daemon_set: owner
                .filter(|owner| owner.kind == "DaemonSet" && owner.api_version == "apps/v1")
                .map(|owner| (&*owner.name).into()),
            node: (!spec.node_name.is_empty()).then(|| (&*spec.node_name).into()),
            ip: status.pod_ip.parse().ok(),
            runs: status.phase == "Running" && metadata.deletion_timestamp.is_none(),
        })
    }
}
