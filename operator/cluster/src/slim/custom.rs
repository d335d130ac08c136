//! Objects of Daylight's own kinds, including those that cannot be read.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::names::key;
use crate::slim::meta::Meta;
use crate::store::Stored;
use crate::timestamp;

/// An object of one of Daylight's kinds.
///
/// The schema rejects malformed objects, but an object can be older than the schema. One that does
/// not fit its type is kept with the error, and does not affect the others.
#[derive(Clone, Debug)]
pub struct Custom<K> {
    /// `namespace/name`, or the name of a cluster-scoped object.
    pub key: Name,
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    pub generation: i64,
    pub created: Timestamp,
    pub deleting: bool,
    /// The object, or one sentence for the user if it cannot be read.
    pub object: Result<Arc<K>, Arc<str>>,
}

impl<K> Stored for Custom<K> {
    fn key(&self) -> &Name {
        &self.key
    }

    fn uid(&self) -> &str {
        &self.uid
    }

    fn version(&self) -> u64 {
        self.version
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Custom<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(borrow)]
            metadata: Meta<'a>,
        }

        let mut value = Value::deserialize(deserializer)?;
        // `managedFields` is not used here, and is often half of the object.
        if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
            metadata.remove("managedFields");
        }
        let Raw { metadata } = Raw::deserialize(&value).map_err(D::Error::custom)?;
        // Deserialized through a reference to the value, so that the error names the field.
        let object = match K::deserialize(&value) {
            Ok(object) => Ok(Arc::new(object)),
            Err(error) => Err(Arc::from(format!(
                "The object cannot be read ({error}); correct it or delete it."
            ))),
        };
        Ok(Self {
            key: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            generation: metadata.generation,
            created: metadata.created(),
            deleting: metadata.deletion_timestamp.is_some(),
            object,
        })
    }
}

impl<K: Resource> From<K> for Custom<K> {
    fn from(object: K) -> Self {
        let meta = object.meta();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            key: key(&text(&meta.namespace), &text(&meta.name)).into(),
            uid: text(&meta.uid).into(),
            version: text(&meta.resource_version).parse().unwrap_or(0),
            generation: meta.generation.unwrap_or(0),
            created: meta.creation_timestamp.as_ref().map(timestamp).unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            object: Ok(Arc::new(object)),
        }
    }
}

impl<K> Custom<K> {
    /// Returns the object, if it can be read.
    pub fn get(&self) -> Option<&Arc<K>> {
        self.object.as_ref().ok()
    }
}
