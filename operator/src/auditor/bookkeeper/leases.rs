//! Leases: pods that hold GPUs, their ends, and their work.

use daylight_base::{Name, Timestamp};
use daylight_cluster::slim::{Phase, Pod};
use daylight_cluster::{Changed, timestamp};
use daylight_crds::LeaseRecord;
use daylight_meter::{Account, Facts, Moment, ObjectKind, ObservedLease};

use super::Bookkeeper;
use crate::api_requests::ApiRequest;
use crate::auditor::agents::{Agent, AgentReport};
use crate::auditor::work;

impl Bookkeeper {
    pub(super) fn pods_changed(&mut self, changed: &[Changed<Pod>], now: Timestamp) {
        // A deletion changes a pod twice: to its last state, and to none. Only the last change of a
        // pod counts; it holds the state in which the pod was last observed.
        for (at, Changed { key, before }) in changed.iter().enumerate() {
            if changed[at + 1..].iter().any(|later| later.key == *key) {
                continue;
            }
            match (self.cluster.pod(key).cloned(), before) {
                (Some(pod), _) => self.observe_pod(&pod, now),
                (None, Some(last)) => self.observe_pod(last, now),
                (None, None) => {}
            }
        }
    }

    pub(super) fn observe_pod(&mut self, pod: &Pod, now: Timestamp) {
        let exists = self.cluster.pod(&pod.key).is_some_and(|known| known.uid == pod.uid);
        let Some(lease) = self.lease(pod, now) else { return };
        let uid = lease.uid.clone();
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
                    let ended = Moment::in_second(at, now);
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

    /// Returns the requests that set the work of miners in their statuses.
    pub(in crate::auditor) fn miner_statuses(&mut self) -> Vec<ApiRequest> {
        let miners = self.cluster.miners().map(|(key, miner)| (key, &**miner));
        self.miners_work.statuses(miners)
    }

    /// Returns the lease of a pod that is bound and requests GPUs.
    fn lease(&self, pod: &Pod, now: Timestamp) -> Option<ObservedLease> {
        let node = pod.node.clone()?;
        let (_, gpus) = self.gpus(&pod.requests.extended)?;
        let bound = pod.bound_at.or(pod.started_at).unwrap_or(pod.created);
        let second = |at: Timestamp| Moment::in_second(at, now);
        Some(ObservedLease {
            uid: Name::from(&*pod.uid),
            pod: pod.key.clone(),
            node,
            gpus,
            account: self.account(
                self.cluster.class_of(pod),
                pod.registration.clone(),
                pod.namespace(),
            ),
            watts: pod.lease.as_ref().map_or(0, |lease| lease.watts),
            bound: second(bound),
            started: pod.started_at.map(second),
            owed: pod.metered,
        })
    }

    /// Returns the account of a pod with these labels.
    ///
    /// Any user may write any label where admission only audits. So what is on no list is one
    /// account: the books, which forget nothing, do not grow with the words that users make up.
    fn account(
        &self,
        class: Option<Name>,
        registration: Option<Name>,
        namespace: &str,
    ) -> Account {
        // What was deleted while the auditor was away was on the list when the pod began.
        let was_listed =
            |kind, name: &Name| self.meter.object_seen(kind, name).is_some();
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
            !pod.is_terminal() && (pod.registration.is_some() || self.cluster.class_of(pod).is_some())
        };
        let pods: Vec<Pod> = self.cluster.pods().filter(labelled).cloned().collect();
        for pod in &pods {
            self.observe_pod(pod, now);
        }
    }

    /// Takes the end of a lease that the controller recorded, since no auditor had.
    pub(in crate::auditor) fn take_record(&mut self, record: &LeaseRecord, now: Timestamp) {
        let spec = &record.spec;
        let namespace = record.metadata.namespace.as_deref().unwrap_or_default();
        let seen_ended = timestamp(&spec.seen_ended_at);
        let finished = spec.finished_at.as_ref().map(timestamp);
        let bound = spec.bound_at.as_ref().or(spec.started_at.as_ref()).map(timestamp);
        let bound = bound.unwrap_or(finished.unwrap_or(seen_ended));
        let ended = match finished {
            // The clocks of the node and the controller may differ.
            Some(at) => Moment::in_second(at, seen_ended.max(at)),
            None => Moment::between(bound, seen_ended),
        };
        let lease = ObservedLease {
            uid: Name::from(&*spec.pod_uid),
            pod: format!("{namespace}/{}", spec.pod).into(),
            node: Name::from(&*spec.node),
            gpus: spec.gpus,
            account: self.account(
                spec.activity_class.as_deref().map(Name::from),
                spec.registration.as_ref().map(|name| format!("{namespace}/{name}").into()),
                namespace,
            ),
            watts: spec.watts.unwrap_or_default(),
            bound: Moment::in_second(bound, now),
            started: spec.started_at.as_ref().map(|time| Moment::in_second(timestamp(time), now)),
            owed: true,
        };
        if let Some(pool) = &spec.pool {
            self.meter.was_of_pool(&lease.node, &Name::from(&**pool), now);
        }
        let message = spec.termination_message.as_deref();
        let image = spec.image.as_deref().unwrap_or_default();
        let work = message.and_then(|text| work::reported(text, image, &self.trusted_images));
        self.meter.ended(lease, ended, work, now);
    }

    /// Returns the pods that may be released, by key and UID: the journal has their end, or they
    /// never held GPUs.
    pub(in crate::auditor) fn releasable(
        &self,
        is_closed: impl Fn(&str) -> bool,
    ) -> Vec<(Name, Name)> {
        let unreleased = self.unreleased.pods(&self.cluster).into_iter();
        unreleased
            .filter(|(pod, _)| is_closed(&pod.uid) || !self.held_gpus(pod))
            .map(|(pod, _)| (pod.key.clone(), Name::from(&*pod.uid)))
            .collect()
    }

    fn held_gpus(&self, pod: &Pod) -> bool {
        pod.node.is_some() && self.gpus(&pod.requests.extended).is_some()
    }

    /// The UIDs of pods that have ended and still carry the auditor's finalizer.
    pub(in crate::auditor) fn unreleased(&self) -> impl Iterator<Item = Name> {
        self.unreleased.pods(&self.cluster).into_iter().map(|(pod, _)| Name::from(&*pod.uid))
    }
}
