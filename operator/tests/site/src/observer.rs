//! An observer of every pod, which checks at every event that no GPU is assigned twice and no cap is
//! exceeded.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daylight_testbed::trials::Outcome;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use tokio::task::JoinHandle;

/// A pod as last seen.
#[derive(Clone, Debug)]
struct Held {
    node: Option<String>,
    /// `true` if kube-scheduler bound it.
    bound: bool,
    gpus: u32,
    lease: Option<Lease>,
}

#[derive(Clone, Debug)]
struct Lease {
    registration: String,
    pool: String,
    slot: String,
}

/// The most GPUs for each registration and pool.
#[derive(Clone, Debug, Default)]
struct Caps {
    registrations: BTreeMap<String, u32>,
    pools: BTreeMap<String, u32>,
}

#[derive(Default)]
struct State {
    pods: HashMap<String, Held>,
    caps: Caps,
    wrong: Vec<String>,
    events: u64,
    /// All miners' pods so far, by UID.
    started: HashMap<String, String>,
}

/// Watches until it is dropped.
pub struct Observer {
    state: Arc<Mutex<State>>,
    _watch: Watch,
}

/// A watch of pods, which ends when this is dropped.
pub struct Watch(JoinHandle<()>);

impl Watch {
    /// Passes all events of these pods to `take`.
    pub fn start(pods: Api<Pod>, mut take: impl FnMut(Event<Pod>) + Send + 'static) -> Self {
        Self(tokio::spawn(async move {
            let mut events = watcher::watcher(pods, watcher::Config::default()).boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => take(event),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// GPUs of each simulated node.
const GPUS: u32 = 8;

impl Observer {
    pub fn start(client: Client) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let seen = state.clone();
        let watch = Watch::start(Api::all(client), move |event| seen.lock().unwrap().take(event));
        Self { state, _watch: watch }
    }

    /// From now on a registration's miners may hold at most this number of GPUs.
    pub fn cap_registration(&self, key: &str, gpus: u32) {
        self.state.lock().unwrap().caps.registrations.insert(key.into(), gpus);
    }

    /// From now on a pool's miners may hold at most this number of GPUs.
    pub fn cap_pool(&self, name: &str, gpus: u32) {
        self.state.lock().unwrap().caps.pools.insert(name.into(), gpus);
    }

    /// The number of events of pods so far.
    pub fn events(&self) -> u64 {
        self.state.lock().unwrap().events
    }

    /// The number of miners' pods so far.
    pub fn started(&self) -> usize {
        self.state.lock().unwrap().started.len()
    }

    /// Fails if a check failed at any moment.
    pub fn check(&self) -> Outcome {
        let state = self.state.lock().unwrap();
        if state.wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("seen in {} events: {:#?}", state.events, state.wrong).into())
        }
    }
}

impl State {
    fn take(&mut self, event: Event<Pod>) {
        self.events += 1;
        match event {
            Event::Init => self.pods.clear(),
            Event::InitDone => {}
            Event::Apply(pod) | Event::InitApply(pod) => self.apply(&pod),
            Event::Delete(pod) => {
                self.pods.remove(&key(&pod));
            }
        }
        self.inspect();
    }

    fn apply(&mut self, pod: &Pod) {
        let key = key(pod);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            self.pods.remove(&key);
            return;
        }
        let lease = lease(pod);
        if lease.is_some() {
            self.started.insert(pod.uid().unwrap_or_default(), key.clone());
        }
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let bound = node.is_some();
        let node = node.or_else(|| lease.is_some().then(|| pinned(pod)).flatten());
        self.pods.insert(key, Held { node, bound, gpus: gpus(pod), lease });
    }

    fn inspect(&mut self) {
        let mut slots: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        let mut nodes: BTreeMap<&str, u32> = BTreeMap::new();
        let mut registrations: BTreeMap<&str, u32> = BTreeMap::new();
        let mut pools: BTreeMap<&str, u32> = BTreeMap::new();
        let mut bound: BTreeMap<&str, u32> = BTreeMap::new();
        for held in self.pods.values() {
            if let Some(node) = held.node.as_deref().filter(|_| held.bound) {
                *bound.entry(node).or_default() += held.gpus;
            }
            let (Some(lease), Some(node)) = (&held.lease, &held.node) else { continue };
            *slots.entry((node, &lease.slot)).or_default() += 1;
            *nodes.entry(node).or_default() += held.gpus;
            *registrations.entry(&lease.registration).or_default() += held.gpus;
            *pools.entry(&lease.pool).or_default() += held.gpus;
        }
        let mut wrong = Vec::new();
        for ((node, slot), count) in slots {
            if count > 1 {
                wrong.push(format!("slot {slot} of {node} was granted {count} times"));
            }
        }
        for (node, gpus) in bound {
            if gpus > GPUS {
                wrong.push(format!("pods hold {gpus} GPUs of {node}"));
            }
        }
        for (node, gpus) in nodes {
            if gpus > GPUS {
                wrong.push(format!("miners hold {gpus} GPUs of {node}"));
            }
        }
        for (key, gpus) in registrations {
            if self.caps.registrations.get(key).is_some_and(|cap| gpus > *cap) {
                wrong.push(format!("registration {key} holds {gpus} GPUs"));
            }
        }
        for (name, gpus) in pools {
            if self.caps.pools.get(name).is_some_and(|cap| gpus > *cap) {
                wrong.push(format!("miners hold {gpus} GPUs of pool {name}"));
            }
        }
        for one in wrong {
            if !self.wrong.contains(&one) {
                self.wrong.push(one);
            }
        }
    }
}

fn key(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

fn lease(pod: &Pod) -> Option<Lease> {
    let label = |name: &str| pod.labels().get(name).cloned();
    label("daylight.dev/miner")?;
    let registration = label("daylight.dev/registration")?;
    Some(Lease {
        registration: format!("{}/{registration}", pod.namespace()?),
        pool: label("daylight.dev/pool")?,
        slot: label("daylight.dev/slot")?,
    })
}

fn pinned(pod: &Pod) -> Option<String> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let field = required.node_selector_terms.first()?.match_fields.as_ref()?.first()?;
    field.values.as_ref()?.first().cloned()
}

fn gpus(pod: &Pod) -> u32 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .filter_map(|container| {
            container.resources.as_ref()?.limits.as_ref()?.get("nvidia.com/gpu")
        })
        .filter_map(|quantity| quantity.0.parse::<u32>().ok())
        .sum()
}
