//! Leases: pods that are on record, their ends, and their work.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_cluster::names::key;
use daylight_cluster::slim::{ContainerImage, Phase, Pod};
use daylight_cluster::{Changed, timestamp};
use daylight_crds::{LeaseRecord, RecordedJob, RecordedJobKind};
use daylight_meter::{
    Account, Description, Facts, Image, JobKind, JobReference, MOST_IMAGES, Moment, ObjectKind,
    ObservedLease, PodOutcome, Program, Requested,
};
use rustc_hash::FxHashSet;

use super::Bookkeeper;
use crate::api_requests::ApiRequest;
use crate::auditor::agents::{Agent, AgentReport};
use crate::auditor::work;
use crate::view::authority::registration_of;

/// Longest time for which a lease is believed that no auditor has seen. A restored journal ends later
/// than that, unless the auditor was away for a month.
pub(super) const LONGEST_UNSEEN_MS: u64 = 31 * 24 * 3_600_000;

/// Most watts that are believed to be declared for one GPU, or for a pod without: several times what
/// any board draws.
const MOST_WATTS: u64 = 10_000;

fn believable_watts(watts: u64, gpus: u32) -> u64 {
    watts.min(MOST_WATTS * u64::from(gpus.max(1)))
}

/// Most that a pod on an unknown node is believed to request: several times what any machine has.
const MOST_MILLICORES: u64 = 10_000_000;
const MOST_MEMORY_MIB: u64 = 1 << 30;
/// Most storage that a pod is believed to claim.
const MOST_STORAGE_MIB: u64 = 1 << 40;
const MIB: u64 = 1 << 20;

/// Returns a job as entries name it.
fn job_reference(namespace: &str, job: &RecordedJob) -> JobReference {
    let kind = match job.kind {
        RecordedJobKind::AIJob => JobKind::AIJob,
        RecordedJobKind::Job => JobKind::Job,
    };
    let name = key(namespace, &job.name).into();
    JobReference { kind, name, uid: (&*job.uid).into() }
}

/// Returns how a pod ended; `None` while it runs.
fn outcome(pod: &Pod) -> Option<PodOutcome> {
    // A pod that is deleted after it ended keeps its outcome.
    let asked_at = pod.deletion.map(|by| {
        by.minus_millis(u64::try_from(pod.deletion_grace.as_millis()).unwrap_or(u64::MAX))
    });
    let was_asked = asked_at.is_some_and(|asked| pod.finished_at.is_none_or(|at| at >= asked));
    match pod.phase {
        Phase::Succeeded | Phase::Failed if pod.disrupted => Some(PodOutcome::Disrupted),
        Phase::Succeeded | Phase::Failed if was_asked => Some(PodOutcome::Deleted),
        Phase::Succeeded => Some(PodOutcome::Succeeded),
        Phase::Failed => Some(PodOutcome::Failed),
        Phase::Pending | Phase::Running => None,
    }
}

/// Whether a pod that is not in the books was on record before it was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// It was there, and what it was labelled with did not put it on record.
    NotOnRecord,
    Unknown,
}

impl Bookkeeper {
    pub(super) fn pods_changed(&mut self, changed: &[Changed<Pod>], now: Timestamp) {
        // A deletion changes a pod twice: to its last state, and to none. Only the last change of a
        // pod counts; it holds the state in which the pod was last observed.
        for (at, Changed { key, before }) in changed.iter().enumerate() {
            if changed[at + 1..].iter().any(|later| later.key == *key) {
                continue;
            }
            match (self.cluster.pod(key).cloned(), before) {
                (Some(pod), Some(before)) if before.uid == pod.uid && before.node == pod.node => {
                    let known = match self.is_on_record(before) {
                        true => Before::Unknown,
                        false => Before::NotOnRecord,
                    };
                    self.observe(&pod, known, now);
                }
                (Some(pod), _) => self.observe_pod(&pod, now),
                (None, Some(last)) => self.observe_pod(last, now),
                (None, None) => {}
            }
        }
    }

