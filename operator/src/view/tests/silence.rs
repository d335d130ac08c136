//! Silent watches, and clocks that are set or differ.

use std::time::Duration;

use daylight_base::Timestamp;
use daylight_cluster::{Change, Event, Kind, WatchFailure};
use serde_json::{Value, json};

use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{
    START, ai_job, ended, lease, miner, node, patched, pod, pool, registration, running,
};
use crate::view::{LeftoverReason, View};

const HOUR: i64 = 3600;

fn slim<T: serde::de::DeserializeOwned>(object: &Value) -> T {
    serde_json::from_str(&object.to_string()).unwrap()
}

/// The pod, created by a server whose clock differs by this much.
fn created_at(pod: &Value, seconds: i64) -> Value {
    let at = Timestamp(START.0 + seconds * 1000).to_string();
    patched(pod, &json!({"metadata": {"creationTimestamp": at}}))
}

/// The pod, for which kube-scheduler found no room.
fn unschedulable(pod: &Value) -> Value {
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "lastTransitionTime": "2026-11-24T06:00:00Z",
    });
    patched(pod, &json!({"status": {"conditions": [condition]}}))
}

fn late(cluster: &TestCluster) -> usize {
    let leftovers = cluster.view.leftovers().into_iter();
    leftovers.filter(|one| one.reason == LeftoverReason::Late).count()
}

#[test]
fn the_picture_is_current_without_a_kind_that_is_optional() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    cluster.apply_event(Event::Workload(Change::Failed(WatchFailure::Missing)));
    assert_eq!(cluster.view.stale(), []);
    cluster.apply_event(Event::Pod(Change::Failed(WatchFailure::Silent)));
    assert_eq!(cluster.view.stale(), [Kind::Pod]);
}

#[test]
fn no_pod_is_judged_late_while_the_watch_is_silent() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let granted = unschedulable(&lease("m", "n1", 0));
    cluster.apply(&granted);
    cluster.silent = true;
    cluster.wait(HOUR);
    assert_eq!(late(&cluster), 0);
    assert!(cluster.node("n1").unwrap().closed_to.is_empty());
    // What the watch has not reported is that the pod has run for an hour.
    cluster.apply(&running(&granted, "n1"));
    cluster.silent = false;
    cluster.wait(HOUR);
    assert_eq!(late(&cluster), 0);
    // The watch proves that another one was not bound, but not up to the present.
    cluster.apply(&unschedulable(&lease("m", "n1", 1)));
    cluster.silent = true;
    let too_early = cluster.instant + Duration::from_secs(59);
    cluster.wait(61);
    cluster.apply_event(Event::Pod(Change::Current(too_early)));
    assert_eq!(late(&cluster), 0);
    cluster.apply_event(Event::Pod(Change::Current(cluster.instant)));
    assert_eq!(late(&cluster), 1);
}

#[test]
fn a_pod_that_the_server_confirmed_is_not_forgotten() {
    let key = "team/m-n1-0-0";
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let granted = patched(&lease("m", "n1", 0), &json!({"metadata": {"resourceVersion": "300"}}));
    let mut out = Vec::new();
    cluster.view.assume_pod(slim(&granted), cluster.now, &mut out);
    cluster.silent = true;
    cluster.wait(HOUR);
    assert!(cluster.pod(key).is_some());
    // Nor is it forgotten because the watch works again, but has not reached it yet.
    cluster.apply_event(Event::Pod(Change::Progress(299)));
    assert!(cluster.pod(key).is_some());
    // It was deleted meanwhile.
    let gone = patched(&granted, &json!({"metadata": {"resourceVersion": "310"}}));
    cluster.delete(&gone);
    assert!(cluster.pod(key).is_none());
}

