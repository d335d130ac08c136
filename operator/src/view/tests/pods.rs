//! Pods that wait, and pods of miners that fail.

use daylight_base::Timestamp;
use daylight_planner::model::{Delta, Pod, Preemption, Role};
use serde_json::{Value, json};

use crate::view::tests::Site;
use crate::view::tests::site::{START, ended, lease, node, patched, pod, pool, running};
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

fn preemption(site: &Site, key: &str) -> Preemption {
    match site.pod(key).unwrap().role {
        Role::Other { preemption, .. } => preemption,
        role => panic!("{role:?}"),
    }
}

#[test]
fn kube_scheduler_is_left_alone_with_a_pod_at_first() {
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    site.apply(&never("p", &json!({})));
    assert_eq!(preemption(&site, "ml/p"), Preemption::ByScheduler);
    assert_eq!(site.view.wake_at(), Some(Timestamp(START.0 + 3_000)));
    assert_eq!(site.wait(2), []);
    let told = site.wait(1);
    assert!(matches!(&*told, [Delta::Pod(_)]), "{told:?}");
    assert_eq!(preemption(&site, "ml/p"), Preemption::ByDaylight { allowed_nodes: None });
    assert_eq!(site.view.wake_at(), None);
    // Once it is bound, it is like any other.
    site.apply(&running(&never("p", &json!({})), "n1"));
    assert_eq!(preemption(&site, "ml/p"), Preemption::ByScheduler);
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
        let mut site = Site::with(&[pool("a"), node("n1", "a")]);
        site.wait(60);
        site.apply(&never("p", &spec));
        assert_eq!(preemption(&site, "ml/p"), Preemption::Never, "{spec}");
    }
    for spec in [
        json!({"schedulerName": "default-scheduler", "priority": 100}),
        json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "projected": {}}]}),
        json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": term}}}),
        json!({"topologySpreadConstraints": [{"whenUnsatisfiable": "ScheduleAnyway"}]}),
        json!({"schedulingGates": []}),
    ] {
        let mut site = Site::with(&[pool("a"), node("n1", "a")]);
        site.wait(60);
        site.apply(&never("p", &spec));
        let served = Preemption::ByDaylight { allowed_nodes: None };
        assert_eq!(preemption(&site, "ml/p"), served, "{spec}");
    }
}

