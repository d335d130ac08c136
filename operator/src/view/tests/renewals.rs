//! The registration under which a miner works when one ends and the next begins.

use serde_json::{Value, json};

use crate::view::tests::TestCluster;
use crate::view::tests::mirror::approved;
use crate::view::tests::test_cluster::{START, class, miner, patched, pool, registration};

/// The time this number of seconds after the start.
fn at(seconds: i64) -> String {
    jiff::Timestamp::from_second(START.0 / 1000 + seconds).unwrap().to_string()
}

fn old() -> Value {
    approved("reg", &json!({"spec": {"validUntil": at(100)}}))
}

fn new(from: i64) -> Value {
    approved("next", &json!({"spec": {"renews": "reg", "validFrom": at(from)}}))
}

fn with(registrations: &[Value]) -> TestCluster {
    let mut objects = vec![pool("a"), class("pow", "IdleOnly"), miner("m")];
    objects.extend_from_slice(registrations);
    TestCluster::with(&objects)
}

fn works_under(cluster: &TestCluster) -> String {
    cluster.miner("team/m").unwrap().registration.to_string()
}

#[test]
fn a_miner_goes_over_when_the_renewal_begins() {
    let mut cluster = with(&[old(), new(60)]);
    assert_eq!(works_under(&cluster), "team/reg");
    let begin = cluster.now.0 + 60_000;
    assert_eq!(cluster.view.wake_at().map(|at| at.0), Some(begin));
    cluster.wait(59);
    assert_eq!(works_under(&cluster), "team/reg");
    cluster.wait(1);
    assert_eq!(works_under(&cluster), "team/next");
    // Without the first one, too.
    cluster.delete(&old());
    assert_eq!(works_under(&cluster), "team/next");
}

#[test]
fn in_a_gap_the_miner_waits_for_the_renewal() {
    let mut cluster = with(&[old(), new(150)]);
    cluster.wait(99);
    assert_eq!(works_under(&cluster), "team/reg");
    cluster.wait(1);
    assert_eq!(works_under(&cluster), "team/next");
}

#[test]
fn only_an_approved_renewal_counts_and_a_chain_is_followed() {
    let pending = patched(&new(0), &json!({"status": null}));
    let mut cluster = with(&[old(), pending]);
    cluster.wait(1);
    assert_eq!(works_under(&cluster), "team/reg");
    cluster.apply(&new(0));
    assert_eq!(works_under(&cluster), "team/next");
    cluster.apply(&approved("last", &json!({"spec": {"renews": "next"}})));
    assert_eq!(works_under(&cluster), "team/last");
    // A circle of renewals ends, too.
    cluster.apply(&approved("reg", &json!({"spec": {"renews": "last"}})));
    assert!(cluster.miner("team/m").is_some());
}

#[test]
fn a_renewal_of_something_else_is_no_renewal() {
    for (spec, what) in [
        (json!({"renews": "next"}), "the registration itself"),
        (json!({"renews": "reg", "site": "bergen"}), "site"),
        (json!({"renews": "reg", "operator": {"ownerPseudonym": "ab".repeat(32)}}), "owner"),
    ] {
        let cluster = with(&[old(), patched(&registration("next"), &json!({"spec": spec}))]);
        let next = cluster.registration("team/next").unwrap();
        assert!(next.problem.unwrap().contains(what), "{what}");
        assert_eq!(works_under(&cluster), "team/reg");
    }
}
