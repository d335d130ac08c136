//! Miners run only under an approved and valid registration, for a class that may mine.

use daylight_planner::explain::Reason;
use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

#[test]
fn a_registration_that_awaits_approval_holds_its_miners() {
    let mut site = Site::of(1, 2, 2);
    site.edit_registration("acme/power", |r| r.approval = Approval::Pending);
    assert_snapshot!(site.explained(), @"
    registration acme/power: AwaitingApproval. Registration acme/power awaits approval by another user than its submitter (`daylight approve`).
    miner acme/hash (0 of 2): AwaitingApproval. Registration acme/power awaits approval by another user than its submitter (`daylight approve`).
    ");
}

#[test]
fn approval_starts_mining() {
    let mut site = Site::of(1, 2, 2);
    site.edit_registration("acme/power", |r| r.approval = Approval::Pending);
    site.act();
    site.edit_registration("acme/power", |r| r.approval = Approval::Approved);
    assert_snapshot!(site.actions(), @"grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn an_edit_voids_the_approval_and_mining_stops() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.edit_registration("acme/power", |r| r.approval = Approval::Voided);
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: RegistrationInactive
    evict acme/hash-node-1-1 within 10s: RegistrationInactive
    registration acme/power: ApprovalVoided. The approval of registration acme/power is void: it was edited. It must be approved again.
    miner acme/hash (0 of 2, 2 stopping): ApprovalVoided. The approval of registration acme/power is void: it was edited. It must be approved again.
    ");
}

#[test]
fn suspending_one_registration_leaves_the_others_mining() {
    let mut site = Site::of(1, 4, 2).with(registration("zeta/power")).with(miner("zeta/hash", 2));
    site.settle();
    site.edit_registration("zeta/power", |r| r.approval = Approval::Suspended);
    assert_snapshot!(site.act_explained(), @"
    evict zeta/hash-node-1-1 within 10s: RegistrationInactive
    evict zeta/hash-node-1-3 within 10s: RegistrationInactive
    registration zeta/power: Suspended. Registration zeta/power is suspended.
    miner zeta/hash (0 of 2, 2 stopping): Suspended. Registration zeta/power is suspended.
    ");
}

#[test]
fn miners_have_stopped_when_the_registration_ends() {
    let mut site = Site::of(1, 2, 2);
    site.edit_registration("acme/power", |r| r.valid_until = NOON + minutes(10));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends at 12:10:00
    look again at 12:09:50
    ");
    site.wait(minutes(10).checked_sub(seconds(10)).unwrap());
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: RegistrationInactive
    evict acme/hash-node-1-1 within 10s: RegistrationInactive
    registration acme/power: Expired. Registration acme/power is valid only until 2026-07-01T12:10:00Z; renew it.
    miner acme/hash (0 of 2, 2 stopping): Expired. Registration acme/power is valid only until 2026-07-01T12:10:00Z; renew it.
    ");
    site.drained();
    site.wait(minutes(10));
    assert_snapshot!(site.act_explained(), @"
    registration acme/power: Expired. Registration acme/power is valid only until 2026-07-01T12:10:00Z; renew it.
    miner acme/hash (0 of 2): Expired. Registration acme/power is valid only until 2026-07-01T12:10:00Z; renew it.
    ");
}

#[test]
fn a_registration_that_begins_tomorrow_waits_until_then() {
    let mut site = Site::of(1, 2, 2);
    site.edit_registration("acme/power", |r| r.valid_from = NOON + minutes(600));
    assert_snapshot!(site.act_explained(), @"
    registration acme/power: NotYetValid. Registration acme/power is valid from 2026-07-01T22:00:00Z.
    miner acme/hash (0 of 2): NotYetValid. Registration acme/power is valid from 2026-07-01T22:00:00Z.
    look again at 22:00:00
    ");
    site.wait(minutes(600));
    assert_snapshot!(site.actions(), @"grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn a_miner_whose_registration_is_deleted_stops() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.put(Delta::RegistrationGone("acme/power".into()));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: RegistrationInactive
    evict acme/hash-node-1-1 within 10s: RegistrationInactive
    miner acme/hash (0 of 2, 2 stopping): RegistrationMissing. There is no Registration acme/power. Create it, or correct the miner's spec.registration.
    ");
}

#[test]
fn a_class_taken_off_the_positive_list_stops_mining() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.put(Delta::ClassGone("pow-mining".into()));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: ClassInactive
    evict acme/hash-node-1-1 within 10s: ClassInactive
    registration acme/power: ClassUnknown. There is no ActivityClass pow-mining. Add it to the positive list, or name another class.
    miner acme/hash (0 of 2, 2 stopping): ClassUnknown. There is no ActivityClass pow-mining. Add it to the positive list, or name another class.
    ");
}

#[test]
fn a_class_that_becomes_prohibited_stops_mining() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.put(class("pow-mining", ClassAssignment::Prohibited, 10));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: ClassInactive
    evict acme/hash-node-1-1 within 10s: ClassInactive
    registration acme/power: ClassProhibited. ActivityClass pow-mining is prohibited.
    miner acme/hash (0 of 2, 2 stopping): ClassProhibited. ActivityClass pow-mining is prohibited.
    ");
}

#[test]
fn a_registration_for_an_ai_class_does_not_permit_mining() {
    let mut site = Site::of(1, 2, 2);
    site.edit_registration("acme/power", |r| r.class = "ai-training".into());
    assert_snapshot!(site.explained(), @"miner acme/hash (0 of 2): ClassNotForMining. ActivityClass ai-training is not IdleOnly, so miners cannot run under it. Register them under an IdleOnly class.");
}

#[test]
fn a_miner_stays_within_the_pools_it_was_registered_for() {
    let mut site = Site::of(1, 2, 0)
        .with(pool("a100"))
        .with(node("old-1", 2).but(|node| node.pools = vec![member("a100")]))
        .with(miner("acme/stray", 2).but(|miner| miner.pools = vec!["a100".into()]));
    assert_snapshot!(site.explained(), @"miner acme/stray (0 of 2): PoolNotRegistered. Registration acme/power covers none of the miner's pools that exist. Correct spec.pools of the miner or of the registration.");
}

#[test]
fn a_registration_with_a_mistake_stops_its_miners() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.edit_registration("acme/power", |r| {
        r.problem = Some("spec.site names hall-9, where there is no pool.".into());
    });
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: RegistrationInactive
    evict acme/hash-node-1-1 within 10s: RegistrationInactive
    registration acme/power: Invalid. spec.site names hall-9, where there is no pool.
    miner acme/hash (0 of 2, 2 stopping): Invalid. spec.site names hall-9, where there is no pool.
    ");
}

#[test]
fn a_registration_counts_what_its_miners_hold_until_they_have_stopped() {
    let mut site = Site::of(1, 8, 3);
    site.settle();
    site.edit_miner("acme/hash", |miner| miner.replicas = 1);
    site.act();
    let registration = &site.look().registrations[0];
    assert_eq!(registration.state, Reason::Active { until: NEW_YEAR });
    assert_eq!((registration.gpus, registration.watts), (3, 900));
    site.drained();
    let registration = &site.look().registrations[0];
    assert_eq!((registration.gpus, registration.watts), (1, 300));
}
