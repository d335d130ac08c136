//! Properties of every plan, on random sites and random histories.
//!
//! The checks are written against the site as it is, object by object, without
//! any of the planner's own arithmetic.

mod checks;
mod happen;
mod settle;
mod story;
mod world;

use daylight_base::Name;
use daylight_planner::Planner;
use daylight_planner::explain::Plan;
use daylight_planner::model::Delta;
use proptest::prelude::*;

use happen::happen;
use story::{Event, not_in_force, story};
use world::World;

/// Plans, checks the plan, carries it out, and checks the result.
fn step(world: &mut World, planner: &mut Planner) -> Result<Plan, TestCaseError> {
    let plan = planner.plan(world.now);
    let again = planner.plan(world.now);
    prop_assert_eq!(&plan, &again, "the same input gives the same plan");
    let scratch = Planner::new(world.snapshot()).plan(world.now);
    prop_assert_eq!(&plan, &scratch, "what is kept between plans is a cache only");

    let before = world.clone();
    for delta in world.carry_out(&plan) {
        planner.apply(delta);
    }
    checks::grants(&before, world, &plan)?;
    checks::evictions(&before, &plan)?;
    checks::caps(&before, world, &plan)?;
    checks::explanations(world, &plan)?;

    let settled = planner.plan(world.now);
    prop_assert!(
        settled.actions.is_empty(),
        "planning again changes nothing, but after {:?} it wants {:?}",
        plan.actions,
        settled.actions
    );
    checks::no_idle_gpu_for_a_waiting_miner(world, &settled)?;
    checks::shares_are_fair(world, &settled)?;
    Ok(plan)
}

fn live(mut world: World, events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut planner = Planner::new(world.snapshot());
    step(&mut world, &mut planner)?;
    for event in events {
        for delta in happen(&mut world, &event) {
            planner.apply(delta);
        }
        step(&mut world, &mut planner)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_time: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn registrations_not_in_force_change_no_decision(
        (mut world, events) in story(20),
        foreign in not_in_force(),
    ) {
        let mut planner = Planner::new(world.snapshot());
        for event in events {
            for delta in happen(&mut world, &event) {
                planner.apply(delta);
            }
            let plan = planner.plan(world.now);
            for delta in world.carry_out(&plan) {
                planner.apply(delta);
            }
        }
        let before = planner.plan(world.now);
        for registration in &foreign {
            planner.apply(Delta::Registration(registration.clone()));
        }
        let mut after = planner.plan(world.now);
        let is_known = |key: &Name| world.registrations.contains_key(key);
        after.registrations.retain(|report| is_known(&report.registration));
        // One that begins later requires another look.
        after.wake_at = before.wake_at;
        prop_assert_eq!(before, after);
    }

    #[test]
    fn every_plan_of_every_history_keeps_the_promises((world, events) in story(40)) {
        live(world, events)?;
    }
}
