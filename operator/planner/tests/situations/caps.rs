//! Caps hold: GPUs, watts, headroom, of pools, registrations and owners.

use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

#[test]
fn at_most_max_gpus_of_a_pool_mine() {
    let mut site = Site::of(1, 4, 4);
    site.edit_pool("h100", |pool| pool.max_gpus = Some(3));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1 2, stops within 10s, ends in 183 days
    miner acme/hash (3 of 4): PoolGpuLimit. Pool h100 limits mining to 3 GPUs. Raise spec.mining.maxGpus to allow more.
    ");
}

#[test]
fn when_max_gpus_shrinks_those_with_most_give_up_first() {
    let mut site = Site::of(2, 4, 5).with(miner("acme/other", 3));
    site.settle();
    site.edit_pool("h100", |pool| pool.max_gpus = Some(5));
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-1-0 within 10s: GpuLimit
    evict acme/hash-node-1-2 within 10s: GpuLimit
    evict acme/other-node-1-1 within 10s: GpuLimit
    ");
}

#[test]
fn the_power_budget_of_a_pool_bounds_its_miners() {
    let mut site = Site::of(1, 8, 8);
    site.edit_pool("h100", |pool| pool.power_budget_watts = Some(1_000));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1 2, stops within 10s, ends in 183 days
    miner acme/hash (3 of 8): PowerBudget. Pool h100 limits mining to 1000 W. Raise spec.mining.powerBudgetWatts or lower the miners' watts.
    ");
    site.edit_pool("h100", |pool| pool.power_budget_watts = Some(700));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: PowerBudget
    miner acme/hash (2 of 8, 1 stopping): PowerBudget. Pool h100 limits mining to 700 W. Raise spec.mining.powerBudgetWatts or lower the miners' watts.
    ");
}

#[test]
fn headroom_stays_idle() {
    let mut site = Site::of(1, 8, 8);
    site.edit_pool("h100", |pool| pool.headroom = Headroom::Count(2));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1 2 3 4 5, stops within 10s, ends in 183 days
    pool h100 (8 GPUs: 6 idle, 2 headroom): Filling. Idle GPUs go to registered miners.
    miner acme/hash (6 of 8): Headroom. Pool h100 keeps 2 GPUs idle for AI.
    ");
}

