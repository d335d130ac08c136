//! Lists, watches and answers that come in any order.

use daylight_planner::model::{Delta, EmergencyStop, JobState};
use serde_json::{Value, json};

use crate::view::View;
use crate::view::tests::Site;
use crate::view::tests::site::{
    Does, ai_job, all_listed, batch_job, event, lease, node, patched, pod, pool, running,
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
    let mut site =
        Site::with(&[pool("a"), node("n1", "a"), node("n2", "a"), pod("p", 1), pod("q", 1)]);
    assert_eq!(site.tell(Event::Pod(Change::Listing)), []);
    let item = |object: &Value| event(&at_version(object, 200), Does::List);
    assert_eq!(site.tell(item(&pod("q", 1))), []);
    let told = site.tell(item(&pod("r", 1)));
    assert!(matches!(&*told, [Delta::Pod(_)]), "{told:?}");
    let listed = Change::Listed { version: 200, round: Round(0) };
    assert_eq!(site.tell(Event::Pod(listed)), [Delta::PodGone("ml/p".into())]);
    // A list that broke off and began anew counts from its last beginning.
    site.tell(Event::Pod(Change::Listing));
    site.tell(item(&pod("q", 1)));
    site.tell(Event::Pod(Change::Listing));
    site.tell(item(&pod("r", 1)));
    let listed = Change::Listed { version: 201, round: Round(0) };
    assert_eq!(site.tell(Event::Pod(listed)), [Delta::PodGone("ml/q".into())]);
}

#[test]
fn an_object_made_anew_between_two_lists_is_another() {
    let mut site =
        Site::with(&[pool("a"), node("n1", "a"), batch_job("train"), ai_job("train", 1)]);
    site.tell(Event::BatchJob(Change::Listing));
    let other = patched(&batch_job("train"), &json!({"metadata": {"uid": "other"}}));
    site.tell(event(&at_version(&other, 200), Does::List));
    site.tell(Event::BatchJob(Change::Listed { version: 200, round: Round(0) }));
    assert_eq!(&*site.view.cluster().batch_job("ml/train").unwrap().uid, "other");
}

#[test]
fn a_foreseen_pod_counts_until_the_server_or_the_watch_speaks() {
    let key = "team/m-n1-0-0";
    let site = || Site::with(&[pool("a"), node("n1", "a")]);
    let foresee = |site: &mut Site| {
        let mut out = Vec::new();
        let pod = slim(&to_create(&lease("m", "n1", 0)));
        site.view.foresee_pod(pod, site.now, &mut out);
        let [Delta::Pod(pod)] = &*out else {
            panic!("{out:?}");
        };
        assert_eq!(pod.node.as_deref(), Some("n1"));
        assert_eq!(pod.created, site.now);
    };
    // It is refused.
    let mut refused = site();
    foresee(&mut refused);
    let mut out = Vec::new();
    refused.view.unforesee_pod(key, &mut out);
    assert_eq!(out, [Delta::PodGone(key.into())]);
    // It is created: the answer, then the watch, change nothing any more.
    let mut created = site();
    foresee(&mut created);
    let real = at_version(&lease("m", "n1", 0), 300);
    let mut out = Vec::new();
    created.view.assume_pod(slim(&real), created.now, &mut out);
    assert_eq!(created.tell(event(&real, Does::Apply)), []);
    assert_eq!(
        created.view.wake_at().map(|at| at.0),
        Some(created.now.0 + 60_000),
        "only its binding is awaited"
    );
    // Taking it back now has no effect.
    created.view.unforesee_pod(key, &mut out);
    assert!(created.pod(key).is_some());
    // The watch is faster than the answer.
    let mut overtaken = site();
    foresee(&mut overtaken);
    let bound = at_version(&running(&lease("m", "n1", 0), "n1"), 310);
    overtaken.tell(event(&real, Does::Apply));
    overtaken.tell(event(&bound, Does::Apply));
    overtaken.view.assume_pod(slim(&real), overtaken.now, &mut out);
    assert!(overtaken.view.cluster().pod(key).unwrap().node.is_some(), "not undone");
    // The watch has shown its whole life before the answer came.
    let mut over = site();
    foresee(&mut over);
    over.tell(event(&real, Does::Apply));
    over.tell(event(&at_version(&lease("m", "n1", 0), 320), Does::Delete));
    over.view.assume_pod(slim(&real), over.now, &mut out);
    assert_eq!(over.pod(key), None, "not brought back");
    // Neither speaks: it is given up.
    let mut lost = site();
    foresee(&mut lost);
    lost.wait(119);
    assert!(lost.pod(key).is_some());
    assert_eq!(lost.view.wake_at().map(|at| at.0), Some(lost.now.0 + 1_000));
    lost.wait(1);
    assert_eq!(lost.pod(key), None);
}

