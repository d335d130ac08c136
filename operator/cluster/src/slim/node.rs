//! Nodes.

use std::borrow::Cow;

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Deserializer};

use crate::amounts::Amounts;
use crate::names::Names;
use crate::pod_requests::Requests;
use crate::selector::Labels;
use crate::slim::meta::{Meta, Pairs};
use crate::store::stored;
pub use crate::taints::{Effect, Taint};
use crate::well_known;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: Name,
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    pub created: Timestamp,
    pub deleting: bool,
    pub labels: Labels,
    pub taints: Box<[Taint]>,
    /// `true` if it is cordoned.
    pub unschedulable: bool,
    pub readiness: Readiness,
    /// Total of what its pods may request.
    pub allocatable: Requests,
    /// Extended resources that it has, whether or not its pods may request them now: a device
    /// plugin leaves out devices that do not work.
    pub capacity: Box<[(Name, u32)]>,
    /// `true` if an autoscaler made it and may remove it.
    pub autoscaled: bool,
    /// ID of the present boot of its machine, if the kubelet reports it.
    pub boot: Option<Name>,
}

/// The node's condition `Ready`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// `True`.
    Ready,
    /// `False`, or not set yet.
    #[default]
    NotReady,
    /// `Unknown`: the kubelet does not report.
    Unknown,
}

stored!(
    Node,
    name,
    fn share(&mut self, names: &mut Names) {
        names.share(&mut self.name);
        for (key, value) in self.labels.iter_mut() {
            names.share(key);
            // Most values repeat from node to node. A host name does not, but is short.
            names.share(value);
        }
        for taint in &mut self.taints {
            names.share(&mut taint.key);
            names.share(&mut taint.value);
        }
        for (resource, _) in self.allocatable.extended.iter_mut().chain(&mut self.capacity) {
            names.share(resource);
        }
    }
);

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
#[serde(default)]
struct Spec<'a> {
    unschedulable: bool,
    #[serde(borrow)]
    taints: Vec<RawTaint<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawTaint<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(borrow)]
    effect: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status<'a> {
    #[serde(borrow)]
    conditions: Vec<Condition<'a>>,
    allocatable: Amounts,
    capacity: Amounts,
    #[serde(borrow)]
    node_info: NodeInfo<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeInfo<'a> {
    #[serde(borrow, rename = "bootID")]
    boot_id: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Raw::deserialize(deserializer).map(Node::from)
    }
}

impl From<Raw<'_>> for Node {
    fn from(raw: Raw<'_>) -> Self {
        let Raw { metadata, spec, status } = raw;
        let ready = status.conditions.iter().find(|one| one.kind == "Ready");
        Self {
            name: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            created: metadata.created(),
            deleting: metadata.deletion_timestamp.is_some(),
            autoscaled: is_autoscaled(&metadata.labels, &metadata.annotations, &spec.taints),
            labels: Labels::new(
                metadata
                    .labels
                    .0
                    .iter()
                    .map(|(key, value)| (Name::from(&**key), Name::from(&**value)))
                    .collect(),
            ),
            taints: spec
                .taints
                .iter()
                .filter_map(|taint| {
                    Some(Taint {
                        key: (&*taint.key).into(),
                        value: (&*taint.value).into(),
                        effect: Effect::parse(&taint.effect)?,
                    })
                })
                .collect(),
            unschedulable: spec.unschedulable,
            readiness: match ready.map(|one| &*one.status) {
                Some("True") => Readiness::Ready,
                Some("Unknown") => Readiness::Unknown,
                _ => Readiness::NotReady,
            },
            allocatable: Requests::from(&status.allocatable),
            capacity: Requests::from(&status.capacity).extended,
            boot: Some(&*status.node_info.boot_id).filter(|id| !id.is_empty()).map(Name::from),
        }
    }
}

