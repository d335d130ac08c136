//! The memory of nodes.

use daylight_planner::model::{Activity, NodeCondition, Preemption, Role};
use serde_json::{Value, json};

use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{START, ended, lease, node, patched, pod, pool, running};

fn with_gpus(gpus: u32) -> Value {
    patched(
        &node("n1", "a"),
        &json!({"status": {"allocatable": {"nvidia.com/gpu": gpus.to_string()}}}),
    )
}

#[test]
fn a_node_that_loses_gpus_is_shrunk_until_it_has_them_again() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let shrunk = |cluster: &TestCluster| cluster.node("n1").unwrap().shrunk_at;
    assert_eq!(shrunk(&cluster), None);
    cluster.wait(10);
    cluster.apply(&with_gpus(0));
    let first = cluster.now;
    assert_eq!(shrunk(&cluster), Some(first));
    assert_eq!(cluster.node("n1").unwrap().gpus, []);
    cluster.wait(10);
    // Some are back: it is still shrunk, since the same moment.
    cluster.apply(&with_gpus(7));
    assert_eq!(shrunk(&cluster), Some(first));
    // It loses them again: a new drop.
    cluster.wait(10);
    cluster.apply(&with_gpus(6));
    assert_eq!(shrunk(&cluster), Some(cluster.now));
    cluster.apply(&with_gpus(8));
    assert_eq!(shrunk(&cluster), None);
    // More than ever is the new normal.
    cluster.apply(&with_gpus(10));
    assert_eq!(shrunk(&cluster), None);
    cluster.apply(&with_gpus(8));
    assert_eq!(shrunk(&cluster), Some(cluster.now));
}

#[test]
fn at_the_start_idle_gpus_rest_and_missing_ones_are_a_drop() {
    let full = |name: &str| running(&pod(name, 8), "n1");
    let cluster = TestCluster::with(&[pool("a"), node("n1", "a"), full("p")]);
    assert_eq!(cluster.node("n1").unwrap().ai_released_at, None);
    let cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    assert_eq!(cluster.node("n1").unwrap().ai_released_at, Some(START));
    assert_eq!(cluster.node("n1").unwrap().shrunk_at, None);
    let cluster = TestCluster::with(&[pool("a"), with_gpus(0), full("p")]);
    assert_eq!(cluster.node("n1").unwrap().shrunk_at, Some(START));
}

#[test]
fn gpus_rest_after_ai_work() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), running(&pod("p", 8), "n1")]);
    let released = |cluster: &TestCluster| cluster.node("n1").unwrap().ai_released_at;
    cluster.wait(100);
    let deltas = cluster.apply(&ended(&running(&pod("p", 8), "n1"), "Succeeded"));
    assert_eq!(deltas.len(), 2);
    let first = cluster.now;
    assert_eq!(released(&cluster), Some(first));
    cluster.wait(100);
    // Its object is deleted, but it ended before.
    cluster.delete(&ended(&running(&pod("p", 8), "n1"), "Succeeded"));
    assert_eq!(released(&cluster), Some(first));
    // The end of a miner does not count, nor does that of a pod without GPUs.
    cluster.apply(&running(&lease("m", "n1", 0), "n1"));
    cluster.delete(&running(&lease("m", "n1", 0), "n1"));
    cluster.apply(&running(&pod("q", 0), "n1"));
    cluster.delete(&running(&pod("q", 0), "n1"));
    assert_eq!(released(&cluster), Some(first));
    // A pod that was deleted while it ran.
    cluster.apply(&running(&pod("r", 1), "n1"));
    cluster.delete(&running(&pod("r", 1), "n1"));
    assert_eq!(released(&cluster), Some(cluster.now));
}

#[test]
fn conditions_and_taints_say_whether_pods_can_run() {
    for (change, expected, tolerated) in [
        (json!({"spec": {"unschedulable": true}}), NodeCondition::Cordoned, true),
        (
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            NodeCondition::NotReady,
            true,
        ),
        (
            json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
            NodeCondition::Unreachable,
            true,
        ),
        (
            json!({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}}),
            NodeCondition::NotReady,
            true,
        ),
        (
            json!({"metadata": {"deletionTimestamp": "2026-11-24T06:00:00Z"}}),
            NodeCondition::Cordoned,
            true,
        ),
        (
            json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}}),
            NodeCondition::Ready,
            false,
        ),
        (json!({"status": {"conditions": []}}), NodeCondition::NotReady, true),
    ] {
        let mut cluster = TestCluster::with(&[pool("a")]);
        cluster.apply(&patched(&node("n1", "a"), &change));
        let node = cluster.node("n1").unwrap();
        assert_eq!(node.condition, expected, "{change}");
        assert_eq!(node.pools[0].tolerated, tolerated, "{change}");
    }
    let tolerant = patched(
        &pool("a"),
        &json!({"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}),
    );
    let tainted = patched(
        &node("n1", "a"),
        &json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}}),
    );
    let mut cluster = TestCluster::with(&[pool("a"), tainted]);
    assert!(!cluster.node("n1").unwrap().pools[0].tolerated);
    cluster.apply(&tolerant);
    assert!(cluster.node("n1").unwrap().pools[0].tolerated);
}

