//! Random sites, and what happens to them.

use daylight_planner::model::*;
use daylight_planner::time::{Span, Timestamp, Windows};
use proptest::prelude::*;

use crate::world::{World, name, seconds};

const RESOURCES: [&str; 2] = ["nvidia.com/gpu", "amd.com/gpu"];
const CPU: u64 = 64_000;
const MEMORY: u64 = 512 << 30;

/// Something that happens to a site. Numbers pick an object, modulo how many there are.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Time passes, in seconds.
    Wait(u64),
    /// Miners that are stopping stop, all or every second one.
    Drained {
        all: bool,
    },
    /// kube-scheduler binds the workers of released jobs, all or some, where planned or not.
    Bind {
        all: bool,
        elsewhere: bool,
    },
    JobEnds(usize),
    Job {
        workers: u32,
        gpus: u32,
        priority: i32,
        run_time: Option<u64>,
        pool: Option<usize>,
    },
    JobGone(usize),
    /// A foreign pod comes and waits.
    Pod {
        gpus: u32,
        resource: usize,
        preemption: usize,
    },
    /// kube-scheduler binds a waiting pod, or nominates a node and preempts there.
    Schedule(usize),
    PodGone(usize),
    Node {
        node: usize,
        change: NodeChange,
    },
    Pool {
        pool: usize,
        change: PoolChange,
    },
    Registration {
        registration: usize,
        change: RegistrationChange,
    },
    Replicas {
        miner: usize,
        replicas: u32,
    },
    MinerGone(usize),
    Miner {
        registration: usize,
        replicas: u32,
        gpus: u32,
        weight: u32,
        watts: u64,
    },
    Class {
        class: usize,
        assignment: usize,
    },
    Stop(bool),
}

#[derive(Clone, Debug)]
pub(crate) enum NodeChange {
    Gpus(u32),
    Condition(usize),
    Quarantine(u64),
    Autoscaled(bool),
    Move(usize),
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) enum PoolChange {
    Policy(usize),
    MaxGpus(Option<u32>),
    Headroom(Headroom),
    Power(Option<u64>),
    Window(u64, u64),
    Always,
    MinRunTime(u64),
    IdleDelay(u64),
    ReclaimUnit(bool),
    Queueing(bool),
}

#[derive(Clone, Debug)]
pub(crate) enum RegistrationChange {
    Approval(usize),
    Gpus(Option<u32>),
    Watts(Option<u64>),
    OwnerGpus(Option<u32>),
    Energy(Option<u64>),
    Usage(Option<u64>),
    ValidFor(u64),
}

fn node_change() -> impl Strategy<Value = NodeChange> {
    prop_oneof![
        (0..9u32).prop_map(NodeChange::Gpus),
        (0..4usize).prop_map(NodeChange::Condition),
        (0..600u64).prop_map(NodeChange::Quarantine),
        any::<bool>().prop_map(NodeChange::Autoscaled),
        (0..10usize).prop_map(NodeChange::Move),
        Just(NodeChange::Gone),
    ]
}

fn pool_change() -> impl Strategy<Value = PoolChange> {
    prop_oneof![
        (0..4usize).prop_map(PoolChange::Policy),
        prop::option::of(0..60u32).prop_map(PoolChange::MaxGpus),
        (0..9u32).prop_map(|count| PoolChange::Headroom(Headroom::Count(count))),
        (0..40u32).prop_map(|percent| PoolChange::Headroom(Headroom::Percent(percent))),
        prop::option::of(0..20_000u64).prop_map(PoolChange::Power),
        (0..600u64, 1..600u64).prop_map(|(start, length)| PoolChange::Window(start, length)),
        Just(PoolChange::Always),
        (0..600u64).prop_map(PoolChange::MinRunTime),
        (0..300u64).prop_map(PoolChange::IdleDelay),
        any::<bool>().prop_map(PoolChange::ReclaimUnit),
        any::<bool>().prop_map(PoolChange::Queueing),
    ]
}