#[test]
fn an_assumed_pod_that_the_watch_passes_does_not_exist() {
    let key = "team/m-n1-0-0";
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    let mut out = Vec::new();
    let real = at_version(&lease("m", "n1", 0), 300);
    site.view.assume_pod(slim(&real), site.now, &mut out);
    // Not told yet.
    assert_eq!(site.tell(Event::Pod(Change::Progress(299))), []);
    assert!(site.pod(key).is_some());
    assert_eq!(site.tell(Event::Pod(Change::Progress(301))), [Delta::PodGone(key.into())]);
    // An answer that the watch has passed already is no news.
    site.view.assume_pod(slim(&real), site.now, &mut out);
    assert_eq!(site.pod(key), None);
}

#[test]
fn a_list_judges_only_what_is_not_younger() {
    let mut site = Site::with(&[pool("a"), node("n1", "a")]);
    let mut out = Vec::new();
    site.view.foresee_pod(slim(&to_create(&lease("m", "n1", 0))), site.now, &mut out);
    site.view.assume_pod(slim(&at_version(&lease("m", "n1", 1), 300)), site.now, &mut out);
    site.view.assume_pod(slim(&at_version(&lease("m", "n1", 2), 310)), site.now, &mut out);
    site.tell(Event::Pod(Change::Listing));
    let listed = Change::Listed { version: 305, round: Round(0) };
    assert_eq!(site.tell(Event::Pod(listed)), [Delta::PodGone("team/m-n1-1-0".into())]);
}

#[test]
fn an_older_event_does_not_undo_an_answer() {
    let key = "team/m-n1-0-0";
    let bound = running(&lease("m", "n1", 0), "n1");
    let mut site = Site::with(&[pool("a"), node("n1", "a"), at_version(&bound, 90)]);
    let deleting =
        patched(&bound, &json!({"metadata": {"deletionTimestamp": "2026-11-24T06:00:30Z"}}));
    let mut out = Vec::new();
    site.view.assume_pod(slim(&at_version(&deleting, 300)), site.now, &mut out);
    assert!(site.pod(key).unwrap().deleting);
    assert_eq!(site.tell(event(&at_version(&bound, 299), Does::Apply)), []);
    assert!(site.pod(key).unwrap().deleting);
    // Versions that are no numbers are taken as they come.
    let mut strange = at_version(&bound, 0);
    strange["metadata"]["resourceVersion"] = json!("v2-abc");
    site.tell(event(&strange, Does::Apply));
    assert!(!site.pod(key).unwrap().deleting);
}

