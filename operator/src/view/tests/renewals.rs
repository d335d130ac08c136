//! Which registration a miner works under as one ends and the next begins.

use serde_json::{Value, json};

use crate::view::tests::Site;
use crate::view::tests::mirror::approved;
use crate::view::tests::site::{START, class, miner, patched, pool, registration};

/// So many seconds after the start.
fn at(seconds: i64) -> String {
    jiff::Timestamp::from_second(START.0 / 1000 + seconds).unwrap().to_string()
}

fn old() -> Value {
    approved("reg", &json!({"spec": {"validUntil": at(100)}}))
}

fn new(from: i64) -> Value {
    approved("next", &json!({"spec": {"renews": "reg", "validFrom": at(from)}}))
}

fn with(registrations: &[Value]) -> Site {
    let mut objects = vec![pool("a"), class("pow", "IdleOnly"), miner("m")];
    objects.extend_from_slice(registrations);
    Site::with(&objects)
}

fn works_under(site: &Site) -> String {
    site.miner("team/m").unwrap().registration.to_string()
}

#[test]
fn a_miner_goes_over_when_the_renewal_begins() {
    let mut site = with(&[old(), new(60)]);
    assert_eq!(works_under(&site), "team/reg");
    let begin = site.now.0 + 60_000;
    assert_eq!(site.view.wake_at().map(|at| at.0), Some(begin));
    site.wait(59);
    assert_eq!(works_under(&site), "team/reg");
    site.wait(1);
    assert_eq!(works_under(&site), "team/next");
    // Without the first one, too.
    site.delete(&old());
    assert_eq!(works_under(&site), "team/next");
}

#[test]
fn in_a_gap_the_miner_waits_for_the_renewal() {
    let mut site = with(&[old(), new(150)]);
    site.wait(99);
    assert_eq!(works_under(&site), "team/reg");
    site.wait(1);
    assert_eq!(works_under(&site), "team/next");
}

#[test]
fn only_an_approved_renewal_counts_and_a_chain_is_followed() {
    let pending = patched(&new(0), &json!({"status": null}));
    let mut site = with(&[old(), pending]);
    site.wait(1);
    assert_eq!(works_under(&site), "team/reg");
    site.apply(&new(0));
    assert_eq!(works_under(&site), "team/next");
    site.apply(&approved("last", &json!({"spec": {"renews": "next"}})));
    assert_eq!(works_under(&site), "team/last");
    // A circle ends somewhere.
    site.apply(&approved("reg", &json!({"spec": {"renews": "last"}})));
    assert!(site.miner("team/m").is_some());
}

#[test]
fn a_renewal_of_something_else_is_no_renewal() {
    for (spec, what) in [
        (json!({"renews": "next"}), "the registration itself"),
        (json!({"renews": "reg", "site": "bergen"}), "site"),
        (json!({"renews": "reg", "operator": {"ownerPseudonym": "ab".repeat(32)}}), "owner"),
    ] {
        let site = with(&[old(), patched(&registration("next"), &json!({"spec": spec}))]);
        let next = site.registration("team/next").unwrap();
        assert!(next.problem.unwrap().contains(what), "{what}");
        assert_eq!(works_under(&site), "team/reg");
    }
}
