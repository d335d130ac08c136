//! Properties that hold for any events in any order: the deltas add up to the snapshot, and the
//! snapshot equals that of a view which has just listed everything.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use daylight_base::Timestamp;
use daylight_planner::model::{Delta, JobState, Shape, Snapshot};
use proptest::prelude::*;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use crate::view::View;
use crate::view::foreseen::move_state;
use crate::view::tests::test_cluster::{
    ChangeKind, START, ai_job, all_listed, batch_job, class, ended, event, lease, miner, node,
    patched, pod, pool, registration, running, worker,
};
use daylight_cluster::{Change, Event, Kind, Round};

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    /// An object is written; if `answered`, the answer arrives before the watch reports it.
    Write {
        object: Value,
        answered: bool,
    },
    /// The object with this number is deleted, if it exists.
    Delete(usize),
    /// The watch of a kind delivers at most this number of the events that wait.
    Deliver(Kind, usize),
    /// The watch of a kind is interrupted, and lists again.
    Break(Kind),
    /// A pod is foreseen, and then created (`true`), refused (`false`), or neither.
    Foresee(Value, Option<bool>),
    /// A pod's end is foreseen.
    End(usize),
    /// A job's state is foreseen.
    State(usize),
    Wait(i64),
    /// The wall clock is set forward, or back.
    SetClock(i64),
}

fn kind(object: &Value) -> Kind {
    match object["kind"].as_str().unwrap() {
        "Pod" => Kind::Pod,
        "Node" => Kind::Node,
        "Namespace" => Kind::Namespace,
        "Job" => Kind::BatchJob,
        "AdmissionList" => Kind::RegistrationMirror,
        "ConfigMap" => Kind::EmergencyStop,
        "GpuPool" => Kind::GpuPool,
        "ActivityClass" => Kind::ActivityClass,
        "Registration" => Kind::Registration,
        "Miner" => Kind::Miner,
        "AIJob" => Kind::AiJob,
        kind => panic!("{kind}"),
    }
}

fn objects() -> BoxedStrategy<Value> {
    let nodes = || prop::sample::select(vec!["n0", "n1", "n2"]);
    let pools = || prop::sample::select(vec!["a", "b"]);
    prop_oneof![
        2 => (pools(), 0..5_u8).prop_map(|(name, how)| patched(&pool(name), &match how {
            0 => json!({"spec": {"resource": "amd.com/gpu"}}),
            1 => json!({"spec": {"nodeSelector": {"matchLabels": {"pool": "a"}}}}),
            2 => json!({"spec": {"resource": 5}}),
            3 => json!({"spec": {"tolerations": [{"operator": "Exists"}], "mining": {"powerBudgetWatts": 9}}}),
            _ => json!({}),
        })),
        4 => (nodes(), pools(), 0..5_u8).prop_map(|(name, pool, how)| patched(&node(name, pool), &match how {
            0 => json!({"status": {"allocatable": {"nvidia.com/gpu": "2", "amd.com/gpu": "4"}}}),
            1 => json!({"spec": {"taints": [{"key": "t", "effect": "NoSchedule"}]}}),
            2 => json!({"metadata": {"labels": {"fast": "yes"}}}),
            3 => json!({"metadata": {"labels": {"pool": "none"}}}),
            _ => json!({}),
        })),
        4 => (0..4_u32, nodes(), 0..7_u8).prop_map(|(number, node, how)| {
            let pod = pod(&format!("p{number}"), number);
            let never = patched(&pod, &json!({
                "spec": {"preemptionPolicy": "Never", "nodeSelector": {"fast": "yes"}},
                "status": {"conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "lastTransitionTime": "2026-11-24T06:00:10Z",
                }]},
            }));
            match how {
                0 => pod,
                1 | 2 => running(&pod, node),
                3 => ended(&running(&pod, node), "Succeeded"),
                4 => patched(&pod, &json!({"metadata": {"labels": {"daylight.dev/activity": null}}})),
                _ => never,
            }
        }),
        4 => (nodes(), 0..3_u32, 0..5_u8).prop_map(|(node, slot, how)| {
            let lease = lease("m", node, slot);
            match how {
                0 | 1 => lease,
                2 => running(&lease, node),
                3 => patched(&running(&lease, node), &json!({"metadata": {"deletionTimestamp": "2026-11-24T06:00:30Z"}})),
                _ => ended(&running(&lease, node), "Failed"),
            }
        }),
        2 => (0..2_u32, any::<bool>(), nodes()).prop_map(|(view, bound, node)| {
            let worker = worker("train", view);
            if bound { running(&worker, node) } else { worker }
        }),
        2 => (0..4_u8).prop_map(|how| patched(&ai_job("train", 2), &match how {
            0 => json!({"spec": {"template": {"spec": {"nodeSelector": {"fast": "yes"}}}}}),
            1 => json!({"status": {"state": "Reserved", "placement": [{"node": "n1", "workers": 2}]}}),
            2 => json!({"metadata": {"uid": "another"}}),
            _ => json!({}),
        })),
        1 => any::<bool>().prop_map(|over| patched(&batch_job("train"), &if over {
            json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}})
        } else {
            json!({})
        })),
        1 => any::<bool>().prop_map(|strict| patched(&class("pow", "IdleOnly"), &if strict {
            json!({"spec": {"allowedImages": ["r.io/none"]}})
        } else {
            json!({})
        })),
        1 => any::<bool>().prop_map(|capped| patched(&registration("reg"), &if capped {
            json!({"spec": {"limits": {"watts": 5}}, "status": {"approval": {
                "state": "Approved", "by": "olga", "at": "2026-11-23T00:00:00Z", "specDigest": "x", "generation": 1,
            }}})
        } else {
            json!({})
        })),
        1 => any::<bool>().prop_map(|silent| patched(&miner("m"), &if silent {
            json!({"spec": {"wattsPerReplica": null}})
        } else {
            json!({})
        })),
        1 => prop::sample::select(vec!["x", "y"]).prop_map(|class| json!({
            "kind": "Namespace", "metadata": {"name": "ml", "uid": "ns", "labels": {"daylight.dev/activity": class}},
        })),
        1 => Just(json!({
            "kind": "ConfigMap",
            "metadata": {"name": "daylight-emergency-stop", "namespace": "daylight-system", "uid": "stop"},
            "data": {"by": "ann", "reason": "smoke"},
        })),
    ]
    .boxed()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kinds = || prop::sample::select(Kind::ALL.to_vec());
    let foreseen = (prop::sample::select(vec!["n0", "n1"]), 0..3_u32).prop_map(|(node, slot)| {
        patched(
            &lease("m", node, slot),
            &json!({"metadata": {"uid": null, "creationTimestamp": null}, "status": null}),
        )
    });
    let step = prop_oneof![
        8 => (objects(), any::<bool>()).prop_map(|(object, answered)| Step::Write { object, answered }),
        3 => any::<usize>().prop_map(Step::Delete),
        6 => (kinds(), 1..4_usize).prop_map(|(kind, count)| Step::Deliver(kind, count)),
        1 => kinds().prop_map(Step::Break),
        2 => (foreseen, any::<Option<bool>>()).prop_map(|(pod, created)| Step::Foresee(pod, created)),
        1 => any::<usize>().prop_map(Step::End),
        1 => any::<usize>().prop_map(Step::State),
        1 => (0..70_i64).prop_map(Step::Wait),
        1 => (-3600..3600_i64).prop_map(Step::SetClock),
    ];
    prop::collection::vec(step, 1..80)
}

