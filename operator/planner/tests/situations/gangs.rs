//! A gang is released when all of it has its GPUs; a half gang never holds any.

use daylight_planner::explain::Reason;
use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

#[test]
fn a_gang_waits_until_the_last_of_its_gpus_is_free() {
    let mut site = Site::of(2, 2, 4);
    site.settle();
    site.put(job("ml/train", 2, 2));
    assert_snapshot!(site.act_explained(), @"
    reserve for ml/train: node-1, node-2, displacing 4 miners
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-1 within 10s: AiDemand of ml/train
    evict acme/hash-node-2-0 within 10s: AiDemand of ml/train
    evict acme/hash-node-2-1 within 10s: AiDemand of ml/train
    miner acme/hash (0 of 4, 4 stopping): Stopping. Stopping 4 replicas; replacements start as GPUs become idle.
    job ml/train: WaitingForDrain. Waiting for miners to free 4 GPUs.
    ");
    site.one_drained();
    assert_snapshot!(site.act_explained(), @"
    miner acme/hash (0 of 4, 3 stopping): WaitingForIdleGpus. No node has 1 idle GPU.
    job ml/train: WaitingForDrain. Waiting for miners to free 3 GPUs.
    ");
    site.drained();
    assert_snapshot!(site.act_explained(), @"
    release ml/train: node-1, node-2
    miner acme/hash (0 of 4): WaitingForIdleGpus. No node has 1 idle GPU.
    job ml/train: Starting. Waiting for kube-scheduler to bind the workers: 0 of 2 bound.
    look again at 12:01:00
    ");
}

#[test]
fn while_miners_drain_their_gpus_are_granted_to_no_other_miner() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.put(job("ml/train", 1, 2));
    site.act();
    site.one_drained();
    site.put(miner("acme/eager", 2));
    assert_snapshot!(site.act(), @"");
}

#[test]
fn gang_timeout_suspends_and_backs_off() {
    let mut site = Site::of(2, 2, 0).with(job("ml/train", 2, 2));
    site.act();
    site.bind_worker("ml/train", "node-1");
    assert_snapshot!(site.act_explained(), @"
    job ml/train: Starting. Waiting for kube-scheduler to bind the workers: 1 of 2 bound.
    look again at 12:01:00
    ");
    site.wait(seconds(60));
    assert_snapshot!(site.act_explained(), @"
    suspend ml/train
    job ml/train: GangBackoff. Not all workers were bound in time; the job queues again at 2026-07-01T12:01:10Z. See the Events of its pods.
    look again at 12:01:10
    ");
    site.wait(seconds(10));
    assert_snapshot!(site.act_explained(), @"
    release ml/train: node-1, node-2
    job ml/train: Starting. Waiting for kube-scheduler to bind the workers: 0 of 2 bound.
    look again at 12:02:10
    ");
    // The second time it waits twice as long.
    site.wait(seconds(60));
    assert_snapshot!(site.act_explained(), @"
    suspend ml/train
    job ml/train: GangBackoff. Not all workers were bound in time; the job queues again at 2026-07-01T12:02:30Z. See the Events of its pods.
    look again at 12:02:30
    ");
}

#[test]
fn a_gang_bound_in_time_is_left_alone() {
    let mut site = Site::of(2, 2, 0).with(job("ml/train", 2, 2));
    site.act();
    site.bind_worker("ml/train", "node-1");
    site.bind_worker("ml/train", "node-2");
    site.wait(seconds(61));
    assert_snapshot!(site.act_explained(), @"job ml/train: Running. All pods are running.");
}

#[test]
fn workers_bound_elsewhere_than_planned_free_what_was_kept_for_them() {
    let mut site = Site::of(3, 2, 6).with(job("ml/train", 1, 2));
    site.act();
    site.bind_worker("ml/train", "node-2");
    let since = site.now;
    site.edit_job("ml/train", |job| job.state = JobState::Running { since });
    assert_snapshot!(site.act(), @"grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn a_reservation_survives_the_loss_of_a_node() {
    let mut site = Site::of(3, 2, 6);
    site.settle();
    site.put(job("ml/train", 2, 2));
    assert_snapshot!(site.act(), @"
    reserve for ml/train: node-1, node-2, displacing 4 miners
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/train
    evict acme/hash-node-1-1 within 10s: AiDemand of ml/train
    evict acme/hash-node-2-0 within 10s: AiDemand of ml/train
    evict acme/hash-node-2-1 within 10s: AiDemand of ml/train
    ");
    site.edit_node("node-2", |node| node.condition = NodeCondition::NotReady);
    assert_snapshot!(site.act(), @"
    reserve for ml/train: node-1, node-3, displacing 2 miners
    evict acme/hash-node-3-0 within 10s: AiDemand of ml/train
    evict acme/hash-node-3-1 within 10s: AiDemand of ml/train
    ");
    site.drained();
    assert_snapshot!(site.actions(), @"release ml/train: node-1, node-3");
}

#[test]
fn a_reservation_that_cannot_be_completed_is_given_up() {
    let mut site = Site::of(2, 2, 4);
    site.settle();
    site.put(job("ml/train", 2, 2));
    site.act();
    site.edit_node("node-2", |node| node.condition = NodeCondition::NotReady);
    assert_snapshot!(site.act_explained(), @"
    give up the reservation for ml/train
    miner acme/hash (0 of 4, 4 stopping): Stopping. Stopping 4 replicas; replacements start as GPUs become idle.
    job ml/train: PoolTooSmall. Requests 4 GPUs; the permitted nodes have at most 2. Request fewer or smaller workers.
    ");
    site.drained();
    assert_snapshot!(site.actions(), @"grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn when_a_foreign_pod_takes_a_reserved_gpu_another_miner_is_evicted() {
    let mut site = Site::of(1, 4, 4);
    site.settle();
    site.put(job("ml/train", 1, 2));
    site.act();
    site.one_drained();
    site.put(foreign_pod("web/chat", 1).but(|pod| pod.node = Some("node-1".into())));
    assert_snapshot!(site.act(), @"evict acme/hash-node-1-2 within 10s: AiDemand of ml/train");
    site.drained();
    assert_snapshot!(site.actions(), @"release ml/train: node-1");
}

#[test]
fn a_gpu_taken_after_the_release_is_left_to_kube_scheduler() {
    let mut site = Site::of(1, 4, 2).with(job("ml/train", 1, 2));
    site.act();
    site.put(foreign_pod("web/chat", 1).but(|pod| pod.node = Some("node-1".into())));
    assert_snapshot!(site.act_explained(), @"
    job ml/train: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    look again at 12:01:00
    ");
}

#[test]
fn a_worker_with_a_nominated_node_is_not_counted_twice() {
    let mut site = Site::of(1, 8, 2).with(job("ml/train", 1, 2));
    site.act();
    site.put(foreign_pod("ml/train-0", 2).but(|pod| {
        pod.nominated = Some("node-1".into());
        pod.role = Role::Worker { job: "ml/train".into(), preemption: Preemption::ByScheduler };
    }));
    site.edit_miner("acme/hash", |miner| miner.replicas = 8);
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 2 3 4 5, stops within 10s, ends in 183 days
    miner acme/hash (6 of 8): WaitingForIdleGpus. No node has 1 idle GPU.
    job ml/train: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    look again at 12:01:00
    ");
}

#[test]
fn a_job_deleted_while_miners_drain_for_it_leaves_its_gpus_to_mining() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.put(job("ml/train", 1, 2));
    site.act();
    site.put(Delta::JobGone("ml/train".into()));
    site.drained();
    assert_snapshot!(site.act(), @"grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn a_job_whose_class_is_taken_off_the_list_loses_its_reservation() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.put(job("ml/train", 1, 2));
    site.act();
    site.put(class("ai-training", ClassAssignment::Prohibited, 0));
    assert_snapshot!(site.act_explained(), @"
    give up the reservation for ml/train
    miner acme/hash (0 of 2, 2 stopping): Stopping. Stopping 2 replicas; replacements start as GPUs become idle.
    job ml/train: ClassProhibited. ActivityClass ai-training is prohibited.
    ");
    site.drained();
    assert_snapshot!(site.actions(), @"grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days");
}

#[test]
fn two_gangs_share_a_node_and_neither_waits_for_the_other() {
    let mut site = Site::of(1, 4, 4);
    site.settle();
    site.put(job("ml/first", 1, 2));
    site.put(job("ml/second", 1, 2).but(|job| job.created = NOON + seconds(1)));
    assert_snapshot!(site.act_explained(), @"
    reserve for ml/first: node-1, displacing 2 miners
    reserve for ml/second: node-1, displacing 2 miners
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/first
    evict acme/hash-node-1-1 within 10s: AiDemand of ml/first
    evict acme/hash-node-1-2 within 10s: AiDemand of ml/second
    evict acme/hash-node-1-3 within 10s: AiDemand of ml/second
    miner acme/hash (0 of 4, 4 stopping): Stopping. Stopping 4 replicas; replacements start as GPUs become idle.
    job ml/first: WaitingForDrain. Waiting for miners to free 2 GPUs.
    job ml/second: WaitingForDrain. Waiting for miners to free 2 GPUs.
    ");
    // The first two of four miners have gone.
    site.one_drained();
    site.one_drained();
    assert_snapshot!(site.act_explained(), @"
    release ml/first: node-1
    miner acme/hash (0 of 4, 2 stopping): WaitingForIdleGpus. No node has 1 idle GPU.
    job ml/first: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    job ml/second: WaitingForDrain. Waiting for miners to free 2 GPUs.
    look again at 12:01:00
    ");
}

#[test]
fn next_to_a_starting_gang_another_clears_its_own_gpus() {
    let mut site = Site::of(1, 4, 2);
    site.settle();
    site.put(job("ml/first", 1, 2));
    site.act();
    site.put(job("ml/second", 1, 2).but(|job| job.created = NOON + seconds(1)));
    assert_snapshot!(site.act(), @"
    reserve for ml/second: node-1, displacing 2 miners
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/second
    evict acme/hash-node-1-1 within 10s: AiDemand of ml/second
    ");
}

#[test]
fn a_job_that_another_client_suspended_takes_nothing_from_miners() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    let held = |job: &mut Job| job.suspended_by = Some("kueue".into());
    site.put(job("ml/train", 1, 2).but(held));
    assert_snapshot!(site.act_explained(), @"job ml/train: JobSuspended. kueue suspended Job ml/train, so Daylight keeps no GPUs for it. Set its spec.suspend to false. If kueue is a queue, create the AIJob again with spec.queueName, or exclude the namespace there.");
    // A reservation is given up, too.
    site.edit_job("ml/train", |job| job.suspended_by = None);
    site.act();
    site.edit_job("ml/train", held);
    assert_snapshot!(site.act(), @"give up the reservation for ml/train");
}

#[test]
fn a_running_job_that_lost_a_worker_is_not_whole() {
    let mut site = Site::of(2, 2, 0).with(job("ml/train", 2, 2));
    site.act();
    site.bound("ml/train");
    assert_snapshot!(site.explained(), @"job ml/train: Running. All pods are running.");
    site.put(Delta::PodGone("ml/train-1".into()));
    assert_snapshot!(site.explained(), @"job ml/train: WorkersMissing. 1 of 2 workers is bound to a node; the Job replaces workers that were evicted or failed. See the Events of its pods.");
    // One that has succeeded is not missing.
    site.edit_job("ml/train", |job| job.succeeded = 1);
    assert_snapshot!(site.explained(), @"job ml/train: Running. All pods are running.");
}

#[test]
fn a_reservation_does_not_wait_for_a_pod_that_should_have_stopped() {
    let mut site = Site::of(2, 1, 2);
    site.settle();
    site.put(job("ml/train", 1, 1));
    site.act();
    let gone_by = site.now + seconds(10);
    let stuck = "acme/hash-node-1-0";
    site.edit_pod(stuck, |pod| pod.gone_by = Some(gone_by));
    site.wait(seconds(39));
    assert_eq!(site.act(), "");
    site.wait(seconds(1));
    assert_eq!(
        site.act(),
        "reserve for ml/train: node-2, displacing 1 miner\n\
         evict acme/hash-node-2-0 within 10s: AiDemand of ml/train\n"
    );
    let pool = site.look().pools.remove(0);
    assert_eq!((pool.gpus.mining, pool.overdue), (2, 1), "it counts until it is gone");
    // Nowhere else: the job names it.
    site.edit_node("node-2", |node| node.condition = NodeCondition::Cordoned);
    site.act();
    let reason = site.look().jobs[0].reason.clone();
    assert_eq!(
        reason,
        Reason::PodNotStopping { pod: stuck.into(), node: "node-1".into(), gone_by }
    );
    site.put(Delta::PodGone(stuck.into()));
    assert_eq!(site.act(), "release ml/train: node-1\n");
}

#[test]
fn a_job_whose_pods_request_more_than_its_template_displaces_no_miner_again() {
    let mut site = Site::of(1, 8, 8);
    site.settle();
    site.put(job("ml/train", 1, 9).but(|job| {
        job.state = JobState::Queued { attempts: 1, suspended_at: Some(NOON) };
        job.requests_changed = Some("Pod ml/train-0 requests 9 nvidia.com/gpu, 8 are set.".into());
    }));
    for time in [seconds(1), minutes(1)] {
        site.wait(time);
        assert_eq!(site.act(), "");
        assert_eq!(site.look().jobs[0].reason.code(), "RequestsChanged");
    }
}

#[test]
fn a_miner_whose_pods_request_more_than_it_sets_says_so() {
    let mut site = Site::of(1, 8, 8);
    site.edit_node("node-1", |node| node.cpu_milli = 9_000);
    site.edit_miner("acme/hash", |miner| {
        miner.shape.cpu_milli = 4_000;
        miner.requests_changed = Some("Pod acme/hash-0 requests 4000m CPU, 1000m are set.".into());
    });
    site.settle();
    let plan = site.look();
    assert_eq!((plan.miners[0].held, plan.miners[0].reason.code()), (2, "RequestsChanged"));
}