    pub(super) fn observe_pod(&mut self, pod: &Pod, now: Timestamp) {
        self.observe(pod, Before::Unknown, now);
    }

    /// Observes the pods of a namespace whose class has changed.
    pub(super) fn observe_namespace(&mut self, namespace: &str, now: Timestamp) {
        let within = |pod: &&Pod| pod.namespace() == namespace && !pod.is_terminal();
        let pods: Vec<Pod> = self.cluster.pods().filter(within).cloned().collect();
        for pod in &pods {
            self.observe(pod, Before::NotOnRecord, now);
        }
    }

    fn observe(&mut self, pod: &Pod, before: Before, now: Timestamp) {
        let exists = self.cluster.pod(&pod.key).is_some_and(|known| known.uid == pod.uid);
        let Some(mut lease) = self.lease(pod, now) else { return };
        if lease.gpus == 0 && !self.meter.holds(&lease.uid) {
            lease.bound = self.on_record_since(lease.bound, before, now);
        }
        let uid = lease.uid.clone();
        let (node, program) = (lease.node.clone(), self.program(pod));
        let description = self.description(pod);
        match self.agent(pod).filter(|_| exists) {
            Some(agent) => self.agents.insert(uid.clone(), agent),
            None => self.agents.remove(&uid),
        };
        if let Some(grant) = pod.lease.as_ref().filter(|_| pod.is_terminal() || !exists)
            && self.meter.holds(&uid)
        {
            self.miners_work.ended(&uid, &grant.miner, self.work_reported(pod), !exists);
        }
        if pod.is_terminal() {
            match pod.finished_at {
                Some(at) => {
                    // A node whose clock is ahead does not keep its GPUs for longer.
                    let ended = Moment::in_second(at.min(now), now);
                    self.meter.ended(lease, ended, self.work_reported(pod), now);
                }
                // It ended, and its status does not say when, as after its node was lost.
                None if self.meter.holds(&uid) => self.meter.vanish(&uid, now),
                // The books do not have it, but its finalizer waits for them.
                None if lease.owed => {
                    let ended = Moment::between(lease.bound.earliest, now);
                    self.meter.ended(lease, ended, None, now);
                }
                None => {}
            }
        } else if exists {
            self.meter.lease(lease, now);
        } else {
            self.meter.vanish(&uid, now);
        }
        if let Some(program) = program {
            self.meter.runs(&node, &uid, program);
        }
        self.meter.describe(&node, &uid, description);
    }

    /// Returns what a pod is part of, the images that it runs, and how it ended.
    fn description(&self, pod: &Pod) -> Description {
        let mut images: Vec<Image> = Vec::new();
        for image in &pod.images {
            let image = match image {
                ContainerImage::Digest(digest) => {
                    Image { digest: Some(digest.clone()), requested: None }
                }
                ContainerImage::Requested(image) => {
                    Image { digest: None, requested: Some(image.clone()) }
                }
            };
            if !images.contains(&image) {
                images.push(image);
            }
        }
        let more = images.len().saturating_sub(MOST_IMAGES);
        images.truncate(MOST_IMAGES);
        let job = self.cluster.job_of(pod).map(|job| job_reference(pod.namespace(), &job));
        let more_images = u32::try_from(more).unwrap_or(u32::MAX);
        Description { job, images, more_images, outcome: outcome(pod) }
    }

    /// Returns what a miner's pod runs, once the kubelet has reported it.
    fn program(&self, pod: &Pod) -> Option<Program> {
        let grant = pod.lease.as_ref().filter(|grant| !grant.image.is_empty())?;
        let miner = self.cluster.miner(&grant.miner);
        let endpoints = miner.map_or(&[][..], |miner| &miner.spec.pool_endpoints);
        Some(Program {
            image: grant.image.clone(),
            endpoints: endpoints.iter().map(|endpoint| Name::from(&**endpoint)).collect(),
        })
    }

