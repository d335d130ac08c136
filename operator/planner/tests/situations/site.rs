//! The site of a situation: it holds the objects, passes every change to the planner, carries plans
//! out, and shows them as text.
//!
//! Every plan is checked: a planner built from the whole site gives the same plan, planning again
//! gives the same plan, and once its actions are carried out, nothing is left to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_planner::Planner;
use daylight_planner::explain::{Action, Grant, MinerReport, Plan, PoolGpus, PoolReport, Reason};
use daylight_planner::model::*;

use crate::objects::*;

/// An object, or several, that can be put into a site.
pub(crate) trait Thing {
    fn deltas(self) -> Vec<Delta>;
}

macro_rules! things {
    ($($thing:ident),*) => {
        $(impl Thing for $thing {
            fn deltas(self) -> Vec<Delta> {
                vec![Delta::$thing(self)]
            }
        })*
    };
}

things!(Pool, Class, Registration, Miner, Job, Node, Pod);

impl<T: Thing> Thing for Vec<T> {
    fn deltas(self) -> Vec<Delta> {
        self.into_iter().flat_map(Thing::deltas).collect()
    }
}

impl Thing for Delta {
    fn deltas(self) -> Vec<Delta> {
        vec![self]
    }
}

pub(crate) struct Site {
    pub(crate) now: Timestamp,
    planner: Planner,
    stop: Option<EmergencyStop>,
    pools: BTreeMap<Name, Pool>,
    classes: BTreeMap<Name, Class>,
    registrations: BTreeMap<Name, Registration>,
    miners: BTreeMap<Name, Miner>,
    jobs: BTreeMap<Name, Job>,
    nodes: BTreeMap<Name, Node>,
    pods: BTreeMap<Name, Pod>,
}

impl Site {
    /// Creates a site with nothing but a positive list.
    pub(crate) fn new() -> Self {
        let site = Self {
            now: NOON,
            planner: Planner::default(),
            stop: None,
            pools: BTreeMap::new(),
            classes: BTreeMap::new(),
            registrations: BTreeMap::new(),
            miners: BTreeMap::new(),
            jobs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
        };
        site.with(class("ai-training", ClassAssignment::Guaranteed, 0))
            .with(class("ai-inference", ClassAssignment::Guaranteed, 0))
            .with(class("useful-work-mining", ClassAssignment::IdleOnly, 20))
            .with(class("pow-mining", ClassAssignment::IdleOnly, 10))
            .with(class("prohibited-pow", ClassAssignment::Prohibited, 0))
    }

    /// Creates a pool `h100` of `count` nodes with `gpus` each, where `acme/hash` with `replicas`
    /// mines under the registration `acme/power`.
    pub(crate) fn of(count: u32, gpus: u32, replicas: u32) -> Self {
        Self::new()
            .with(pool("h100"))
            .with(nodes(count, gpus))
            .with(registration("acme/power"))
            .with(miner("acme/hash", replicas))
    }

    pub(crate) fn with(mut self, thing: impl Thing) -> Self {
        self.put(thing);
        self
    }

    /// Adds an object, or replaces it.
    pub(crate) fn put(&mut self, thing: impl Thing) {
        for delta in thing.deltas() {
            self.apply(delta);
        }
    }

    fn apply(&mut self, delta: Delta) {
        self.planner.apply(delta.clone());
        match delta {
            Delta::EmergencyStop(stop) => self.stop = stop,
            Delta::Pool(pool) => drop(self.pools.insert(pool.name.clone(), pool)),
            Delta::PoolGone(name) => drop(self.pools.remove(&name)),
            Delta::Class(class) => drop(self.classes.insert(class.name.clone(), class)),
            Delta::ClassGone(name) => drop(self.classes.remove(&name)),
            Delta::Registration(object) => {
                drop(self.registrations.insert(object.key.clone(), object));
            }
            Delta::RegistrationGone(key) => drop(self.registrations.remove(&key)),
            Delta::Miner(miner) => drop(self.miners.insert(miner.key.clone(), miner)),
            Delta::MinerGone(key) => drop(self.miners.remove(&key)),
            Delta::Job(job) => drop(self.jobs.insert(job.key.clone(), job)),
            Delta::JobGone(key) => drop(self.jobs.remove(&key)),
            Delta::Node(node) => drop(self.nodes.insert(node.name.clone(), node)),
            Delta::NodeGone(name) => drop(self.nodes.remove(&name)),
            Delta::Pod(pod) => drop(self.pods.insert(pod.key.clone(), pod)),
            Delta::PodGone(key) => drop(self.pods.remove(&key)),
        }
    }

