//! The cluster in memory, kept current by watches.
//!
//! [`watch::start`] lists and watches every [`Kind`]; [`Cluster::apply`] applies each [`Event`]
//! and returns what it [`Touched`]. The cluster is synchronous and has no clock. It knows
//! Kubernetes objects, reduced to what Daylight uses ([`slim`]), and neither planner nor meter:
//! what an object means to them is derived by their owners from what was touched.

pub mod amounts;
mod event;
pub mod kinds;
pub mod names;
pub mod pod_requests;
pub mod quantity;
pub mod repetition;
pub mod selector;
pub mod slim;
pub mod store;
pub mod taints;
pub mod watch;
pub mod well_known;

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_crds::labels::UNLISTED;
use daylight_crds::{
    ActivityClass, AiJob, Assignment, GpuPool, Miner, RecordedJob, RecordedJobKind, Registration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use event::{Change, Round, WatchFailure};
pub use kinds::{Cluster, Event, Kind, Touched};
pub use store::Changed;

use slim::{AdmissionList, BatchJob, ConfigMap, Custom, Namespace, Node, Pod};

/// The reason for which a kind is not listed, or not kept current.
#[derive(Clone, Debug, PartialEq, Eq, strum::Display)]
pub enum Pending {
    #[strum(to_string = "the list is not complete yet")]
    Listing,
    #[strum(to_string = "its CustomResourceDefinition is not installed")]
    NotInstalled,
    #[strum(to_string = "the service account may not list and watch it")]
    Forbidden,
    #[strum(to_string = "the API server does not answer")]
    Silent,
    #[strum(to_string = "the list failed: {0}")]
    Failed(String),
}

macro_rules! custom {
    ($one:ident, $all:ident, $type:ty) => {
        /// Returns the object as last seen; `None` where it does not exist or cannot be read.
        pub fn $one(&self, key: &str) -> Option<&Arc<$type>> {
            self.$all.get(key)?.get()
        }

        /// Iterates over all objects of the kind that can be read, in no order.
        pub fn $all(&self) -> impl Iterator<Item = (&Name, &Arc<$type>)> {
            self.$all.iter().filter_map(|(key, object)| Some((key, object.get()?)))
        }
    };
}

impl Cluster {
    custom!(pool, pools, GpuPool);
    custom!(class, classes, ActivityClass);
    custom!(registration, registrations, Registration);
    custom!(miner, miners, Miner);
    custom!(ai_job, ai_jobs, AiJob);

    /// Returns a pod, in any phase.
    pub fn pod(&self, key: &str) -> Option<&Pod> {
        self.pods.get(key)
    }

    /// Iterates over all pods, in no order.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// Returns a node.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Iterates over all nodes, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Returns a namespace.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// Returns the `batch/v1` Job with this key, if its label names an `AIJob`.
    pub fn batch_job(&self, key: &str) -> Option<&BatchJob> {
        self.batch_jobs.get(key)
    }

    /// Returns the UID of an `AIJob`, if a pod belongs to it. Any user can set the label, so the chain of
    /// owners must lead from the pod through the Job to the `AIJob`.
    pub fn ai_job_of(&self, pod: &Pod, job: &str) -> Option<&str> {
        let owner = pod.owner.as_ref().filter(|owner| owner.is_job)?;
        let (batch_job, ai_job) = (self.batch_job(job)?, self.ai_jobs.get(job)?);
        (owner.uid == batch_job.uid && batch_job.owner == ai_job.uid).then_some(&*ai_job.uid)
    }

    /// Returns the job of a pod, in the pod's namespace: its `AIJob`, or a Job that none controls. The API
    /// server accepts any text for a pod's owner: what a record has no room for is no job.
    pub fn job_of(&self, pod: &Pod) -> Option<RecordedJob> {
        let ai_job = pod.ai_job.as_ref().and_then(|key| Some((key, self.ai_job_of(pod, key)?)));
        let (kind, name, uid) = if let Some((key, uid)) = ai_job {
            (RecordedJobKind::AIJob, names::parts(key).1, uid)
        } else {
            let owner = pod.owner.as_ref().filter(|owner| owner.is_job)?;
            (RecordedJobKind::Job, &*owner.name, &*owner.uid)
        };
        let fits = (1..=253).contains(&name.len()) && (1..=63).contains(&uid.len());
        fits.then(|| RecordedJob { kind, name: name.to_owned(), uid: uid.to_owned() })
    }

    /// Returns the `ConfigMap` of a kind that has one, such as the emergency stop.
    pub fn config_map(&self, kind: Kind) -> Option<&ConfigMap> {
        let store = match kind {
            Kind::EmergencyStop => &self.emergency_stop,
            Kind::AuthorityKeys => &self.authority_keys,
            _ => return None,
        };
        store.values().next()
    }

    /// Returns the list of a kind that admission policies read.
    pub fn admission_list(&self, kind: Kind) -> Option<&AdmissionList> {
        let store = match kind {
            Kind::RegistrationMirror => &self.registration_mirror,
            Kind::ClassMirror => &self.class_mirror,
            _ => return None,
        };
        store.values().next()
    }

    /// Returns the activity class that a pod declares, or else its namespace.
    pub fn class_of(&self, pod: &Pod) -> Option<Name> {
        pod.activity.clone().or_else(|| self.namespace(pod.namespace())?.activity.clone())
    }

    /// Returns `true` if there is no class of this name, or if it is prohibited.
    pub fn is_off_the_list(&self, class: &str) -> bool {
        match self.classes.get(class) {
            None => true,
            // Of one that cannot be read only the name is known, and that is on the list.
            Some(class) => {
                class.get().is_some_and(|class| class.spec.assignment == Assignment::None)
            }
        }
    }

    /// Returns the class to which work with this label is booked: [`UNLISTED`] if there is no class
    /// of this name, so that users cannot make up accounts.
    pub fn listed_class(&self, class: &Name) -> Name {
        if self.classes.get(class).is_some() { class.clone() } else { UNLISTED.into() }
    }

    /// Returns the registration to which work with this label is booked, as
    /// [`Self::listed_class`] does.
    pub fn listed_registration(&self, registration: &Name) -> Name {
        match self.registrations.get(registration) {
            Some(_) => registration.clone(),
            None => format!("{}/{UNLISTED}", names::parts(registration).0).into(),
        }
    }

    /// Returns `true` once every watch has listed its kind.
    pub fn is_complete(&self) -> bool {
        self.is_fresh(Round::default())
    }

    /// Returns `true` once every list that [`watch::Watches::relist`] requested in this round is
    /// complete.
    pub fn is_fresh(&self, round: Round) -> bool {
        Kind::ALL.iter().all(|kind| {
            let (listed, failure) = self.watch_state(*kind);
            listed.is_some_and(|listed| listed >= round) || kind.is_optional() && failure.is_some()
        })
    }

    /// Returns the kinds that are not listed or not kept current, with the reason for each.
    pub fn pending(&self) -> Vec<(Kind, Pending)> {
        Kind::ALL.iter().filter_map(|kind| Some((*kind, self.pending_of(*kind)?))).collect()
    }

    fn pending_of(&self, kind: Kind) -> Option<Pending> {
        Some(match self.watch_state(kind) {
            (_, Some(_)) if kind.is_optional() => return None,
            (_, Some(WatchFailure::Missing)) => Pending::NotInstalled,
            (_, Some(WatchFailure::Forbidden)) => Pending::Forbidden,
            (None, Some(WatchFailure::Silent)) => Pending::Silent,
            (None, Some(WatchFailure::Other(error))) => Pending::Failed(error.clone()),
            (None, None) => Pending::Listing,
            // A lost connection resumes where it was interrupted; the objects remain valid.
            (Some(_), Some(WatchFailure::Silent | WatchFailure::Other(_)) | None) => return None,
        })
    }

    /// Returns the kinds of which changes may be missing: those whose watch failed or was silent,
    /// and those that are being listed. Optional kinds only explain, so nothing depends on them.
    pub fn stale(&self) -> impl Iterator<Item = Kind> {
        let kinds = Kind::ALL.iter().copied().filter(|kind| !kind.is_optional());
        kinds.filter(|kind| !self.is_reported(*kind))
    }

    /// Returns the failure that interrupts the watch of a kind.
    pub fn watch_failure(&self, kind: Kind) -> Option<&WatchFailure> {
        self.watch_state(kind).1
    }
}

/// Converts a time in a Kubernetes object.
pub fn timestamp(time: &Time) -> Timestamp {
    Timestamp(time.0.as_millisecond())
}

/// Returns the keys of a store, sorted: the same cluster always yields the same order.
pub fn keys<T: store::Stored>(store: &store::Store<T>) -> Vec<Name> {
    let mut keys: Vec<Name> = store.iter().map(|(key, _)| key.clone()).collect();
    keys.sort_unstable();
    keys
}

/// Returns `true` if two states of an object differ in their status alone.
pub fn same_spec<K, S: PartialEq>(
    before: Option<&Custom<K>>,
    after: Option<&Custom<K>>,
    spec: impl Fn(&K) -> &S,
) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    before.uid == after.uid
        && before.deleting == after.deleting
        && match (&before.object, &after.object) {
            (Ok(before), Ok(after)) => spec(before) == spec(after),
            (Err(before), Err(after)) => before == after,
            _ => false,
        }
}
