//! The objects of one kind as the API server has them, kept in order.
//!
//! Three sources tell of an object: the watch, the lists after a break of the
//! watch, and the answers to Daylight's own writes, which are known before the
//! watch shows them. The store takes each only if it is not older than what it
//! has. Resource versions are compared as numbers: Kubernetes promises that
//! since 1.35 and etcd has always had it so. A version that is no number counts
//! as 0, and is then taken in the order of arrival.

use std::time::Duration;

use daylight_base::{Name, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::names::Names;
use crate::{Change, Round, WatchFailure};

/// How long an assumption stands that the watch neither confirms nor passes.
pub const ASSUMED_FOR: Duration = Duration::from_mins(2);

/// What a store must know of an object.
pub trait Stored {
    /// `namespace/name`, or the name of a cluster-scoped object.
    fn key(&self) -> &Name;
    /// Its UID; empty for an object that is only about to be created.
    fn uid(&self) -> &str;
    /// Its resource version.
    fn version(&self) -> u64;
    /// Replaces the names that many objects repeat by the shared copies.
    fn share(&mut self, _: &mut Names) {}
}

/// Implements [`Stored`] for a type whose fields `uid` and `version` are these, and whose field of
/// the given name is the key.
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
    /// While a list arrives: what it has not shown yet.
    unseen: Option<FxHashSet<Name>>,
    /// Objects that the watch has not confirmed, and since when.
    assumed: FxHashMap<Name, Timestamp>,
    /// Everything up to this version was told by the watch.
    told: u64,
    listed: Option<Round>,
    failure: Option<WatchFailure>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            objects: FxHashMap::default(),
            unseen: None,
            assumed: FxHashMap::default(),
            told: 0,
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
    /// Takes in what the watch saw, and gives what changed.
    pub fn apply(&mut self, change: Change<T>) -> Vec<Changed<T>> {
        match change {
            Change::Listing => {
                self.unseen = Some(self.objects.keys().cloned().collect());
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
                let unseen = self.unseen.take().unwrap_or_default();
                let mut gone: Vec<_> = unseen
                    .into_iter()
                    .filter(|key| {
                        // Younger than the list, or not created yet: not the list's to judge.
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
                self.failure = None;
                let version = object.version();
                let mut touched = self.take(object);
                touched.extend(self.progress(version));
                touched
            }
            Change::Deleted(object) => {
                self.failure = None;
                let outdated = self.objects.get(object.key()).is_none_or(|known| {
                    known.version() > object.version()
                        || (known.uid() != object.uid() && self.assumed.contains_key(known.key()))
                });
                let mut touched = Vec::new();
                if outdated {
                    touched.extend(self.progress(object.version()));
                } else {
                    // The last state may tell more than what is known, such as how it ended.
                    let version = object.version();
                    let key = object.key().clone();
                    touched.extend(self.take(object));
                    touched.extend(self.remove(&key));
                    touched.extend(self.progress(version));
                }
                touched
            }
            Change::Progress(version) => {
                self.failure = None;
                self.progress(version)
            }
            Change::Failed(failure) => {
                self.failure = Some(failure);
                Vec::new()
            }
            Change::Resumed => {
                self.failure = None;
                Vec::new()
            }
        }
    }

    /// Takes in what the API server answered to a write.
    pub fn assume(&mut self, object: Box<T>, now: Timestamp) -> Vec<Changed<T>> {
        // The watch is past this version, so it has shown the object, or its end, already.
        if object.version() != 0 && object.version() <= self.told {
            return Vec::new();
        }
        let key = object.key().clone();
        let touched = self.take(object);
        if !touched.is_empty() {
            self.assumed.insert(key, now);
        }
        touched
    }

    /// Takes in an object that is about to be created, unless its name is taken.
    pub fn foresee(&mut self, object: Box<T>, now: Timestamp) -> Vec<Changed<T>> {
        if self.objects.contains_key(object.key()) {
            return Vec::new();
        }
        let key = object.key().clone();
        self.assumed.insert(key.clone(), now);
        self.objects.insert(key.clone(), object);
        vec![Changed { key, before: None }]
    }

    /// Takes back what was foreseen, unless the object exists by now.
    pub fn unforesee(&mut self, key: &str) -> Vec<Changed<T>> {
        match self.objects.get(key) {
            Some(object) if object.uid().is_empty() => self.remove(key).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Takes in that an object is gone, as an answer to a write said.
    pub fn assume_gone(&mut self, key: &str, uid: &str) -> Vec<Changed<T>> {
        match self.objects.get(key) {
            Some(object) if object.uid() == uid => self.remove(key).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Gives up the assumptions that nothing confirmed in time.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Changed<T>> {
        let mut late: Vec<Name> = self
            .assumed
            .iter()
            .filter(|(_, since)| now >= **since + ASSUMED_FOR)
            .map(|(key, _)| key.clone())
            .collect();
        late.sort_unstable();
        late.into_iter().filter_map(|key| self.remove(&key)).collect()
    }

    /// Forgets which objects were assumed too long ago, and keeps them: they
    /// existed when the server answered.
    pub fn settle(&mut self, now: Timestamp) {
        self.assumed.retain(|_, since| now < *since + ASSUMED_FOR);
    }

    /// When the first assumption expires.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.assumed.values().min().map(|since| *since + ASSUMED_FOR)
    }

    fn take(&mut self, object: Box<T>) -> Vec<Changed<T>> {
        let key = object.key().clone();
        if let Some(known) = self.objects.get(&key) {
            // A version that is no number is 0, and never counts as older.
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

    /// The watch has told everything up to `version`: what was assumed below it
    /// and not confirmed does not exist.
    fn progress(&mut self, version: u64) -> Vec<Changed<T>> {
        self.told = self.told.max(version);
        if self.assumed.is_empty() {
            return Vec::new();
        }
        let mut passed: Vec<Name> = self
            .assumed
            .keys()
            .filter(|key| {
                self.objects.get(*key).is_none_or(|object| {
                    !object.uid().is_empty()
                        && object.version() != 0
                        && object.version() < self.told
                })
            })
            .cloned()
            .collect();
        passed.sort_unstable();
        passed.into_iter().filter_map(|key| self.remove(&key)).collect()
    }

    /// The object of this key.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.objects.get(key).map(|object| &**object)
    }

    /// All objects, in no order.
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

    /// The latest round whose list is complete; `None` before the first list.
    pub fn listed(&self) -> Option<Round> {
        self.listed
    }

    /// The failure that interrupts the watch.
    pub fn failure(&self) -> Option<&WatchFailure> {
        self.failure.as_ref()
    }
}

/// Whether an object is younger than a list of this version.
fn is_newer<T: Stored>(object: &T, version: u64) -> bool {
    object.uid().is_empty() || object.version() > version
}