fn registration_change() -> impl Strategy<Value = RegistrationChange> {
    prop_oneof![
        (0..8usize).prop_map(RegistrationChange::Approval),
        prop::option::of(0..40u32).prop_map(RegistrationChange::Gpus),
        prop::option::of(0..20_000u64).prop_map(RegistrationChange::Watts),
        prop::option::of(0..40u32).prop_map(RegistrationChange::OwnerGpus),
        prop::option::of(0..40_000_000u64).prop_map(RegistrationChange::Energy),
        prop::option::of(0..40_000_000u64).prop_map(RegistrationChange::Usage),
        (0..5_000u64).prop_map(RegistrationChange::ValidFor),
    ]
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..400u64).prop_map(Event::Wait),
        5 => any::<bool>().prop_map(|all| Event::Drained { all }),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(all, elsewhere)| Event::Bind { all, elsewhere }),
        2 => (0..40usize).prop_map(Event::JobEnds),
        4 => (1..12u32, 1..9u32, 0..3i32, prop::option::of(1..900u64), prop::option::of(0..10usize))
            .prop_map(|(workers, gpus, priority, run_time, pool)| Event::Job {
                workers, gpus, priority, run_time, pool,
            }),
        1 => (0..40usize).prop_map(Event::JobGone),
        3 => (0..9u32, 0..2usize, 0..3usize)
            .prop_map(|(gpus, resource, preemption)| Event::Pod { gpus, resource, preemption }),
        4 => (0..20usize).prop_map(Event::Schedule),
        3 => (0..200usize).prop_map(Event::PodGone),
        3 => (0..40usize, node_change()).prop_map(|(node, change)| Event::Node { node, change }),
        3 => (0..10usize, pool_change()).prop_map(|(pool, change)| Event::Pool { pool, change }),
        3 => (0..8usize, registration_change())
            .prop_map(|(registration, change)| Event::Registration { registration, change }),
        2 => (0..30usize, 0..40u32).prop_map(|(miner, replicas)| Event::Replicas { miner, replicas }),
        1 => (0..30usize).prop_map(Event::MinerGone),
        1 => (0..8usize, 0..30u32, 1..5u32, 1..4u32, 0..700u64).prop_map(
            |(registration, replicas, gpus, weight, watts)| Event::Miner {
                registration, replicas, gpus, weight, watts,
            }
        ),
        1 => (0..4usize, 0..3usize).prop_map(|(class, assignment)| Event::Class { class, assignment }),
        1 => any::<bool>().prop_map(Event::Stop),
    ]
}

/// A site of up to 40 nodes, 10 pools, 30 miners and 30 jobs, and what happens to it.
pub(crate) fn story(events: usize) -> impl Strategy<Value = (World, Vec<Event>)> {
    let nodes = prop::collection::vec((0..9u32, 0..10usize, 0..3u32), 1..40);
    let pools = prop::collection::vec((0..2usize, prop::bool::weighted(0.8), 0..4u32), 1..10);
    let registrations = prop::collection::vec((0..3usize, 0..4usize, any::<u8>()), 1..8);
    let miners = prop::collection::vec((0..8usize, 0..30u32, 1..5u32, 1..4u32, 0..700u64), 0..30);
    let jobs = prop::collection::vec((1..12u32, 1..9u32, 0..3i32), 0..30);
    let events = prop::collection::vec(event(), 0..events);
    (nodes, pools, registrations, miners, jobs, events).prop_map(
        |(nodes, pools, registrations, miners, jobs, events)| {
            let mut world = World { now: Timestamp::from_seconds(1_000_000), ..World::default() };
            for (index, (assignment, rank)) in
                [(1, 10), (1, 10), (1, 50), (0, 0)].into_iter().enumerate()
            {
                let class = class(index, assignment, rank);
                world.classes.insert(class.name.clone(), class);
            }
            for (index, &(resource, fills, headroom)) in pools.iter().enumerate() {
                let pool = pool(index, resource, fills, headroom);
                world.pools.insert(pool.name.clone(), pool);
            }
            for (index, &(gpus, member, tight)) in nodes.iter().enumerate() {
                let node = node(&world, index, gpus, member, tight);
                world.nodes.insert(node.name.clone(), node);
            }
            for (index, &(class, owner, pools)) in registrations.iter().enumerate() {
                let registration = registration(&world, index, class, owner, pools);
                world.registrations.insert(registration.key.clone(), registration);
            }
            for (registration, replicas, gpus, weight, watts) in miners {
                happen(&mut world, &Event::Miner { registration, replicas, gpus, weight, watts });
            }
            for (workers, gpus, priority) in jobs {
                let (run_time, pool) = (None, None);
                happen(&mut world, &Event::Job { workers, gpus, priority, run_time, pool });
            }
            (world, events)
        },
    )
}

