//! The loop of decisions and requests reaches a fixed point after every kind of event, and after
//! the end of a process between any two of its requests.
//!
//! The view, the planner, the upkeep, the executor and the statuses are the real ones, and so are
//! the requests. Only the API server, kube-scheduler and the Job controller are simulated.

mod api;

use std::time::{Duration, Instant};

use daylight_base::Timestamp;
use daylight_cluster::{Change, Event, Round};
use daylight_planner::Planner;
use daylight_planner::explain::Plan;
use serde_json::{Value, json};

use self::api::{Api, own_suspend};
use super::events::Events;
use super::executor::send::Sender;
use super::executor::{Executor, Limits};
use super::lease::LeaseValidity;
use super::metrics::Metrics;
use super::state::State;
use super::status::Statuses;
use super::upkeep::Upkeep;
use crate::view::View;
use crate::view::tests::test_cluster::{
    ChangeKind, START, ai_job, all_listed, class, event, lease, miner, node, patched, pool, running,
};

const JOB: &str = "/apis/daylight.dev/v1alpha1/namespaces/ml/aijobs/train";
const BATCH_JOB: &str = "/apis/batch/v1/namespaces/ml/jobs/train";

fn limits() -> Limits {
    Limits {
        concurrency: 1,
        per_second: 0,
        metered: false,
        agent_lease: None,
        failed_pods_kept: Duration::ZERO,
        record_after: Duration::ZERO,
    }
}

/// One process.
struct Process {
    state: State,
    planner: Planner,
    executor: Executor,
    statuses: Statuses,
    plan: Plan,
}

impl Process {
    /// Starts a process, which lists all objects.
    fn start(api: &Api, now: Timestamp, instant: Instant) -> Self {
        let metrics = Metrics::new().unwrap();
        let validity = LeaseValidity::default();
        validity.hold_for_test(Duration::from_hours(1), Instant::now());
        let sender = Sender::new(api.client(), validity, Duration::from_secs(30), metrics.clone());
        let mut state = State::new(View::new(now), Events::new("test"), metrics);
        (state.now, state.instant) = (now, instant);
        state.view.tick(now, instant, &mut state.deltas);
        let (objects, version) = api.with(|objects| {
            objects.events.clear();
            let listed = objects.by_path.values().filter(|one| one["kind"] != "Service");
            (listed.cloned().collect::<Vec<_>>(), objects.version())
        });
        for object in &objects {
            state.view.apply(event(object, ChangeKind::Item), now, &mut state.deltas);
        }
        for one in all_listed(version, Round(0)) {
            state.view.apply(one, now, &mut state.deltas);
        }
        Self {
            state,
            planner: Planner::default(),
            executor: Executor::new(sender, limits()),
            statuses: Statuses::default(),
            plan: Plan::default(),
        }
    }

    /// Makes one plan, carries it out, and writes the statuses. Returns `false` if the process
    /// ended in between.
    async fn turn(&mut self, api: &Api) -> bool {
        let limits = limits();
        let state = &mut self.state;
        for (object, kind) in api.with(|objects| std::mem::take(&mut objects.events)) {
            state.view.apply(event(&object, kind), state.now, &mut state.deltas);
        }
        let current = Event::Pod(Change::Current(state.instant));
        state.view.apply(current, state.now, &mut state.deltas);
        state.view.refresh(state.now, &mut state.deltas);
        state.view.take_observations();
        for delta in state.take_deltas() {
            self.planner.apply(delta);
        }
        self.plan = self.planner.plan(state.now);
        let upkeep = Upkeep::of(&state.view, &self.plan, state.now, &limits);
        self.executor.submit(self.plan.actions.clone(), upkeep.changes, state.instant);
        if !self.work(api).await {
            return false;
        }
        let State { gang_services, view, instant, .. } = &mut self.state;
        let services = gang_services.due(view, &self.executor, *instant);
        self.executor.submit_background(services, self.state.instant);
        if !self.work(api).await {
            return false;
        }
        let (writes, _) = self.statuses.due(&self.plan, &mut self.state, &self.executor);
        self.executor.submit_background(writes, self.state.instant);
        self.work(api).await
    }

