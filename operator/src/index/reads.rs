//! What the controller reads from the picture.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_crds::{ActivityClass, AiJob, GpuPool, Miner, Registration};
use daylight_planner::model;
use daylight_planner::model::EmergencyStop;
use rustc_hash::FxHashMap;

use super::event::{Kind, Round, Trouble};
use super::slim::{BatchJob, Namespace, Node, Pod};
use super::store::{Store, Stored};
use super::{Index, keys, names};

/// A miner's pod that has to be removed.
#[derive(Clone, Copy, Debug)]
pub struct Leftover<'a> {
    pub pod: &'a Pod,
    pub why: Why,
}

/// Why a miner's pod has to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    Ended,
    /// It was not bound in time, or its node did not prepare it.
    Late,
    /// Its container cannot be started.
    NeverStarts,
}

/// GPUs held by pods of a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assigned {
    /// The pool that has them.
    pub pool: Name,
    /// The class, if one is declared.
    pub class: Option<Name>,
    /// `namespace/name` of the registration that the pods name.
    pub registration: Option<Name>,
    pub namespace: String,
}

macro_rules! read {
    ($one:ident, $all:ident, $store:ident, $type:ty) => {
        /// The object as it was last seen; `None` where it does not exist or cannot be read.
        pub fn $one(&self, key: &str) -> Option<&Arc<$type>> {
            self.$store.get(key)?.get()
        }

        /// All of them with their keys, in no order.
        pub fn $all(&self) -> impl Iterator<Item = (&Name, &Arc<$type>)> {
            self.$store.iter().filter_map(|(key, object)| Some((key, object.get()?)))
        }
    };
}

impl Index {
    read!(pool, pools, pools, GpuPool);
    read!(class, classes, classes, ActivityClass);
    read!(registration, registrations, registrations, Registration);
    read!(miner, miners, miners, Miner);
    read!(ai_job, ai_jobs, ai_jobs, AiJob);

    /// A registration as the planner was told it: whether its approval holds, and what is wrong
    /// with it. Of one that is being deleted there is nothing to tell.
    pub fn found(&self, registration: &str) -> Option<&model::Registration> {
        self.given.registrations.get(registration)
    }

    /// A pod, in any phase.
    pub fn pod(&self, key: &str) -> Option<&Pod> {
        self.pods.get(key)
    }

