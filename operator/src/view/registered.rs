//! Pods that run under registrations, miners' and others.

use std::collections::BTreeSet;

use daylight_base::Name;
use daylight_cluster::slim::Pod;
use rustc_hash::FxHashMap;

use super::View;

/// The pods that have a node, have not ended, and name a registration, whether it exists or not.
#[derive(Debug, Default)]
pub(super) struct RegisteredPods {
    under: FxHashMap<Name, Under>,
    of_pods: FxHashMap<Name, Entry>,
}

/// The pods under one registration.
#[derive(Debug, Default)]
struct Under {
    /// Number of miners' pods.
    leases: u32,
    /// The pods that tenants created.
    own: BTreeSet<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    registration: Name,
    is_lease: bool,
}

/// The pods that run under a registration, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisteredWork {
    /// All pods, miners' included.
    pub replicas: u32,
    /// Watts that the registration declares for those without GPUs.
    pub declared_watts: u64,
}

impl RegisteredPods {
    fn note(&mut self, key: &Name, pod: Option<&Pod>) {
        let entry = pod.and_then(|pod| {
            let counts = pod.place().is_some() && !pod.is_terminal();
            let registration = pod.registration.clone().filter(|_| counts)?;
            Some(Entry { registration, is_lease: pod.lease.is_some() })
        });
        if self.of_pods.get(key) == entry.as_ref() {
            return;
        }
        if let Some(Entry { registration, is_lease }) = self.of_pods.remove(key)
            && let Some(under) = self.under.get_mut(&registration)
        {
            if is_lease {
                under.leases -= 1;
            } else {
                under.own.remove(key);
            }
            if under.leases == 0 && under.own.is_empty() {
                self.under.remove(&registration);
            }
        }
        if let Some(entry) = entry {
            let under = self.under.entry(entry.registration.clone()).or_default();
            if entry.is_lease {
                under.leases += 1;
            } else {
                under.own.insert(key.clone());
            }
            self.of_pods.insert(key.clone(), entry);
        }
    }
}

impl View {
    /// Counts a pod again under the registration that it names.
    pub(super) fn note_registered(&mut self, key: &Name) {
        self.registered.note(key, self.cluster.pod(key));
    }

    /// Returns the pods that tenants run under a registration themselves, sorted by key.
    pub fn own_pods_under(&self, registration: &str) -> impl Iterator<Item = &Pod> {
        let own = self.registered.under.get(registration).map(|under| &under.own);
        own.into_iter().flatten().filter_map(|key| self.cluster.pod(key))
    }

    /// Counts the pods that run under a registration.
    pub fn registered_work(&self, registration: &str) -> RegisteredWork {
        let Some(under) = self.registered.under.get(registration) else {
            return RegisteredWork::default();
        };
        let object = self.cluster.registration(registration);
        let watts = object.and_then(|object| object.spec.watts_per_replica).unwrap_or_default();
        let without_gpus = self.own_pods_under(registration);
        let without_gpus = without_gpus.filter(|pod| self.gpus_of(pod).is_none()).count() as u64;
        let own = u32::try_from(under.own.len()).unwrap_or(u32::MAX);
        RegisteredWork {
            replicas: under.leases.saturating_add(own),
            declared_watts: u64::from(watts).saturating_mul(without_gpus),
        }
    }
}
