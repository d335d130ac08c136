//! Lists, watches and answers that arrive in any order.

use std::time::Instant;

use daylight_planner::model::{Delta, EmergencyStop, JobState};
use serde_json::{Value, json};

use crate::view::View;
use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{
    ChangeKind, ai_job, all_listed, batch_job, event, lease, miner, node, patched, pod, pool,
    running,
};
use daylight_cluster::{Change, Event, Kind, Pending, Round, WatchFailure};

fn at_version(object: &Value, version: u64) -> Value {
    patched(object, &json!({"metadata": {"resourceVersion": version.to_string()}}))
}

fn slim<T: serde::de::DeserializeOwned>(object: &Value) -> T {
    serde_json::from_str(&object.to_string()).unwrap()
}

/// A pod as it is sent to be created.
fn to_create(pod: &Value) -> Value {
    patched(pod, &json!({"metadata": {"uid": null, "creationTimestamp": null}, "status": null}))
}

#[test]
fn a_list_after_a_break_shows_what_is_gone() {
    let mut cluster =
        TestCluster::with(&[pool("a"), node("n1", "a"), node("n2", "a"), pod("p", 1), pod("q", 1)]);
    assert_eq!(cluster.apply_event(Event::Pod(Change::Listing)), []);
    let item = |object: &Value| event(&at_version(object, 200), ChangeKind::Item);
    assert_eq!(cluster.apply_event(item(&pod("q", 1))), []);
    let deltas = cluster.apply_event(item(&pod("r", 1)));
    assert!(matches!(&*deltas, [Delta::Pod(_)]), "{deltas:?}");
    let listed = Change::Listed { version: 200, round: Round(0) };
    assert_eq!(cluster.apply_event(Event::Pod(listed)), [Delta::PodGone("ml/p".into())]);
    // A list that was interrupted counts from its last beginning.
    cluster.apply_event(Event::Pod(Change::Listing));
    cluster.apply_event(item(&pod("q", 1)));
    cluster.apply_event(Event::Pod(Change::Listing));
    cluster.apply_event(item(&pod("r", 1)));
    let listed = Change::Listed { version: 201, round: Round(0) };
    assert_eq!(cluster.apply_event(Event::Pod(listed)), [Delta::PodGone("ml/q".into())]);
}

#[test]
fn an_object_made_anew_between_two_lists_is_another() {
    let mut cluster =
        TestCluster::with(&[pool("a"), node("n1", "a"), batch_job("train"), ai_job("train", 1)]);
    cluster.apply_event(Event::BatchJob(Change::Listing));
    let other = patched(&batch_job("train"), &json!({"metadata": {"uid": "other"}}));
    cluster.apply_event(event(&at_version(&other, 200), ChangeKind::Item));
    cluster.apply_event(Event::BatchJob(Change::Listed { version: 200, round: Round(0) }));
    assert_eq!(&*cluster.view.cluster().batch_job("ml/train").unwrap().uid, "other");
}