    async fn work(&mut self, api: &Api) -> bool {
        loop {
            self.executor.dispatch(&mut self.state);
            if self.executor.is_settled() {
                return true;
            }
            tokio::select! {
                ended = self.executor.next() => {
                    self.executor.take(ended, &mut self.state).unwrap();
                }
                () = api.died() => return false,
            }
        }
    }
}

/// A site of two nodes with 8 GPUs each and one AIJob, `ml/train`, with two workers of 8 GPUs.
struct Trial {
    api: Api,
    now: Timestamp,
    instant: Instant,
    process: Process,
    restarts: usize,
}

impl Trial {
    /// `miners` hold GPUs of the first node, and are stopping.
    async fn new(miners: u32) -> Self {
        let mut trial = Self::unsettled(miners);
        trial.settle().await;
        trial
    }

    /// The site before the first turn.
    fn unsettled(miners: u32) -> Self {
        let api = Api::default();
        let limits = json!({"limits": {"nvidia.com/gpu": "8", "cpu": "8", "memory": "64Gi"}});
        let template = json!({"spec": {"containers": [
            {"name": "w", "image": "r.io/train:1", "resources": limits},
        ]}});
        let job = patched(&ai_job("train", 2), &json!({"spec": {"gangTimeout": "60s"}}));
        let job = patched(&job, &json!({"spec": {"template": template}}));
        api.with(|objects| {
            objects.put("/apis/daylight.dev/v1alpha1/gpupools/a", pool("a"));
            objects.put(
                "/apis/daylight.dev/v1alpha1/activityclasses/ai-training",
                class("ai-training", "Guaranteed"),
            );
            objects.put("n1", node("n1", "a"));
            objects.put("n2", node("n2", "a"));
            for slot in 0..miners {
                let ends = json!({"metadata": {
                    "deletionTimestamp": "2026-11-24T07:00:00Z", "deletionGracePeriodSeconds": 3_600,
                }});
                let pod = running(&lease("m", "n1", slot), "n1");
                objects.put(&format!("miner-{slot}"), patched(&pod, &ends));
            }
            objects.put(JOB, job);
        });
        let (now, instant) = (START, Instant::now());
        let process = Process::start(&api, now, instant);
        Self { api, now, instant, process, restarts: 0 }
    }

    fn restart(&mut self) {
        self.restarts += 1;
        self.api.with(|objects| (objects.dies_after, objects.dead) = (None, false));
        self.process = Process::start(&self.api, self.now, self.instant);
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.instant += time;
        let state = &mut self.process.state;
        (state.now, state.instant) = (self.now, self.instant);
        state.view.tick(self.now, self.instant, &mut state.deltas);
    }

    /// Runs until nothing is written any more. A second passes with each turn.
    async fn settle(&mut self) {
        let mut calm = 0;
        for _ in 0..20 {
            let before = self.writes();
            if !self.process.turn(&self.api).await {
                self.restart();
            }
            self.wait(Duration::from_secs(1));
            calm = if self.writes() == before { calm + 1 } else { 0 };
            if calm == 3 {
                return;
            }
        }
        let writes = self.api.with(|objects| objects.writes.clone());
        panic!("it writes without end: {:#?}", &writes[writes.len().saturating_sub(12)..]);
    }

    fn writes(&self) -> usize {
        self.api.with(|objects| objects.writes.len())
    }

    fn get(&self, path: &str) -> Value {
        self.api.with(|objects| objects.by_path[path].clone())
    }