fn class(index: usize, assignment: usize, rank: u32) -> Class {
    let assignments =
        [ClassAssignment::Guaranteed, ClassAssignment::IdleOnly, ClassAssignment::Prohibited];
    Class { name: name(format!("class-{index}")), assignment: assignments[assignment], rank }
}

fn pool(index: usize, resource: usize, fills: bool, headroom: u32) -> Pool {
    Pool {
        name: name(format!("pool-{index}")),
        created: Timestamp::from_seconds(i64::try_from(index / 2).unwrap_or_default()),
        resource: name(RESOURCES[resource]),
        policy: if fills { MiningPolicy::Fill } else { MiningPolicy::Observe },
        windows: Windows::Always,
        max_gpus: None,
        headroom: Headroom::Count(headroom),
        power_budget_watts: None,
        idle_delay: seconds(0),
        min_run_time: seconds(0),
        drain_timeout: seconds(30),
        reclaim_unit: ReclaimUnit::Gpu,
        autoscaled_nodes: AutoscaledNodes::Skip,
        queueing: Queueing::Backfill,
        problem: None,
    }
}

fn node(world: &World, index: usize, gpus: u32, member: usize, tight: u32) -> Node {
    let pools: Vec<_> = world.pools.keys().cloned().collect();
    let member = |offset: usize| Membership {
        pool: pools[(member + offset) % pools.len()].clone(),
        tolerated: true,
    };
    Node {
        name: name(format!("node-{index:02}")),
        pools: if index.is_multiple_of(5) { vec![member(0), member(1)] } else { vec![member(0)] },
        gpus: RESOURCES.iter().map(|resource| (name(resource), gpus)).collect(),
        cpu_milli: if tight == 0 { 6_000 } else { CPU },
        memory: MEMORY,
        pod_slots: 110,
        condition: NodeCondition::Ready,
        autoscaled: false,
        ai_released_at: None,
        shrunk_at: None,
        quarantined_until: None,
        quarantined_slots: Vec::new(),
    }
}

fn registration(
    world: &World,
    index: usize,
    class: usize,
    owner: usize,
    pools: u8,
) -> Registration {
    let chosen = world.pools.keys().enumerate().filter(|(index, _)| pools >> (index % 8) & 1 == 1);
    Registration {
        key: name(format!("tenant/registration-{index}")),
        owner: (owner > 0).then(|| name(format!("owner-{owner}"))),
        class: name(format!("class-{class}")),
        pools: chosen.map(|(_, pool)| pool.clone()).collect(),
        valid_from: Timestamp(0),
        valid_until: Timestamp::from_seconds(1_100_000),
        approval: Approval::Approved,
        limits: Limits::default(),
        owner_limits: Limits::default(),
        usage: None,
        problem: None,
    }
}

fn pick<T>(map: &std::collections::BTreeMap<Name, T>, index: usize) -> Option<Name> {
    if map.is_empty() { None } else { map.keys().nth(index % map.len()).cloned() }
}