#[test]
fn a_foreseen_pod_counts_until_the_server_or_the_watch_speaks() {
    let key = "team/m-n1-0-0";
    let cluster = || TestCluster::with(&[pool("a"), node("n1", "a")]);
    let foresee = |cluster: &mut TestCluster| {
        let mut out = Vec::new();
        let pod = slim(&to_create(&lease("m", "n1", 0)));
        cluster.view.foresee_pod(pod, cluster.now, &mut out);
        let [Delta::Pod(pod)] = &*out else {
            panic!("{out:?}");
        };
        assert_eq!(pod.node.as_deref(), Some("n1"));
        assert_eq!(pod.created, cluster.now);
    };
    // It is refused.
    let mut refused = cluster();
    foresee(&mut refused);
    let mut out = Vec::new();
    refused.view.unforesee_pod(key, &mut out);
    assert_eq!(out, [Delta::PodGone(key.into())]);
    // It is created: the answer, then the watch, change nothing any more.
    let mut created = cluster();
    foresee(&mut created);
    let real = at_version(&lease("m", "n1", 0), 300);
    let mut out = Vec::new();
    created.view.assume_pod(slim(&real), created.now, &mut out);
    assert_eq!(created.apply_event(event(&real, ChangeKind::Applied)), []);
    assert_eq!(created.view.wake_at(), None, "only its binding is awaited");
    // Withdrawing it now has no effect.
    created.view.unforesee_pod(key, &mut out);
    assert!(created.pod(key).is_some());
    // The watch reports before the answer arrives.
    let mut overtaken = cluster();
    foresee(&mut overtaken);
    let bound = at_version(&running(&lease("m", "n1", 0), "n1"), 310);
    overtaken.apply_event(event(&real, ChangeKind::Applied));
    overtaken.apply_event(event(&bound, ChangeKind::Applied));
    overtaken.view.assume_pod(slim(&real), overtaken.now, &mut out);
    assert!(overtaken.view.cluster().pod(key).unwrap().node.is_some(), "not undone");
    // The watch has shown its whole life before the answer came.
    let mut over = cluster();
    foresee(&mut over);
    over.apply_event(event(&real, ChangeKind::Applied));
    over.apply_event(event(&at_version(&lease("m", "n1", 0), 320), ChangeKind::Deleted));
    over.view.assume_pod(slim(&real), over.now, &mut out);
    assert_eq!(over.pod(key), None, "not brought back");
    // A list shows what became of the requests of an earlier tenure, apart from those under way.
    let mut earlier = cluster();
    foresee(&mut earlier);
    let mut out = Vec::new();
    earlier.view.unforesee_pods(|pod| &**pod == key, &mut out);
    assert_eq!(out, []);
    earlier.view.unforesee_pods(|_| false, &mut out);
    assert_eq!(out, [Delta::PodGone(key.into())]);
    let mut out = Vec::new();
    created.view.unforesee_pods(|_| false, &mut out);
    assert!(out.is_empty() && created.pod(key).is_some());
    // Neither arrives: it expires.
    let mut lost = cluster();
    foresee(&mut lost);
    lost.wait(119);
    assert!(lost.pod(key).is_some());
    lost.wait(1);
    assert_eq!(lost.pod(key), None);
    // While the watch is silent, the pod may exist.
    let mut silent = cluster();
    foresee(&mut silent);
    silent.silent = true;
    silent.wait(3600);
    assert!(silent.pod(key).is_some());
    silent.silent = false;
    silent.wait(1);
    assert_eq!(silent.pod(key), None);
}

#[test]
fn an_assumed_pod_that_the_watch_passes_does_not_exist() {
    let key = "team/m-n1-0-0";
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let mut out = Vec::new();
    let real = at_version(&lease("m", "n1", 0), 300);
    cluster.view.assume_pod(slim(&real), cluster.now, &mut out);
    // The watch has not reached it yet.
    assert_eq!(cluster.apply_event(Event::Pod(Change::Progress(299))), []);
    assert!(cluster.pod(key).is_some());
    assert_eq!(
        cluster.apply_event(Event::Pod(Change::Progress(301))),
        [Delta::PodGone(key.into())]
    );
    // An answer that the watch has already passed changes nothing.
    cluster.view.assume_pod(slim(&real), cluster.now, &mut out);
    assert_eq!(cluster.pod(key), None);
}

#[test]
fn a_list_judges_only_what_is_not_younger() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let mut out = Vec::new();
    cluster.view.foresee_pod(slim(&to_create(&lease("m", "n1", 0))), cluster.now, &mut out);
    cluster.view.assume_pod(slim(&at_version(&lease("m", "n1", 1), 300)), cluster.now, &mut out);
    cluster.view.assume_pod(slim(&at_version(&lease("m", "n1", 2), 310)), cluster.now, &mut out);
    cluster.apply_event(Event::Pod(Change::Listing));
    let listed = Change::Listed { version: 305, round: Round(0) };
    assert_eq!(cluster.apply_event(Event::Pod(listed)), [Delta::PodGone("team/m-n1-1-0".into())]);
}

#[test]
fn an_older_event_does_not_undo_an_answer() {
    let key = "team/m-n1-0-0";
    let bound = running(&lease("m", "n1", 0), "n1");
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), at_version(&bound, 90)]);
    let deleting =
        patched(&bound, &json!({"metadata": {"deletionTimestamp": "2026-11-24T06:00:30Z"}}));
    let mut out = Vec::new();
    cluster.view.assume_pod(slim(&at_version(&deleting, 300)), cluster.now, &mut out);
    assert!(cluster.pod(key).unwrap().deleting);
    assert_eq!(cluster.apply_event(event(&at_version(&bound, 299), ChangeKind::Applied)), []);
    assert!(cluster.pod(key).unwrap().deleting);
    // Versions that are not numbers count in the order of arrival.
    let mut strange = at_version(&bound, 0);
    strange["metadata"]["resourceVersion"] = json!("v2-abc");
    cluster.apply_event(event(&strange, ChangeKind::Applied));
    assert!(!cluster.pod(key).unwrap().deleting);
}

