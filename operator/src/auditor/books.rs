//! What the auditor knows: the picture of the cluster, the exporters, and the meter they feed.
//! Synchronous, without a clock.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_cluster::slim::{Phase, Pod};
use daylight_cluster::{Changed, Cluster, Event, Kind, Touched, timestamp};
use daylight_crds::LeaseRecord;
use daylight_meter::{
    Account, Facts, Meter, Moment, ObjectKind, ObservedDevice, ObservedLease, Reading,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::agents::Agent;
use super::exporter::scrape::Scraped;
use super::miners::{Miners, Says};
use super::work;
use crate::view::Unreleased;
use crate::view::authority::{Authority, Verdict};
use crate::view::image_pattern::matches_pattern;
use crate::view::pools::PoolMap;

/// How long a node's exporter is waited for before its devices are only counted.
const EXPORTER_WITHIN: u64 = 60_000;

/// The books and what they are kept from.
#[derive(Debug)]
pub struct Bookkeeper {
    pub cluster: Cluster,
    pub(super) pools: PoolMap,
    pub(super) authority: Authority,
    /// The auditor's own findings on registrations.
    pub(super) verdicts: FxHashMap<Name, Verdict>,
    unreleased: Unreleased,
    pub meter: Meter,
    /// Extended resources that are GPUs, beside those that pools name.
    resources: Vec<Name>,
    /// Images whose agents are believed to have seen a pool take shares, by patterns.
    agents: Vec<String>,
    /// Whether the installation names an exporter.
    has_exporter: bool,
    /// Agents that can be asked of their work, by their pods' UIDs.
    pub serving: FxHashMap<Name, Agent>,
    /// What agents say of their work, by miner.
    pub(super) miners: Miners,
    /// Devices by node, as exporters list them.
    read: FxHashMap<Name, Vec<ObservedDevice>>,
    /// The most devices that a node without an exporter offered.
    counted: FxHashMap<Name, u32>,
    /// What the meter was told of each node.
    told: FxHashMap<Name, Told>,
    warm_at: Option<Timestamp>,
}

/// What the installation says of the books.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Extended resources that are GPUs, beside those that pools name.
    pub resources: Vec<Name>,
    /// Images whose agents are believed to have seen a pool take shares, by patterns.
    pub agents: Vec<String>,
    /// Whether an exporter is named.
    pub has_exporter: bool,
    /// Whether approvals count only with the authority's signature.
    pub signature_required: bool,
}

/// A node as the meter was told of it: its pool, how many devices it offers, and which it has.
type Told = (Option<Name>, u32, Vec<ObservedDevice>);

impl Bookkeeper {
    /// Books that go on from what `meter` holds.
    pub fn new(meter: Meter, terms: Terms) -> Self {
        let Terms { resources, agents, has_exporter, signature_required } = terms;
        // Devices that the books know are not told anew until their exporter speaks again.
        let read = meter
            .nodes()
            .map(|node| (node.clone(), meter.devices_of(node)))
            .filter(|(node, devices)| devices.iter().any(|device| !is_counted(node, &device.id)))
            .collect();
        Self {
            cluster: Cluster::default(),
            pools: PoolMap::default(),
            authority: Authority::new(signature_required),
            verdicts: FxHashMap::default(),
            unreleased: Unreleased::default(),
            meter,
            resources,
            agents,
            has_exporter,
            serving: FxHashMap::default(),
            miners: Miners::default(),
            read,
            counted: FxHashMap::default(),
            told: FxHashMap::default(),
            warm_at: None,
        }
    }

    /// Whether everything was listed once.
    pub fn is_warm(&self) -> bool {
        self.warm_at.is_some()
    }

