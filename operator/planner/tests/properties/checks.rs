//! The invariants, one function each.

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::Name;
use daylight_planner::explain::{Action, Plan, Reason, ReclaimReason};
use daylight_planner::model::*;
use daylight_planner::windows::WindowState;
use proptest::prelude::*;

use crate::world::{World, gpus, seconds};

type Check = Result<(), TestCaseError>;

fn granted(plan: &Plan) -> impl Iterator<Item = &daylight_planner::explain::Grant> {
    plan.actions.iter().filter_map(|action| match action {
        Action::Grant(grant) => Some(grant),
        _ => None,
    })
}

/// No GPU is assigned twice, AI comes before miners, and the positive list holds.
pub(crate) fn grants(before: &World, after: &World, plan: &Plan) -> Check {
    for grant in granted(plan) {
        let pool = &after.pools[&grant.pool];
        let node = &after.nodes[&grant.node];
        prop_assert_eq!(
            after.pool_of(node, &pool.resource).map(|pool| &pool.name),
            Some(&grant.pool),
            "the pool has the node"
        );
        prop_assert!(
            node.pools.iter().any(|m| m.pool == grant.pool && m.tolerated && m.runs_miners)
        );
        prop_assert_eq!(node.condition, NodeCondition::Ready);
        prop_assert!(node.shrunk_at.is_none(), "a node that lost GPUs gets no miner");
        prop_assert!(!node.autoscaled || pool.autoscaled_nodes == AutoscaledNodes::Use);
        prop_assert!(node.quarantined_until.is_none_or(|until| after.now >= until));
        prop_assert!(
            node.closed_to
                .iter()
                .all(|(miner, until)| *miner != grant.miner || after.now >= *until)
        );
        prop_assert!(node.ai_released_at.is_none_or(|at| after.now >= at + pool.idle_delay));
        let idle = after.idle(&grant.node, &pool.resource);
        let promised = i64::from(after.promised(&grant.node, &pool.resource));
        prop_assert!(idle >= promised, "{} has {idle} idle, {promised} promised", grant.node);
        let mut slots = BTreeSet::new();
        let (mut cpu, mut huge_pages, mut pods) = (0, 0, 0);
        for pod in after.pods_on(&grant.node) {
            if let Role::Miner { slot, .. } = &pod.role {
                prop_assert!(slots.insert(*slot), "slot {slot} of {} is granted twice", grant.node);
            }
            cpu += u128::from(pod.cpu_milli);
            huge_pages += pod.huge_pages[0];
            pods += 1;
        }
        prop_assert!(huge_pages <= node.huge_pages[0], "{} has too few huge pages", node.name);
        prop_assert!(
            cpu <= u128::from(node.cpu_milli) && pods <= node.pod_slots,
            "{} is overfull",
            node.name
        );

        prop_assert!(before.stop.is_none());
        prop_assert_eq!((pool.policy, pool.recording), (MiningPolicy::Fill, Recording::Works));
        let WindowState::Open(end) = pool.windows.at(after.now) else {
            return Err(TestCaseError::fail("granted outside the window"));
        };
        prop_assert!(end.is_none_or(|end| after.now + pool.drain_timeout < end));
        let miner = &after.miners[&grant.miner];
        let registration = &after.registrations[&miner.registration];
        prop_assert_eq!(registration.approval, Approval::Approved);
        prop_assert!(registration.pools.contains(&grant.pool));
        prop_assert!(after.now + miner.drain_timeout < registration.valid_until);
        prop_assert_eq!(
            after.classes.get(&registration.class).map(|class| class.assignment),
            Some(ClassAssignment::IdleOnly)
        );
        prop_assert!(grant.until.is_none_or(
            |until| until <= registration.valid_until && end.is_none_or(|end| until <= end)
        ));
        prop_assert!(registration.limits.energy_mj.is_none() || registration.usage.is_some());
    }
    for action in &plan.actions {
        if let Action::Release { job, .. } | Action::Reserve { job, .. } = action {
            let class = &after.jobs[job].class;
            prop_assert_eq!(after.classes[class].assignment, ClassAssignment::Guaranteed);
        }
        // A job without a whole reservation is queued again instead.
        if let Action::Reserve { job, placement, .. } = action {
            let workers: u32 = placement.iter().map(|placement| placement.workers).sum();
            prop_assert!(workers >= after.jobs[job].workers);
        }
        if let Action::Release { job, placement } = action {
            let job = &after.jobs[job];
            for placement in placement {
                let node = &after.nodes[&placement.node];
                let pool = after.pool_of(node, &job.resource);
                if pool.is_some_and(|pool| pool.policy == MiningPolicy::Observe) {
                    continue;
                }
                let idle = after.idle(&placement.node, &job.resource);
                prop_assert!(idle >= i64::from(placement.workers * job.shape.gpus));
            }
        }
    }
    Ok(())
}

