//! Tables of objects that the API must refuse, each with a part of the expected message, and of
//! objects that it must accept. Each kind has a YAML file in this folder.
//!
//! A file has a `valid` object. Each case changes it by JSON merge patches (RFC 7386): `create`
//! changes it before it is created; `update` and `status` change the spec or status of an object
//! that exists, which `given` and `givenStatus` prepare.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]
#![allow(dead_code, reason = "each test uses a part of the tables")]

use std::{fs, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The cases of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) valid: Value,
    pub(crate) refused: Vec<Case>,
    pub(crate) accepted: Vec<Case>,
}

/// One object, or one change to an object.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Case {
    #[serde(rename = "case")]
    pub(crate) name: String,
    /// A part of the refusal; empty for what is accepted.
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    create: Option<Value>,
    #[serde(default)]
    given: Option<Value>,
    #[serde(default)]
    given_status: Option<Value>,
    #[serde(default)]
    update: Option<Value>,
    #[serde(default)]
    status: Option<Value>,
}

/// The request of a case.
pub(crate) enum Step {
    /// Create this object.
    Create(Value),
    /// Change `object`, whose status is `status` if it has one, by a merge patch.
    Change {
        object: Value,
        status: Option<Value>,
        patch: Value,
        /// Whether the patch goes to the status subresource.
        to_status: bool,
    },
}

impl Table {
    pub(crate) fn kind(&self) -> &str {
        self.valid["kind"].as_str().unwrap()
    }

    pub(crate) fn step(&self, case: &Case) -> Step {
        let prepared = |patch: &Option<Value>| {
            let mut object = self.valid.clone();
            merge(&mut object, patch.as_ref().unwrap_or(&json!({})));
            object
        };
        match (&case.create, &case.update, &case.status) {
            (Some(_), None, None) => Step::Create(prepared(&case.create)),
            (None, Some(patch), None) => Step::Change {
                object: prepared(&case.given),
                status: case.given_status.clone(),
                patch: patch.clone(),
                to_status: false,
            },
            (None, None, Some(patch)) => Step::Change {
                object: prepared(&case.given),
                status: case.given_status.clone(),
                patch: json!({ "status": patch }),
                to_status: true,
            },
            _ => panic!("{}: set one of create, update and status", case.name),
        }
    }
}

/// All tables.
pub(crate) fn tables() -> Vec<Table> {
    ["gpu_pool", "activity_class", "registration", "miner", "ai_job", "declaration"]
        .iter()
        .map(|name| {
            let path =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/table/{name}.yaml"));
            let text = fs::read_to_string(&path).unwrap();
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}.yaml: {error}"))
        })
        .collect()
}

/// A JSON merge patch.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