#[test]
fn pools_may_overlap_and_the_older_is_named_first() {
    let younger = patched(
        &pool("0"),
        &json!({
            "metadata": {"creationTimestamp": "2026-11-20T00:00:00Z"},
            "spec": {"nodeSelector": {"matchLabels": {"pool": "a"}}},
        }),
    );
    let cluster = TestCluster::with(&[younger, pool("a"), node("n1", "a")]);
    let pools: Vec<_> = cluster.node("n1").unwrap().pools;
    let names: Vec<_> = pools.iter().map(|one| &*one.pool).collect();
    assert_eq!(names, ["a", "0"]);
    assert_eq!(cluster.view.pool_of("n1", "nvidia.com/gpu").map(AsRef::as_ref), Some("a"));
    assert_eq!(cluster.view.pool_of("n1", "amd.com/gpu"), None);
}

#[test]
fn a_node_that_left_its_pool_is_told_of_while_miners_are_on_it() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let miner = running(&lease("m", "n1", 0), "n1");
    cluster.apply(&miner);
    cluster.apply(&node("n1", "none"));
    assert_eq!(cluster.node("n1").unwrap().pools, []);
    cluster.delete(&miner);
    assert_eq!(cluster.node("n1"), None);
}

#[test]
fn a_second_resource_begins_to_count_with_its_pool() {
    let both = patched(&node("n1", "a"), &json!({"status": {"allocatable": {"amd.com/gpu": "4"}}}));
    let requesting = patched(
        &pod("p", 0),
        &json!({"spec": {"containers": [{"resources": {"requests": {"amd.com/gpu": "1"}}}]}}),
    );
    let mut cluster = TestCluster::with(&[pool("a"), both, requesting]);
    assert_eq!(cluster.node("n1").unwrap().gpus.len(), 1);
    assert_eq!(cluster.pod("ml/p"), None);
    let amd = patched(
        &pool("b"),
        &json!({"spec": {"resource": "amd.com/gpu", "nodeSelector": {"matchLabels": {"pool": "a"}}}}),
    );
    cluster.apply(&amd);
    assert_eq!(cluster.node("n1").unwrap().gpus.len(), 2);
    assert_eq!(
        cluster.pod("ml/p").unwrap().role,
        Role::Other { activity: Activity::Unlisted, preemption: Preemption::ByScheduler }
    );
    cluster.delete(&amd);
    assert_eq!(cluster.node("n1").unwrap().gpus.len(), 1);
    assert_eq!(cluster.pod("ml/p"), None);
}

#[test]
fn a_lasting_loss_is_accepted_once_pods_hold_no_more_than_is_left() {
    let full: Vec<Value> = (0..8).map(|slot| running(&lease("m", "n1", slot), "n1")).collect();
    let objects = [pool("a"), node("n1", "a")];
    let mut cluster = TestCluster::with(&[&objects[..], &full].concat());
    let seen = |cluster: &TestCluster| {
        let node = cluster.node("n1").unwrap();
        (node.shrunk_at.is_some(), node.lost)
    };
    let lost = |count| vec![("nvidia.com/gpu".into(), count)];
    cluster.apply(&with_gpus(7));
    assert_eq!(seen(&cluster), (true, lost(1)));
    cluster.wait(301);
    assert_eq!(seen(&cluster), (true, lost(1)), "a pod still holds it");
    cluster.delete(&full[3]);
    assert!(!seen(&cluster).0);
    // No more is held than is left: the time alone decides.
    cluster.apply(&with_gpus(6));
    cluster.delete(&full[4]);
    assert!(seen(&cluster).0);
    cluster.wait(299);
    assert!(seen(&cluster).0);
    assert_eq!(cluster.view.wake_at().map(|at| at.0), Some(cluster.now.0 + 1_000));
    cluster.wait(1);
    assert!(!seen(&cluster).0);
}

#[test]
fn what_a_node_has_and_does_not_offer_is_lost_also_after_a_restart() {
    let broken = |capacity: u32| {
        let capacity = json!({"status": {"capacity": {"nvidia.com/gpu": capacity.to_string()}}});
        patched(&with_gpus(63), &capacity)
    };
    let mut cluster = TestCluster::with(&[pool("a"), broken(64)]);
    let seen = |cluster: &TestCluster| cluster.node("n1").unwrap();
    assert_eq!(seen(&cluster).lost, [("nvidia.com/gpu".into(), 1)]);
    assert_eq!(seen(&cluster).shrunk_at, None);
    // The device plugin is gone.
    cluster
        .apply(&patched(&with_gpus(0), &json!({"status": {"capacity": {"nvidia.com/gpu": "0"}}})));
    assert_eq!(seen(&cluster).lost, [("nvidia.com/gpu".into(), 64)]);
    cluster.wait(301);
    assert_eq!(seen(&cluster).shrunk_at, None);
    assert_eq!(seen(&cluster).lost, [("nvidia.com/gpu".into(), 64)]);
    // Divided again: fewer, and none is lost.
    cluster
        .apply(&patched(&with_gpus(8), &json!({"status": {"capacity": {"nvidia.com/gpu": "8"}}})));
    assert_eq!(seen(&cluster).lost, []);
}

#[test]
fn a_pod_that_is_deleted_before_it_was_bound_holds_nothing() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), lease("m", "n1", 0)]);
    let key = cluster.view.snapshot().pods[0].key.clone();
    let deleted = json!({"metadata": {
        "deletionTimestamp": "2026-11-24T06:00:00Z", "finalizers": ["daylight.dev/metered"],
    }});
    cluster.apply(&patched(&lease("m", "n1", 0), &deleted));
    assert_eq!(cluster.pod(&key), None);
    cluster.apply(&patched(&running(&lease("m", "n1", 0), "n1"), &deleted));
    assert!(cluster.pod(&key).unwrap().gone_by.is_some());
}
