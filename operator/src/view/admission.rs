//! The two `AdmissionLists` from which the admission policies read registrations and classes.
//!
//! A `ValidatingAdmissionPolicy` reads nothing but its parameters, and cannot decide whether an approval
//! fits the content of a registration. So the leading controller mirrors into Daylight's namespace
//!
//! - `registrations`: for each approved registration that has not ended, under the key
//!   `NAMESPACE.NAME`, the value `CLASS FROM UNTIL`;
//! - `classes`: for each class, under its name, the value `ASSIGNMENT REGISTRATION`, and,
//!   if its images are bounded, under `NAME.images` one RE2 expression for the whole image.
//!
//! Times are RFC 3339 in UTC, in whole seconds. Nothing is granted under a registration before a
//! watch has reported its entry, because the API server would refuse the pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_cluster::names::parts;
use daylight_cluster::slim::{AdmissionList, Custom};
use daylight_cluster::{Cluster, Kind, timestamp};
use daylight_crds::{ActivityClass, Registration};
use daylight_planner::model::{Approval, Delta, Mirrored};

use super::View;

/// The size up to which a mirror is filled, in bytes: etcd refuses objects above 1.5 MiB, which include
/// backslashes that are written twice.
const CAPACITY: usize = 1 << 20;

/// The size of an entry in addition to its value and twice its key, which is stored once more for
/// the field manager: quotes, colons, commas.
const ENTRY: usize = 24;

/// The suffix of the key that holds a class's images.
const IMAGES: &str = ".images";

/// The intended content of the mirrors.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// The entries of registrations, each with the time of the registration's creation.
    registrations: BTreeMap<Name, (Timestamp, String)>,
    /// The entries that fit, by their keys in the mirror.
    wanted: BTreeMap<String, String>,
    /// The registrations that do not fit.
    left_out: BTreeSet<Name>,
    /// The time at which the first entry ends.
    ends_at: Option<Timestamp>,
    changed: bool,
    /// Number of changes of what either mirror holds or should hold.
    pub(super) changes: u64,
}

/// The difference between a mirror and its intended content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair<'a> {
    /// The present list, if there is one.
    pub found: Option<&'a AdmissionList>,
    /// The whole intended content.
    pub wanted: BTreeMap<String, String>,
}

impl Mirror {
    /// Notes the entry of a registration; `None` if it grants nothing.
    pub(super) fn note(&mut self, name: &Name, entry: Option<(Timestamp, String)>) {
        if self.registrations.get(name) == entry.as_ref() {
            return;
        }
        self.changed = true;
        match entry {
            Some(entry) => self.registrations.insert(name.clone(), entry),
            None => self.registrations.remove(name),
        };
    }

    /// Returns the state of a registration in the mirror that the watch reported.
    pub(super) fn state_of(&self, name: &Name, cluster: &Cluster) -> Mirrored {
        if self.left_out.contains(name) {
            return Mirrored::Full;
        }
        let Some((_, value)) = self.registrations.get(name) else {
            return Mirrored::Pending;
        };
        let seen = cluster.admission_list(Kind::RegistrationMirror);
        match seen.and_then(|list| list.get(&entry_key(name))) {
            Some(held) if held == value => Mirrored::Holds,
            _ => Mirrored::Pending,
        }
    }

    /// The time at which the mirror changes by time alone.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        self.ends_at
    }

    /// Decides which entries fit, if any changed or ended. Returns `false` if nothing did.
    fn fit(&mut self, cluster: &Cluster, now: Timestamp) -> bool {
        let ended = self.ends_at.is_some_and(|at| at <= now);
        if !self.changed && !ended {
            return false;
        }
        self.changes += 1;
        let until = |name: &Name| {
            let object = cluster.registrations.get(name).and_then(Custom::get)?;
            Some(timestamp(&object.spec.valid_until))
        };
        self.registrations.retain(|name, _| until(name).is_some_and(|at| at > now));
        self.ends_at = self.registrations.keys().filter_map(until).min();
        let mut oldest_first: Vec<_> = self.registrations.iter().collect();
        oldest_first.sort_by_key(|(name, (created, _))| (*created, (*name).clone()));
        let (mut wanted, mut left_out) = (BTreeMap::new(), BTreeSet::new());
        let mut size = 0;
        for (name, (_, value)) in oldest_first {
            let key = entry_key(name);
            let takes = 2 * key.len() + value.len() + ENTRY;
            // Once one is left out, so is every younger one, even if it would fit: the right to
            // mine must not depend on the length of names.
            if size + takes > CAPACITY || !left_out.is_empty() {
                left_out.insert(name.clone());
            } else {
                size += takes;
                wanted.insert(key, value.clone());
            }
        }
        self.wanted = wanted;
        self.left_out = left_out;
        true
    }
}

impl View {
    /// A number that changes whenever [`View::mirror_repair`] may return something else.
    pub fn mirror_changes(&self) -> u64 {
        self.mirror.changes
    }

    /// The repair that a mirror needs, as it was last seen; `None` if it is as intended.
    pub fn mirror_repair(&self, kind: Kind) -> Option<Repair<'_>> {
        let wanted = match kind {
            Kind::RegistrationMirror => self.mirror.wanted.clone(),
            Kind::ClassMirror => class_entries(&self.cluster),
            _ => return None,
        };
        let found = self.cluster.admission_list(kind);
        let well = found.is_some_and(|list| holds(list, &wanted));
        (!well).then_some(Repair { found, wanted })
    }

    /// Fits the mirror after registrations changed or time passed, and sends the planner the
    /// registrations that changed by that or by what was `seen` of the mirror.
    pub(super) fn refresh_mirror(&mut self, seen: bool, out: &mut Vec<Delta>) {
        if !self.warm || !(self.mirror.fit(&self.cluster, self.now) || seen) {
            return;
        }
        let differing: Vec<Name> = self
            .emitted
            .registrations
            .iter()
            .filter(|(name, view)| view.mirrored != self.mirror.state_of(name, &self.cluster))
            .map(|(name, _)| name.clone())
            .collect();
        for name in differing {
            self.emit_registration(&name, out);
        }
        self.mirror.changed = false;
    }
}

/// Returns the entry of a registration, with its creation; `None` if it grants nothing.
pub(super) fn entry(
    registration: &Registration,
    approval: Approval,
    now: Timestamp,
) -> Option<(Timestamp, String)> {
    let spec = &registration.spec;
    let until = timestamp(&spec.valid_until);
    if approval != Approval::Approved || until <= now {
        return None;
    }
    let created = registration.metadata.creation_timestamp.as_ref();
    let from = timestamp(&spec.valid_from);
    Some((
        created.map_or(Timestamp(0), timestamp),
        format!("{} {from} {until}", spec.activity_class),
    ))
}

fn class_entries(cluster: &Cluster) -> BTreeMap<String, String> {
    let classes: BTreeMap<&Name, &Arc<ActivityClass>> = cluster.classes().collect();
    let mut entries = BTreeMap::new();
    let mut size = 0;
    for (name, class) in classes {
        // It would be read as another class's images.
        if name.ends_with(IMAGES) {
            continue;
        }
        let spec = &class.spec;
        let value = format!("{} {}", spec.assignment, spec.registration);
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

fn holds(list: &AdmissionList, wanted: &BTreeMap<String, String>) -> bool {
    list.entries.len() == wanted.len()
        && list
            .entries
            .iter()
            .all(|(key, value)| wanted.get(&**key).is_some_and(|of| **of == **value))
}

fn entry_key(name: &str) -> String {
    let (namespace, name) = parts(name);
    format!("{namespace}.{name}")
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
}
