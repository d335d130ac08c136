//! From an empty cluster to one that mines, one object at a time.

use std::time::Duration;

use daylight_planner::model::{
    Activity, Approval, Delta, Membership, NodeCondition, Pod, Preemption, Role,
};
use serde_json::json;

use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{
    START, class, ended, lease, miner, node, patched, pod, pool, registration, running,
};

#[test]
fn a_node_belongs_to_the_pools_that_select_it() {
    let mut cluster = TestCluster::with(&[pool("a")]);
    assert_eq!(cluster.apply(&node("n1", "b")), []);
    let deltas = cluster.apply(&node("n1", "a"));
    let [Delta::Node(node)] = &*deltas else {
        panic!("{deltas:?}");
    };
    assert_eq!(&*node.name, "n1");
    assert_eq!(node.pools, [Membership { pool: "a".into(), tolerated: true, runs_miners: true }]);
    assert_eq!(node.gpus, [("nvidia.com/gpu".into(), 8)]);
    assert_eq!(node.cpu_milli, 64_000);
    assert_eq!(node.memory, 512 << 30);
    assert_eq!(node.pod_slots, 110);
    assert_eq!(node.condition, NodeCondition::Ready);
    assert_eq!(node.ai_released_at, None);
    assert_eq!(
        cluster.apply(&crate::view::tests::test_cluster::node("n1", "b")),
        [Delta::NodeGone("n1".into())]
    );
}

#[test]
fn an_object_that_did_not_change_is_told_once() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    assert_eq!(cluster.apply(&node("n1", "a")), []);
    assert_eq!(cluster.apply(&pool("a")), []);
    let noise = patched(&node("n1", "a"), &json!({"metadata": {"annotations": {"x": "y"}}}));
    assert_eq!(cluster.apply(&noise), []);
}

#[test]
fn a_granted_pod_is_a_lease_from_its_creation_to_its_end() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let pending = lease("m", "n1", 3);
    let deltas = cluster.apply(&pending);
    let expected = Pod {
        key: "team/m-n1-3-0".into(),
        node: Some("n1".into()),
        nominated: None,
        gpus: vec![("nvidia.com/gpu".into(), 1)],
        cpu_milli: 1_000,
        memory: 2 << 30,
        created: START,
        deleting: false,
        gone_by: None,
        huge_pages: [0; 2],
        gates: Vec::new(),
        by_claim: Vec::new(),
        role: Role::Miner {
            miner: "team/m".into(),
            registration: "team/reg".into(),
            pool: "a".into(),
            slot: 3,
            revision: 7,
            watts: 300,
        },
    };
    assert_eq!(deltas, [Delta::Pod(expected.clone())]);
    // Binding it changes nothing for the planner.
    let bound = running(&pending, "n1");
    assert_eq!(cluster.apply(&bound), []);
    let stopping = patched(
        &bound,
        &json!({"metadata": {
            "deletionTimestamp": "2026-11-24T06:00:30Z", "deletionGracePeriodSeconds": 30,
        }}),
    );
    let gone_by = Some(START + Duration::from_secs(30));
    assert_eq!(cluster.apply(&stopping), [Delta::Pod(Pod { deleting: true, gone_by, ..expected })]);
    // Terminal: it holds nothing, but its name is taken until it is gone.
    let over = ended(&stopping, "Succeeded");
    assert_eq!(cluster.apply(&over), [Delta::PodGone("team/m-n1-3-0".into())]);
    assert!(cluster.view.cluster().pod("team/m-n1-3-0").is_some());
    assert_eq!(cluster.view.leftovers().len(), 1);
    assert_eq!(cluster.delete(&over), []);
    assert!(cluster.view.cluster().pod("team/m-n1-3-0").is_none());
    assert_eq!(cluster.view.leftovers().len(), 0);
    assert_eq!(cluster.view.next_epoch("n1", 3), 1);
    assert_eq!(cluster.view.next_epoch("n1", 4), 0);
}

#[test]
fn labels_alone_make_no_lease() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let fake = patched(&lease("m", "n1", 0), &json!({"spec": {"priorityClassName": "high"}}));
    let deltas = cluster.apply(&fake);
    let [Delta::Pod(pod)] = &*deltas else {
        panic!("{deltas:?}");
    };
    assert_eq!(
        pod.role,
        Role::Other { activity: Activity::Unlisted, preemption: Preemption::Never }
    );
    assert_eq!(pod.node, None);
}

#[test]
fn pods_count_where_they_take_from_a_pool() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), node("n2", "elsewhere")]);
    // Without GPUs and unbound: nothing.
    assert_eq!(cluster.apply(&pod("p", 0)), []);
    // On a node of no pool: nothing.
    assert_eq!(cluster.apply(&running(&pod("p", 0), "n2")), []);
    // On a pool's node: its CPU and memory count.
    assert_eq!(cluster.apply(&running(&pod("q", 0), "n1")).len(), 1);
    // A request for GPUs: always.
    assert_eq!(cluster.apply(&pod("r", 2)).len(), 1);
    // The node joins the pool, and the pod on it begins to count.
    let deltas = cluster.apply(&node("n2", "a"));
    assert!(matches!(&*deltas, [Delta::Node(_), Delta::Pod(_)]), "{deltas:?}");
    let deltas = cluster.apply(&node("n2", "elsewhere"));
    assert!(matches!(&*deltas, [Delta::NodeGone(_), Delta::PodGone(_)]), "{deltas:?}");
}

#[test]
fn a_registration_waits_for_its_approval() {
    let (cluster, deltas) = TestCluster::with_deltas(&[
        pool("a"),
        class("pow", "IdleOnly"),
        registration("reg"),
        miner("m"),
    ]);
    assert_eq!(deltas.len(), 4);
    let registration = cluster.registration("team/reg").unwrap();
    assert_eq!(registration.approval, Approval::Pending);
    assert_eq!(registration.limits.gpus, Some(16));
    assert_eq!(registration.problem, None);
    let miner = cluster.miner("team/m").unwrap();
    assert_eq!(&*miner.registration, "team/reg");
    assert_eq!((miner.replicas, miner.watts, miner.weight), (4, 300, 100));
    assert_eq!(miner.drain_timeout, Duration::from_secs(10));
    assert_eq!(miner.problem, None);
}
