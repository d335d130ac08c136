//! Time of a plan: for a whole site, after one event, and as sites grow.
//!
//! The site is settled and full: five pools, 200 miners under 50 registrations that want more GPUs
//! than there are, AI jobs on whole nodes and on parts of nodes, and headroom. The planner itself
//! granted the miners' pods. Events are undone outside the measurement, and large values are created
//! and dropped there.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, criterion_group,
    criterion_main, measurement::WallTime,
};
use daylight_base::Timestamp;
use daylight_planner::Planner;
use daylight_planner::explain::{Action, Plan};
use daylight_planner::model::{
    Activity, Approval, AutoscaledNodes, Class, ClassAssignment, Delta, EnergyPeriod, Headroom,
    Job, JobState, Limits, Membership, Miner, MiningPolicy, Mirrored, Node, NodeCondition, Pod,
    Pool, Preemption, Queueing, Reading, ReclaimUnit, Recording, Registration, Role, Shape,
    Snapshot, Usage,
};
use daylight_planner::windows::Windows;

const GPU: &str = "nvidia.com/gpu";
const POOLS: u32 = 5;
const REGISTRATIONS: u32 = 50;
const MINERS: u32 = 200;
const NOW: Timestamp = Timestamp::from_seconds(1_782_907_200);

fn before(seconds: u64) -> Timestamp {
    NOW - Duration::from_secs(seconds)
}

fn pool(index: u32) -> Pool {
    Pool {
        name: format!("pool-{index}").into(),
        created: before(1_000_000 + u64::from(index)),
        resource: GPU.into(),
        policy: MiningPolicy::Fill,
        windows: Windows::Always,
        max_gpus: None,
        headroom: Headroom::Percent(12),
        power_budget_watts: Some(40_000_000),
        idle_delay: Duration::from_secs(5),
        min_run_time: Duration::from_mins(1),
        drain_timeout: Duration::from_secs(30),
        reclaim_unit: ReclaimUnit::Gpu,
        autoscaled_nodes: AutoscaledNodes::Skip,
        queueing: Queueing::Backfill,
        recording: Recording::Works,
        problem: None,
    }
}

fn node(index: u32) -> Node {
    Node {
        name: format!("node-{index:05}").into(),
        pools: vec![Membership {
            pool: format!("pool-{}", index % POOLS).into(),
            tolerated: true,
            runs_miners: true,
        }],
        gpus: vec![(GPU.into(), 8)],
        cpu_milli: 128_000,
        memory: 1 << 40,
        pod_slots: 110,
        huge_pages: [0; 2],
        lost: Vec::new(),
        condition: NodeCondition::Ready,
        autoscaled: false,
        ai_released_at: None,
        shrunk_at: None,
        quarantined_until: None,
        closed_to: Vec::new(),
    }
}

/// Every registration is for three of the five pools; every fifth is of a
/// higher rank, every tenth has an energy limit and a meter.
fn registration(index: u32) -> Registration {
    let metered = index.is_multiple_of(10);
    Registration {
        key: format!("tenant-{index}/power").into(),
        owner: Some(format!("owner-{}", index / 2).into()),
        class: if index.is_multiple_of(5) { "useful-work-mining" } else { "pow-mining" }.into(),
        pools: (0..3).map(|offset| format!("pool-{}", (index + offset) % POOLS).into()).collect(),
        valid_from: Timestamp(0),
        valid_until: NOW + Duration::from_hours(5_000),
        approval: Approval::Approved,
        voided_by: None,
        limits: Limits {
            gpus: Some(1_000_000),
            watts: None,
            energy_mj: metered.then_some(1 << 60),
        },
        owner_limits: Limits { gpus: Some(2_000_000), ..Limits::default() },
        usage: metered.then_some(Usage {
            metered_until: before(30),
            millijoules: 1_000_000_000,
            peak_watts: Some(310),
        }),
        reading: Reading::Counts,
        energy_period: EnergyPeriod::default(),
        other_periods: Vec::new(),
        energy_resets: None,
        deleted_mj: 0,
        mirrored: Mirrored::Holds,
        problem: None,
    }
}