/// No miner is displaced without need.
pub(crate) fn evictions(before: &World, plan: &Plan) -> Check {
    let mut after = before.clone();
    after.carry_out(plan);
    let mut for_ai: BTreeMap<(Name, Name), Vec<&Pod>> = BTreeMap::new();
    for action in &plan.actions {
        let Action::Evict { pod, reason, beneficiary, .. } = action else { continue };
        let pod = &before.pods[pod];
        let Role::Miner { pool, registration, .. } = &pod.role else {
            return Err(TestCaseError::fail("only miners are displaced"));
        };
        let pool = before.pools.get(pool);
        match reason {
            ReclaimReason::AiDemand => {
                prop_assert!(beneficiary.is_some());
                let key =
                    (pod.node.clone().expect("a miner's pod has a node"), pod.gpus[0].0.clone());
                for_ai.entry(key).or_default().push(pod);
            }
            ReclaimReason::EmergencyStop => prop_assert!(before.stop.is_some()),
            ReclaimReason::RegistrationInactive => {
                let registration = before.registrations.get(registration);
                let inactive = registration.is_none_or(|registration| {
                    registration.approval != Approval::Approved
                        || before.now + seconds(10) >= registration.valid_until
                });
                prop_assert!(inactive, "an active registration lost {}", pod.key);
            }
            ReclaimReason::WindowClosed => {
                let closed = pool.is_some_and(|pool| match pool.windows.at(before.now) {
                    WindowState::Closed(_) => true,
                    WindowState::Open(end) => {
                        end.is_some_and(|end| before.now + pool.drain_timeout >= end)
                    }
                });
                prop_assert!(closed, "the window is open for {}", pod.key);
            }
            ReclaimReason::Rebalance => prop_assert!(beneficiary.is_some()),
            _ => {}
        }
    }
    // A plan does not show where room is kept for a waiting pod, so such plans are not judged here.
    let kept_for_pods = before.pods.values().any(|pod| {
        pod.node.is_none()
            && matches!(&pod.role, Role::Other { preemption: Preemption::ByDaylight { .. }, .. })
    });
    if kept_for_pods {
        return Ok(());
    }
    for ((node, resource), pods) in for_ai {
        let resource = &resource;
        let object = &before.nodes[&node];
        let whole_node = |(resource, _): &(Name, u32)| {
            before
                .pool_of(object, resource)
                .is_some_and(|pool| pool.reclaim_unit == ReclaimUnit::Node)
        };
        if object.gpus.iter().any(whole_node) {
            continue;
        }
        // Each one is needed: without the smallest, the promises to AI here could not be kept.
        let fixed: u32 = after
            .pods_on(&node)
            .filter(|pod| {
                // One that should have stopped makes no room.
                let stuck = pod.gone_by.is_some_and(|by| before.now >= by + seconds(30));
                stuck || matches!(pod.role, Role::Worker { .. } | Role::Other { .. })
            })
            .map(|pod| gpus(pod, resource))
            .sum();
        // Evictions for these reasons are decided after those for AI.
        let goes_later: BTreeSet<&Name> = plan
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Evict { pod, reason, .. } => {
                    matches!(reason, ReclaimReason::Headroom | ReclaimReason::Rebalance)
                        .then_some(pod)
                }
                _ => None,
            })
            .collect();
        let staying: u32 = after
            .pods_on(&node)
            .filter(|pod| matches!(pod.role, Role::Miner { .. }))
            .filter(|pod| !pod.deleting || goes_later.contains(&pod.key))
            .map(|pod| gpus(pod, resource))
            .sum();
        let promised = after.promised(&node, resource);
        let smallest = pods.iter().map(|pod| gpus(pod, resource)).min().unwrap_or_default();
        let allocatable = after.allocatable(&node, resource);
        let tight_cpu = object.cpu_milli < 20_000;
        prop_assert!(
            tight_cpu || fixed + staying + smallest + promised > allocatable,
            "a miner on {node} was displaced without need: {fixed} fixed, {staying} staying, \
             {promised} promised of {allocatable}, smallest displaced {smallest}"
        );
    }
    Ok(())
}

