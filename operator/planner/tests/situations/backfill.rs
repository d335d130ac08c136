//! Jobs behind the first: none overtakes in a strict queue; with backfill, one that does not delay
//! the first.

use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

/// Two nodes of four GPUs; `ml/running` holds three on the first and ends at
/// 13:00; `ml/first` wants both nodes whole and has to wait.
fn waiting_for_both_nodes(queueing: Queueing) -> Site {
    let mut site = Site::of(2, 4, 0);
    site.edit_pool("h100", |pool| pool.queueing = queueing);
    site.put(job("ml/running", 1, 3).but(|job| job.max_run_time = Some(minutes(60))));
    site.settle();
    site.put(job("ml/first", 2, 4).but(|job| job.created = NOON + seconds(1)));
    site
}

fn late(job: &mut Job) {
    job.created = NOON + seconds(2);
}

#[test]
fn no_job_overtakes_another_in_a_strict_queue() {
    let mut site = waiting_for_both_nodes(Queueing::StrictFifo)
        .with(job("ml/short", 1, 1).but(late).but(|job| job.max_run_time = Some(minutes(10))));
    assert_snapshot!(site.act_explained(), @"
    job ml/first: WaitingForCapacity. Requests 8 GPUs; 4 available now, including those that miners hold. Running jobs free the rest by 2026-07-01T13:00:00Z at the latest.
    job ml/running: Running. All pods are running.
    job ml/short: BehindJob. Job ml/first is first in the queue and starts before this one.
    ");
}

#[test]
fn backfill_overtakes_only_if_it_does_not_delay_the_first() {
    let mut site = waiting_for_both_nodes(Queueing::Backfill)
        .with(job("ml/short", 1, 1).but(late).but(|job| job.max_run_time = Some(minutes(10))))
        .with(job("ml/long", 1, 1).but(late).but(|job| job.max_run_time = Some(minutes(70))))
        .with(job("ml/silent", 1, 1).but(late));
    assert_snapshot!(site.act_explained(), @"
    release ml/short: node-1
    job ml/first: WaitingForCapacity. Requests 8 GPUs; 4 available now, including those that miners hold. Running jobs free the rest by 2026-07-01T13:00:00Z at the latest.
    job ml/long: WouldDelay. Starting now could delay job ml/first, which is first in the queue. A shorter spec.maxRunTime may help.
    job ml/running: Running. All pods are running.
    job ml/short: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    job ml/silent: WouldDelay. Starting now could delay job ml/first, which is first in the queue. A shorter spec.maxRunTime may help.
    look again at 12:01:00
    ");
}

#[test]
fn a_long_job_may_use_what_the_first_leaves_over() {
    let mut site = Site::of(2, 4, 0);
    site.put(job("ml/running", 1, 3).but(|job| job.max_run_time = Some(minutes(60))));
    site.settle();
    // The first job leaves one GPU on one node.
    site.put(job("ml/first", 2, 3).but(|job| job.created = NOON + seconds(1)));
    site.put(foreign_pod("web/chat", 1).but(|pod| pod.node = Some("node-2".into())));
    assert_snapshot!(site.explained(), @"
    job ml/first: WaitingForCapacity. Requests 6 GPUs; 3 available now, including those that miners hold. Running jobs free the rest by 2026-07-01T13:00:00Z at the latest.
    job ml/running: Running. All pods are running.
    ");
}

#[test]
fn a_job_behind_may_use_nodes_that_the_first_cannot() {
    let mut site = waiting_for_both_nodes(Queueing::Backfill)
        .with(node("small-1", 2))
        .with(job("ml/silent", 1, 2).but(late));
    assert_snapshot!(site.act_explained(), @"
    release ml/silent: small-1
    job ml/first: WaitingForCapacity. Requests 8 GPUs; 4 available now, including those that miners hold. Running jobs free the rest by 2026-07-01T13:00:00Z at the latest.
    job ml/running: Running. All pods are running.
    job ml/silent: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    look again at 12:01:00
    ");
}

#[test]
fn a_long_job_passes_on_spare_gpus_and_the_next_finds_them_taken() {
    let mut site = Site::of(1, 8, 0);
    site.put(job("ml/running", 1, 4).but(|job| job.max_run_time = Some(minutes(60))));
    site.settle();
    site.put(job("ml/first", 1, 6).but(|job| job.created = NOON + seconds(1)));
    site.put(job("ml/pair", 1, 2).but(late));
    site.put(job("ml/queue", 1, 2).but(late));
    assert_snapshot!(site.act_explained(), @"
    release ml/pair: node-1
    job ml/first: WaitingForCapacity. Requests 6 GPUs; 0 available now, including those that miners hold. Running jobs free the rest by 2026-07-01T13:00:00Z at the latest.
    job ml/pair: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    job ml/queue: WouldDelay. Starting now could delay job ml/first, which is first in the queue. A shorter spec.maxRunTime may help.
    job ml/running: Running. All pods are running.
    look again at 12:01:00
    ");
}

#[test]
fn the_first_starts_when_its_time_has_come() {
    let mut site = waiting_for_both_nodes(Queueing::Backfill)
        .with(job("ml/short", 1, 1).but(late).but(|job| job.max_run_time = Some(minutes(10))));
    site.settle();
    site.wait(minutes(10));
    site.ended("ml/short");
    site.wait(minutes(40));
    site.ended("ml/running");
    assert_snapshot!(site.act(), @"release ml/first: node-1, node-2");
}

#[test]
fn without_run_times_no_job_overtakes_the_first() {
    let mut site = Site::of(2, 4, 0);
    site.put(job("ml/running", 1, 3));
    site.settle();
    site.put(job("ml/first", 2, 4).but(|job| job.created = NOON + seconds(1)));
    site.put(job("ml/short", 1, 1).but(late).but(|job| job.max_run_time = Some(minutes(10))));
    assert_snapshot!(site.act_explained(), @"
    job ml/first: WaitingForCapacity. Requests 8 GPUs; 4 available now, including those that miners hold.
    job ml/running: Running. All pods are running.
    job ml/short: BehindJob. Job ml/first is first in the queue and starts before this one.
    ");
}

#[test]
fn miners_keep_mining_on_gpus_that_a_waiting_gang_cannot_use_yet() {
    let mut site = Site::of(2, 4, 8);
    site.put(job("ml/running", 1, 3).but(|job| job.max_run_time = Some(minutes(60))));
    site.settle();
    site.put(job("ml/first", 2, 4).but(|job| job.created = NOON + seconds(1)));
    assert_snapshot!(site.act_explained(), @"
    miner acme/hash (5 of 8): WaitingForIdleGpus. No node has 1 idle GPU.
    job ml/first: WaitingForCapacity. Requests 8 GPUs; 4 available now, including those that miners hold. Running jobs free the rest by 2026-07-01T13:00:00Z at the latest.
    job ml/running: Running. All pods are running.
    ");
}
