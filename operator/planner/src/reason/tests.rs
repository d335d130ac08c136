//! Pins every word and sentence once: users and programs depend on them, so they change on purpose.

use insta::assert_snapshot;
use strum::VariantNames;

use super::*;

/// One reason of each word, in the order of the enum.
fn examples() -> Vec<Reason> {
    use Reason::*;
    let at = Timestamp::from_seconds(1_782_907_200);
    let pool: Name = "hall-1".into();
    let registration: Name = "acme/power".into();
    let class: Name = "pow-mining".into();
    let job: Name = "ml/train".into();
    let not_approved = |approval| NotApproved { registration: registration.clone(), approval };
    vec![
        Filling,
        Running,
        Active { until: at },
        Finished,
        EmergencyStop { by: "ada".into(), reason: "fire drill".into() },
        Observing { would_mine: 3 },
        Holding { pool: pool.clone() },
        JournalFull { pool: pool.clone() },
        Draining { pool: pool.clone() },
        WindowClosed { pool: pool.clone(), opens: Some(at) },
        WindowClosed { pool: pool.clone(), opens: None },
        Overlapping { pool: pool.clone(), nodes: 1 },
        Overlapping { pool: pool.clone(), nodes: 2 },
        NoNodes,
        NoGpus { resource: "nvidia.com/gpu".into() },
        GpusUnavailable { gpus: 64 },
        GpusBeyondNodes { gpus: 1 },
        GpusByClaim { gpus: 1 },
        Invalid { problem: "spec.site names hall-9, where there is no pool.".into() },
        RegistrationMissing { registration: registration.clone() },
        AwaitingApproval { registration: registration.clone() },
        ApprovalVoided {
            registration: registration.clone(),
            change: "GpuPool hall-2, which it names, does not exist".into(),
        },
        not_approved(Approval::Pending),
        not_approved(Approval::Rejected),
        not_approved(Approval::Suspended),
        not_approved(Approval::Revoked),
        SignatureMissing { registration: registration.clone() },
        SignatureInvalid { registration: registration.clone() },
        NotYetValid { registration: registration.clone(), from: at },
        Expired { registration: registration.clone(), at },
        MirrorPending { registration: registration.clone() },
        MirrorFull { registration: registration.clone() },
        ClassUnknown { class: class.clone() },
        ClassProhibited { class: class.clone() },
        ClassNotForMining { class: class.clone() },
        ClassNotForJobs { class },
        PoolUnknown { pool: pool.clone() },
        PoolNotRegistered { registration: registration.clone() },
        PoolGpuLimit { pool: pool.clone(), limit: 4 },
        PowerBudget { pool: pool.clone(), watts: 1000 },
        Headroom { pool: pool.clone(), gpus: 1 },
        RegistrationGpuLimit { registration: registration.clone(), limit: 4 },
        RegistrationPowerLimit { registration: registration.clone(), watts: 1000 },
        OwnerGpuLimit { limit: 4 },
        OwnerPowerLimit { watts: 1000 },
        EnergyLimit { registration: registration.clone() },
        MeterUnavailable { registration: registration.clone() },
        MeterStale { registration, metered_until: at },
        PoolObserves { pool },
        NothingWanted,
        Stopping { replicas: 1 },
        Stopping { replicas: 2 },
        ReplicasGated { replicas: 1, gates: vec!["kueue.x-k8s.io/admission".into()] },
        ReplicasGated {
            replicas: 2,
            gates: vec!["kueue.x-k8s.io/admission".into(), "kueue.x-k8s.io/topology".into()],
        },
        WaitingForIdleGpus { gpus: 2 },
        KeptForPods { gpus: 2 },
        KeptForMiner { miner: "acme/quad".into() },
        NodesClosed { gpus: 1 },
        NoNodeFits { gpus: 1 },
        IdleDelay { until: at },
        Quarantined { until: at },
        WaitingForDrain { gpus: 0 },
        WaitingForDrain { gpus: 2 },
        Starting { bound: 0, workers: 1 },
        WaitingForCapacity { gpus: 8, available: 4, at: None },
        WaitingForCapacity { gpus: 8, available: 4, at: Some(at) },
        PodNotStopping { pod: "acme/hash-0".into(), node: "node-1".into(), gone_by: at },
        BehindJob { job: job.clone() },
        WouldDelay { job },
        NoNodeLargeEnough { gpus: 16 },
        PoolTooSmall { gpus: 16, most: 8 },
        GangBackoff { until: at },
        RequestsChanged {
            change:
                "Pod ml/train-0 requests 9 nvidia.com/gpu, 8 are set. A LimitRange added to it."
                    .into(),
        },
        JobSuspended { manager: "kubectl-patch".into(), job: "ml/train".into() },
        WorkersMissing { bound: 1, workers: 2 },
        WorkersMissing { bound: 0, workers: 2 },
        External { queue: "ml/team".into(), why: None },
        External { queue: "ml/team".into(), why: Some("The quota is used up.".into()) },
        Gated { gates: vec!["kueue.x-k8s.io/admission".into()] },
        SchedulerDecides,
        SchedulerFirst { until: at },
        RoomKept,
        NotPreempting,
    ]
}

