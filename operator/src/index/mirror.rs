//! The two `ConfigMaps` by which the admission policies know registrations and classes.
//!
//! A `ValidatingAdmissionPolicy` can read `ConfigMaps` as parameters, and nothing else that helps
//! here. So the leading controller mirrors into Daylight's namespace
//!
//! - `daylight-registrations`: for each approved registration that has not ended, under the key
//!   `NAMESPACE.NAME`, the value `CLASS FROM UNTIL`;
//! - `daylight-classes`: for each class, under its name, the value `ASSIGNMENT REGISTRATION`, and,
//!   if its images are bounded, under `NAME.images` one RE2 expression for the whole image.
//!
//! Times are RFC 3339 in UTC, with whole seconds. What the API server is seen to hold counts:
//! nothing is granted under a registration before its entry is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_crds::{ActivityClass, Registration};
use daylight_planner::model::{Approval, Delta, Mirrored};

use super::names::parts;
use super::slim::{ConfigMap, Custom};
use super::{Index, Kind, marks, moment};

/// The most that the entries of a mirror may take, in bytes: a ConfigMap is refused above 1 MiB.
const CAPACITY: usize = 1 << 20;

/// What an entry takes beside its value and twice its key, which is stored once more for the
/// field manager: quotes, colons, commas.
const ENTRY: usize = 24;

/// What the mirrors should hold.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// Registrations with the time of their creation.
    registrations: BTreeMap<Name, (Timestamp, String)>,
    /// What of them fits.
    wanted: BTreeMap<String, String>,
    /// Those that do not fit.
    left_out: BTreeSet<Name>,
    /// When the first entry ends.
    ends_at: Option<Timestamp>,
    changed: bool,
}

/// How a mirror differs from what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair<'a> {
    /// What is there; `None` is that there is no such ConfigMap.
    pub found: Option<&'a ConfigMap>,
    pub label: &'static str,
    /// All that it should hold.
    pub wanted: BTreeMap<String, String>,
}

