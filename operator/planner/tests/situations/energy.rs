//! Kilowatt-hours: mining stops before it could pass the limit.

use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

fn metered(site: &mut Site, used: u64) {
    let metered_until = site.now;
    site.edit_registration("acme/power", |r| {
        r.usage = Some(Usage { metered_until, millijoules: used, peak_watts: None });
    });
}

#[test]
fn a_kwh_limit_without_a_meter_holds_mining() {
    let mut site = Site::of(1, 4, 4);
    site.edit_registration("acme/power", |r| r.limits.energy_mj = Some(watt_hours(10_000)));
    assert_snapshot!(site.act_explained(), @"
    registration acme/power: MeterUnavailable. Registration acme/power has an energy limit, but no meter reports its use. Mining waits for the auditor.
    miner acme/hash (0 of 4): MeterUnavailable. Registration acme/power has an energy limit, but no meter reports its use. Mining waits for the auditor.
    ");
}

#[test]
fn a_meter_that_reports_lets_mining_start() {
    let mut site = Site::of(1, 4, 4);
    site.edit_registration("acme/power", |r| r.limits.energy_mj = Some(watt_hours(10_000)));
    metered(&mut site, watt_hours(2_000));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days
    look again at 12:05:00.001
    ");
}

#[test]
fn a_stale_meter_lets_no_more_miners_start() {
    let mut site = Site::of(1, 4, 2);
    site.edit_registration("acme/power", |r| r.limits.energy_mj = Some(watt_hours(10_000)));
    metered(&mut site, watt_hours(2_000));
    site.settle();
    site.wait(minutes(6));
    site.edit_miner("acme/hash", |miner| miner.replicas = 4);
    assert_snapshot!(site.act_explained(), @"
    registration acme/power: MeterStale. The last meter reading of registration acme/power dates from 2026-07-01T12:00:00Z; no more miners start until a newer one arrives.
    miner acme/hash (2 of 4): MeterStale. The last meter reading of registration acme/power dates from 2026-07-01T12:00:00Z; no more miners start until a newer one arrives.
    ");
}

#[test]
fn mining_stops_early_enough_that_its_drain_cannot_pass_the_limit() {
    let mut site = Site::of(1, 4, 4);
    site.edit_registration("acme/power", |r| r.limits.energy_mj = Some(watt_hours(1_000)));
    metered(&mut site, 0);
    site.settle();
    // 4 x 300 W use 20 Wh a minute; 10 Wh last 30 seconds, of which 10 are for the drain and 2
    // for its start.
    site.wait(minutes(30));
    metered(&mut site, watt_hours(990));
    assert_snapshot!(site.act_explained(), @"look again at 12:30:18");
    site.wait(seconds(18));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: EnergyBudget
    evict acme/hash-node-1-1 within 10s: EnergyBudget
    evict acme/hash-node-1-2 within 10s: EnergyBudget
    evict acme/hash-node-1-3 within 10s: EnergyBudget
    registration acme/power: EnergyLimit. Registration acme/power would exceed its energy limit, or its owner's, before the next meter reading.
    miner acme/hash (0 of 4, 4 stopping): EnergyLimit. Registration acme/power would exceed its energy limit, or its owner's, before the next meter reading.
    ");
}

#[test]
fn few_remaining_kwh_allow_few_miners() {
    // 110 Wh suffice for 649 W over the 10 minutes of the margin and the drain.
    let mut site = Site::of(1, 4, 4);
    site.edit_registration("acme/power", |r| r.limits.energy_mj = Some(watt_hours(1_000)));
    metered(&mut site, watt_hours(890));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days
    miner acme/hash (2 of 4): EnergyLimit. Registration acme/power would exceed its energy limit, or its owner's, before the next meter reading.
    look again at 12:05:00.001
    ");
}

#[test]
fn measured_watts_count_where_they_exceed_the_declared() {
    // 130 Wh suffice for 767 W over the margin and the drain: for one replica of 600 W, since it may draw a
    // fifth more than was measured.
    let mut site = Site::of(1, 4, 4);
    let metered_until = site.now;
    site.edit_registration("acme/power", |r| {
        r.limits.energy_mj = Some(watt_hours(1_000));
        r.usage =
            Some(Usage { metered_until, millijoules: watt_hours(870), peak_watts: Some(600) });
    });
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slot 0, stops within 10s, ends in 183 days
    miner acme/hash (1 of 4): EnergyLimit. Registration acme/power would exceed its energy limit, or its owner's, before the next meter reading.
    look again at 12:05:00.001
    ");
}

#[test]
fn an_owners_kwh_hold_over_all_its_registrations() {
    let metered_until = NOON;
    let owned = |r: &mut Registration| {
        r.owner = Some("owner-7f3a".into());
        r.owner_limits.energy_mj = Some(watt_hours(1_000));
        r.usage = Some(Usage { metered_until, millijoules: watt_hours(445), peak_watts: None });
    };
    let mut site =
        Site::of(1, 4, 2).with(registration("zeta/power").but(owned)).with(miner("zeta/hash", 2));
    site.edit_registration("acme/power", owned);
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slot 0, stops within 10s, ends in 183 days
    grant zeta/hash on node-1 (h100) slot 1, stops within 10s, ends in 183 days
    miner acme/hash (1 of 2): EnergyLimit. Registration acme/power would exceed its energy limit, or its owner's, before the next meter reading.
    miner zeta/hash (1 of 2): EnergyLimit. Registration zeta/power would exceed its energy limit, or its owner's, before the next meter reading.
    look again at 12:05:00.001
    ");
}

#[test]
fn a_reading_that_may_lack_miners_lets_no_more_start() {
    let mut site = Site::of(1, 4, 4);
    site.edit_registration("acme/power", |r| {
        r.limits.energy_mj = Some(watt_hours(10_000));
        r.reading = Reading::Partial;
    });
    metered(&mut site, 0);
    assert!(site.actions().is_empty());
    site.edit_registration("acme/power", |r| r.reading = Reading::Counts);
    assert!(!site.actions().is_empty());
}

#[test]
fn the_first_limit_to_be_reached_is_forecast_and_an_exceeded_one_is_reported() {
    let mut site = Site::of(1, 4, 4);
    site.edit_registration("acme/power", |r| {
        r.limits.energy_mj = Some(watt_hours(10_000));
        r.energy_resets = Some(NEW_YEAR);
    });
    metered(&mut site, watt_hours(4_000));
    site.settle();
    metered(&mut site, watt_hours(4_000));
    let report = |site: &mut Site| site.look().registrations.remove(0);
    // 4 x 300 W take five hours for the 6 kWh that are left.
    let seen = report(&mut site);
    let forecast = seen.forecast.unwrap();
    assert_eq!((forecast.at, forecast.watts), (site.now + minutes(300), 1_200));
    assert_eq!(seen.over, None);
    // Not in the present period.
    let soon = site.now + minutes(299);
    site.edit_registration("acme/power", |r| r.energy_resets = Some(soon));
    assert_eq!(report(&mut site).forecast, None);
    site.edit_registration("acme/power", |r| r.limits.gpus = Some(3));
    assert_eq!(report(&mut site).over.unwrap().code(), "RegistrationGpuLimit");
}

fn owned(r: &mut Registration) {
    r.owner = Some("owner-7f3a".into());
    r.owner_limits.energy_mj = Some(watt_hours(1_000));
}

#[test]
fn a_registration_without_a_reading_holds_up_no_other_of_its_owner() {
    let mut site = Site::of(1, 4, 2);
    site.edit_registration("acme/power", owned);
    metered(&mut site, 0);
    site.settle();
    site.put(registration("zeta/power").but(owned));
    site.put(miner("zeta/hash", 2));
    assert_snapshot!(site.act_explained(), @r"
    registration zeta/power: MeterUnavailable. Registration zeta/power has an energy limit, but no meter reports its use. Mining waits for the auditor.
    miner zeta/hash (0 of 2): MeterUnavailable. Registration zeta/power has an energy limit, but no meter reports its use. Mining waits for the auditor.
    look again at 12:05:00.001
    ");
}

#[test]
fn what_ended_or_deleted_registrations_used_counts_for_their_owner() {
    let mut site = Site::of(1, 4, 2);
    site.edit_registration("acme/power", owned);
    metered(&mut site, 0);
    site.settle();
    for (used, held) in [(watt_hours(1_000), 0), (0, 2)] {
        site.edit_registration("acme/power", |r| r.deleted_mj = used);
        site.settle();
        assert_eq!(site.look().miners[0].held, held);
    }
    site.put(registration("zeta/power").but(owned).but(|r| {
        r.valid_until = NOON;
        r.usage =
            Some(Usage { metered_until: NOON, millijoules: watt_hours(1_000), peak_watts: None });
    }));
    site.settle();
    assert_eq!(site.look().miners[0].held, 0);
}

/// Each limit of an owner is compared with what all its registrations used in its own period.
#[test]
fn an_owners_limits_of_different_periods_each_hold_over_all_its_registrations() {
    let of = |period, limit, usage: u64, other: (EnergyPeriod, u64)| {
        move |r: &mut Registration| {
            r.owner = Some("owner-7f3a".into());
            r.owner_limits.energy_mj = limit;
            r.energy_period = period;
            r.usage = Some(Usage {
                metered_until: NOON,
                millijoules: watt_hours(usage),
                peak_watts: None,
            });
            r.other_periods = vec![PeriodUse {
                period: other.0,
                millijoules: watt_hours(other.1),
                deleted_mj: 0,
                resets: NEW_YEAR,
            }];
        }
    };
    let (day, year) = (EnergyPeriod::Day, EnergyPeriod::Year);
    let held = |used_today, used_this_year| {
        let mut site = Site::of(1, 4, 2)
            .with(registration("zeta/power").but(of(day, None, used_today, (year, used_this_year))))
            .with(miner("zeta/hash", 2));
        let limit = Some(watt_hours(10_000));
        site.edit_registration("acme/power", of(year, limit, 1_000, (day, 100)));
        site.put(registration("acme/daily").but(of(day, Some(watt_hours(2_000)), 0, (year, 0))));
        site.settle();
        site.look().miners.iter().map(|miner| miner.held).sum::<u32>()
    };
    // More than the limit of a day in the year, and more than the other has used today.
    assert_eq!(held(500, 5_000), 4);
    assert_eq!(held(1_900, 5_000), 0, "the day's limit");
    assert_eq!(held(0, 9_000), 0, "the year's limit");
}

/// Use that no meter reports in the period of a limit is not taken for none.
#[test]
fn an_owners_limit_stops_what_is_not_metered_in_its_period() {
    let mut site = Site::of(1, 4, 2);
    site.edit_registration("acme/power", owned);
    metered(&mut site, 0);
    site.settle();
    assert_eq!(site.look().miners[0].held, 2);
    site.put(registration("zeta/power").but(owned).but(|r| r.energy_period = EnergyPeriod::Year));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: EnergyBudget
    evict acme/hash-node-1-1 within 10s: EnergyBudget
    registration acme/power: MeterUnavailable. Registration acme/power has an energy limit, but no meter reports its use. Mining waits for the auditor.
    registration zeta/power: MeterUnavailable. Registration zeta/power has an energy limit, but no meter reports its use. Mining waits for the auditor.
    miner acme/hash (0 of 2, 2 stopping): MeterUnavailable. Registration acme/power has an energy limit, but no meter reports its use. Mining waits for the auditor.
    look again at 12:05:00.001
    ");
}

#[test]
fn a_renewal_leaves_the_leases_of_the_first_their_time_to_stop() {
    let mut site = Site::of(1, 4, 4);
    site.edit_registration("acme/power", |r| r.limits.energy_mj = Some(watt_hours(1_000)));
    metered(&mut site, 0);
    site.settle();
    site.wait(minutes(30));
    metered(&mut site, watt_hours(990));
    site.put(registration("acme/next"));
    site.edit_miner("acme/hash", |miner| miner.registration = "acme/next".into());
    // As without the renewal: 30 seconds less 12 to stop.
    assert_snapshot!(site.act_explained(), @"look again at 12:30:18");
    // The same for the end of its validity.
    let end = site.now + seconds(15);
    site.edit_registration("acme/power", |r| r.valid_until = end);
    assert_snapshot!(site.act_explained(), @"look again at 12:30:05");
}