#[test]
fn the_words_and_sentences_are_fixed() {
    let lines: Vec<_> =
        examples().iter().map(|reason| format!("{}: {reason}", reason.code())).collect();
    assert_snapshot!(lines.join("\n"), @"
    Filling: Idle GPUs go to registered miners.
    Running: All pods are running.
    Active: In force until 2026-07-01T12:00:00Z.
    Finished: The job has finished.
    EmergencyStop: Emergency stop by ada (fire drill); mining resumes after `daylight resume`.
    Observing: The policy is Observe, so nothing is changed. With Fill, miners would start on 3 GPUs now.
    Holding: Pool hall-1 has the policy Hold: running miners stay, and no more start. Set spec.mining.policy to Fill to resume.
    JournalFull: The auditor cannot record more about pool hall-1: running miners stay, and no more start. The pool's condition Metered names the cause.
    Draining: Pool hall-1 has the policy Drain: its miners stop. Set spec.mining.policy to Fill to resume.
    WindowClosed: The mining window of pool hall-1 is closed; it opens at 2026-07-01T12:00:00Z.
    WindowClosed: The mining window of pool hall-1 is closed, and none opens in the coming weeks. Check spec.mining.windows.
    Overlapping: 1 node also belongs to the older pool hall-1 and is counted there. Make the node selectors disjoint.
    Overlapping: 2 nodes also belong to the older pool hall-1 and are counted there. Make the node selectors disjoint.
    NoNodes: No node matches the selector; check spec.nodeSelector against the nodes' labels.
    NoGpus: No node of the pool offers nvidia.com/gpu now. Check the device plugin and spec.resource. GPUs of a DRA driver are not counted.
    GpusUnavailable: No GPU of the pool can be used; 64 unavailable. Their nodes are not ready, cordoned, tainted, or lost them.
    GpusBeyondNodes: Pods hold 1 GPU that their nodes do not offer. The pods were bound without kube-scheduler (spec.nodeName, static pods), or a DRA driver allocates GPUs.
    GpusByClaim: A DRA driver allocated 1 GPU to pods. Such GPUs are counted only while pods hold them, and none mines; use the device plugin.
    Invalid: spec.site names hall-9, where there is no pool.
    RegistrationMissing: There is no Registration acme/power. Create it, or correct the miner's spec.registration.
    AwaitingApproval: Registration acme/power awaits approval by another user than its submitter (`daylight approve`).
    ApprovalVoided: The approval of registration acme/power is void: GpuPool hall-2, which it names, does not exist. It must be approved again.
    NotApproved: Registration acme/power is not approved.
    Rejected: Registration acme/power is rejected.
    Suspended: Registration acme/power is suspended.
    Revoked: Registration acme/power is revoked.
    SignatureMissing: The approval of registration acme/power lacks the authority's signature, which is required. Approve it again with --signature.
    SignatureInvalid: The approval of registration acme/power has an invalid signature. The authority must sign what `daylight approve --print-message` prints.
    NotYetValid: Registration acme/power is valid from 2026-07-01T12:00:00Z.
    Expired: Registration acme/power is valid only until 2026-07-01T12:00:00Z; renew it.
    MirrorPending: Registration acme/power is in force, but admission does not know it yet: the AdmissionList registrations is being updated.
    MirrorFull: Registration acme/power does not fit into the AdmissionList registrations, which admission reads. Revoke or delete unused registrations.
    ClassUnknown: There is no ActivityClass pow-mining. Add it to the positive list, or name another class.
    ClassProhibited: ActivityClass pow-mining is prohibited.
    ClassNotForMining: ActivityClass pow-mining is not IdleOnly, so miners cannot run under it. Register them under an IdleOnly class.
    ClassNotForJobs: ActivityClass pow-mining is not Guaranteed, so AI jobs cannot run under it. Name a Guaranteed class in spec.activityClass.
    PoolUnknown: There is no GpuPool hall-1. Create it, or correct the name.
    PoolNotRegistered: Registration acme/power covers none of the miner's pools that exist. Correct spec.pools of the miner or of the registration.
    PoolGpuLimit: Pool hall-1 limits mining to 4 GPUs. Raise spec.mining.maxGpus to allow more.
    PowerBudget: Pool hall-1 limits mining to 1000 W. Raise spec.mining.powerBudgetWatts or lower the miners' watts.
    Headroom: Pool hall-1 keeps 1 GPU idle for AI.
    RegistrationGpuLimit: Registration acme/power allows at most 4 GPUs; file another with a higher limit.
    RegistrationPowerLimit: Registration acme/power allows at most 1000 W; file another with a higher limit.
    OwnerGpuLimit: The owner's registrations together allow at most 4 GPUs; file another with a higher spec.ownerLimits.
    OwnerPowerLimit: The owner's registrations together allow at most 1000 W; file another with a higher spec.ownerLimits.
    EnergyLimit: Registration acme/power would exceed its energy limit, or its owner's, before the next meter reading.
    MeterUnavailable: Registration acme/power has an energy limit, but no meter reports its use. Mining waits for the auditor.
    MeterStale: The last meter reading of registration acme/power dates from 2026-07-01T12:00:00Z; no more miners start until a newer one arrives.
    PoolObserves: Pool hall-1 has the policy Observe, so no miner starts. Set spec.mining.policy to Fill to change that.
    NothingWanted: No replicas are requested.
    Stopping: Stopping 1 replica; its replacement starts when GPUs become idle.
    Stopping: Stopping 2 replicas; replacements start as GPUs become idle.
    ReplicasGated: 1 replica is held by the scheduling gate kueue.x-k8s.io/admission. Exclude the miner's namespace in the queueing system that sets it.
    ReplicasGated: 2 replicas are held by the scheduling gates kueue.x-k8s.io/admission and kueue.x-k8s.io/topology. Exclude the miner's namespace in the queueing system that sets it.
    WaitingForIdleGpus: No node has 2 idle GPUs.
    KeptForPods: kube-scheduler is about to place pods on 2 idle GPUs.
    KeptForMiner: What is free is kept for miner acme/quad, which is next and starts once enough other replicas have stopped.
    NodesClosed: Nodes with 1 idle GPU are closed to mining: they are autoscaled, just lost GPUs, are kept for AI, or the pool's RuntimeClass excludes them.
    NoNodeFits: Nodes have 1 idle GPU, but not enough CPU, memory, huge pages or pod slots alongside. Lower the miner's spec.resources.
    IdleDelay: GPUs stay idle until 2026-07-01T12:00:00Z, since AI work just ended there (spec.mining.idleDelay).
    Quarantined: Miners failed on the nodes that have idle GPUs; these nodes are used again from 2026-07-01T12:00:00Z.
    WaitingForDrain: Waiting for miners to free CPU, memory, huge pages or a pod slot.
    WaitingForDrain: Waiting for miners to free 2 GPUs.
    Starting: Waiting for kube-scheduler to bind the workers: 0 of 1 bound.
    WaitingForCapacity: Requests 8 GPUs; 4 available now, including those that miners hold.
    WaitingForCapacity: Requests 8 GPUs; 4 available now, including those that miners hold. Running jobs free the rest by 2026-07-01T12:00:00Z at the latest.
    PodNotStopping: Pod acme/hash-0 on node node-1 should have stopped by 2026-07-01T12:00:00Z and still holds its GPUs. Check the node's kubelet. Once the node is certainly off, delete the pod with --force.
    BehindJob: Job ml/train is first in the queue and starts before this one.
    WouldDelay: Starting now could delay job ml/train, which is first in the queue. A shorter spec.maxRunTime may help.
    NoNodeLargeEnough: No permitted node is large enough for one pod with 16 GPUs and its CPU and memory. Request less per pod.
    PoolTooSmall: Requests 16 GPUs; the permitted nodes have at most 8. Request fewer or smaller workers.
    GangBackoff: Not all workers were bound in time; the job queues again at 2026-07-01T12:00:00Z. See the Events of its pods.
    RequestsChanged: Pod ml/train-0 requests 9 nvidia.com/gpu, 8 are set. A LimitRange added to it. Set the requests of every container, or change what adds to them.
    JobSuspended: kubectl-patch suspended Job ml/train, so Daylight keeps no GPUs for it. Set its spec.suspend to false. If kubectl-patch is a queue, create the AIJob again with spec.queueName, or exclude the namespace there.
    WorkersMissing: 1 of 2 workers is bound to a node; the Job replaces workers that were evicted or failed. See the Events of its pods.
    WorkersMissing: 0 of 2 workers are bound to a node; the Job replaces workers that were evicted or failed. See the Events of its pods.
    External: Kueue's LocalQueue ml/team decides when the job starts; see `kubectl get workloads -n ml`.
    External: Kueue's LocalQueue ml/team has not admitted the job: The quota is used up.
    Gated: The pod is held by the scheduling gate kueue.x-k8s.io/admission; kube-scheduler considers it once the queueing system that set it removes it.
    SchedulerDecides: kube-scheduler places the pod, and preempts miners for it if necessary.
    SchedulerFirst: The pod never preempts. If kube-scheduler finds no room before 2026-07-01T12:00:00Z, Daylight stops miners for it.
    RoomKept: Capacity is reserved; waiting for kube-scheduler to bind the pod.
    NotPreempting: The pod has preemptionPolicy Never and filters that Daylight cannot evaluate, so no miner is stopped for it. Use a PriorityClass that preempts.
    ");
}

#[test]
fn no_reason_is_left_out() {
    let mut names: Vec<&str> = examples().iter().map(Into::into).collect();
    names.dedup();
    assert_eq!(names, Reason::VARIANTS);
}

#[test]
fn a_sentence_is_short_enough_to_be_read_at_once() {
    for reason in examples() {
        for sentence in reason.to_string().split_inclusive(". ") {
            assert!(sentence.split_whitespace().count() <= 25, "{sentence}");
        }
    }
}

/// Reasons of pools, classes, registrations alone, AI jobs and pods.
const NOT_OF_MINERS: [&str; 27] = [
    "Filling",
    "Active",
    "Finished",
    "Observing",
    "Overlapping",
    "NoNodes",
    "NoGpus",
    "GpusUnavailable",
    "GpusBeyondNodes",
    "GpusByClaim",
    "ClassNotForJobs",
    "WaitingForDrain",
    "WaitingForCapacity",
    "PodNotStopping",
    "BehindJob",
    "WouldDelay",
    "NoNodeLargeEnough",
    "PoolTooSmall",
    "GangBackoff",
    "JobSuspended",
    "WorkersMissing",
    "External",
    "Gated",
    "SchedulerDecides",
    "SchedulerFirst",
    "RoomKept",
    "NotPreempting",
];

#[test]
fn the_manual_says_what_to_do_about_each_reason_of_a_miner() {
    let manual = include_str!("../../../../docs/miner.md");
    let rows = manual.lines().filter(|line| line.starts_with("| `"));
    let first_cells: Vec<&str> = rows.filter_map(|row| row.split(" | ").next()).collect();
    for reason in examples() {
        let word = reason.code();
        let has_row = first_cells.iter().any(|cell| cell.contains(&format!("`{word}`")));
        // A pending approval is shown as `AwaitingApproval`.
        let is_of_miners = !NOT_OF_MINERS.contains(&word) && word != "NotApproved";
        assert!(has_row || !is_of_miners, "docs/miner.md has no row for {word}");
    }
}
