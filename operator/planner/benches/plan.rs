//! How long a decision takes: `cargo bench -p daylight-planner`.
//!
//! The site has 8 GPUs a node; of 10,000 nodes, 60,000 GPUs mine and 2,000 are
//! held by AI pods. "From scratch" is a planner of the whole snapshot and its
//! first plan; "after" one event is to take it in and to plan again, as in a
//! controller that runs.

#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use daylight_planner::Planner;
use daylight_planner::model::{
    Approval, AutoscaledNodes, Class, ClassAssignment, Delta, Headroom, Job, JobState, Limits,
    Membership, Miner, MiningPolicy, Name, Node, NodeCondition, Pod, Pool, Preemption, Queueing,
    ReclaimUnit, Registration, Role, Shape, Snapshot,
};
use daylight_planner::time::{Timestamp, Windows};

const NOW: Timestamp = Timestamp::from_seconds(1_000_000);
const GPU: &str = "nvidia.com/gpu";

fn name(text: String) -> Name {
    Arc::from(text)
}

fn pool(index: usize) -> Pool {
    Pool {
        name: name(format!("pool-{index}")),
        created: NOW,
        resource: Arc::from(GPU),
        policy: MiningPolicy::Fill,
        windows: Windows::Always,
        max_gpus: None,
        headroom: Headroom::Count(0),
        power_budget_watts: None,
        idle_delay: Duration::ZERO,
        min_run_time: Duration::from_mins(10),
        drain_timeout: Duration::from_secs(30),
        reclaim_unit: ReclaimUnit::Gpu,
        autoscaled_nodes: AutoscaledNodes::Skip,
        queueing: Queueing::Backfill,
        problem: None,
    }
}

fn node(index: usize, pools: usize) -> Node {
    Node {
        name: name(format!("node-{index:05}")),
        pools: vec![Membership { pool: name(format!("pool-{}", index % pools)), tolerated: true }],
        gpus: vec![(Arc::from(GPU), 8)],
        cpu_milli: 128_000,
        memory: 1 << 40,
        pod_slots: 110,
        condition: NodeCondition::Ready,
        autoscaled: false,
        ai_released_at: None,
        shrunk_at: None,
        quarantined_until: None,
        quarantined_slots: Vec::new(),
    }
}

fn registration(index: usize, pools: usize) -> Registration {
    Registration {
        key: name(format!("tenant-{index}/registration")),
        owner: Some(name(format!("owner-{}", index / 2))),
        class: Arc::from("pow-mining"),
        pools: (0..pools).map(|pool| name(format!("pool-{pool}"))).collect(),
        valid_from: Timestamp(0),
        valid_until: Timestamp::from_seconds(2_000_000),
        approval: Approval::Approved,
        limits: Limits { gpus: Some(100_000), ..Limits::default() },
        owner_limits: Limits { gpus: Some(200_000), ..Limits::default() },
        usage: None,
        problem: None,
    }
}

fn miner(index: usize, registrations: usize, replicas: u32) -> Miner {
    Miner {
        key: name(format!("tenant-{}/miner-{index}", index % registrations)),
        registration: name(format!("tenant-{}/registration", index % registrations)),
        created: NOW,
        replicas,
        shape: Shape { gpus: 1, cpu_milli: 500, memory: 1 << 30 },
        weight: 100,
        watts: 400,
        drain: Duration::from_secs(10),
        pools: Vec::new(),
        revision: 1,
        problem: None,
    }
}

fn miner_pod(miner: &Miner, node: &Node, slot: u32) -> Pod {
    Pod {
        key: name(format!("{}-{}-{slot}", miner.key, node.name)),
        node: Some(node.name.clone()),
        nominated: None,
        gpus: vec![(Arc::from(GPU), 1)],
        cpu_milli: miner.shape.cpu_milli,
        memory: miner.shape.memory,
        created: Timestamp::from_seconds(900_000),
        deleting: false,
        role: Role::Miner {
            miner: miner.key.clone(),
            registration: miner.registration.clone(),
            pool: node.pools[0].pool.clone(),
            slot,
            revision: 1,
            watts: miner.watts,
        },
    }
}

fn job(index: usize, workers: u32, state: JobState) -> Job {
    Job {
        key: name(format!("ai/job-{index}")),
        created: NOW,
        priority: 0,
        workers,
        shape: Shape { gpus: 1, cpu_milli: 4_000, memory: 8 << 30 },
        class: Arc::from("ai-training"),
        resource: Arc::from(GPU),
        pool: None,
        allowed_nodes: None,
        max_run_time: None,
        gang_timeout: Duration::from_mins(1),
        state,
        problem: None,
    }
}

fn worker(index: usize, of: &Job, node: &Node) -> Pod {
    Pod {
        key: name(format!("ai/worker-{index}")),
        node: Some(node.name.clone()),
        nominated: None,
        gpus: vec![(Arc::from(GPU), 1)],
        cpu_milli: 4_000,
        memory: 8 << 30,
        created: NOW,
        deleting: false,
        role: Role::Worker { job: of.key.clone() },
    }
}

