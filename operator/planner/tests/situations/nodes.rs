//! Nodes that go away, come back, shrink, are cordoned, or where miners fail.

use daylight_planner::explain::{PoolReport, Reason};
use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

/// The device plugin of a node reports `gpus` from now on.
fn reports(site: &mut Site, node: &str, gpus: u32, shrunk: bool) {
    let now = site.now;
    site.edit_node(node, |node| {
        node.gpus[0].1 = gpus;
        node.shrunk_at = shrunk.then_some(now);
    });
}

#[test]
fn a_node_that_drops_to_zero_gpus_and_back_within_a_minute_displaces_no_miner() {
    let mut site = Site::of(1, 8, 8);
    site.settle();
    reports(&mut site, "node-1", 0, true);
    assert_snapshot!(site.act_explained(), @"look again at 12:05:00");
    site.wait(minutes(1));
    reports(&mut site, "node-1", 8, false);
    assert_snapshot!(site.act(), @"");
}

#[test]
fn gpus_that_are_gone_for_five_minutes_are_taken_from_miners() {
    let mut site = Site::of(1, 8, 8);
    site.settle();
    reports(&mut site, "node-1", 6, true);
    assert_snapshot!(site.act_explained(), @"look again at 12:05:00");
    site.wait(minutes(5));
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-1-0 within 10s: NodeUnavailable
    evict acme/hash-node-1-1 within 10s: NodeUnavailable
    ");
}