fn miner(index: u32, nodes: u32) -> Miner {
    let registration = index % REGISTRATIONS;
    // All together want about a sixth more than there is.
    let wanted = nodes * 7 / MINERS;
    Miner {
        key: format!("tenant-{registration}/hash-{index}").into(),
        registration: format!("tenant-{registration}/power").into(),
        created: before(500_000 + u64::from(index)),
        replicas: if registration.is_multiple_of(5) { wanted / 2 } else { wanted * 9 / 8 },
        shape: Shape { gpus: 1, cpu_milli: 2_000, memory: 4 << 30, huge_pages: [0; 2] },
        weight: 1 + index % 3,
        watts: 300,
        drain_timeout: Duration::from_secs(10),
        pools: Vec::new(),
        revision: 1,
        requests_changed: None,
        problem: None,
    }
}

fn job(key: &str, workers: u32, gpus: u32, state: JobState) -> Job {
    Job {
        key: key.into(),
        created: before(5_000),
        priority: 0,
        workers,
        shape: Shape { gpus, cpu_milli: 8_000, memory: 32 << 30, huge_pages: [0; 2] },
        class: "ai-training".into(),
        resource: GPU.into(),
        pool: None,
        allowed_nodes: None,
        max_run_time: Some(Duration::from_hours(12)),
        gang_timeout: Duration::from_mins(1),
        state,
        succeeded: 0,
        suspended_by: None,
        requests_changed: None,
        problem: None,
    }
}

fn worker(job: &Job, index: u32, node: u32) -> Pod {
    Pod {
        key: format!("{}-{index}", job.key).into(),
        node: Some(format!("node-{node:05}").into()),
        nominated: None,
        gpus: vec![(GPU.into(), job.shape.gpus)],
        cpu_milli: job.shape.cpu_milli,
        memory: job.shape.memory,
        created: before(4_000),
        deleting: false,
        gone_by: None,
        huge_pages: [0; 2],
        gates: Vec::new(),
        by_claim: Vec::new(),
        role: Role::Worker { job: job.key.clone(), preemption: Preemption::ByScheduler },
    }
}

fn foreign_pod(key: &str, gpus: u32) -> Pod {
    Pod {
        key: key.into(),
        node: None,
        nominated: None,
        gpus: vec![(GPU.into(), gpus)],
        cpu_milli: 4_000,
        memory: 16 << 30,
        created: before(1),
        deleting: false,
        gone_by: None,
        huge_pages: [0; 2],
        gates: Vec::new(),
        by_claim: Vec::new(),
        role: Role::Other {
            activity: Activity::Listed("ai-inference".into()),
            preemption: Preemption::ByScheduler,
        },
    }
}

fn miner_pod(grant: &daylight_planner::explain::Grant, miner: &Miner) -> Pod {
    Pod {
        key: format!("{}-{}-{}", miner.key, grant.node, grant.slot).into(),
        node: Some(grant.node.clone()),
        nominated: None,
        gpus: vec![(GPU.into(), miner.shape.gpus)],
        cpu_milli: miner.shape.cpu_milli,
        memory: miner.shape.memory,
        created: before(3_000),
        deleting: false,
        gone_by: None,
        huge_pages: [0; 2],
        gates: Vec::new(),
        by_claim: Vec::new(),
        role: Role::Miner {
            miner: miner.key.clone(),
            registration: miner.registration.clone(),
            pool: grant.pool.clone(),
            slot: grant.slot,
            revision: miner.revision,
            watts: miner.watts,
        },
    }
}

