//! A site at which nothing happens comes to rest: plans are carried out, miners stop, and time passes.
//!
//! A single plan cannot show that a miner is displaced for one that then cannot start, or that what
//! was taken is given back: only the plans after the drain do.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_planner::Planner;
use daylight_planner::explain::{Action, Plan, ReclaimReason};
use daylight_planner::model::*;
use proptest::prelude::*;

use crate::happen::happen;
use crate::step;
use crate::story::{self, Event};
use crate::world::{World, seconds};

/// Time from one plan to the next: longer than the minimum run time of pools here.
const ROUND: u64 = 70;
/// Rounds after which a site is at rest, and those that show it: an hour.
const UNTIL_REST: usize = 60;
const AT_REST: usize = 51;

#[derive(Clone, Debug)]
struct PoolCaps {
    max_gpus: Option<u32>,
    watts: Option<u64>,
    headroom: u32,
    idle_delay: u64,
}

#[derive(Clone, Debug)]
struct Tenant {
    class: usize,
    owner: usize,
    pools: u8,
    limits: (Option<u32>, Option<u64>),
    owner_limits: (Option<u32>, Option<u64>),
}

#[derive(Clone, Debug)]
struct Rig {
    registration: usize,
    replicas: u32,
    gpus: u32,
    weight: u32,
    watts: u64,
    cpu: u64,
    /// The round in which it arrives.
    arrives: usize,
}

fn pool_caps() -> impl Strategy<Value = PoolCaps> {
    (
        prop::option::of(0..20u32),
        prop::option::of(0..6_000u64),
        prop_oneof![2 => Just(0), 1 => 0..4u32],
        prop_oneof![2 => Just(0), 1 => 0..300u64],
    )
        .prop_map(|(max_gpus, watts, headroom, idle_delay)| PoolCaps {
            max_gpus,
            watts,
            headroom,
            idle_delay,
        })
}

fn limits() -> impl Strategy<Value = (Option<u32>, Option<u64>)> {
    (
        prop_oneof![2 => Just(None), 1 => (0..12u32).prop_map(Some)],
        prop_oneof![2 => Just(None), 1 => (0..4_000u64).prop_map(Some)],
    )
}

fn tenant() -> impl Strategy<Value = Tenant> {
    (0..3usize, 0..3usize, any::<u8>(), limits(), limits()).prop_map(
        |(class, owner, pools, limits, owner_limits)| Tenant {
            class,
            owner,
            pools,
            limits,
            owner_limits,
        },
    )
}

fn rig() -> impl Strategy<Value = Rig> {
    (
        (0..4usize, 0..12u32, prop_oneof![3 => Just(1), 2 => 1..6u32]),
        (1..4u32, prop_oneof![1 => Just(0), 3 => 100..900u64]),
        (prop_oneof![3 => Just(1_000), 1 => 1_000..20_000u64], 0..4usize),
    )
        .prop_map(|((registration, replicas, gpus), (weight, watts), (cpu, arrives))| Rig {
            registration,
            replicas,
            gpus,
            weight,
            watts,
            cpu,
            arrives,
        })
}

#[derive(Clone, Debug)]
struct Scene {
    world: World,
    rigs: Vec<Rig>,
    /// Whether all stopping miners of a round stop together, or one after the other.
    drains: Vec<bool>,
}

fn scene() -> impl Strategy<Value = Scene> {
    let nodes = prop::collection::vec((1..9u32, 0..2usize, any::<bool>()), 1..5);
    let closed = prop::collection::vec(prop::option::of(0..2_000u64), 5);
    let rested = prop::collection::vec(any::<bool>(), 5);
    (
        nodes,
        (closed, rested),
        prop::collection::vec(pool_caps(), 2),
        prop::collection::vec(tenant(), 1..4),
        prop::collection::vec(rig(), 1..7),
        prop::collection::vec(any::<bool>(), 8),
    )
        .prop_map(|(nodes, (closed, rested), pools, tenants, rigs, drains)| {
            let mut world = World { now: Timestamp::from_seconds(1_000_000), ..World::default() };
            for (index, rank) in [10, 10, 50, 0].into_iter().enumerate() {
                let class = story::class(index, usize::from(index < 3), rank);
                world.classes.insert(class.name.clone(), class);
            }
            for (index, caps) in pools.into_iter().enumerate() {
                let pool = story::pool(index, 0, true, caps.headroom);
                let pool = Pool {
                    max_gpus: caps.max_gpus,
                    power_budget_watts: caps.watts,
                    idle_delay: seconds(caps.idle_delay),
                    min_run_time: seconds(60),
                    ..pool
                };
                world.pools.insert(pool.name.clone(), pool);
            }
            for (index, (gpus, member, tight)) in nodes.into_iter().enumerate() {
                let mut node = story::node(&world, index + 1, gpus, member, u32::from(!tight));
                let now = world.now;
                node.ai_released_at = rested[index].then_some(now);
                node.quarantined_until = closed[index].map(|time| now + seconds(time));
                world.nodes.insert(node.name.clone(), node);
            }
            for (index, tenant) in tenants.into_iter().enumerate() {
                let Tenant { class, owner, pools, limits, owner_limits } = tenant;
                let mut registration =
                    story::registration(&world, index, class, owner, pools | 1 << (index % 2));
                let limit = |(gpus, watts)| Limits { gpus, watts, energy_mj: None };
                registration.limits = limit(limits);
                registration.owner_limits = limit(owner_limits);
                world.registrations.insert(registration.key.clone(), registration);
            }
            Scene { world, rigs, drains }
        })
}