    /// All pods, in no order.
    pub fn all_pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().map(|(_, pod)| pod)
    }

    /// A node.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All nodes, in no order.
    pub fn all_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().map(|(_, node)| node)
    }

    /// A namespace.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// The Job of `batch/v1` with this key, if its label says that it is of an `AIJob`.
    pub fn batch_job(&self, key: &str) -> Option<&BatchJob> {
        self.batch_jobs.get(key)
    }

    /// All of them, in no order.
    pub fn batch_jobs(&self) -> impl Iterator<Item = &BatchJob> {
        self.batch_jobs.iter().map(|(_, job)| job)
    }

    /// The pods that name an `AIJob` in their label, sorted by key.
    pub fn pods_of_job(&self, job: &str) -> Vec<&Pod> {
        let mut pods: Vec<&Pod> = self
            .workers
            .get(job)
            .into_iter()
            .flatten()
            .filter_map(|key| self.pods.get(key))
            .collect();
        pods.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        pods
    }

    /// What is wrong with an object that its schema could not see, in one sentence.
    pub fn problem(&self, kind: Kind, key: &str) -> Option<&str> {
        let name = Name::from(key);
        self.problems.get(&(kind, name)).map(|problem| &**problem)
    }

    /// All such objects, sorted: what is wrong, and with which.
    pub fn all_problems(&self) -> Vec<(Kind, &str, &str)> {
        let mut all: Vec<_> = self
            .problems
            .iter()
            .map(|((kind, key), problem)| (*kind, &**key, &**problem))
            .collect();
        all.sort_unstable();
        all
    }

    pub(super) fn set_problem(&mut self, kind: Kind, key: &Name, problem: Option<Arc<str>>) {
        let at = (kind, key.clone());
        match problem {
            Some(problem) => self.problems.insert(at, problem),
            None => self.problems.remove(&at),
        };
    }

    /// The revision of a miner, to be written on its pods.
    pub fn revision(&self, miner: &str) -> Option<u64> {
        self.given.miners.get(miner).map(|miner| miner.revision)
    }

    /// The epoch for the next pod in a slot: above that of every pod that this
    /// process has seen there, whatever became of it.
    pub fn next_epoch(&self, node: &str, slot: u32) -> u32 {
        self.epochs.get(&(Name::from(node), slot)).map_or(0, |highest| highest + 1)
    }

    /// The miners' pods that have to be removed, sorted by key.
    pub fn leftovers(&self) -> Vec<Leftover<'_>> {
        let mut all: Vec<_> = self
            .leftovers
            .iter()
            .filter_map(|(key, why)| Some(Leftover { pod: self.pods.get(key)?, why: *why }))
            .collect();
        all.sort_unstable_by(|one, other| one.pod.key.cmp(&other.pod.key));
        all
    }

    /// The pods that have ended and that the auditor has not let go, sorted by key, and since when
    /// that is known.
    pub fn unreleased(&self) -> Vec<(&Pod, Timestamp)> {
        let mut all: Vec<_> = self
            .unreleased
            .iter()
            .filter_map(|(key, since)| Some((self.pods.get(key)?, *since)))
            .collect();
        all.sort_unstable_by(|one, other| one.0.key.cmp(&other.0.key));
        all
    }

    /// The GPUs that a pod asks for, by resource, as far as a pool names it.
    pub fn gpus_of(&self, pod: &Pod) -> Option<(Name, u32)> {
        let mut asked = pod.requests.extended.iter();
        asked.find(|(resource, _)| self.resources.contains(resource)).cloned()
    }

    /// The emergency stop in force.
    pub fn emergency_stop(&self) -> Option<&EmergencyStop> {
        self.given.stop()
    }

    /// GPUs held on nodes, by pool, class, registration and namespace.
    pub fn assigned(&self) -> FxHashMap<Assigned, u32> {
        let mut sums = FxHashMap::default();
        for pod in self.given.pods.values() {
            let Some(node) = &pod.node else { continue };
            let known = self.pods.get(&pod.key);
            for (resource, count) in &pod.gpus {
                let Some(pool) = self.pool_of(node, resource) else {
                    continue;
                };
                let assigned = Assigned {
                    pool: pool.clone(),
                    class: known.and_then(|known| self.class_of(known)),
                    registration: known.and_then(|known| known.registration.clone()),
                    namespace: names::parts(&pod.key).0.to_owned(),
                };
                *sums.entry(assigned).or_insert(0) += count;
            }
        }
        sums
    }

    /// What happened since the last call, for metrics and events.
    pub fn take_seen(&mut self) -> Vec<super::Seen> {
        std::mem::take(&mut self.seen)
    }

    /// Whether every list that [`watch::Watches::relist`](super::watch::Watches::relist)
    /// asked for in this round is in.
    pub fn is_fresh(&self, round: Round) -> bool {
        self.rounds().all(|listed| listed.is_some_and(|listed| listed >= round))
    }

    /// Why the picture is not complete or not kept up to date: the kinds that are
    /// missing, and what is wrong with each.
    pub fn pending(&self) -> Vec<(Kind, String)> {
        Kind::ALL
            .into_iter()
            .filter_map(|kind| {
                let (listed, trouble) = self.watched(kind);
                let why = match (trouble, listed) {
                    (Some(Trouble::Missing), _) => {
                        "its CustomResourceDefinition is not installed".to_owned()
                    }
                    (Some(Trouble::Forbidden), _) => {
                        "the service account may not list and watch it".to_owned()
                    }
                    (Some(Trouble::Other(error)), None) => format!("the list failed: {error}"),
                    (None, None) => "the list is under way".to_owned(),
                    (Some(Trouble::Other(_)) | None, Some(_)) => return None,
                };
                Some((kind, why))
            })
            .collect()
    }

    /// What is wrong with the watch of a kind.
    pub fn trouble(&self, kind: Kind) -> Option<&Trouble> {
        self.watched(kind).1
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Pod => self.pods.len(),
            Kind::Node => self.nodes.len(),
            Kind::Namespace => self.namespaces.len(),
            Kind::BatchJob => self.batch_jobs.len(),
            Kind::GpuPool => self.pools.len(),
            Kind::ActivityClass => self.classes.len(),
            Kind::Registration => self.registrations.len(),
            Kind::Miner => self.miners.len(),
            Kind::AiJob => self.ai_jobs.len(),
            Kind::EmergencyStop => self.stops.len(),
            Kind::RegistrationMirror => self.registration_mirror.len(),
            Kind::ClassMirror => self.class_mirror.len(),
            Kind::AuthorityKeys => self.authority_keys.len(),
        }
    }

    /// The keys of all objects of a kind, sorted.
    pub fn keys(&self, kind: Kind) -> Vec<Name> {
        match kind {
            Kind::Pod => keys(&self.pods),
            Kind::Node => keys(&self.nodes),
            Kind::Namespace => keys(&self.namespaces),
            Kind::BatchJob => keys(&self.batch_jobs),
            Kind::GpuPool => keys(&self.pools),
            Kind::ActivityClass => keys(&self.classes),
            Kind::Registration => keys(&self.registrations),
            Kind::Miner => keys(&self.miners),
            Kind::AiJob => keys(&self.ai_jobs),
            Kind::EmergencyStop => keys(&self.stops),
            Kind::RegistrationMirror => keys(&self.registration_mirror),
            Kind::ClassMirror => keys(&self.class_mirror),
            Kind::AuthorityKeys => keys(&self.authority_keys),
        }
    }

    pub(super) fn rounds(&self) -> impl Iterator<Item = Option<Round>> {
        Kind::ALL.into_iter().map(|kind| self.watched(kind).0)
    }

    fn watched(&self, kind: Kind) -> (Option<Round>, Option<&Trouble>) {
        fn of<T: Stored>(store: &Store<T>) -> (Option<Round>, Option<&Trouble>) {
            (store.listed(), store.trouble())
        }
        match kind {
            Kind::Pod => of(&self.pods),
            Kind::Node => of(&self.nodes),
            Kind::Namespace => of(&self.namespaces),
            Kind::BatchJob => of(&self.batch_jobs),
            Kind::GpuPool => of(&self.pools),
            Kind::ActivityClass => of(&self.classes),
            Kind::Registration => of(&self.registrations),
            Kind::Miner => of(&self.miners),
            Kind::AiJob => of(&self.ai_jobs),
            Kind::EmergencyStop => of(&self.stops),
            Kind::RegistrationMirror => of(&self.registration_mirror),
            Kind::ClassMirror => of(&self.class_mirror),
            Kind::AuthorityKeys => of(&self.authority_keys),
        }
    }
}
