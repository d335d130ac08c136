//! A property: whatever the watch of pods does not show, and whatever the clocks show, no cap is
//! passed, no slot is granted twice, and no healthy pod is removed.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use daylight_base::Timestamp;
use daylight_cluster::{Change, Event, Round, WatchFailure};
use daylight_planner::Planner;
use daylight_planner::explain::{Action, Grant};
use daylight_planner::model::{Approval, Delta, Mirrored};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{
    ChangeKind, START, class, event, lease, miner, node, patched, pool, registration, running,
};
use crate::view::{LeftoverReason, View};

/// The limit of the pool, in GPUs.
const CAP: usize = 5;

/// The answer to a request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Arrives,
    IsLost,
    Refuses,
}

#[derive(Clone, Debug)]
enum Step {
    /// A plan is made and carried out, each request with the next of these answers.
    Plan(Vec<Answer>),
    /// The pod with this number is bound and runs, unless it does already.
    Run(usize),
    /// The pod with this number fails.
    Fail(usize),
    /// The pod with this number has drained, if it is being deleted.
    Drain(usize),
    /// Another client deletes the pod with this number.
    Delete(usize),
    /// The watch delivers at most this number of events.
    Deliver(usize),
    /// The watch delivers everything, and proves it.
    CatchUp,
    /// The silence of the watch is noticed.
    Notice,
    /// The watch lists again.
    List,
    Wait(u64),
    /// The wall clock is set forward, or back.
    SetClock(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let answer = prop_oneof![
        4 => Just(Answer::Arrives),
        1 => Just(Answer::IsLost),
        1 => Just(Answer::Refuses),
    ];
    let plan = prop::collection::vec(answer, 1..8).prop_map(Step::Plan);
    let step = prop_oneof![
        6 => plan,
        4 => any::<usize>().prop_map(Step::Run),
        1 => any::<usize>().prop_map(Step::Fail),
        2 => any::<usize>().prop_map(Step::Drain),
        1 => any::<usize>().prop_map(Step::Delete),
        3 => (1..4_usize).prop_map(Step::Deliver),
        2 => Just(Step::CatchUp),
        1 => Just(Step::Notice),
        1 => Just(Step::List),
        3 => (0..200_u64).prop_map(Step::Wait),
        1 => (-3600..3600_i64).prop_map(Step::SetClock),
    ];
    prop::collection::vec(step, 1..80)
}

/// The server's pods, the watch of them, and what the controller makes of it.
struct World {
    pods: BTreeMap<String, Value>,
    version: u64,
    created: u64,
    waiting: VecDeque<Event>,
    view: View,
    planner: Planner,
    now: Timestamp,
    instant: Instant,
}

impl World {
    fn new() -> Self {
        let spec = json!({"spec": {"mining": {
            "maxGpus": CAP, "idleDelay": "0s", "minRunTime": "10s", "drainTimeout": "1h",
        }}});
        let patient = |name: &str, replicas: u32| {
            let spec = json!({"spec": {"replicas": replicas, "drainTimeout": "1h"}});
            patched(&miner(name), &spec)
        };
        let (cluster, deltas) = TestCluster::with_deltas(&[
            patched(&pool("a"), &spec),
            class("pow", "IdleOnly"),
            registration("reg"),
            patient("m", 16),
            patient("other", 3),
            node("n1", "a"),
            node("n2", "a"),
        ]);
        let TestCluster { view, now, instant, .. } = cluster;
        let mut world = Self {
            pods: BTreeMap::new(),
            version: 1_000,
            created: 0,
            waiting: VecDeque::new(),
            view,
            planner: Planner::default(),
            now,
            instant,
        };
        world.fold(deltas);
        world
    }

    fn fold(&mut self, deltas: Vec<Delta>) {
        for mut delta in deltas {
            if let Delta::Registration(registration) = &mut delta {
                registration.approval = Approval::Approved;
                registration.mirrored = Mirrored::Holds;
            }
            self.planner.apply(delta);
        }
    }

    /// Lets the view do something, and sends the planner what changed.
    fn view<T>(&mut self, act: impl FnOnce(&mut View, Timestamp, &mut Vec<Delta>) -> T) -> T {
        let mut out = Vec::new();
        let result = act(&mut self.view, self.now, &mut out);
        self.fold(out);
        result
    }

    fn apply(&mut self, event: Event) {
        self.view(|view, now, out| view.apply(event, now, out));
    }

