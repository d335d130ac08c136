//! The order of miners that compete for GPUs: by rank of class, then by weighted fair share.

use daylight_planner::model::Headroom;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

#[test]
fn equal_weights_share_equally() {
    let mut site = Site::of(2, 4, 8).with(miner("acme/other", 8));
    site.settle();
    assert_snapshot!(site.map(), @"
    node-1: 2 acme/hash, 2 acme/other
    node-2: 2 acme/hash, 2 acme/other
    ");
}

#[test]
fn shares_follow_weights() {
    let mut site = Site::of(2, 4, 8).with(miner("acme/heavy", 8).but(|miner| miner.weight = 3));
    site.settle();
    assert_snapshot!(site.map(), @"
    node-1: 1 acme/hash, 3 acme/heavy
    node-2: 1 acme/hash, 3 acme/heavy
    ");
}

#[test]
fn what_one_does_not_want_the_others_get() {
    let mut site = Site::of(2, 4, 8).with(miner("acme/small", 1));
    site.settle();
    assert_snapshot!(site.map(), @"
    node-1: 3 acme/hash, 1 acme/small
    node-2: 4 acme/hash
    ");
}

#[test]
fn shares_count_gpus_and_not_replicas() {
    let mut site = Site::of(2, 4, 8).with(miner("acme/pair", 4).but(|miner| miner.shape.gpus = 2));
    site.settle();
    assert_snapshot!(site.map(), @"
    node-1: 2 acme/hash, 2 acme/pair
    node-2: 2 acme/hash, 2 acme/pair
    ");
}

#[test]
fn a_higher_rank_is_served_first() {
    let mut site = Site::of(1, 4, 4)
        .with(registration("lab/power").but(|r| r.class = "useful-work-mining".into()))
        .with(miner("lab/fold", 3));
    assert_snapshot!(site.act(), @"
    grant lab/fold on node-1 (h100) slots 0 1 2, stops within 10s, ends in 183 days
    grant acme/hash on node-1 (h100) slot 3, stops within 10s, ends in 183 days
    ");
}

#[test]
fn a_lower_rank_yields() {
    let mut site = Site::of(1, 4, 4);
    site.settle();
    site.wait(seconds(60));
    site.put(registration("lab/power").but(|r| r.class = "useful-work-mining".into()));
    site.put(miner("lab/fold", 3));
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-1-0 within 10s: Rebalance of lab/fold
    evict acme/hash-node-1-1 within 10s: Rebalance of lab/fold
    evict acme/hash-node-1-2 within 10s: Rebalance of lab/fold
    ");
    site.settle();
    assert_snapshot!(site.map(), @"node-1: 1 acme/hash, 3 lab/fold");
}

#[test]
fn min_run_time_protects() {
    let mut site = Site::of(1, 4, 4);
    site.settle();
    site.wait(seconds(20));
    site.put(registration("lab/power").but(|r| r.class = "useful-work-mining".into()));
    site.put(miner("lab/fold", 3));
    assert_snapshot!(site.act_explained(), @"
    miner lab/fold (0 of 3): WaitingForIdleGpus. No node has 1 idle GPU.
    look again at 12:01:00
    ");
    site.wait(seconds(40));
    assert_snapshot!(site.actions(), @"
    evict acme/hash-node-1-0 within 10s: Rebalance of lab/fold
    evict acme/hash-node-1-1 within 10s: Rebalance of lab/fold
    evict acme/hash-node-1-2 within 10s: Rebalance of lab/fold
    ");
}

#[test]
fn a_newcomer_takes_its_share_and_no_more() {
    let mut site = Site::of(2, 4, 8);
    site.settle();
    site.wait(minutes(5));
    site.put(miner("acme/other", 8));
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-1-0 within 10s: Rebalance of acme/other
    evict acme/hash-node-1-1 within 10s: Rebalance of acme/other
    evict acme/hash-node-1-2 within 10s: Rebalance of acme/other
    evict acme/hash-node-1-3 within 10s: Rebalance of acme/other
    ");
    site.settle();
    assert_snapshot!(site.map(), @"
    node-1: 4 acme/other
    node-2: 4 acme/hash
    ");
}

#[test]
fn no_miner_is_displaced_to_even_out_a_single_gpu() {
    let mut site = Site::of(1, 3, 3).with(miner("acme/other", 3));
    site.settle();
    site.wait(minutes(5));
    assert_snapshot!(site.explained(), @"
    miner acme/hash (2 of 3): WaitingForIdleGpus. No node has 1 idle GPU.
    miner acme/other (1 of 3): WaitingForIdleGpus. No node has 1 idle GPU.
    ");
}

#[test]
fn a_newcomer_of_four_gpus_clears_one_node_rather_than_parts_of_two() {
    let mut site = Site::of(2, 4, 8);
    site.settle();
    site.wait(minutes(5));
    site.put(miner("acme/quad", 1).but(|miner| miner.shape.gpus = 4));
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-1-0 within 10s: Rebalance of acme/quad
    evict acme/hash-node-1-1 within 10s: Rebalance of acme/quad
    evict acme/hash-node-1-2 within 10s: Rebalance of acme/quad
    evict acme/hash-node-1-3 within 10s: Rebalance of acme/quad
    ");
    site.settle();
    assert_snapshot!(site.map(), @"
    node-1: 4 acme/quad
    node-2: 4 acme/hash
    ");
}

#[test]
fn a_node_being_cleared_for_a_large_replica_is_not_filled_by_small_ones_meanwhile() {
    let mut site = Site::of(2, 4, 8);
    site.settle();
    site.wait(minutes(5));
    site.put(miner("acme/quad", 1).but(|miner| miner.shape.gpus = 4));
    site.act();
    // One of the four stops sooner than the others.
    site.one_drained();
    assert_snapshot!(site.act_explained(), @"
    miner acme/hash (4 of 8, 3 stopping): KeptForMiner. What is free is kept for miner acme/quad, which is next and starts once enough other replicas have stopped.
    miner acme/quad (0 of 1): WaitingForIdleGpus. No node has 4 idle GPUs.
    ");
    site.drained();
    site.settle();
    assert_snapshot!(site.map(), @"
    node-1: 4 acme/quad
    node-2: 4 acme/hash
    ");
}

/// A full site with one GPU of headroom, where a miner requests a replica of four GPUs.
fn site_where_a_large_replica_comes(nodes: u32) -> Site {
    let mut site = Site::of(nodes, 4, 4 * nodes - 1);
    site.edit_pool("h100", |pool| pool.headroom = Headroom::Count(1));
    site.settle();
    site.wait(minutes(5));
    site.put(miner("acme/quad", 1).but(|miner| miner.shape.gpus = 4));
    site
}

#[test]
fn no_miner_is_displaced_for_a_replica_that_would_need_the_headroom() {
    // The idle GPU and three of the other miner's seven would make a node free.
    let mut site = site_where_a_large_replica_comes(2);
    assert_snapshot!(site.act_explained(), @"
    pool h100 (8 GPUs: 7 mining, 1 headroom): Filling. Idle GPUs go to registered miners.
    miner acme/quad (0 of 1): WaitingForIdleGpus. No node has 4 idle GPUs.
    ");
}

#[test]
fn what_a_large_replica_waits_for_is_not_given_away_on_other_nodes() {
    let mut site = site_where_a_large_replica_comes(3);
    site.edit_miner("acme/hash", |miner| miner.replicas = 13);
    site.act();
    site.one_drained();
    assert_snapshot!(site.act_explained(), @"
    pool h100 (12 GPUs: 10 mining, 1 idle, 1 headroom): Filling. Idle GPUs go to registered miners.
    miner acme/hash (7 of 13, 3 stopping): KeptForMiner. What is free is kept for miner acme/quad, which is next and starts once enough other replicas have stopped.
    miner acme/quad (0 of 1): WaitingForIdleGpus. No node has 4 idle GPUs.
    ");
}
