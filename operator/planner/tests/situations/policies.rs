//! Observe, Fill, Hold, Drain, and the emergency stop.

use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

fn stop() -> Delta {
    Delta::EmergencyStop(Some(EmergencyStop {
        by: "dana@example.org".into(),
        reason: "grid alarm".into(),
    }))
}

#[test]
fn a_pool_that_observes_reports_what_would_mine_and_does_nothing() {
    let mut site = Site::of(2, 4, 6);
    site.edit_pool("h100", |pool| pool.policy = MiningPolicy::Observe);
    assert_snapshot!(site.act_explained(), @"
    pool h100 (8 GPUs: 8 idle): Observing. The policy is Observe, so nothing is changed. With Fill, miners would start on 6 GPUs now.
    miner acme/hash (0 of 6): PoolObserves. Pool h100 has the policy Observe, so no miner starts. Set spec.mining.policy to Fill to change that.
    ");
}

#[test]
fn what_would_mine_counts_what_mines_less_and_caps() {
    let mut site = Site::of(2, 4, 8);
    site.edit_pool("h100", |pool| {
        pool.policy = MiningPolicy::Observe;
        pool.max_gpus = Some(5);
        pool.headroom = Headroom::Count(1);
    });
    assert_snapshot!(site.explained(), @"
    pool h100 (8 GPUs: 7 idle, 1 headroom): Observing. The policy is Observe, so nothing is changed. With Fill, miners would start on 5 GPUs now.
    miner acme/hash (0 of 8): PoolObserves. Pool h100 has the policy Observe, so no miner starts. Set spec.mining.policy to Fill to change that.
    ");
}

#[test]
fn in_a_pool_that_observes_ai_jobs_are_left_to_kube_scheduler() {
    let mut site = Site::of(1, 4, 4).with(job("ml/train", 2, 2));
    site.edit_pool("h100", |pool| pool.policy = MiningPolicy::Observe);
    assert_snapshot!(site.act_explained(), @"
    release ml/train: 2 on node-1
    pool h100 (4 GPUs: 4 idle): Observing. The policy is Observe, so nothing is changed. With Fill, miners would start on 0 GPUs now.
    miner acme/hash (0 of 4): PoolObserves. Pool h100 has the policy Observe, so no miner starts. Set spec.mining.policy to Fill to change that.
    job ml/train: Starting. Waiting for kube-scheduler to bind the workers: 0 of 2 bound.
    look again at 12:01:00
    ");
}

#[test]
fn back_to_observe_leaves_the_miners_that_run_alone() {
    let mut site = Site::of(1, 4, 4);
    site.settle();
    site.edit_pool("h100", |pool| {
        pool.policy = MiningPolicy::Observe;
        pool.max_gpus = Some(2);
        pool.windows = open(&[(60, 120)]);
    });
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: WindowClosed
    evict acme/hash-node-1-1 within 10s: WindowClosed
    evict acme/hash-node-1-2 within 10s: WindowClosed
    evict acme/hash-node-1-3 within 10s: WindowClosed
    pool h100 (4 GPUs: 4 mining): WindowClosed. The mining window of pool h100 is closed; it opens at 2026-07-01T13:00:00Z.
    miner acme/hash (0 of 4, 4 stopping): WindowClosed. The mining window of pool h100 is closed; it opens at 2026-07-01T13:00:00Z.
    look again at 13:00:00
    ");
}

#[test]
fn hold_keeps_the_miners_that_run_and_adds_none() {
    let mut site = Site::of(1, 4, 2);
    site.settle();
    site.edit_pool("h100", |pool| pool.policy = MiningPolicy::Hold);
    site.edit_miner("acme/hash", |miner| miner.replicas = 4);
    assert_snapshot!(site.act_explained(), @"
    pool h100 (4 GPUs: 2 mining, 2 idle): Holding. Pool h100 has the policy Hold: running miners stay, and no more start. Set spec.mining.policy to Fill to resume.
    miner acme/hash (2 of 4): Holding. Pool h100 has the policy Hold: running miners stay, and no more start. Set spec.mining.policy to Fill to resume.
    ");
}

#[test]
fn while_the_journal_is_full_no_miner_is_added() {
    let mut site = Site::of(1, 4, 2);
    site.settle();
    site.edit_pool("h100", |pool| pool.recording = Recording::Full);
    site.edit_miner("acme/hash", |miner| miner.replicas = 4);
    assert_snapshot!(site.act_explained(), @"
    pool h100 (4 GPUs: 2 mining, 2 idle): JournalFull. The auditor cannot record more about pool h100: running miners stay, and no more start. The pool's condition Metered names the cause.
    miner acme/hash (2 of 4): JournalFull. The auditor cannot record more about pool h100: running miners stay, and no more start. The pool's condition Metered names the cause.
    ");
    site.edit_pool("h100", |pool| pool.recording = Recording::Works);
    assert_snapshot!(site.act(), @"grant acme/hash on node-1 (h100) slots 2 3, stops within 10s, ends in 183 days");
}

#[test]
fn drain_stops_all_miners_of_the_pool() {
    let mut site = Site::of(1, 2, 4)
        .with(pool("a100"))
        .with(node("old-1", 2).but(|node| node.pools = vec![member("a100")]));
    site.edit_registration("acme/power", |r| r.pools.push("a100".into()));
    site.settle();
    site.edit_pool("h100", |pool| pool.policy = MiningPolicy::Drain);
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: PoolDrained
    evict acme/hash-node-1-1 within 10s: PoolDrained
    pool h100 (2 GPUs: 2 mining): Draining. Pool h100 has the policy Drain: its miners stop. Set spec.mining.policy to Fill to resume.
    miner acme/hash (2 of 4, 2 stopping): Stopping. Stopping 2 replicas; replacements start as GPUs become idle.
    ");
}

#[test]
fn an_emergency_stop_stops_all_mining_and_stays_until_lifted() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.put(stop());
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: EmergencyStop
    evict acme/hash-node-1-1 within 10s: EmergencyStop
    pool h100 (2 GPUs: 2 mining): EmergencyStop. Emergency stop by dana@example.org (grid alarm); mining resumes after `daylight resume`.
    miner acme/hash (0 of 2, 2 stopping): EmergencyStop. Emergency stop by dana@example.org (grid alarm); mining resumes after `daylight resume`.
    ");
    site.drained();
    site.wait(minutes(600));
    assert_snapshot!(site.act_explained(), @"
    pool h100 (2 GPUs: 2 idle): EmergencyStop. Emergency stop by dana@example.org (grid alarm); mining resumes after `daylight resume`.
    miner acme/hash (0 of 2): EmergencyStop. Emergency stop by dana@example.org (grid alarm); mining resumes after `daylight resume`.
    ");
    site.put(Delta::EmergencyStop(None));
    assert_snapshot!(site.actions(), @"grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn an_emergency_stop_leaves_ai_alone() {
    let mut site = Site::of(1, 4, 2);
    site.settle();
    site.put(stop());
    site.put(job("ml/train", 1, 4));
    assert_snapshot!(site.act_explained(), @"
    reserve for ml/train: node-1, displacing 0 miners
    evict acme/hash-node-1-0 within 10s: EmergencyStop
    evict acme/hash-node-1-1 within 10s: EmergencyStop
    pool h100 (4 GPUs: 2 mining, 2 idle): EmergencyStop. Emergency stop by dana@example.org (grid alarm); mining resumes after `daylight resume`.
    miner acme/hash (0 of 2, 2 stopping): EmergencyStop. Emergency stop by dana@example.org (grid alarm); mining resumes after `daylight resume`.
    job ml/train: WaitingForDrain. Waiting for miners to free 2 GPUs.
    ");
    site.drained();
    assert_snapshot!(site.actions(), @"release ml/train: node-1");
}

#[test]
fn an_emergency_stop_reaches_pools_that_only_observe_by_now() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.edit_pool("h100", |pool| pool.policy = MiningPolicy::Observe);
    site.put(stop());
    assert_snapshot!(site.actions(), @"
    evict acme/hash-node-1-0 within 10s: EmergencyStop
    evict acme/hash-node-1-1 within 10s: EmergencyStop
    ");
}

#[test]
fn a_pool_with_a_mistake_serves_ai_and_holds_mining() {
    let mut site = Site::of(1, 4, 2);
    site.settle();
    site.edit_miner("acme/hash", |miner| miner.replicas = 4);
    site.edit_pool("h100", |pool| {
        pool.problem = Some("site.timeZone Europe/Berlln is not in the time zone database.".into());
    });
    site.put(job("ml/train", 1, 3));
    assert_snapshot!(site.act_explained(), @"
    reserve for ml/train: node-1, displacing 1 miner
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/train
    pool h100 (4 GPUs: 2 mining, 2 idle): Invalid. site.timeZone Europe/Berlln is not in the time zone database.
    miner acme/hash (1 of 4, 1 stopping): Invalid. site.timeZone Europe/Berlln is not in the time zone database.
    job ml/train: WaitingForDrain. Waiting for miners to free 1 GPU.
    ");
}

#[test]
fn a_miner_with_a_mistake_is_not_granted_and_reports_why() {
    let mut site = Site::of(1, 4, 4);
    site.edit_miner("acme/hash", |miner| {
        miner.problem = Some("spec.wallet names the Secret wallet, which does not exist.".into());
    });
    assert_snapshot!(site.explained(), @"miner acme/hash (0 of 4): Invalid. spec.wallet names the Secret wallet, which does not exist.");
}