#[test]
fn a_node_that_lost_gpus_gets_no_new_miners() {
    let mut site = Site::of(1, 8, 4);
    site.settle();
    reports(&mut site, "node-1", 6, true);
    site.edit_miner("acme/hash", |miner| miner.replicas = 8);
    assert_snapshot!(site.act_explained(), @"
    miner acme/hash (4 of 8): NodesClosed. Nodes with 1 idle GPU are closed to mining: they are autoscaled, just lost GPUs, are kept for AI, or the pool's RuntimeClass excludes them.
    look again at 12:05:00
    ");
}

#[test]
fn a_cordoned_node_keeps_its_miners_and_gets_no_more() {
    let mut site = Site::of(2, 4, 2);
    site.settle();
    site.edit_node("node-1", |node| node.condition = NodeCondition::Cordoned);
    site.edit_miner("acme/hash", |miner| miner.replicas = 8);
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-2 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days
    pool h100 (8 GPUs: 2 mining, 4 idle, 2 unavailable): Filling. Idle GPUs go to registered miners.
    miner acme/hash (6 of 8): WaitingForIdleGpus. No node has 1 idle GPU.
    ");
}

#[test]
fn an_ai_job_does_not_go_to_a_cordoned_node() {
    let mut site = Site::of(2, 4, 4);
    site.edit_node("node-2", |node| node.condition = NodeCondition::Cordoned);
    site.settle();
    site.put(job("ml/train", 1, 4));
    assert_snapshot!(site.act_explained(), @"
    reserve for ml/train: node-1, displacing 4 miners
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-1 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-2 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-3 within 10s: AiDemand of ml/train
    pool h100 (8 GPUs: 4 mining, 4 unavailable): Filling. Idle GPUs go to registered miners.
    miner acme/hash (0 of 4, 4 stopping): Stopping. Stopping 4 replicas; replacements start as GPUs become idle.
    job ml/train: WaitingForDrain. Waiting for miners to free 4 GPUs.
    ");
}

#[test]
fn a_node_with_a_taint_that_the_pool_does_not_tolerate_is_left_alone() {
    let mut site = Site::of(1, 2, 4);
    site.put(node("tainted", 2).but(|node| node.pools[0].tolerated = false));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days
    pool h100 (4 GPUs: 2 idle, 2 unavailable): Filling. Idle GPUs go to registered miners.
    miner acme/hash (2 of 4): WaitingForIdleGpus. No node has 1 idle GPU.
    ");
}

#[test]
fn a_node_that_the_runtime_class_of_the_pool_excludes_gets_no_miner() {
    let mut site = Site::of(1, 2, 4);
    site.put(node("other-runtime", 2).but(|node| node.pools[0].runs_miners = false));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days
    miner acme/hash (2 of 4): NodesClosed. Nodes with 1 idle GPU are closed to mining: they are autoscaled, just lost GPUs, are kept for AI, or the pool's RuntimeClass excludes them.
    ");
}

#[test]
fn nodes_that_an_autoscaler_may_remove_mine_only_where_the_pool_allows_it() {
    let mut site = Site::of(0, 0, 4).with(node("auto-1", 2).but(|node| node.autoscaled = true));
    assert_snapshot!(site.act_explained(), @"miner acme/hash (0 of 4): NodesClosed. Nodes with 1 idle GPU are closed to mining: they are autoscaled, just lost GPUs, are kept for AI, or the pool's RuntimeClass excludes them.");
    site.edit_pool("h100", |pool| pool.autoscaled_nodes = AutoscaledNodes::Use);
    assert_snapshot!(site.actions(), @"grant acme/hash on auto-1 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn an_ai_job_may_use_autoscaled_nodes() {
    let mut site = Site::of(0, 0, 4)
        .with(node("auto-1", 2).but(|node| node.autoscaled = true))
        .with(job("ml/train", 1, 2));
    assert_snapshot!(site.act(), @"release ml/train: auto-1");
}

#[test]
fn a_node_that_is_closed_to_one_miner_is_open_to_the_others() {
    let mut site = Site::of(2, 2, 4).with(miner("acme/other", 4));
    site.edit_node("node-1", |node| {
        node.closed_to = vec![("acme/hash".into(), NOON + minutes(2))];
    });
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-2 (h100) slot 0, stops within 10s, ends in 183 days
    grant acme/other on node-2 (h100) slot 1, stops within 10s, ends in 183 days
    grant acme/other on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days
    miner acme/hash (1 of 4): Quarantined. Miners failed on the nodes that have idle GPUs; these nodes are used again from 2026-07-01T12:02:00Z.
    miner acme/other (3 of 4): WaitingForIdleGpus. No node has 1 idle GPU.
    look again at 12:01:00
    ");
    // It waits for the node to open, and takes nothing from the other miner before.
    site.wait(minutes(2));
    assert_snapshot!(site.actions(), @"evict acme/other-node-1-0 within 10s: Rebalance of acme/hash");
}

#[test]
fn a_node_that_is_closed_to_a_miner_of_another_tenant_serves_all_others() {
    let mut site = Site::of(1, 4, 4);
    site.edit_node("node-1", |node| {
        node.closed_to = vec![("evil/crash".into(), NOON + minutes(30))];
    });
    assert_snapshot!(site.act_explained(), @"grant acme/hash on node-1 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days");
}

#[test]
fn a_quarantined_node_gets_no_miners_until_its_time_is_over() {
    let mut site = Site::of(2, 2, 4);
    site.edit_node("node-1", |node| node.quarantined_until = Some(NOON + minutes(2)));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-2 (h100) slots 0 1, stops within 10s, ends in 183 days
    pool h100 (4 GPUs: 2 idle, 2 quarantined): Filling. Idle GPUs go to registered miners.
    miner acme/hash (2 of 4): Quarantined. Miners failed on the nodes that have idle GPUs; these nodes are used again from 2026-07-01T12:02:00Z.
    look again at 12:02:00
    ");
    site.wait(minutes(2));
    assert_snapshot!(site.actions(), @"grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn an_ai_job_may_use_a_quarantined_node() {
    let mut site = Site::of(1, 2, 0).with(job("ml/train", 1, 2));
    site.edit_node("node-1", |node| node.quarantined_until = Some(NOON + minutes(2)));
    assert_snapshot!(site.act_explained(), @"
    release ml/train: node-1
    pool h100 (2 GPUs: 2 quarantined): Filling. Idle GPUs go to registered miners.
    job ml/train: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    look again at 12:01:00
    ");
}

#[test]
fn miners_of_a_node_that_is_gone_are_started_elsewhere_once_their_pods_are() {
    let mut site = Site::of(2, 2, 2);
    site.settle();
    site.put(Delta::NodeGone("node-1".into()));
    assert_snapshot!(site.act(), @"");
    site.put(Delta::PodGone("acme/hash-node-1-0".into()));
    site.put(Delta::PodGone("acme/hash-node-1-1".into()));
    assert_snapshot!(site.actions(), @"grant acme/hash on node-2 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn a_node_moved_out_of_the_pool_is_cleared_of_its_miners() {
    let mut site = Site::of(2, 2, 4);
    site.settle();
    site.edit_node("node-2", |node| node.pools.clear());
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-2-0 within 10s: PoolDrained
    evict acme/hash-node-2-1 within 10s: PoolDrained
    ");
}

#[test]
fn a_new_node_is_filled_at_once() {
    let mut site = Site::of(1, 2, 4);
    site.settle();
    site.put(node("node-0", 2));
    assert_snapshot!(site.actions(), @"grant acme/hash on node-0 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn ai_on_a_node_that_lost_gpus_displaces_those_beyond_what_is_left_too() {
    let mut site = Site::of(1, 8, 8);
    site.settle();
    reports(&mut site, "node-1", 5, true);
    site.put(job("ml/train", 1, 4));
    assert_snapshot!(site.act_explained(), @"
    reserve for ml/train: node-1, displacing 7 miners
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-1 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-2 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-3 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-4 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-5 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-6 within 10s: AiDemand of ml/train
    miner acme/hash (1 of 8, 7 stopping): Stopping. Stopping 7 replicas; replacements start as GPUs become idle.
    job ml/train: WaitingForDrain. Waiting for miners to free 4 GPUs.
    look again at 12:05:00
    ");
}

#[test]
fn a_reservation_takes_nothing_of_a_resource_that_it_does_not_request() {
    let mut site = Site::of(0, 0, 4)
        .with(pool("mi300").but(|pool| pool.resource = "amd.com/gpu".into()))
        .with(node("mixed", 2).but(|node| {
            node.pools.push(member("mi300"));
            node.gpus.push(("amd.com/gpu".into(), 2));
        }));
    site.edit_registration("acme/power", |registration| {
        registration.pools = vec!["h100".into(), "mi300".into()];
    });
    site.settle();
    site.put(job("lab/train", 1, 1));
    // The device plugin of the other resource restarts while the job's GPU drains.
    site.act();
    site.edit_node("mixed", |node| node.gpus[1].1 = 1);
    assert_snapshot!(site.actions(), @"");
}

fn report(site: &mut Site) -> PoolReport {
    site.look().pools.remove(0)
}

#[test]
fn a_gpu_that_is_lost_for_good_is_unavailable_and_the_rest_mines() {
    let mut site = Site::of(1, 8, 8);
    site.edit_node("node-1", |node| {
        node.gpus = vec![(GPU.into(), 7)];
        node.lost = vec![(GPU.into(), 1)];
    });
    site.settle();
    let pool = report(&mut site);
    assert_eq!((pool.gpus.total, pool.gpus.mining, pool.gpus.unavailable), (8, 7, 1));
    assert_eq!(pool.mining, Reason::Filling);
}

#[test]
fn a_node_that_lost_all_its_gpus_is_unavailable_once_its_pods_are_gone() {
    let mut site = Site::of(1, 8, 8);
    site.settle();
    let lost_at = site.now;
    site.edit_node("node-1", |node| {
        node.gpus = Vec::new();
        node.lost = vec![(GPU.into(), 8)];
        node.shrunk_at = Some(lost_at);
    });
    let pool = report(&mut site);
    assert_eq!((pool.gpus.total, pool.gpus.mining, pool.gpus.unavailable), (8, 8, 0));
    site.wait(minutes(5));
    site.settle();
    let pool = report(&mut site);
    assert_eq!((pool.gpus.total, pool.gpus.unavailable), (8, 8));
    assert_eq!(pool.mining, Reason::GpusUnavailable { gpus: 8 });
}

#[test]
fn a_pool_whose_nodes_offer_nothing_says_so() {
    let mut site = Site::of(1, 0, 1);
    assert_eq!(report(&mut site).mining, Reason::NoGpus { resource: GPU.into() });
    site.put(foreign_pod("ml/train", 1).but(|pod| pod.node = Some("node-1".into())));
    assert_eq!(report(&mut site).mining, Reason::GpusBeyondNodes { gpus: 1 });
    site.put(foreign_pod("ml/claimed", 2).but(|pod| {
        pod.node = Some("node-1".into());
        pod.by_claim = vec![GPU.into()];
    }));
    assert_eq!(report(&mut site).mining, Reason::GpusByClaim { gpus: 2 });
    assert_eq!(site.actions(), "");
    site.edit_pool("h100", |pool| pool.policy = MiningPolicy::Observe);
    assert_eq!(report(&mut site).mining, Reason::GpusByClaim { gpus: 2 });
}

#[test]
fn pods_that_hold_more_than_their_node_offers_are_explained() {
    let mut site = Site::of(2, 8, 0);
    site.put(foreign_pod("ml/pinned", 12).but(|pod| pod.node = Some("node-1".into())));
    let pool = report(&mut site);
    assert_eq!((pool.gpus.total, pool.gpus.ai, pool.gpus.idle), (20, 12, 8));
    assert_eq!(pool.mining, Reason::GpusBeyondNodes { gpus: 4 });
}

#[test]
fn huge_pages_are_planned() {
    let mut site = Site::of(1, 8, 8).with(miner("acme/randomx", 8));
    site.edit_miner("acme/randomx", |miner| miner.shape.huge_pages = [2_400 << 20, 0]);
    site.settle();
    let held = |site: &mut Site| -> Vec<_> {
        let plan = site.look();
        plan.miners.iter().map(|one| (one.held, one.reason.code())).collect()
    };
    assert_eq!(held(&mut site), [(8, "Running"), (0, "WaitingForIdleGpus")]);
    site.edit_miner("acme/hash", |miner| miner.replicas = 0);
    site.edit_node("node-1", |node| node.huge_pages = [5_000 << 20, 0]);
    site.settle();
    assert_eq!(held(&mut site), [(0, "NothingWanted"), (2, "NoNodeFits")]);
    // AI gets them back.
    site.put(job("ml/train", 1, 1).but(|job| job.shape.huge_pages = [4_000 << 20, 0]));
    site.settle();
    assert_eq!(held(&mut site), [(0, "NothingWanted"), (0, "NoNodeFits")]);
}
