//! Namespaces, `ConfigMaps` and `AdmissionLists`.

use std::borrow::Cow;

use daylight_base::Name;
use daylight_crds::labels;
use serde::{Deserialize, Deserializer};

use crate::slim::meta::{Meta, Pairs};
use crate::store::stored;

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
}

/// What admission policies must know about registrations or classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionList {
    /// `namespace/name`.
    pub key: Name,
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    pub entries: Vec<(Box<str>, Box<str>)>,
}

impl AdmissionList {
    /// Returns the value of an entry.
    pub fn get(&self, key: &str) -> Option<&str> {
        value_of(&self.entries, key)
    }
}

impl ConfigMap {
    /// Returns one entry of its data.
    pub fn get(&self, key: &str) -> Option<&str> {
        value_of(&self.data, key)
    }
}

stored!(Namespace, name);
stored!(ConfigMap, key);
stored!(AdmissionList, key);

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
        Ok(Self {
            key: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            data: owned(data),
        })
    }
}

impl<'de> Deserialize<'de> for AdmissionList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Raw<'a> {
            #[serde(borrow)]
            metadata: Meta<'a>,
            #[serde(borrow)]
            spec: Spec<'a>,
        }

        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Spec<'a> {
            #[serde(borrow)]
            entries: Pairs<'a>,
        }

        let Raw { metadata, spec } = Raw::deserialize(deserializer)?;
        Ok(Self {
            key: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            entries: owned(spec.entries),
        })
    }
}

fn value_of<'a>(pairs: &'a [(Box<str>, Box<str>)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| **known == *key).map(|(_, value)| &**value)
}

fn owned(pairs: Pairs<'_>) -> Vec<(Box<str>, Box<str>)> {
    let text = |text: Cow<'_, str>| text.into_owned().into_boxed_str();
    pairs.0.into_iter().map(|(key, value)| (text(key), text(value))).collect()
}
