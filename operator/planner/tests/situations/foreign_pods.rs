//! Pods that Daylight did not create: kube-scheduler preempts for them, or Daylight makes room.

use daylight_planner::model::*;
use insta::assert_snapshot;

use crate::objects::*;
use crate::site::Site;

#[test]
fn a_pending_pod_is_left_to_kube_scheduler() {
    let mut site = Site::of(1, 4, 4);
    site.settle();
    site.put(foreign_pod("web/chat", 2));
    assert_snapshot!(site.act_explained(), @"
    pod web/chat: SchedulerDecides. kube-scheduler places the pod, and preempts miners for it if necessary.
    look again at 12:00:30
    ");
}

#[test]
fn idle_gpus_are_withheld_from_miners_while_a_pod_is_pending() {
    let mut site = Site::of(1, 4, 4).with(foreign_pod("web/chat", 2));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days
    miner acme/hash (2 of 4): KeptForPods. kube-scheduler is about to place pods on 2 idle GPUs.
    pod web/chat: SchedulerDecides. kube-scheduler places the pod, and preempts miners for it if necessary.
    look again at 12:00:30
    ");
    site.wait(seconds(30));
    assert_snapshot!(site.actions(), @"grant acme/hash on node-1 (h100) slots 2 3, stops within 10s, ends in 183 days");
}

#[test]
fn gpus_that_kube_scheduler_clears_for_a_pod_go_to_no_miner() {
    let mut site = Site::of(1, 4, 4);
    site.settle();
    site.put(foreign_pod("web/chat", 2).but(|pod| pod.nominated = Some("node-1".into())));
    site.wait(minutes(1));
    site.put(Delta::PodGone("acme/hash-node-1-0".into()));
    site.put(Delta::PodGone("acme/hash-node-1-1".into()));
    assert_snapshot!(site.act_explained(), @"
    miner acme/hash (2 of 4): WaitingForIdleGpus. No node has 1 idle GPU.
    pod web/chat: SchedulerDecides. kube-scheduler places the pod, and preempts miners for it if necessary.
    ");
}

#[test]
fn a_never_preempting_pod_is_served_after_5_s() {
    let mut site = Site::of(1, 4, 4);
    site.settle();
    site.put(modest_pod("web/chat", 2));
    assert_snapshot!(site.act_explained(), @"
    pod web/chat: SchedulerFirst. The pod never preempts. If kube-scheduler finds no room before 2026-07-01T12:00:05Z, Daylight stops miners for it.
    look again at 12:00:05
    ");
    site.wait(seconds(5));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: AiDemand of web/chat
    evict acme/hash-node-1-1 within 10s: AiDemand of web/chat
    miner acme/hash (2 of 4, 2 stopping): Stopping. Stopping 2 replicas; replacements start as GPUs become idle.
    pod web/chat: WaitingForDrain. Waiting for miners to free 2 GPUs.
    ");
    site.drained();
    assert_snapshot!(site.act_explained(), @"
    miner acme/hash (2 of 4): WaitingForIdleGpus. No node has 1 idle GPU.
    pod web/chat: RoomKept. Capacity is reserved; waiting for kube-scheduler to bind the pod.
    ");
    site.edit_pod("web/chat", |pod| pod.node = Some("node-1".into()));
    assert_snapshot!(site.act(), @"");
}

#[test]
fn a_never_preempting_pod_is_served_only_where_its_filters_fit() {
    let mut site = Site::of(2, 2, 4);
    site.settle();
    site.put(modest_pod("web/chat", 1).but(|pod| {
        pod.role = Role::Other {
            activity: Activity::Listed("ai-inference".into()),
            preemption: Preemption::ByDaylight { allowed_nodes: Some(vec!["node-2".into()]) },
        };
    }));
    site.wait(seconds(5));
    assert_snapshot!(site.actions(), @"evict acme/hash-node-2-0 within 10s: AiDemand of web/chat");
}

#[test]
fn for_a_never_preempting_pod_with_unknown_filters_no_miner_is_displaced() {
    let mut site = Site::of(1, 2, 2);
    site.settle();
    site.put(foreign_pod("web/chat", 1).but(|pod| {
        pod.role = Role::Other {
            activity: Activity::Listed("ai-inference".into()),
            preemption: Preemption::Never,
        };
    }));
    site.wait(minutes(1));
    assert_snapshot!(site.act_explained(), @"pod web/chat: NotPreempting. The pod has preemptionPolicy Never and filters that Daylight cannot evaluate, so no miner is stopped for it. Use a PriorityClass that preempts.");
}

/// A small pod leaves the node that is being cleared for a large one, so that no plan displaces more.
#[test]
fn never_preempting_pods_do_not_change_places_while_miners_drain() {
    let mut site = Site::of(2, 4, 8);
    site.settle();
    site.edit_node("node-1", |node| node.condition = NodeCondition::Cordoned);
    site.put(modest_pod("web/chat", 2));
    site.wait(seconds(5));
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-2-0 within 10s: AiDemand of web/chat
    evict acme/hash-node-2-1 within 10s: AiDemand of web/chat
    ");
    site.edit_node("node-1", |node| node.condition = NodeCondition::Ready);
    site.put(modest_pod("web/train", 4));
    site.wait(seconds(5));
    assert_snapshot!(site.act(), @"
    evict acme/hash-node-1-0 within 10s: AiDemand of web/train
    evict acme/hash-node-1-1 within 10s: AiDemand of web/train
    evict acme/hash-node-1-2 within 10s: AiDemand of web/train
    evict acme/hash-node-1-3 within 10s: AiDemand of web/train
    ");
    // In this plan and the next ones.
    site.wait(seconds(1));
    assert_snapshot!(site.act(), @"");
}

#[test]
fn a_never_preempting_pod_that_fits_nowhere_is_reported() {
    let mut site = Site::of(2, 2, 4);
    site.settle();
    site.put(modest_pod("web/chat", 4));
    site.wait(seconds(5));
    assert_snapshot!(site.act_explained(), @"
    pod web/chat: NoNodeLargeEnough. No permitted node is large enough for one pod with 4 GPUs and its CPU and memory. Request less per pod.
    look again at 12:00:30
    ");
}

#[test]
fn a_never_preempting_pod_gets_a_pod_slot_too() {
    let mut site = Site::of(1, 4, 2);
    site.edit_node("node-1", |node| node.pod_slots = 2);
    site.settle();
    site.put(modest_pod("web/chat", 1));
    site.wait(seconds(5));
    assert_snapshot!(site.act_explained(), @"
    evict acme/hash-node-1-0 within 10s: AiDemand of web/chat
    miner acme/hash (1 of 2, 1 stopping): Stopping. Stopping 1 replica; its replacement starts when GPUs become idle.
    pod web/chat: WaitingForDrain. Waiting for miners to free CPU, memory, huge pages or a pod slot.
    ");
}

/// A node of four GPUs, of which such a pod holds three.
fn held_by_pod_of(activity: Activity) -> Site {
    Site::of(1, 4, 4).with(foreign_pod("shadow/what", 3).but(|pod| {
        pod.node = Some("node-1".into());
        pod.role = Role::Other { activity, preemption: Preemption::ByScheduler };
    }))
}

#[test]
fn pods_without_a_class_are_counted_as_undeclared() {
    let mut site = held_by_pod_of(Activity::Undeclared);
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slot 0, stops within 10s, ends in 183 days
    pool h100 (4 GPUs: 3 undeclared, 1 idle): Filling. Idle GPUs go to registered miners.
    miner acme/hash (1 of 4): WaitingForIdleGpus. No node has 1 idle GPU.
    ");
}

#[test]
fn pods_of_a_class_that_is_not_on_the_list_are_counted_apart() {
    let mut site = held_by_pod_of(Activity::Unlisted);
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slot 0, stops within 10s, ends in 183 days
    pool h100 (4 GPUs: 3 unlisted, 1 idle): Filling. Idle GPUs go to registered miners.
    miner acme/hash (1 of 4): WaitingForIdleGpus. No node has 1 idle GPU.
    ");
}

#[test]
fn workers_of_a_kueue_job_are_demand_like_any_other_pod() {
    let mut site = Site::of(1, 4, 4);
    site.put(job("ml/queued", 1, 2).but(|job| {
        let stage = ExternalStage::Starting;
        job.state = JobState::External { queue: "ml/team".into(), stage };
    }));
    site.put(foreign_pod("ml/queued-0", 2).but(|pod| {
        pod.role = Role::Worker { job: "ml/queued".into(), preemption: Preemption::ByScheduler };
    }));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1, stops within 10s, ends in 183 days
    miner acme/hash (2 of 4): KeptForPods. kube-scheduler is about to place pods on 2 idle GPUs.
    job ml/queued: Starting. Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    pod ml/queued-0: SchedulerDecides. kube-scheduler places the pod, and preempts miners for it if necessary.
    look again at 12:00:30
    ");
}

#[test]
fn a_pod_with_a_scheduling_gate_is_no_demand_and_its_gate_is_named() {
    let mut site = Site::of(1, 4, 4);
    let gates = vec!["kueue.x-k8s.io/admission".into()];
    site.put(foreign_pod("web/held", 2).but(|pod| pod.gates = gates));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slots 0 1 2 3, stops within 10s, ends in 183 days
    pod web/held: Gated. The pod is held by the scheduling gate kueue.x-k8s.io/admission; kube-scheduler considers it once the queueing system that set it removes it.
    ");
}

#[test]
fn miners_with_a_scheduling_gate_hold_nothing_and_are_not_started_twice() {
    let mut site = Site::of(1, 4, 4);
    site.act();
    site.gate_miners("kueue.x-k8s.io/admission");
    site.put(foreign_pod("web/chat", 3).but(|pod| pod.node = Some("node-1".into())));
    assert_snapshot!(site.act_explained(), @"miner acme/hash (0 of 4): ReplicasGated. 4 replicas are held by the scheduling gate kueue.x-k8s.io/admission. Exclude the miner's namespace in the queueing system that sets it.");
    let gpus = site.look().pools[0].gpus;
    assert_eq!((gpus.total, gpus.ai, gpus.mining, gpus.idle), (4, 3, 0, 1));
}

#[test]
fn unbound_workers_of_a_job_that_is_gone_are_demand_too() {
    let mut site = Site::of(1, 4, 4).with(job("ml/train", 2, 1));
    site.act();
    for index in 0..2 {
        site.put(foreign_pod(&format!("ml/train-{index}"), 1).but(|pod| {
            pod.role = Role::Worker { job: "ml/train".into(), preemption: Preemption::ByScheduler };
        }));
    }
    site.put(Delta::JobGone("ml/train".into()));
    site.put(Delta::PodGone("ml/train-0".into()));
    assert_snapshot!(site.act_explained(), @"
    grant acme/hash on node-1 (h100) slot 2, stops within 10s, ends in 183 days
    miner acme/hash (3 of 4): KeptForPods. kube-scheduler is about to place pods on 1 idle GPU.
    pod ml/train-1: SchedulerDecides. kube-scheduler places the pod, and preempts miners for it if necessary.
    look again at 12:00:30
    ");
}

#[test]
fn a_worker_that_never_preempts_is_served_once_the_job_is_not_daylights_to_start() {
    let external = JobState::External { queue: "ml/team".into(), stage: ExternalStage::Starting };
    for state in [external, JobState::Running { since: NOON }] {
        let mut site = Site::of(1, 8, 8);
        site.settle();
        site.put(job("ml/train", 1, 4).but(|job| job.state = state));
        site.put(modest_pod("ml/train-0", 4).but(|pod| {
            let preemption = Preemption::ByDaylight { allowed_nodes: None };
            pod.role = Role::Worker { job: "ml/train".into(), preemption };
        }));
        assert_eq!(site.act(), "");
        site.wait(seconds(5));
        assert_eq!(site.act().lines().count(), 4);
        assert!(site.map().contains("4 acme/hash (stopping)"));
    }
}