#[test]
fn gpus_that_ai_has_just_released_do_not_replace_the_headroom() {
    let mut site = Site::of(2, 4, 8);
    site.edit_pool("h100", |pool| pool.headroom = Headroom::Count(2));
    site.put(job("ml/train", 1, 4));
    site.settle();
    site.ended("ml/train");
    // The next job may take what this one had; else miners would start on the other two GPUs and leave.
    assert_snapshot!(site.act_explained(), @"
    pool h100 (8 GPUs: 2 mining, 4 idle, 2 headroom): Filling. Idle GPUs go to registered miners.
    miner acme/hash (2 of 8): IdleDelay. GPUs stay idle until 2026-07-01T12:00:05Z, since AI work just ended there (spec.mining.idleDelay).
    job ml/train: Finished. The job has finished.
    look again at 12:00:05
    ");
    site.wait(seconds(5));
    assert_snapshot!(site.actions(), @"
    grant acme/hash on node-2 (h100) slots 2 3, stops within 10s, ends in 183 days
    grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days
    ");
}

#[test]
fn headroom_in_percent_is_restored() {
    let mut site = Site::of(2, 8, 16);
    site.edit_pool("h100", |pool| pool.headroom = Headroom::Percent(20));
    site.settle();
    site.put(foreign_pod("web/chat", 3).but(|pod| pod.node = Some("node-2".into())));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: Headroom
    evict acme/hash-node-1-1 within 10s: Headroom
    evict acme/hash-node-1-2 within 10s: Headroom
    pool h100 (16 GPUs: 3 AI, 12 mining, 1 headroom): Filling. Idle GPUs go to registered miners.
    miner acme/hash (9 of 16, 3 stopping): Headroom. Pool h100 keeps 4 GPUs idle for AI.
    ");
    site.settle();
    assert_snapshot!(site.map(), @"
    node-1: 5 acme/hash, 3 idle
    node-2: 4 acme/hash, 3 web/chat, 1 idle
    ");
}

#[test]
fn headroom_is_no_reason_to_stop_miners_that_would_not_restore_it() {
    let mut site = Site::of(2, 4, 8);
    site.settle();
    site.edit_node("node-2", |node| node.condition = NodeCondition::NotReady);
    site.edit_pool("h100", |pool| pool.headroom = Headroom::Count(2));
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-1-0 within 10s: Headroom
    evict acme/hash-node-1-1 within 10s: Headroom
    ");
}

#[test]
fn a_registration_limits_its_miners_together() {
    let mut site = Site::of(1, 8, 3).with(miner("acme/other", 3));
    site.edit_registration("acme/power", |r| r.limits.gpus = Some(4));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 2, stops within 10s, ends in 183 days
    grant acme/other on node-1 (h100) slots 1 3, stops within 10s, ends in 183 days
    miner acme/hash (2 of 3): RegistrationGpuLimit. Registration acme/power allows at most 4 GPUs; file another with a higher limit.
    miner acme/other (2 of 3): RegistrationGpuLimit. Registration acme/power allows at most 4 GPUs; file another with a higher limit.
    ");
}

#[test]
fn a_registration_limits_watts() {
    let mut site = Site::of(1, 8, 8);
    site.edit_registration("acme/power", |r| r.limits.watts = Some(899));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days
    miner acme/hash (2 of 8): RegistrationPowerLimit. Registration acme/power allows at most 899 W; file another with a higher limit.
    ");
}

#[test]
fn an_owner_is_limited_over_two_registrations() {
    let owned = |r: &mut Registration| {
        r.owner = Some("owner-7f3a".into());
        r.owner_limits.gpus = Some(5);
    };
    let mut site =
        Site::of(1, 8, 4).with(registration("zeta/power").but(owned)).with(miner("zeta/hash", 4));
    site.edit_registration("acme/power", owned);
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 2 4, stops within 10s, ends in 183 days
    grant zeta/hash on node-1 (h100) slots 1 3, stops within 10s, ends in 183 days
    miner acme/hash (3 of 4): OwnerGpuLimit. The owner's registrations together allow at most 5 GPUs; file another with a higher spec.ownerLimits.
    miner zeta/hash (2 of 4): OwnerGpuLimit. The owner's registrations together allow at most 5 GPUs; file another with a higher spec.ownerLimits.
    ");
}

#[test]
fn an_owner_over_its_limit_gives_up_across_registrations() {
    let owned = |r: &mut Registration| r.owner = Some("owner-7f3a".into());
    let mut site =
        Site::of(1, 8, 4).with(registration("zeta/power").but(owned)).with(miner("zeta/hash", 4));
    site.edit_registration("acme/power", owned);
    site.settle();
    site.edit_registration("zeta/power", |r| r.owner_limits.gpus = Some(5));
    assert_snapshot!(site.act(), @"
    evict zeta/hash-node-1-1 within 10s: GpuLimit
    evict acme/hash-node-1-0 within 10s: GpuLimit
    evict zeta/hash-node-1-3 within 10s: GpuLimit
    ");
}

#[test]
fn miners_that_are_stopping_count_against_caps() {
    let mut site = Site::of(2, 4, 4).with(miner("acme/other", 4));
    site.edit_pool("h100", |pool| pool.max_gpus = Some(4));
    site.settle();
    site.edit_miner("acme/hash", |miner| miner.replicas = 0);
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: ScaledDown
    evict acme/hash-node-1-2 within 10s: ScaledDown
    miner acme/other (2 of 4): PoolGpuLimit. Pool h100 limits mining to 4 GPUs. Raise spec.mining.maxGpus to allow more.
    ");
    site.drained();
    assert_snapshot!(site.actions(), @"grant acme/other on node-1 (h100) slots 0 2, stops within 10s, ends in 183 days");
}

#[test]
fn miners_on_an_unreachable_node_count_against_caps() {
    let mut site = Site::of(2, 4, 8);
    site.edit_registration("acme/power", |r| r.limits.gpus = Some(4));
    site.settle();
    site.edit_node("node-1", |node| node.condition = NodeCondition::Unreachable);
    assert_snapshot!(site.act_explained(), @"miner acme/hash (4 of 8): RegistrationGpuLimit. Registration acme/power allows at most 4 GPUs; file another with a higher limit.");
}

/// An edit of a registration, and its name.
type Edit = (&'static str, fn(&mut Registration));

/// Each way in which a registration is not in force.
fn not_in_force() -> [Edit; 10] {
    [
        ("pending", |r| r.approval = Approval::Pending),
        ("voided", |r| r.approval = Approval::Voided),
        ("unsigned", |r| r.approval = Approval::Unsigned),
        ("rejected", |r| r.approval = Approval::Rejected),
        ("suspended", |r| r.approval = Approval::Suspended),
        ("revoked", |r| r.approval = Approval::Revoked),
        ("expired", |r| r.valid_until = NOON),
        ("not yet valid", |r| r.valid_from = NOON + minutes(60)),
        ("invalid", |r| r.problem = Some("spec.site names another site.".into())),
        ("off the list", |r| r.class = "prohibited-pow".into()),
    ]
}

#[test]
fn what_is_not_in_force_limits_nothing_of_its_owner() {
    let mut site = Site::of(1, 8, 4);
    site.edit_registration("acme/power", |r| {
        r.owner = Some("owner-7f3a".into());
        r.owner_limits.energy_mj = Some(watt_hours(100_000));
        r.usage = Some(Usage { metered_until: NOON, millijoules: watt_hours(1), peak_watts: None });
    });
    site.settle();
    for (how, change) in not_in_force() {
        let none = Limits { gpus: Some(0), watts: Some(0), energy_mj: Some(0) };
        site.put(registration("zeta/power").but(|r| {
            r.owner = Some("owner-7f3a".into());
            (r.limits, r.owner_limits) = (none, none);
            change(r);
        }));
        assert_eq!(site.actions(), "", "one that is {how} stops nothing");
    }
}

#[test]
fn the_measured_watts_count_where_they_exceed_the_declared() {
    let budget = |site: &mut Site| {
        site.edit_pool("h100", |pool| pool.power_budget_watts = Some(2_400));
    };
    let limit = |site: &mut Site| {
        site.edit_registration("acme/power", |r| r.limits.watts = Some(2_400));
    };
    let owner = |site: &mut Site| {
        site.edit_registration("acme/power", |r| {
            r.owner = Some("owner-7f3a".into());
            r.owner_limits.watts = Some(2_400);
        });
    };
    let caps: [fn(&mut Site); 3] = [budget, limit, owner];
    for cap in caps {
        let mut site = Site::of(1, 8, 8);
        cap(&mut site);
        site.settle();
        assert_eq!(site.look().miners[0].held, 8, "8 x 300 W are declared");
        let measured = |watts| {
            move |r: &mut Registration| {
                let (metered_until, peak_watts) = (NOON, Some(watts));
                r.usage = Some(Usage { metered_until, millijoules: 0, peak_watts });
            }
        };
        site.edit_registration("acme/power", measured(700));
        site.settle();
        assert_eq!(site.look().miners[0].held, 3, "3 x 700 W");
        assert_eq!(site.look().registrations[0].watts, 2_100);
        site.edit_registration("acme/power", measured(250));
        site.settle();
        assert_eq!(site.look().miners[0].held, 8, "less than declared changes nothing");
    }
}
