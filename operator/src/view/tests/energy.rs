//! The energy that a registration has used: the reading, and what its miners may have drawn since.

use daylight_planner::model::{Approval, EnergyPeriod, Reading, Registration};
use serde_json::{Value, json};

use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{
    START, class, ended, lease, miner, node, patched, pool, registration, running,
};

/// The time this number of seconds after the start.
fn at(seconds: i64) -> String {
    jiff::Timestamp::from_second(START.0 / 1000 + seconds).unwrap().to_string()
}

/// A registration with a daily limit that was metered until this number of seconds after the start.
fn metered(until: i64, period_start: &str, millijoules: u64) -> Value {
    patched(
        &registration("reg"),
        &json!({
            "spec": {"limits": {"energy": {"kwh": 100, "period": "Day"}}},
            "status": {"usage": {
                "meteredUntil": at(until), "periodStart": period_start,
                "millijoules": millijoules.to_string(), "peakWatts": 400,
            }},
        }),
    )
}

/// The pool's site is in Oslo, and the tests begin there at seven.
const TODAY: &str = "2026-11-23T23:00:00Z";
const YESTERDAY: &str = "2026-11-22T23:00:00Z";

fn with(object: &Value) -> TestCluster {
    let objects = [
        pool("a"),
        class("pow", "IdleOnly"),
        miner("m"),
        node("n0", "a"),
        object.clone(),
        running(&lease("m", "n0", 0), "n0"),
    ];
    TestCluster::with(&objects)
}

fn seen(cluster: &TestCluster) -> Registration {
    cluster.registration("team/reg").unwrap()
}

#[test]
fn a_lease_that_ends_after_a_reading_is_reckoned_until_the_next() {
    let mut cluster = with(&metered(0, TODAY, 5_000));
    assert_eq!(seen(&cluster).usage.unwrap().millijoules, 5_000);
    assert_eq!(seen(&cluster).reading, Reading::Counts);
    cluster.wait(10);
    cluster.apply(&metered(10, TODAY, 9_000));
    cluster.wait(20);
    cluster.delete(&running(&lease("m", "n0", 0), "n0"));
    // 20 s of a fifth more than the 400 W that were measured, which is more than the 300 W declared.
    assert_eq!(seen(&cluster).usage.unwrap().millijoules, 9_000 + 9_600_000);
    cluster.apply(&metered(25, TODAY, 10_000));
    assert_eq!(seen(&cluster).usage.unwrap().millijoules, 10_000 + 2_400_000);
    cluster.apply(&metered(30, TODAY, 11_000));
    assert_eq!(seen(&cluster).usage.unwrap().millijoules, 11_000);
}

#[test]
fn a_lease_that_had_ended_when_the_process_began_counts_as_far_as_it_is_known() {
    let earlier = json!({"metadata": {"creationTimestamp": at(-30)}});
    let lease = patched(&running(&lease("m", "n0", 0), "n0"), &earlier);
    let objects = [
        pool("a"),
        class("pow", "IdleOnly"),
        node("n0", "a"),
        metered(-60, TODAY, 5_000),
        ended(&lease, "Succeeded"),
    ];
    let cluster = TestCluster::with(&objects);
    let seen = seen(&cluster);
    // 30 s of a fifth more than the 400 W that were measured: its end before now is not proved.
    assert_eq!(seen.usage.unwrap().millijoules, 5_000 + 14_400_000);
    assert_eq!(seen.reading, Reading::Partial);
}

#[test]
fn an_old_reading_holds_up_nothing_where_only_power_is_limited() {
    let limits = json!({"spec": {"limits": {"energy": null, "watts": 10_000}}});
    let registration = patched(&metered(-60, TODAY, 5_000), &limits);
    let cluster = TestCluster::with(&[pool("a"), class("pow", "IdleOnly"), registration]);
    assert_eq!(seen(&cluster).reading, Reading::Counts);
}

#[test]
fn a_new_period_begins_at_the_sites_midnight_with_nothing_used() {
    let mut cluster = with(&metered(0, TODAY, 7_000));
    // 17 hours later it is midnight in Oslo.
    cluster.wait(17 * 3600 - 1);
    assert_eq!(seen(&cluster).usage.unwrap().millijoules, 7_000);
    assert_eq!(cluster.view.wake_at().map(|at| at.0), Some(cluster.now.0 + 1_000));
    cluster.wait(1);
    let usage = seen(&cluster).usage.unwrap();
    assert_eq!(usage.millijoules, 0);
    // Everything since the last reading still counts: some of it may belong to the new period.
    assert_eq!(usage.metered_until, START);
    let resets = seen(&cluster).energy_resets.unwrap();
    assert_eq!(resets.0, cluster.now.0 + 24 * 3_600_000);
}

#[test]
fn a_reading_of_yesterday_that_was_written_today_counts_from_midnight() {
    let cluster = with(&metered(-7 * 3600 + 30, YESTERDAY, 7_000));
    let usage = seen(&cluster).usage.unwrap();
    assert_eq!((usage.millijoules, usage.metered_until.0), (0, START.0 - 7 * 3_600_000));
}