/// The server, the events that its watches have not delivered yet, and the view.
struct World {
    server: BTreeMap<String, Value>,
    version: u64,
    waiting: BTreeMap<Kind, VecDeque<Event>>,
    view: View,
    now: Timestamp,
    instant: Instant,
    known: KnownState,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            server: BTreeMap::new(),
            version: 100,
            waiting: BTreeMap::new(),
            view: View::new(START),
            now: START,
            instant: Instant::now(),
            known: KnownState::default(),
        };
        let mut out = Vec::new();
        world.view.tick(START, world.instant, &mut out);
        for event in all_listed(100, Round(0)) {
            world.view.apply(event, START, &mut out);
        }
        world
    }

    fn stamp(&mut self, object: &Value) -> Value {
        self.version += 1;
        patched(object, &json!({"metadata": {"resourceVersion": self.version.to_string()}}))
    }

    fn id(object: &Value) -> String {
        format!(
            "{} {} {}",
            object["kind"], object["metadata"]["namespace"], object["metadata"]["name"]
        )
    }

    fn write(&mut self, object: &Value) -> Value {
        let object = self.stamp(object);
        self.server.insert(Self::id(&object), object.clone());
        self.waiting
            .entry(kind(&object))
            .or_default()
            .push_back(event(&object, ChangeKind::Applied));
        object
    }

    fn apply(&mut self, event: Event) {
        let mut out = Vec::new();
        self.view.apply(event, self.now, &mut out);
        self.known.fold(out);
    }

    fn nth(&self, number: usize) -> Option<Value> {
        let count = self.server.len().max(1);
        self.server.values().nth(number % count).cloned()
    }

    fn answer(&mut self, object: &Value) {
        let mut out = Vec::new();
        let (view, now) = (&mut self.view, self.now);
        macro_rules! read {
            () => {
                // Through text, as the server sends it.
                serde_json::from_str(&object.to_string())
            };
        }
        match kind(object) {
            Kind::Pod => view.assume_pod(read!().unwrap(), now, &mut out),
            Kind::BatchJob => view.assume_batch_job(read!().unwrap(), now, &mut out),
            Kind::Miner => view.assume_miner(read!().unwrap(), now, &mut out),
            Kind::AiJob => view.assume_ai_job(read!().unwrap(), now, &mut out),
            Kind::Registration => view.assume_registration(read!().unwrap(), now, &mut out),
            Kind::ActivityClass => view.assume_class(read!().unwrap(), now, &mut out),
            Kind::GpuPool => {
                if let Ok(pool) = read!() {
                    view.assume_pool(pool, now, &mut out);
                }
            }
            Kind::Node
            | Kind::Namespace
            | Kind::EmergencyStop
            | Kind::RegistrationMirror
            | Kind::ClassMirror
            | Kind::AuthorityKeys
            | Kind::Workload
            | Kind::RuntimeClass => {}
        }
        self.known.fold(out);
    }

    fn list(&mut self, which: Kind) {
        self.waiting.remove(&which);
        let version = self.version;
        let items: Vec<Value> =
            self.server.values().filter(|object| kind(object) == which).cloned().collect();
        macro_rules! begin_and_end {
            ($($kind:ident),*) => {
                match which {
                    $(Kind::$kind => (
                        Event::$kind(Change::Listing),
                        Event::$kind(Change::Listed { version, round: Round(0) }),
                    ),)*
                }
            };
        }
        let (begin, end) = begin_and_end!(
            Pod,
            Node,
            Namespace,
            BatchJob,
            GpuPool,
            ActivityClass,
            Registration,
            Miner,
            AiJob,
            EmergencyStop,
            RegistrationMirror,
            ClassMirror,
            AuthorityKeys,
            Workload,
            RuntimeClass
        );
        self.apply(begin);
        for item in items {
            self.apply(event(&item, ChangeKind::Item));
        }
        self.apply(end);
    }

    fn wait(&mut self, seconds: i64) {
        self.now = Timestamp(self.now.0 + seconds * 1000);
        self.instant += Duration::from_secs(seconds.cast_unsigned());
        self.tick();
        if self.waiting.get(&Kind::Pod).is_none_or(VecDeque::is_empty) {
            self.apply(Event::Pod(Change::Current(self.instant)));
        }
    }

    fn tick(&mut self) {
        let mut out = Vec::new();
        self.view.tick(self.now, self.instant, &mut out);
        self.view.refresh(self.now, &mut out);
        self.known.fold(out);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write { object, answered } => {
                let object = self.write(&object);
                if answered {
                    self.answer(&object);
                }
            }
            Step::Delete(number) => {
                if let Some(object) = self.nth(number) {
                    self.server.remove(&Self::id(&object));
                    let object = self.stamp(&object);
                    self.waiting
                        .entry(kind(&object))
                        .or_default()
                        .push_back(event(&object, ChangeKind::Deleted));
                }
            }
            Step::Deliver(kind, count) => {
                for _ in 0..count {
                    let next = self.waiting.get_mut(&kind).and_then(VecDeque::pop_front);
                    if let Some(event) = next {
                        self.apply(event);
                    }
                }
            }
            Step::Break(kind) => self.list(kind),
            Step::Foresee(pod, created) => {
                let mut out = Vec::new();
                let slim = serde_json::from_value(pod.clone()).unwrap();
                self.view.foresee_pod(slim, self.now, &mut out);
                let key = format!("team/{}", pod["metadata"]["name"].as_str().unwrap());
                match created {
                    // The name is taken on the server: refused.
                    Some(true) if !self.server.contains_key(&Self::id(&pod)) => {
                        let real = patched(
                            &pod,
                            &json!({"metadata": {
                                "uid": format!("u{}", self.version),
                                "creationTimestamp": "2026-11-24T06:00:00Z",
                            }}),
                        );
                        let real = self.write(&real);
                        self.known.fold(std::mem::take(&mut out));
                        self.answer(&real);
                    }
                    Some(_) => self.view.unforesee_pod(&key, &mut out),
                    None => {}
                }
                self.known.fold(out);
            }
            Step::End(number) => {
                let mut out = Vec::new();
                if let Some(object) = self.nth(number) {
                    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                    let key = format!("{}/{}", text("namespace"), text("name"));
                    self.view.foresee_end(&key, text("uid"), self.now, &mut out);
                }
                self.known.fold(out);
            }
            Step::State(number) => {
                let mut out = Vec::new();
                let state = JobState::Queued { attempts: number as u32 % 3, suspended_at: None };
                self.view.foresee_state("ml/train", state, self.now, &mut out);
                self.known.fold(out);
            }
            Step::Wait(seconds) => self.wait(seconds),
            Step::SetClock(seconds) => {
                self.now = Timestamp(self.now.0 + seconds * 1000);
                self.tick();
            }
        }
    }
}

