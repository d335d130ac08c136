//! Idle GPUs go to registered miners.

use daylight_planner::explain::Reason;
use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::{Site, show_gpus};

#[test]
fn idle_gpus_go_to_a_registered_miner() {
    let mut site = Site::of(2, 4, 8);
    assert_snapshot!(site.act(), @"
    grant acme/hash on node-1 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days
    grant acme/hash on node-2 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days
    ");
}

#[test]
fn replicas_beyond_the_idle_gpus_wait() {
    let mut site = Site::of(1, 4, 6);
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days
    miner acme/hash (4 of 6): WaitingForIdleGpus. No node has 1 idle GPU.
    ");
}

#[test]
fn the_fullest_node_is_filled_first_so_that_whole_nodes_stay_free() {
    let mut site = Site::of(2, 4, 3);
    site.put(foreign_pod("web/chat", 2).but(|pod| pod.node = Some("node-2".into())));
    site.settle();
    assert_snapshot!(site.map(), @"
    node-1: 1 acme/hash, 3 idle
    node-2: 2 acme/hash, 2 web/chat
    ");
}

#[test]
fn a_replica_of_two_gpus_needs_both_on_one_node() {
    let mut site = Site::of(2, 1, 0);
    site.put(miner("acme/pair", 1).but(|miner| miner.shape.gpus = 2));
    assert_snapshot!(site.explained(), @"miner acme/pair (0 of 1): WaitingForIdleGpus. No node has 2 idle GPUs.");
}

#[test]
fn cpu_and_memory_count_too() {
    let mut site = Site::of(0, 0, 8).with(vec![
        node("few-cpus", 4).but(|node| node.cpu_milli = 5_000),
        node("little-memory", 4).but(|node| node.memory = 5 << 30),
        node("one-pod-slot", 4).but(|node| node.pod_slots = 1),
    ]);
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on few-cpus (h100) slots 0 1, stops within 10s, ends in 183 days
    grant acme/hash on little-memory (h100) slot 0, stops within 10s, ends in 183 days
    grant acme/hash on one-pod-slot (h100) slot 0, stops within 10s, ends in 183 days
    miner acme/hash (4 of 8): NoNodeFits. Nodes have 1 idle GPU, but not enough CPU, memory, huge pages or pod slots alongside. Lower the miner's spec.resources.
    ");
}

#[test]
fn gpus_stay_idle_for_a_while_after_ai_work() {
    let mut site = Site::of(1, 4, 4);
    site.edit_node("node-1", |node| node.ai_released_at = Some(NOON - seconds(2)));
    assert_snapshot!(site.act_explained(), @"
    miner acme/hash (0 of 4): IdleDelay. GPUs stay idle until 2026-07-01T12:00:03Z, since AI work just ended there (spec.mining.idleDelay).
    look again at 12:00:03
    ");
    site.wait(seconds(3));
    assert_snapshot!(site.actions(), @"grant acme/hash on node-1 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days");
}

#[test]
fn a_miner_that_wants_fewer_gives_up_the_youngest() {
    let mut site = Site::of(1, 4, 2);
    site.settle();
    site.wait(seconds(10));
    site.edit_miner("acme/hash", |miner| miner.replicas = 4);
    site.settle();
    site.edit_miner("acme/hash", |miner| miner.replicas = 3);
    assert_snapshot!(site.act(), @"evict acme/hash-node-1-2 within 10s: ScaledDown");
}

#[test]
fn a_miner_that_is_deleted_stops() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.put(Delta::MinerGone("acme/hash".into()));
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-1-0 within 30s: ScaledDown
    evict acme/hash-node-1-1 within 30s: ScaledDown
    ");
}

#[test]
fn the_pods_of_an_edited_miner_are_replaced() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.edit_miner("acme/hash", |miner| miner.revision = 2);
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-1-0 within 10s: Updated
    evict acme/hash-node-1-1 within 10s: Updated
    ");
    site.drained();
    assert_snapshot!(site.actions(), @"grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn a_miner_without_replicas_reports_that_none_are_requested() {
    let mut site = Site::of(1, 2, 0);
    assert_eq!(site.look().miners[0].reason, Reason::NothingWanted);
}

#[test]
fn two_resource_names_on_one_node() {
    let mut site = Site::of(0, 0, 8)
        .with(pool("mi300").but(|pool| pool.resource = "amd.com/gpu".into()))
        .with(node("mixed", 2).but(|node| {
            node.pools.push(member("mi300"));
            node.gpus.push(("amd.com/gpu".into(), 2));
        }));
    site.edit_registration("acme/power", |registration| {
        registration.pools = vec!["h100".into(), "mi300".into()];
    });
    assert_snapshot!(site.act(), @"
    grant acme/hash on mixed (h100) slots 0 2, stops within 10s, ends in 183 days
    grant acme/hash on mixed (mi300) slots 1 3, stops within 10s, ends in 183 days
    ");
}

#[test]
fn of_overlapping_pools_the_older_has_the_node() {
    let mut site = Site::of(0, 0, 4)
        .with(pool("newer").but(|pool| pool.created = NOON))
        .with(node("shared", 2).but(|node| node.pools.push(member("newer"))));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on shared (h100) slots 0 1, stops within 10s, ends in 183 days
    pool newer (0 GPUs: ): Overlapping. 1 node also belongs to the older pool h100 and is counted there. Make the node selectors disjoint.
    pool newer: Overlapping. 1 node also belongs to the older pool h100 and is counted there. Make the node selectors disjoint.
    miner acme/hash (2 of 4): WaitingForIdleGpus. No node has 1 idle GPU.
    ");
}

#[test]
fn when_the_older_of_two_overlapping_pools_goes_its_nodes_fall_to_the_newer() {
    let mut site = Site::of(0, 0, 4)
        .with(pool("newer").but(|pool| pool.created = NOON))
        .with(node("shared", 2).but(|node| node.pools.push(member("newer"))));
    site.settle();
    site.put(Delta::PoolGone("h100".into()));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-shared-0 within 10s: PoolDrained
    evict acme/hash-shared-1 within 10s: PoolDrained
    miner acme/hash (0 of 4, 2 stopping): PoolNotRegistered. Registration acme/power covers none of the miner's pools that exist. Correct spec.pools of the miner or of the registration.
    ");
}

#[test]
fn a_pool_whose_selector_matches_no_node_reports_it() {
    let mut site = Site::of(0, 0, 4);
    assert_snapshot!(site.explained(), @"
    pool h100 (0 GPUs: ): NoNodes. No node matches the selector; check spec.nodeSelector against the nodes' labels.
    miner acme/hash (0 of 4): WaitingForIdleGpus. No node has 1 idle GPU.
    ");
}

#[test]
fn a_pool_without_nodes_reports_it_whatever_its_policy() {
    for policy in
        [MiningPolicy::Observe, MiningPolicy::Fill, MiningPolicy::Hold, MiningPolicy::Drain]
    {
        let mut site = Site::of(0, 0, 4);
        site.edit_pool("h100", |pool| {
            pool.policy = policy;
            pool.windows = open(&[(60, 120)]);
        });
        let explained = site.explained();
        assert!(explained.starts_with("pool h100 (0 GPUs: ): NoNodes."), "{policy:?}: {explained}");
    }
}

#[test]
fn a_miner_tries_its_pools_in_order() {
    let mut site = Site::of(1, 2, 0)
        .with(pool("a100"))
        .with(node("old-1", 2).but(|node| node.pools = vec![member("a100")]))
        .with(miner("acme/picky", 3).but(|miner| {
            miner.pools = vec!["h100".into(), "a100".into()];
        }));
    site.edit_registration("acme/power", |registration| {
        registration.pools = vec!["a100".into(), "h100".into()];
    });
    site.settle();
    assert_snapshot!(site.map(), @"
    node-1: 2 acme/picky
    old-1: 1 acme/picky, 1 idle
    ");
}

#[test]
fn a_pool_counts_its_gpus_by_state() {
    let mut site = Site::of(1, 8, 3);
    site.settle();
    site.put(foreign_pod("web/chat", 2).but(|pod| pod.node = Some("node-1".into())));
    site.edit_miner("acme/hash", |miner| miner.replicas = 1);
    site.act();
    let pool = &site.look().pools[0];
    assert_eq!((pool.nodes, &pool.mining), (1, &Reason::Filling));
    assert_eq!(show_gpus(&pool.gpus), "8 GPUs: 2 AI, 3 mining, 3 idle");
}