/// A site of `nodes` with its AI load and no miner's pods: of 40 nodes, four
/// are held whole, two half and two by one GPU, by jobs of eight workers.
fn idle_site(nodes: u32) -> Snapshot {
    let mut site = Snapshot {
        pools: (0..POOLS).map(pool).collect(),
        classes: [
            ("ai-training", ClassAssignment::Guaranteed, 0),
            ("ai-inference", ClassAssignment::Guaranteed, 0),
            ("useful-work-mining", ClassAssignment::IdleOnly, 20),
            ("pow-mining", ClassAssignment::IdleOnly, 10),
        ]
        .map(|(name, assignment, rank)| Class { name: name.into(), assignment, rank })
        .into(),
        registrations: (0..REGISTRATIONS).map(registration).collect(),
        miners: (0..MINERS).map(|index| miner(index, nodes)).collect(),
        nodes: (0..nodes).map(node).collect(),
        ..Snapshot::default()
    };
    for index in 0..nodes / 40 {
        let gpus = [8, 8, 4, 1][index as usize % 4];
        let job =
            job(&format!("ml/train-{index}"), 8, gpus, JobState::Running { since: before(3_900) });
        // Neighbours of a pool, away from those of other jobs.
        let node = |worker: u32| index * 40 + worker * POOLS + index % POOLS;
        site.pods.extend((0..8).map(|index| worker(&job, index, node(index))));
        site.jobs.push(job);
    }
    site
}

/// The same site, filled by the planner and settled.
fn full_site(nodes: u32) -> Snapshot {
    let mut site = idle_site(nodes);
    let miners: HashMap<_, _> =
        site.miners.iter().map(|miner| (miner.key.clone(), miner.clone())).collect();
    let mut planner = Planner::new(site.clone());
    let mut pods = HashMap::new();
    for round in 1.. {
        let actions = planner.plan(NOW).actions;
        if actions.is_empty() {
            eprintln!("{nodes} nodes are settled after {round} plans");
            break;
        }
        for action in actions {
            match action {
                Action::Grant(grant) => {
                    let pod = miner_pod(&grant, &miners[&grant.miner]);
                    pods.insert(pod.key.clone(), pod.clone());
                    planner.apply(Delta::Pod(pod));
                }
                Action::Evict { pod, .. } => {
                    pods.remove(&pod);
                    planner.apply(Delta::PodGone(pod));
                }
                other => panic!("an idle site is filled: {other:?}"),
            }
        }
    }
    let mut pods: Vec<_> = pods.into_values().collect();
    pods.sort_by(|a, b| a.key.cmp(&b.key));
    site.pods.extend(pods);
    site
}

fn from_scratch(site: Snapshot) -> (Planner, Plan) {
    let mut planner = Planner::new(site);
    let plan = planner.plan(NOW);
    (planner, plan)
}

/// An event, and its reversal.
struct Event {
    name: &'static str,
    happens: Vec<Delta>,
    undone: Vec<Delta>,
}

fn events(site: &Snapshot) -> Vec<Event> {
    let full_node = "node-00009";
    let on = |pod: &&Pod, node: &str| pod.node.as_deref() == Some(node);
    let miners: Vec<_> = site.pods.iter().filter(|pod| on(pod, full_node)).cloned().collect();
    let gone = miners.first().expect("the node is full of miners").clone();
    let node = site.nodes.iter().find(|node| *node.name == *full_node).cloned();
    let node = node.expect("the node exists");
    let metered = site.registrations[0].clone();
    let usage = metered.usage.map(|usage| Usage { metered_until: before(0), ..usage });
    let bound = foreign_pod("web/bound", 1);
    let removed = |name: &str| vec![Delta::PodGone(name.into())];
    let queued = JobState::Queued { attempts: 0, suspended_at: None };
    vec![
        Event { name: "nothing", happens: vec![], undone: vec![] },
        Event {
            name: "an AI pod is bound",
            happens: vec![
                Delta::PodGone(gone.key.clone()),
                Delta::Pod(Pod { node: Some(full_node.into()), ..bound }),
            ],
            undone: vec![Delta::PodGone("web/bound".into()), Delta::Pod(gone.clone())],
        },
        Event {
            name: "a miner's pod is gone",
            happens: removed(&gone.key),
            undone: vec![Delta::Pod(gone.clone())],
        },
        Event {
            name: "a node is cordoned",
            happens: vec![Delta::Node(Node { condition: NodeCondition::Cordoned, ..node.clone() })],
            undone: vec![Delta::Node(node)],
        },
        Event {
            name: "a foreign pod waits",
            happens: vec![Delta::Pod(foreign_pod("web/waiting", 2))],
            undone: removed("web/waiting"),
        },
        Event {
            name: "a job of 8 GPUs comes",
            happens: vec![Delta::Job(job("ml/new", 1, 8, queued.clone()))],
            undone: vec![Delta::JobGone("ml/new".into())],
        },
        Event {
            name: "a job of 8 workers with 8 GPUs comes",
            happens: vec![Delta::Job(job("ml/new", 8, 8, queued))],
            undone: vec![Delta::JobGone("ml/new".into())],
        },
        Event {
            name: "a meter is read",
            happens: vec![Delta::Registration(Registration { usage, ..metered.clone() })],
            undone: vec![Delta::Registration(metered.clone())],
        },
        Event {
            name: "a registration is suspended (many evictions)",
            happens: vec![Delta::Registration(Registration {
                approval: Approval::Suspended,
                ..metered.clone()
            })],
            undone: vec![Delta::Registration(metered)],
        },
    ]
}