    /// Takes in what a watch saw.
    pub fn apply(&mut self, event: Event, now: Timestamp) {
        let listed = event.completes_list();
        let touched = self.cluster.apply(event);
        match &touched {
            Touched::Pod(changed) => {
                for Changed { key, .. } in changed {
                    self.unreleased.track(key, self.cluster.pod(key), now);
                }
            }
            Touched::GpuPool(_) => {
                self.pools.rebuild(&mut self.cluster);
            }
            Touched::AuthorityKeys(_) => self.authority.read_keys(&self.cluster),
            _ => {}
        }
        if self.warm_at.is_none() {
            return;
        }
        match touched {
            Touched::Pod(_) if listed => self.look_at_all(now),
            Touched::Pod(changed) => self.pods_changed(&changed, now),
            Touched::Node(_) if listed => self.look_at_nodes(now),
            Touched::Node(changed) => {
                for Changed { key, .. } in changed {
                    self.look_at_node(&key, now);
                }
            }
            Touched::Registration(changed) if !listed => {
                for Changed { key, .. } in changed {
                    self.look_at_object(ObjectKind::Registration, &key, now);
                }
            }
            Touched::ActivityClass(changed) if !listed => {
                if self.any_edited(ObjectKind::ActivityClass, &changed) {
                    self.look_at_register(now);
                }
            }
            Touched::GpuPool(changed) if !listed => {
                if self.any_edited(ObjectKind::GpuPool, &changed) {
                    self.look_at_register(now);
                    self.look_at_nodes(now);
                }
            }
            Touched::Registration(_)
            | Touched::ActivityClass(_)
            | Touched::GpuPool(_)
            | Touched::AuthorityKeys(_) => self.look_at_register(now),
            _ => {}
        }
    }

    fn any_edited<T>(&self, kind: ObjectKind, changed: &[Changed<T>]) -> bool {
        changed.iter().any(|changed| self.is_edited(kind, &changed.key))
    }

    /// Everything was listed: from now on it is booked.
    pub fn begin(&mut self, now: Timestamp) {
        self.warm_at = Some(now);
        self.look_at_register(now);
        self.look_at_all(now);
    }

    fn look_at_all(&mut self, now: Timestamp) {
        self.look_at_nodes(now);
        let pods: Vec<Pod> = self.cluster.pods().cloned().collect();
        for pod in &pods {
            self.look_at_pod(pod, now);
        }
        let present: FxHashSet<Name> = pods.iter().map(|pod| Name::from(&*pod.uid)).collect();
        self.meter.vanished(&present, now);
    }

    fn look_at_nodes(&mut self, now: Timestamp) {
        let known: FxHashSet<Name> = self.cluster.nodes().map(|node| node.name.clone()).collect();
        let gone: Vec<Name> =
            self.meter.nodes().filter(|node| !known.contains(*node)).cloned().collect();
        for name in known.into_iter().chain(gone) {
            self.look_at_node(&name, now);
        }
    }