#[test]
fn the_deletion_of_a_namesake_is_not_its_own() {
    let key = "team/m-n1-0-0";
    let mut cluster =
        TestCluster::with(&[pool("a"), node("n1", "a"), at_version(&lease("m", "n1", 0), 90)]);
    let mut out = Vec::new();
    cluster.view.assume_gone(key, "pod-m-n1-0-0", cluster.now, &mut out);
    assert_eq!(out, [Delta::PodGone(key.into())]);
    out.clear();
    cluster.view.foresee_pod(slim(&to_create(&lease("m", "n1", 0))), cluster.now, &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!(
        cluster.apply_event(event(&at_version(&lease("m", "n1", 0), 120), ChangeKind::Deleted)),
        []
    );
    assert!(cluster.pod(key).is_some());
    // Only an object with this UID is gone.
    cluster.view.assume_gone(key, "another", cluster.now, &mut out);
    assert!(cluster.pod(key).is_some());
}

#[test]
fn what_an_answer_says_is_gone_does_not_return() {
    let key = "team/m-n1-0-0";
    let pod = lease("m", "n1", 0);
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), at_version(&pod, 90)]);
    let mut out = Vec::new();
    cluster.view.assume_gone(key, "pod-m-n1-0-0", cluster.now, &mut out);
    // The watch is late.
    let late = event(&at_version(&running(&pod, "n1"), 100), ChangeKind::Applied);
    assert_eq!(cluster.apply_event(late), []);
    assert!(cluster.pod(key).is_none());
    assert_eq!(cluster.apply_event(event(&at_version(&pod, 120), ChangeKind::Deleted)), []);
    // Another of that name is another pod.
    let mut another = at_version(&pod, 130);
    another["metadata"]["uid"] = json!("another");
    cluster.apply_event(event(&another, ChangeKind::Applied));
    assert!(cluster.pod(key).is_some());
}

#[test]
fn a_foreseen_end_stands_until_it_is_seen_or_taken_back() {
    let key = "team/m-n1-0-0";
    let bound = running(&lease("m", "n1", 0), "n1");
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), bound.clone()]);
    let deleting = |cluster: &TestCluster| cluster.pod(key).unwrap().deleting;
    let mut out = Vec::new();
    cluster.view.foresee_end(key, "another", cluster.now, &mut out);
    assert!(!deleting(&cluster));
    cluster.view.foresee_end(key, "pod-m-n1-0-0", cluster.now, &mut out);
    assert!(deleting(&cluster));
    // A status update that was sent before.
    cluster.apply(&patched(&bound, &json!({"status": {"conditions": []}})));
    assert!(deleting(&cluster));
    cluster.view.unforesee_end(key, &mut out);
    assert!(!deleting(&cluster));
    // Never confirmed: after two minutes it is tried again.
    cluster.view.foresee_end(key, "pod-m-n1-0-0", cluster.now, &mut out);
    cluster.wait(119);
    assert!(deleting(&cluster));
    cluster.wait(1);
    assert!(!deleting(&cluster));
}

#[test]
fn a_foreseen_state_stands_until_the_answer() {
    let mut cluster = TestCluster::with(&[pool("a"), ai_job("train", 1)]);
    let state = |cluster: &TestCluster| cluster.job("ml/train").unwrap().state;
    let running = JobState::Running { since: cluster.now };
    let mut out = Vec::new();
    cluster.view.foresee_state("ml/train", running.clone(), cluster.now, &mut out);
    assert_eq!(state(&cluster), running);
    assert!(matches!(&*out, [Delta::Job(_)]), "{out:?}");
    // An older event does not end it.
    cluster.apply(&patched(&ai_job("train", 1), &json!({"status": {"message": "waits"}})));
    assert_eq!(state(&cluster), running);
    // The answer does.
    let queued = patched(
        &at_version(&ai_job("train", 1), 400),
        &json!({"status": {"state": "Running", "startedAt": "2026-11-24T06:00:00Z"}}),
    );
    cluster.view.assume_ai_job(serde_json::from_value(queued).unwrap(), cluster.now, &mut out);
    assert_eq!(state(&cluster), running);
    assert_eq!(out.len(), 1, "what was foreseen came true");
    // Withdrawn.
    cluster.view.foresee_state("ml/train", JobState::Finished, cluster.now, &mut out);
    cluster.view.unforesee_state("ml/train", &mut out);
    assert_eq!(state(&cluster), running);
    // Deleted and created again: its state begins again.
    cluster.view.foresee_state("ml/train", JobState::Finished, cluster.now, &mut out);
    cluster.delete(&at_version(&ai_job("train", 1), 410));
    assert_eq!(cluster.job("ml/train"), None);
    cluster.apply(&at_version(&ai_job("train", 1), 420));
    assert_ne!(state(&cluster), JobState::Finished);
}

