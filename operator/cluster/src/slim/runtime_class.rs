//! Objects of the kind `RuntimeClass`.

use daylight_base::Name;
use serde::{Deserialize, Deserializer};

use crate::amounts::Amounts;
use crate::pod_requests::Requests;
use crate::slim::meta::Meta;
use crate::store::stored;

/// A `RuntimeClass`, reduced to what it adds to pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeClass {
    pub name: Name,
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    /// What the API server adds to the requests of each pod.
    pub overhead: Requests,
}

stored!(RuntimeClass, name);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    overhead: Option<Overhead>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Overhead {
    pod_fixed: Amounts,
}

impl<'de> Deserialize<'de> for RuntimeClass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Raw { metadata, overhead } = Raw::deserialize(deserializer)?;
        Ok(Self {
            name: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            overhead: Requests::from(&overhead.unwrap_or_default().pod_fixed),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::RuntimeClass;

    #[test]
    fn the_overhead_is_read_if_there_is_one() {
        let of = |overhead: serde_json::Value| {
            let class = json!({
                "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
                "metadata": {"name": "nvidia"}, "handler": "nvidia", "overhead": overhead,
            });
            let class: RuntimeClass = serde_json::from_str(&class.to_string()).unwrap();
            (class.overhead.cpu_milli, class.overhead.memory)
        };
        assert_eq!(of(json!({"podFixed": {"cpu": "50m", "memory": "128Mi"}})), (50, 128 << 20));
        assert_eq!(of(json!({})), (0, 0));
        assert_eq!(of(json!(null)), (0, 0));
    }
}