#[test]
fn the_deletion_of_a_namesake_is_not_its_own() {
    let key = "team/m-n1-0-0";
    let mut site = Site::with(&[pool("a"), node("n1", "a"), at_version(&lease("m", "n1", 0), 90)]);
    let mut out = Vec::new();
    site.view.assume_gone(key, "pod-m-n1-0-0", site.now, &mut out);
    assert_eq!(out, [Delta::PodGone(key.into())]);
    out.clear();
    site.view.foresee_pod(slim(&to_create(&lease("m", "n1", 0))), site.now, &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!(site.tell(event(&at_version(&lease("m", "n1", 0), 120), Does::Delete)), []);
    assert!(site.pod(key).is_some());
    // Gone is only what has the UID.
    site.view.assume_gone(key, "another", site.now, &mut out);
    assert!(site.pod(key).is_some());
}

#[test]
fn a_foreseen_end_stands_until_it_is_seen_or_taken_back() {
    let key = "team/m-n1-0-0";
    let bound = running(&lease("m", "n1", 0), "n1");
    let mut site = Site::with(&[pool("a"), node("n1", "a"), bound.clone()]);
    let deleting = |site: &Site| site.pod(key).unwrap().deleting;
    let mut out = Vec::new();
    site.view.foresee_end(key, "another", site.now, &mut out);
    assert!(!deleting(&site));
    site.view.foresee_end(key, "pod-m-n1-0-0", site.now, &mut out);
    assert!(deleting(&site));
    // A status update that was under way.
    site.apply(&patched(&bound, &json!({"status": {"conditions": []}})));
    assert!(deleting(&site));
    site.view.unforesee_end(key, &mut out);
    assert!(!deleting(&site));
    // Never confirmed: after two minutes it is tried again.
    site.view.foresee_end(key, "pod-m-n1-0-0", site.now, &mut out);
    site.wait(119);
    assert!(deleting(&site));
    site.wait(1);
    assert!(!deleting(&site));
}

#[test]
fn a_foreseen_state_stands_until_the_answer() {
    let mut site = Site::with(&[pool("a"), ai_job("train", 1)]);
    let state = |site: &Site| site.job("ml/train").unwrap().state;
    let running = JobState::Running { since: site.now };
    let mut out = Vec::new();
    site.view.foresee_state("ml/train", running.clone(), site.now, &mut out);
    assert_eq!(state(&site), running);
    assert!(matches!(&*out, [Delta::Job(_)]), "{out:?}");
    // An older event does not end it.
    site.apply(&patched(&ai_job("train", 1), &json!({"status": {"message": "waits"}})));
    assert_eq!(state(&site), running);
    // The answer does.
    let queued = patched(
        &at_version(&ai_job("train", 1), 400),
        &json!({"status": {"state": "Running", "startedAt": "2026-11-24T06:00:00Z"}}),
    );
    site.view.assume_ai_job(serde_json::from_value(queued).unwrap(), site.now, &mut out);
    assert_eq!(state(&site), running);
    assert_eq!(out.len(), 1, "what was foreseen came true");
    // Taken back.
    site.view.foresee_state("ml/train", JobState::Finished, site.now, &mut out);
    site.view.unforesee_state("ml/train", &mut out);
    assert_eq!(state(&site), running);
    // Deleted and made anew: it begins anew.
    site.view.foresee_state("ml/train", JobState::Finished, site.now, &mut out);
    site.delete(&at_version(&ai_job("train", 1), 410));
    assert_eq!(site.job("ml/train"), None);
    site.apply(&at_version(&ai_job("train", 1), 420));
    assert_ne!(state(&site), JobState::Finished);
}

#[test]
fn nothing_is_told_before_all_is_listed() {
    let mut view = View::new(crate::view::tests::site::START);
    let mut out = Vec::new();
    let now = crate::view::tests::site::START;
    for object in [pool("a"), node("n1", "a"), pod("p", 1)] {
        view.apply(event(&object, Does::Apply), now, &mut out);
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
    // A definition that is taken away makes the picture incomplete; what was seen stays.
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
    view.apply(Event::Miner(Change::Resumed), now, &mut out);
    assert!(view.cluster().watch_failure(Kind::Miner).is_none());
}

#[test]
fn the_emergency_stop_is_in_force_as_long_as_its_object_exists() {
    let stop = json!({
        "kind": "ConfigMap",
        "metadata": {"name": "daylight-emergency-stop", "namespace": "daylight-system"},
        "data": {"by": "ann", "reason": "smoke", "at": "2026-11-24T06:00:00Z"},
    });
    let mut site = Site::with(&[]);
    let in_force = EmergencyStop { by: "ann".into(), reason: "smoke".into() };
    assert_eq!(site.apply(&stop), [Delta::EmergencyStop(Some(in_force.clone()))]);
    assert_eq!(site.view.emergency_stop(), Some(&in_force));
    assert_eq!(site.view.snapshot().emergency_stop, Some(in_force));
    assert_eq!(site.delete(&stop), [Delta::EmergencyStop(None)]);
    let (_, told) = Site::told(&[patched(&stop, &json!({"data": null}))]);
    assert_eq!(
        told,
        [Delta::EmergencyStop(Some(EmergencyStop {
            by: "unknown".into(),
            reason: "no reason given".into()
        }))]
    );
}