/// Caps hold: whatever is granted stays within all of them, pods that are
/// stopping included; whatever runs on does so within all of them.
pub(crate) fn caps(before: &World, after: &World, plan: &Plan) -> Check {
    let _ = before;
    let held = |filter: &dyn Fn(&Name, &Name) -> bool, stopping: bool| {
        let (mut gpus, mut power) = (0, 0);
        let mut declared: BTreeMap<&Name, (u64, u64)> = BTreeMap::new();
        for pod in after.pods.values() {
            if let Role::Miner { pool, registration, watts, .. } = &pod.role
                && filter(pool, registration)
                && (stopping || !pod.deleting)
            {
                gpus += pod.gpus.iter().map(|(_, count)| count).sum::<u32>();
                let (sum, replicas) = declared.entry(registration).or_default();
                (*sum, *replicas) = (*sum + watts, *replicas + 1);
            }
        }
        // The larger of declared and measured.
        for (registration, (sum, replicas)) in declared {
            let usage = after.registrations.get(registration).and_then(|one| one.usage);
            let peak = usage.and_then(|usage| usage.peak_watts).unwrap_or_default();
            power += sum.max(peak * replicas);
        }
        (gpus, power)
    };
    for pool in after.pools.values() {
        let in_pool = |of: &Name, _: &Name| *of == pool.name;
        let grants = granted(plan).any(|grant| grant.pool == pool.name);
        for (counts, (gpus, watts)) in
            [(true, held(&in_pool, false)), (grants, held(&in_pool, true))]
        {
            if counts {
                prop_assert!(pool.max_gpus.is_none_or(|max| gpus <= max), "{}: {gpus}", pool.name);
                prop_assert!(pool.power_budget_watts.is_none_or(|budget| watts <= budget));
            }
        }
    }
    for registration in after.registrations.values() {
        let of_it = |_: &Name, of: &Name| *of == registration.key;
        let grants =
            granted(plan).any(|grant| after.miners[&grant.miner].registration == registration.key);
        for (counts, (gpus, watts)) in [(true, held(&of_it, false)), (grants, held(&of_it, true))] {
            if counts {
                prop_assert!(registration.limits.gpus.is_none_or(|max| gpus <= max));
                prop_assert!(registration.limits.watts.is_none_or(|max| watts <= max));
            }
        }
        let (_, watts) = held(&of_it, false);
        if let (Some(limit), Some(usage)) = (registration.limits.energy_mj, registration.usage) {
            let elapsed = after.now.since(usage.metered_until) + seconds(0);
            let projected = u128::from(usage.millijoules) + u128::from(watts) * elapsed.as_millis();
            prop_assert!(watts == 0 || projected <= u128::from(limit), "energy cap passed");
        } else if registration.limits.energy_mj.is_some() {
            prop_assert_eq!(held(&of_it, false).0, 0, "no meter, no mining");
        }
        if let Some(owner) = &registration.owner
            && is_in_force(after, registration)
        {
            let of_owner = |_: &Name, of: &Name| {
                after.registrations.get(of).is_some_and(|r| r.owner.as_ref() == Some(owner))
            };
            let (gpus, watts) = held(&of_owner, false);
            prop_assert!(registration.owner_limits.gpus.is_none_or(|max| gpus <= max));
            prop_assert!(registration.owner_limits.watts.is_none_or(|max| watts <= max));
            if let Some(limit) = registration.owner_limits.energy_mj
                && watts > 0
            {
                let of_owner =
                    after.registrations.values().filter(|r| r.owner.as_ref() == Some(owner));
                let used = of_owner.filter_map(|r| r.usage_in(registration.energy_period));
                let used: u128 = used.map(|usage| u128::from(usage.millijoules)).sum();
                prop_assert!(used < u128::from(limit), "the owner's energy cap is passed");
            }
        }
    }
    for miner in after.miners.values() {
        let pods = after.pods.values().filter(
            |pod| matches!(&pod.role, Role::Miner { miner: of, .. } if *of == miner.key && !pod.deleting),
        );
        prop_assert!(pods.count() as u32 <= miner.replicas);
    }
    Ok(())
}