/// Returns `true` if an autoscaler made the node and may remove it, as far as the node shows it:
///
/// - the label `daylight.dev/autoscaled` decides, if it is `true` or `false`;
/// - cluster-autoscaler's annotation `scale-down-disabled: "true"` keeps the node;
/// - Karpenter (on EKS, AKS node auto-provisioning and elsewhere) labels its nodes with
///   `karpenter.sh/nodepool`, before v1 with `karpenter.sh/provisioner-name`;
/// - EKS Auto Mode sets `eks.amazonaws.com/compute-type: auto`;
/// - GKE's compute classes and Autopilot set `cloud.google.com/compute-class`;
/// - cluster-autoscaler taints a node that it is about to remove with
///   `ToBeDeletedByClusterAutoscaler` or `DeletionCandidateOfClusterAutoscaler`.
///
/// A plain node group of EKS, GKE or AKS looks the same with and without cluster-autoscaler: there
/// the label is needed.
fn is_autoscaled(labels: &Pairs<'_>, annotations: &Pairs<'_>, taints: &[RawTaint<'_>]) -> bool {
    match labels.get(well_known::AUTOSCALED) {
        Some("true") => return true,
        Some("false") => return false,
        _ => {}
    }
    if annotations.get("cluster-autoscaler.kubernetes.io/scale-down-disabled") == Some("true") {
        return false;
    }
    ["karpenter.sh/nodepool", "karpenter.sh/provisioner-name", "cloud.google.com/compute-class"]
        .iter()
        .any(|label| labels.get(label).is_some())
        || labels.get("eks.amazonaws.com/compute-type") == Some("auto")
        || taints.iter().any(|taint| {
            matches!(
                &*taint.key,
                "ToBeDeletedByClusterAutoscaler" | "DeletionCandidateOfClusterAutoscaler"
            )
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn autoscaled_nodes_are_known_by_what_autoscalers_leave_on_them() {
        for (metadata, taint, expected) in [
            (json!({}), None, false),
            (json!({"labels": {"karpenter.sh/nodepool": "gpu"}}), None, true),
            (json!({"labels": {"eks.amazonaws.com/compute-type": "auto"}}), None, true),
            (json!({"labels": {"eks.amazonaws.com/nodegroup": "gpu"}}), None, false),
            (json!({"labels": {"cloud.google.com/compute-class": "gpu"}}), None, true),
            (json!({}), Some("DeletionCandidateOfClusterAutoscaler"), true),
            (
                json!({
                    "labels": {"karpenter.sh/nodepool": "gpu"},
                    "annotations": {"cluster-autoscaler.kubernetes.io/scale-down-disabled": "true"},
                }),
                None,
                false,
            ),
            (
                json!({"labels": {"karpenter.sh/nodepool": "gpu", "daylight.dev/autoscaled": "false"}}),
                None,
                false,
            ),
            (json!({"labels": {"daylight.dev/autoscaled": "true"}}), None, true),
        ] {
            let taints: Vec<_> =
                taint.map(|key| json!({"key": key, "effect": "NoSchedule"})).into_iter().collect();
            let node: Node =
                serde_json::from_value(json!({"metadata": metadata, "spec": {"taints": taints}}))
                    .unwrap();
            assert_eq!(node.autoscaled, expected, "{metadata}");
        }
    }

    #[test]
    fn reads_what_the_planner_needs() {
        let node: Node = serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": "n1", "uid": "u", "resourceVersion": "17",
                "creationTimestamp": "2026-11-24T05:00:00Z",
                "managedFields": [{"manager": "kubelet"}],
            },
            "spec": {"unschedulable": true, "taints": [
                {"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "Strange"},
            ]},
            "status": {
                "allocatable": {"cpu": "95500m", "memory": "1056Gi", "pods": "110", "nvidia.com/gpu": "8"},
                "conditions": [{"type": "Ready", "status": "Unknown"}],
            },
        }))
        .unwrap();
        assert_eq!(node.version, 17);
        assert!(node.unschedulable);
        assert_eq!(node.readiness, Readiness::Unknown);
        assert_eq!(node.taints.len(), 1);
        assert_eq!(node.allocatable.cpu_milli, 95_500);
        assert_eq!(node.allocatable.pods, 110);
        assert_eq!(node.allocatable.of("nvidia.com/gpu"), 8);
    }
}