/// Measures an event and the plan that follows, without the reversal.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    planner: &mut Planner,
    event: &Event,
) {
    let rest = planner.plan(NOW);
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut time = Duration::ZERO;
            for _ in 0..iterations {
                let happens = event.happens.clone();
                let start = Instant::now();
                for delta in happens {
                    planner.apply(delta);
                }
                let plan = black_box(planner.plan(NOW));
                time += start.elapsed();
                for delta in event.undone.clone() {
                    planner.apply(delta);
                }
                drop(plan);
                planner.plan(NOW);
            }
            time
        });
    });
    assert_eq!(rest, planner.plan(NOW), "{} is undone", event.name);
}

fn a_large_site(criterion: &mut Criterion) {
    let site = full_site(10_000);
    let miners = site.pods.iter().filter(|pod| matches!(pod.role, Role::Miner { .. })).count();
    eprintln!(
        "{} nodes, {} miners' pods, {} AI pods of {} jobs",
        site.nodes.len(),
        miners,
        site.pods.len() - miners,
        site.jobs.len()
    );

    let mut group = criterion.benchmark_group("from scratch");
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    group.bench_function("a full site", |bencher| {
        bencher.iter_batched(|| site.clone(), from_scratch, BatchSize::PerIteration);
    });
    let idle = idle_site(10_000);
    group.bench_function("an empty site, filled", |bencher| {
        bencher.iter_batched(|| idle.clone(), from_scratch, BatchSize::PerIteration);
    });
    group.finish();

    let mut group = criterion.benchmark_group("after one event");
    let mut planner = Planner::new(site.clone());
    for event in events(&site) {
        measure(&mut group, BenchmarkId::from_parameter(event.name), &mut planner, &event);
    }
    group.finish();
}

/// Growth of the times with the site.
///
/// A plan from scratch executes 2,100 to 2,500 instructions a pod at every
/// size, but reads what lies all over memory: a pod, its names, its node. By
/// callgrind, with a cache of 32 MB, no read misses it at 1,000 and 3,000
/// nodes, 7 reads a pod do at 10,000 nodes and 10 at 30,000. So the time grows
/// faster than the site while the site outgrows the caches.
fn growth(criterion: &mut Criterion) {
    for nodes in [1_000, 3_000, 10_000, 30_000] {
        let site = full_site(nodes);
        let mut group = criterion.benchmark_group("growth");
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.bench_function(BenchmarkId::new("from scratch", nodes), |bencher| {
            bencher.iter_batched(|| site.clone(), from_scratch, BatchSize::PerIteration);
        });
        group.sample_size(50);
        let mut planner = Planner::new(site.clone());
        for event in events(&site) {
            if ["a miner's pod is gone", "a job of 8 workers with 8 GPUs comes"]
                .contains(&event.name)
            {
                measure(&mut group, BenchmarkId::new(event.name, nodes), &mut planner, &event);
            }
        }
        group.finish();
    }
}

criterion_group!(benches, a_large_site, growth);
criterion_main!(benches);
