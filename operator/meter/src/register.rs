//! Register of the last observed version of every object that the journal records.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};

use crate::entry::Entry;
use crate::object::{ObjectEntry, ObjectKind, ObservedObject};
use crate::settings::{ObservedSettings, SettingsEntry};

/// Last observed version of each object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    settings: Option<SettingsEntry>,
    objects: BTreeMap<(ObjectKind, Name), ObjectEntry>,
}

impl Register {
    /// Takes in an object and returns the entries of what changed: none if it is known, two if it
    /// was deleted and created again in between.
    pub(crate) fn observe(&mut self, seen: ObservedObject, at: Timestamp) -> Vec<Entry> {
        let key = (seen.object, seen.name.clone());
        let known = self.objects.get(&key);
        if known.is_some_and(|known| known.seen == seen) {
            return Vec::new();
        }
        let same = known.filter(|known| known.seen.uid == seen.uid);
        let before = same.map_or(0, |known| known.seen.generation);
        let replaced = if same.is_some() { None } else { self.remove(key.0, &key.1, at) };
        let unseen = seen.generation.saturating_sub(before + 1);
        let entry = ObjectEntry { seen, at, unseen, gone: false };
        self.objects.insert(key, entry.clone());
        replaced.into_iter().chain([Entry::Object(Box::new(entry))]).collect()
    }

    /// Takes in the settings and returns the entry of what changed, if anything did.
    pub(crate) fn observe_settings(
        &mut self,
        seen: ObservedSettings,
        at: Timestamp,
    ) -> Option<Entry> {
        if self.settings.as_ref().is_some_and(|known| known.seen == seen) {
            return None;
        }
        let entry = SettingsEntry { seen, at };
        self.settings = Some(entry.clone());
        Some(Entry::Settings(Box::new(entry)))
    }

    /// Applies an entry about settings.
    pub(crate) fn apply_settings(&mut self, entry: &SettingsEntry) {
        self.settings = Some(entry.clone());
    }

    /// Returns the entry about the last observed settings.
    pub(crate) fn settings(&self) -> Option<&SettingsEntry> {
        self.settings.as_ref()
    }

    /// Removes an object and returns the entry of its deletion.
    pub(crate) fn remove(&mut self, kind: ObjectKind, name: &Name, at: Timestamp) -> Option<Entry> {
        let known = self.objects.remove(&(kind, name.clone()))?;
        let gone = ObjectEntry { at, unseen: 0, gone: true, ..known };
        Some(Entry::Object(Box::new(gone)))
    }

    /// Applies an entry of the journal.
    pub(crate) fn apply(&mut self, entry: &ObjectEntry) {
        let key = (entry.seen.object, entry.seen.name.clone());
        if entry.gone {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, entry.clone());
        }
    }

    /// Returns the last observed version of an object.
    pub(crate) fn get(&self, kind: ObjectKind, name: &Name) -> Option<&ObservedObject> {
        Some(&self.objects.get(&(kind, name.clone()))?.seen)
    }

    /// Iterates over all objects.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &ObjectEntry> {
        self.objects.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SignatureRule;

    fn registration(uid: &str, generation: u64, standing: &str) -> ObservedObject {
        ObservedObject {
            object: ObjectKind::Registration,
            name: "acme/power".into(),
            uid: uid.into(),
            generation,
            digest: format!("sha256:{generation}").into(),
            decision: None,
            standing: Some(standing.into()),
            declares: None,
        }
    }

    fn changes(entries: &[Entry]) -> Vec<(&str, u64, u64, bool)> {
        let objects = entries.iter().map(|entry| match entry {
            Entry::Object(entry) => {
                (&*entry.seen.uid, entry.seen.generation, entry.unseen, entry.gone)
            }
            other => panic!("{other:?}"),
        });
        objects.collect()
    }

    #[test]
    fn each_change_is_recorded_once_with_the_edits_that_were_missed() {
        let mut register = Register::default();
        let now = Timestamp(1);
        let mut observe = |seen| register.observe(seen, now);
        assert_eq!(
            changes(&observe(registration("a", 1, "AwaitingApproval"))),
            [("a", 1, 0, false)]
        );
        assert_eq!(observe(registration("a", 1, "AwaitingApproval")), []);
        assert_eq!(changes(&observe(registration("a", 1, "Active"))), [("a", 1, 0, false)]);
        assert_eq!(changes(&observe(registration("a", 4, "ApprovalVoided"))), [("a", 4, 2, false)]);
        // Deleted, created again, and edited once before it was observed.
        let again = observe(registration("b", 2, "AwaitingApproval"));
        assert_eq!(changes(&again), [("a", 4, 0, true), ("b", 2, 1, false)]);
    }

    #[test]
    fn settings_are_recorded_when_they_change() {
        let settings = |key: &str| ObservedSettings {
            signature: SignatureRule::Required,
            authority_keys: vec![key.into()],
            emergency_stop: None,
            admission_mode: None,
            ledger_keys: Vec::new(),
        };
        let mut register = Register::default();
        let first = register.observe_settings(settings("a"), Timestamp(1));
        let Some(Entry::Settings(entry)) = first else { panic!("{first:?}") };
        let mut again = Register::default();
        again.apply_settings(&entry);
        assert_eq!(again.observe_settings(settings("a"), Timestamp(2)), None);
        assert!(again.observe_settings(settings("b"), Timestamp(3)).is_some());
        assert_eq!(again.settings().unwrap().at, Timestamp(3));
    }

    #[test]
    fn a_register_continues_from_its_entries() {
        let mut register = Register::default();
        let mut entries = register.observe(registration("a", 1, "Active"), Timestamp(1));
        entries.extend(register.observe(registration("a", 3, "Active"), Timestamp(2)));
        let mut again = Register::default();
        for entry in &entries {
            let Entry::Object(entry) = entry else { panic!("{entry:?}") };
            again.apply(entry);
        }
        assert_eq!(again.observe(registration("a", 3, "Active"), Timestamp(3)), []);
        assert!(
            again.remove(ObjectKind::Registration, &"acme/power".into(), Timestamp(4)).is_some()
        );
        assert_eq!(again.entries().count(), 0);
    }
}
