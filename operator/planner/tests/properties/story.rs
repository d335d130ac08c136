//! Random sites, and random events.

use daylight_base::Timestamp;
use daylight_planner::model::*;
use daylight_planner::windows::Windows;
use proptest::prelude::*;

use crate::happen::happen;
use crate::world::{World, name, seconds};

pub(crate) const RESOURCES: [&str; 2] = ["nvidia.com/gpu", "amd.com/gpu"];
const CPU: u64 = 64_000;
const MEMORY: u64 = 512 << 30;

/// An event at a site. Numbers pick an object, modulo the number of objects.
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
        cpu: u64,
        memory: u64,
    },
    JobGone(usize),
    /// A foreign pod arrives and waits.
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
        cpu: u64,
        memory: u64,
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
    Recording(bool),
}

#[derive(Clone, Debug)]
pub(crate) enum RegistrationChange {
    Approval(usize),
    Gpus(Option<u32>),
    Watts(Option<u64>),
    OwnerGpus(Option<u32>),
    Energy(Option<u64>),
    Usage(Option<u64>),
    OtherUsage(EnergyPeriod, Option<u64>),
    Period(EnergyPeriod),
    Peak(u64),
    OwnerWatts(Option<u64>),
    OwnerEnergy(Option<u64>),
    ValidFor(u64),
}

/// GPUs of one pod: from 1 to `most`, or a number that no node has. Any user may create such pods.
fn gpus(most: u32) -> impl Strategy<Value = u32> {
    prop_oneof![
        12 => 1..=most,
        1 => prop::sample::select(vec![9, i32::MAX as u32, u32::MAX - 5, u32::MAX - 1, u32::MAX]),
    ]
}

fn replicas() -> impl Strategy<Value = u32> {
    prop_oneof![12 => 0..40u32, 1 => Just(u32::MAX)]
}

fn watts() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0..700u64, 1 => Just(u32::MAX.into())]
}

/// Thousandths of a CPU, or bytes: mostly as given, sometimes a number that no node has.
fn amount(usual: u64) -> impl Strategy<Value = u64> {
    prop_oneof![12 => Just(usual), 1 => prop::sample::select(vec![0, 1 << 60, i64::MAX as u64, u64::MAX])]
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
        prop_oneof![8 => 0..9u32, 1 => Just(u32::MAX)]
            .prop_map(|count| PoolChange::Headroom(Headroom::Count(count))),
        (0..40u32).prop_map(|percent| PoolChange::Headroom(Headroom::Percent(percent))),
        prop::option::of(0..20_000u64).prop_map(PoolChange::Power),
        (0..600u64, 1..600u64).prop_map(|(start, length)| PoolChange::Window(start, length)),
        Just(PoolChange::Always),
        (0..600u64).prop_map(PoolChange::MinRunTime),
        (0..300u64).prop_map(PoolChange::IdleDelay),
        any::<bool>().prop_map(PoolChange::ReclaimUnit),
        any::<bool>().prop_map(PoolChange::Queueing),
        any::<bool>().prop_map(PoolChange::Recording),
    ]
}

fn period() -> impl Strategy<Value = EnergyPeriod> {
    prop_oneof![Just(EnergyPeriod::Month), Just(EnergyPeriod::Year)]
}

fn registration_change() -> impl Strategy<Value = RegistrationChange> {
    prop_oneof![
        (0..8usize).prop_map(RegistrationChange::Approval),
        prop::option::of(0..40u32).prop_map(RegistrationChange::Gpus),
        prop::option::of(0..20_000u64).prop_map(RegistrationChange::Watts),
        prop::option::of(0..40u32).prop_map(RegistrationChange::OwnerGpus),
        prop::option::of(0..40_000_000u64).prop_map(RegistrationChange::Energy),
        prop::option::of(0..40_000_000u64).prop_map(RegistrationChange::Usage),
        (period(), prop::option::of(0..40_000_000u64))
            .prop_map(|(period, used)| RegistrationChange::OtherUsage(period, used)),
        period().prop_map(RegistrationChange::Period),
        (0..1_500u64).prop_map(RegistrationChange::Peak),
        prop::option::of(0..20_000u64).prop_map(RegistrationChange::OwnerWatts),
        prop::option::of(0..40_000_000u64).prop_map(RegistrationChange::OwnerEnergy),
        (0..5_000u64).prop_map(RegistrationChange::ValidFor),
    ]
}

fn miner() -> impl Strategy<Value = Event> {
    let weight = prop_oneof![12 => 1..4u32, 1 => Just(u32::MAX)];
    (0..8usize, replicas(), gpus(4), weight, watts(), amount(1_000), amount(1 << 30)).prop_map(
        |(registration, replicas, gpus, weight, watts, cpu, memory)| Event::Miner {
            registration,
            replicas,
            gpus,
            weight,
            watts,
            cpu,
            memory,
        },
    )
}

