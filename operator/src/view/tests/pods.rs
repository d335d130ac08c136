//! Pods that wait, and pods of miners that fail.

use daylight_base::Timestamp;
use daylight_planner::model::{Activity, Delta, Pod, Preemption, Role};
use serde_json::{Value, json};

use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{
    START, class, ended, lease, miner, node, patched, pod, pool, running,
};
use crate::view::{LeftoverReason, Observation};

/// A pod that kube-scheduler will not preempt for and found no place for.
fn never(name: &str, spec: &Value) -> Value {
    patched(
        &patched(&pod(name, 1), &json!({ "spec": spec })),
        &json!({
            "spec": {"preemptionPolicy": "Never"},
            "status": {"conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "lastTransitionTime": "2026-11-24T06:00:00Z",
            }]},
        }),
    )
}

fn preemption(cluster: &TestCluster, key: &str) -> Preemption {
    match cluster.pod(key).unwrap().role {
        Role::Other { preemption, .. } => preemption,
        role => panic!("{role:?}"),
    }
}

#[test]
fn kube_scheduler_is_left_alone_with_a_pod_at_first() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    cluster.apply(&never("p", &json!({})));
    assert_eq!(preemption(&cluster, "ml/p"), Preemption::ByScheduler);
    assert_eq!(cluster.view.wake_at(), Some(Timestamp(START.0 + 3_000)));
    assert_eq!(cluster.wait(2), []);
    let deltas = cluster.wait(1);
    assert!(matches!(&*deltas, [Delta::Pod(_)]), "{deltas:?}");
    assert_eq!(preemption(&cluster, "ml/p"), Preemption::ByDaylight { allowed_nodes: None });
    assert_eq!(cluster.view.wake_at(), None);
    // Once it is bound, it is like any other.
    cluster.apply(&running(&never("p", &json!({})), "n1"));
    assert_eq!(preemption(&cluster, "ml/p"), Preemption::ByScheduler);
}

#[test]
fn a_pod_with_filters_that_are_not_evaluated_is_not_served() {
    let term = json!([{"topologyKey": "kubernetes.io/hostname"}]);
    for spec in [
        json!({"schedulerName": "volcano"}),
        json!({"schedulingGates": [{"name": "g"}]}),
        json!({"resourceClaims": [{"name": "c"}]}),
        json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}),
        json!({"volumes": [{"name": "v", "ephemeral": {}}]}),
        json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}}),
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}}),
        json!({"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]}),
        json!({"containers": [{"ports": [{"hostPort": 80}], "resources": {"requests": {"nvidia.com/gpu": "1"}}}]}),
        json!({"containers": [{"resources": {"requests": {"nvidia.com/gpu": "1", "rdma/hca": "1"}}}]}),
        json!({"containers": [{"resources": {"requests": {"nvidia.com/gpu": "1", "ephemeral-storage": "1Gi"}}}]}),
        json!({"workloadRef": {"name": "w"}}),
        json!({"priority": -1_000_000}),
    ] {
        let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
        cluster.apply(&never("p", &spec));
        cluster.wait(60);
        assert_eq!(preemption(&cluster, "ml/p"), Preemption::Never, "{spec}");
    }
    for spec in [
        json!({"schedulerName": "default-scheduler", "priority": 100}),
        json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "projected": {}}]}),
        json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": term}}}),
        json!({"topologySpreadConstraints": [{"whenUnsatisfiable": "ScheduleAnyway"}]}),
        json!({"schedulingGates": []}),
    ] {
        let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
        cluster.apply(&never("p", &spec));
        cluster.wait(60);
        let served = Preemption::ByDaylight { allowed_nodes: None };
        assert_eq!(preemption(&cluster, "ml/p"), served, "{spec}");
    }
}

