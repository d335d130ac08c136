//! Why objects are as they are: words for machines, sentences for people.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::Approval;
use daylight_base::{Name, Timestamp};

/// Why an object is as it is.
///
/// [`Reason::code`] is the machine-readable word, `Display` the sentence,
/// [`Reason::earliest`] the first moment at which it may change by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Reason {
    // Good states.
    Filling,
    Running,
    Active { until: Timestamp },
    Finished,
    // Whole site or pool.
    EmergencyStop { by: Arc<str>, reason: Arc<str> },
    Observing { would_mine: u32 },
    Holding { pool: Name },
    JournalFull { pool: Name },
    Draining { pool: Name },
    WindowClosed { pool: Name, opens: Option<Timestamp> },
    Overlapping { pool: Name, nodes: u32 },
    NoNodes,
    Invalid { problem: Arc<str> },
    // Registrations and classes.
    RegistrationMissing { registration: Name },
    AwaitingApproval { registration: Name },
    ApprovalVoided { registration: Name },
    NotApproved { registration: Name, approval: Approval },
    SignatureMissing { registration: Name },
    SignatureInvalid { registration: Name },
    NotYetValid { registration: Name, from: Timestamp },
    Expired { registration: Name, at: Timestamp },
    MirrorPending { registration: Name },
    MirrorFull { registration: Name },
    ClassUnknown { class: Name },
    ClassProhibited { class: Name },
    ClassNotForMining { class: Name },
    ClassNotForJobs { class: Name },
    PoolUnknown { pool: Name },
    PoolNotRegistered { registration: Name },
    // Caps.
    PoolGpuLimit { pool: Name, limit: u32 },
    PowerBudget { pool: Name, watts: u64 },
    Headroom { pool: Name, gpus: u32 },
    RegistrationGpuLimit { registration: Name, limit: u32 },
    RegistrationPowerLimit { registration: Name, watts: u64 },
    OwnerGpuLimit { limit: u32 },
    OwnerPowerLimit { watts: u64 },
    EnergyLimit { registration: Name },
    MeterUnavailable { registration: Name },
    MeterStale { registration: Name, metered_until: Timestamp },
    // Waiting for capacity.
    PoolObserves { pool: Name },
    NothingWanted,
    Stopping { replicas: u32 },
    WaitingForIdleGpus { gpus: u32 },
    KeptForPods { gpus: u32 },
    KeptForMiner { miner: Name },
    NodesClosed { gpus: u32 },
    NoNodeFits { gpus: u32 },
    IdleDelay { until: Timestamp },
    Quarantined { until: Timestamp },
    // AI jobs and pods.
    WaitingForDrain { gpus: u32 },
    Starting { bound: u32, workers: u32 },
    WaitingForCapacity { gpus: u32, available: u32, at: Option<Timestamp> },
    BehindJob { job: Name },
    WouldDelay { job: Name },
    NoNodeLargeEnough { gpus: u32 },
    PoolTooSmall { gpus: u32, most: u32 },
    GangBackoff { until: Timestamp },
    External,
    SchedulerDecides,
    SchedulerFirst { until: Timestamp },
    RoomKept,
    NotPreempting,
}

/// Dates in sentences: UTC, to the second, as RFC 3339 has them.
struct At(Timestamp);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Days to civil date after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
        let seconds = self.0.0.div_euclid(1000);
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
        let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second_of_day / 3600,
            second_of_day / 60 % 60,
            second_of_day % 60
        )
    }
}

