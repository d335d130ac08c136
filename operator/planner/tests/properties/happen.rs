//! Effects of events on a site.

use daylight_base::Name;
use daylight_planner::model::*;
use daylight_planner::windows::{Span, Windows};

use crate::story::{Event, NodeChange, PoolChange, RESOURCES, RegistrationChange, class};
use crate::world::{World, name, seconds};

fn pick<T>(map: &std::collections::BTreeMap<Name, T>, index: usize) -> Option<Name> {
    if map.is_empty() { None } else { map.keys().nth(index % map.len()).cloned() }
}

/// Applies an event to the site; returns the changes for the planner.
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
        Event::Job { workers, gpus, priority, run_time, pool, cpu, memory } => {
            let pool = pool.and_then(|index| pick(&world.pools, index));
            let resource =
                pool.as_ref().map_or(name(RESOURCES[0]), |pool| world.pools[pool].resource.clone());
            let key = world.fresh("ai/job");
            let job = Job {
                key: key.clone(),
                created: world.now,
                priority: *priority,
                workers: *workers,
                shape: Shape { gpus: *gpus, cpu_milli: *cpu, memory: *memory, huge_pages: [0; 2] },
                class: name("class-3"),
                resource,
                pool,
                allowed_nodes: None,
                max_run_time: run_time.map(seconds),
                gang_timeout: seconds(60),
                state: JobState::Queued { attempts: 0, suspended_at: None },
                succeeded: 0,
                suspended_by: None,
                requests_changed: None,
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
                gone_by: None,
                huge_pages: [0; 2],
                gates: Vec::new(),
                by_claim: Vec::new(),
                role: Role::Other {
                    activity: match gpus {
                        0..=2 => Activity::Undeclared,
                        3..=4 => Activity::Unlisted,
                        _ => Activity::Listed(name("class-3")),
                    },
                    preemption,
                },
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
        Event::Miner { registration, replicas, gpus, weight, watts, cpu, memory } => {
            let Some(registration) = pick(&world.registrations, *registration) else {
                return deltas;
            };
            let key = world.fresh("tenant/miner");
            let miner = Miner {
                key: key.clone(),
                registration,
                created: world.now,
                replicas: *replicas,
                shape: Shape {
                    gpus: *gpus,
                    cpu_milli: *cpu,
                    memory: *memory,
                    huge_pages: huge_pages(*gpus),
                },
                weight: *weight,
                watts: *watts,
                drain_timeout: seconds(10),
                pools: Vec::new(),
                revision: 1,
                requests_changed: None,
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

/// Miners of three GPUs request huge pages, which some nodes have.
fn huge_pages(gpus: u32) -> [u64; 2] {
    [if gpus == 3 { 1 << 30 } else { 0 }, 0]
}

fn workers_gone(world: &mut World, job: &Name) -> Vec<Delta> {
    let workers: Vec<_> = world
        .pods
        .values()
        .filter(|pod| matches!(&pod.role, Role::Worker { job: of, .. } if of == job))
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
                gone_by: None,
                huge_pages: [0; 2],
                gates: Vec::new(),
                by_claim: Vec::new(),
                role: Role::Worker { job: job.key.clone(), preemption: Preemption::ByScheduler },
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
    let miners: Vec<_> = world.miners.keys().cloned().collect();
    if matches!(change, NodeChange::Gone) {
        world.nodes.remove(key);
        return vec![Delta::NodeGone(key.clone())];
    }
    let Some(node) = world.nodes.get_mut(key) else { return Vec::new() };
    match change {
        NodeChange::Gpus(gpus) => {
            let before = node.gpus.first().map_or(0, |(_, count)| *count);
            node.shrunk_at = (*gpus < before).then_some(now);
            node.lost = node
                .gpus
                .iter()
                .map(|(name, _)| (name.clone(), before.saturating_sub(*gpus)))
                .collect();
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
            } else if let Some(miner) = miners.get(*time as usize % miners.len().max(1)) {
                node.closed_to = vec![(miner.clone(), now + seconds(*time))];
            }
        }
        NodeChange::Autoscaled(autoscaled) => node.autoscaled = *autoscaled,
        NodeChange::Move(index) => {
            let pool = pools[index % pools.len()].clone();
            node.pools =
                vec![Membership { pool, tolerated: index % 4 != 0, runs_miners: index % 5 != 0 }];
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
        PoolChange::Recording(works) => {
            pool.recording = if *works { Recording::Works } else { Recording::Full };
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
            registration.other_periods.clear();
        }
        RegistrationChange::OtherUsage(period, millijoules) => {
            let period = *period;
            registration.other_periods.retain(|other| other.period != period);
            if let Some(millijoules) = *millijoules {
                let (deleted_mj, resets) = (0, registration.valid_until);
                let other = PeriodUse { period, millijoules, deleted_mj, resets };
                registration.other_periods.push(other);
            }
        }
        RegistrationChange::Period(period) => {
            registration.energy_period = *period;
        }
        RegistrationChange::Peak(watts) => {
            if let Some(usage) = &mut registration.usage {
                usage.peak_watts = Some(*watts);
            }
        }
        RegistrationChange::OwnerWatts(watts) => registration.owner_limits.watts = *watts,
        RegistrationChange::OwnerEnergy(energy) => {
            registration.owner_limits.energy_mj = *energy;
        }
        RegistrationChange::ValidFor(time) => {
            registration.valid_until = now + seconds(*time);
        }
    }
    Delta::Registration(registration.clone())
}