fn is_in_force(world: &World, registration: &Registration) -> bool {
    let class = world.classes.get(&registration.class).map(|class| class.assignment);
    registration.approval == Approval::Approved
        && matches!(class, Some(ClassAssignment::Guaranteed | ClassAssignment::IdleOnly))
        && world.now >= registration.valid_from
        && world.now < registration.valid_until
}

/// Every object has an explanation, and one that waits has a reason.
pub(crate) fn explanations(after: &World, plan: &Plan) -> Check {
    prop_assert_eq!(plan.miners.len(), after.miners.len());
    prop_assert_eq!(plan.jobs.len(), after.jobs.len());
    prop_assert_eq!(plan.pools.len(), after.pools.len());
    prop_assert_eq!(plan.registrations.len(), after.registrations.len());
    for report in &plan.miners {
        prop_assert!(
            report.held + report.stopping >= report.wanted || report.reason != Reason::Running,
            "{} waits without a reason",
            report.miner
        );
        prop_assert!(!report.reason.to_string().is_empty());
    }
    for report in &plan.jobs {
        if matches!(after.jobs[&report.job].state, JobState::Queued { .. }) {
            prop_assert!(report.reason != Reason::Running, "{} waits without a reason", report.job);
        }
    }
    for report in &plan.pools {
        let gpus = report.gpus;
        prop_assert_eq!(
            gpus.total,
            gpus.ai
                + gpus.mining
                + gpus.undeclared
                + gpus.unlisted
                + gpus.idle
                + gpus.headroom
                + gpus.unavailable
                + gpus.quarantined
        );
    }
    Ok(())
}

/// Where a miner waits for idle GPUs, there are none that it could have.
pub(crate) fn no_idle_gpu_for_a_waiting_miner(world: &World, plan: &Plan) -> Check {
    // A plan does not show where room is kept for a waiting pod, so such plans are not judged here.
    if plan
        .waiting_pods
        .iter()
        .any(|pod| matches!(pod.reason, Reason::WaitingForDrain { .. } | Reason::RoomKept))
    {
        return Ok(());
    }
    for report in &plan.miners {
        let pods = |miner: &Name| {
            world
                .pods
                .values()
                .filter(|pod| matches!(&pod.role, Role::Miner { miner: of, .. } if of == miner))
                .count() as u32
        };
        if pods(&report.miner) >= report.wanted
            || !matches!(
                report.reason,
                Reason::WaitingForIdleGpus { .. }
                    | Reason::NodesClosed { .. }
                    | Reason::NoNodeFits { .. }
            )
        {
            continue;
        }
        let miner = &world.miners[&report.miner];
        let registration = &world.registrations[&miner.registration];
        for pool in registration.pools.iter().filter_map(|pool| world.pools.get(pool)) {
            let open = pool.policy == MiningPolicy::Fill
                && pool.recording == Recording::Works
                && world.stop.is_none()
                && matches!(pool.windows.at(world.now), WindowState::Open(end)
                    if end.is_none_or(|end| world.now + pool.drain_timeout < end));
            if !open {
                continue;
            }
            if let Some(node) = world.nodes.values().find(|node| takes(world, node, pool, miner)) {
                let free = free_in(world, pool);
                let arriving: u32 = world
                    .pods
                    .values()
                    .filter(|pod| {
                        pod.node.is_none()
                            && pod.nominated.is_none()
                            && matches!(pod.role, Role::Other { .. })
                            && world.now < pod.created + seconds(30)
                    })
                    .map(|pod| gpus(pod, &pool.resource))
                    // A request that no node can meet takes nothing.
                    .filter(|gpus| *gpus <= largest_node(world, &pool.resource))
                    .sum();
                let kept = headroom(world, pool) + i64::from(arriving);
                prop_assert!(
                    free < i64::from(miner.shape.gpus) + kept
                        || capped(world, pool, miner, registration),
                    "{} waits for idle GPUs ({:?}), and {} has them",
                    miner.key,
                    report.reason,
                    node.name
                );
            }
        }
    }
    Ok(())
}

