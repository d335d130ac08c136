//! Pods that run under registrations, miners' and others.

use std::collections::BTreeSet;

use daylight_base::Name;
use daylight_cluster::slim::Pod;
use daylight_crds::{OnLapse, Registration};
use rustc_hash::FxHashMap;
use serde_json::Value;

use super::View;

/// The pods that have a node, have not ended, and name a registration, whether it exists or not.
#[derive(Debug, Default)]
pub(super) struct RegisteredPods {
    under: FxHashMap<Name, Under>,
    of_pods: FxHashMap<Name, Entry>,
    /// What was approved for the pods of a registration that lapses. That of a deleted one is
    /// remembered until its last pod has ended.
    on_lapse: FxHashMap<Name, OnLapse>,
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

/// Returns what was approved for the pods of a registration that lapses; an edit that is not
/// approved changes nothing. `digest` is that of the registration as it is.
fn approved_on_lapse(registration: &Registration, digest: &str) -> OnLapse {
    let status = registration.status.as_ref();
    let Some(approval) = status.and_then(|status| status.approval.as_ref()) else {
        return OnLapse::Report;
    };
    if approval.spec_digest.as_deref() == Some(digest) {
        return registration.spec.on_lapse;
    }
    let content = approval.approved_content.as_deref();
    let content = content.and_then(|text| serde_json::from_str::<Value>(text).ok());
    content
        .and_then(|content| {
            serde_json::from_value(content["registration"]["spec"]["onLapse"].clone()).ok()
        })
        .unwrap_or_default()
}

impl View {
    /// Notes what was approved for the pods of a registration that lapses.
    pub(super) fn note_on_lapse(&mut self, key: &Name, registration: &Registration, digest: &str) {
        let on_lapse = approved_on_lapse(registration, digest);
        self.registered.on_lapse.insert(key.clone(), on_lapse);
    }

    /// Forgets what was approved for registrations that are gone, with all their pods.
    pub(super) fn forget_on_lapse(&mut self) {
        let Self { registered, cluster, .. } = self;
        let under = &registered.under;
        let is_known =
            |key: &Name| under.contains_key(key) || cluster.registrations.get(key).is_some();
        registered.on_lapse.retain(|key, _| is_known(key));
    }

    /// Returns what was approved for the pods of a registration that lapses. Of one that was deleted
    /// before this process started, nothing is known, and they are reported.
    pub fn on_lapse(&self, registration: &str) -> OnLapse {
        self.registered.on_lapse.get(registration).copied().unwrap_or_default()
    }

    /// Returns the registrations under which tenants run pods themselves, in no order. They may not
    /// exist.
    pub fn registrations_with_own_pods(&self) -> impl Iterator<Item = &Name> {
        let under = self.registered.under.iter();
        under.filter(|(_, under)| !under.own.is_empty()).map(|(registration, _)| registration)
    }

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
