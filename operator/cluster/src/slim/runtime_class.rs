//! Objects of the kind `RuntimeClass`.

use daylight_base::Name;
use serde::{Deserialize, Deserializer};

use crate::amounts::Amounts;
use crate::pod_requests::Requests;
use crate::selector::NodeFilter;
use crate::slim::meta::{Meta, Pairs};
use crate::slim::spec::RawToleration;
use crate::store::stored;
use crate::taints::Toleration;

/// A `RuntimeClass`, reduced to what the API server adds to its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeClass {
    pub name: Name,
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    /// Added to the requests of each pod.
    pub overhead: Requests,
    /// Added to each pod's `nodeSelector`.
    pub nodes: NodeFilter,
    /// Added to each pod's tolerations.
    pub tolerations: Vec<Toleration>,
}

stored!(RuntimeClass, name);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    overhead: Option<Overhead>,
    #[serde(borrow)]
    scheduling: Option<Scheduling<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Scheduling<'a> {
    #[serde(borrow)]
    node_selector: Pairs<'a>,
    #[serde(borrow)]
    tolerations: Vec<RawToleration<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Overhead {
    pod_fixed: Amounts,
}

impl<'de> Deserialize<'de> for RuntimeClass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Raw { metadata, overhead, scheduling } = Raw::deserialize(deserializer)?;
        let scheduling = scheduling.unwrap_or_default();
        Ok(Self {
            name: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            overhead: Requests::from(&overhead.unwrap_or_default().pod_fixed),
            nodes: NodeFilter { labels: scheduling.node_selector.names(), terms: None },
            tolerations: scheduling.tolerations.iter().filter_map(RawToleration::read).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::RuntimeClass;

    /// A class with this value in a field.
    fn class(field: &str, value: serde_json::Value) -> RuntimeClass {
        let mut class = json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": "nvidia"}, "handler": "nvidia",
        });
        class[field] = value;
        serde_json::from_str(&class.to_string()).unwrap()
    }

    #[test]
    fn the_overhead_is_read_if_there_is_one() {
        let of = |overhead: serde_json::Value| {
            let class = class("overhead", overhead);
            (class.overhead.cpu_milli, class.overhead.memory)
        };
        assert_eq!(of(json!({"podFixed": {"cpu": "50m", "memory": "128Mi"}})), (50, 128 << 20));
        assert_eq!(of(json!({})), (0, 0));
        assert_eq!(of(json!(null)), (0, 0));
    }

    #[test]
    fn nodes_and_tolerations_are_read_if_there_are_some() {
        let of = |scheduling: serde_json::Value| {
            let class = class("scheduling", scheduling);
            (class.nodes.labels, class.tolerations.len())
        };
        let both = json!({
            "nodeSelector": {"runtime": "nvidia"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}, {"operator": "unknown"}],
        });
        assert_eq!(of(both), (vec![("runtime".into(), "nvidia".into())], 1));
        assert_eq!(of(json!({"nodeSelector": null})), (vec![], 0));
        assert_eq!(of(json!(null)), (vec![], 0));
    }
}
