//! Problems of objects that a schema cannot find.

use std::sync::Arc;

use daylight_base::Name;
use daylight_cluster::Kind;
use rustc_hash::FxHashMap;

/// Problems by object, each in one sentence.
#[derive(Debug, Default)]
pub(super) struct Problems(FxHashMap<(Kind, Name), Arc<str>>);

impl Problems {
    /// Sets or clears the problem of an object.
    pub(super) fn set(&mut self, kind: Kind, key: &Name, problem: Option<Arc<str>>) {
        let at = (kind, key.clone());
        match problem {
            Some(problem) => self.0.insert(at, problem),
            None => self.0.remove(&at),
        };
    }

    /// The problem of an object.
    pub(super) fn get(&self, kind: Kind, key: &str) -> Option<&str> {
        self.0.get(&(kind, Name::from(key))).map(|problem| &**problem)
    }

    /// All problems, sorted by kind and key.
    pub(super) fn all(&self) -> Vec<(Kind, &str, &str)> {
        let entries = self.0.iter();
        let mut all: Vec<_> =
            entries.map(|((kind, key), problem)| (*kind, &**key, &**problem)).collect();
        all.sort_unstable();
        all
    }
}
