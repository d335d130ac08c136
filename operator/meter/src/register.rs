//! The register: what was seen of registrations, and of the classes and pools they stand on.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};

use crate::entry::Entry;
use crate::object::{ObjectEntry, ObjectKind, ObjectSeen};

/// The objects as they were last seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    objects: BTreeMap<(ObjectKind, Name), ObjectEntry>,
}

impl Register {
    /// What is new in how an object was seen.
    /// Of one that was deleted and created anew, both.
    pub(crate) fn see(&mut self, seen: ObjectSeen, at: Timestamp) -> Vec<Entry> {
        let key = (seen.object, seen.name.clone());
        let known = self.objects.get(&key);
        if known.is_some_and(|known| known.seen == seen) {
            return Vec::new();
        }
        let same = known.filter(|known| known.seen.uid == seen.uid);
        let before = same.map_or(0, |known| known.seen.generation);
        let replaced = if same.is_some() { None } else { self.lose(key.0, &key.1, at) };
        let unseen = seen.generation.saturating_sub(before + 1);
        let entry = ObjectEntry { seen, at, unseen, gone: false };
        self.objects.insert(key, entry.clone());
        replaced.into_iter().chain([Entry::Object(Box::new(entry))]).collect()
    }

    /// An object is not there any more.
    pub(crate) fn lose(&mut self, kind: ObjectKind, name: &Name, at: Timestamp) -> Option<Entry> {
        let known = self.objects.remove(&(kind, name.clone()))?;
        let gone = ObjectEntry { at, unseen: 0, gone: true, ..known };
        Some(Entry::Object(Box::new(gone)))
    }

    /// Takes in what an entry says.
    pub(crate) fn fold(&mut self, entry: &ObjectEntry) {
        let key = (entry.seen.object, entry.seen.name.clone());
        if entry.gone {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, entry.clone());
        }
    }

    /// How an object was last seen.
    pub(crate) fn get(&self, kind: ObjectKind, name: &Name) -> Option<&ObjectSeen> {
        Some(&self.objects.get(&(kind, name.clone()))?.seen)
    }

    /// All objects, as they were last seen.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &ObjectEntry> {
        self.objects.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(uid: &str, generation: u64, standing: &str) -> ObjectSeen {
        ObjectSeen {
            object: ObjectKind::Registration,
            name: "acme/power".into(),
            uid: uid.into(),
            generation,
            digest: format!("sha256:{generation}").into(),
            decision: None,
            standing: Some(standing.into()),
        }
    }

    fn told(entries: &[Entry]) -> Vec<(&str, u64, u64, bool)> {
        let objects = entries.iter().map(|entry| match entry {
            Entry::Object(entry) => {
                (&*entry.seen.uid, entry.seen.generation, entry.unseen, entry.gone)
            }
            other => panic!("{other:?}"),
        });
        objects.collect()
    }

    #[test]
    fn each_change_is_told_once_and_what_nobody_saw_is_counted() {
        let mut register = Register::default();
        let now = Timestamp(1);
        let mut see = |seen| register.see(seen, now);
        assert_eq!(told(&see(registration("a", 1, "AwaitingApproval"))), [("a", 1, 0, false)]);
        assert_eq!(see(registration("a", 1, "AwaitingApproval")), []);
        assert_eq!(told(&see(registration("a", 1, "Active"))), [("a", 1, 0, false)]);
        assert_eq!(told(&see(registration("a", 4, "ApprovalVoided"))), [("a", 4, 2, false)]);
        // Deleted and filed again, and edited once before anybody looked.
        let again = see(registration("b", 2, "AwaitingApproval"));
        assert_eq!(told(&again), [("a", 4, 0, true), ("b", 2, 1, false)]);
    }

    #[test]
    fn a_register_goes_on_from_its_entries() {
        let mut register = Register::default();
        let mut entries = register.see(registration("a", 1, "Active"), Timestamp(1));
        entries.extend(register.see(registration("a", 3, "Active"), Timestamp(2)));
        let mut again = Register::default();
        for entry in &entries {
            let Entry::Object(entry) = entry else { panic!("{entry:?}") };
            again.fold(entry);
        }
        assert_eq!(again.see(registration("a", 3, "Active"), Timestamp(3)), []);
        assert!(again.lose(ObjectKind::Registration, &"acme/power".into(), Timestamp(4)).is_some());
        assert_eq!(again.entries().count(), 0);
    }
}
