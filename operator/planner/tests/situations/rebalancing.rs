//! Rebalancing settles: a replica is taken only for one that then starts, within every cap and on a
//! node that takes it, and what was taken is not given back.

use daylight_base::Name;
use daylight_planner::model::{Headroom, Limits, Shape};
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

/// A site where `acme/hash` has mined for five minutes, and another miner of its registration comes.
fn newcomer(mut site: Site, change: impl FnOnce(&mut daylight_planner::model::Miner)) -> Site {
    site.settle();
    site.wait(minutes(5));
    site.put(miner("acme/new", 4).but(change));
    site
}

#[test]
fn under_a_power_budget_as_many_leave_as_the_newcomer_needs_watts() {
    let mut site = Site::of(2, 8, 20);
    site.edit_pool("h100", |pool| pool.power_budget_watts = Some(3000));
    let mut site = newcomer(site, |miner| miner.watts = 500);
    assert_snapshot!(site.actions(), @"
    evict acme/hash-node-1-0 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-1 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-2 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-3 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-4 within 10s: Rebalance of acme/new
    ");
    site.evicted_within_an_hour();
    assert_snapshot!(site.map(), @"
    node-1: 3 acme/hash, 3 acme/new, 2 idle
    node-2: 2 acme/hash, 6 idle
    ");
    assert_eq!(site.evicted_within_an_hour(), []);
}

#[test]
fn while_watts_for_a_large_replica_become_free_one_by_one_no_small_one_takes_them() {
    let mut site = Site::of(2, 8, 20);
    site.edit_pool("h100", |pool| pool.power_budget_watts = Some(3000));
    let mut site = newcomer(site, |miner| {
        miner.replicas = 1;
        miner.watts = 900;
    });
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-1-0 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-1 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-2 within 10s: Rebalance of acme/new
    ");
    site.one_drained();
    assert_snapshot!(site.act_explained(), @"
    miner acme/hash (7 of 20, 2 stopping): KeptForMiner. What is free is kept for miner acme/new, which is next and starts once enough other replicas have stopped.
    miner acme/new (0 of 1): PowerBudget. Pool h100 limits mining to 3000 W. Raise spec.mining.powerBudgetWatts or lower the miners' watts.
    ");
    site.drained();
    assert_snapshot!(site.act(), @"grant acme/new on node-1 (h100) slot 0, stops within 10s, ends in 183 days");
}

#[test]
fn under_a_cap_on_gpus_two_leave_for_a_replica_of_two() {
    let mut site = Site::of(2, 8, 5);
    site.edit_pool("h100", |pool| pool.max_gpus = Some(5));
    let mut site = newcomer(site, |miner| miner.shape.gpus = 2);
    site.evicted_within_an_hour();
    assert_snapshot!(site.map(), @"
    node-1: 3 acme/hash, 2 acme/new, 3 idle
    node-2: 8 idle
    ");
    assert_eq!(site.evicted_within_an_hour(), []);
}

#[test]
fn a_replica_larger_than_the_cap_displaces_no_one() {
    let mut site = Site::of(2, 8, 0)
        .with(registration("lab/power").but(|r| r.class = "useful-work-mining".into()))
        .with(miner("acme/pair", 4).but(|miner| miner.shape.gpus = 2));
    site.edit_pool("h100", |pool| pool.max_gpus = Some(3));
    site.settle();
    site.wait(minutes(5));
    site.put(miner("lab/quad", 1).but(|miner| miner.shape.gpus = 4));
    assert_snapshot!(site.act_explained(), @"
    miner acme/pair (1 of 4): PoolGpuLimit. Pool h100 limits mining to 3 GPUs. Raise spec.mining.maxGpus to allow more.
    miner lab/quad (0 of 1): PoolGpuLimit. Pool h100 limits mining to 3 GPUs. Raise spec.mining.maxGpus to allow more.
    ");
    assert_eq!(site.evicted_within_an_hour(), []);
}

#[test]
fn no_more_is_taken_than_the_registration_allows() {
    let mut site = Site::of(1, 8, 8);
    site.put(registration("lab/power").but(|r| r.limits = Limits { gpus: Some(2), ..r.limits }));
    site.settle();
    site.wait(minutes(5));
    site.put(miner("lab/new", 4));
    assert_snapshot!(site.actions(), @"
    evict acme/hash-node-1-0 within 10s: Rebalance of lab/new
    evict acme/hash-node-1-1 within 10s: Rebalance of lab/new
    ");
    site.edit_registration("lab/power", |r| {
        r.limits = Limits { watts: Some(700), ..Limits::default() };
    });
    assert_snapshot!(site.actions(), @"
    evict acme/hash-node-1-0 within 10s: Rebalance of lab/new
    evict acme/hash-node-1-1 within 10s: Rebalance of lab/new
    ");
    site.edit_registration("lab/power", |r| r.limits = Limits::default());
    for gpus in [Some(1), Some(0)] {
        site.edit_registration("lab/power", |r| {
            r.owner = Some("owner".into());
            r.owner_limits = Limits { gpus, ..Limits::default() };
        });
        let taken = site.actions().lines().count();
        assert_eq!(Some(taken as u32), gpus);
    }
}

#[test]
fn nothing_is_taken_on_a_node_in_quarantine() {
    let mut site = newcomer(Site::of(1, 8, 8), |_| ());
    let until = site.now + minutes(10);
    site.edit_node("node-1", |node| node.quarantined_until = Some(until));
    assert_snapshot!(site.act_explained(), @"
    miner acme/new (0 of 4): WaitingForIdleGpus. No node has 1 idle GPU.
    look again at 12:15:00
    ");
    site.wait(minutes(10));
    assert_snapshot!(site.actions(), @"
    evict acme/hash-node-1-0 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-1 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-2 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-3 within 10s: Rebalance of acme/new
    ");
}

#[test]
fn nothing_is_taken_where_ai_work_just_ended() {
    let mut site = Site::of(1, 8, 7);
    site.edit_pool("h100", |pool| pool.idle_delay = seconds(60));
    let mut site = newcomer(site, |_| ());
    let now = site.now;
    site.edit_node("node-1", |node| node.ai_released_at = Some(now));
    assert_snapshot!(site.act_explained(), @"
    miner acme/new (0 of 4): IdleDelay. GPUs stay idle until 2026-07-01T12:06:00Z, since AI work just ended there (spec.mining.idleDelay).
    look again at 12:06:00
    ");
    site.wait(minutes(1));
    // One GPU has become free without anything taken.
    assert_snapshot!(site.actions(), @"
    evict acme/hash-node-1-0 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-1 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-2 within 10s: Rebalance of acme/new
    grant acme/new on node-1 (h100) slot 7, stops within 10s, ends in 183 days
    ");
}

#[test]
fn a_wait_that_ends_by_itself_displaces_nothing_on_other_nodes() {
    let mut site = Site::of(2, 4, 4);
    site.edit_pool("h100", |pool| pool.idle_delay = minutes(10));
    let mut site = newcomer(site, |miner| miner.replicas = 4);
    let now = site.now;
    // The other node is idle, and rests.
    site.edit_node("node-2", |node| node.ai_released_at = Some(now));
    assert_snapshot!(site.act_explained(), @"
    miner acme/new (0 of 4): IdleDelay. GPUs stay idle until 2026-07-01T12:15:00Z, since AI work just ended there (spec.mining.idleDelay).
    look again at 12:15:00
    ");
    assert_eq!(site.evicted_within_an_hour(), []);
    assert_snapshot!(site.map(), @"
    node-1: 4 acme/hash
    node-2: 4 acme/new
    ");
}

#[test]
fn what_waits_for_more_than_will_be_idle_takes_the_rest() {
    let mut site = Site::of(2, 8, 15);
    site.edit_pool("h100", |pool| pool.idle_delay = minutes(10));
    let mut site = newcomer(site, |_| ());
    let now = site.now;
    site.edit_node("node-2", |node| node.ai_released_at = Some(now));
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-1-0 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-1 within 10s: Rebalance of acme/new
    evict acme/hash-node-1-2 within 10s: Rebalance of acme/new
    ");
}

#[test]
fn a_replica_that_fits_no_node_beside_others_takes_only_where_it_fits() {
    let mut site = Site::of(2, 4, 8);
    site.edit_node("node-1", |node| node.cpu_milli = 16_000);
    let mut site = newcomer(site, |miner| {
        miner.replicas = 1;
        miner.shape = Shape { cpu_milli: 20_000, ..miner.shape };
    });
    assert_snapshot!(site.actions(), @"evict acme/hash-node-2-0 within 10s: Rebalance of acme/new");
}

#[test]
fn headroom_is_restored_before_a_newcomer_gets_its_share() {
    let mut site = Site::of(2, 4, 6);
    site.edit_pool("h100", |pool| {
        pool.headroom = Headroom::Count(2);
        pool.max_gpus = Some(6);
    });
    let mut site = newcomer(site, |miner| miner.shape.gpus = 2);
    site.evicted_within_an_hour();
    assert_snapshot!(site.map(), @"
    node-1: 2 acme/hash, 2 acme/new
    node-2: 2 acme/hash, 2 idle
    ");
    assert_eq!(site.evicted_within_an_hour(), []);
}

/// Two miners of the lowest rank, each with a GPU on each node that the other does not have, and one
/// of a higher rank, of which a replica needs both.
fn two_small_and_one_large() -> Site {
    let mut site = Site::of(1, 2, 1)
        .with(registration("zeta/power"))
        .with(miner("zeta/hash", 1))
        .with(registration("lab/power").but(|r| r.class = "useful-work-mining".into()));
    site.settle();
    site.wait(minutes(5));
    site.put(miner("lab/pair", 1).but(|miner| miner.shape.gpus = 2));
    site
}

#[test]
fn two_miners_clear_a_node_that_neither_clears_alone() {
    let mut site = two_small_and_one_large();
    assert_snapshot!(site.actions(), @"
    evict zeta/hash-node-1-1 within 10s: Rebalance of lab/pair
    evict acme/hash-node-1-0 within 10s: Rebalance of lab/pair
    ");
    assert_eq!(site.evicted_within_an_hour().len(), 2);
    assert_snapshot!(site.map(), @"node-1: 2 lab/pair");
    assert_eq!(site.evicted_within_an_hour(), []);
}

#[test]
fn two_miners_that_together_are_not_enough_stay() {
    let mut site = two_small_and_one_large();
    site.edit_miner("lab/pair", |miner| miner.shape.gpus = 3);
    assert_eq!(site.actions(), "");
    // One of them may not stop yet.
    let mut site = two_small_and_one_large();
    site.edit_pool("h100", |pool| pool.min_run_time = minutes(10));
    assert_eq!(site.actions(), "");
    assert_eq!(site.evicted_within_an_hour().len(), 2);
}

#[test]
fn where_one_miner_is_enough_no_second_gives_anything() {
    let mut site = Site::of(1, 4, 1)
        .with(registration("zeta/power"))
        .with(miner("zeta/two", 1).but(|miner| miner.shape.gpus = 2))
        .with(registration("lab/power").but(|r| r.class = "useful-work-mining".into()));
    site.edit_node("node-1", |node| node.gpus = vec![(GPU.into(), 3)]);
    site.settle();
    site.wait(minutes(5));
    site.put(miner("lab/pair", 1).but(|miner| miner.shape.gpus = 2));
    assert_snapshot!(site.actions(), @"evict zeta/two-node-1-1 within 10s: Rebalance of lab/pair");
    // Of three GPUs, both are needed.
    site.edit_miner("lab/pair", |miner| miner.shape.gpus = 3);
    assert_eq!(site.actions().lines().count(), 2);
}

#[test]
fn of_an_equal_rank_each_of_several_keeps_at_least_the_takers_share() {
    let evicted = |replicas: u32| {
        let mut site = Site::of(2, 4, replicas)
            .with(registration("zeta/power"))
            .with(miner("zeta/hash", replicas))
            .with(registration("lab/power"));
        site.edit_pool("h100", |pool| pool.max_gpus = Some(2 * replicas));
        site.settle();
        site.wait(minutes(5));
        site.put(miner("lab/pair", 1).but(|miner| miner.shape.gpus = 2));
        let mut evicted = site.evicted_within_an_hour();
        assert_eq!(site.evicted_within_an_hour(), []);
        evicted.iter_mut().for_each(|pod| *pod = pod.split('-').next().unwrap_or_default().into());
        evicted
    };
    let pods = |of: &[&str]| of.iter().map(|of| (*of).into()).collect::<Vec<Name>>();
    // Of four, one miner may give two. Then it has a claim to one of the other's.
    assert_eq!(evicted(4), pods(&["zeta/hash", "zeta/hash", "acme/hash"]));
    // Of three, each may give one.
    assert_eq!(evicted(3), pods(&["zeta/hash", "acme/hash"]));
    // Of two, none: the taker would have more than is left.
    assert_eq!(evicted(2), pods(&[]));
}