#[test]
fn only_nodes_that_pass_its_filters_are_cleared_for_it() {
    let allowed = |site: &Site| match preemption(site, "ml/p") {
        Preemption::ByDaylight { allowed_nodes } => {
            allowed_nodes.map(|nodes| nodes.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    let fast = |name| patched(&node(name, "a"), &json!({"metadata": {"labels": {"fast": "yes"}}}));
    let tainted = |name| {
        patched(&fast(name), &json!({"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}}))
    };
    let mut site = Site::with(&[pool("a"), node("n1", "a"), fast("n2"), tainted("n3")]);
    site.wait(60);
    let selective = never("p", &json!({"nodeSelector": {"fast": "yes"}}));
    site.apply(&selective);
    assert_eq!(allowed(&site).unwrap(), ["n2"]);
    // It tolerates the taint.
    site.apply(&patched(
        &selective,
        &json!({"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}),
    ));
    assert_eq!(allowed(&site).unwrap(), ["n2", "n3"]);
    // Nodes come to pass and cease to.
    site.apply(&fast("n1"));
    assert_eq!(allowed(&site), None);
    site.apply(&node("n2", "a"));
    assert_eq!(allowed(&site).unwrap(), ["n1", "n3"]);
    // A pool that takes in more nodes changes it too.
    site.apply(&fast("n4"));
    assert_eq!(allowed(&site).unwrap(), ["n1", "n3", "n4"]);
    site.apply(&patched(
        &pool("a"),
        &json!({"spec": {"nodeSelector": {"matchLabels": {"pool": null, "fast": "yes"}}}}),
    ));
    assert_eq!(allowed(&site), None);
}

#[test]
fn a_class_comes_from_the_pod_or_its_namespace() {
    let namespace = |class: &Value| json!({"kind": "Namespace", "metadata": {"name": "ml", "labels": {"daylight.dev/activity": class}}});
    let plain =
        patched(&pod("p", 1), &json!({"metadata": {"labels": {"daylight.dev/activity": null}}}));
    let mut site = Site::with(&[pool("a")]);
    let class = |site: &Site, key: &str| match site.pod(key).unwrap().role {
        Role::Other { class, .. } => class.map(|class| class.to_string()),
        role => panic!("{role:?}"),
    };
    site.apply(&plain);
    site.apply(&pod("q", 1));
    assert_eq!(class(&site, "ml/p"), None);
    let told = site.apply(&namespace(&json!("ai-inference")));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(class(&site, "ml/p").as_deref(), Some("ai-inference"));
    assert_eq!(class(&site, "ml/q").as_deref(), Some("ai-training"));
    site.delete(&namespace(&json!("ai-inference")));
    assert_eq!(class(&site, "ml/p"), None);
}

/// The slots of `n1` that are closed, with the seconds from the start at which
/// they open; and when the node itself opens.
fn closed(site: &Site) -> (Vec<(u32, i64)>, Option<i64>) {
    let node = site.node("n1").unwrap();
    let after = |at: Timestamp| (at.0 - START.0) / 1000;
    (
        node.quarantined_slots.into_iter().map(|(slot, until)| (slot, after(until))).collect(),
        node.quarantined_until.map(after),
    )
}

#[test]
fn a_miner_that_fails_closes_its_slot_then_the_node() {
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    let failed = |slot| ended(&running(&lease("m", "n1", slot), "n1"), "Failed");
    site.apply(&lease("m", "n1", 2));
    let told = site.apply(&failed(2));
    assert!(matches!(&*told, [Delta::PodGone(_), Delta::Node(_)]), "{told:?}");
    assert_eq!(closed(&site), (vec![(2, 10)], None));
    // Its status changes again, and it goes: one failure is one failure.
    site.apply(&patched(&failed(2), &json!({"status": {"message": "again"}})));
    site.delete(&failed(2));
    assert_eq!(closed(&site), (vec![(2, 10)], None));
    site.wait(20);
    for slot in [2, 3] {
        site.apply(&lease("m", "n1", slot));
        site.apply(&failed(slot));
        site.delete(&failed(slot));
    }
    assert_eq!(closed(&site), (vec![(2, 40), (3, 30)], Some(30)));
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
        ("it did not fail", json!({"status": {"phase": "Succeeded"}})),
    ] {
        let mut site = Site::with(&[pool("a"), node("n1", "a")]);
        site.apply(&running(&lease("m", "n1", 0), "n1"));
        let over = ended(&running(&lease("m", "n1", 0), "n1"), "Failed");
        site.apply(&patched(&over, &change));
        assert_eq!(closed(&site), (vec![], None), "{what}");
    }
    // Daylight has asked for it, and the deletion has not been seen yet.
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    let bound = running(&lease("m", "n1", 0), "n1");
    site.apply(&bound);
    let mut out = Vec::new();
    site.view.foresee_end("team/m-n1-0-0", "pod-m-n1-0-0", site.now, &mut out);
    site.apply(&ended(&bound, "Failed"));
    assert_eq!(closed(&site), (vec![], None));
    // Rejected by the kubelet: a failure.
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    let rejected = patched(
        &ended(&lease("m", "n1", 0), "Failed"),
        &json!({"spec": {"nodeName": "n1"}, "status": {"reason": "UnexpectedAdmissionError"}}),
    );
    site.apply(&rejected);
    assert_eq!(closed(&site), (vec![(0, 10)], None));
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
        let mut site = Site::with(&[pool("a"), node("n1", "a")]);
        let pod = running(&lease("m", "n1", 0), "n1");
        site.apply(&pod);
        site.view.take_observations();
        site.apply(&patched(&pod, &json!({"status": status})));
        let seen = site.view.take_observations();
        let [Observation::MinerEnded { failed: true, failure: Some(failure), .. }] = &*seen else {
            panic!("{seen:?}")
        };
        assert_eq!(&*failure.word, "Evicted");
        let says = "it was evicted by its node: The node was low on resource: ephemeral-storage";
        assert_eq!(&*failure.sentence, says);
        // Else the next one would be refused before the node is tainted, and the next.
        assert_eq!(closed_slots(&site), [0]);
    }
}

#[test]
fn a_long_run_makes_up_for_failures() {
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    let bound = running(&lease("m", "n1", 0), "n1");
    for _ in 0..2 {
        site.apply(&lease("m", "n1", 0));
        site.apply(&ended(&bound, "Failed"));
        site.delete(&ended(&bound, "Failed"));
    }
    assert_eq!(closed(&site), (vec![(0, 20)], None));
    site.apply(&bound);
    site.wait(601);
    site.apply(&ended(&bound, "Failed"));
    // It ran for ten minutes, so that this is the first failure again.
    assert_eq!(closed(&site), (vec![(0, 611)], None));
}

#[test]
fn a_miner_that_is_never_bound_closes_its_slot() {
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    site.apply(&lease("m", "n1", 5));
    site.wait(59);
    assert_eq!(closed(&site), (vec![], None));
    assert_eq!(site.view.leftovers().len(), 0);
    let told = site.wait(1);
    assert!(matches!(&*told, [Delta::Node(_)]), "{told:?}");
    assert_eq!(closed(&site), (vec![(5, 70)], None));
    let leftovers = site.view.leftovers();
    assert_eq!(leftovers.len(), 1);
    assert_eq!(leftovers[0].reason, LeftoverReason::Late);
    assert_eq!(leftovers[0].pod.name(), "m-n1-5-0");
    // Bound after all.
    site.apply(&running(&lease("m", "n1", 5), "n1"));
    assert_eq!(site.view.leftovers().len(), 0);
    // One that is bound in time leaves no timer behind.
    site.apply(&lease("m", "n1", 6));
    assert!(site.view.wake_at().is_some());
    site.apply(&running(&lease("m", "n1", 6), "n1"));
    assert_eq!(site.view.wake_at(), None);
}

#[test]
fn a_miner_that_its_node_does_not_prepare_is_removed_and_told() {
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    let bound = |prepared: &str| {
        let since = "2026-11-24T06:00:00Z";
        let condition = json!({
            "type": "PodReadyToStartContainers", "status": prepared, "lastTransitionTime": since,
        });
        let status = json!({"status": {"phase": "Pending", "conditions": [condition]}});
        patched(&running(&lease("m", "n1", 5), "n1"), &status)
    };
    site.apply(&bound("False"));
    site.wait(59);
    assert_eq!(site.view.leftovers().len(), 0);
    site.view.take_observations();
    site.wait(1);
    assert_eq!(site.view.leftovers()[0].reason, LeftoverReason::Late);
    assert_eq!(closed_slots(&site), [5]);
    let seen = site.view.take_observations();
    let [Observation::MinerStuck { failure, .. }] = &*seen else { panic!("{seen:?}") };
    assert_eq!((&*failure.word, failure.own), ("NotPrepared", false));
    // It is told once, and forgotten when the node comes to it. Pulling an image may take long.
    site.apply(&bound("False"));
    assert_eq!(site.view.take_observations(), []);
    site.apply(&bound("True"));
    assert_eq!(site.view.leftovers().len(), 0);
    assert_eq!(site.view.wake_at(), None);
}

#[test]
fn what_happened_is_noted() {
    let mut site = Site::with(&[pool("a"), node("n1", "a"), running(&pod("old", 1), "n1")]);
    assert_eq!(site.view.take_observations(), []);
    site.apply(&pod("p", 2));
    site.wait(4);
    site.apply(&running(&pod("p", 2), "n1"));
    let [Observation::AiPodBound { pod, class, pool, waited }] = &*site.view.take_observations()
    else {
        panic!();
    };
    assert_eq!(
        (&**pod, class.as_deref(), pool.as_deref()),
        ("ml/p", Some("ai-training"), Some("a"))
    );
    assert_eq!(waited.as_secs(), 4);
    let miner = running(&lease("m", "n1", 0), "n1");
    site.apply(&miner);
    let stopping =
        patched(&miner, &json!({"metadata": {"deletionTimestamp": "2026-11-24T06:00:30Z"}}));
    site.apply(&stopping);
    site.wait(7);
    site.apply(&ended(&stopping, "Failed"));
    site.delete(&ended(&stopping, "Failed"));
    let seen = site.view.take_observations();
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
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    site.apply(&pod("p", 1));
    let told = site.apply(&patched(&pod("p", 1), &json!({"status": {"nominatedNodeName": "n1"}})));
    let [Delta::Pod(Pod { nominated, node, .. })] = &*told else {
        panic!("{told:?}");
    };
    assert_eq!(nominated.as_deref(), Some("n1"));
    assert_eq!(*node, None);
}

fn closed_slots(site: &Site) -> Vec<u32> {
    closed(site).0.into_iter().map(|(slot, _)| slot).collect()
}

/// A miner's pod whose container is in this state.
fn in_state(pod: &Value, phase: &str, state: &Value) -> Value {
    let container = json!({"name": "miner", "image": "r.io/miner:1", "state": state});
    patched(pod, &json!({"status": {"phase": phase, "containerStatuses": [container]}}))
}

#[test]
fn what_a_miner_would_meet_anywhere_closes_no_slot() {
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    let record = json!({"daylight.dev/work": "v1", "reason": "WrongWallet", "message": "no"});
    let state = json!({"terminated": {
        "exitCode": 16, "reason": "Error", "message": record.to_string(),
        "finishedAt": "2026-11-24T06:00:10Z",
    }});
    let pod = running(&lease("m", "n1", 0), "n1");
    site.apply(&pod);
    site.view.take_observations();
    // A kubelet tells of the container first.
    site.apply(&in_state(&pod, "Running", &state));
    assert_eq!((site.view.take_observations().len(), site.view.leftovers().len()), (0, 0));
    site.apply(&in_state(&pod, "Failed", &state));
    let [Observation::MinerEnded { miner, failed: true, failure: Some(failure), .. }] =
        &*site.view.take_observations()
    else {
        panic!();
    };
    assert_eq!((&**miner, &*failure.word, failure.own), ("team/m", "WrongWallet", true));
    assert_eq!(closed_slots(&site), [0_u32; 0]);

    // An engine that crashes may be the device's fault.
    let pod = running(&lease("m", "n1", 1), "n1");
    site.apply(&pod);
    let other = record.to_string().replace("WrongWallet", "EngineCrashed");
    let state = patched(&state, &json!({"terminated": {"exitCode": 11, "message": other}}));
    site.apply(&in_state(&pod, "Failed", &state));
    assert_eq!(closed_slots(&site), [1]);
}

#[test]
fn a_container_that_cannot_start_is_removed_and_told() {
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    let stuck = |slot: u32, reason: &str| {
        let bound = patched(
            &running(&lease("m", "n1", slot), "n1"),
            &json!({"status": {"phase": "Pending", "conditions": []}}),
        );
        in_state(&bound, "Pending", &json!({"waiting": {"reason": reason, "message": "why"}}))
    };
    site.apply(&stuck(0, "ContainerCreating"));
    site.apply(&stuck(1, "ErrImagePull"));
    assert_eq!(site.view.leftovers().len(), 0);
    site.view.take_observations();
    site.apply(&stuck(0, "CreateContainerConfigError"));
    assert_eq!(site.view.leftovers()[0].reason, LeftoverReason::NeverStarts);
    let seen = site.view.take_observations();
    let [Observation::MinerStuck { failure, .. }] = &*seen else { panic!("{seen:?}") };
    assert!(failure.own);
    assert_eq!(closed_slots(&site), [0_u32; 0], "the Secret is missing anywhere");
    site.apply(&stuck(1, "ImagePullBackOff"));
    assert_eq!(site.view.leftovers().len(), 2);
    assert_eq!(closed_slots(&site), [1], "the node may have no way to the registry");
}
