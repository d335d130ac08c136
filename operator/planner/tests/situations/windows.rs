//! Mining windows. The planner gets plain spans, into which the caller compiles cron expressions, time
//! zones and daylight saving.

use daylight_planner::windows::Windows;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

#[test]
fn a_closed_window_reports_when_it_opens() {
    let mut site = Site::of(1, 2, 2);
    site.edit_pool("h100", |pool| pool.windows = open(&[(60, 120)]));
    assert_snapshot!(site.act_explained(), @"
    pool h100 (2 GPUs: 2 idle): WindowClosed. The mining window of pool h100 is closed; it opens at 2026-07-01T13:00:00Z.
    miner acme/hash (0 of 2): WindowClosed. The mining window of pool h100 is closed; it opens at 2026-07-01T13:00:00Z.
    look again at 13:00:00
    ");
}

#[test]
fn a_miner_granted_in_a_window_ends_with_it() {
    let mut site = Site::of(1, 2, 2);
    site.edit_pool("h100", |pool| pool.windows = open(&[(-60, 30)]));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends at 12:30:00
    look again at 12:29:30
    ");
}

#[test]
fn miners_stop_a_drain_before_the_window_closes() {
    let mut site = Site::of(1, 2, 2);
    site.edit_pool("h100", |pool| pool.windows = open(&[(-60, 30), (60, 90)]));
    site.settle();
    site.wait(minutes(30).checked_sub(seconds(31)).unwrap());
    assert_snapshot!(site.actions(), @"");
    site.wait(seconds(1));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: WindowClosed
    evict acme/hash-node-1-1 within 10s: WindowClosed
    pool h100 (2 GPUs: 2 mining): WindowClosed. The mining window of pool h100 is closed; it opens at 2026-07-01T13:00:00Z.
    miner acme/hash (0 of 2, 2 stopping): WindowClosed. The mining window of pool h100 is closed; it opens at 2026-07-01T13:00:00Z.
    look again at 12:30:00
    ");
}

#[test]
fn a_window_across_the_change_to_daylight_saving_is_an_hour_shorter_by_the_clock() {
    // 22:00 to 06:00 in Berlin on the night of 2027-03-28, eight elapsed hours
    // after 22:00 CET, end at 07:00 CEST: the caller compiled `0 22 * * *` and
    // 8h into one span of eight hours; nothing happens at 02:00.
    let mut site = Site::of(1, 2, 2);
    site.edit_pool("h100", |pool| pool.windows = open(&[(0, 480)]));
    site.settle();
    site.wait(minutes(240));
    assert_snapshot!(site.explained(), @"look again at 19:59:30");
}

#[test]
fn a_window_edited_to_be_closed_stops_mining_at_once() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.edit_pool("h100", |pool| pool.windows = open(&[(600, 660)]));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: WindowClosed
    evict acme/hash-node-1-1 within 10s: WindowClosed
    pool h100 (2 GPUs: 2 mining): WindowClosed. The mining window of pool h100 is closed; it opens at 2026-07-01T22:00:00Z.
    miner acme/hash (0 of 2, 2 stopping): WindowClosed. The mining window of pool h100 is closed; it opens at 2026-07-01T22:00:00Z.
    look again at 22:00:00
    ");
}

#[test]
fn no_window_in_the_coming_weeks_is_reported() {
    let mut site = Site::of(1, 2, 2);
    site.edit_pool("h100", |pool| pool.windows = open(&[]));
    assert_snapshot!(site.explained(), @"
    pool h100 (2 GPUs: 2 idle): WindowClosed. The mining window of pool h100 is closed, and none opens in the coming weeks. Check spec.mining.windows.
    miner acme/hash (0 of 2): WindowClosed. The mining window of pool h100 is closed, and none opens in the coming weeks. Check spec.mining.windows.
    ");
}

#[test]
fn where_a_miner_drains_longer_than_the_pool_allows_the_pool_decides() {
    let mut site = Site::of(1, 1, 1);
    site.edit_miner("acme/hash", |miner| miner.drain_timeout = minutes(10));
    site.settle();
    site.edit_pool("h100", |pool| pool.windows = Windows::Always);
    site.edit_miner("acme/hash", |miner| miner.replicas = 0);
    assert_snapshot!(site.actions(), @"evict acme/hash-node-1-0 within 30s: ScaledDown");
}
