//! What the auditor knows: the picture of the cluster, the exporters, and the meter they feed.
//! Synchronous, without a clock.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_crds::LeaseRecord;
use daylight_meter::{Account, DeviceSeen, Facts, LeaseSeen, Meter, Moment, ObjectKind, Reading};
use rustc_hash::{FxHashMap, FxHashSet};

use super::agents::Agent;
use super::exporter::scrape::Scraped;
use super::miners::{Miners, Says};
use super::work;
use crate::index::miners::is_like;
use crate::index::slim::{Phase, Pod};
use crate::index::{Change, Event, Index, Kind};

/// How long a node's exporter is waited for before its devices are only counted.
const EXPORTER_WITHIN: u64 = 60_000;

/// The books and what they are kept from.
#[derive(Debug)]
pub struct Bookkeeper {
    /// The picture of the cluster.
    pub index: Index,
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
    read: FxHashMap<Name, Vec<DeviceSeen>>,
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
type Told = (Option<Name>, u32, Vec<DeviceSeen>);

impl Bookkeeper {
    /// Books that go on from what `meter` holds.
    pub fn new(meter: Meter, terms: Terms, now: Timestamp) -> Self {
        let Terms { resources, agents, has_exporter, signature_required } = terms;
        // Devices that the books know are not told anew until their exporter speaks again.
        let read = meter
            .nodes()
            .map(|node| (node.clone(), meter.devices_of(node)))
            .filter(|(node, devices)| devices.iter().any(|device| !is_counted(node, &device.id)))
            .collect();
        Self {
            index: Index::new(now).requiring_signatures(signature_required),
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
        let what = Touched::of(&event);
        self.index.apply(event, now, &mut Vec::new());
        self.index.take_seen();
        if self.warm_at.is_none() {
            return;
        }
        match what {
            Touched::Pod(pod) => self.look_at_pod(&pod, now),
            Touched::Node(name) => self.look_at_node(&name, now),
            Touched::Nodes => self.look_at_nodes(now),
            Touched::Registration(name) => {
                self.look_at_object(ObjectKind::Registration, &name, now);
            }
            Touched::Class(name) if self.is_edited(ObjectKind::ActivityClass, &name) => {
                self.look_at_register(now);
            }
            Touched::Pool(name) if self.is_edited(ObjectKind::GpuPool, &name) => {
                self.look_at_register(now);
                self.look_at_nodes(now);
            }
            Touched::Register => self.look_at_register(now),
            Touched::All => self.look_at_all(now),
            Touched::Class(_) | Touched::Pool(_) | Touched::Nothing => {}
        }
    }

    /// Everything was listed: from now on it is booked.
    pub fn begin(&mut self, now: Timestamp) {
        self.warm_at = Some(now);
        self.look_at_register(now);
        self.look_at_all(now);
    }

    fn look_at_all(&mut self, now: Timestamp) {
        self.look_at_nodes(now);
        let pods: Vec<Pod> = self.index.all_pods().cloned().collect();
        for pod in &pods {
            self.look_at_pod(pod, now);
        }
        let present: FxHashSet<Name> = pods.iter().map(|pod| Name::from(&*pod.uid)).collect();
        self.meter.vanished(&present, now);
    }

    fn look_at_nodes(&mut self, now: Timestamp) {
        let known: FxHashSet<Name> = self.index.all_nodes().map(|node| node.name.clone()).collect();
        let gone: Vec<Name> =
            self.meter.nodes().filter(|node| !known.contains(*node)).cloned().collect();
        for name in known.into_iter().chain(gone) {
            self.look_at_node(&name, now);
        }
    }

    /// The GPUs of a list of extended resources, and the resource.
    fn gpus<'a>(&self, extended: &'a [(Name, u32)]) -> Option<(&'a Name, u32)> {
        let is_gpu = |resource: &Name| {
            self.resources.contains(resource) || self.index.is_of_a_pool(resource)
        };
        extended
            .iter()
            .find(|(resource, count)| *count > 0 && is_gpu(resource))
            .map(|(resource, count)| (resource, *count))
    }