/// State of the planner, folded from all deltas.
#[derive(Default)]
struct KnownState(Snapshot);

impl KnownState {
    fn fold(&mut self, deltas: Vec<Delta>) {
        macro_rules! put {
            ($list:ident, $key:ident, $object:expr) => {
                match self.0.$list.binary_search_by(|known| known.$key.cmp(&$object.$key)) {
                    Ok(at) => {
                        assert_ne!(self.0.$list[at], $object, "sent twice");
                        self.0.$list[at] = $object;
                    }
                    Err(at) => self.0.$list.insert(at, $object),
                }
            };
        }
        macro_rules! cut {
            ($list:ident, $key:ident, $name:expr) => {{
                let before = self.0.$list.len();
                self.0.$list.retain(|known| known.$key != $name);
                assert_eq!(self.0.$list.len() + 1, before, "reported as gone, but never sent");
            }};
        }
        for delta in deltas {
            match delta {
                Delta::Pool(pool) => put!(pools, name, pool),
                Delta::PoolGone(name) => cut!(pools, name, name),
                Delta::Class(class) => put!(classes, name, class),
                Delta::ClassGone(name) => cut!(classes, name, name),
                Delta::Registration(one) => put!(registrations, key, one),
                Delta::RegistrationGone(key) => cut!(registrations, key, key),
                Delta::Miner(miner) => put!(miners, key, miner),
                Delta::MinerGone(key) => cut!(miners, key, key),
                Delta::Job(job) => put!(jobs, key, job),
                Delta::JobGone(key) => cut!(jobs, key, key),
                Delta::Node(node) => put!(nodes, name, node),
                Delta::NodeGone(name) => cut!(nodes, name, name),
                Delta::Pod(pod) => put!(pods, key, pod),
                Delta::PodGone(key) => cut!(pods, key, key),
                Delta::EmergencyStop(stop) => self.0.emergency_stop = stop,
            }
        }
    }
}

