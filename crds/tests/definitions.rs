//! The published definitions: up to date, small enough, bounded, and described throughout.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::{fs, path::Path};

use daylight_crds::{MAX_MANIFEST_BYTES, definitions, manifest, manifest_name};
use serde_json::Value;

/// The embedded pod template is Kubernetes' own: its descriptions are left out.
const POD_TEMPLATE: &str = "aijobs.spec.template.";

#[test]
fn files_are_what_the_types_give() {
    for definition in definitions() {
        let name = manifest_name(&definition);
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = fs::read_to_string(directory.join(&name)).unwrap_or_default();
        assert!(
            found == manifest(&definition).unwrap(),
            "crds/{name} differs from the types in crds/src: run `cargo crds` and commit the result"
        );
        let link = directory.join("../charts/daylight-crds/templates").join(&name);
        assert!(
            fs::read_link(&link).is_ok_and(|file| file.ends_with(format!("crds/{name}")))
                && fs::read_to_string(&link).is_ok_and(|linked| linked == found),
            "{} must be a link to crds/{name}",
            link.display()
        );
    }
}

#[test]
fn files_fit_client_side_apply() {
    for definition in definitions() {
        let size = manifest(&definition).unwrap().len();
        assert!(size < MAX_MANIFEST_BYTES, "{}: {size} bytes", manifest_name(&definition));
    }
}

#[test]
fn yaml_reads_back_as_the_definition() {
    for definition in definitions() {
        let yaml = manifest(&definition).unwrap();
        let read: Value = serde_saphyr::from_str(&yaml).unwrap();
        let mut written = serde_json::to_value(&definition).unwrap();
        make_numbers_equal(&mut written);
        assert_eq!(read, written, "{}", manifest_name(&definition));
    }
}

#[test]
fn every_field_has_a_description() {
    let mut bare = Vec::new();
    each_schema(&mut |path, schema| {
        let described = schema["description"]
            .as_str()
            .is_some_and(|text| text.ends_with('.') && !text.contains('\n') && !text.contains('`'));
        let is_value_of_list_or_map = path.ends_with(']');
        if !described && !is_value_of_list_or_map && !path.starts_with(POD_TEMPLATE) {
            bare.push(path.to_owned());
        }
    });
    assert!(bare.is_empty(), "no sentence describes {bare:#?}");
}

#[test]
fn everything_is_bounded() {
    let mut unbounded = Vec::new();
    each_schema(&mut |path, schema| {
        let has = |keyword: &str| schema.get(keyword).is_some();
        let bounded = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum") || schema["format"] == "date-time",
            Some("array") => has("maxItems"),
            Some("object") => has("properties") || has("maxProperties"),
            Some("integer") => true,
            Some(_) => false,
            None => schema["x-kubernetes-int-or-string"] == true,
        };
        if !bounded && !path.starts_with(POD_TEMPLATE) {
            unbounded.push(path.to_owned());
        }
    });
    assert!(unbounded.is_empty(), "nothing bounds {unbounded:#?}");
}

#[test]
fn no_booleans_floats_or_foreign_formats() {
    each_schema(&mut |path, schema| {
        if path.starts_with(POD_TEMPLATE) {
            return;
        }
        assert_ne!(schema["type"], "boolean", "{path}: an enum can grow, a boolean cannot");
        assert_ne!(schema["type"], "number", "{path}: floats do not survive every JSON library");
        assert_ne!(schema["nullable"], true, "{path}");
        if let Some(format) = schema["format"].as_str() {
            assert!(["int32", "int64", "date-time"].contains(&format), "{path}: {format}");
        }
    });
}

#[test]
fn every_rule_has_a_message() {
    let mut rules = 0;
    each_schema(&mut |path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(!message.is_empty() && !message.contains('\n'), "{path}: {rule}");
            rules += 1;
        }
    });
    assert!(rules > 60, "only {rules} rules were found");
}

/// Calls `visit` with the path and schema of every field of every kind.
fn each_schema(visit: &mut impl FnMut(&str, &Value)) {
    for definition in definitions() {
        let definition = serde_json::to_value(definition).unwrap();
        let root = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let plural = definition["spec"]["names"]["plural"].as_str().unwrap();
        walk(plural, root, visit);
    }
}

fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(&format!("{path}[]"), &schema["additionalProperties"], visit);
    }
}

/// Writes `8.0` as `8`: for `Value`, they differ.
fn make_numbers_equal(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            *value = Value::from(number.as_f64().unwrap_or_default() as i64);
        }
        Value::Array(items) => items.iter_mut().for_each(make_numbers_equal),
        Value::Object(members) => members.values_mut().for_each(make_numbers_equal),
        _ => {}
    }
}