#[test]
fn only_nodes_that_pass_its_filters_are_cleared_for_it() {
    let allowed = |cluster: &TestCluster| match preemption(cluster, "ml/p") {
        Preemption::ByDaylight { allowed_nodes } => {
            allowed_nodes.map(|nodes| nodes.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    let fast = |name| patched(&node(name, "a"), &json!({"metadata": {"labels": {"fast": "yes"}}}));
    let tainted = |name| {
        patched(&fast(name), &json!({"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}}))
    };
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), fast("n2"), tainted("n3")]);
    let selective = never("p", &json!({"nodeSelector": {"fast": "yes"}}));
    cluster.apply(&selective);
    cluster.wait(60);
    assert_eq!(allowed(&cluster).unwrap(), ["n2"]);
    // It tolerates the taint.
    cluster.apply(&patched(
        &selective,
        &json!({"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}),
    ));
    assert_eq!(allowed(&cluster).unwrap(), ["n2", "n3"]);
    // Nodes begin and cease to pass the filter.
    cluster.apply(&fast("n1"));
    assert_eq!(allowed(&cluster), None);
    cluster.apply(&node("n2", "a"));
    assert_eq!(allowed(&cluster).unwrap(), ["n1", "n3"]);
    // A pool that selects more nodes changes it, too.
    cluster.apply(&fast("n4"));
    assert_eq!(allowed(&cluster).unwrap(), ["n1", "n3", "n4"]);
    cluster.apply(&patched(
        &pool("a"),
        &json!({"spec": {"nodeSelector": {"matchLabels": {"pool": null, "fast": "yes"}}}}),
    ));
    assert_eq!(allowed(&cluster), None);
}

#[test]
fn a_class_comes_from_the_pod_or_its_namespace() {
    let namespace = |class: &Value| json!({"kind": "Namespace", "metadata": {"name": "ml", "labels": {"daylight.dev/activity": class}}});
    let plain =
        patched(&pod("p", 1), &json!({"metadata": {"labels": {"daylight.dev/activity": null}}}));
    let classes = ["ai-inference", "ai-training"].map(|name| class(name, "Guaranteed"));
    let [inference, training] = &classes;
    let mut cluster = TestCluster::with(&[pool("a"), inference.clone(), training.clone()]);
    cluster.apply(&plain);
    cluster.apply(&pod("q", 1));
    assert_eq!(activity(&cluster, "ml/p"), Activity::Undeclared);
    let deltas = cluster.apply(&namespace(&json!("ai-inference")));
    assert_eq!(deltas.len(), 1, "{deltas:?}");
    assert_eq!(activity(&cluster, "ml/p"), Activity::Listed("ai-inference".into()));
    assert_eq!(activity(&cluster, "ml/q"), Activity::Listed("ai-training".into()));
    cluster.delete(&namespace(&json!("ai-inference")));
    assert_eq!(activity(&cluster, "ml/p"), Activity::Undeclared);
}

fn activity(cluster: &TestCluster, key: &str) -> Activity {
    match cluster.pod(key).unwrap().role {
        Role::Other { activity, .. } => activity,
        role => panic!("{role:?}"),
    }
}

#[test]
fn a_word_that_is_no_class_or_a_prohibited_one_is_never_ai() {
    let labelled = |name: &str, class: &str| {
        patched(&pod(name, 1), &json!({"metadata": {"labels": {"daylight.dev/activity": class}}}))
    };
    let mut cluster = TestCluster::with(&[
        pool("a"),
        class("prohibited-pow", "None"),
        labelled("made-up", "anything"),
        labelled("mining", "prohibited-pow"),
    ]);
    assert_eq!(activity(&cluster, "ml/made-up"), Activity::Unlisted);
    assert_eq!(activity(&cluster, "ml/mining"), Activity::Unlisted);
    // The list decides, also about pods that are there already.
    let deltas = cluster.apply(&class("anything", "Guaranteed"));
    assert!(deltas.iter().any(|delta| matches!(delta, Delta::Pod(_))), "{deltas:?}");
    assert_eq!(activity(&cluster, "ml/made-up"), Activity::Listed("anything".into()));
    cluster.delete(&class("anything", "Guaranteed"));
    assert_eq!(activity(&cluster, "ml/made-up"), Activity::Unlisted);
}

/// The miners that `n1` is closed to, with the seconds from the start at which it opens to them, and
/// those at which it opens to all.
fn closed(cluster: &TestCluster) -> (Vec<(String, i64)>, Option<i64>) {
    let node = cluster.node("n1").unwrap();
    let after = |at: Timestamp| (at.0 - START.0) / 1000;
    let closed_to = node.closed_to.into_iter();
    (
        closed_to.map(|(miner, until)| (miner.to_string(), after(until))).collect(),
        node.quarantined_until.map(after),
    )
}

/// What `closed` returns while the node is closed to `team/m` alone.
fn to_m(seconds: i64) -> (Vec<(String, i64)>, Option<i64>) {
    (vec![("team/m".into(), seconds)], None)
}

fn to_none() -> (Vec<(String, i64)>, Option<i64>) {
    (Vec::new(), None)
}

#[test]
fn a_node_where_a_miner_fails_is_closed_to_it_and_to_no_other() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let failed = |slot| ended(&running(&lease("m", "n1", slot), "n1"), "Failed");
    cluster.apply(&lease("m", "n1", 2));
    let deltas = cluster.apply(&failed(2));
    assert!(matches!(&*deltas, [Delta::PodGone(_), Delta::Node(_)]), "{deltas:?}");
    assert_eq!(closed(&cluster), to_m(10));
    // Its status changes again, and it is deleted: one failure counts once.
    cluster.apply(&patched(&failed(2), &json!({"status": {"message": "again"}})));
    cluster.delete(&failed(2));
    assert_eq!(closed(&cluster), to_m(10));
    cluster.wait(20);
    // Those that fail together are one failure.
    for slot in [2, 3] {
        cluster.apply(&lease("m", "n1", slot));
        cluster.apply(&failed(slot));
        cluster.delete(&failed(slot));
    }
    assert_eq!(closed(&cluster), to_m(40));
}

#[test]
fn miners_of_two_tenants_close_the_node_to_all() {
    let of = |team: &str, miner: &str, slot| {
        patched(&lease(miner, "n1", slot), &json!({"metadata": {"namespace": team}}))
    };
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    for (slot, miner) in ["m", "n", "o"].into_iter().enumerate() {
        cluster.apply(&ended(&running(&of("team", miner, slot as u32), "n1"), "Failed"));
    }
    assert_eq!(closed(&cluster).1, None, "one tenant's miners, however many");
    cluster.apply(&ended(&running(&of("other", "m", 4), "n1"), "Failed"));
    assert_eq!(closed(&cluster).1, Some(10));

    // Where the miner of a third tenant works, the node is not the cause.
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    cluster.apply(&running(&of("third", "works", 0), "n1"));
    cluster.wait(60);
    for (slot, team) in [(1, "team"), (2, "other")] {
        cluster.apply(&ended(&running(&of(team, "m", slot), "n1"), "Failed"));
    }
    assert_eq!((closed(&cluster).0.len(), closed(&cluster).1), (2, None));
}

#[test]
fn a_miner_that_ends_early_without_an_error_has_failed() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let pod = running(&lease("m", "n1", 0), "n1");
    cluster.apply(&pod);
    cluster.wait(3);
    cluster.view.take_observations();
    cluster.apply(&ended(&pod, "Succeeded"));
    let seen = cluster.view.take_observations();
    let [Observation::MinerEnded { failed: true, failure: Some(failure), .. }] = &*seen else {
        panic!("{seen:?}")
    };
    assert_eq!((&*failure.word, failure.own), ("EndedEarly", true));
    assert_eq!(
        &*failure.sentence,
        "its container ended after 3 s without an error, but a miner must run until it is stopped"
    );
    // One that ran for a while may have had its reasons.
    let pod = running(&lease("m", "n1", 1), "n1");
    cluster.apply(&pod);
    cluster.wait(60);
    cluster.view.take_observations();
    cluster.apply(&ended(&pod, "Succeeded"));
    let seen = cluster.view.take_observations();
    assert!(
        matches!(&*seen, [Observation::MinerEnded { failed: false, failure: None, .. }]),
        "{seen:?}"
    );
    assert_eq!(closed(&cluster), to_none());
}

#[test]
fn a_miner_that_is_edited_is_tried_again_at_once() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), miner("m")]);
    cluster.apply(&ended(&running(&lease("m", "n1", 0), "n1"), "Failed"));
    assert_eq!(closed(&cluster), to_m(10));
    cluster.apply(&patched(&miner("m"), &json!({"spec": {"image": "r.io/miner:2"}})));
    assert_eq!(closed(&cluster), to_none());
}