/// The snapshot without the memory of earlier states, which a fresh view cannot have.
fn present(view: &View) -> Snapshot {
    let mut snapshot = view.snapshot();
    for registration in &mut snapshot.registrations {
        registration.deleted_mj = 0;
    }
    for job in &mut snapshot.jobs {
        (job.requests_changed, job.shape) = (None, Shape::default());
    }
    for miner in &mut snapshot.miners {
        (miner.requests_changed, miner.shape) = (None, Shape::default());
    }
    for pod in &mut snapshot.pods {
        pod.gone_by = None;
    }
    for node in &mut snapshot.nodes {
        node.ai_released_at = None;
        node.shrunk_at = None;
        node.lost.clear();
        node.quarantined_until = None;
        node.closed_to.clear();
    }
    for pod in &mut snapshot.pods {
        pod.created = START;
    }
    for job in &mut snapshot.jobs {
        move_state(&mut job.state, |_| START);
    }
    snapshot
}

proptest! {
    #[test]
    fn deltas_add_up_to_the_snapshot_of_a_fresh_view(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            prop_assert_eq!(&world.known.0, &world.view.snapshot());
            let sums = world.view.assigned().map(|(held, gpus)| (held.clone(), gpus));
            prop_assert_eq!(sums.collect::<FxHashMap<_, _>>(), world.view.count_assigned());
            let work = world.view.work().map(|(work, running)| (work.clone(), running));
            prop_assert_eq!(work.collect::<FxHashMap<_, _>>(), world.view.count_work());
        }
        // The watches deliver the rest, and the foreseen effects that did not occur expire.
        for kind in Kind::ALL {
            world.step(Step::Deliver(*kind, 500));
        }
        world.wait(121);
        prop_assert_eq!(&world.known.0, &world.view.snapshot());

        let mut fresh = View::new(START);
        let mut out = Vec::new();
        fresh.tick(world.now, world.instant, &mut out);
        for object in world.server.values() {
            fresh.apply(event(object, ChangeKind::Item), world.now, &mut out);
        }
        for event in all_listed(world.version, Round(0)) {
            fresh.apply(event, world.now, &mut out);
        }
        // No state is younger than what is decided by its age.
        world.wait(61);
        fresh.tick(world.now, world.instant, &mut out);
        fresh.refresh(world.now, &mut out);
        fresh.apply(Event::Pod(Change::Current(world.instant)), world.now, &mut out);
        prop_assert_eq!(present(&world.view), present(&fresh));
        let problems = |view: &View| format!("{:?}", view.all_problems());
        prop_assert_eq!(problems(&world.view), problems(&fresh));
        let leftovers = |view: &View| {
            view.leftovers().iter().map(|one| one.pod.key.to_string()).collect::<Vec<_>>()
        };
        prop_assert_eq!(leftovers(&world.view), leftovers(&fresh));
    }
}