fn takes(world: &World, node: &Node, pool: &Pool, miner: &Miner) -> bool {
    let quarantined = node.quarantined_until.is_some_and(|until| world.now < until)
        || node.closed_to.iter().any(|(of, until)| *of == miner.key && world.now < *until);
    let nominated = world
        .pods
        .values()
        .filter(|pod| pod.node.is_none() && pod.nominated.as_ref() == Some(&node.name));
    let held = world.pods_on(&node.name).chain(nominated);
    let held = held.map(|pod| (u128::from(pod.cpu_milli), u128::from(pod.memory)));
    let promised = world.jobs.values().map(|job| {
        let workers = u128::from(world.held_back(job, &node.name));
        (workers * u128::from(job.shape.cpu_milli), workers * u128::from(job.shape.memory))
    });
    let own = (u128::from(miner.shape.cpu_milli), u128::from(miner.shape.memory));
    let sum = |(cpu, memory): (u128, u128), more: (u128, u128)| (cpu + more.0, memory + more.1);
    let (cpu, memory) = held.chain(promised).fold(own, sum);
    let huge_pages: u64 = world.pods_on(&node.name).map(|pod| pod.huge_pages[0]).sum();
    // A node that is cleared for AI as a whole stays clear until the AI pods are bound.
    let cleared = node.gpus.iter().any(|(resource, _)| {
        let pool = world.pool_of(node, resource);
        pool.is_some_and(|pool| pool.reclaim_unit == ReclaimUnit::Node)
            && world.promised(&node.name, resource) > 0
    });
    node.condition == NodeCondition::Ready
        && !cleared
        && world.pool_of(node, &pool.resource).is_some_and(|of| of.name == pool.name)
        && node.pools.iter().any(|m| m.pool == pool.name && m.tolerated && m.runs_miners)
        && node.shrunk_at.is_none()
        && !node.autoscaled
        && !quarantined
        && node.ai_released_at.is_none_or(|at| world.now >= at + pool.idle_delay)
        && cpu <= u128::from(node.cpu_milli)
        && memory <= u128::from(node.memory)
        && huge_pages + miner.shape.huge_pages[0] <= node.huge_pages[0]
        && world.idle(&node.name, &pool.resource)
            >= i64::from(miner.shape.gpus) + i64::from(world.promised(&node.name, &pool.resource))
        && slots_left(world, node, pool)
}

fn slots_left(world: &World, node: &Node, pool: &Pool) -> bool {
    let taken = world.pods_on(&node.name).filter(|pod| matches!(pod.role, Role::Miner { .. }));
    let taken: BTreeSet<u32> = taken
        .filter_map(|pod| match &pod.role {
            Role::Miner { slot, .. } => Some(*slot),
            _ => None,
        })
        .collect();
    (0..world.allocatable(&node.name, &pool.resource)).any(|slot| !taken.contains(&slot))
}

fn open_nodes<'a>(world: &'a World, pool: &'a Pool) -> impl Iterator<Item = &'a Node> {
    world.nodes.values().filter(move |node| {
        node.condition == NodeCondition::Ready
            && world.pool_of(node, &pool.resource).is_some_and(|of| of.name == pool.name)
            && node.pools.iter().any(|m| m.pool == pool.name && m.tolerated)
    })
}

fn largest_node(world: &World, resource: &Name) -> u32 {
    let pools = world.pools.values().filter(|pool| pool.resource == *resource);
    let nodes = pools.flat_map(|pool| open_nodes(world, pool));
    nodes.map(|node| world.allocatable(&node.name, resource)).max().unwrap_or_default()
}

fn free_in(world: &World, pool: &Pool) -> i64 {
    open_nodes(world, pool)
        .map(|node| {
            let promised = i64::from(world.promised(&node.name, &pool.resource));
            (world.idle(&node.name, &pool.resource) - promised).max(0)
        })
        .sum()
}