    /// State, reason and attempts of the AIJob, and whether its Job is suspended.
    fn seen(&self) -> (String, String, u64, bool) {
        let status = &self.get(JOB)["status"];
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        let suspended = self.get(BATCH_JOB)["spec"]["suspend"] == true;
        let attempts = status["attempts"].as_u64().unwrap_or_default();
        (text("state"), text("reason"), attempts, suspended)
    }

    fn assert_seen(&self, state: &str, reason: &str, attempts: u64, suspended: bool) {
        let expected = (state.to_owned(), reason.to_owned(), attempts, suspended);
        assert_eq!(self.seen(), expected, "{:#}", self.get(JOB)["status"]);
    }

    /// Takes a turn a second, and returns the number of requests about `what` in that time.
    async fn requests(&mut self, what: &str, seconds: u64) -> usize {
        let count = |trial: &Self| {
            trial.api.with(|objects| objects.writes.iter().filter(|one| one.contains(what)).count())
        };
        let before = count(self);
        for _ in 0..seconds {
            assert!(self.process.turn(&self.api).await);
            self.wait(Duration::from_secs(1));
        }
        count(self) - before
    }

    /// What the Job controller, kube-scheduler and the kubelets do: `workers` workers of a Job that
    /// is not suspended run, and those of one that is are gone.
    fn workers(&self, workers: usize) {
        let job = self.get(BATCH_JOB);
        self.api.with(|objects| {
            for index in 0..2 {
                let path = format!("worker-{index}");
                if job["spec"]["suspend"] == true || index >= workers {
                    objects.delete(&path);
                } else if !objects.by_path.contains_key(&path) {
                    let worker = crate::view::tests::test_cluster::worker("train", index as u32);
                    let owner = json!([{
                        "kind": "Job", "name": "train", "uid": job["metadata"]["uid"],
                        "controller": true,
                    }]);
                    let of_job = json!({"metadata": {"ownerReferences": owner}});
                    let requests = json!({"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "8"});
                    let mut worker = patched(&worker, &of_job);
                    worker["spec"]["containers"][0]["resources"]["requests"] = requests;
                    let node = if index == 0 { "n1" } else { "n2" };
                    objects.put(&path, running(&worker, node));
                }
            }
        });
    }

    fn miners_stop(&self) {
        self.api.with(|objects| {
            let pods: Vec<_> =
                objects.by_path.keys().filter(|key| key.starts_with("miner-")).cloned().collect();
            pods.iter().for_each(|pod| objects.delete(pod));
        });
    }

    /// Another client sets the Job's `spec.suspend`.
    fn set_suspend(&self, manager: &str, suspend: bool) {
        let mut job = self.get(BATCH_JOB);
        job["spec"]["suspend"] = json!(suspend);
        own_suspend(&mut job, manager);
        self.api.with(|objects| objects.put(BATCH_JOB, job));
    }

    fn set_ready(&self, node_name: &str, ready: bool) {
        let status = if ready { "True" } else { "False" };
        let conditions = json!([{"type": "Ready", "status": status}]);
        let node = patched(&node(node_name, "a"), &json!({"status": {"conditions": conditions}}));
        self.api.with(|objects| objects.put(node_name, node));
    }
}

#[tokio::test]
async fn a_gang_is_reserved_released_and_runs() {
    let mut trial = Trial::new(8).await;
    trial.assert_seen("Reserved", "WaitingForDrain", 0, true);
    trial.miners_stop();
    trial.settle().await;
    trial.assert_seen("Starting", "Starting", 1, false);
    trial.workers(2);
    trial.settle().await;
    trial.assert_seen("Running", "Running", 1, false);
}

#[tokio::test]
async fn a_job_that_loses_its_reservation_queues_again_once() {
    let mut trial = Trial::new(8).await;
    let of_job = |trial: &Trial| {
        let of_job = |objects: &mut api::Objects| {
            objects.writes.iter().filter(|write| write.contains(JOB)).count()
        };
        trial.api.with(of_job)
    };
    let before = of_job(&trial);
    trial.set_ready("n2", false);
    trial.settle().await;
    trial.assert_seen("Queued", "PoolTooSmall", 0, true);
    let status = trial.get(JOB)["status"].clone();
    assert_eq!((&status["placement"], &status["reservedAt"]), (&Value::Null, &Value::Null));
    assert_eq!(of_job(&trial) - before, 2, "one write of the state, one of the reason");
    // The priority may be changed again, and nothing is written while nothing changes.
    let before = trial.writes();
    trial.wait(Duration::from_mins(5));
    trial.settle().await;
    assert_eq!(trial.writes(), before);
    trial.set_ready("n2", true);
    trial.settle().await;
    trial.assert_seen("Reserved", "WaitingForDrain", 0, true);
}

#[tokio::test]
async fn a_job_keeps_its_attempts_when_it_loses_its_reservation() {
    let mut trial = Trial::new(0).await;
    trial.workers(1);
    trial.settle().await;
    trial.wait(Duration::from_secs(61));
    trial.settle().await;
    trial.assert_seen("Queued", "GangBackoff", 1, true);
    // When the back-off is over, a miner is still stopping, so nodes are reserved, and then lost.
    trial.workers(0);
    let ends = json!({"metadata": {
        "deletionTimestamp": "2026-11-24T07:00:00Z", "deletionGracePeriodSeconds": 3_600,
    }});
    let pod = patched(&running(&lease("m", "n1", 0), "n1"), &ends);
    trial.api.with(|objects| objects.put("miner-0", pod));
    trial.wait(Duration::from_secs(10));
    trial.settle().await;
    trial.assert_seen("Reserved", "WaitingForDrain", 1, true);
    trial.set_ready("n2", false);
    trial.settle().await;
    trial.assert_seen("Queued", "PoolTooSmall", 1, true);
}

#[tokio::test]
async fn a_reserved_status_without_nodes_queues_again() {
    let mut trial = Trial::new(8).await;
    trial.set_ready("n2", false);
    let job = patched(&trial.get(JOB), &json!({"status": {"placement": []}}));
    trial.api.with(|objects| objects.put(JOB, job));
    trial.settle().await;
    trial.assert_seen("Queued", "PoolTooSmall", 0, true);
}

#[tokio::test]
async fn a_job_that_another_client_suspends_waits_for_it() {
    let mut trial = Trial::new(0).await;
    trial.workers(2);
    trial.settle().await;
    trial.assert_seen("Running", "Running", 1, false);
    trial.set_suspend("kubectl-patch", true);
    trial.workers(2);
    trial.settle().await;
    trial.assert_seen("Queued", "JobSuspended", 1, true);
    let message = trial.get(JOB)["status"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("kubectl-patch suspended Job ml/train"), "{message}");
    // Nothing is reserved, and the Job is left alone, however long it takes.
    let before = trial.writes();
    trial.wait(Duration::from_hours(1));
    trial.settle().await;
    assert_eq!(trial.writes(), before);
    // It is resumed by hand, and runs.
    trial.set_suspend("kubectl-patch", false);
    trial.settle().await;
    trial.assert_seen("Starting", "Starting", 2, false);
    trial.workers(2);
    trial.settle().await;
    trial.assert_seen("Running", "Running", 2, false);
}

#[tokio::test]
async fn a_job_that_is_suspended_at_every_release_gives_its_gpus_back_once() {
    let mut trial = Trial::new(8).await;
    trial.miners_stop();
    trial.settle().await;
    trial.set_suspend("kueue", true);
    trial.settle().await;
    trial.assert_seen("Queued", "JobSuspended", 1, true);
    let releases = |trial: &Trial| {
        trial.api.with(|objects| {
            let patches =
                objects.writes.iter().filter(|write| write.starts_with("PATCH /apis/batch"));
            patches.count()
        })
    };
    assert_eq!(releases(&trial), 1);
    trial.wait(Duration::from_mins(30));
    trial.settle().await;
    assert_eq!(releases(&trial), 1, "its GPUs were taken from miners once only");
}

#[tokio::test]
async fn a_job_resumed_by_hand_is_taken_for_what_it_is() {
    // From the queue, and from a reservation.
    for (miners, ready) in [(8, false), (8, true)] {
        let mut trial = Trial::new(miners).await;
        trial.set_ready("n2", ready);
        trial.settle().await;
        trial.set_suspend("kubectl-patch", false);
        trial.settle().await;
        trial.assert_seen("Starting", "Starting", 1, false);
        // Its workers do not fit, and it queues again after `gangTimeout`.
        trial.wait(Duration::from_secs(61));
        trial.settle().await;
        let (state, _, attempts, suspended) = trial.seen();
        assert_eq!((&*state, attempts, suspended), ("Queued", 1, true));
    }
}

#[tokio::test]
async fn a_worker_that_is_lost_is_named() {
    let mut trial = Trial::new(0).await;
    trial.workers(2);
    trial.settle().await;
    trial.workers(1);
    trial.settle().await;
    trial.assert_seen("Running", "WorkersMissing", 1, false);
    trial.workers(2);
    trial.settle().await;
    trial.assert_seen("Running", "Running", 1, false);
}

#[tokio::test]
async fn a_job_that_was_deleted_is_made_again() {
    let mut trial = Trial::new(0).await;
    trial.workers(2);
    trial.settle().await;
    trial.api.with(|objects| objects.delete(BATCH_JOB));
    trial.api.with(|objects| {
        objects.delete("worker-0");
        objects.delete("worker-1");
    });
    trial.settle().await;
    trial.assert_seen("Starting", "Starting", 1, false);
}

/// The start of a gang that is reserved, released, not bound in time, and released again.
async fn story(dies_after: Option<usize>) -> Trial {
    let mut trial = Trial::new(8).await;
    trial.api.with(|objects| {
        let dies = dies_after.map(|more| objects.writes.len() + more);
        objects.dies_after = dies;
    });
    trial.miners_stop();
    trial.settle().await;
    trial.workers(1);
    trial.settle().await;
    trial.wait(Duration::from_secs(61));
    trial.settle().await;
    trial.workers(0);
    trial.settle().await;
    trial.wait(Duration::from_secs(30));
    trial.settle().await;
    trial.workers(2);
    trial.settle().await;
    trial
}

#[tokio::test]
async fn a_process_that_ends_between_two_requests_leaves_no_job_behind() {
    let whole = story(None).await;
    let begun = Trial::new(8).await.writes();
    let writes = whole.writes() - begun;
    assert!(writes >= 8, "{writes} writes");
    for dies_after in 1..=writes {
        let trial = story(Some(dies_after)).await;
        assert_eq!(trial.restarts, 1, "ended after write {dies_after}");
        let (state, reason, _, suspended) = trial.seen();
        let what = format!("ended after write {dies_after}: {:#}", trial.get(JOB)["status"]);
        assert_eq!((&*state, &*reason, suspended), ("Running", "Running", false), "{what}");
    }
}

#[tokio::test]
async fn a_process_that_ends_while_it_makes_a_gang_leaves_no_job_behind() {
    for dies_after in 1..=6 {
        let mut trial = Trial::unsettled(0);
        trial.api.with(|objects| objects.dies_after = Some(dies_after));
        trial.settle().await;
        trial.workers(2);
        trial.settle().await;
        assert!(trial.restarts <= 1);
        let (state, reason, _, suspended) = trial.seen();
        assert_eq!((&*state, &*reason, suspended), ("Running", "Running", false), "{dies_after}");
    }
}

#[tokio::test]
async fn a_refused_eviction_is_repeated_ever_more_rarely_and_its_miner_says_why() {
    let miner_path = "/apis/daylight.dev/v1alpha1/namespaces/team/miners/m";
    let pod_path = "/api/v1/namespaces/team/pods/m-n1-0-0";
    let mut trial = Trial::unsettled(0);
    trial.api.with(|objects| {
        objects.put(miner_path, patched(&miner("m"), &json!({"spec": {"replicas": 0}})));
        objects.put(pod_path, running(&lease("m", "n1", 0), "n1"));
        objects.refused = vec!["/eviction", "/pods/m-n1-0-0"];
    });
    trial.process = Process::start(&trial.api, trial.now, trial.instant);
    // The eviction, and the deletion that is tried in its place: after 0, 2, 6, 14, 30 and 62 s.
    assert_eq!(trial.requests("/pods/m-n1-0-0", 100).await, 12);
    let status = trial.get(miner_path)["status"].clone();
    assert_eq!(status["reason"], "StopRefused", "{status:#}");
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("The API server refuses to stop 1 pod of the miner"), "{message}");
    // Once nothing refuses it any more, it is stopped, and the miner has nothing to report.
    trial.api.with(|objects| objects.refused.clear());
    trial.requests("", 60).await;
    assert!(trial.get(pod_path)["metadata"]["deletionTimestamp"].is_string());
    trial.api.with(|objects| objects.delete(pod_path));
    trial.settle().await;
    assert_eq!(trial.get(miner_path)["status"]["reason"], "RegistrationMissing");
}

#[tokio::test]
async fn a_removal_is_requested_once_though_no_watch_reports_it() {
    let pod_path = "/api/v1/namespaces/team/pods/m-n1-0-0";
    let mut trial = Trial::unsettled(0);
    let pod =
        patched(&running(&lease("m", "n1", 0), "n1"), &json!({"status": {"phase": "Failed"}}));
    trial.api.with(|objects| objects.put(pod_path, pod));
    trial.process = Process::start(&trial.api, trial.now, trial.instant);
    trial.process.turn(&trial.api).await;
    assert!(trial.api.with(|objects| !objects.by_path.contains_key(pod_path)));
    // The watch is silent.
    trial.api.with(|objects| objects.events.clear());
    assert_eq!(trial.requests("/pods/m-n1-0-0", 1).await, 0);
    // After some seconds the request is repeated, and its answer shows that the pod is gone.
    assert!(trial.requests("/pods/m-n1-0-0", 60).await <= 1);
}

#[tokio::test]
async fn a_service_that_is_deleted_is_made_again() {
    let service = "/api/v1/namespaces/ml/services/train";
    let mut trial = Trial::new(0).await;
    trial.workers(2);
    trial.settle().await;
    trial.api.with(|objects| objects.delete(service));
    trial.api.with(|objects| objects.events.clear());
    assert_eq!(trial.requests(" /api/v1/namespaces/ml/services", 12).await, 1);
    assert_eq!(trial.get(service)["metadata"]["ownerReferences"][0]["uid"], "aijob-train");
    assert_eq!(trial.requests(" /api/v1/namespaces/ml/services", 30).await, 0);
}

#[tokio::test]
async fn a_service_of_another_owner_is_not_taken_for_the_gangs() {
    let service = "/api/v1/namespaces/ml/services/train";
    let mut trial = Trial::unsettled(0);
    let foreign = json!({"kind": "Service", "metadata": {"name": "train", "namespace": "ml"}});
    trial.api.with(|objects| objects.put(service, foreign));
    trial.api.with(|objects| objects.events.clear());
    // Tried after 0, 2, 6, 14 and 30 s.
    assert_eq!(trial.requests(" /api/v1/namespaces/ml/services", 60).await, 5);
    assert!(trial.api.with(|objects| !objects.by_path.contains_key(BATCH_JOB)));
    trial.api.with(|objects| objects.delete(service));
    trial.api.with(|objects| objects.events.clear());
    trial.wait(Duration::from_mins(1));
    trial.settle().await;
    trial.workers(2);
    trial.settle().await;
    trial.assert_seen("Running", "Running", 1, false);
}