/// Lets something happen, and says what the planner would be told.
pub(crate) fn happen(world: &mut World, event: &Event) -> Vec<Delta> {
    let mut deltas = Vec::new();
    match event {
        Event::Wait(time) => world.now = world.now + seconds(*time),
        Event::Drained { all } => {
            let stopped: Vec<_> = world
                .pods
                .values()
                .filter(|pod| pod.deleting)
                .map(|pod| pod.key.clone())
                .enumerate()
                .filter(|(index, _)| *all || index % 2 == 0)
                .map(|(_, key)| key)
                .collect();
            for key in stopped {
                world.pods.remove(&key);
                deltas.push(Delta::PodGone(key));
            }
        }
        Event::Bind { all, elsewhere } => deltas.extend(bind(world, *all, *elsewhere)),
        Event::JobEnds(index) => {
            if let Some(key) = pick(&world.jobs, *index) {
                deltas.extend(workers_gone(world, &key));
                if let Some(job) = world.jobs.get_mut(&key) {
                    job.state = JobState::Finished;
                    deltas.push(Delta::Job(job.clone()));
                }
            }
        }
        Event::JobGone(index) => {
            if let Some(key) = pick(&world.jobs, *index) {
                deltas.extend(workers_gone(world, &key));
                world.jobs.remove(&key);
                deltas.push(Delta::JobGone(key));
            }
        }
        Event::Job { workers, gpus, priority, run_time, pool } => {
            let pool = pool.and_then(|index| pick(&world.pools, index));
            let resource =
                pool.as_ref().map_or(name(RESOURCES[0]), |pool| world.pools[pool].resource.clone());
            let key = world.fresh("ai/job");
            let job = Job {
                key: key.clone(),
                created: world.now,
                priority: *priority,
                workers: *workers,
                shape: Shape { gpus: *gpus, cpu_milli: 1_000, memory: 1 << 30 },
                class: name("class-3"),
                resource,
                pool,
                allowed_nodes: None,
                max_run_time: run_time.map(seconds),
                gang_timeout: seconds(60),
                state: JobState::Queued { attempts: 0, suspended_at: None },
                problem: None,
            };
            world.jobs.insert(key, job.clone());
            deltas.push(Delta::Job(job));
        }
        Event::Pod { gpus, resource, preemption } => {
            let key = world.fresh("ai/pod");
            let allowed_nodes = None;
            let preemption = match preemption {
                0 => Preemption::ByScheduler,
                1 => Preemption::ByDaylight { allowed_nodes },
                _ => Preemption::Never,
            };
            let pod = Pod {
                key,
                node: None,
                nominated: None,
                gpus: match gpus {
                    0 => Vec::new(),
                    gpus => vec![(name(RESOURCES[*resource]), *gpus)],
                },
                cpu_milli: 500,
                memory: 1 << 30,
                created: world.now,
                deleting: false,
                role: Role::Other { class: (*gpus > 4).then(|| name("class-3")), preemption },
            };
            deltas.push(world.put_pod(pod));
        }
        Event::Schedule(index) => deltas.extend(schedule(world, *index)),
        Event::PodGone(index) => {
            if let Some(key) = pick(&world.pods, *index) {
                world.pods.remove(&key);
                deltas.push(Delta::PodGone(key));
            }
        }
        Event::Node { node, change } => {
            if let Some(key) = pick(&world.nodes, *node) {
                deltas.extend(change_node(world, &key, change));
            }
        }
        Event::Pool { pool, change } => {
            if let Some(key) = pick(&world.pools, *pool) {
                deltas.push(change_pool(world, &key, change));
            }
        }
        Event::Registration { registration, change } => {
            if let Some(key) = pick(&world.registrations, *registration) {
                deltas.push(change_registration(world, &key, change));
            }
        }
        Event::Replicas { miner, replicas } => {
            if let Some(key) = pick(&world.miners, *miner)
                && let Some(miner) = world.miners.get_mut(&key)
            {
                miner.replicas = *replicas;
                deltas.push(Delta::Miner(miner.clone()));
            }
        }
        Event::MinerGone(index) => {
            if let Some(key) = pick(&world.miners, *index) {
                world.miners.remove(&key);
                deltas.push(Delta::MinerGone(key));
            }
        }
        Event::Miner { registration, replicas, gpus, weight, watts } => {
            let Some(registration) = pick(&world.registrations, *registration) else {
                return deltas;
            };
            let key = world.fresh("tenant/miner");
            let miner = Miner {
                key: key.clone(),
                registration,
                created: world.now,
                replicas: *replicas,
                shape: Shape { gpus: *gpus, cpu_milli: 1_000, memory: 1 << 30 },
                weight: *weight,
                watts: *watts,
                drain: seconds(10),
                pools: Vec::new(),
                revision: 1,
                problem: None,
            };
            world.miners.insert(key, miner.clone());
            deltas.push(Delta::Miner(miner));
        }
        Event::Class { class: index, assignment } => {
            let class = class(*index, if *index == 3 { 0 } else { *assignment }, 10);
            world.classes.insert(class.name.clone(), class.clone());
            deltas.push(Delta::Class(class));
        }
        Event::Stop(stop) => {
            world.stop = stop.then(|| EmergencyStop { by: name("officer"), reason: name("drill") });
            deltas.push(Delta::EmergencyStop(world.stop.clone()));
        }
    }
    deltas
}