    /// The server writes a pod.
    fn write(&mut self, pod: &Value) -> Value {
        self.version += 1;
        let version = json!({"metadata": {"resourceVersion": self.version.to_string()}});
        let pod = patched(pod, &version);
        self.pods.insert(key(&pod), pod.clone());
        self.waiting.push_back(event(&pod, ChangeKind::Applied));
        pod
    }

    fn remove(&mut self, key: &str) {
        if let Some(pod) = self.pods.remove(key) {
            self.version += 1;
            let version = json!({"metadata": {"resourceVersion": self.version.to_string()}});
            self.waiting.push_back(event(&patched(&pod, &version), ChangeKind::Deleted));
        }
    }

    fn nth(&self, number: usize) -> Option<Value> {
        self.pods.values().nth(number % self.pods.len().max(1)).cloned()
    }

    fn grant(&mut self, grant: &Grant, answer: Answer) {
        // The executor starts none while something may be missing.
        if self.view.is_stale() {
            return;
        }
        let epoch = self.view.next_epoch(&grant.node, grant.slot);
        let miner = grant.miner.strip_prefix("team/").unwrap();
        let name = format!("{miner}-{}-{}-{epoch}", grant.node, grant.slot);
        let pod = patched(
            &lease(miner, &grant.node, grant.slot),
            &json!({"metadata": {
                "name": name, "uid": null, "creationTimestamp": null,
                "labels": {"daylight.dev/epoch": epoch.to_string()},
            }, "status": null}),
        );
        if self.view.cluster().pod(&key(&pod)).is_some() {
            return;
        }
        let foreseen = serde_json::from_value(pod.clone()).unwrap();
        self.view(|view, now, out| view.foresee_pod(foreseen, now, out));
        let taken = self.pods.contains_key(&key(&pod));
        if taken || matches!(answer, Answer::Refuses) {
            self.view(|view, _, out| view.unforesee_pod(&key(&pod), out));
            return;
        }
        self.created += 1;
        // The server's clock is right, and this machine's may not be.
        let metadata = json!({
            "uid": format!("uid-{}", self.created), "creationTimestamp": START.to_string(),
        });
        let real = self.write(&patched(&pod, &json!({"metadata": metadata})));
        if matches!(answer, Answer::Arrives) {
            let real = serde_json::from_value(real).unwrap();
            self.view(|view, now, out| view.assume_pod(real, now, out));
        }
    }

    fn end(&mut self, key: &str, answer: Answer) {
        let Some(known) = self.view.cluster().pod(key).filter(|pod| !pod.uid.is_empty()) else {
            return;
        };
        let uid = known.uid.clone();
        self.view(|view, now, out| view.foresee_end(key, &uid, now, out));
        let real = self.pods.get(key).filter(|pod| pod["metadata"]["uid"] == *uid).cloned();
        match (real, answer) {
            (None, Answer::Arrives) => {
                self.view(|view, now, out| view.assume_gone(key, &uid, now, out));
            }
            (Some(pod), Answer::Arrives | Answer::IsLost) => self.delete(&pod),
            (_, Answer::Refuses) => self.view(|view, _, out| view.unforesee_end(key, out)),
            (None, Answer::IsLost) => {}
        }
    }

    fn delete(&mut self, pod: &Value) {
        if pod["metadata"].get("deletionTimestamp").is_some() {
            return;
        }
        if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
            self.remove(&key(pod));
        } else {
            let deletion = json!({"metadata": {"deletionTimestamp": "2026-11-24T07:00:00Z"}});
            self.write(&patched(pod, &deletion));
        }
    }

    fn plan(&mut self, answers: &[Answer]) -> Result<(), TestCaseError> {
        let mut answers = answers.iter().cycle().copied();
        let mut answer = move || answers.next().unwrap_or(Answer::Arrives);
        for action in self.planner.plan(self.now).actions {
            match action {
                Action::Grant(grant) => self.grant(&grant, answer()),
                Action::Evict { pod, .. } => self.end(&pod, answer()),
                _ => {}
            }
        }
        let leftovers: Vec<_> = self
            .view
            .leftovers()
            .iter()
            .filter(|leftover| leftover.pod.deletion.is_none())
            .map(|leftover| (leftover.pod.key.to_string(), leftover.reason))
            .collect();
        for (key, reason) in leftovers {
            let runs = self.pods.get(&key).is_some_and(|pod| {
                pod["status"]["phase"] == "Running"
                    && pod["metadata"].get("deletionTimestamp").is_none()
            });
            if reason == LeftoverReason::Late && runs {
                // It may have begun after the moment that was judged: that is why the request has to
                // be late as well.
                let known = self.view.cluster().pod(&key).is_some_and(|pod| pod.node.is_some());
                prop_assert!(!known, "{} runs, and is taken for one that does not", key);
            }
            self.end(&key, answer());
        }
        Ok(())
    }