    pub(crate) fn edit_pool(&mut self, name: &str, change: impl FnOnce(&mut Pool)) {
        self.put(self.pools[name].clone().but(change));
    }

    pub(crate) fn edit_registration(&mut self, key: &str, change: impl FnOnce(&mut Registration)) {
        self.put(self.registrations[key].clone().but(change));
    }

    pub(crate) fn edit_miner(&mut self, key: &str, change: impl FnOnce(&mut Miner)) {
        self.put(self.miners[key].clone().but(change));
    }

    pub(crate) fn edit_node(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        self.put(self.nodes[name].clone().but(change));
    }

    pub(crate) fn edit_job(&mut self, key: &str, change: impl FnOnce(&mut Job)) {
        self.put(self.jobs[key].clone().but(change));
    }

    pub(crate) fn edit_pod(&mut self, key: &str, change: impl FnOnce(&mut Pod)) {
        self.put(self.pods[key].clone().but(change));
    }

    /// Another system holds all miners' pods by a scheduling gate.
    pub(crate) fn gate_miners(&mut self, gate: &str) {
        let miners = self.pods.values().filter(|pod| matches!(pod.role, Role::Miner { .. }));
        for mut pod in miners.cloned().collect::<Vec<_>>() {
            pod.gates = vec![gate.into()];
            self.put(pod);
        }
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Plans, and checks the plan against one of a planner built from scratch.
    pub(crate) fn look(&mut self) -> Plan {
        let plan = self.planner.plan(self.now);
        assert_eq!(plan, self.planner.plan(self.now), "the same site gives the same plan");
        let scratch = Planner::new(self.snapshot()).plan(self.now);
        assert_eq!(plan, scratch, "what is kept between plans is a cache only");
        for PoolReport { pool, gpus, .. } in &plan.pools {
            let PoolGpus {
                total,
                ai,
                mining,
                undeclared,
                unlisted,
                idle,
                headroom,
                unavailable,
                quarantined,
            } = *gpus;
            let states =
                ai + mining + undeclared + unlisted + idle + headroom + unavailable + quarantined;
            assert_eq!(total, states, "the states of the GPUs of {pool} add up");
        }
        plan
    }

    /// The actions that the planner would take now.
    pub(crate) fn actions(&mut self) -> String {
        show_actions(&self.look().actions)
    }

    /// The actions that the planner would take now, and its explanations.
    pub(crate) fn explained(&mut self) -> String {
        explain(&self.look())
    }

    /// Plans and carries the plan out; returns its actions.
    pub(crate) fn act(&mut self) -> String {
        let plan = self.look();
        self.carry_out(&plan);
        let again = self.look();
        let left = show_actions(&again.actions);
        let actions = show_actions(&plan.actions);
        assert_eq!(left, "", "nothing is left to do after\n{actions}");
        actions
    }

    /// Plans and carries the plan out; returns its actions and explanations.
    pub(crate) fn act_explained(&mut self) -> String {
        let explained = self.explained();
        self.act();
        explained
    }

    /// All stopping miners stop.
    pub(crate) fn drained(&mut self) {
        let stopped: Vec<_> =
            self.pods.values().filter(|pod| pod.deleting).map(|pod| pod.key.clone()).collect();
        stopped.into_iter().for_each(|key| self.apply(Delta::PodGone(key)));
    }

    /// One of the stopping miners stops.
    pub(crate) fn one_drained(&mut self) {
        let first = self.pods.values().find(|pod| pod.deleting);
        let key = first.map(|pod| pod.key.clone()).unwrap();
        self.apply(Delta::PodGone(key));
    }

    /// kube-scheduler binds the workers of a released job where Daylight
    /// prefers them.
    pub(crate) fn bound(&mut self, job: &str) {
        let job = self.jobs[job].clone();
        let JobState::Released { placement, .. } = &job.state else {
            panic!("{} is not released", job.key);
        };
        for placement in placement {
            for _ in 0..placement.workers {
                self.bind_worker(&job.key, &placement.node);
            }
        }
        let since = self.now;
        self.put(job.but(|job| job.state = JobState::Running { since }));
    }

    /// kube-scheduler binds one worker of a job.
    pub(crate) fn bind_worker(&mut self, job: &str, node: &str) {
        let job = self.jobs[job].clone();
        let index = self.pods.values().filter(|pod| is_worker(pod, &job.key)).count();
        self.put(Pod {
            key: format!("{}-{index}", job.key).into(),
            node: Some(node.into()),
            nominated: None,
            gpus: vec![(job.resource.clone(), job.shape.gpus)],
            cpu_milli: job.shape.cpu_milli,
            memory: job.shape.memory,
            created: self.now,
            deleting: false,
            gone_by: None,
            huge_pages: job.shape.huge_pages,
            gates: Vec::new(),
            by_claim: Vec::new(),
            role: Role::Worker { job: job.key, preemption: Preemption::ByScheduler },
        });
    }

    /// Ends a job: its pods are gone, its nodes observe the idle delay.
    pub(crate) fn ended(&mut self, key: &str) {
        let now = self.now;
        for pod in self.workers(key) {
            if let Some(node) = self.pods[&pod].node.clone() {
                self.edit_node(&node, |node| node.ai_released_at = Some(now));
            }
            self.apply(Delta::PodGone(pod));
        }
        self.edit_job(key, |job| job.state = JobState::Finished);
    }

    fn workers(&self, job: &str) -> Vec<Name> {
        let workers = self.pods.values().filter(|pod| is_worker(pod, job));
        workers.map(|pod| pod.key.clone()).collect()
    }

    /// Runs the site until nothing is left to do: plans are carried out, miners stop, workers are
    /// bound.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10 {
            self.act();
            self.drained();
            let released: Vec<_> = self
                .jobs
                .values()
                .filter(|job| matches!(&job.state, JobState::Released { placement, .. } if !placement.is_empty()))
                .map(|job| job.key.clone())
                .collect();
            released.iter().for_each(|job| self.bound(job));
            if released.is_empty() && self.look().actions.is_empty() {
                return;
            }
        }
        panic!("the site does not settle: {}", self.actions());
    }

    /// An hour passes, a plan and a full drain every 70 s; returns the pods that were evicted.
    pub(crate) fn evicted_within_an_hour(&mut self) -> Vec<Name> {
        let mut evicted = Vec::new();
        for _ in 0..=3600 / 70 {
            let plan = self.look();
            evicted.extend(plan.actions.iter().filter_map(|action| match action {
                Action::Evict { pod, .. } => Some(pod.clone()),
                _ => None,
            }));
            self.act();
            self.drained();
            self.wait(Duration::from_secs(70));
        }
        evicted
    }

    fn carry_out(&mut self, plan: &Plan) {
        for action in &plan.actions {
            let state = |job: &Name| self.jobs[job].state.clone();
            let advanced =
                action.advances(state, self.now).map(|(job, state)| (job.clone(), state));
            match action {
                Action::Grant(grant) => self.grant(grant),
                Action::Evict { pod, .. } => {
                    assert!(!self.pods[pod].deleting, "{pod} is stopping already");
                    self.edit_pod(pod, |pod| pod.deleting = true);
                }
                Action::Suspend { job } => {
                    let workers = self.workers(job);
                    workers.into_iter().for_each(|pod| self.apply(Delta::PodGone(pod)));
                }
                Action::Reserve { .. } | Action::Release { .. } | Action::Requeue { .. } => {}
            }
            if let Some((job, state)) = advanced {
                self.edit_job(&job, |job| job.state = state);
            }
        }
    }

    fn grant(&mut self, grant: &Grant) {
        let miner = self.miners[&grant.miner].clone();
        let name = format!("{}-{}-{}", miner.key, grant.node, grant.slot);
        let taken = |key: &str| self.pods.contains_key(key);
        let epochs = (2..).map(|epoch| format!("{name}-{epoch}"));
        let key = std::iter::once(name.clone()).chain(epochs).find(|key| !taken(key)).unwrap();
        self.put(Pod {
            node: Some(grant.node.clone()),
            ..Pod::replica(key.into(), &miner, &self.pools[&grant.pool], grant.slot, self.now)
        });
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            emergency_stop: self.stop.clone(),
            pools: self.pools.values().cloned().collect(),
            classes: self.classes.values().cloned().collect(),
            registrations: self.registrations.values().cloned().collect(),
            miners: self.miners.values().cloned().collect(),
            jobs: self.jobs.values().cloned().collect(),
            nodes: self.nodes.values().cloned().collect(),
            pods: self.pods.values().cloned().collect(),
        }
    }

    /// Shows the holders of the GPUs of each node.
    pub(crate) fn map(&self) -> String {
        let mut map = String::new();
        for node in self.nodes.values() {
            let mut holders: BTreeMap<String, u32> = BTreeMap::new();
            let mut idle: i64 = node.gpus.iter().map(|(_, gpus)| i64::from(*gpus)).sum();
            for pod in self.pods.values().filter(|pod| pod.node.as_ref() == Some(&node.name)) {
                let gpus: u32 = pod.gpus.iter().map(|(_, gpus)| gpus).sum();
                let holder = match &pod.role {
                    Role::Miner { miner, .. } => miner,
                    Role::Worker { job, .. } => job,
                    Role::Other { .. } => &pod.key,
                };
                let stopping = if pod.deleting { " (stopping)" } else { "" };
                *holders.entry(format!("{holder}{stopping}")).or_default() += gpus;
                idle -= i64::from(gpus);
            }
            let mut line: Vec<_> =
                holders.iter().map(|(holder, gpus)| format!("{gpus} {holder}")).collect();
            if idle != 0 {
                line.push(format!("{idle} idle"));
            }
            let _ = writeln!(map, "{}: {}", node.name, line.join(", "));
        }
        map
    }
}