fn workers_gone(world: &mut World, job: &Name) -> Vec<Delta> {
    let workers: Vec<_> = world
        .pods
        .values()
        .filter(|pod| matches!(&pod.role, Role::Worker { job: of } if of == job))
        .map(|pod| pod.key.clone())
        .collect();
    for key in &workers {
        world.pods.remove(key);
    }
    workers.into_iter().map(Delta::PodGone).collect()
}

fn bind(world: &mut World, all: bool, elsewhere: bool) -> Vec<Delta> {
    let mut deltas = Vec::new();
    let released: Vec<_> = world
        .jobs
        .values()
        .filter(|job| matches!(job.state, JobState::Released { .. }))
        .cloned()
        .collect();
    for job in released {
        let JobState::Released { placement, .. } = &job.state else { continue };
        let planned: Vec<_> = placement.iter().map(|placement| placement.node.clone()).collect();
        let others: Vec<_> = world.nodes.keys().cloned().collect();
        let nodes: Vec<_> =
            if elsewhere { others } else { planned.into_iter().chain(others).collect() };
        while world.bound(&job.key) < job.workers {
            let fits = |node: &&Name| {
                world.nodes.get(*node).is_some_and(|object| {
                    object.condition == NodeCondition::Ready
                        && world.pool_of(object, &job.resource).is_some()
                }) && world.idle(node, &job.resource) >= i64::from(job.shape.gpus)
            };
            let Some(node) = nodes.iter().find(fits).cloned() else { break };
            let key = world.fresh("ai/worker");
            deltas.push(world.put_pod(Pod {
                key,
                node: Some(node),
                nominated: None,
                gpus: vec![(job.resource.clone(), job.shape.gpus)],
                cpu_milli: job.shape.cpu_milli,
                memory: job.shape.memory,
                created: world.now,
                deleting: false,
                role: Role::Worker { job: job.key.clone() },
            }));
            if !all {
                break;
            }
        }
        if world.bound(&job.key) == job.workers
            && let Some(job) = world.jobs.get_mut(&job.key)
        {
            job.state = JobState::Running { since: world.now };
            deltas.push(Delta::Job(job.clone()));
        }
    }
    deltas
}

/// Binds a waiting pod where there is room, or preempts miners for it.
fn schedule(world: &mut World, index: usize) -> Vec<Delta> {
    let waiting: Vec<_> = world
        .pods
        .values()
        .filter(|pod| pod.node.is_none() && matches!(pod.role, Role::Other { .. }))
        .cloned()
        .collect();
    if waiting.is_empty() {
        return Vec::new();
    }
    let mut pod = waiting[index % waiting.len()].clone();
    let Some((resource, gpus)) = pod.gpus.first().cloned() else { return Vec::new() };
    let ready: Vec<_> = world
        .nodes
        .values()
        .filter(|node| node.condition == NodeCondition::Ready)
        .map(|node| node.name.clone())
        .collect();
    if let Some(node) =
        ready.iter().find(|node| world.idle(node, &resource) >= i64::from(gpus)).cloned()
    {
        pod.node = Some(node);
        pod.nominated = None;
        return vec![world.put_pod(pod)];
    }
    if pod.nominated.is_some()
        || !matches!(&pod.role, Role::Other { preemption: Preemption::ByScheduler, .. })
    {
        return Vec::new();
    }
    for node in ready {
        let mut free = world.idle(&node, &resource);
        let mut victims = Vec::new();
        for miner in world.pods_on(&node) {
            if free < i64::from(gpus) && matches!(miner.role, Role::Miner { .. }) {
                free += i64::from(crate::world::gpus(miner, &resource));
                victims.push(miner.clone());
            }
        }
        if free >= i64::from(gpus) {
            let mut deltas = Vec::new();
            for mut victim in victims {
                victim.deleting = true;
                deltas.push(world.put_pod(victim));
            }
            pod.nominated = Some(node);
            deltas.push(world.put_pod(pod));
            return deltas;
        }
    }
    Vec::new()
}

