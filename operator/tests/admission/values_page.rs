//! The README of the chart is the page of its values, generated from values.yaml.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use daylight_testbed::trials::{apply, trial};
use serde_json::Value;

use crate::cluster::chart;

const HEAD: &str = "\
# The chart `daylight`: its values

[Installing](../../docs/install.md) has the commands. Generated from `values.yaml`: change that, not this file.
";

/// A longer default is to be read in values.yaml.
const LONGEST_DEFAULT: usize = 80;

/// Values, with the comments above them as descriptions. A group of the schema is not a value itself.
fn page(values: &str, schema: &Value) -> String {
    let defaults: Value = serde_saphyr::from_str(values).unwrap();
    let mut page = HEAD.to_owned();
    let mut comment = String::new();
    // The name at each depth of indentation.
    let mut path: Vec<&str> = Vec::new();
    let mut in_table = false;
    for line in values.lines() {
        let text = line.trim_start();
        let depth = (line.len() - text.len()) / 2;
        if let Some(more) = text.strip_prefix("# ") {
            comment = if comment.is_empty() { more.into() } else { format!("{comment} {more}") };
            continue;
        }
        // Comments between values, and those within a list, describe no value.
        let described = std::mem::take(&mut comment);
        let Some((name, _)) = text.split_once(':').filter(|_| depth <= path.len()) else {
            continue;
        };
        path.truncate(depth);
        path.push(name);
        let of = |root: &'_ Value, between: &str| {
            let separator = format!("{between}/");
            let pointer = format!("{separator}{}", path.join(&separator));
            root.pointer(&pointer).cloned()
        };
        let Some(about) = of(schema, "/properties") else {
            path.pop();
            continue;
        };
        let group = about.get("properties").is_some();
        if depth == 0 {
            in_table = group;
            write!(page, "\n## `{name}`\n").unwrap();
            if !described.is_empty() {
                write!(page, "\n{described}\n").unwrap();
            }
            if group {
                page += "\n| value | default | description |\n|---|---|---|\n";
            } else {
                let default = default_of(&of(&defaults, "").unwrap());
                write!(page, "\nDefault: {default}\n").unwrap();
            }
        } else if in_table {
            let default =
                if group { String::new() } else { default_of(&of(&defaults, "").unwrap()) };
            let described = described.replace('|', "\\|");
            writeln!(page, "| `{}` | {default} | {described} |", path.join(".")).unwrap();
        }
    }
    page
}

/// A default value as it is written on the command line, or where to read it.
fn default_of(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= LONGEST_DEFAULT {
        format!("`{text}`")
    } else {
        "[see there](values.yaml)".into()
    }
}

/// Every value of the schema, by its path.
fn paths(schema: &Value, path: &str, into: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, about) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        paths(about, &path, into);
        into.push(path);
    }
}

#[apply(trial!)]
async fn the_page_of_values_is_generated_and_has_all_of_them() {
    let daylight = PathBuf::from(chart("daylight"));
    let read = |name: &str| std::fs::read_to_string(Path::join(&daylight, name)).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let wanted = page(&read("values.yaml"), &schema);
    let mut all = Vec::new();
    paths(&schema, "", &mut all);
    // Of Helm's own.
    for path in all.iter().filter(|path| *path != "global") {
        assert!(wanted.contains(&format!("`{path}`")), "values.yaml has no {path}");
    }
    if std::env::var_os("WRITE_MANIFEST").is_some() {
        std::fs::write(daylight.join("README.md"), &wanted).unwrap();
    }
    assert!(
        read("README.md") == wanted,
        "charts/daylight/README.md differs from values.yaml: run `WRITE_MANIFEST=1 cargo test -p \
         daylight --test admission -- generated` and commit the result"
    );
}
