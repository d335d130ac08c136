//! The choice of miners that stop when AI needs GPUs.

use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

#[test]
fn exactly_as_many_miners_go_as_are_needed() {
    let mut site = Site::of(2, 8, 16);
    site.settle();
    site.put(job("ml/train", 1, 3));
    assert_snapshot!(site.act_explained(), @"
    reserve for ml/train: node-1, displacing 3 miners
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-1 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-2 within 10s: AiDemand of ml/train
    miner acme/hash (13 of 16, 3 stopping): Stopping. Stopping 3 replicas; replacements start as GPUs become idle.
    job ml/train: WaitingForDrain. Waiting for miners to free 3 GPUs.
    ");
}

#[test]
fn with_reclaim_unit_node_a_whole_node_is_cleared_and_stays_clear_until_ai_is_bound() {
    let mut site = Site::of(2, 4, 8);
    site.edit_pool("h100", |pool| pool.reclaim_unit = ReclaimUnit::Node);
    site.settle();
    site.put(job("ml/train", 1, 2));
    assert_snapshot!(site.act(), @"
    reserve for ml/train: node-1, displacing 4 miners
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-1 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-2 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-3 within 10s: AiDemand of ml/train
    ");
    site.drained();
    assert_snapshot!(site.act_explained(), @"
    release ml/train: node-1
    miner acme/hash (4 of 8): NodesClosed. Nodes with 1 idle GPU are closed to mining: they are autoscaled, just lost GPUs, are kept for AI, or the pool's RuntimeClass excludes them.
    job ml/train: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    look again at 12:01:00
    ");
    site.bound("ml/train");
    assert_snapshot!(site.act(), @"grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn with_reclaim_unit_node_a_node_is_cleared_even_if_enough_of_it_is_idle() {
    let mut site = Site::of(1, 8, 4);
    site.edit_pool("h100", |pool| pool.reclaim_unit = ReclaimUnit::Node);
    site.settle();
    site.put(job("ml/train", 1, 4));
    assert_snapshot!(site.act(), @"
    reserve for ml/train: node-1, displacing 4 miners
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-1 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-2 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-3 within 10s: AiDemand of ml/train
    ");
}

#[test]
fn with_reclaim_unit_node_an_empty_node_is_better_than_one_with_miners() {
    let mut site = Site::of(1, 4, 2);
    site.edit_pool("h100", |pool| pool.reclaim_unit = ReclaimUnit::Node);
    site.settle();
    site.put(node("node-2", 4));
    site.put(job("ml/train", 1, 2));
    assert_snapshot!(site.actions(), @"release ml/train: node-2");
}

#[test]
fn a_miner_of_the_right_size_goes_rather_than_a_larger_one() {
    let mut site = Site::of(1, 8, 4);
    site.settle();
    site.put(miner("acme/quad", 1).but(|miner| miner.shape.gpus = 4));
    site.settle();
    site.put(job("ml/tune", 1, 1));
    assert_snapshot!(site.actions(), @"
    reserve for ml/tune: node-1, displacing 1 miner
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/tune
    ");
}

#[test]
fn one_large_miner_goes_rather_than_several_small_ones() {
    let mut site = Site::of(1, 8, 4);
    site.settle();
    site.put(miner("acme/quad", 1).but(|miner| miner.shape.gpus = 4));
    site.settle();
    site.put(job("ml/tune", 1, 3));
    assert_snapshot!(site.actions(), @"
    reserve for ml/tune: node-1, displacing 1 miner
    evict acme/quad-node-1-4 within 10s: AiDemand of ml/tune
    ");
}

#[test]
fn among_equal_miners_the_lower_rank_goes() {
    let mut site = Site::of(1, 4, 2)
        .with(registration("lab/power").but(|r| r.class = "useful-work-mining".into()))
        .with(miner("lab/fold", 2));
    site.settle();
    site.put(job("ml/tune", 1, 2));
    assert_snapshot!(site.actions(), @"
    reserve for ml/tune: node-1, displacing 2 miners
    evict acme/hash-node-1-2 within 10s: AiDemand of ml/tune
    evict acme/hash-node-1-3 within 10s: AiDemand of ml/tune
    ");
}

#[test]
fn miners_that_are_stopping_anyway_are_waited_for_before_others_are_stopped() {
    let mut site = Site::of(1, 4, 4);
    site.settle();
    site.edit_miner("acme/hash", |miner| miner.replicas = 2);
    site.act();
    site.put(job("ml/tune", 1, 2));
    assert_snapshot!(site.act_explained(), @"
    reserve for ml/tune: node-1, displacing 0 miners
    job ml/tune: WaitingForDrain. Waiting for miners to free 2 GPUs.
    ");
}

#[test]
fn a_miner_goes_for_its_cpu_where_gpus_are_idle() {
    let mut site = Site::of(1, 4, 2);
    site.edit_node("node-1", |node| node.cpu_milli = 10_000);
    site.settle();
    // Two GPUs are idle, but 4 of 10 CPUs are held by miners.
    site.put(job("ml/tune", 1, 1));
    assert_snapshot!(site.act_explained(), @"
    reserve for ml/tune: node-1, displacing 1 miner
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/tune
    miner acme/hash (1 of 2, 1 stopping): Stopping. Stopping 1 replica; its replacement starts when GPUs become idle.
    job ml/tune: WaitingForDrain. Waiting for miners to free CPU, memory, huge pages or a pod slot.
    ");
    site.drained();
    assert_snapshot!(site.actions(), @"release ml/tune: node-1");
}

#[test]
fn a_miner_goes_for_its_pod_slot() {
    let mut site = Site::of(1, 4, 2);
    site.edit_node("node-1", |node| node.pod_slots = 2);
    site.settle();
    site.put(job("ml/tune", 1, 1));
    assert_snapshot!(site.act(), @"
    reserve for ml/tune: node-1, displacing 1 miner
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/tune
    ");
}

#[test]
fn the_grace_is_the_smaller_of_miner_and_pool() {
    let mut site = Site::of(1, 2, 1);
    site.put(miner("acme/slow", 1).but(|miner| miner.drain_timeout = minutes(5)));
    site.settle();
    site.put(job("ml/train", 1, 2));
    assert_snapshot!(site.actions(), @"
    reserve for ml/train: node-1, displacing 2 miners
    evict acme/slow-node-1-1 within 30s: AiDemand of ml/train
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/train
    ");
}

#[test]
fn a_job_of_many_small_workers_spreads_over_as_few_nodes_as_it_can() {
    let mut site = Site::of(3, 4, 12);
    site.settle();
    site.put(job("ml/sweep", 6, 1));
    assert_snapshot!(site.act(), @"
    reserve for ml/sweep: 4 on node-1, 2 on node-2, displacing 6 miners
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/sweep
    evict acme/hash-node-1-1 within 10s: AiDemand of ml/sweep
    evict acme/hash-node-1-2 within 10s: AiDemand of ml/sweep
    evict acme/hash-node-1-3 within 10s: AiDemand of ml/sweep
    evict acme/hash-node-2-0 within 10s: AiDemand of ml/sweep
    evict acme/hash-node-2-1 within 10s: AiDemand of ml/sweep
    ");
}
