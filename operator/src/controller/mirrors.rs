//! Repair of the `AdmissionLists` from which admission reads registrations and classes, after another
//! client edits or deletes them.

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::executor::{Executor, Target};
use crate::api_requests;
use crate::api_requests::ApiRequest;
use crate::controller::state::State;
use daylight_cluster::{Kind, well_known};

/// Time after which a mirror is written again if the watch shows no effect.
const AGAIN: Duration = Duration::from_secs(2);

/// The mirrors that were written, and the versions that they replaced.
#[derive(Debug)]
pub struct Mirrors {
    namespace: String,
    /// The version that was replaced, 0 if there was none, and the time of the write.
    written: FxHashMap<Kind, (u64, Instant)>,
    /// [`crate::view::View::mirror_changes`] when all mirrors were last found to be right.
    right: Option<u64>,
    /// The mirrors that were last found to be wrong.
    wrong: FxHashSet<Kind>,
}

/// The lists that admission reads, with their names.
pub const MIRRORS: [(Kind, &str); 2] = [
    (Kind::ClassMirror, well_known::CLASS_MIRROR),
    (Kind::RegistrationMirror, well_known::REGISTRATION_MIRROR),
];

impl Mirrors {
    /// Creates the repair of the mirrors in `namespace`, which is Daylight's.
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            written: FxHashMap::default(),
            right: None,
            wrong: MIRRORS.map(|(kind, _)| kind).into_iter().collect(),
        }
    }

    /// Returns `true` if a mirror is as intended, by a watch that reports all changes.
    pub fn is_right(&self, kind: Kind, state: &State) -> bool {
        !self.wrong.contains(&kind) && !state.view.stale().contains(&kind)
    }

    /// Compares all mirrors, and repairs none.
    #[cfg(test)]
    pub fn check_for_test(&mut self, state: &State) {
        for (kind, _) in MIRRORS {
            if state.view.mirror_repair(kind).is_none() {
                self.wrong.remove(&kind);
            }
        }
    }

    /// The repairs that are due, each once.
    pub fn due(&mut self, state: &State, executor: &Executor) -> Vec<(Target, ApiRequest)> {
        let mut writes = Vec::new();
        let changes = state.view.mirror_changes();
        if self.right == Some(changes) {
            return writes;
        }
        self.right = Some(changes);
        for (kind, name) in MIRRORS {
            let target = Target::Mirror(kind);
            let Some(repair) = state.view.mirror_repair(kind) else {
                self.written.remove(&kind);
                self.wrong.remove(&kind);
                continue;
            };
            self.right = None;
            self.wrong.insert(kind);
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