impl Index {
    /// What is wrong with a mirror as it was last seen, if anything is.
    pub fn mirror_repair(&self, kind: Kind) -> Option<Repair<'_>> {
        let (store, label, wanted) = match kind {
            Kind::RegistrationMirror => {
                let wanted = self.mirror.wanted.clone();
                (&self.registration_mirror, marks::MIRROR_OF_REGISTRATIONS, wanted)
            }
            Kind::ClassMirror => {
                (&self.class_mirror, marks::MIRROR_OF_CLASSES, self.class_entries())
            }
            _ => return None,
        };
        let found = store.iter().next().map(|(_, map)| map);
        let well = found.is_some_and(|map| {
            map.mirror.as_deref() == Some(label) && !map.has_binary_data && holds(map, &wanted)
        });
        (!well).then_some(Repair { found, label, wanted })
    }

    /// Notes what the mirror should hold of a registration, as the planner is about to be told.
    pub(super) fn note_mirrored(&mut self, name: &Name, entry: Option<(Timestamp, String)>) {
        let known = self.mirror.registrations.get(name);
        if known == entry.as_ref() {
            return;
        }
        self.mirror.changed = true;
        match entry {
            Some(entry) => self.mirror.registrations.insert(name.clone(), entry),
            None => self.mirror.registrations.remove(name),
        };
    }

    /// The entry of a registration; `None` where it gives no right.
    pub(super) fn mirror_entry(
        &self,
        registration: &Registration,
        approval: Approval,
    ) -> Option<(Timestamp, String)> {
        let spec = &registration.spec;
        if approval != Approval::Approved || moment(&spec.valid_until) <= self.now {
            return None;
        }
        let created =
            registration.metadata.creation_timestamp.as_ref().map_or(Timestamp(0), moment);
        let value = format!(
            "{} {} {}",
            spec.activity_class,
            whole_seconds(moment(&spec.valid_from))?,
            whole_seconds(moment(&spec.valid_until))?,
        );
        Some((created, value))
    }

    /// Whether the mirror that was seen holds a registration.
    pub(super) fn mirrored(&self, name: &Name) -> Mirrored {
        if self.mirror.left_out.contains(name) {
            return Mirrored::Full;
        }
        let Some((_, value)) = self.mirror.registrations.get(name) else {
            return Mirrored::Pending;
        };
        let seen = self.registration_mirror.iter().next().map(|(_, map)| map);
        let is_label =
            |map: &&ConfigMap| map.mirror.as_deref() == Some(marks::MIRROR_OF_REGISTRATIONS);
        match seen.filter(is_label).and_then(|map| map.get(&entry_key(name))) {
            Some(held) if held == value => Mirrored::Holds,
            _ => Mirrored::Pending,
        }
    }

    /// Decides what fits, after registrations changed or time went on, and tells the planner
    /// which of them changed by that or by what was seen of the mirror.
    pub(super) fn refresh_mirror(&mut self, seen: bool, out: &mut Vec<Delta>) {
        if !self.warm {
            return;
        }
        let ended = self.mirror.ends_at.is_some_and(|at| at <= self.now);
        if !(self.mirror.changed || ended || seen) {
            return;
        }
        if self.mirror.changed || ended {
            self.fit_mirror();
        }
        let differing: Vec<Name> = self
            .given
            .registrations
            .iter()
            .filter(|(name, view)| view.mirrored != self.mirrored(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in differing {
            self.tell_registration(&name, out);
        }
        self.mirror.changed = false;
    }

    /// When the mirror changes by time alone.
    pub(super) fn mirror_due_at(&self) -> Option<Timestamp> {
        self.mirror.ends_at
    }

    fn fit_mirror(&mut self) {
        let now = self.now;
        let objects = &self.registrations;
        let until = |name: &Name| {
            let object = objects.get(name).and_then(Custom::get)?;
            Some(moment(&object.spec.valid_until))
        };
        self.mirror.registrations.retain(|name, _| until(name).is_some_and(|at| at > now));
        self.mirror.ends_at = self.mirror.registrations.keys().filter_map(until).min();
        let mut oldest_first: Vec<_> = self.mirror.registrations.iter().collect();
        oldest_first.sort_by_key(|(name, (created, _))| (*created, (*name).clone()));
        let (mut wanted, mut left_out) = (BTreeMap::new(), BTreeSet::new());
        let mut size = 0;
        for (name, (_, value)) in oldest_first {
            let key = entry_key(name);
            let takes = 2 * key.len() + value.len() + ENTRY;
            // A younger one never takes the place of an older one, however short it is.
            if size + takes > CAPACITY || !left_out.is_empty() {
                left_out.insert(name.clone());
            } else {
                size += takes;
                wanted.insert(key, value.clone());
            }
        }
        self.mirror.wanted = wanted;
        self.mirror.left_out = left_out;
    }

    fn class_entries(&self) -> BTreeMap<String, String> {
        let classes: BTreeMap<&Name, &Arc<ActivityClass>> = self.classes().collect();
        let mut entries = BTreeMap::new();
        let mut size = 0;
        for (name, class) in classes {
            // It would be read as another class's images.
            if name.ends_with(IMAGES) {
                continue;
            }
            let spec = &class.spec;
            let value = format!("{:?} {:?}", spec.assignment, spec.registration);
            let images = image_expression(&spec.allowed_images);
            let takes = 2 * (2 * name.len() + IMAGES.len() + ENTRY)
                + value.len()
                + images.as_ref().map_or(0, String::len);
            if size + takes > CAPACITY {
                continue;
            }
            size += takes;
            entries.insert(name.to_string(), value);
            if let Some(images) = images {
                entries.insert(format!("{name}{IMAGES}"), images);
            }
        }
        entries
    }
}

/// What follows a class's name in the key of its images.
const IMAGES: &str = ".images";

fn holds(map: &ConfigMap, wanted: &BTreeMap<String, String>) -> bool {
    map.data.len() == wanted.len()
        && map.data.iter().all(|(key, value)| wanted.get(&**key).is_some_and(|of| **of == **value))
}

fn entry_key(name: &str) -> String {
    let (namespace, name) = parts(name);
    format!("{namespace}.{name}")
}

fn whole_seconds(at: Timestamp) -> Option<String> {
    let at = jiff::Timestamp::from_second(at.0.div_euclid(1000)).ok()?;
    Some(at.to_string())
}

/// One RE2 expression for all patterns of `allowedImages`; `None` where every image is allowed.
fn image_expression(patterns: &[String]) -> Option<String> {
    if patterns.is_empty() {
        return None;
    }
    let one = |pattern: &String| pattern.replace('.', "\\.").replace('*', ".*");
    let all: Vec<String> = patterns.iter().map(one).collect();
    Some(format!("^({})$", all.join("|")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_one_expression() {
        let expression = |patterns: &[&str]| {
            image_expression(&patterns.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(expression(&[]), None);
        assert_eq!(
            expression(&["registry.example.com/miners/*", "a/b@sha256:*"]).unwrap(),
            r"^(registry\.example\.com/miners/.*|a/b@sha256:.*)$"
        );
    }

    #[test]
    fn times_have_whole_seconds() {
        assert_eq!(whole_seconds(Timestamp(1_767_225_600_000)).unwrap(), "2026-01-01T00:00:00Z");
    }
}