#[test]
fn ends_that_somebody_wanted_are_no_failures() {
    for (what, change) in [
        ("deleted", json!({"metadata": {"deletionTimestamp": "2026-11-24T06:00:30Z"}})),
        ("its time was over", json!({"status": {"reason": "DeadlineExceeded"}})),
        (
            "preempted",
            json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}}),
        ),
    ] {
        let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
        cluster.apply(&running(&lease("m", "n1", 0), "n1"));
        let over = ended(&running(&lease("m", "n1", 0), "n1"), "Failed");
        cluster.apply(&patched(&over, &change));
        assert_eq!(closed(&cluster), to_none(), "{what}");
    }
    // Daylight has requested it, and the deletion has not been reported yet.
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let bound = running(&lease("m", "n1", 0), "n1");
    cluster.apply(&bound);
    let mut out = Vec::new();
    cluster.view.foresee_end("team/m-n1-0-0", "pod-m-n1-0-0", cluster.now, &mut out);
    cluster.apply(&ended(&bound, "Failed"));
    assert_eq!(closed(&cluster), to_none());
    // Rejected by the kubelet: a failure.
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let rejected = patched(
        &ended(&lease("m", "n1", 0), "Failed"),
        &json!({"spec": {"nodeName": "n1"}, "status": {"reason": "UnexpectedAdmissionError"}}),
    );
    cluster.apply(&rejected);
    assert_eq!(closed(&cluster), to_m(10));
}

