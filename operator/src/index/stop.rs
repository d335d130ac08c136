//! The emergency stop: in force as long as its `ConfigMap` exists.

use std::sync::Arc;

use daylight_planner::model::{Delta, EmergencyStop};

use super::Index;

impl Index {
    pub(super) fn tell_stop(&mut self, out: &mut Vec<Delta>) {
        // Whatever the map says, somebody wrote it and meant something:
        // stopping is the safe reading.
        // As long as the ConfigMap exists, whatever it says.
        let stop = self.stops.iter().next().map(|(_, map)| {
            let entry = |key: &str, default: &str| {
                let text = map.get(key).filter(|text| !text.is_empty());
                Arc::from(text.unwrap_or(default))
            };
            EmergencyStop { by: entry("by", "unknown"), reason: entry("reason", "no reason given") }
        });
        self.given.emergency_stop(stop, out);
    }
}