#[test]
fn a_reading_from_what_is_not_yet_is_none() {
    let later = with(&metered(90, TODAY, 5));
    assert_eq!(seen(&later).usage, None);
    let tomorrow = with(&metered(0, "2026-11-24T23:00:00Z", 5));
    assert_eq!(seen(&tomorrow).usage, None);
    // A clock that is slightly ahead does not count as the future.
    let ahead = with(&metered(30, TODAY, 5));
    assert!(seen(&ahead).usage.is_some());
}

/// An approved registration of one owner, with an energy limit over all of the owner's.
fn owned(name: &str, status: &Value) -> Value {
    patched(
        &registration(name),
        &json!({
            "spec": {
                "operator": {"ownerPseudonym": "a1b2c3d4e5f60718"},
                "ownerLimits": {"energy": {"kwh": 100, "period": "Day"}},
            },
            "status": status,
        }),
    )
}

#[test]
fn what_a_deleted_registration_used_counts_for_its_owner_until_the_period_is_over() {
    let used = |millijoules: u64| {
        json!({"usage": {
            "meteredUntil": at(0), "periodStart": TODAY, "millijoules": millijoules.to_string(),
        }})
    };
    let objects = [
        pool("a"),
        class("pow", "IdleOnly"),
        miner("m"),
        node("n0", "a"),
        owned("reg", &used(7_000)),
        owned("other", &used(5_000)),
    ];
    let mut cluster = TestCluster::with(&objects);
    let deleted = |cluster: &TestCluster| cluster.registration("team/reg").unwrap().deleted_mj;
    assert_eq!(deleted(&cluster), 0);
    cluster.delete(&owned("other", &used(5_000)));
    assert_eq!(deleted(&cluster), 5_000);
    // The meter counts by name, so the first reading of one that is filed again has the use of both.
    cluster.apply(&owned("other", &json!({})));
    assert_eq!(deleted(&cluster), 5_000);
    cluster.apply(&owned("other", &used(5_500)));
    cluster.apply(&owned("reg", &used(7_001)));
    assert_eq!(deleted(&cluster), 0);
    cluster.delete(&owned("other", &used(5_500)));
    assert_eq!(deleted(&cluster), 5_500);
    cluster.wait(17 * 3600);
    assert_eq!(deleted(&cluster), 0);
}

/// What the auditor counted is known to a process that saw none of the deletions.
#[test]
fn what_deleted_registrations_used_counts_after_a_restart() {
    let used = |millijoules: u64, deleted: u64| {
        json!({"usage": {
            "meteredUntil": at(0), "periodStart": TODAY, "periodEnd": "2026-11-24T23:00:00Z",
            "millijoules": millijoules.to_string(), "deletedMillijoules": deleted.to_string(),
        }})
    };
    let other = owned("other", &used(5_000, 900));
    let objects = [
        pool("a"),
        class("pow", "IdleOnly"),
        node("n0", "a"),
        owned("reg", &used(7_000, 900)),
        other.clone(),
    ];
    let mut cluster = TestCluster::with(&objects);
    let deleted = |cluster: &TestCluster| cluster.registration("team/reg").unwrap().deleted_mj;
    assert_eq!(deleted(&cluster), 900);
    // The auditor has not counted this deletion yet.
    cluster.delete(&other);
    assert_eq!(deleted(&cluster), 5_900);
    cluster.apply(&owned("reg", &used(7_001, 900)));
    assert_eq!(deleted(&cluster), 5_900);
    // Now it has, and knows of energy that came later.
    cluster.apply(&owned("reg", &used(7_001, 5_930)));
    assert_eq!(deleted(&cluster), 5_930);
    cluster.apply(&owned("other", &used(5_030, 900)));
    cluster.apply(&owned("reg", &used(7_001, 900)));
    assert_eq!(deleted(&cluster), 900);
    cluster.wait(17 * 3600);
    assert_eq!(deleted(&cluster), 0);
}

/// An owner cannot get rid of use by giving a registration another owner.
#[test]
fn what_a_registration_used_counts_for_the_owner_that_it_had() {
    let used = json!({"usage": {
        "meteredUntil": at(0), "periodStart": TODAY, "millijoules": "5000",
    }});
    let other = owned("other", &used);
    let objects = [pool("a"), class("pow", "IdleOnly"), owned("reg", &json!({})), other.clone()];
    let mut cluster = TestCluster::with(&objects);
    let owner = json!({"spec": {"operator": {"ownerPseudonym": "ffffffffffffffff"}}});
    cluster.apply(&patched(&other, &owner));
    assert_eq!(cluster.registration("team/reg").unwrap().deleted_mj, 5_000);
    cluster.apply(&other);
    assert_eq!(cluster.registration("team/reg").unwrap().deleted_mj, 0);
}