    /// Returns the work in a pod's termination message.
    fn work_reported(&self, pod: &Pod) -> Option<Facts> {
        let ended = pod.work.as_ref()?;
        work::reported(&ended.message, &ended.image, &self.trusted_images)
    }

    /// Returns a pod's agent, if it runs and can be queried.
    fn agent(&self, pod: &Pod) -> Option<Agent> {
        let grant = pod.lease.as_ref().filter(|_| pod.phase == Phase::Running)?;
        let trusted = work::is_trusted(&grant.image, &self.trusted_images);
        let miner = self.cluster.miner(&grant.miner);
        let declared =
            miner.is_some_and(|miner| miner.spec.agent == daylight_crds::Agent::Daylight);
        let ip = grant.ip.filter(|_| trusted || declared)?;
        Some(Agent { miner: grant.miner.clone(), ip, trusted })
    }

    /// Takes the report of an agent.
    pub(in crate::auditor) fn agent_reported(&mut self, uid: &Name, mut report: AgentReport) {
        let Some(agent) = self.agents.get(uid) else { return };
        report.work.seen &= agent.trusted;
        self.meter.worked(uid, report.work);
        self.miners_work.reported(uid, &agent.miner, report);
    }

    /// Counts the replicas whose agents report that nothing is earned, by registration and reason.
    pub(in crate::auditor) fn agents_not_ready(&self) -> BTreeMap<(Name, String), u32> {
        let mut replicas = BTreeMap::new();
        for (key, reason) in self.miners_work.not_ready() {
            let Some(miner) = self.cluster.miner(key) else { continue };
            let named = registration_of(key, &miner.spec.registration);
            let registration = self.cluster.listed_registration(&named.into());
            *replicas.entry((registration, reason)).or_default() += 1;
        }
        replicas
    }

    /// Returns the requests that set the work of miners in their statuses.
    pub(in crate::auditor) fn miner_statuses(&mut self) -> Vec<ApiRequest> {
        let miners = self.cluster.miners().map(|(key, miner)| (key, &**miner));
        self.miners_work.statuses(miners)
    }

    /// Returns whether a pod that requests no GPU is on record: it names a registration, or it or its
    /// namespace names a class. What names one that does not exist is on record, too, as `unlisted`,
    /// so that a word that is misspelt shows. All other pods of the cluster are nothing to the books.
    fn is_on_record(&self, pod: &Pod) -> bool {
        pod.registration.is_some()
            || self.cluster.class_of(pod).is_some()
            // Labels that are taken away do not end a lease.
            || self.meter.holds(&pod.uid)
    }

    /// Returns when a pod without GPUs that is not in the books was bound, as far as it was on record
    /// from then on: one that is labelled while it runs is on record from then on.
    fn on_record_since(&self, bound: Moment, before: Before, now: Timestamp) -> Moment {
        let books_until = self.meter.booked_until();
        let since = match before {
            _ if books_until == Timestamp(0) => now,
            Before::NotOnRecord => books_until,
            // The auditor before this one would have it.
            Before::Unknown => self.books_until,
        };
        if bound.latest >= since { bound } else { Moment::between(since, now) }
    }

    /// Returns the watts that the registration of a pod without GPUs declares for it.
    fn declared_watts(&self, pod: &Pod, gpus: u32) -> u64 {
        let registration = pod.registration.as_ref().filter(|_| gpus == 0);
        let registration = registration.and_then(|name| self.cluster.registration(name));
        registration.and_then(|it| it.spec.watts_per_replica).unwrap_or_default().into()
    }

    /// Returns what a pod requests, of which no more is believed than its node has.
    fn requested(&self, pod: &Pod, node: &str) -> Requested {
        let (cpu, memory) = self.cluster.node(node).map_or((u64::MAX, u64::MAX), |node| {
            (node.allocatable.cpu_milli, node.allocatable.memory.div_ceil(MIB))
        });
        let memory_mib = pod.requests.memory.div_ceil(MIB);
        let claims = pod
            .claims
            .iter()
            .filter_map(|claim| self.claims.get(&format!("{}/{claim}", pod.namespace())));
        let storage = claims.fold(0, |sum: u64, claim| sum.saturating_add(claim.bytes));
        Requested {
            millicores: pod.requests.cpu_milli.min(cpu).min(MOST_MILLICORES),
            memory_mib: memory_mib.min(memory).min(MOST_MEMORY_MIB),
            storage_mib: storage.div_ceil(MIB).min(MOST_STORAGE_MIB),
        }
    }