fn headroom(world: &World, pool: &Pool) -> i64 {
    let usable =
        open_nodes(world, pool).map(|node| world.allocatable(&node.name, &pool.resource)).sum();
    i64::from(pool.headroom.of(usable))
}

/// Returns whether a cap other than the one in the reason prevents another replica.
fn capped(world: &World, pool: &Pool, miner: &Miner, registration: &Registration) -> bool {
    let held = |filter: &dyn Fn(&Name, &Name) -> bool| {
        let (mut gpus, mut power) = (u64::from(miner.shape.gpus), miner.watts);
        for pod in world.pods.values() {
            if let Role::Miner { pool, registration, watts, .. } = &pod.role
                && filter(pool, registration)
            {
                gpus += pod.gpus.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
                power += watts;
            }
        }
        (gpus, power)
    };
    let over = |(gpus, watts): (u64, u64), max: Option<u32>, budget: Option<u64>| {
        max.is_some_and(|max| gpus > max.into()) || budget.is_some_and(|budget| watts > budget)
    };
    over(held(&|of, _| *of == pool.name), pool.max_gpus, pool.power_budget_watts)
        || over(
            held(&|_, of| *of == registration.key),
            registration.limits.gpus,
            registration.limits.watts,
        )
        || registration.limits.energy_mj.is_some()
        || world
            .registrations
            .values()
            .any(|r| r.owner == registration.owner && r.owner_limits.gpus.is_some())
}

/// In a settled site, no miner waits in a pool where another of its rank has more than its share, to
/// within one replica. Checked for single GPUs only, where the sizes of nodes do not matter.
pub(crate) fn shares_are_fair(world: &World, plan: &Plan) -> Check {
    let fresh = |pod: &Pod| world.now < pod.created + seconds(1);
    if world.pods.values().any(|pod| pod.deleting || fresh(pod)) {
        return Ok(());
    }
    let rank = |miner: &Miner| {
        let registration = &world.registrations.get(&miner.registration)?;
        world.classes.get(&registration.class).map(|class| class.rank)
    };
    let held = |miner: &Name, only: Option<&Name>| {
        let pods = world.pods.values().filter(|pod| match &pod.role {
            Role::Miner { miner: of, pool, .. } => {
                of == miner && only.is_none_or(|only| only == pool)
            }
            _ => false,
        });
        pods.map(|pod| pod.gpus[0].1).sum::<u32>()
    };
    for report in &plan.miners {
        let contested = matches!(
            report.reason,
            Reason::WaitingForIdleGpus { .. } | Reason::PoolGpuLimit { .. }
        );
        let taker = &world.miners[&report.miner];
        if !contested || taker.shape.gpus != 1 || taker.watts > 0 {
            continue;
        }
        let pools = &world.registrations[&taker.registration].pools;
        for donor in world.miners.values().filter(|donor| donor.shape.gpus == 1) {
            if donor.key == taker.key || rank(donor) != rank(taker) {
                continue;
            }
            let shared = pools.iter().filter_map(|pool| world.pools.get(pool)).any(|pool| {
                pool.policy == MiningPolicy::Fill
                    && pool.recording == Recording::Works
                    && pool.min_run_time.is_zero()
                    && pool.power_budget_watts.is_none()
                    && matches!(pool.windows.at(world.now), WindowState::Open(end)
                        if end.is_none_or(|end| world.now + pool.drain_timeout < end))
                    && held(&donor.key, Some(&pool.name)) > 0
                    && world.nodes.values().all(|node| {
                        node.condition == NodeCondition::Ready
                            && node.shrunk_at.is_none()
                            && !node.autoscaled
                            && node.cpu_milli > 20_000
                            && node.pools.iter().all(|m| m.tolerated && m.runs_miners)
                    })
            });
            let (donor_left, taker_then) =
                (held(&donor.key, None).saturating_sub(1), held(&taker.key, None) + 1);
            prop_assert!(
                !shared
                    || u64::from(donor_left) * u64::from(taker.weight)
                        < u64::from(taker_then) * u64::from(donor.weight),
                "{} waits with {} GPUs at weight {}, and {} has {} at weight {}",
                taker.key,
                taker_then - 1,
                taker.weight,
                donor.key,
                donor_left + 1,
                donor.weight
            );
        }
    }
    Ok(())
}
