//! An observer of all pods that counts GPUs, independently of Daylight.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The owner of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Miner,
    /// An AI job or a plain Job of this name.
    Job(String),
    Other,
}

/// A pod that requests GPUs, as last seen.
#[derive(Clone, Debug)]
pub struct GpuPod {
    pub owner: Owner,
    /// The node it is bound to.
    pub node: Option<String>,
    /// The number of GPUs that it requests.
    pub gpus: i64,
    pub running: bool,
    /// Whether it has ended.
    pub terminal: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// The pods as last seen, and the highest numbers so far.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pods: BTreeMap<String, GpuPod>,
    /// The most GPUs that live pods ever held on one node at once.
    pub most_on_a_node: i64,
    /// The most GPUs that miners ever held at once.
    pub most_mining: i64,
    /// Miners' pods that began to stop, so far.
    pub miners_stopped: u64,
}

impl Snapshot {
    fn live(&self) -> impl Iterator<Item = &GpuPod> {
        self.pods.values().filter(|pod| !pod.terminal)
    }

    /// GPUs of miners that run and are not stopping.
    pub fn mining(&self) -> i64 {
        let miners = self.live().filter(|pod| pod.owner == Owner::Miner && !pod.deleting);
        miners.filter(|pod| pod.running).map(|pod| pod.gpus).sum()
    }

    /// GPUs that miners hold, whatever their state.
    pub fn held_by_miners(&self) -> i64 {
        self.live().filter(|pod| pod.owner == Owner::Miner).map(|pod| pod.gpus).sum()
    }

    /// The nodes on which miners run.
    pub fn nodes_that_mine(&self) -> BTreeSet<String> {
        let miners = self.live().filter(|pod| pod.owner == Owner::Miner && pod.running);
        miners.filter_map(|pod| pod.node.clone()).collect()
    }

    /// Miners' pods that have ended and still exist, because their end is not on record.
    pub fn unrecorded(&self) -> usize {
        self.pods.values().filter(|pod| pod.owner == Owner::Miner && pod.terminal).count()
    }

    /// Pods of a job that run.
    pub fn running_of(&self, job: &str) -> usize {
        let of_job = |pod: &&GpuPod| matches!(&pod.owner, Owner::Job(name) if name == job);
        self.live().filter(of_job).filter(|pod| pod.running).count()
    }

    fn take(&mut self, key: String, pod: Option<GpuPod>) {
        let was_stopping = self.pods.get(&key).is_some_and(|pod| pod.deleting);
        match pod {
            Some(pod) => {
                if pod.owner == Owner::Miner && pod.deleting && !was_stopping {
                    self.miners_stopped += 1;
                }
                self.pods.insert(key, pod);
            }
            None => {
                self.pods.remove(&key);
            }
        }
        let mut by_node: BTreeMap<&str, i64> = BTreeMap::new();
        for pod in self.pods.values().filter(|pod| !pod.terminal) {
            if let Some(node) = &pod.node {
                *by_node.entry(node).or_default() += pod.gpus;
            }
        }
        let most = by_node.values().max().copied().unwrap_or_default();
        let mining = self.held_by_miners();
        self.most_on_a_node = self.most_on_a_node.max(most);
        self.most_mining = self.most_mining.max(mining);
    }
}

/// The watch on all pods; it ends when this is dropped.
#[derive(Debug)]
pub struct Observer {
    snapshot: Arc<Mutex<Snapshot>>,
    changed: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer {
    /// Starts to watch.
    pub fn start(client: Client) -> Self {
        let snapshot = Arc::new(Mutex::new(Snapshot::default()));
        let (notify, changed) = watch::channel(());
        let seen = Arc::clone(&snapshot);
        let task = tokio::spawn(async move {
            let pods: Api<Pod> = Api::all(client);
            let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()));
            loop {
                match events.try_next().await {
                    Ok(Some(event)) => {
                        let mut snapshot = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        take(&mut snapshot, event);
                        drop(snapshot);
                        let _ = notify.send(());
                    }
                    // The watcher retries, for example while the API server restarts.
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                    Ok(None) => return,
                }
            }
        });
        Self { snapshot, changed, task }
    }

    /// The state as last seen.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the state satisfies `done`, and returns how long that took, or `None` if it did
    /// not within `limit`.
    pub async fn until(
        &self,
        limit: Duration,
        mut done: impl FnMut(&Snapshot) -> bool,
    ) -> Option<Duration> {
        let start = Instant::now();
        let mut changed = self.changed.clone();
        loop {
            changed.borrow_and_update();
            if done(&self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)) {
                return Some(start.elapsed());
            }
            let left = limit.checked_sub(start.elapsed())?;
            let _ = tokio::time::timeout(left, changed.changed()).await;
        }
    }
}

fn take(snapshot: &mut Snapshot, event: Event<Pod>) {
    match event {
        Event::Apply(pod) | Event::InitApply(pod) => {
            let key = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            if let Some(seen) = gpu_pod(&pod) {
                snapshot.take(key, Some(seen));
            }
        }
        Event::Delete(pod) => {
            let key = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            snapshot.take(key, None);
        }
        Event::Init => snapshot.pods.clear(),
        Event::InitDone => {}
    }
}

fn gpu_pod(pod: &Pod) -> Option<GpuPod> {
    let spec = pod.spec.as_ref()?;
    let gpus: i64 = spec
        .containers
        .iter()
        .filter_map(|container| container.resources.as_ref()?.limits.as_ref())
        .flat_map(|limits| limits.iter().filter(|(name, _)| name.ends_with("/gpu")))
        .filter_map(|(_, amount)| amount.0.parse::<i64>().ok())
        .sum();
    if gpus == 0 {
        return None;
    }
    let label = |name: &str| pod.labels().get(name).cloned();
    let owner = if label("daylight.dev/miner").is_some() {
        Owner::Miner
    } else {
        match label("daylight.dev/aijob").or_else(|| label("batch.kubernetes.io/job-name")) {
            Some(job) => Owner::Job(job),
            None => Owner::Other,
        }
    };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    Some(GpuPod {
        owner,
        node: spec.node_name.clone(),
        gpus,
        running: phase == "Running",
        terminal: matches!(phase, "Succeeded" | "Failed"),
        deleting: pod.metadata.deletion_timestamp.is_some(),
    })
}
