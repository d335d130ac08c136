//! The CEL rules, evaluated offline. `api_server.rs` tests all of the API on a real API server.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod table;

use std::collections::BTreeSet;

use daylight_crds::definitions;
use kube::core::cel::{ValidationErrors, Validator};
use serde_json::{Value, json};
use table::{Case, Step, Table, merge, tables};

#[test]
fn at_least_sixty_objects_are_refused() {
    let refused: usize = tables().iter().map(|table| table.refused.len()).sum();
    assert!(refused >= 60, "{refused}");
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let mut checked = 0;
    for table in tables() {
        let schema = schema(&table);
        let messages = messages(&schema);
        for case in &table.refused {
            if !messages.iter().any(|message| message.contains(&case.message)) {
                continue; // The schema refuses it, not a rule.
            }
            let found = validate(&schema, &table, case);
            assert!(
                found.iter().any(|message| message.contains(&case.message)),
                "{}, {}: expected {:?}, got {found:#?}",
                table.kind(),
                case.name,
                case.message
            );
            checked += 1;
        }
    }
    assert!(checked >= 80, "only {checked} cases break a rule");
}

#[test]
fn what_breaks_none_is_accepted() {
    for table in tables() {
        let schema = schema(&table);
        for case in &table.accepted {
            let found = validate(&schema, &table, case);
            assert!(found.is_empty(), "{}, {}: {found:#?}", table.kind(), case.name);
        }
    }
}

#[test]
fn every_rule_has_a_case() {
    for table in tables() {
        let mut untested = messages(&schema(&table));
        untested
            .retain(|message| !table.refused.iter().any(|case| message.contains(&case.message)));
        assert!(untested.is_empty(), "{}: no case breaks {untested:#?}", table.kind());
    }
}

fn validate(schema: &Value, table: &Table, case: &Case) -> Vec<String> {
    let (object, old) = match table.step(case) {
        Step::Create(object) => (object, None),
        Step::Change { mut object, status, patch, .. } => {
            if let Some(status) = status {
                merge(&mut object, &json!({ "status": status }));
            }
            let mut changed = object.clone();
            merge(&mut changed, &patch);
            (changed, Some(object))
        }
    };
    Validator::new()
        .validate_with_defaults(schema, &object, old.as_ref())
        .err()
        .map(ValidationErrors::into_vec)
        .unwrap_or_default()
        .into_iter()
        .map(|error| error.message)
        .collect()
}

fn schema(table: &Table) -> Value {
    definitions()
        .into_iter()
        .find(|definition| definition.spec.names.kind == table.kind())
        .map(|definition| serde_json::to_value(definition).unwrap())
        .map(|definition| definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
        .unwrap()
}

/// Returns the messages of all rules in a schema.
fn messages(schema: &Value) -> BTreeSet<String> {
    let mut messages = BTreeSet::new();
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                if name == "x-kubernetes-validations" {
                    for rule in member.as_array().into_iter().flatten() {
                        messages.extend(rule["message"].as_str().map(str::to_owned));
                    }
                } else {
                    messages.extend(self::messages(member));
                }
            }
        }
        Value::Array(items) => messages.extend(items.iter().flat_map(self::messages)),
        _ => {}
    }
    messages
}
