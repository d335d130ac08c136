//! `LeaseRecord`s, as the auditor reads them.

use daylight_crds::LeaseRecord;
use daylight_planner::model::Name;
use serde::{Deserialize, Deserializer};

use crate::index::names::key;
use crate::index::store::Stored;

/// A `LeaseRecord`.
#[derive(Clone, Debug)]
pub struct Record {
    key: Name,
    uid: Box<str>,
    version: u64,
    /// The object; `None` where it cannot be read.
    pub object: Option<LeaseRecord>,
}

impl Stored for Record {
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

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            key: key(&text("namespace"), &text("name")).into(),
            uid: text("uid").into(),
            version: text("resourceVersion").parse().unwrap_or(0),
            object: serde_json::from_value(value).ok(),
        })
    }
}