    /// Returns the lease of a pod that is bound, and requests GPUs or is on record without.
    fn lease(&self, pod: &Pod, now: Timestamp) -> Option<ObservedLease> {
        let node = pod.node.clone()?;
        // Any user may bind a pod to a node, whatever it requests: the kubelet then refuses it.
        let gpus = match self.gpus(&pod.requests.extended) {
            Some(gpus) => gpus.min(self.most_gpus(&node)),
            None if self.is_on_record(pod) => 0,
            None => return None,
        };
        let bound = pod.bound_at.or(pod.started_at).unwrap_or(pod.created);
        // The clock of a node or of the API server may be ahead.
        let second = |at: Timestamp| Moment::in_second(at.min(now), now);
        Some(ObservedLease {
            uid: Name::from(&*pod.uid),
            pod: pod.key.clone(),
            requested: self.requested(pod, &node),
            node,
            gpus,
            account: self.account(
                self.cluster.class_of(pod),
                pod.registration.clone(),
                pod.namespace(),
            ),
            watts: match &pod.lease {
                Some(lease) => believable_watts(lease.watts, gpus),
                None => self.declared_watts(pod, gpus),
            },
            bound: second(bound),
            started: pod.started_at.map(second),
            owed: pod.metered,
        })
    }

    /// Returns the account of a pod with these labels.
    ///
    /// Any user may write any label where admission only audits. So what is on no list is one
    /// account: the books, which forget nothing, do not grow with the words that users make up.
    fn account(&self, class: Option<Name>, registration: Option<Name>, namespace: &str) -> Account {
        // What was deleted while the auditor was away was on the list when the pod began.
        let was_listed = |kind, name: &Name| self.meter.object_seen(kind, name).is_some();
        let class = class.map(|class| match was_listed(ObjectKind::ActivityClass, &class) {
            true => class,
            false => self.cluster.listed_class(&class),
        });
        let registration = registration.map(|registration| {
            match was_listed(ObjectKind::Registration, &registration) {
                true => registration,
                false => self.cluster.listed_registration(&registration),
            }
        });
        Account { class, registration, namespace: namespace.into() }
    }

    /// Observes the pods with labels again after a class or a registration was added: in the moment
    /// in which a lease is not yet in the books, it may still be booked to it.
    pub(super) fn list_again(&mut self, now: Timestamp) {
        let labelled = |pod: &&Pod| {
            !pod.is_terminal()
                && (pod.registration.is_some() || self.cluster.class_of(pod).is_some())
        };
        let pods: Vec<Pod> = self.cluster.pods().filter(labelled).cloned().collect();
        for pod in &pods {
            self.observe_pod(pod, now);
        }
    }

    /// The UIDs of all pods in the watch.
    pub(in crate::auditor) fn pods_there(&self) -> FxHashSet<Name> {
        self.cluster.pods().map(|pod| Name::from(&*pod.uid)).collect()
    }