fn plural(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

impl Reason {
    /// The machine-readable word, in the form of a condition's reason.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Filling => "Filling",
            Self::Running => "Running",
            Self::Active { .. } => "Active",
            Self::Finished => "Finished",
            Self::EmergencyStop { .. } => "EmergencyStop",
            Self::Observing { .. } => "Observing",
            Self::Holding { .. } => "Holding",
            Self::JournalFull { .. } => "JournalFull",
            Self::Draining { .. } => "Draining",
            Self::WindowClosed { .. } => "WindowClosed",
            Self::Overlapping { .. } => "Overlapping",
            Self::NoNodes => "NoNodes",
            Self::Invalid { .. } => "Invalid",
            Self::RegistrationMissing { .. } => "RegistrationMissing",
            Self::AwaitingApproval { .. } => "AwaitingApproval",
            Self::ApprovalVoided { .. } => "ApprovalVoided",
            Self::NotApproved { approval, .. } => match approval {
                Approval::Rejected => "Rejected",
                Approval::Suspended => "Suspended",
                Approval::Revoked => "Revoked",
                _ => "NotApproved",
            },
            Self::SignatureMissing { .. } => "SignatureMissing",
            Self::SignatureInvalid { .. } => "SignatureInvalid",
            Self::NotYetValid { .. } => "NotYetValid",
            Self::Expired { .. } => "Expired",
            Self::MirrorPending { .. } => "MirrorPending",
            Self::MirrorFull { .. } => "MirrorFull",
            Self::ClassUnknown { .. } => "ClassUnknown",
            Self::ClassProhibited { .. } => "ClassProhibited",
            Self::ClassNotForMining { .. } => "ClassNotForMining",
            Self::ClassNotForJobs { .. } => "ClassNotForJobs",
            Self::PoolUnknown { .. } => "PoolUnknown",
            Self::PoolNotRegistered { .. } => "PoolNotRegistered",
            Self::PoolGpuLimit { .. } => "PoolGpuLimit",
            Self::PowerBudget { .. } => "PowerBudget",
            Self::Headroom { .. } => "Headroom",
            Self::RegistrationGpuLimit { .. } => "RegistrationGpuLimit",
            Self::RegistrationPowerLimit { .. } => "RegistrationPowerLimit",
            Self::OwnerGpuLimit { .. } => "OwnerGpuLimit",
            Self::OwnerPowerLimit { .. } => "OwnerPowerLimit",
            Self::EnergyLimit { .. } => "EnergyLimit",
            Self::MeterUnavailable { .. } => "MeterUnavailable",
            Self::MeterStale { .. } => "MeterStale",
            Self::PoolObserves { .. } => "PoolObserves",
            Self::NothingWanted => "NothingWanted",
            Self::Stopping { .. } => "Stopping",
            Self::WaitingForIdleGpus { .. } => "WaitingForIdleGpus",
            Self::KeptForPods { .. } => "KeptForPods",
            Self::KeptForMiner { .. } => "KeptForMiner",
            Self::NodesClosed { .. } => "NodesClosed",
            Self::NoNodeFits { .. } => "NoNodeFits",
            Self::IdleDelay { .. } => "IdleDelay",
            Self::Quarantined { .. } => "Quarantined",
            Self::WaitingForDrain { .. } => "WaitingForDrain",
            Self::Starting { .. } => "Starting",
            Self::WaitingForCapacity { .. } => "WaitingForCapacity",
            Self::BehindJob { .. } => "BehindJob",
            Self::WouldDelay { .. } => "WouldDelay",
            Self::NoNodeLargeEnough { .. } => "NoNodeLargeEnough",
            Self::PoolTooSmall { .. } => "PoolTooSmall",
            Self::GangBackoff { .. } => "GangBackoff",
            Self::External => "External",
            Self::SchedulerDecides => "SchedulerDecides",
            Self::SchedulerFirst { .. } => "SchedulerFirst",
            Self::RoomKept => "RoomKept",
            Self::NotPreempting => "NotPreempting",
        }
    }

    /// The first moment at which it may change by itself, where one is known.
    pub const fn earliest(&self) -> Option<Timestamp> {
        match self {
            Self::WindowClosed { opens, .. } => *opens,
            Self::WaitingForCapacity { at, .. } => *at,
            Self::NotYetValid { from, .. } => Some(*from),
            Self::IdleDelay { until }
            | Self::Quarantined { until }
            | Self::GangBackoff { until }
            | Self::SchedulerFirst { until } => Some(*until),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filling => write!(f, "Idle GPUs go to registered miners."),
            Self::Running => write!(f, "All of it runs."),
            Self::Active { until } => write!(f, "In force until {}.", At(*until)),
            Self::Finished => write!(f, "It is over."),
            Self::EmergencyStop { by, reason } => write!(
                f,
                "Emergency stop by {by} ({reason}); mining resumes after `daylight resume`."
            ),
            Self::Observing { would_mine } => write!(
                f,
                "The policy is Observe, so nothing is changed; with Fill, {} more would mine now.",
                plural(*would_mine, "GPU")
            ),
            Self::Holding { pool } => {
                write!(f, "Pool {pool} holds mining: running miners stay, none is added.")
            }
            Self::JournalFull { pool } => write!(
                f,
                "The auditor can take nothing more on record, which the condition Metered of pool {pool} explains: running miners stay, none is added."
            ),
            Self::Draining { pool } => write!(f, "Pool {pool} drains mining."),
            Self::WindowClosed { pool, opens: Some(at) } => {
                write!(f, "The mining window of pool {pool} is closed; it opens at {}.", At(*at))
            }
            Self::WindowClosed { pool, opens: None } => write!(
                f,
                "The mining window of pool {pool} is closed, and none opens within the next weeks."
            ),
            Self::Overlapping { pool, nodes } => write!(
                f,
                "{} of it {} to the older pool {pool} as well, and there {}; make the node selectors disjoint.",
                plural(*nodes, "node"),
                if *nodes == 1 { "belongs" } else { "belong" },
                if *nodes == 1 { "it counts" } else { "they count" },
            ),
            Self::NoNodes => {
                write!(
                    f,
                    "No node matches the selector; check spec.nodeSelector against the nodes' labels."
                )
            }
            Self::Invalid { problem } => write!(f, "{problem}"),
            Self::RegistrationMissing { registration } => write!(
                f,
                "There is no Registration {registration}; spec.registration must name one in the miner's namespace."
            ),
            Self::AwaitingApproval { registration } => {
                write!(f, "Registration {registration} awaits approval.")
            }
            Self::ApprovalVoided { registration } => write!(
                f,
                "Registration {registration} was edited after its approval, which voids it; it must be approved again."
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
                "Registration {registration} is approved without the authority's signature, which is required; approve it with --signature."
            ),
            Self::SignatureInvalid { registration } => write!(
                f,
                "The signature in the approval of registration {registration} is not the authority's for it as it is approved; let the authority sign what `daylight approve --print-message` prints."
            ),
            Self::NotYetValid { registration, from } => {
                write!(f, "Registration {registration} holds from {} on.", At(*from))
            }
            Self::Expired { registration, at } => {
                write!(f, "Registration {registration} is valid until {} only; renew it.", At(*at))
            }
            Self::MirrorPending { registration } => write!(
                f,
                "Registration {registration} is in force, and admission does not know it yet: the ConfigMap daylight-registrations in Daylight's namespace is being brought up to date."
            ),
            Self::MirrorFull { registration } => write!(
                f,
                "Registration {registration} does not fit into the ConfigMap daylight-registrations, by which admission knows registrations; revoke or delete older ones that are not used."
            ),
            Self::ClassUnknown { class } => write!(
                f,
                "There is no ActivityClass {class}; the positive list must have it first."
            ),
            Self::ClassProhibited { class } => write!(f, "ActivityClass {class} is prohibited."),
            Self::ClassNotForMining { class } => write!(
                f,
                "ActivityClass {class} is not IdleOnly, so miners cannot be assigned under it."
            ),
            Self::ClassNotForJobs { class } => write!(
                f,
                "ActivityClass {class} is not Guaranteed, so AI jobs cannot run under it."
            ),
            Self::PoolUnknown { pool } => write!(f, "There is no GpuPool {pool}."),
            Self::PoolNotRegistered { registration } => write!(
                f,
                "Registration {registration} names none of the pools that the miner wants, or none that exists."
            ),
            Self::PoolGpuLimit { pool, limit } => {
                write!(f, "Pool {pool} lets at most {} mine.", plural(*limit, "GPU"))
            }
            Self::PowerBudget { pool, watts } => {
                write!(f, "Pool {pool} lets at most {watts} W mine.")
            }
            Self::Headroom { pool, gpus } => {
                write!(f, "Pool {pool} keeps {} idle for AI.", plural(*gpus, "GPU"))
            }
            Self::RegistrationGpuLimit { registration, limit } => {
                write!(f, "Registration {registration} allows at most {}.", plural(*limit, "GPU"))
            }
            Self::RegistrationPowerLimit { registration, watts } => {
                write!(f, "Registration {registration} allows at most {watts} W.")
            }
            Self::OwnerGpuLimit { limit } => write!(
                f,
                "All registrations of the owner together allow at most {}.",
                plural(*limit, "GPU")
            ),
            Self::OwnerPowerLimit { watts } => {
                write!(f, "All registrations of the owner together allow at most {watts} W.")
            }
            Self::EnergyLimit { registration } => write!(
                f,
                "The energy limit of registration {registration} would be passed before the next meter reading."
            ),
            Self::MeterUnavailable { registration } => write!(
                f,
                "Registration {registration} has an energy limit, and no meter reports for it; mining waits for the auditor."
            ),
            Self::MeterStale { registration, metered_until } => write!(
                f,
                "The meter of registration {registration} last reported at {}; mining waits for a fresh reading.",
                At(*metered_until)
            ),
            Self::PoolObserves { pool } => {
                write!(f, "Pool {pool} only observes; its policy Fill would let miners in.")
            }
            Self::NothingWanted => write!(f, "No replicas are wanted."),
            Self::Stopping { replicas: 1 } => {
                write!(f, "1 replica is stopping; then it is started again where GPUs are idle.")
            }
            Self::Stopping { replicas } => write!(
                f,
                "{replicas} replicas are stopping; then they are started again where GPUs are idle."
            ),
            Self::WaitingForIdleGpus { gpus } => {
                write!(f, "No node has {} idle.", plural(*gpus, "GPU"))
            }
            Self::KeptForPods { gpus } => {
                write!(f, "kube-scheduler is about to place pods on {}.", plural(*gpus, "idle GPU"))
            }
            Self::KeptForMiner { miner } => write!(
                f,
                "Idle GPUs await others on their node for a larger replica of miner {miner}, whose turn it is."
            ),
            Self::NodesClosed { gpus } => write!(
                f,
                "Nodes have {} idle, but are closed to mining: an autoscaler manages them, they lost GPUs, or they are kept clear for AI.",
                plural(*gpus, "GPU")
            ),
            Self::NoNodeFits { gpus } => write!(
                f,
                "Nodes have {} idle, but not the CPU, memory or pod slots beside.",
                plural(*gpus, "GPU")
            ),
            Self::IdleDelay { until } => {
                write!(f, "GPUs rest after AI work until {}.", At(*until))
            }
            Self::Quarantined { until } => write!(
                f,
                "Miners failed on the nodes with idle GPUs; they are tried again from {}.",
                At(*until)
            ),
            Self::WaitingForDrain { gpus: 0 } => {
                write!(f, "Waits for miners to leave CPU, memory or a pod slot.")
            }
            Self::WaitingForDrain { gpus } => {
                write!(f, "Waits for miners to leave {}.", plural(*gpus, "GPU"))
            }
            Self::Starting { bound, workers } => {
                write!(f, "{bound} of {} bound to nodes.", plural(*workers, "worker"))
            }
            Self::WaitingForCapacity { gpus, available, at } => {
                write!(
                    f,
                    "Asks for {}; {available} can be had now, miners' GPUs included.",
                    plural(*gpus, "GPU")
                )?;
                match at {
                    Some(at) => write!(f, " Running jobs end by {} at the latest.", At(*at)),
                    None => Ok(()),
                }
            }
            Self::BehindJob { job } => write!(f, "Job {job} is first in the queue."),
            Self::WouldDelay { job } => write!(
                f,
                "Starting now could delay job {job}, which is first in the queue; a shorter maxRunTime may help."
            ),
            Self::NoNodeLargeEnough { gpus } => write!(
                f,
                "No node that it may use is large enough for one pod: {} and the CPU and memory beside.",
                plural(*gpus, "GPU")
            ),
            Self::PoolTooSmall { gpus, most } => write!(
                f,
                "Asks for {}; the nodes that it may use hold {most} at most.",
                plural(*gpus, "GPU")
            ),
            Self::GangBackoff { until } => write!(
                f,
                "Its workers were not all bound in time; it queues again at {}.",
                At(*until)
            ),
            Self::External => write!(f, "Another queue decides when it starts."),
            Self::SchedulerDecides => write!(f, "kube-scheduler makes room for it."),
            Self::SchedulerFirst { until } => write!(
                f,
                "It never preempts; from {} on miners make room for it, unless kube-scheduler finds some before.",
                At(*until)
            ),
            Self::RoomKept => {
                write!(f, "What it asks for is free and kept for it; kube-scheduler binds it.")
            }
            Self::NotPreempting => write!(
                f,
                "It has preemptionPolicy Never and filters that are not evaluated here, so nothing is displaced for it."
            ),
        }
    }
}