/// Registrations that are not in force, of the same owners, with limits of any size.
pub(crate) fn not_in_force() -> impl Strategy<Value = Vec<Registration>> {
    let limits = || {
        let (gpus, watts) = (prop::option::of(0..9u32), prop::option::of(0..9_000u64));
        (gpus, watts, prop::option::of(0..9_000_000u64))
            .prop_map(|(gpus, watts, energy_mj)| Limits { gpus, watts, energy_mj })
    };
    let read = prop::option::of(0..1_000_000i64);
    let one = (0..3usize, 0..4usize, 0..10usize, limits(), limits(), read);
    prop::collection::vec(one, 1..6).prop_map(|all| {
        let registrations = all.into_iter().enumerate();
        let read = |at| Usage {
            metered_until: Timestamp::from_seconds(at),
            millijoules: 0,
            peak_watts: None,
        };
        let each = |(index, (class, owner, how, limits, owner_limits, metered_until))| {
            let mut registration = Registration {
                limits,
                owner_limits,
                usage: Option::map(metered_until, read),
                ..registration(&World::default(), index, class, owner, 0)
            };
            registration.key = name(format!("foreign/registration-{index}"));
            let states = [
                Approval::Pending,
                Approval::Voided,
                Approval::Unsigned,
                Approval::WronglySigned,
                Approval::Rejected,
                Approval::Suspended,
                Approval::Revoked,
            ];
            match how {
                7 => registration.valid_until = Timestamp(0),
                8 => registration.valid_from = Timestamp(i64::MAX),
                9 => registration.problem = Some("It contradicts another object.".into()),
                how => registration.approval = states[how],
            }
            registration
        };
        registrations.map(each).collect()
    })
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..400u64).prop_map(Event::Wait),
        5 => any::<bool>().prop_map(|all| Event::Drained { all }),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(all, elsewhere)| Event::Bind { all, elsewhere }),
        2 => (0..40usize).prop_map(Event::JobEnds),
        4 => (
            (prop_oneof![12 => 1..12u32, 1 => Just(u32::MAX)], gpus(8), 0..3i32),
            (prop::option::of(1..900u64), prop::option::of(0..10usize)),
            (amount(1_000), amount(1 << 30)),
        ).prop_map(|((workers, gpus, priority), (run_time, pool), (cpu, memory))| Event::Job {
            workers, gpus, priority, run_time, pool, cpu, memory,
        }),
        1 => (0..40usize).prop_map(Event::JobGone),
        3 => (prop_oneof![1 => Just(0), 8 => gpus(8)], 0..2usize, 0..3usize)
            .prop_map(|(gpus, resource, preemption)| Event::Pod { gpus, resource, preemption }),
        4 => (0..20usize).prop_map(Event::Schedule),
        3 => (0..200usize).prop_map(Event::PodGone),
        3 => (0..40usize, node_change()).prop_map(|(node, change)| Event::Node { node, change }),
        3 => (0..10usize, pool_change()).prop_map(|(pool, change)| Event::Pool { pool, change }),
        3 => (0..8usize, registration_change())
            .prop_map(|(registration, change)| Event::Registration { registration, change }),
        2 => (0..30usize, replicas()).prop_map(|(miner, replicas)| Event::Replicas { miner, replicas }),
        1 => (0..30usize).prop_map(Event::MinerGone),
        1 => miner(),
        1 => (0..4usize, 0..3usize).prop_map(|(class, assignment)| Event::Class { class, assignment }),
        1 => any::<bool>().prop_map(Event::Stop),
    ]
}

/// A site of up to 40 nodes, 10 pools, 30 miners and 30 jobs, and the events there.
pub(crate) fn story(events: usize) -> impl Strategy<Value = (World, Vec<Event>)> {
    let nodes = prop::collection::vec((0..9u32, 0..10usize, 0..3u32), 1..40);
    let pools = prop::collection::vec((0..2usize, prop::bool::weighted(0.8), 0..4u32), 1..10);
    let registrations = prop::collection::vec((0..3usize, 0..4usize, any::<u8>()), 1..8);
    let miners = prop::collection::vec(miner(), 0..30);
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
            for miner in &miners {
                happen(&mut world, miner);
            }
            for (workers, gpus, priority) in jobs {
                let (run_time, pool, cpu, memory) = (None, None, 1_000, 1 << 30);
                let job = Event::Job { workers, gpus, priority, run_time, pool, cpu, memory };
                happen(&mut world, &job);
            }
            (world, events)
        },
    )
}

pub(crate) fn class(index: usize, assignment: usize, rank: u32) -> Class {
    let assignments =
        [ClassAssignment::Guaranteed, ClassAssignment::IdleOnly, ClassAssignment::Prohibited];
    Class { name: name(format!("class-{index}")), assignment: assignments[assignment], rank }
}

pub(crate) fn pool(index: usize, resource: usize, fills: bool, headroom: u32) -> Pool {
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
        recording: Recording::Works,
        problem: None,
    }
}

pub(crate) fn node(world: &World, index: usize, gpus: u32, member: usize, tight: u32) -> Node {
    let pools: Vec<_> = world.pools.keys().cloned().collect();
    let member = |offset: usize| Membership {
        pool: pools[(member + offset) % pools.len()].clone(),
        tolerated: true,
        runs_miners: true,
    };
    Node {
        name: name(format!("node-{index:02}")),
        pools: if index.is_multiple_of(5) { vec![member(0), member(1)] } else { vec![member(0)] },
        gpus: RESOURCES.iter().map(|resource| (name(resource), gpus)).collect(),
        cpu_milli: if tight == 0 { 6_000 } else { CPU },
        memory: MEMORY,
        pod_slots: 110,
        huge_pages: [u64::from(tight) << 30, 0],
        lost: Vec::new(),
        condition: NodeCondition::Ready,
        autoscaled: false,
        ai_released_at: None,
        shrunk_at: None,
        quarantined_until: None,
        closed_to: Vec::new(),
    }
}

pub(crate) fn registration(
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
        voided_by: None,
        limits: Limits::default(),
        owner_limits: Limits::default(),
        usage: None,
        reading: Reading::Counts,
        energy_period: EnergyPeriod::default(),
        other_periods: Vec::new(),
        energy_resets: None,
        deleted_mj: 0,
        mirrored: Mirrored::Holds,
        problem: None,
    }
}