#[test]
fn a_miner_that_its_node_puts_out_closes_its_slot_and_is_told() {
    let message = "The node was low on resource: ephemeral-storage. ";
    let disrupted = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
        "message": message,
    });
    let refused = json!({"phase": "Failed", "reason": "Evicted", "message": message});
    for status in [json!({"phase": "Succeeded", "conditions": [disrupted]}), refused] {
        let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
        let pod = running(&lease("m", "n1", 0), "n1");
        cluster.apply(&pod);
        cluster.view.take_observations();
        cluster.apply(&patched(&pod, &json!({"status": status})));
        let seen = cluster.view.take_observations();
        let [Observation::MinerEnded { failed: true, failure: Some(failure), .. }] = &*seen else {
            panic!("{seen:?}")
        };
        assert_eq!(&*failure.word, "Evicted");
        let sentence =
            "it was evicted by its node: The node was low on resource: ephemeral-storage";
        assert_eq!(&*failure.sentence, sentence);
        // Else the next one would be refused before the node is tainted, and the next.
        assert_eq!(closed(&cluster), to_m(10));
    }
}

#[test]
fn a_long_run_makes_up_for_failures() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let bound = running(&lease("m", "n1", 0), "n1");
    for _ in 0..2 {
        cluster.apply(&lease("m", "n1", 0));
        cluster.apply(&ended(&bound, "Failed"));
        cluster.delete(&ended(&bound, "Failed"));
        cluster.wait(10);
    }
    assert_eq!(closed(&cluster), to_m(30));
    cluster.apply(&bound);
    cluster.wait(601);
    cluster.apply(&ended(&bound, "Failed"));
    // It ran for ten minutes, so that this is the first failure again.
    assert_eq!(closed(&cluster), to_m(631));
}

#[test]
fn a_miner_that_finds_no_room_on_its_node_closes_it_to_itself() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let unschedulable = |slot| {
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "lastTransitionTime": "2026-11-24T06:00:00Z",
        });
        patched(&lease("m", "n1", slot), &json!({"status": {"conditions": [condition]}}))
    };
    cluster.apply(&unschedulable(5));
    cluster.wait(59);
    assert_eq!(closed(&cluster), to_none());
    assert_eq!(cluster.view.leftovers().len(), 0);
    cluster.view.take_observations();
    let deltas = cluster.wait(1);
    assert!(matches!(&*deltas, [Delta::Node(_)]), "{deltas:?}");
    assert_eq!(closed(&cluster), to_m(70));
    let seen = cluster.view.take_observations();
    let [Observation::MinerStuck { failure, .. }] = &*seen else { panic!("{seen:?}") };
    assert_eq!((&*failure.word, failure.own), ("Unschedulable", false));
    let leftovers = cluster.view.leftovers();
    assert_eq!(leftovers.len(), 1);
    assert_eq!(leftovers[0].reason, LeftoverReason::Late);
    assert_eq!(leftovers[0].pod.name(), "m-n1-5-0");
    // Bound after all.
    cluster.apply(&running(&lease("m", "n1", 5), "n1"));
    assert_eq!(cluster.view.leftovers().len(), 0);
    // One that is bound in time is not waited for any more.
    cluster.apply(&unschedulable(6));
    cluster.apply(&running(&lease("m", "n1", 6), "n1"));
    cluster.wait(60);
    assert_eq!(cluster.view.leftovers().len(), 0);
    assert_eq!(cluster.view.wake_at(), None);
}

