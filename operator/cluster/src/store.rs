//! The objects of one kind as the API server has them, kept in order.
//!
//! Three sources report an object: the watch, a list after the watch was interrupted, and the
//! answers to Daylight's own writes, which arrive before the watch shows them. The store accepts a
//! state only if it is not older than the one it has. Resource versions are compared as numbers:
//! Kubernetes guarantees this from 1.35 on, and etcd has always numbered them in order. A version
//! that is not a number counts as 0, and such states are accepted in the order of arrival.

use std::time::Duration;

use daylight_base::{Name, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::names::Names;
use crate::{Change, Round, WatchFailure};

/// Time for which an object is foreseen that the server did not confirm: a request that was sent so
/// long ago has taken effect, or never will.
const FORESEEN_FOR: Duration = Duration::from_mins(2);

/// Time by which the picture of one API server may be behind that of another: several serve one
/// cluster, and the watch may be answered by another than the write.
const BEHIND: Duration = Duration::from_secs(5);

/// An object that a [`Store`] can hold.
pub trait Stored {
    /// `namespace/name`, or the name of a cluster-scoped object.
    fn key(&self) -> &Name;
    /// UID; empty for an object that is only about to be created.
    fn uid(&self) -> &str;
    /// Resource version; 0 if it is not a number.
    fn version(&self) -> u64;
    /// Replaces the names that many objects repeat by the shared copies.
    fn share(&mut self, _: &mut Names) {}
}

/// Implements [`Stored`] for a type with the fields `uid` and `version`, and with the key in the
/// given field.
macro_rules! stored {
    ($type:ty, $key:ident $(, $share:item)?) => {
        impl $crate::store::Stored for $type {
            fn key(&self) -> &daylight_base::Name {
                &self.$key
            }

            fn uid(&self) -> &str {
                &self.uid
            }

            fn version(&self) -> u64 {
                self.version
            }

            $($share)?
        }
    };
}

pub(crate) use stored;

/// Returns an object with the names in it replaced by the shared copies.
pub fn shared<T: Stored>(mut object: T, names: &mut Names) -> Box<T> {
    object.share(names);
    Box::new(object)
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Store<T> {
    objects: FxHashMap<Name, Box<T>>,
    /// While a list arrives, the objects that it has not contained yet.
    unseen: Option<FxHashSet<Name>>,
    /// Objects that the watch has not confirmed, with the time of the write. Each is in `objects`.
    assumed: FxHashMap<Name, Timestamp>,
    /// Objects that are gone according to an answer, though the watch has not reported it.
    gone: FxHashMap<Name, Gone>,
    /// Resource version up to which the watch has reported every change.
    observed_until: u64,
    /// Time before which the watch has reported every change, as its server states.
    reported_until: Option<Timestamp>,
    listed: Option<Round>,
    failure: Option<WatchFailure>,
}

/// An object that does not exist any more. What the watch still reports of it is older.
#[derive(Debug)]
struct Gone {
    uid: String,
    /// Whether a list began since, which cannot contain it.
    is_before_list: bool,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            objects: FxHashMap::default(),
            unseen: None,
            assumed: FxHashMap::default(),
            gone: FxHashMap::default(),
            observed_until: 0,
            reported_until: None,
            listed: None,
            failure: None,
        }
    }
}

/// A change of one object: its key and its former state.
#[derive(Debug)]
pub struct Changed<T> {
    pub key: Name,
    pub before: Option<Box<T>>,
}