fn is_worker(pod: &Pod, job: &str) -> bool {
    matches!(&pod.role, Role::Worker { job: of, .. } if **of == *job)
}

/// Formats actions, then an explanation of each object that is not in its ordinary state: a pool that fills,
/// a registration in force and a miner that has what it wants are left out, and so is a next look on another day.
fn explain(plan: &Plan) -> String {
    let mut text = show_actions(&plan.actions);
    let mut line = |object: String, reason: &Reason| {
        let _ = writeln!(text, "{object}: {}. {reason}", reason.code());
    };
    for report in &plan.pools {
        let gpus = &report.gpus;
        let set_apart =
            gpus.undeclared + gpus.unlisted + gpus.headroom + gpus.unavailable + gpus.quarantined;
        if set_apart > 0 || report.mining != Reason::Filling {
            line(format!("pool {} ({})", report.pool, show_gpus(gpus)), &report.mining);
        }
        if let Some(overlap) = &report.overlap {
            line(format!("pool {}", report.pool), overlap);
        }
    }
    for report in &plan.registrations {
        if !matches!(report.state, Reason::Active { .. }) {
            line(format!("registration {}", report.registration), &report.state);
        }
    }
    for report in &plan.miners {
        if report.wanted > 0 && report.reason != Reason::Running {
            line(format!("miner {} ({})", report.miner, show_replicas(report)), &report.reason);
        }
    }
    for report in &plan.jobs {
        line(format!("job {}", report.job), &report.reason);
    }
    for report in &plan.waiting_pods {
        line(format!("pod {}", report.pod), &report.reason);
    }
    if let Some(at) = plan.wake_at.filter(|&at| at < NOON + minutes(12 * 60)) {
        let _ = writeln!(text, "look again {}", after_noon(at));
    }
    text
}

