//! The emergency stop: active while its `ConfigMap` exists.

use std::sync::Arc;

use daylight_cluster::Kind;
use daylight_planner::model::{Delta, EmergencyStop};

use super::View;

impl View {
    pub(super) fn emit_stop(&mut self, out: &mut Vec<Delta>) {
        // Whatever the map contains, its existence is a request to stop: an unreadable or empty one
        // must not leave the miners running.
        let stop = self.cluster.config_map(Kind::EmergencyStop).map(|map| {
            let entry = |key: &str, default: &str| {
                let text = map.get(key).filter(|text| !text.is_empty());
                Arc::from(text.unwrap_or(default))
            };
            EmergencyStop { by: entry("by", "unknown"), reason: entry("reason", "no reason given") }
        });
        self.emitted.emergency_stop(stop, out);
    }
}
