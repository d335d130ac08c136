//! Keeping the `ConfigMaps` by which admission knows registrations and classes as they should be,
//! whoever edits or deletes them.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::executor::{Executor, Target};
use crate::api_requests;
use crate::api_requests::ApiRequest;
use crate::controller::state::State;
use daylight_cluster::{Kind, well_known};

/// How soon a mirror is written again while nothing is seen to have come of it.
const AGAIN: Duration = Duration::from_secs(2);

/// Which mirrors were written, and on what.
#[derive(Debug)]
pub struct Mirrors {
    namespace: String,
    /// The version that was found and written on, 0 if none was there, and when.
    written: FxHashMap<Kind, (u64, Instant)>,
}

impl Mirrors {
    /// Mirrors in Daylight's own namespace.
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.into(), written: FxHashMap::default() }
    }

    /// The requests that put right what was seen to be wrong, each once.
    pub fn due(&mut self, state: &State, executor: &Executor) -> Vec<(Target, ApiRequest)> {
        let mut writes = Vec::new();
        for (kind, name) in [
            (Kind::ClassMirror, well_known::CLASS_MIRROR),
            (Kind::RegistrationMirror, well_known::REGISTRATION_MIRROR),
        ] {
            let target = Target::Mirror(kind);
            let Some(repair) = state.view.mirror_repair(kind) else {
                self.written.remove(&kind);
                continue;
            };
            let version = repair.found.map_or(0, |map| map.version);
            let waits = self.written.get(&kind).is_some_and(|(on, at)| {
                *on == version && state.instant.saturating_duration_since(*at) < AGAIN
            });
            if !waits && !executor.has_background(&target) {
                self.written.insert(kind, (version, state.instant));
                writes.push((target, api_requests::repair_mirror(&self.namespace, name, &repair)));
            }
        }
        writes
    }
}