/// Formats the GPUs of a pool by state, without the states that no GPU is in.
pub(crate) fn show_gpus(gpus: &PoolGpus) -> String {
    let states = [
        (gpus.ai, "AI"),
        (gpus.mining, "mining"),
        (gpus.undeclared, "undeclared"),
        (gpus.unlisted, "unlisted"),
        (gpus.idle, "idle"),
        (gpus.headroom, "headroom"),
        (gpus.unavailable, "unavailable"),
        (gpus.quarantined, "quarantined"),
    ];
    let states = states.iter().filter(|(gpus, _)| *gpus > 0);
    let states: Vec<_> = states.map(|(gpus, state)| format!("{gpus} {state}")).collect();
    format!("{} GPUs: {}", gpus.total, states.join(", "))
}

fn show_replicas(report: &MinerReport) -> String {
    let stopping = match report.stopping {
        0 => String::new(),
        stopping => format!(", {stopping} stopping"),
    };
    format!("{} of {}{stopping}", report.held, report.wanted)
}

/// Formats a time as the time of day or, on another day, as a number of days.
fn after_noon(at: Timestamp) -> String {
    let millis = at.0 - NOON.0;
    let (seconds, millis) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    let hour = 12 + seconds / 3600;
    if (0..24).contains(&hour) {
        format!("at {hour:02}:{:02}:{:02}{fraction}", seconds / 60 % 60, seconds % 60)
    } else {
        format!("in {} days", seconds / 86_400)
    }
}