/// One API server answers the writes. Another, which is cut off from etcd, answers the watches: its
/// bookmarks state that nothing is missing.
#[test]
fn a_watch_that_lacks_what_another_server_confirmed_is_not_current() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), miner("m")]);
    let granted = patched(&lease("m", "n1", 0), &json!({"metadata": {"resourceVersion": "300"}}));
    let written = patched(&miner("m"), &json!({"metadata": {"resourceVersion": "301"}}));
    let mut out = Vec::new();
    cluster.view.assume_pod(slim(&granted), cluster.now, &mut out);
    cluster.view.assume_miner(slim(&written), cluster.now, &mut out);
    let current = |cluster: &mut TestCluster| {
        cluster.apply_event(Event::Pod(Change::Current(cluster.instant)));
        cluster.apply_event(Event::Miner(Change::Current(cluster.instant)));
        cluster.view.stale()
    };
    // A healthy server may be behind for a moment.
    cluster.wait(4);
    assert_eq!(current(&mut cluster), []);
    cluster.wait(1);
    assert_eq!(current(&mut cluster), [Kind::Pod, Kind::Miner]);
    // A clock that is set changes nothing, nor does what is older than the write.
    cluster.set_clock(HOUR);
    cluster.apply_event(Event::Pod(Change::Progress(299)));
    assert_eq!(cluster.view.stale(), [Kind::Pod, Kind::Miner]);
    cluster.apply_event(Event::Pod(Change::Applied(Box::new(slim(&granted)))));
    assert_eq!(cluster.view.stale(), [Kind::Miner]);
    cluster.apply_event(Event::Miner(Change::Progress(302)));
    assert_eq!(cluster.view.stale(), []);
}

#[test]
fn a_server_whose_clock_differs_makes_no_pod_late() {
    for skew in [-HOUR, -61, 61, HOUR] {
        let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
        cluster.wait(10);
        let granted = created_at(&unschedulable(&lease("m", "n1", 0)), skew);
        cluster.apply(&granted);
        // Its age is by this machine's clock, for the planner as well.
        assert_eq!(cluster.pod("team/m-n1-0-0").unwrap().created, cluster.now, "{skew}");
        cluster.wait(59);
        assert_eq!(late(&cluster), 0, "{skew}");
        cluster.wait(1);
        assert_eq!(late(&cluster), 1, "{skew}");
        // Bound after all: its node has another minute to prepare it.
        cluster.apply(&patched(&running(&granted, "n1"), &json!({"status": {"phase": "Pending"}})));
        assert_eq!(late(&cluster), 0, "{skew}");
    }
}

#[test]
fn a_pod_from_the_future_is_new_at_the_start() {
    let cluster = TestCluster::with(&[pool("a"), node("n1", "a"), created_at(&pod("p", 1), HOUR)]);
    assert_eq!(cluster.pod("ml/p").unwrap().created, START);
    let cluster = TestCluster::with(&[pool("a"), node("n1", "a"), created_at(&pod("p", 1), -HOUR)]);
    assert_eq!(cluster.pod("ml/p").unwrap().created, Timestamp(START.0 - HOUR * 1000));
}

/// What is left of a time, in seconds, by the clock as it is set.
fn left(cluster: &TestCluster, at: Timestamp) -> i64 {
    (at.0 - cluster.now.0) / 1000
}

