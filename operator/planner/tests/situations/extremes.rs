//! Requests beyond every node: any user may create them, and nothing else may change for it.

use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

#[test]
fn a_pod_that_requests_more_gpus_than_exist_takes_no_headroom() {
    let mut site = Site::of(2, 8, 16);
    site.edit_pool("h100", |pool| pool.headroom = Headroom::Count(2));
    site.settle();
    for gpus in [u32::MAX, u32::MAX - 1, u32::MAX - 5, 9] {
        site.put(foreign_pod("web/huge", gpus));
        assert_eq!(site.actions(), "");
    }
}

#[test]
fn a_pod_that_no_node_can_take_keeps_no_gpu_from_miners() {
    let mut site = Site::of(1, 8, 8).with(foreign_pod("web/huge", 9));
    site.settle();
    assert_snapshot!(site.map(), @"node-1: 8 acme/hash");
}

#[test]
fn a_job_that_requests_more_cpu_than_exists_displaces_no_miner() {
    let mut site = Site::of(2, 8, 16);
    site.settle();
    for cpu_milli in [u64::MAX, i64::MAX as u64 + 1, 1 << 60] {
        site.put(job("lab/huge", 1, 8).but(|job| job.shape.cpu_milli = cpu_milli));
        assert_eq!(site.actions(), "");
    }
    site.put(job("lab/huge", 1, 8).but(|job| job.shape.memory = u64::MAX));
    assert_snapshot!(site.explained(), @"job lab/huge: NoNodeLargeEnough. No permitted node is large enough for one pod with 8 GPUs and its CPU and memory. Request less per pod.");
    site.put(job("lab/huge", u32::MAX, u32::MAX));
    assert_snapshot!(site.explained(), @"job lab/huge: NoNodeLargeEnough. No permitted node is large enough for one pod with 16384 GPUs and its CPU and memory. Request less per pod.");
}

#[test]
fn a_miner_that_requests_more_than_any_node_has_gets_nothing_and_takes_nothing() {
    let mut site = Site::of(2, 8, 16);
    site.settle();
    site.wait(minutes(5));
    site.put(miner("acme/huge", u32::MAX).but(|miner| {
        miner.shape = Shape { gpus: 1, cpu_milli: u64::MAX, memory: u64::MAX, huge_pages: [0; 2] };
        miner.watts = u64::MAX;
        miner.weight = u32::MAX;
    }));
    assert_snapshot!(site.explained(), @"miner acme/huge (0 of 4294967295): WaitingForIdleGpus. No node has 1 idle GPU.");
    site.edit_miner("acme/huge", |miner| {
        miner.shape = Shape { gpus: u32::MAX, cpu_milli: 0, memory: 0, huge_pages: [0; 2] }
    });
    assert_snapshot!(site.explained(), @"miner acme/huge (0 of 4294967295): WaitingForIdleGpus. No node has 16384 idle GPUs.");
}

#[test]
fn a_pod_beyond_its_node_leaves_the_other_nodes_alone() {
    let mut site = Site::of(2, 8, 16);
    site.settle();
    site.put(foreign_pod("web/huge", u32::MAX).but(|pod| {
        pod.node = Some("node-2".into());
        pod.cpu_milli = u64::MAX;
        pod.memory = u64::MAX;
    }));
    assert_snapshot!(site.actions(), @"");
    site.put(Delta::PodGone("web/huge".into()));
    assert_snapshot!(site.actions(), @"");
}

#[test]
fn headroom_beyond_the_pool_is_all_of_it() {
    let mut site = Site::of(1, 4, 4);
    site.edit_pool("h100", |pool| pool.headroom = Headroom::Count(u32::MAX));
    assert_snapshot!(site.explained(), @"
    pool h100 (4 GPUs: 4 headroom): Filling. Idle GPUs go to registered miners.
    miner acme/hash (0 of 4): Headroom. Pool h100 keeps 4 GPUs idle for AI.
    ");
    site.edit_pool("h100", |pool| pool.headroom = Headroom::Percent(u32::MAX));
    assert_snapshot!(site.explained(), @"
    pool h100 (4 GPUs: 4 headroom): Filling. Idle GPUs go to registered miners.
    miner acme/hash (0 of 4): Headroom. Pool h100 keeps 4 GPUs idle for AI.
    ");
}