/// A site in proportion to 10,000 nodes: a fifth of a node mining more than
/// six GPUs, 200 miners that each want more than they have, 250 jobs.
fn site(nodes: usize) -> Snapshot {
    let (pools, registrations, miners) = (4, 50, 200);
    let mut snapshot = Snapshot {
        pools: (0..pools).map(pool).collect(),
        classes: vec![
            Class {
                name: Arc::from("pow-mining"),
                assignment: ClassAssignment::IdleOnly,
                rank: 100,
            },
            Class {
                name: Arc::from("ai-training"),
                assignment: ClassAssignment::Guaranteed,
                rank: 0,
            },
        ],
        registrations: (0..registrations).map(|index| registration(index, pools)).collect(),
        nodes: (0..nodes).map(|index| node(index, pools)).collect(),
        ..Snapshot::default()
    };
    // 6.2 GPUs of a node are held on average; the rest is closed to miners by
    // their own scale, so that the site is at rest.
    let replicas = (nodes * 6 / miners) as u32;
    snapshot.miners = (0..miners).map(|index| miner(index, registrations, replicas)).collect();
    for index in 0..nodes * 6 {
        let (miner, node) = (&snapshot.miners[index % miners], &snapshot.nodes[index / 6]);
        snapshot.pods.push(miner_pod(miner, node, (index % 6) as u32));
    }
    let workers = nodes / 5;
    for index in 0..workers {
        if index % 8 == 0 {
            let state = JobState::Running { since: NOW };
            snapshot.jobs.push(job(index / 8, 8.min(workers - index) as u32, state));
        }
        let job = &snapshot.jobs[index / 8];
        snapshot.pods.push(worker(index, job, &snapshot.nodes[index * 5]));
    }
    snapshot
}

fn from_scratch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("from scratch");
    group.sample_size(20);
    for nodes in [1_000, 3_000, 10_000, 30_000] {
        let snapshot = site(nodes);
        group.bench_function(BenchmarkId::from_parameter(nodes), |bencher| {
            bencher.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let given = snapshot.clone();
                    let start = Instant::now();
                    let mut planner = Planner::new(given);
                    let plan = black_box(planner.plan(NOW));
                    took += start.elapsed();
                    assert!(plan.actions.is_empty(), "the site is at rest");
                }
                took
            });
        });
    }
    group.finish();
}

/// An event, and the one that takes it back.
fn events(snapshot: &Snapshot) -> Vec<(&'static str, Delta, Delta)> {
    let miner_pod = snapshot.pods[3].clone();
    let mut moved = snapshot.nodes[7].clone();
    moved.condition = NodeCondition::Cordoned;
    let node = snapshot.nodes[11].clone();
    let pod = Pod {
        role: Role::Other {
            class: Some(Arc::from("ai-training")),
            preemption: Preemption::ByScheduler,
        },
        ..worker(1_000_000, &job(0, 1, JobState::External), &node)
    };
    let queued = job(1_000_000, 8, JobState::Queued { attempts: 0, suspended_at: None });
    vec![
        ("a miner's pod ends", Delta::PodGone(miner_pod.key.clone()), Delta::Pod(miner_pod)),
        ("a node is cordoned", Delta::Node(moved), Delta::Node(snapshot.nodes[7].clone())),
        ("an AI pod is bound", Delta::Pod(pod.clone()), Delta::PodGone(pod.key)),
        ("a gang of 8 arrives", Delta::Job(queued.clone()), Delta::JobGone(queued.key)),
    ]
}

fn after_one_event(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("after one event");
    for nodes in [1_000, 3_000, 10_000, 30_000] {
        let snapshot = site(nodes);
        let mut planner = Planner::new(snapshot.clone());
        planner.plan(NOW);
        for (event, happens, taken_back) in events(&snapshot) {
            group.bench_function(BenchmarkId::new(event, nodes), |bencher| {
                bencher.iter_custom(|times| {
                    let mut took = Duration::ZERO;
                    for _ in 0..times {
                        let delta = happens.clone();
                        let start = Instant::now();
                        planner.apply(delta);
                        black_box(planner.plan(NOW));
                        took += start.elapsed();
                        planner.apply(taken_back.clone());
                        planner.plan(NOW);
                    }
                    took
                });
            });
        }
    }
    group.finish();
}

fn fill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fill an empty site");
    group.sample_size(10);
    for nodes in [1_000, 10_000] {
        let mut snapshot = site(nodes);
        snapshot.pods.clear();
        snapshot.jobs.clear();
        group.bench_function(BenchmarkId::from_parameter(nodes), |bencher| {
            bencher.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let mut planner = Planner::new(snapshot.clone());
                    let start = Instant::now();
                    let plan = black_box(planner.plan(NOW));
                    took += start.elapsed();
                    assert_eq!(plan.actions.len(), nodes * 6, "all that is wanted is granted");
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, from_scratch, after_one_event, fill);
criterion_main!(benches);