#[test]
fn nothing_is_told_before_all_is_listed() {
    let mut view = View::new(crate::view::tests::test_cluster::START);
    let mut out = Vec::new();
    let now = crate::view::tests::test_cluster::START;
    for object in [pool("a"), node("n1", "a"), pod("p", 1)] {
        view.apply(event(&object, ChangeKind::Applied), now, &mut out);
    }
    assert_eq!(view.cluster().pending().len(), Kind::ALL.len());
    view.apply(Event::GpuPool(Change::Failed(WatchFailure::Missing)), now, &mut out);
    assert_eq!(
        view.cluster().pending().into_iter().find(|(kind, _)| *kind == Kind::GpuPool),
        Some((Kind::GpuPool, Pending::NotInstalled))
    );
    let mut listed = all_listed(9, Round(0));
    let last = listed.pop().unwrap();
    for event in listed {
        view.apply(event, now, &mut out);
    }
    assert_eq!(out, []);
    assert!(!view.is_warm());
    view.apply(last, now, &mut out);
    assert!(view.is_warm());
    assert_eq!(view.cluster().pending(), []);
    assert_eq!(out.len(), 3);
    assert!(!view.cluster().is_fresh(Round(1)));
    for event in all_listed(10, Round(1)) {
        view.apply(event, now, &mut out);
    }
    assert!(view.cluster().is_fresh(Round(1)));
    // Without its definition, a kind is pending again; its objects remain.
    view.apply(Event::Miner(Change::Failed(WatchFailure::Missing)), now, &mut out);
    assert_eq!(view.cluster().pending().len(), 1);
    // A lost connection does not.
    view.apply(
        Event::Miner(Change::Failed(WatchFailure::Other("reset".to_owned()))),
        now,
        &mut out,
    );
    assert_eq!(view.cluster().pending(), []);
    assert!(view.cluster().watch_failure(Kind::Miner).is_some());
    assert_eq!(view.stale(), [Kind::Miner]);
    view.apply(event(&miner("m"), ChangeKind::Applied), now, &mut out);
    assert_eq!(view.stale(), [Kind::Miner], "more may be missing");
    view.apply(Event::Miner(Change::Current(Instant::now())), now, &mut out);
    assert!(view.cluster().watch_failure(Kind::Miner).is_none());
    assert!(view.stale().is_empty());
    // While it lists again, changes may be missing.
    view.apply(Event::Miner(Change::Listing), now, &mut out);
    assert_eq!(view.stale(), [Kind::Miner]);
}

#[test]
fn the_emergency_stop_is_in_force_as_long_as_its_object_exists() {
    let stop = json!({
        "kind": "ConfigMap",
        "metadata": {"name": "daylight-emergency-stop", "namespace": "daylight-system"},
        "data": {"by": "ann", "reason": "smoke", "at": "2026-11-24T06:00:00Z"},
    });
    let mut cluster = TestCluster::with(&[]);
    let in_force = EmergencyStop { by: "ann".into(), reason: "smoke".into() };
    assert_eq!(cluster.apply(&stop), [Delta::EmergencyStop(Some(in_force.clone()))]);
    assert_eq!(cluster.view.emergency_stop(), Some(&in_force));
    assert_eq!(cluster.view.snapshot().emergency_stop, Some(in_force));
    assert_eq!(cluster.delete(&stop), [Delta::EmergencyStop(None)]);
    let (_, deltas) = TestCluster::with_deltas(&[patched(&stop, &json!({"data": null}))]);
    assert_eq!(
        deltas,
        [Delta::EmergencyStop(Some(EmergencyStop {
            by: "unknown".into(),
            reason: "no reason given".into()
        }))]
    );
}
