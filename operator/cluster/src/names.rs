//! Keys of objects, and one shared copy of each name.

use std::sync::Arc;

use daylight_base::Name;
use rustc_hash::FxHashSet;

/// Returns `namespace/name`, the key of a namespaced object; for other objects, the name alone.
pub fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// Splits a key into namespace and name; the namespace of cluster-scoped objects is empty.
pub fn parts(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// One shared copy of every name that many objects repeat: nodes, pools,
/// resources, registrations, label keys.
#[derive(Debug, Default)]
pub struct Names {
    known: FxHashSet<Name>,
}

impl Names {
    /// Returns the shared copy of `text`.
    pub fn get(&mut self, text: &str) -> Name {
        if let Some(name) = self.known.get(text) {
            return name.clone();
        }
        let name: Name = Arc::from(text);
        self.known.insert(name.clone());
        name
    }

    /// Replaces `name` by the shared copy.
    pub fn share(&mut self, name: &mut Name) {
        *name = self.get(name);
    }

    /// Replaces `name` by the shared copy, if there is a name.
    pub fn share_some(&mut self, name: &mut Option<Name>) {
        if let Some(name) = name {
            self.share(name);
        }
    }

    /// Forgets the names that nothing uses any more.
    pub fn sweep(&mut self) {
        self.known.retain(|name| Arc::strong_count(name) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_only_while_it_is_used() {
        let mut names = Names::default();
        let one = names.get("node-1");
        let mut other: Name = Arc::from("node-1");
        names.share(&mut other);
        assert!(Arc::ptr_eq(&one, &other));
        names.get("node-2");
        names.sweep();
        assert_eq!(names.known.len(), 1);
    }

    #[test]
    fn keys_come_apart_again() {
        assert_eq!(parts(&key("team", "miner")), ("team", "miner"));
        assert_eq!(parts(&key("", "pool")), ("", "pool"));
    }
}