impl<T: Stored> Store<T> {
    /// Applies an observation of the watch, and returns the objects that changed.
    pub fn apply(&mut self, change: Change<T>) -> Vec<Changed<T>> {
        match change {
            Change::Listing => {
                self.unseen = Some(self.objects.keys().cloned().collect());
                self.gone.values_mut().for_each(|gone| gone.is_before_list = true);
                Vec::new()
            }
            Change::Item(object) => {
                if let Some(unseen) = &mut self.unseen {
                    unseen.remove(object.key());
                }
                self.take(object)
            }
            Change::Listed { version, round } => {
                self.listed = Some(round);
                self.failure = None;
                self.gone.retain(|_, gone| !gone.is_before_list);
                let unseen = self.unseen.take().unwrap_or_default();
                let mut gone: Vec<_> = unseen
                    .into_iter()
                    .filter(|key| {
                        // A list proves nothing about an object that is newer than it, or that is
                        // only about to be created.
                        self.objects.get(key).is_some_and(|object| !is_newer(&**object, version))
                    })
                    .collect();
                gone.sort_unstable();
                let mut touched: Vec<_> =
                    gone.into_iter().filter_map(|key| self.remove(&key)).collect();
                touched.extend(self.progress(version));
                touched
            }
            Change::Applied(object) => {
                let version = object.version();
                let mut touched = self.take(object);
                touched.extend(self.progress(version));
                touched
            }
            Change::Deleted(object) => {
                if self.is_gone(&object) {
                    self.gone.remove(object.key());
                }
                // Names are used again, so the deletion may be that of a predecessor: the known
                // object has a newer version, or it was assumed under this name with another UID.
                // A known object with another UID that was not assumed is itself a predecessor,
                // whose own deletion was not reported: it is gone, too.
                let outdated = self.objects.get(object.key()).is_none_or(|known| {
                    known.version() > object.version()
                        || (known.uid() != object.uid() && self.assumed.contains_key(known.key()))
                });
                let mut touched = Vec::new();
                if outdated {
                    touched.extend(self.progress(object.version()));
                } else {
                    // The last state may contain more than the known one, such as the exit code of
                    // a container. It is applied first, so that it becomes `before` of the removal.
                    let version = object.version();
                    let key = object.key().clone();
                    touched.extend(self.take(object));
                    touched.extend(self.remove(&key));
                    touched.extend(self.progress(version));
                }
                touched
            }
            Change::Progress(version) => self.progress(version),
            Change::Current(_) => {
                self.failure = None;
                Vec::new()
            }
            Change::Failed(failure) => {
                self.failure = Some(failure);
                Vec::new()
            }
        }
    }

    /// Applies the API server's answer to a write.
    pub fn assume(&mut self, object: Box<T>, now: Timestamp) -> Vec<Changed<T>> {
        // The watch is past this version, so it has already shown the object, or its deletion. An
        // object that was deleted meanwhile would otherwise exist again.
        if object.version() != 0 && object.version() <= self.observed_until {
            return Vec::new();
        }
        let key = object.key().clone();
        let touched = self.take(object);
        if !touched.is_empty() {
            self.assumed.insert(key, now);
        }
        touched
    }

    /// Adds an object that is about to be created, unless its name is taken.
    pub fn foresee(&mut self, object: Box<T>, now: Timestamp) -> Vec<Changed<T>> {
        if self.objects.contains_key(object.key()) {
            return Vec::new();
        }
        let key = object.key().clone();
        self.assumed.insert(key.clone(), now);
        self.objects.insert(key.clone(), object);
        vec![Changed { key, before: None }]
    }

