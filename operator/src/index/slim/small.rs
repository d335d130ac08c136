//! Namespaces and `ConfigMaps`.

use std::borrow::Cow;

use daylight_crds::labels;
use daylight_planner::model::Name;
use serde::{Deserialize, Deserializer};

use super::meta::{Meta, Pairs};
use crate::index::store::Stored;

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Name,
    /// Its UID.
    pub uid: Box<str>,
    /// Its resource version; 0 if it is no number.
    pub version: u64,
    /// Whether it is being deleted: nothing can be created in it.
    pub deleting: bool,
    /// The class of the pods in it that name none.
    pub activity: Option<Name>,
}

/// A `ConfigMap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMap {
    /// `namespace/name`.
    pub key: Name,
    /// Its UID.
    pub uid: Box<str>,
    /// Its resource version; 0 if it is no number.
    pub version: u64,
    /// Its data.
    pub data: Vec<(Box<str>, Box<str>)>,
}

impl ConfigMap {
    /// One entry of its data.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.data.iter().find(|(known, _)| **known == *key).map(|(_, value)| &**value)
    }
}

impl Stored for Namespace {
    fn key(&self) -> &Name {
        &self.name
    }

    fn uid(&self) -> &str {
        &self.uid
    }

    fn version(&self) -> u64 {
        self.version
    }
}

impl Stored for ConfigMap {
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
        #[serde(default)]
        struct Raw<'a> {
            #[serde(borrow)]
            metadata: Meta<'a>,
            #[serde(borrow)]
            data: Pairs<'a>,
        }

        let Raw { metadata, data } = Raw::deserialize(deserializer)?;
        let owned = |text: Cow<'_, str>| text.into_owned().into_boxed_str();
        Ok(Self {
            key: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            data: data.0.into_iter().map(|(key, value)| (owned(key), owned(value))).collect(),
        })
    }
}
