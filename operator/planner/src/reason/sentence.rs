//! The sentences that users read: in conditions and Events, and from `daylight why`.
//!
//! Each names the object, the cause and, where the reader can do something about it, the remedy.
//! `docs/concepts.md` has a row for each.

use std::fmt;

use daylight_base::Name;

use crate::model::Approval;
use crate::reason::Reason;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filling => write!(f, "Idle GPUs go to registered miners."),
            Self::Running => write!(f, "All pods are running."),
            Self::Active { until } => write!(f, "In force until {until}."),
            Self::Finished => write!(f, "The job has finished."),
            Self::EmergencyStop { by, reason } => write!(
                f,
                "Emergency stop by {by} ({reason}); mining resumes after `daylight resume`."
            ),
            Self::Observing { would_mine } => write!(
                f,
                "The policy is Observe, so nothing is changed. With Fill, miners would start on {} now.",
                plural(*would_mine, "GPU")
            ),
            Self::Holding { pool } => write!(
                f,
                "Pool {pool} has the policy Hold: running miners stay, and no more start. Set spec.mining.policy to Fill to resume."
            ),
            Self::JournalFull { pool } => write!(
                f,
                "The auditor cannot record more about pool {pool}: running miners stay, and no more start. The pool's condition Metered names the cause."
            ),
            Self::Draining { pool } => write!(
                f,
                "Pool {pool} has the policy Drain: its miners stop. Set spec.mining.policy to Fill to resume."
            ),
            Self::WindowClosed { pool, opens: Some(at) } => {
                write!(f, "The mining window of pool {pool} is closed; it opens at {at}.")
            }
            Self::WindowClosed { pool, opens: None } => write!(
                f,
                "The mining window of pool {pool} is closed, and none opens in the coming weeks. Check spec.mining.windows."
            ),
            Self::Overlapping { pool, nodes } => write!(
                f,
                "{} also {} to the older pool {pool} and {} counted there. Make the node selectors disjoint.",
                plural(*nodes, "node"),
                if *nodes == 1 { "belongs" } else { "belong" },
                if *nodes == 1 { "is" } else { "are" },
            ),
            Self::NoNodes => write!(
                f,
                "No node matches the selector; check spec.nodeSelector against the nodes' labels."
            ),
            Self::NoGpus { resource } => write!(
                f,
                "No node of the pool offers {resource} now. Check the device plugin and spec.resource. GPUs of a DRA driver are not counted."
            ),
            Self::GpusUnavailable { gpus } => write!(
                f,
                "No GPU of the pool can be used; {gpus} unavailable. Their nodes are not ready, cordoned, tainted, or lost them."
            ),
            Self::GpusBeyondNodes { gpus } => write!(
                f,
                "Pods hold {} that their nodes do not offer. The pods were bound without kube-scheduler (spec.nodeName, static pods), or a DRA driver allocates GPUs.",
                plural(*gpus, "GPU")
            ),
            Self::GpusByClaim { gpus } => write!(
                f,
                "A DRA driver allocated {} to pods. Such GPUs are counted only while pods hold them, and none mines; use the device plugin.",
                plural(*gpus, "GPU")
            ),
            Self::Invalid { problem } => write!(f, "{problem}"),
            Self::RegistrationMissing { registration } => write!(
                f,
                "There is no Registration {registration}. Create it, or correct the miner's spec.registration."
            ),
            Self::AwaitingApproval { registration } => {
                write!(
                    f,
                    "Registration {registration} awaits approval by another user than its submitter (`daylight approve`)."
                )
            }
            Self::ApprovalVoided { registration, change } => write!(
                f,
                "The approval of registration {registration} is void: {change}. It must be approved again."
            ),
            Self::NotApproved { registration, approval } => {
                let word = match approval {
                    Approval::Rejected => "rejected",
                    Approval::Suspended => "suspended",
                    Approval::Revoked => "revoked",
                    _ => "not approved",
                };
                write!(f, "Registration {registration} is {word}.")
            }
            Self::SignatureMissing { registration } => write!(
                f,
                "The approval of registration {registration} lacks the authority's signature, which is required. Approve it again with --signature."
            ),
            Self::SignatureInvalid { registration } => write!(
                f,
                "The approval of registration {registration} has an invalid signature. The authority must sign what `daylight approve --print-message` prints."
            ),
            Self::NotYetValid { registration, from } => {
                write!(f, "Registration {registration} is valid from {from}.")
            }
            Self::Expired { registration, at } => {
                write!(f, "Registration {registration} is valid only until {at}; renew it.")
            }
            Self::MirrorPending { registration } => write!(
                f,
                "Registration {registration} is in force, but admission does not know it yet: the AdmissionList registrations is being updated."
            ),
            Self::MirrorFull { registration } => write!(
                f,
                "Registration {registration} does not fit into the AdmissionList registrations, which admission reads. Revoke or delete unused registrations."
            ),
            Self::ClassUnknown { class } => write!(
                f,
                "There is no ActivityClass {class}. Add it to the positive list, or name another class."
            ),
            Self::ClassProhibited { class } => write!(f, "ActivityClass {class} is prohibited."),
            Self::ClassNotForMining { class } => write!(
                f,
                "ActivityClass {class} is not IdleOnly, so miners cannot run under it. Register them under an IdleOnly class."
            ),
            Self::ClassNotForJobs { class } => write!(
                f,
                "ActivityClass {class} is not Guaranteed, so AI jobs cannot run under it. Name a Guaranteed class in spec.activityClass."
            ),
            Self::PoolUnknown { pool } => {
                write!(f, "There is no GpuPool {pool}. Create it, or correct the name.")
            }
            Self::PoolNotRegistered { registration } => write!(
                f,
                "Registration {registration} covers none of the miner's pools that exist. Correct spec.pools of the miner or of the registration."
            ),
            Self::PoolGpuLimit { pool, limit } => write!(
                f,
                "Pool {pool} limits mining to {}. Raise spec.mining.maxGpus to allow more.",
                plural(*limit, "GPU")
            ),
            Self::PowerBudget { pool, watts } => write!(
                f,
                "Pool {pool} limits mining to {watts} W. Raise spec.mining.powerBudgetWatts or lower the miners' watts."
            ),
            Self::Headroom { pool, gpus } => {
                write!(f, "Pool {pool} keeps {} idle for AI.", plural(*gpus, "GPU"))
            }
            Self::RegistrationGpuLimit { registration, limit } => {
                write!(
                    f,
                    "Registration {registration} allows at most {}; file another with a higher limit.",
                    plural(*limit, "GPU")
                )
            }
            Self::RegistrationPowerLimit { registration, watts } => {
                write!(
                    f,
                    "Registration {registration} allows at most {watts} W; file another with a higher limit."
                )
            }
            Self::OwnerGpuLimit { limit } => write!(
                f,
                "The owner's registrations together allow at most {}; file another with a higher spec.ownerLimits.",
                plural(*limit, "GPU")
            ),
            Self::OwnerPowerLimit { watts } => {
                write!(
                    f,
                    "The owner's registrations together allow at most {watts} W; file another with a higher spec.ownerLimits."
                )
            }
            Self::EnergyLimit { registration } => write!(
                f,
                "Registration {registration} would exceed its energy limit, or its owner's, before the next meter reading."
            ),
            Self::MeterUnavailable { registration } => write!(
                f,
                "Registration {registration} has an energy limit, but no meter reports its use. Mining waits for the auditor."
            ),
            Self::MeterStale { registration, metered_until } => write!(
                f,
                "The last meter reading of registration {registration} dates from {metered_until}; no more miners start until a newer one arrives."
            ),
            Self::PoolObserves { pool } => write!(
                f,
                "Pool {pool} has the policy Observe, so no miner starts. Set spec.mining.policy to Fill to change that."
            ),
            Self::NothingWanted => write!(f, "No replicas are requested."),
            Self::Stopping { replicas: 1 } => {
                write!(f, "Stopping 1 replica; its replacement starts when GPUs become idle.")
            }
            Self::Stopping { replicas } => {
                write!(f, "Stopping {replicas} replicas; replacements start as GPUs become idle.")
            }
            Self::ReplicasGated { replicas, gates } => write!(
                f,
                "{} held by {}. Exclude the miner's namespace in the queueing system that sets it.",
                if *replicas == 1 {
                    "1 replica is".to_owned()
                } else {
                    format!("{replicas} replicas are")
                },
                gate_list(gates)
            ),
            Self::WaitingForIdleGpus { gpus } => {
                write!(f, "No node has {}.", plural(*gpus, "idle GPU"))
            }
            Self::KeptForPods { gpus } => {
                write!(f, "kube-scheduler is about to place pods on {}.", plural(*gpus, "idle GPU"))
            }
            Self::KeptForMiner { miner } => write!(
                f,
                "What is free is kept for miner {miner}, which is next and starts once enough other replicas have stopped."
            ),
            Self::NodesClosed { gpus } => write!(
                f,
                "Nodes with {} are closed to mining: they are autoscaled, just lost GPUs, are kept for AI, or the pool's RuntimeClass excludes them.",
                plural(*gpus, "idle GPU")
            ),
            Self::NoNodeFits { gpus } => write!(
                f,
                "Nodes have {}, but not enough CPU, memory, huge pages or pod slots alongside. Lower the miner's spec.resources.",
                plural(*gpus, "idle GPU")
            ),
            Self::IdleDelay { until } => write!(
                f,
                "GPUs stay idle until {until}, since AI work just ended there (spec.mining.idleDelay)."
            ),
            Self::Quarantined { until } => write!(
                f,
                "Miners failed on the nodes that have idle GPUs; these nodes are used again from {until}."
            ),
            Self::WaitingForDrain { gpus: 0 } => {
                write!(f, "Waiting for miners to free CPU, memory, huge pages or a pod slot.")
            }
            Self::WaitingForDrain { gpus } => {
                write!(f, "Waiting for miners to free {}.", plural(*gpus, "GPU"))
            }
            Self::Starting { bound, workers } => {
                write!(
                    f,
                    "Waiting for kube-scheduler to bind the workers: {bound} of {workers} bound."
                )
            }
            Self::WaitingForCapacity { gpus, available, at } => {
                write!(
                    f,
                    "Requests {}; {available} available now, including those that miners hold.",
                    plural(*gpus, "GPU")
                )?;
                match at {
                    Some(at) => write!(f, " Running jobs free the rest by {at} at the latest."),
                    None => Ok(()),
                }
            }
            Self::PodNotStopping { pod, node, gone_by } => write!(
                f,
                "Pod {pod} on node {node} should have stopped by {gone_by} and still holds its GPUs. Check the node's kubelet. Once the node is certainly off, delete the pod with --force."
            ),
            Self::BehindJob { job } => {
                write!(f, "Job {job} is first in the queue and starts before this one.")
            }
            Self::WouldDelay { job } => write!(
                f,
                "Starting now could delay job {job}, which is first in the queue. A shorter spec.maxRunTime may help."
            ),
            Self::NoNodeLargeEnough { gpus } => write!(
                f,
                "No permitted node is large enough for one pod with {} and its CPU and memory. Request less per pod.",
                plural(*gpus, "GPU")
            ),
            Self::PoolTooSmall { gpus, most } => write!(
                f,
                "Requests {}; the permitted nodes have at most {most}. Request fewer or smaller workers.",
                plural(*gpus, "GPU")
            ),
            Self::GangBackoff { until } => {
                write!(
                    f,
                    "Not all workers were bound in time; the job queues again at {until}. See the Events of its pods."
                )
            }
            Self::JobSuspended { manager, job } => write!(
                f,
                "{manager} suspended Job {job}, so Daylight keeps no GPUs for it. Set its spec.suspend to false. If {manager} is a queue, create the AIJob again with spec.queueName, or exclude the namespace there."
            ),
            Self::WorkersMissing { bound, workers } => write!(
                f,
                "{bound} of {workers} workers {} bound to a node; the Job replaces workers that were evicted or failed. See the Events of its pods.",
                if *bound == 1 { "is" } else { "are" },
            ),
            Self::RequestsChanged { change } => write!(
                f,
                "{change} Set the requests of every container, or change what adds to them."
            ),
            Self::External { queue, why: Some(why) } => {
                write!(f, "Kueue's LocalQueue {queue} has not admitted the job: {why}")
            }
            Self::External { queue, why: None } => {
                let namespace = queue.split_once('/').map_or("", |(namespace, _)| namespace);
                write!(
                    f,
                    "Kueue's LocalQueue {queue} decides when the job starts; see `kubectl get workloads -n {namespace}`."
                )
            }
            Self::Gated { gates } => write!(
                f,
                "The pod is held by {}; kube-scheduler considers it once the queueing system that set it removes it.",
                gate_list(gates)
            ),
            Self::SchedulerDecides => {
                write!(f, "kube-scheduler places the pod, and preempts miners for it if necessary.")
            }
            Self::SchedulerFirst { until } => write!(
                f,
                "The pod never preempts. If kube-scheduler finds no room before {until}, Daylight stops miners for it."
            ),
            Self::RoomKept => {
                write!(f, "Capacity is reserved; waiting for kube-scheduler to bind the pod.")
            }
            Self::NotPreempting => write!(
                f,
                "The pod has preemptionPolicy Never and filters that Daylight cannot evaluate, so no miner is stopped for it. Use a PriorityClass that preempts."
            ),
        }
    }
}

fn gate_list(gates: &[Name]) -> String {
    let noun = if gates.len() == 1 { "gate" } else { "gates" };
    format!("the scheduling {noun} {}", gates.join(" and "))
}

fn plural(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