    /// Removes an object that was foreseen, unless it exists by now.
    pub fn unforesee(&mut self, key: &str) -> Vec<Changed<T>> {
        match self.objects.get(key) {
            Some(object) if object.uid().is_empty() => self.remove(key).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Removes an object that does not exist any more, according to the answer to a write.
    pub fn assume_gone(&mut self, key: &str, uid: &str) -> Vec<Changed<T>> {
        match self.objects.get(key) {
            Some(object) if object.uid() == uid => {
                let gone = Gone { uid: uid.to_owned(), is_before_list: false };
                self.gone.insert(object.key().clone(), gone);
                self.remove(key).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn is_gone(&self, object: &T) -> bool {
        self.gone.get(object.key()).is_some_and(|gone| gone.uid == object.uid())
    }

    /// Removes the objects that were foreseen so long before `reported_until` that the watch must
    /// have reported them by then. An object that the server confirmed stays until the watch or a
    /// list shows that it is gone: a silent watch proves nothing.
    pub fn expire(&mut self, reported_until: Timestamp) -> Vec<Changed<T>> {
        let unconfirmed = |key: &Name| self.objects.get(key).is_none_or(|it| it.uid().is_empty());
        let late = self
            .assumed
            .iter()
            .filter(|(key, since)| unconfirmed(key) && reported_until >= **since + FORESEEN_FOR);
        let mut late: Vec<Name> = late.map(|(key, _)| key.clone()).collect();
        late.sort_unstable();
        late.into_iter().filter_map(|key| self.remove(&key)).collect()
    }

    /// Notes that every change before this time has been reported, as the watch's server states.
    pub fn note_current(&mut self, reported_until: Timestamp) {
        self.reported_until = self.reported_until.max(Some(reported_until));
    }

    /// Returns `true` if the server of the watch states that nothing is missing, while a write that
    /// was answered before is: it is cut off from etcd, and serves what it had before.
    fn is_behind(&self) -> bool {
        let Some(reported_until) = self.reported_until else { return false };
        self.assumed.iter().any(|(key, since)| {
            *since + BEHIND <= reported_until
                && self.objects.get(key).is_some_and(|object| {
                    !object.uid().is_empty() && object.version() > self.observed_until
                })
        })
    }

    /// Moves the times that are remembered, because the clock was set: each stays equally long ago.
    pub fn move_times(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        for since in self.assumed.values_mut().chain(&mut self.reported_until) {
            *since = moved(*since);
        }
    }

    fn take(&mut self, object: Box<T>) -> Vec<Changed<T>> {
        if self.is_gone(&object) {
            return Vec::new();
        }
        let key = object.key().clone();
        if let Some(known) = self.objects.get(&key) {
            // A version that is not a number is 0, and never counts as older.
            if object.version() != 0 && object.version() < known.version() {
                return Vec::new();
            }
        }
        self.assumed.remove(&key);
        let before = self.objects.insert(key.clone(), object);
        vec![Changed { key, before }]
    }

    fn remove(&mut self, key: &str) -> Option<Changed<T>> {
        self.assumed.remove(key);
        let (key, before) = self.objects.remove_entry(key)?;
        Some(Changed { key, before: Some(before) })
    }

    /// Notes that the watch has reported every change up to `version`, and removes the objects that
    /// were assumed below it.
    ///
    /// The watch reports in the order of resource versions. An object that the server wrote at an
    /// earlier version was therefore reported before, and `take` ended its assumption. If the
    /// assumption is still there, the watch reported a deletion before the answer arrived, or the
    /// object does not match the selectors of the watch: for this store it does not exist.
    fn progress(&mut self, version: u64) -> Vec<Changed<T>> {
        self.observed_until = self.observed_until.max(version);
        let passed = self.assumed.keys().filter(|key| self.is_passed(key));
        let mut passed: Vec<Name> = passed.cloned().collect();
        passed.sort_unstable();
        let removed = passed.into_iter().filter_map(|key| self.remove(&key)).collect();
        debug_assert!(
            !self.assumed.keys().any(|key| self.is_passed(key)),
            "no assumption is older than version {}",
            self.observed_until
        );
        removed
    }

    /// Returns `true` if the watch is past the version at which an object was assumed. An object
    /// without a version to compare is never passed.
    fn is_passed(&self, key: &str) -> bool {
        self.objects.get(key).is_none_or(|object| {
            !object.uid().is_empty()
                && object.version() != 0
                && object.version() < self.observed_until
        })
    }

    /// Returns the object of this key.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.objects.get(key).map(|object| &**object)
    }

    /// Iterates over all objects and their keys, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &T)> {
        self.objects.iter().map(|(key, object)| (key, &**object))
    }

    /// Iterates over all objects, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.objects.values().map(|object| &**object)
    }

    /// Number of objects.
    #[allow(clippy::len_without_is_empty)] // a count for a gauge
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Returns `true` if the watch reports every change, as far as is known: it has listed, it has
    /// not failed since, it does not list again, and it lacks no change that another server confirmed.
    pub fn is_reported(&self) -> bool {
        self.listed.is_some()
            && self.failure.is_none()
            && self.unseen.is_none()
            && !self.is_behind()
    }

    /// The latest round whose list is complete; `None` before the first list.
    pub fn listed(&self) -> Option<Round> {
        self.listed
    }

    /// The failure that interrupts the watch.
    pub fn failure(&self) -> Option<&WatchFailure> {
        self.failure.as_ref()
    }
}

/// Returns `true` if an object is newer than a list of this version.
fn is_newer<T: Stored>(object: &T, version: u64) -> bool {
    object.uid().is_empty() || object.version() > version
}