#[test]
fn a_miner_with_a_scheduling_gate_is_not_late_until_a_minute_after_it() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let free = lease("m", "n1", 5);
    let gates = json!([{"name": "kueue.x-k8s.io/admission"}, {"name": "example.com/other"}]);
    cluster.apply(&patched(&free, &json!({"spec": {"schedulingGates": gates}})));
    let key = "team/m-n1-5-0";
    let gates: Vec<String> =
        cluster.pod(key).unwrap().gates.iter().map(ToString::to_string).collect();
    assert_eq!(gates, ["kueue.x-k8s.io/admission", "example.com/other"]);
    cluster.wait(600);
    assert_eq!(cluster.view.leftovers().len(), 0);
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "lastTransitionTime": "2026-11-24T06:10:00Z",
    });
    cluster.apply(&patched(&free, &json!({"status": {"conditions": [condition]}})));
    assert!(cluster.pod(key).unwrap().gates.is_empty());
    cluster.wait(59);
    assert_eq!(cluster.view.leftovers().len(), 0);
    cluster.wait(1);
    assert_eq!(cluster.view.leftovers()[0].reason, LeftoverReason::Late);
}

#[test]
fn while_kube_scheduler_is_away_no_miner_is_late() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    for slot in 0..8 {
        cluster.apply(&lease("m", "n1", slot));
    }
    cluster.wait(3600);
    assert_eq!(closed(&cluster), to_none());
    assert_eq!(cluster.view.leftovers().len(), 0);
}

#[test]
fn a_miner_that_its_node_does_not_prepare_is_removed_and_reported() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let bound = |prepared: &str| {
        let since = "2026-11-24T06:00:00Z";
        let condition = json!({
            "type": "PodReadyToStartContainers", "status": prepared, "lastTransitionTime": since,
        });
        let status = json!({"status": {"phase": "Pending", "conditions": [condition]}});
        patched(&running(&lease("m", "n1", 5), "n1"), &status)
    };
    cluster.apply(&bound("False"));
    cluster.wait(59);
    assert_eq!(cluster.view.leftovers().len(), 0);
    cluster.view.take_observations();
    cluster.wait(1);
    assert_eq!(cluster.view.leftovers()[0].reason, LeftoverReason::Late);
    assert_eq!(closed(&cluster), to_m(70));
    let seen = cluster.view.take_observations();
    let [Observation::MinerStuck { failure, .. }] = &*seen else { panic!("{seen:?}") };
    assert_eq!((&*failure.word, failure.own), ("NotPrepared", false));
    // It is reported once, and forgotten once the node prepares it. Pulling an image may take long.
    cluster.apply(&bound("False"));
    assert_eq!(cluster.view.take_observations(), []);
    cluster.apply(&bound("True"));
    assert_eq!(cluster.view.leftovers().len(), 0);
    assert_eq!(cluster.view.wake_at(), None);
}

#[test]
fn what_happened_is_noted() {
    let mut cluster =
        TestCluster::with(&[pool("a"), node("n1", "a"), running(&pod("old", 1), "n1")]);
    assert_eq!(cluster.view.take_observations(), []);
    cluster.apply(&pod("p", 2));
    cluster.wait(4);
    cluster.apply(&running(&pod("p", 2), "n1"));
    let [Observation::AiPodBound { pod, class, pool, waited }] = &*cluster.view.take_observations()
    else {
        panic!();
    };
    assert_eq!(
        (&**pod, class.as_deref(), pool.as_deref()),
        ("ml/p", Some("ai-training"), Some("a"))
    );
    assert_eq!(waited.as_secs(), 4);
    let miner = running(&lease("m", "n1", 0), "n1");
    cluster.apply(&miner);
    let stopping =
        patched(&miner, &json!({"metadata": {"deletionTimestamp": "2026-11-24T06:00:30Z"}}));
    cluster.apply(&stopping);
    cluster.wait(7);
    cluster.apply(&ended(&stopping, "Failed"));
    cluster.delete(&ended(&stopping, "Failed"));
    let seen = cluster.view.take_observations();
    let [Observation::MinerReady { .. }, Observation::MinerEnded { pod, failed, drained_for, .. }] =
        &*seen
    else {
        panic!();
    };
    assert_eq!((&**pod, *failed), ("team/m-n1-0-0", false));
    assert_eq!(drained_for.unwrap().as_secs(), 7);
}

