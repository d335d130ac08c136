//! The observer: counts pods by group as they change, and records the times. The cost of a change does
//! not depend on the number of pods, so that the observer does not slow down what it observes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod as FullPod;
use kube::api::ApiResource;
use kube::core::Object;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::manifests::{FILL, GROUP};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

type Pod = Object<Spec, Status>;

/// Pods of one group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    /// Running and not stopping.
    pub running: usize,
    /// Not ended: they hold, or wait for, a GPU.
    pub alive: usize,
    /// Bound pods that began to stop so far.
    pub stopped: usize,
}

/// The first and the last time of an event since the marks were cleared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub first: Option<Instant>,
    pub last: Option<Instant>,
}

impl Span {
    fn mark(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }
}

/// The moments of a measurement.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    /// Filling pods began to stop.
    pub stopping: Span,
    /// Filling pods that held a GPU ended.
    pub freed: Span,
    pub fill: Progress,
    /// Pods other than filling ones.
    pub work: Progress,
}

/// Pods on their way to running.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub created: Span,
    pub bound: Span,
    pub running: Span,
}

#[derive(Debug)]
struct GroupPod {
    group: String,
    node: Option<String>,
    running: bool,
    ended: bool,
    deleting: bool,
}

impl GroupPod {
    fn holds(&self) -> Option<&String> {
        self.node.as_ref().filter(|_| !self.ended)
    }
}

/// The pods as last seen, counted.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pods: HashMap<String, GroupPod>,
    groups: HashMap<String, Count>,
    nodes: HashMap<String, usize>,
    most_on_a_node: usize,
    marks: Marks,
}

impl Snapshot {
    /// Pods of a group.
    pub(crate) fn count(&self, group: &str) -> Count {
        self.groups.get(group).copied().unwrap_or_default()
    }

    fn add(&mut self, seen: &GroupPod, sign: isize) {
        let step = |count: &mut usize, yes: bool| {
            *count = count.saturating_add_signed(if yes { sign } else { 0 });
        };
        let group = self.groups.entry(seen.group.clone()).or_default();
        step(&mut group.running, seen.running && !seen.deleting && !seen.ended);
        step(&mut group.alive, !seen.ended);
        if let Some(node) = seen.holds() {
            let held = self.nodes.entry(node.clone()).or_default();
            step(held, true);
            self.most_on_a_node = self.most_on_a_node.max(*held);
        }
    }

    fn replace(&mut self, key: String, seen: Option<GroupPod>) {
        let before = self.pods.remove(&key);
        let now = Instant::now();
        if let Some(before) = &before {
            self.add(before, -1);
        }
        let was = |test: fn(&GroupPod) -> bool| before.as_ref().is_some_and(test);
        let group = seen.as_ref().or(before.as_ref()).map(|seen| seen.group.clone());
        let group = group.unwrap_or_default();
        let is = |test: fn(&GroupPod) -> bool| seen.as_ref().is_some_and(test);
        let is_fill = group == FILL;
        if is_fill {
            let is_stopping = is(|pod| pod.deleting) || seen.is_none();
            if was(|pod| pod.holds().is_some() && !pod.deleting) && is_stopping {
                self.groups.entry(group).or_default().stopped += 1;
                self.marks.stopping.mark(now);
            }
            if was(|pod| pod.holds().is_some()) && !is(|pod| pod.holds().is_some()) {
                self.marks.freed.mark(now);
            }
        }
        let marks = if is_fill { &mut self.marks.fill } else { &mut self.marks.work };
        if before.is_none() {
            marks.created.mark(now);
        }
        if !was(|pod| pod.node.is_some()) && is(|pod| pod.node.is_some()) {
            marks.bound.mark(now);
        }
        if !was(|pod| pod.running) && is(|pod| pod.running) {
            marks.running.mark(now);
        }
        if let Some(seen) = seen {
            self.add(&seen, 1);
            self.pods.insert(key, seen);
        }
    }

    fn take(&mut self, event: Event<Pod>) {
        match event {
            Event::Apply(pod) | Event::InitApply(pod) => self.replace(key(&pod), group_pod(&pod)),
            Event::Delete(pod) => self.replace(key(&pod), None),
            Event::Init | Event::InitDone => {}
        }
    }
}

fn key(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

fn group_pod(pod: &Pod) -> Option<GroupPod> {
    let labels = pod.labels();
    let group = if labels.contains_key("daylight.dev/miner") {
        FILL
    } else {
        let names = ["daylight.dev/aijob", "batch.kubernetes.io/job-name", GROUP];
        names.iter().find_map(|name| labels.get(*name))?
    };
    let phase = pod.status.as_ref().map(|status| status.phase.as_str()).unwrap_or_default();
    Some(GroupPod {
        group: group.to_owned(),
        node: pod.spec.node_name.clone(),
        running: phase == "Running",
        ended: matches!(phase, "Succeeded" | "Failed"),
        deleting: pod.metadata.deletion_timestamp.is_some(),
    })
}

/// The watch on all pods; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Observer {
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
    pub(crate) fn start(client: Client) -> Self {
        let snapshot = Arc::new(Mutex::new(Snapshot::default()));
        let (notify, changed) = watch::channel(());
        let shared = Arc::clone(&snapshot);
        let task = tokio::spawn(async move {
            let resource = ApiResource {
                group: String::new(),
                version: FullPod::version(&()).into_owned(),
                api_version: FullPod::api_version(&()).into_owned(),
                kind: FullPod::kind(&()).into_owned(),
                plural: FullPod::plural(&()).into_owned(),
            };
            let pods: Api<Pod> = Api::all_with(client, &resource);
            let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()));
            loop {
                match events.try_next().await {
                    Ok(Some(event)) => {
                        shared.lock().unwrap_or_else(PoisonError::into_inner).take(event);
                        let _ = notify.send(());
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                    Ok(None) => return,
                }
            }
        });
        Self { snapshot, changed, task }
    }

    fn snapshot(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pods of a group, as last seen.
    pub(crate) fn count(&self, group: &str) -> Count {
        self.snapshot().count(group)
    }

    /// The names of a group's pods that hold a GPU on these nodes.
    pub(crate) fn names_on(&self, group: &str, nodes: &[String]) -> Vec<String> {
        let snapshot = self.snapshot();
        let here = snapshot.pods.iter().filter(|(_, pod)| {
            pod.group == group && pod.holds().is_some_and(|node| nodes.contains(node))
        });
        here.filter_map(|(key, _)| Some(key.split_once('/')?.1.to_owned())).collect()
    }

    /// The most GPUs that were ever held on one node at once.
    pub(crate) fn most_on_a_node(&self) -> usize {
        self.snapshot().most_on_a_node
    }

    /// Clears the marks, and begins to mark again.
    pub(crate) fn clear_marks(&self) {
        self.snapshot().marks = Marks::default();
    }

    /// The marks since they were cleared.
    pub(crate) fn marks(&self) -> Marks {
        self.snapshot().marks
    }

    /// Waits until the pods satisfy `done`, and returns whether they did within `limit`.
    pub(crate) async fn until(&self, limit: Duration, done: impl Fn(&Snapshot) -> bool) -> bool {
        let begun = Instant::now();
        let mut changed = self.changed.clone();
        loop {
            changed.borrow_and_update();
            if done(&self.snapshot()) {
                return true;
            }
            let Some(left) = limit.checked_sub(begun.elapsed()) else { return false };
            let _ = tokio::time::timeout(left, changed.changed()).await;
        }
    }
}