#[test]
fn a_clock_that_is_set_moves_what_is_remembered() {
    for step in [-HOUR, HOUR] {
        let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), node("n2", "a")]);
        // The clock is wrong while all of this happens, and is corrected then.
        cluster.set_clock(step);
        cluster.wait(1);
        let ai = running(&pod("p", 1), "n1");
        cluster.apply(&ai);
        cluster.apply(&ended(&ai, "Succeeded"));
        let failing = running(&lease("m", "n1", 0), "n1");
        cluster.apply(&failing);
        cluster.apply(&ended(&failing, "Failed"));
        cluster.apply(&patched(
            &node("n2", "a"),
            &json!({"status": {"allocatable": {"nvidia.com/gpu": "7"}}}),
        ));
        cluster.apply(&unschedulable(&lease("m", "n1", 1)));
        let read = |cluster: &TestCluster| {
            let (one, two) = (cluster.node("n1").unwrap(), cluster.node("n2").unwrap());
            let slots = one.closed_to.iter().map(|(_, at)| left(cluster, *at));
            (
                left(cluster, one.ai_released_at.unwrap()),
                slots.collect::<Vec<_>>(),
                left(cluster, two.shrunk_at.unwrap()),
                left(cluster, cluster.pod("team/m-n1-1-0").unwrap().created),
            )
        };
        assert_eq!(read(&cluster), (0, vec![10], 0, 0));
        cluster.wait(4);
        cluster.set_clock(-step);
        assert_eq!(read(&cluster), (-4, vec![6], -4, -4), "{step}");
        cluster.wait(55);
        assert_eq!(late(&cluster), 0, "{step}");
        cluster.wait(1);
        assert_eq!(late(&cluster), 1, "{step}");
    }
}

#[test]
fn a_clock_that_is_set_changes_nothing_for_longer() {
    for step in [-HOUR, HOUR] {
        let windows = json!([{"name": "w", "schedule": "30 6 * * *", "duration": "45m"}]);
        let windowed = patched(&pool("a"), &json!({"spec": {"mining": {"windows": windows}}}));
        let renewal = patched(
            &registration("next"),
            &json!({"spec": {"renews": "reg", "validFrom": "2026-11-24T06:20:00Z"}}),
        );
        let limited = patched(
            &registration("reg"),
            &json!({"spec": {"limits": {"energy": {"kwh": 10, "period": "Day"}}}}),
        );
        let job = patched(
            &ai_job("train", 1),
            &json!({"status": {"state": "Starting", "releasedAt": "2026-11-24T06:00:00Z"}}),
        );
        let waiting = pod("p", 1);
        let objects = [
            windowed,
            node("n1", "a"),
            limited,
            renewal,
            miner("m"),
            job,
            waiting,
            lease("m", "n1", 0),
        ];
        let mut cluster = TestCluster::with(&objects);
        let before = cluster.view.snapshot();
        cluster.set_clock(step);
        assert_ne!(cluster.view.snapshot(), before, "{step}");
        cluster.set_clock(-step);
        assert_eq!(cluster.view.snapshot(), before, "{step}");
    }
}

#[test]
fn a_finished_job_is_kept_as_long_as_it_says_whatever_the_clock_shows() {
    for step in [-HOUR, HOUR] {
        let mut cluster = TestCluster::with(&[pool("a"), ai_job("train", 1)]);
        // The status has the time of another machine.
        let ended = json!({"status": {"state": "Succeeded", "finishedAt": "2026-11-24T05:00:00Z"}});
        cluster.apply(&patched(&ai_job("train", 1), &ended));
        let age =
            |cluster: &TestCluster| left(cluster, cluster.view.finished_since("ml/train").unwrap());
        assert_eq!(age(&cluster), 0);
        cluster.wait(7);
        cluster.set_clock(step);
        assert_eq!(age(&cluster), -7, "{step}");
    }
    // After a restart there is nothing but what is written.
    let ended = json!({"status": {"state": "Failed", "finishedAt": "2026-11-24T05:59:00Z"}});
    let cluster = TestCluster::with(&[pool("a"), patched(&ai_job("train", 1), &ended)]);
    assert_eq!(left(&cluster, cluster.view.finished_since("ml/train").unwrap()), -60);
}

#[test]
fn a_clock_that_is_slewed_moves_nothing() {
    let mut view = View::new(START);
    let mut out = Vec::new();
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), pod("p", 1)]);
    cluster.now = cluster.now.plus_millis(400);
    view.tick(cluster.now, cluster.instant, &mut out);
    assert_eq!(cluster.set_clock(0), []);
    assert_eq!(cluster.pod("ml/p").unwrap().created, START);
}
