//! The entries in `docs/metering.md` are valid and complete.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use daylight_meter::{Entry, GapKind, Method};
use serde_json::Value;
use strum::VariantArray;

const PAGE: &str = include_str!("../../../docs/metering.md");

fn examples() -> Vec<Value> {
    let blocks = PAGE.split("```json\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    blocks.map(|block| serde_json::from_str(block).unwrap()).collect()
}

#[test]
fn examples_are_entries_to_the_last_field() {
    for example in examples() {
        let entry: Entry = serde_json::from_value(example.clone()).unwrap();
        assert_eq!(serde_json::to_value(&entry).unwrap(), example);
    }
}

#[test]
fn every_kind_has_an_example() {
    let shown: BTreeSet<String> =
        examples().iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect();
    // serde's error for an unknown kind lists the known ones.
    let known = serde_json::from_str::<Entry>(r#"{"kind": "?"}"#).unwrap_err().to_string();
    let known: BTreeSet<String> =
        known.split('`').skip(3).step_by(2).map(ToOwned::to_owned).collect();
    assert!(known.len() > 4, "{known:?}");
    assert_eq!(shown, known);
}

#[test]
fn every_gap_and_method_has_a_row() {
    let rows = |of: &str| PAGE.contains(&format!("\n| `{of}` |"));
    for gap in GapKind::VARIANTS {
        assert!(rows(gap.into_str()), "{gap:?}");
    }
    for method in Method::VARIANTS {
        assert!(rows(method.into_str()), "{method:?}");
    }
}