    /// Takes the end of a lease that the controller recorded, since no auditor had.
    ///
    /// The controller ends pods, and must not have the last word about what they used. So a record
    /// counts only for a pod that is in neither the watch, whose own end counts, nor in conflict with
    /// the books; and what it reports is cut to what this auditor cannot rule out.
    pub(in crate::auditor) fn take_record(
        &mut self,
        record: &LeaseRecord,
        pods_there: &FxHashSet<Name>,
        now: Timestamp,
    ) {
        let spec = &record.spec;
        let uid = Name::from(&*spec.pod_uid);
        if pods_there.contains(&uid) {
            return;
        }
        let namespace = record.metadata.namespace.as_deref().unwrap_or_default();
        let pod = Name::from(format!("{namespace}/{}", spec.pod));
        if self.meter.pod_of(&uid).is_some_and(|known| *known != pod) {
            return;
        }
        let recorded = record.metadata.creation_timestamp.as_ref().map_or(now, timestamp).min(now);
        let seen_ended = timestamp(&spec.seen_ended_at).min(recorded.plus_millis(999)).min(now);
        // Had the pod been bound earlier, this auditor or the one before it would have its lease.
        let first = self.books_until.max(recorded.minus_millis(LONGEST_UNSEEN_MS));
        let within = |at: Timestamp| at.max(first).min(seen_ended);
        let finished = spec.finished_at.as_ref().map(timestamp);
        let bound = spec.bound_at.as_ref().or(spec.started_at.as_ref()).map(timestamp);
        let bound = within(bound.unwrap_or(finished.unwrap_or(seen_ended)));
        let ended = match finished {
            Some(at) => Moment::in_second(within(at).max(bound), seen_ended),
            None => Moment::between(bound, seen_ended),
        };
        let node = Name::from(&*spec.node);
        let gpus = spec.gpus.min(self.most_gpus(&node));
        let lease = ObservedLease {
            uid,
            pod,
            account: self.account(
                spec.activity_class.as_deref().map(Name::from),
                spec.registration.as_ref().map(|name| format!("{namespace}/{name}").into()),
                namespace,
            ),
            watts: believable_watts(spec.watts.unwrap_or_default(), gpus),
            gpus,
            // No record has it; of a lease that this auditor has seen the books have it.
            requested: Requested::default(),
            bound: Moment::in_second(bound, seen_ended),
            started: spec
                .started_at
                .as_ref()
                .map(|time| Moment::in_second(within(timestamp(time)), seen_ended)),
            owed: true,
            node,
        };
        let pool = spec.pool.as_deref().map(Name::from);
        let is_pool = |pool: &Name| {
            self.cluster.pools.get(pool).is_some()
                || self.meter.object_seen(ObjectKind::GpuPool, pool).is_some()
        };
        if let Some(pool) = pool.filter(is_pool) {
            self.meter.was_of_pool(&lease.node, &pool, now);
        }
        let message = spec.termination_message.as_deref();
        let image = spec.image.as_deref().unwrap_or_default();
        let work = message.and_then(|text| work::reported(text, image, &self.trusted_images));
        let (node, uid) = (lease.node.clone(), lease.uid.clone());
        self.meter.ended(lease, ended, work, now);
        if !image.is_empty() {
            self.meter.runs(&node, &uid, Program { image: image.into(), endpoints: Vec::new() });
        }
        if let Some(job) = &spec.job {
            let job = Some(job_reference(namespace, job));
            let seen = Description { job, ..Description::default() };
            self.meter.describe(&node, &uid, seen);
        }
    }

    /// Returns the pods that may be released, by key and UID: the journal has their end, or they
    /// never were leases.
    pub(in crate::auditor) fn releasable(
        &self,
        is_closed: impl Fn(&str) -> bool,
    ) -> Vec<(Name, Name)> {
        let unreleased = self.unreleased.pods(&self.cluster).into_iter();
        unreleased
            .filter(|(pod, _)| is_closed(&pod.uid) || !self.was_lease(pod))
            .map(|(pod, _)| (pod.key.clone(), Name::from(&*pod.uid)))
            .collect()
    }

    fn was_lease(&self, pod: &Pod) -> bool {
        pod.node.is_some()
            && (self.gpus(&pod.requests.extended).is_some() || self.is_on_record(pod))
    }

    /// The UIDs of pods that have ended and still carry the auditor's finalizer.
    pub(in crate::auditor) fn unreleased(&self) -> impl Iterator<Item = Name> {
        self.unreleased.pods(&self.cluster).into_iter().map(|(pod, _)| Name::from(&*pod.uid))
    }
}
