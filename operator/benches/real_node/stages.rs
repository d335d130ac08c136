//! Where the time goes between an AI pod's creation and its container, as a watch sees it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use daylight_test_site::observer::Watch;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use kube::{Api, ResourceExt as _};

// What happens, in this order; the first two only where a miner gives way.
const GOES: &str = "a miner is told to go";
const FREE: &str = "its container has ended, and its GPU is free for kube-scheduler";
const BOUND: &str = "the AI pod is bound";
const RUNS: &str = "its container runs";

/// The times since a round began, by what happened first.
type Times = BTreeMap<&'static str, Duration>;

/// Rounds of starting an AI pod.
pub(crate) struct Stages {
    round: Arc<Mutex<Round>>,
    _watch: Watch,
    done: Vec<Times>,
}

struct Round {
    ai: String,
    begun: Instant,
    times: Times,
}

impl Stages {
    pub(crate) fn watch(pods: Api<Pod>) -> Self {
        let round = Arc::new(Mutex::new(Round::begin("")));
        let current = round.clone();
        let watch = Watch::start(pods, move |event| current.lock().unwrap().take(&event));
        Self { round, _watch: watch, done: Vec::new() }
    }

    /// The AI pod of this name is about to be created.
    pub(crate) fn begin(&self, ai: &str) {
        *self.round.lock().unwrap() = Round::begin(ai);
    }

    /// The times of this round, once the AI pod runs.
    pub(crate) fn times(&self) -> Option<Times> {
        let round = self.round.lock().unwrap();
        round.times.contains_key(RUNS).then(|| round.times.clone())
    }

    pub(crate) fn keep(&mut self, times: Times) {
        self.done.push(times);
    }

    pub(crate) fn tell(&self, place: &str) {
        println!("  {place}:");
        for what in [GOES, FREE, BOUND, RUNS] {
            let mut times: Vec<_> = self.done.iter().filter_map(|times| times.get(what)).collect();
            times.sort_unstable();
            let Some(longest) = times.last() else { continue };
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            println!("    {what}: p50 {:.2?}, p99 {:.2?}, longest {longest:.2?}", at(50), at(99));
        }
    }
}

impl Round {
    fn begin(ai: &str) -> Self {
        Self { ai: ai.into(), begun: Instant::now(), times: Times::new() }
    }

    fn take(&mut self, event: &Event<Pod>) {
        let (pod, gone) = match event {
            Event::Apply(pod) => (pod, false),
            Event::Delete(pod) => (pod, true),
            _ => return,
        };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if pod.name_any() == self.ai {
            self.note(BOUND, pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
            self.note(RUNS, phase == Some("Running"));
        } else if pod.metadata.deletion_timestamp.is_some() {
            self.note(GOES, true);
            self.note(FREE, gone || matches!(phase, Some("Succeeded" | "Failed")));
        }
    }

    fn note(&mut self, what: &'static str, happened: bool) {
        if happened {
            self.times.entry(what).or_insert(self.begun.elapsed());
        }
    }
}