fn change_node(world: &mut World, key: &Name, change: &NodeChange) -> Vec<Delta> {
    let now = world.now;
    let pools: Vec<_> = world.pools.keys().cloned().collect();
    if matches!(change, NodeChange::Gone) {
        world.nodes.remove(key);
        return vec![Delta::NodeGone(key.clone())];
    }
    let Some(node) = world.nodes.get_mut(key) else { return Vec::new() };
    match change {
        NodeChange::Gpus(gpus) => {
            let before = node.gpus.first().map_or(0, |(_, count)| *count);
            node.shrunk_at = (*gpus < before).then_some(now);
            for (_, count) in &mut node.gpus {
                *count = *gpus;
            }
        }
        NodeChange::Condition(index) => {
            node.condition = [
                NodeCondition::Ready,
                NodeCondition::Cordoned,
                NodeCondition::NotReady,
                NodeCondition::Unreachable,
            ][*index];
        }
        NodeChange::Quarantine(time) => {
            if time % 2 == 0 {
                node.quarantined_until = Some(now + seconds(*time));
            } else {
                node.quarantined_slots = vec![((*time % 8) as u32, now + seconds(*time))];
            }
        }
        NodeChange::Autoscaled(autoscaled) => node.autoscaled = *autoscaled,
        NodeChange::Move(index) => {
            let pool = pools[index % pools.len()].clone();
            node.pools = vec![Membership { pool, tolerated: index % 4 != 0 }];
        }
        NodeChange::Gone => {}
    }
    vec![Delta::Node(node.clone())]
}

fn change_pool(world: &mut World, key: &Name, change: &PoolChange) -> Delta {
    let now = world.now;
    let pool = world.pools.get_mut(key).expect("picked");
    match change {
        PoolChange::Policy(index) => {
            pool.policy = [
                MiningPolicy::Fill,
                MiningPolicy::Observe,
                MiningPolicy::Hold,
                MiningPolicy::Drain,
            ][*index];
        }
        PoolChange::MaxGpus(max) => pool.max_gpus = *max,
        PoolChange::Headroom(headroom) => pool.headroom = *headroom,
        PoolChange::Power(watts) => pool.power_budget_watts = *watts,
        PoolChange::Window(start, length) => {
            let start = now + seconds(*start);
            let spans = vec![Span { start, end: start + seconds(*length) }];
            pool.windows = Windows::from_spans(spans, now + seconds(10_000));
        }
        PoolChange::Always => pool.windows = Windows::Always,
        PoolChange::MinRunTime(time) => pool.min_run_time = seconds(*time),
        PoolChange::IdleDelay(time) => pool.idle_delay = seconds(*time),
        PoolChange::ReclaimUnit(node) => {
            pool.reclaim_unit = if *node { ReclaimUnit::Node } else { ReclaimUnit::Gpu };
        }
        PoolChange::Queueing(strict) => {
            pool.queueing = if *strict { Queueing::StrictFifo } else { Queueing::Backfill };
        }
    }
    Delta::Pool(pool.clone())
}

fn change_registration(world: &mut World, key: &Name, change: &RegistrationChange) -> Delta {
    let now = world.now;
    let registration = world.registrations.get_mut(key).expect("picked");
    match change {
        RegistrationChange::Approval(index) => {
            let states = [
                Approval::Pending,
                Approval::Voided,
                Approval::Rejected,
                Approval::Suspended,
                Approval::Revoked,
            ];
            registration.approval = states.get(*index).copied().unwrap_or(Approval::Approved);
        }
        RegistrationChange::Gpus(gpus) => registration.limits.gpus = *gpus,
        RegistrationChange::Watts(watts) => registration.limits.watts = *watts,
        RegistrationChange::OwnerGpus(gpus) => registration.owner_limits.gpus = *gpus,
        RegistrationChange::Energy(energy) => {
            registration.limits.energy_mj = *energy;
        }
        RegistrationChange::Usage(used) => {
            registration.usage =
                used.map(|millijoules| Usage { metered_until: now, millijoules, peak_watts: None });
        }
        RegistrationChange::ValidFor(time) => {
            registration.valid_until = now + seconds(*time);
        }
    }
    Delta::Registration(registration.clone())
}