/// Formats actions, one per line; grants of one miner on one node share a line.
fn show_actions(actions: &[Action]) -> String {
    let mut lines: Vec<(String, Vec<String>, String)> = Vec::new();
    for action in actions {
        let (before, slot, after) = match action {
            Action::Reserve { job, placement, displaced } => {
                let head = format!("reserve for {job}: {}", show_placement(placement));
                let miners = if *displaced == 1 { "miner" } else { "miners" };
                (format!("{head}, displacing {displaced} {miners}"), None, String::new())
            }
            Action::Requeue { job } => {
                (format!("give up the reservation for {job}"), None, String::new())
            }
            Action::Release { job, placement } => {
                let place = match placement.as_slice() {
                    [] => "wherever kube-scheduler puts it".into(),
                    placement => show_placement(placement),
                };
                (format!("release {job}: {place}"), None, String::new())
            }
            Action::Suspend { job } => (format!("suspend {job}"), None, String::new()),
            Action::Evict { pod, reason, beneficiary, grace } => {
                let whom = beneficiary.as_ref().map_or(String::new(), |whom| format!(" of {whom}"));
                let head = format!("evict {pod} within {grace:?}: {reason}{whom}");
                (head, None, String::new())
            }
            Action::Grant(grant) => (
                format!("grant {} on {} ({})", grant.miner, grant.node, grant.pool),
                Some(grant.slot.to_string()),
                match grant.until {
                    Some(until) => {
                        format!(", stops within {:?}, ends {}", grant.grace, after_noon(until))
                    }
                    None => format!(", stops within {:?}", grant.grace),
                },
            ),
        };
        match lines.iter_mut().find(|line| slot.is_some() && line.0 == before && line.2 == after) {
            Some((_, slots, _)) => slots.extend(slot),
            None => lines.push((before, slot.into_iter().collect(), after)),
        }
    }
    let mut text = String::new();
    for (before, slots, after) in lines {
        let slots = match slots.as_slice() {
            [] => String::new(),
            [slot] => format!(" slot {slot}"),
            slots => format!(" slots {}", slots.join(" ")),
        };
        let _ = writeln!(text, "{before}{slots}{after}");
    }
    text
}

fn show_placement(placement: &[Placement]) -> String {
    let nodes: Vec<_> = placement
        .iter()
        .map(|Placement { node, workers }| match workers {
            1 => format!("{node}"),
            workers => format!("{workers} on {node}"),
        })
        .collect();
    nodes.join(", ")
}