/// At most `count` of the stopping miners stop.
fn drain(world: &mut World, planner: &mut Planner, count: usize) {
    let stopping = world.pods.values().filter(|pod| pod.deleting).map(|pod| pod.key.clone());
    let gone: Vec<Name> = stopping.take(count).collect();
    for key in gone {
        world.pods.remove(&key);
        planner.apply(Delta::PodGone(key));
    }
}

/// How many replicas each miner lost to others, and how many it had at most.
#[derive(Default)]
struct Losses(BTreeMap<Name, (usize, usize)>);

impl Losses {
    fn count(&mut self, world: &World, plan: &Plan) {
        for action in &plan.actions {
            if let Action::Evict { pod, reason: ReclaimReason::Rebalance, .. } = action
                && let Role::Miner { miner, .. } = &world.pods[pod].role
            {
                self.0.entry(miner.clone()).or_default().0 += 1;
            }
        }
        for miner in world.miners.keys() {
            let of = |pod: &&Pod| matches!(&pod.role, Role::Miner { miner: of, .. } if of == miner);
            let held = world.pods.values().filter(of).count();
            let (_, most) = self.0.entry(miner.clone()).or_default();
            *most = held.max(*most);
        }
    }
}

fn settle(scene: Scene) -> Result<(), TestCaseError> {
    let Scene { mut world, rigs, drains } = scene;
    let mut planner = Planner::new(world.snapshot());
    let mut losses = Losses::default();
    for round in 0..UNTIL_REST + AT_REST {
        for rig in rigs.iter().filter(|rig| rig.arrives == round) {
            let &Rig { registration, replicas, gpus, weight, watts, cpu, .. } = rig;
            let memory = 1 << 30;
            let event = Event::Miner { registration, replicas, gpus, weight, watts, cpu, memory };
            happen(&mut world, &event).into_iter().for_each(|delta| planner.apply(delta));
        }
        let plan = step(&mut world, &mut planner)?;
        losses.count(&world, &plan);
        prop_assert!(
            round < UNTIL_REST || plan.actions.is_empty(),
            "round {round}: nothing happens, and {:?}",
            plan.actions
        );
        let arrived = rigs.iter().all(|rig| rig.arrives <= round);
        let drains_left = world.pods.values().any(|pod| pod.deleting);
        let an_hour_on = world.now + seconds(ROUND * AT_REST as u64);
        if arrived && !drains_left && plan.wake_at.is_none_or(|at| at > an_hour_on) {
            // No plan before then is another one, which the last of them confirms.
            world.now = an_hour_on;
            let plan = step(&mut world, &mut planner)?;
            prop_assert!(plan.actions.is_empty(), "after an hour: {:?}", plan.actions);
            break;
        }
        // In some rounds one stops after the other, with a plan after each.
        let together = drains.get(round).copied().unwrap_or(true);
        while !together && world.pods.values().any(|pod| pod.deleting) {
            drain(&mut world, &mut planner, 1);
            let plan = step(&mut world, &mut planner)?;
            losses.count(&world, &plan);
        }
        drain(&mut world, &mut planner, usize::MAX);
        world.now = world.now + seconds(ROUND);
    }
    // Each replica may be displaced once for each miner that comes, and is not after that.
    for (miner, (lost, most)) in losses.0 {
        prop_assert!(
            lost <= most * world.miners.len(),
            "{miner} had {most} replicas at most, and lost {lost}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_time: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn a_site_at_which_nothing_happens_comes_to_rest(scene in scene()) {
        settle(scene)?;
    }
}
