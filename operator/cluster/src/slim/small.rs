//! Namespaces and `ConfigMaps`.

use std::borrow::Cow;

use daylight_base::Name;
use daylight_crds::labels;
use serde::{Deserialize, Deserializer};

use crate::slim::meta::{Meta, Pairs};
use crate::store::stored;
use crate::well_known;

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    pub name: Name,
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    /// `true` if it is being deleted: nothing can be created in it.
    pub deleting: bool,
    /// Activity class of the pods in it that do not declare one.
    pub activity: Option<Name>,
}

/// A `ConfigMap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMap {
    /// `namespace/name`.
    pub key: Name,
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    pub data: Vec<(Box<str>, Box<str>)>,
    /// Value of its label `daylight.dev/mirror`.
    pub mirror: Option<Box<str>>,
    /// `true` if it has data that is not text.
    pub has_binary_data: bool,
}

impl ConfigMap {
    /// Returns one entry of its data.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.data.iter().find(|(known, _)| **known == *key).map(|(_, value)| &**value)
    }
}

stored!(Namespace, name);
stored!(ConfigMap, key);

impl<'de> Deserialize<'de> for Namespace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Raw<'a> {
            #[serde(borrow)]
            metadata: Meta<'a>,
        }

        let Raw { metadata } = Raw::deserialize(deserializer)?;
        Ok(Self {
            name: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            deleting: metadata.deletion_timestamp.is_some(),
            activity: metadata.labels.get(labels::ACTIVITY).map(Name::from),
        })
    }
}

impl<'de> Deserialize<'de> for ConfigMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Raw<'a> {
            #[serde(borrow)]
            metadata: Meta<'a>,
            #[serde(borrow)]
            data: Pairs<'a>,
            #[serde(borrow)]
            binary_data: Pairs<'a>,
        }

        let Raw { metadata, data, binary_data } = Raw::deserialize(deserializer)?;
        let owned = |text: Cow<'_, str>| text.into_owned().into_boxed_str();
        Ok(Self {
            key: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            mirror: metadata.labels.get(well_known::MIRROR).map(Box::from),
            has_binary_data: !binary_data.0.is_empty(),
            data: data.0.into_iter().map(|(key, value)| (owned(key), owned(value))).collect(),
        })
    }
}