    /// The GPUs of a list of extended resources, and the resource.
    fn gpus<'a>(&self, extended: &'a [(Name, u32)]) -> Option<(&'a Name, u32)> {
        let is_gpu = |resource: &Name| {
            self.resources.contains(resource) || self.pools.has_resource(resource)
        };
        extended
            .iter()
            .find(|(resource, count)| *count > 0 && is_gpu(resource))
            .map(|(resource, count)| (resource, *count))
    }

    fn look_at_node(&mut self, name: &Name, now: Timestamp) {
        let Some(node) = self.cluster.node(name) else {
            if self.told.remove(name).is_some() || self.meter.nodes().any(|node| node == name) {
                self.meter.node_gone(name, now);
            }
            self.read.remove(name);
            self.counted.remove(name);
            return;
        };
        let (boot, offered) = (node.boot.clone(), self.gpus(&node.allocatable.extended));
        let pool = offered
            .and_then(|(resource, _)| self.pools.pool_of(node, resource).cloned())
            .or_else(|| self.told.get(name).and_then(|told| told.0.clone()));
        let usable = offered.map_or(0, |(_, count)| count);
        let counted = self.counted.entry(name.clone()).or_default();
        *counted = usable.max(*counted);
        // Its exporter may still tell which devices they are.
        let waits = self.has_exporter
            && self.warm_at.is_none_or(|at| now.millis_since(at) < EXPORTER_WITHIN);
        let devices = match self.read.get(name).cloned() {
            Some(devices) => devices,
            None if waits => Vec::new(),
            None => count(name, *counted),
        };
        if devices.is_empty() && !self.told.contains_key(name) {
            return;
        }
        if let Some(boot) = boot {
            self.meter.boot(name, &boot, now);
        }
        let told = (pool, usable, devices);
        if self.told.get(name) != Some(&told) {
            self.meter.devices(name, told.0.as_ref(), told.1, &told.2, now);
            self.told.insert(name.clone(), told);
        }
    }

    fn pods_changed(&mut self, changed: &[Changed<Pod>], now: Timestamp) {
        // A deletion changes a pod twice: to its last state, and to none. The last change of a
        // pod holds the state in which it was seen last, and only that one counts.
        for (at, Changed { key, before }) in changed.iter().enumerate() {
            if changed[at + 1..].iter().any(|later| later.key == *key) {
                continue;
            }
            match (self.cluster.pod(key).cloned(), before) {
                (Some(pod), _) => self.look_at_pod(&pod, now),
                (None, Some(last)) => self.look_at_pod(last, now),
                (None, None) => {}
            }
        }
    }

    fn look_at_pod(&mut self, pod: &Pod, now: Timestamp) {
        let there = self.cluster.pod(&pod.key).is_some_and(|known| known.uid == pod.uid);
        let Some(seen) = self.seen(pod, now) else { return };
        let uid = seen.uid.clone();
        match self.agent(pod).filter(|_| there) {
            Some(agent) => self.serving.insert(uid.clone(), agent),
            None => self.serving.remove(&uid),
        };
        if let Some(lease) = pod.lease.as_ref().filter(|_| pod.is_terminal() || !there)
            && self.meter.holds(&uid)
        {
            self.miners.ended(&uid, &lease.miner, self.last_words(pod), !there);
        }
        if pod.is_terminal() {
            match pod.finished_at {
                Some(at) => {
                    let ended = Moment::in_second(at, now);
                    let facts = self.last_words(pod);
                    self.meter.ended(seen, ended, facts, now);
                }
                None if self.meter.holds(&uid) => self.meter.vanish(&uid, now),
                None if seen.owed => {
                    let ended = Moment::between(seen.bound.earliest, now);
                    self.meter.ended(seen, ended, None, now);
                }
                None => {}
            }
        } else if there {
            self.meter.lease(seen, now);
        } else {
            self.meter.vanish(&uid, now);
        }
    }

    /// What a pod said of its work as it ended.
    fn last_words(&self, pod: &Pod) -> Option<Facts> {
        let work = pod.work.as_ref()?;
        work::facts(&work.message, &work.image, &self.agents)
    }

    /// A pod's agent, if it runs and can be asked.
    fn agent(&self, pod: &Pod) -> Option<Agent> {
        let lease = pod.lease.as_ref().filter(|_| pod.phase == Phase::Running)?;
        let trusted = self.agents.iter().any(|pattern| matches_pattern(&lease.image, pattern));
        let miner = self.cluster.miner(&lease.miner);
        let told = miner.is_some_and(|miner| miner.spec.agent == daylight_crds::Agent::Daylight);
        let ip = lease.ip.filter(|_| trusted || told)?;
        Some(Agent { miner: lease.miner.clone(), ip, trusted })
    }

    /// An agent says how it is.
    pub(super) fn said(&mut self, uid: &Name, mut says: Says) {
        let Some(agent) = self.serving.get(uid) else { return };
        says.facts.seen &= agent.trusted;
        self.meter.worked(uid, says.facts);
        self.miners.said(uid, &agent.miner, says);
    }

    fn seen(&self, pod: &Pod, now: Timestamp) -> Option<ObservedLease> {
        let node = pod.node.clone()?;
        let (_, gpus) = self.gpus(&pod.requests.extended)?;
        let bound = pod.bound_at.or(pod.started_at).unwrap_or(pod.created);
        let second = |at: Timestamp| Moment::in_second(at, now);
        Some(ObservedLease {
            uid: Name::from(&*pod.uid),
            pod: pod.key.clone(),
            node,
            gpus,
            account: Account {
                class: self.cluster.class_of(pod),
                registration: pod.registration.clone(),
                namespace: pod.namespace().into(),
            },
            watts: pod.lease.as_ref().map_or(0, |lease| lease.watts),
            bound: second(bound),
            started: pod.started_at.map(second),
            owed: pod.metered,
        })
    }

    /// Takes in the end of a lease that the controller wrote down.
    pub fn record(&mut self, record: &LeaseRecord, now: Timestamp) {
        let spec = &record.spec;
        let namespace = record.metadata.namespace.as_deref().unwrap_or_default();
        let seen_ended = timestamp(&spec.seen_ended_at);
        let finished = spec.finished_at.as_ref().map(timestamp);
        let bound = spec.bound_at.as_ref().or(spec.started_at.as_ref()).map(timestamp);
        let bound = bound.unwrap_or(finished.unwrap_or(seen_ended));
        let ended = match finished {
            Some(at) => Moment::in_second(at, seen_ended.max(at)),
            None => Moment::between(bound, seen_ended),
        };
        let seen = ObservedLease {
            uid: Name::from(&*spec.pod_uid),
            pod: format!("{namespace}/{}", spec.pod).into(),
            node: Name::from(&*spec.node),
            gpus: spec.gpus,
            account: Account {
                class: spec.activity_class.as_deref().map(Name::from),
                registration: spec
                    .registration
                    .as_ref()
                    .map(|name| format!("{namespace}/{name}").into()),
                namespace: namespace.into(),
            },
            watts: spec.watts.unwrap_or_default(),
            bound: Moment::in_second(bound, now),
            started: spec.started_at.as_ref().map(|time| Moment::in_second(timestamp(time), now)),
            owed: true,
        };
        if let Some(pool) = &spec.pool {
            self.meter.was_of_pool(&seen.node, &Name::from(&**pool), now);
        }
        let message = spec.termination_message.as_deref();
        let facts = message.and_then(|message| {
            work::facts(message, spec.image.as_deref().unwrap_or_default(), &self.agents)
        });
        self.meter.ended(seen, ended, facts, now);
    }

    /// Takes in what an exporter said.
    pub fn scraped(&mut self, scraped: &Scraped, now: Timestamp) {
        let Ok(readings) = &scraped.devices else { return };
        let node = &scraped.node;
        if self.cluster.node(node).is_none() {
            return;
        }
        let devices: Vec<ObservedDevice> = readings
            .iter()
            .map(|reading| ObservedDevice {
                id: Name::from(&*reading.id),
                model: reading.model.as_deref().map(Name::from),
                limit_mw: reading.limit_mw,
            })
            .collect();
        if self.read.get(node) != Some(&devices) {
            self.read.insert(node.clone(), devices);
            self.look_at_node(node, now);
        }
        let readings: Vec<Reading> = readings
            .iter()
            .map(|reading| Reading {
                device: Name::from(&*reading.id),
                counter_mj: reading.energy_mj,
                power_mw: reading.power_mw,
                holder: reading
                    .holder
                    .as_ref()
                    .map(|(namespace, pod)| Arc::from(format!("{namespace}/{pod}"))),
            })
            .collect();
        let asked = Moment::between(scraped.asked, scraped.answered);
        self.meter.readings(node, asked, &readings);
    }

    /// Whether what the picture shows can be booked: every watch that tells of leases works.
    pub fn sees(&self) -> bool {
        self.is_warm()
            && [Kind::Pod, Kind::Node]
                .iter()
                .all(|kind| self.cluster.watch_failure(*kind).is_none())
    }

    /// Lets what depends on time change.
    pub fn refresh(&mut self, now: Timestamp) {
        if self.warm_at.is_some_and(|at| now.millis_since(at) >= EXPORTER_WITHIN)
            && self.has_exporter
        {
            // Once: nodes whose exporter did not speak are counted from now on.
            self.has_exporter = false;
            self.look_at_nodes(now);
        }
    }

    /// Pods that may be let go: their end is on record, or they never held anything. Key and UID.
    pub fn to_let_go(&self, is_closed: impl Fn(&str) -> bool) -> Vec<(Name, Name)> {
        let unreleased = self.unreleased.pods(&self.cluster).into_iter();
        unreleased
            .filter(|(pod, _)| is_closed(&pod.uid) || !self.held_gpus(pod))
            .map(|(pod, _)| (pod.key.clone(), Name::from(&*pod.uid)))
            .collect()
    }

    fn held_gpus(&self, pod: &Pod) -> bool {
        pod.node.is_some() && self.gpus(&pod.requests.extended).is_some()
    }

    /// The UIDs of pods that have ended and wait to be let go.
    pub fn unreleased(&self) -> impl Iterator<Item = Name> {
        self.unreleased.pods(&self.cluster).into_iter().map(|(pod, _)| Name::from(&*pod.uid))
    }

    /// How many nodes have devices that an exporter names, and how many have only a number of them.
    pub fn nodes_by_source(&self) -> (usize, usize) {
        let read = self.told.keys().filter(|node| self.read.contains_key(*node)).count();
        (read, self.told.len() - read)
    }
}

/// Devices that nothing tells apart.
fn count(node: &Name, count: u32) -> Vec<ObservedDevice> {
    (0..count)
        .map(|number| ObservedDevice {
            id: format!("{node}/{number}").into(),
            model: None,
            limit_mw: None,
        })
        .collect()
}

fn is_counted(node: &str, device: &str) -> bool {
    device.strip_prefix(node).is_some_and(|rest| rest.starts_with('/'))
}
