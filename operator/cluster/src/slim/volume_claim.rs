//! Volume claims.

use daylight_base::Name;
use serde::{Deserialize, Deserializer};

use crate::amounts::Amounts;
use crate::slim::meta::Meta;
use crate::store::stored;

/// A `PersistentVolumeClaim`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeClaim {
    /// `namespace/name`.
    pub key: Name,
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    /// Size that it requests, in bytes.
    pub bytes: u64,
}

stored!(VolumeClaim, key);

impl<'de> Deserialize<'de> for VolumeClaim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Raw<'a> {
            #[serde(borrow)]
            metadata: Meta<'a>,
            spec: Spec,
        }

        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Spec {
            resources: Resources,
        }

        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Resources {
            requests: Amounts,
        }

        let Raw { metadata, spec } = Raw::deserialize(deserializer)?;
        let storage = spec.resources.requests.0.iter().find(|(name, _)| **name == *"storage");
        Ok(Self {
            key: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            bytes: storage.map_or(0, |(_, amount)| amount.units()),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::slim::Pod;

    #[test]
    fn the_claims_of_a_pod_are_those_of_its_volumes() {
        let claim = json!({
            "metadata": {"name": "data-0", "namespace": "store", "uid": "u", "resourceVersion": "7"},
            "spec": {"resources": {"requests": {"storage": "1.5Gi"}}},
            "status": {"capacity": {"storage": "2Gi"}},
        });
        let claim: VolumeClaim = serde_json::from_value(claim).unwrap();
        assert_eq!((&*claim.key, claim.bytes), ("store/data-0", 3 << 29));
        let pod = json!({
            "metadata": {"name": "node-0", "namespace": "store"},
            "spec": {"volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "data-0"}},
                {"ephemeral": {"volumeClaimTemplate": {"spec": {}}}, "name": "cache"},
                {"name": "c", "configMap": {"name": "persistentVolumeClaim"}},
                {"name": "d", "emptyDir": {}},
            ]},
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(*pod.claims, ["data-0", "node-0-cache"].map(Name::from));
    }
}