    fn catch_up(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            self.apply(event);
        }
        self.apply(Event::Pod(Change::Progress(self.version)));
        self.apply(Event::Pod(Change::Current(self.instant)));
    }

    fn tick(&mut self) {
        let instant = self.instant;
        self.view(|view, now, out| {
            view.tick(now, instant, out);
            view.refresh(now, out);
        });
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Plan(answers) => self.plan(&answers)?,
            Step::Run(number) => {
                // The API server binds no pod that is being deleted.
                let waits = |pod: &Value| {
                    pod["status"]["phase"] == "Pending"
                        && pod["metadata"].get("deletionTimestamp").is_none()
                };
                if let Some(pod) = self.nth(number).filter(waits) {
                    let node = pod["spec"]["affinity"]["nodeAffinity"]
                        ["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][0]
                        ["matchFields"][0]["values"][0]
                        .as_str()
                        .unwrap();
                    self.write(&running(&pod, node));
                }
            }
            Step::Fail(number) => {
                let runs = |pod: &Value| pod["status"]["phase"] == "Running";
                if let Some(pod) = self.nth(number).filter(runs) {
                    self.write(&patched(&pod, &json!({"status": {"phase": "Failed"}})));
                }
            }
            Step::Drain(number) => {
                let ends = |pod: &Value| pod["metadata"].get("deletionTimestamp").is_some();
                if let Some(pod) = self.nth(number).filter(ends) {
                    self.remove(&key(&pod));
                }
            }
            Step::Delete(number) => {
                if let Some(pod) = self.nth(number) {
                    self.delete(&pod);
                }
            }
            Step::Deliver(count) => {
                for _ in 0..count {
                    if let Some(event) = self.waiting.pop_front() {
                        self.apply(event);
                    }
                }
            }
            Step::CatchUp => self.catch_up(),
            Step::Notice => self.apply(Event::Pod(Change::Failed(WatchFailure::Silent))),
            Step::List => {
                self.waiting.clear();
                self.apply(Event::Pod(Change::Listing));
                for pod in self.pods.values().cloned().collect::<Vec<_>>() {
                    self.apply(event(&pod, ChangeKind::Item));
                }
                let listed = Change::Listed { version: self.version, round: Round(0) };
                self.apply(Event::Pod(listed));
                self.apply(Event::Pod(Change::Current(self.instant)));
            }
            Step::Wait(seconds) => {
                self.now = self.now + Duration::from_secs(seconds);
                self.instant += Duration::from_secs(seconds);
                self.tick();
            }
            Step::SetClock(seconds) => {
                self.now = Timestamp(self.now.0 + seconds * 1000);
                self.tick();
            }
        }
        self.check()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut slots = BTreeMap::new();
        for pod in self.pods.values() {
            let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
            let never_bound = pod["spec"].get("nodeName").is_none()
                && pod["metadata"].get("deletionTimestamp").is_some();
            if over || never_bound {
                continue;
            }
            let pinned = &pod["spec"]["affinity"]["nodeAffinity"];
            let slot = (pinned.to_string(), pod["metadata"]["labels"]["daylight.dev/slot"].clone());
            *slots.entry(format!("{slot:?}")).or_insert(0) += 1;
        }
        let held: usize = slots.values().sum();
        prop_assert!(held <= CAP, "{} of {} GPUs mine", held, CAP);
        prop_assert!(slots.values().all(|count| *count == 1), "a slot was granted twice");
        Ok(())
    }
}

fn key(pod: &Value) -> String {
    format!("team/{}", pod["metadata"]["name"].as_str().unwrap())
}

proptest! {
    #[test]
    fn no_cap_is_passed_by_stale_pictures_and_clock_steps(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step)?;
        }
        // Once all is reported, everything that may mine does, for as long as nothing fails.
        for _ in 0..8 {
            world.step(Step::Wait(3600))?;
            for number in 0..CAP {
                world.step(Step::Run(number))?;
            }
            let ending: Vec<String> = world.pods.values()
                .filter(|pod| pod["metadata"].get("deletionTimestamp").is_some())
                .map(key)
                .collect();
            for key in ending {
                world.remove(&key);
            }
            world.catch_up();
            world.step(Step::Plan(vec![Answer::Arrives]))?;
        }
        prop_assert_eq!(world.pods.len(), CAP);
    }
}
