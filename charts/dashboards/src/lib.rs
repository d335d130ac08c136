//! The dashboards that the chart `daylight` installs, as Grafana's JSON (schema v1, for Grafana 11
//! to 13). `cargo dashboards` writes them to `charts/daylight/dashboards`.

use serde_json::Value;

mod audit;
mod fleet;
mod model;
mod operator;
mod registration;
mod who;

/// The dashboards with the names of their files.
pub fn all() -> [(&'static str, Value); 5] {
    [
        ("fleet.json", fleet::dashboard().json()),
        ("registration.json", registration::dashboard().json()),
        ("audit.json", audit::dashboard().json()),
        ("operator.json", operator::dashboard().json()),
        ("who.json", who::dashboard().json()),
    ]
}

/// A dashboard as its file has it.
pub fn text(dashboard: &Value) -> String {
    format!("{dashboard:#}\n")
}