#[test]
fn a_nominated_node_is_told() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    cluster.apply(&pod("p", 1));
    let deltas =
        cluster.apply(&patched(&pod("p", 1), &json!({"status": {"nominatedNodeName": "n1"}})));
    let [Delta::Pod(Pod { nominated, node, .. })] = &*deltas else {
        panic!("{deltas:?}");
    };
    assert_eq!(nominated.as_deref(), Some("n1"));
    assert_eq!(*node, None);
}

/// A miner's pod whose container is in this state.
fn in_state(pod: &Value, phase: &str, state: &Value) -> Value {
    let container = json!({"name": "miner", "image": "r.io/miner:1", "state": state});
    patched(pod, &json!({"status": {"phase": phase, "containerStatuses": [container]}}))
}

#[test]
fn what_a_miner_would_meet_anywhere_closes_no_slot() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let record = json!({"daylight.dev/work": "v1", "reason": "WrongWallet", "message": "no"});
    let state = json!({"terminated": {
        "exitCode": 16, "reason": "Error", "message": record.to_string(),
        "finishedAt": "2026-11-24T06:00:10Z",
    }});
    let pod = running(&lease("m", "n1", 0), "n1");
    cluster.apply(&pod);
    cluster.view.take_observations();
    // The kubelet reports the container first.
    cluster.apply(&in_state(&pod, "Running", &state));
    assert_eq!((cluster.view.take_observations().len(), cluster.view.leftovers().len()), (0, 0));
    cluster.apply(&in_state(&pod, "Failed", &state));
    let [Observation::MinerEnded { miner, failed: true, failure: Some(failure), .. }] =
        &*cluster.view.take_observations()
    else {
        panic!();
    };
    assert_eq!((&**miner, &*failure.word, failure.own), ("team/m", "WrongWallet", true));
    assert_eq!(closed(&cluster), to_none());

    // An engine that crashes may be the device's fault.
    let pod = running(&lease("m", "n1", 1), "n1");
    cluster.apply(&pod);
    let other = record.to_string().replace("WrongWallet", "EngineCrashed");
    let state = patched(&state, &json!({"terminated": {"exitCode": 11, "message": other}}));
    cluster.apply(&in_state(&pod, "Failed", &state));
    assert_eq!(closed(&cluster), to_m(10));
}

#[test]
fn a_container_that_cannot_start_is_removed_and_told() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let stuck = |slot: u32, reason: &str| {
        let bound = patched(
            &running(&lease("m", "n1", slot), "n1"),
            &json!({"status": {"phase": "Pending", "conditions": []}}),
        );
        in_state(&bound, "Pending", &json!({"waiting": {"reason": reason, "message": "why"}}))
    };
    cluster.apply(&stuck(0, "ContainerCreating"));
    cluster.apply(&stuck(1, "ErrImagePull"));
    assert_eq!(cluster.view.leftovers().len(), 0);
    cluster.view.take_observations();
    cluster.apply(&stuck(0, "CreateContainerConfigError"));
    assert_eq!(cluster.view.leftovers()[0].reason, LeftoverReason::NeverStarts);
    let seen = cluster.view.take_observations();
    let [Observation::MinerStuck { failure, .. }] = &*seen else { panic!("{seen:?}") };
    assert!(failure.own);
    assert_eq!(closed(&cluster), to_none(), "the Secret is missing anywhere");
    cluster.apply(&stuck(1, "ImagePullBackOff"));
    assert_eq!(cluster.view.leftovers().len(), 2);
    assert_eq!(closed(&cluster), to_m(10), "the node may have no way to the registry");
}

#[test]
fn a_miner_that_ended_beside_a_container_that_runs_on_is_removed() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let pod = running(&lease("m", "n1", 0), "n1");
    cluster.apply(&pod);
    cluster.view.take_observations();
    let own = json!({
        "name": "miner", "image": "r.io/miner:1",
        "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
    });
    let other = json!({"name": "mesh", "image": "r.io/mesh:1", "state": {"running": {}}});
    cluster.apply(&patched(&pod, &json!({"status": {"containerStatuses": [other, own]}})));
    cluster.wait(59);
    assert_eq!(cluster.view.leftovers().len(), 0);
    cluster.wait(1);
    assert_eq!(cluster.view.leftovers()[0].reason, LeftoverReason::Late);
    let seen = cluster.view.take_observations();
    let [Observation::MinerStuck { failure, .. }] = &*seen else { panic!("{seen:?}") };
    assert_eq!((&*failure.word, failure.own), ("SidecarRunsOn", true));
    assert_eq!(closed(&cluster), to_none());
}
