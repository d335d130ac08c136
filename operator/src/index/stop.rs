//! The emergency stop.

use std::sync::Arc;

use daylight_planner::model::{Delta, EmergencyStop};

use super::Index;

impl Index {
    pub(super) fn tell_stop(&mut self, out: &mut Vec<Delta>) {
        let stop = self.stops.iter().next().and_then(|(_, map)| {
            let entry = |key: &str, default: &str| {
                let text = map.get(key).filter(|text| !text.is_empty());
                Arc::from(text.unwrap_or(default))
            };
            match map.get("state") {
                Some("Resumed") => None,
                Some("Stopped") => Some(EmergencyStop {
                    by: entry("by", "unknown"),
                    reason: entry("reason", "no reason given"),
                }),
                // Somebody wrote it and meant something: stopping is the safe reading.
                _ => Some(EmergencyStop {
                    by: Arc::from("unknown"),
                    reason: Arc::from("the ConfigMap cannot be read"),
                }),
            }
        });
        self.given.emergency_stop(stop, out);
    }
}