    fn look_at_node(&mut self, name: &Name, now: Timestamp) {
        let Some(node) = self.index.node(name) else {
            if self.told.remove(name).is_some() || self.meter.nodes().any(|node| node == name) {
                self.meter.node_gone(name, now);
            }
            self.read.remove(name);
            self.counted.remove(name);
            return;
        };
        let (boot, offered) = (node.boot.clone(), self.gpus(&node.allocatable.extended));
        let pool = offered
            .and_then(|(resource, _)| self.index.pool_of(name, resource).cloned())
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

    fn look_at_pod(&mut self, pod: &Pod, now: Timestamp) {
        let there = self.index.pod(&pod.key).is_some_and(|known| known.uid == pod.uid);
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
        let trusted = self.agents.iter().any(|pattern| is_like(&lease.image, pattern));
        let miner = self.index.miner(&lease.miner);
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

    fn seen(&self, pod: &Pod, now: Timestamp) -> Option<LeaseSeen> {
        let node = pod.node.clone()?;
        let (_, gpus) = self.gpus(&pod.requests.extended)?;
        let bound = pod.bound_at.or(pod.started_at).unwrap_or(pod.created);
        let second = |at: Timestamp| Moment::in_second(at, now);
        Some(LeaseSeen {
            uid: Name::from(&*pod.uid),
            pod: pod.key.clone(),
            node,
            gpus,
            account: Account {
                class: self.index.class_of(pod),
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
        let at = |time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| {
            Timestamp(time.0.as_millisecond())
        };
        let seen_ended = at(&spec.seen_ended_at);
        let finished = spec.finished_at.as_ref().map(at);
        let bound = spec.bound_at.as_ref().or(spec.started_at.as_ref()).map(at);
        let bound = bound.unwrap_or(finished.unwrap_or(seen_ended));
        let ended = match finished {
            Some(at) => Moment::in_second(at, seen_ended.max(at)),
            None => Moment::between(bound, seen_ended),
        };
        let seen = LeaseSeen {
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
            started: spec.started_at.as_ref().map(|time| Moment::in_second(at(time), now)),
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
        if self.index.node(node).is_none() {
            return;
        }
        let devices: Vec<DeviceSeen> = readings
            .iter()
            .map(|reading| DeviceSeen {
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
            && [Kind::Pod, Kind::Node].iter().all(|kind| self.index.trouble(*kind).is_none())
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
        let unreleased = self.index.unreleased().into_iter();
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
        self.index.unreleased().into_iter().map(|(pod, _)| Name::from(&*pod.uid))
    }

    /// How many nodes have devices that an exporter names, and how many have only a number of them.
    pub fn nodes_by_source(&self) -> (usize, usize) {
        let read = self.told.keys().filter(|node| self.read.contains_key(*node)).count();
        (read, self.told.len() - read)
    }
}

/// Devices that nothing tells apart.
fn count(node: &Name, count: u32) -> Vec<DeviceSeen> {
    (0..count)
        .map(|number| DeviceSeen {
            id: format!("{node}/{number}").into(),
            model: None,
            limit_mw: None,
        })
        .collect()
}

fn is_counted(node: &str, device: &str) -> bool {
    device.strip_prefix(node).is_some_and(|rest| rest.starts_with('/'))
}

/// What an event concerns.
enum Touched {
    Pod(Box<Pod>),
    Node(Name),
    Nodes,
    Registration(Name),
    Class(Name),
    Pool(Name),
    Register,
    All,
    Nothing,
}

impl Touched {
    fn of(event: &Event) -> Self {
        match event {
            Event::Pod(Change::Item(pod) | Change::Applied(pod) | Change::Deleted(pod)) => {
                Self::Pod(pod.clone())
            }
            Event::Pod(Change::Listed { .. }) => Self::All,
            Event::Node(Change::Item(node) | Change::Applied(node) | Change::Deleted(node)) => {
                Self::Node(node.name.clone())
            }
            Event::Node(Change::Listed { .. }) => Self::Nodes,
            Event::GpuPool(Change::Item(pool) | Change::Applied(pool) | Change::Deleted(pool)) => {
                Self::Pool(pool.key.clone())
            }
            Event::ActivityClass(
                Change::Item(class) | Change::Applied(class) | Change::Deleted(class),
            ) => Self::Class(class.key.clone()),
            Event::Registration(
                Change::Item(object) | Change::Applied(object) | Change::Deleted(object),
            ) => Self::Registration(object.key.clone()),
            Event::GpuPool(Change::Listed { .. })
            | Event::ActivityClass(Change::Listed { .. })
            | Event::Registration(Change::Listed { .. })
            | Event::AuthorityKeys(_) => Self::Register,
            _ => Self::Nothing,
        }
    }
}
