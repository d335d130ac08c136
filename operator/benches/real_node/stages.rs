//! Where the time goes between an AI pod's creation and its container, as a watch sees it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use tokio::task::JoinHandle;

/// What happens, in this order. The first three only where a miner gives way.
const ORDER: [&str; 5] = [
    "a miner is told to go",
    "its container has ended",
    "its GPU is free for kube-scheduler",
    "the AI pod is bound",
    "its container runs",
];

/// The times since a round began, by what happened.
type Round = BTreeMap<&'static str, Duration>;

/// What a watch said, and when.
type Said = Arc<Mutex<Vec<(Instant, Event<Pod>)>>>;

/// Watches pods, and keeps when what happened first in each round.
pub(crate) struct Stages {
    seen: Said,
    task: JoinHandle<()>,
    begun: Instant,
    rounds: Vec<Round>,
}

impl Stages {
    pub(crate) fn watch(pods: Api<Pod>) -> Self {
        let seen = Said::default();
        let kept = seen.clone();
        let task = tokio::spawn(async move {
            let events = watcher::watcher(pods, watcher::Config::default());
            let mut events = events.default_backoff().boxed();
            while let Some(event) = events.next().await {
                let Ok(event) = event else { continue };
                kept.lock().unwrap().push((Instant::now(), event));
            }
        });
        Self { seen, task, begun: Instant::now(), rounds: Vec::new() }
    }

    pub(crate) fn begin(&mut self) {
        self.begun = Instant::now();
        self.seen.lock().unwrap().clear();
    }

    /// What happened in this round, once the AI pod of this name runs.
    pub(crate) fn round(&self, name: &str) -> Option<Round> {
        let mut round = Round::new();
        for (at, event) in &*self.seen.lock().unwrap() {
            let (pod, gone) = match event {
                Event::Apply(pod) => (pod, false),
                Event::Delete(pod) => (pod, true),
                _ => continue,
            };
            for what in happened(pod, gone, pod.name_any() == name) {
                round.entry(what).or_insert(*at - self.begun);
            }
        }
        round.contains_key(ORDER[4]).then_some(round)
    }

    pub(crate) fn keep(&mut self, round: Round) {
        self.rounds.push(round);
    }

    pub(crate) fn tell(&self, where_: &str) {
        let last = ORDER[ORDER.len() - 1];
        let (p50, p99, longest) = spread(self.rounds.iter().filter_map(|round| round.get(last)));
        println!("  {where_}: p50 {p50:.2?}, p99 {p99:.2?}, longest {longest:.2?}");
        for what in ORDER {
            let times = self.rounds.iter().filter_map(|round| round.get(what));
            if times.clone().next().is_some() {
                let (p50, p99, longest) = spread(times);
                println!("    {what}: p50 {p50:.2?}, p99 {p99:.2?}, longest {longest:.2?}");
            }
        }
    }
}

impl Drop for Stages {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What an event says has happened.
fn happened(pod: &Pod, gone: bool, ai: bool) -> Vec<&'static str> {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let mut all = Vec::new();
    if ai {
        let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        all.extend(bound.then_some(ORDER[3]));
        all.extend((phase == Some("Running")).then_some(ORDER[4]));
    } else if pod.metadata.deletion_timestamp.is_some() {
        let over = gone || matches!(phase, Some("Succeeded" | "Failed"));
        all.push(ORDER[0]);
        all.extend((over || ended(pod)).then_some(ORDER[1]));
        all.extend(over.then_some(ORDER[2]));
    }
    all
}

fn ended(pod: &Pod) -> bool {
    let containers =
        pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = containers.filter_map(|container| container.state.as_ref());
    states.any(|state| state.terminated.is_some())
}

fn spread<'a>(times: impl Iterator<Item = &'a Duration>) -> (Duration, Duration, Duration) {
    let mut times: Vec<Duration> = times.copied().collect();
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    (at(50), at(99), at(100))
}
