//! The manifest of this version, and the comparison of installed objects with it.

use serde_json::{Map, Value};

/// The manifest that this version installs, with the default values of the chart.
const MANIFEST: &str = include_str!("../../docs/install/daylight.yaml");

/// The namespace that the manifest installs into.
const NAMESPACE: &str = "daylight-system";

/// The result of comparing an installed object with the shipped one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Same,
    /// The same but for lists of names, which are values of the chart.
    OtherValues,
    Different,
}

/// Returns the shipped objects of a kind.
pub(crate) fn objects(kind: &str) -> Vec<Value> {
    let documents =
        MANIFEST.split("\n---\n").filter(|text| text.contains(&format!("kind: {kind}\n")));
    let read = |text: &str| serde_saphyr::from_str::<Value>(text).ok();
    documents.filter_map(read).filter(|object| object["kind"] == kind).collect()
}

/// Compares an object's spec, or its rules, with the shipped one, installed into `namespace`.
pub(crate) fn compare(shipped: &Value, installed: &Value, namespace: &str) -> Comparison {
    // Expressions and selectors name Daylight's namespace, which may be another here.
    let here = |text: &str| text.trim().replace(NAMESPACE, namespace);
    let [wanted, found] = [shipped, installed].map(|value| plain(value, &here));
    if wanted == found {
        return Comparison::Same;
    }
    let without_lists = |text: &str| without_names(&here(text));
    let [wanted, found] = [shipped, installed].map(|value| plain(&unlisted(value), &without_lists));
    if wanted == found { Comparison::OtherValues } else { Comparison::Different }
}

/// Removes what the API server fills in, and applies `of` to every text.
fn plain(value: &Value, of: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), plain(value, of)));
            Value::Object(fields.filter(|(name, value)| !is_default(name, value)).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(|value| plain(value, of)).collect()),
        Value::String(text) => Value::String(of(text)),
        value => value.clone(),
    }
}

/// Returns `true` for a field with the value that the API server fills in where it is absent.
fn is_default(name: &str, value: &Value) -> bool {
    match (name, value) {
        (_, Value::Null) => true,
        ("matchPolicy", Value::String(policy)) => policy == "Equivalent",
        ("scope", Value::String(scope)) => scope == "*",
        ("failurePolicy", Value::String(policy)) => policy == "Fail",
        ("namespaceSelector" | "objectSelector", Value::Object(rules)) => rules.is_empty(),
        (_, Value::Array(values)) => values.is_empty(),
        _ => false,
    }
}

/// Removes the lists of names from selectors.
fn unlisted(value: &Value) -> Value {
    match value {
        Value::Object(fields) if fields.get("operator").is_some_and(|it| it == "NotIn") => {
            let kept = fields.iter().filter(|(name, _)| *name != "values");
            Value::Object(
                kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>(),
            )
        }
        Value::Object(fields) => Value::Object(
            fields.iter().map(|(name, value)| (name.clone(), unlisted(value))).collect(),
        ),
        Value::Array(values) => Value::Array(values.iter().map(unlisted).collect()),
        value => value.clone(),
    }
}

/// Removes lists of names from an expression: `["a","b"]` becomes `[]`, and
/// ` || resource.startsWith("c")` nothing. The shipped expressions put only names in double quotes.
fn without_names(expression: &str) -> String {
    let mut text = String::with_capacity(expression.len());
    let mut rest = expression;
    while let Some((before, after)) = rest.split_once('"') {
        let Some((_, after)) = after.split_once('"') else { break };
        let call = before.strip_suffix(".startsWith(");
        let alternative = call.and_then(|before| before.rsplit_once(" || "));
        // Of a variable only: what is true of a text in the expression itself is no value of the chart.
        let is_variable = |of: &str| of.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
        if let Some((before, _)) = alternative.filter(|(_, of)| is_variable(of)) {
            text.push_str(before);
            rest = after.strip_prefix(')').unwrap_or(after);
        } else {
            text.push_str(before.strip_suffix(',').unwrap_or(before));
            rest = after;
        }
    }
    text + rest
}

/// Returns the names in an expression, those that are prefixes with a `*`. The shipped expressions put
/// only names in double quotes.
pub(crate) fn names(expression: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = expression;
    while let Some((before, after)) = rest.split_once('"') {
        let Some((name, after)) = after.split_once('"') else { break };
        let end = if before.ends_with(".startsWith(") { "*" } else { "" };
        names.push(format!("{name}{end}"));
        rest = after;
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(expression: &str, namespace: &str) -> Value {
        json!({
            "failurePolicy": "Fail",
            "validations": [{"expression": expression}],
            "matchResources": {"namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [namespace]},
            ]}},
        })
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_difference() {
        let shipped =
            json!({"validations": [{"expression": "a\n"}], "constraints": {"rules": [{"x": 1}]}});
        let there = json!({
            "failurePolicy": "Fail", "matchConditions": [], "validations": [{"expression": "a"}],
            "constraints": {
                "rules": [{"x": 1, "scope": "*"}], "matchPolicy": "Equivalent",
                "namespaceSelector": {}, "objectSelector": {},
            },
        });
        assert_eq!(compare(&shipped, &there, "daylight-system"), Comparison::Same);
    }

    #[test]
    fn names_are_read_from_an_expression() {
        let expression = r#"x.exists(r, (r in ["a","b"] || r.startsWith("c/")) && y['d'])"#;
        assert_eq!(names(expression), ["a", "b", "c/*"]);
    }

    #[test]
    fn values_are_distinguished_from_edits() {
        let shipped = of(r#"name in ["a","b"] || name.startsWith("c") || x"#, "daylight-system");
        let compare = |there: &Value| compare(&shipped, there, "mine");
        let same = of(r#"name in ["a","b"] || name.startsWith("c") || x"#, "mine");
        assert_eq!(compare(&same), Comparison::Same);
        for values in [
            r#"name in ["a"] || name.startsWith("c") || x"#,
            r#"name in ["z","b","c"] || name.startsWith("d") || name.startsWith("e") || x"#,
            r#"name in ["a","b"] || x"#,
        ] {
            assert_eq!(compare(&of(values, "mine")), Comparison::OtherValues, "{values}");
        }
        let mut disabled = same.clone();
        disabled["matchConditions"] = json!([{"name": "never", "expression": "false"}]);
        assert_eq!(compare(&disabled), Comparison::Different);
        let mut narrowed = same.clone();
        narrowed["matchResources"]["objectSelector"] = json!({"matchLabels": {"never": "set"}});
        assert_eq!(compare(&narrowed), Comparison::Different);
        for edited in [
            r#"name in ["a","b"] || name.startsWith("c") || 'a'.startsWith("a") || x"#,
            "true",
            r#"name in ["a","b"] || name.startsWith("c") || true"#,
        ] {
            assert_eq!(compare(&of(edited, "mine")), Comparison::Different, "{edited}");
        }
    }
}
