//! AI jobs: idle GPUs first, then the fewest miners, then the least fragmentation.

use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

#[test]
fn a_job_that_finds_its_gpus_idle_is_released_at_once() {
    let mut site = Site::of(2, 4, 4);
    site.settle();
    site.put(job("ml/train", 2, 2));
    assert_snapshot!(site.act(), @"release ml/train: 2 on node-2");
}

#[test]
fn an_ai_gang_takes_the_fewest_miners() {
    // Six GPUs are wanted: four idle ones, and one miner of two GPUs rather than two of one.
    let mut site = Site::of(3, 4, 4);
    site.settle();
    site.put(miner("acme/pair", 2).but(|miner| miner.shape.gpus = 2));
    site.settle();
    site.put(job("ml/train", 3, 2));
    assert_snapshot!(site.act(), @"
    reserve for ml/train: node-2, 2 on node-3, displacing 1 miner
    evict acme/pair-node-2-0 within 10s: AiDemand of ml/train
    ");
    site.drained();
    assert_snapshot!(site.act(), @"release ml/train: node-2, 2 on node-3");
    site.bound("ml/train");
    assert_snapshot!(site.map(), @"
    node-1: 4 acme/hash
    node-2: 2 acme/pair, 2 ml/train
    node-3: 4 ml/train
    ");
}

#[test]
fn a_small_job_goes_where_it_breaks_up_no_whole_node() {
    let mut site = Site::of(3, 8, 0).with(pool("h100"));
    site.put(foreign_pod("web/chat", 6).but(|pod| pod.node = Some("node-2".into())));
    site.put(job("ml/tune", 1, 2));
    assert_snapshot!(site.act(), @"release ml/tune: node-2");
}

#[test]
fn idle_gpus_are_taken_before_the_tidier_node_with_miners() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.put(node("node-2", 8));
    site.put(job("ml/tune", 1, 2));
    assert_snapshot!(site.actions(), @"release ml/tune: node-2");
}

#[test]
fn jobs_go_by_priority_then_age() {
    let mut site = Site::of(1, 4, 0)
        .with(job("ml/older", 1, 4).but(|job| job.created = NOON - minutes(5)))
        .with(job("ml/younger", 1, 4))
        .with(job("ml/urgent", 1, 4).but(|job| job.priority = 100));
    assert_snapshot!(site.act_explained(), @"
    release ml/urgent: node-1
    job ml/older: WaitingForCapacity. Requests 4 GPUs; 0 available now, including those that miners hold.
    job ml/urgent: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    job ml/younger: WaitingForCapacity. Requests 4 GPUs; 0 available now, including those that miners hold.
    look again at 12:01:00
    ");
    site.bound("ml/urgent");
    site.ended("ml/urgent");
    assert_snapshot!(site.actions(), @"release ml/older: node-1");
}

#[test]
fn a_worker_larger_than_any_node_is_reported() {
    let mut site = Site::of(2, 4, 0).with(job("ml/huge", 1, 8));
    assert_snapshot!(site.explained(), @"job ml/huge: NoNodeLargeEnough. No permitted node is large enough for one pod with 8 GPUs and its CPU and memory. Request less per pod.");
}

#[test]
fn a_gang_larger_than_the_pool_waits_and_blocks_no_other_job() {
    let mut site = Site::of(2, 4, 8)
        .with(job("ml/huge", 3, 4).but(|job| job.created = NOON - minutes(5)))
        .with(job("ml/tune", 1, 1));
    assert_snapshot!(site.act_explained(), @"
    release ml/tune: node-1
    grant acme/hash on node-1 (h100) slots 0 1 2, stops within 10s, ends in 183 days
    grant acme/hash on node-2 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days
    miner acme/hash (7 of 8): WaitingForIdleGpus. No node has 1 idle GPU.
    job ml/huge: PoolTooSmall. Requests 12 GPUs; the permitted nodes have at most 8. Request fewer or smaller workers.
    job ml/tune: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    look again at 12:01:00
    ");
}

#[test]
fn a_gang_whose_permitted_nodes_are_too_few_blocks_no_other_job() {
    let mut site = Site::of(2, 4, 8)
        .with(job("ml/pinned", 2, 4).but(|job| {
            job.created = NOON - minutes(5);
            job.allowed_nodes = Some(vec!["node-1".into()]);
        }))
        .with(job("ml/tune", 2, 4));
    assert_snapshot!(site.act_explained(), @"
    release ml/tune: node-1, node-2
    miner acme/hash (0 of 8): WaitingForIdleGpus. No node has 1 idle GPU.
    job ml/pinned: PoolTooSmall. Requests 8 GPUs; the permitted nodes have at most 4. Request fewer or smaller workers.
    job ml/tune: Starting. Waiting for kube-scheduler to bind the workers: 0 of 2 bound.
    look again at 12:01:00
    ");
}

#[test]
fn a_gang_that_requests_more_cpu_than_any_node_has_blocks_no_other_job() {
    let mut site = Site::of(2, 4, 8)
        .with(job("ml/greedy", 1, 1).but(|job| {
            job.created = NOON - minutes(5);
            job.shape.cpu_milli = 500_000;
        }))
        .with(job("ml/tune", 1, 1));
    assert_snapshot!(site.act_explained(), @"
    release ml/tune: node-1
    grant acme/hash on node-1 (h100) slots 0 1 2, stops within 10s, ends in 183 days
    grant acme/hash on node-2 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days
    miner acme/hash (7 of 8): WaitingForIdleGpus. No node has 1 idle GPU.
    job ml/greedy: NoNodeLargeEnough. No permitted node is large enough for one pod with 1 GPU and its CPU and memory. Request less per pod.
    job ml/tune: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    look again at 12:01:00
    ");
}

#[test]
fn a_job_goes_only_to_the_nodes_that_its_template_allows() {
    let mut site = Site::of(2, 4, 4);
    site.settle();
    site.put(job("ml/pinned", 1, 2).but(|job| job.allowed_nodes = Some(vec!["node-1".into()])));
    assert_snapshot!(site.actions(), @"
    reserve for ml/pinned: node-1, displacing 2 miners
    evict acme/hash-node-1-0 within 10s: AiDemand of ml/pinned
    evict acme/hash-node-1-1 within 10s: AiDemand of ml/pinned
    ");
}

#[test]
fn a_job_stays_within_the_pool_it_names() {
    let mut site = Site::of(1, 4, 4)
        .with(pool("a100"))
        .with(node("old-1", 4).but(|node| node.pools = vec![member("a100")]))
        .with(job("ml/train", 1, 2).but(|job| job.pool = Some("h100".into())))
        .with(job("ml/lost", 1, 2).but(|job| job.pool = Some("v100".into())));
    site.settle();
    assert_snapshot!(site.explained(), @"
    miner acme/hash (2 of 4): WaitingForIdleGpus. No node has 1 idle GPU.
    job ml/lost: PoolUnknown. There is no GpuPool v100. Create it, or correct the name.
    job ml/train: Running. All pods are running.
    ");
}

#[test]
fn of_two_pools_the_one_that_displaces_fewer_miners_is_taken() {
    let mut site = Site::of(1, 4, 4);
    site.settle();
    site.put(pool("spare"));
    site.put(node("spare-1", 4).but(|node| node.pools = vec![member("spare")]));
    site.put(job("ml/train", 2, 2));
    assert_snapshot!(site.actions(), @"release ml/train: 2 on spare-1");
}

#[test]
fn a_class_that_may_only_have_idle_gpus_cannot_be_used_by_jobs() {
    let mut site = Site::of(1, 4, 0)
        .with(job("ml/sly", 1, 4).but(|job| job.class = "pow-mining".into()))
        .with(job("ml/unlisted", 1, 4).but(|job| job.class = "rendering".into()))
        .with(job("ml/barred", 1, 4).but(|job| job.class = "prohibited-pow".into()));
    assert_snapshot!(site.explained(), @"
    job ml/barred: ClassProhibited. ActivityClass prohibited-pow is prohibited.
    job ml/sly: ClassNotForJobs. ActivityClass pow-mining is not Guaranteed, so AI jobs cannot run under it. Name a Guaranteed class in spec.activityClass.
    job ml/unlisted: ClassUnknown. There is no ActivityClass rendering. Add it to the positive list, or name another class.
    ");
}

#[test]
fn a_job_in_a_kueue_queue_is_left_to_kueue() {
    let mut site = Site::of(1, 4, 4).with(job("ml/queued", 1, 4).but(|job| {
        let stage = ExternalStage::Waiting(None);
        job.state = JobState::External { queue: "ml/team".into(), stage };
    }));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days
    job ml/queued: External. Kueue's LocalQueue ml/team decides when the job starts; see `kubectl get workloads -n ml`.
    ");
}

#[test]
fn a_job_without_gpus_is_released_at_once() {
    let mut site = Site::of(1, 4, 0).with(job("ml/prepare", 2, 0));
    assert_snapshot!(site.act(), @"release ml/prepare: wherever kube-scheduler puts it");
}

#[test]
fn when_a_job_ends_its_gpus_mine_after_the_idle_delay() {
    let mut site = Site::of(1, 4, 4).with(job("ml/train", 1, 4));
    site.settle();
    site.wait(minutes(90));
    site.ended("ml/train");
    assert_snapshot!(site.act_explained(), @"
    miner acme/hash (0 of 4): IdleDelay. GPUs stay idle until 2026-07-01T13:30:05Z, since AI work just ended there (spec.mining.idleDelay).
    job ml/train: Finished. The job has finished.
    look again at 13:30:05
    ");
    site.wait(seconds(5));
    assert_snapshot!(site.actions(), @"grant acme/hash on node-1 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days");
}