/// An owner may have limits of different periods: each counts what all registrations used in it.
#[test]
fn an_owners_limits_of_different_periods_are_each_read_over_all_its_registrations() {
    let approved = json!({"state": "Approved", "by": "eve", "at": at(0)});
    let usage = |millijoules: u64, others: &Value| {
        json!({"approval": approved, "usage": {
            "meteredUntil": at(0), "periodStart": TODAY, "periodEnd": "2026-11-24T23:00:00Z",
            "millijoules": millijoules.to_string(), "otherPeriods": others,
        }})
    };
    let year = |millijoules: u64, deleted: u64| {
        json!([{
            "period": "Year", "periodStart": "2025-12-31T23:00:00Z",
            "periodEnd": "2026-12-31T23:00:00Z", "millijoules": millijoules.to_string(),
            "deletedMillijoules": deleted.to_string(),
        }])
    };
    let yearly = patched(
        &owned("yearly", &json!({"approval": approved})),
        &json!({"spec": {"ownerLimits": {"energy": {"kwh": 900, "period": "Year"}}}}),
    );
    let objects = [
        pool("a"),
        class("pow", "IdleOnly"),
        miner("m"),
        node("n0", "a"),
        owned("reg", &usage(7_000, &year(70_000, 500))),
        owned("other", &usage(5_000, &year(50_000, 500))),
        yearly.clone(),
        running(&lease("m", "n0", 0), "n0"),
    ];
    let mut cluster = TestCluster::with(&objects);
    let in_year = |cluster: &TestCluster| {
        let seen = seen(cluster);
        let used = seen.usage_in(EnergyPeriod::Year).map(|usage| usage.millijoules);
        (used, seen.deleted_in(EnergyPeriod::Year))
    };
    assert_eq!(seen(&cluster).energy_period, EnergyPeriod::Day);
    assert_eq!((seen(&cluster).usage.unwrap().millijoules, seen(&cluster).deleted_mj), (7_000, 0));
    assert_eq!(in_year(&cluster), (Some(70_000), 500));
    // One that is not approved sets no limit.
    let pending = json!({"status": {"approval": null}});
    cluster.apply(&patched(&yearly, &pending));
    assert_eq!(in_year(&cluster), (None, 0));
    cluster.apply(&yearly);
    // What was deleted counts in both periods, the day's until midnight.
    cluster.delete(&owned("other", &usage(5_000, &year(50_000, 500))));
    assert_eq!((seen(&cluster).deleted_mj, in_year(&cluster).1), (5_000, 50_500));
    // A lease that ends after the reading counts in both.
    cluster.wait(10);
    cluster.delete(&running(&lease("m", "n0", 0), "n0"));
    let drawn = 300 * 10_000;
    assert_eq!(seen(&cluster).usage.unwrap().millijoules, 7_000 + drawn);
    assert_eq!(in_year(&cluster).0, Some(70_000 + drawn));
    cluster.wait(17 * 3600);
    assert_eq!(seen(&cluster).usage.unwrap().millijoules, drawn);
    assert_eq!((seen(&cluster).deleted_mj, in_year(&cluster).1), (0, 50_500));
    // Without a reading in the year, nothing is known of it.
    cluster.apply(&owned("reg", &usage(7_000, &json!([]))));
    assert_eq!(in_year(&cluster).0, None);
}

/// The edit of a period voids the approval. Until another one, the use of the approved period counts.
#[test]
fn an_edit_that_is_not_approved_ends_no_period() {
    let month = json!({
        "spec": {"limits": {"energy": {"kwh": 100, "period": "Month"}}},
        "status": {"usage": {"periodStart": "2026-10-31T23:00:00Z", "periodEnd": "2026-11-30T23:00:00Z"}},
    });
    let metered = patched(&metered(0, TODAY, 7_000), &month);
    let mut cluster = with(&metered);
    assert_eq!(seen(&cluster).approval, Approval::Pending);
    for period in ["Day", "Year", "Month"] {
        let edit = json!({"spec": {"limits": {"energy": {"kwh": 100, "period": period}}}});
        cluster.apply(&patched(&metered, &edit));
        assert_eq!(seen(&cluster).usage.unwrap().millijoules, 7_000, "{period}");
        let resets = seen(&cluster).energy_resets.unwrap();
        assert_eq!(resets.to_string(), "2026-11-30T23:00:00Z", "{period}");
    }
}

#[test]
fn an_owners_limit_requires_readings_of_all_its_approved_registrations() {
    let approved = json!({"approval": {"state": "Approved", "by": "eve", "at": at(0)}});
    let plain = patched(
        &registration("reg"),
        &json!({"spec": {"operator": {"ownerPseudonym": "a1b2c3d4e5f60718"}}}),
    );
    let mut cluster = TestCluster::with(&[pool("a"), class("pow", "IdleOnly"), plain]);
    assert_eq!(seen(&cluster).energy_resets, None);
    cluster.apply(&owned("other", &json!({})));
    assert_eq!(seen(&cluster).energy_resets, None, "the other is not approved");
    cluster.apply(&owned("other", &approved));
    assert!(seen(&cluster).energy_resets.is_some());
}
