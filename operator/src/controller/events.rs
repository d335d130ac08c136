//! Events, which users see at the end of `kubectl describe`: few, and added up.
//!
//! Notices about one object for one cause within a second become one Event, however many pods they
//! concern, and the next one of that kind follows ten seconds later at the earliest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use daylight_base::Name;
use daylight_planner::explain::ReclaimReason;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use crate::api_requests::{self, ApiRequest};

/// Something worth an Event on an object. Every text of an Event is in this file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// A miner received GPUs of a pool.
    Granted {
        pool: Name,
    },
    /// A miner gives GPUs back, for an AIJob or a pod if there is a beneficiary.
    Reclaimed {
        reason: ReclaimReason,
        beneficiary: Option<Name>,
    },
    /// A disruption budget refused an eviction, and the pod was deleted all the same.
    BudgetOverruled,
    /// A tenant's pod is evicted, since its registration is no longer in force.
    LapsedEvicted {
        registration: Name,
        /// A disruption budget refused the eviction, and the pod was deleted.
        overruled: bool,
    },
    /// Miners give GPUs back for this job or pod.
    TakesBack {
        reason: ReclaimReason,
    },
    /// Pods of a miner were turned down.
    MinerRefused {
        word: String,
        sentence: String,
    },
    /// The nodes of an AIJob were chosen.
    JobReserved {
        nodes: usize,
        displaced: u32,
    },
    JobReleased,
    GangTimeout,
    /// The nodes reserved for an AIJob cannot take the whole gang any more.
    ReservationLost,
    JobRunning,
    JobFinished {
        succeeded: bool,
        word: String,
        sentence: String,
    },
    /// The API server refused a change of an AIJob.
    JobRefused {
        message: String,
    },
    /// The workers of an AIJob hold GPUs that only their init containers request.
    OnlyInitContainersHaveGpus {
        resource: String,
    },
    /// An object of another owner has the name of an AIJob's Job or Service.
    NameTaken {
        message: String,
    },
    /// The reason in an object's status or in one of its conditions changed.
    Explained {
        word: String,
        sentence: String,
        warning: bool,
    },
}

/// The part of an Event that is added up.
#[derive(Clone, Debug, Default)]
struct Sum {
    pods: u32,
    gpus: u32,
    miners: BTreeMap<Name, u32>,
}

struct Pending {
    subject: ObjectReference,
    since: Instant,
    sum: Sum,
}

/// Collects notices and sends each as an Event when it is due.
#[derive(Default)]
pub struct Events {
    identity: String,
    pending: BTreeMap<(String, Notice), Pending>,
    sent: BTreeMap<(String, Notice), Instant>,
    budget: f64,
    budget_at: Option<Instant>,
}

/// Notices are added up for this time before they are sent.
const SETTLE: Duration = Duration::from_secs(1);
/// The same notice about the same object is sent again after this time at the earliest.
const AGAIN: Duration = Duration::from_secs(10);
/// The most notices that wait; more are dropped, so that a flood cannot exhaust memory.
const MOST: usize = 4096;
/// Events a second, and the most at once: the API server keeps each for an hour.
const RATE: f64 = 10.0;
const BURST: f64 = 50.0;

impl Events {
    /// `identity` is the replica that reports.
    pub fn new(identity: &str) -> Self {
        Self { identity: identity.into(), budget: BURST, ..Self::default() }
    }

    /// Takes in a notice about `subject`; it concerns a pod with `gpus` GPUs of `miner`, if any.
    pub fn note(
        &mut self,
        subject: &ObjectReference,
        notice: Notice,
        gpus: u32,
        miner: Option<&Name>,
        now: Instant,
    ) {
        let key = (subject.uid.clone().unwrap_or_default(), notice);
        if self.pending.len() >= MOST && !self.pending.contains_key(&key) {
            return;
        }
        let pending = self.pending.entry(key).or_insert_with(|| Pending {
            subject: subject.clone(),
            since: now,
            sum: Sum::default(),
        });
        pending.sum.pods += 1;
        pending.sum.gpus += gpus;
        if let Some(miner) = miner {
            *pending.sum.miners.entry(miner.clone()).or_default() += gpus;
        }
    }

    /// The Events that are due, as requests.
    pub fn due(&mut self, now: Instant) -> Vec<ApiRequest> {
        let passed = self.budget_at.replace(now).map_or(0.0, |at| (now - at).as_secs_f64());
        self.budget = (self.budget + passed * RATE).min(BURST);
        self.sent.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        let ripe = |key: &(String, Notice), pending: &Pending| {
            now.saturating_duration_since(pending.since) >= SETTLE && !self.sent.contains_key(key)
        };
        let mut keys: Vec<_> = self
            .pending
            .iter()
            .filter(|(key, pending)| ripe(key, pending))
            .map(|(key, pending)| (pending.since, key.clone()))
            .collect();
        keys.sort();
        let mut writes = Vec::new();
        for (_, key) in keys {
            if self.budget < 1.0 {
                break;
            }
            self.budget -= 1.0;
            if let Some(pending) = self.pending.remove(&key) {
                writes.push(self.write(&key.1, pending));
                self.sent.insert(key, now);
            }
        }
        writes
    }

    /// Forgets the notices that wait.
    pub fn clear(&mut self) {
        self.pending.clear();
    }

    /// Time until [`Events::due`] may return something.
    pub fn wake_in(&self) -> Option<Duration> {
        (!self.pending.is_empty()).then_some(SETTLE / 2)
    }

    fn write(&self, notice: &Notice, pending: Pending) -> ApiRequest {
        let Pending { subject, sum, .. } = pending;
        let Text { reason, action, note, warning } = text(notice, &sum);
        let now = jiff::Timestamp::now();
        let namespace = subject.namespace.clone().unwrap_or_else(|| "default".into());
        let name = subject.name.as_deref().unwrap_or("object");
        let event = Event {
            metadata: ObjectMeta {
                // 253 characters at most; the time in hexadecimal takes 16.
                name: Some(format!("{:.230}.{:x}", name, now.as_nanosecond())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some("daylight.dev/controller".into()),
            reporting_instance: Some(format!("{:.120}", self.identity)),
            action: Some(action.into()),
            reason: Some(reason),
            note: Some(format!("{note:.1000}")),
            type_: Some(if warning { "Warning" } else { "Normal" }.into()),
            regarding: Some(subject),
            ..Event::default()
        };
        api_requests::create_event(&namespace, &event)
    }
}

/// The text of an Event.
struct Text {
    reason: String,
    action: &'static str,
    note: String,
    warning: bool,
}

impl Text {
    fn normal(reason: &str, action: &'static str, note: impl Into<String>) -> Self {
        Self { reason: reason.into(), action, note: note.into(), warning: false }
    }

    fn warning(reason: &str, action: &'static str, note: impl Into<String>) -> Self {
        Self { warning: true, ..Self::normal(reason, action, note) }
    }
}

fn count(number: u32, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn text(notice: &Notice, sum: &Sum) -> Text {
    let gpus = count(sum.gpus, "GPU");
    let pods = count(sum.pods, "replica");
    match notice {
        Notice::Granted { pool } => {
            Text::normal("Granted", "Grant", format!("Started {pods} on {gpus} of pool {pool}."))
        }
        Notice::Reclaimed { reason, beneficiary } => {
            let note = match beneficiary {
                Some(other) => format!("Stopping {pods} on {gpus} for {other} ({reason})."),
                None => format!("Stopping {pods} on {gpus} ({reason})."),
            };
            Text::normal(reason.code(), "Reclaim", note)
        }
        Notice::BudgetOverruled => Text::warning(
            "BudgetOverruled",
            "Reclaim",
            format!(
                "A PodDisruptionBudget refused the eviction of {pods}; deleted with the same grace \
                 period, because a budget must not hold back GPUs that are lent. Remove the budget."
            ),
        ),
        Notice::LapsedEvicted { registration, overruled } => {
            let how = if *overruled { "Deleted against a PodDisruptionBudget" } else { "Evicted" };
            let note = format!(
                "{how}, since Registration {registration} is not in force and its spec.onLapse is \
                 Evict. Name one in force."
            );
            Text::warning("RegistrationLapsed", "Evict", note)
        }
        Notice::TakesBack { reason } => Text::normal(
            reason.code(),
            "Reclaim",
            format!("Taking back {gpus} from {}.", miners(&sum.miners)),
        ),
        Notice::MinerRefused { word, sentence } => Text::warning(word, "Explain", sentence),
        Notice::JobReserved { nodes, displaced } => Text::normal(
            "Reserved",
            "Explain",
            format!(
                "Reserved {}; stopping {} there.",
                count(*nodes as u32, "node"),
                count(*displaced, "miner pod")
            ),
        ),
        Notice::JobReleased => Text::normal(
            "Released",
            "Explain",
            "GPUs for the whole gang are free; starting its pods.",
        ),
        Notice::GangTimeout => Text::warning(
            "GangTimeout",
            "Explain",
            "Not all workers were bound within spec.gangTimeout; the job is suspended and queued \
             again.",
        ),
        Notice::ReservationLost => Text::warning(
            "ReservationLost",
            "Explain",
            "The reserved nodes cannot take the whole gang any more, and no others can; the job is \
             queued again.",
        ),
        Notice::JobRunning => Text::normal("Running", "Explain", "All workers are bound."),
        Notice::JobFinished { succeeded: true, word, sentence } => {
            Text::normal(word, "Explain", sentence)
        }
        Notice::JobFinished { succeeded: false, word, sentence } => {
            Text::warning(word, "Explain", sentence)
        }
        Notice::JobRefused { message } => Text::warning(
            "Refused",
            "Explain",
            format!("The API server refuses a change of the job: {message}"),
        ),
        Notice::NameTaken { message } => Text::warning(
            "Refused",
            "Explain",
            format!(
                "A Job or Service of that name exists and does not belong to this AIJob; delete it, \
                 or give the AIJob another name ({message})."
            ),
        ),
        Notice::OnlyInitContainersHaveGpus { resource } => Text::warning(
            "NoGpuInContainers",
            "Explain",
            format!(
                "Only init containers of spec.template request {resource}, so PET_NPROC_PER_NODE is \
                 not set and the workers themselves have no GPU; set it in a container's \
                 resources.limits."
            ),
        ),
        Notice::Explained { word, sentence, warning } => {
            Text { warning: *warning, ..Text::normal(word, "Explain", sentence) }
        }
    }
}

/// The miners that give most, by name.
fn miners(miners: &BTreeMap<Name, u32>) -> String {
    const NAMED: usize = 5;
    let mut most: Vec<_> = miners.iter().collect();
    most.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
    let named: Vec<_> =
        most.iter().take(NAMED).map(|(miner, gpus)| format!("{miner} ({gpus})")).collect();
    let mut text = format!("miners {}", named.join(", "));
    if most.len() > NAMED {
        let _ = write!(text, " and {}", count((most.len() - NAMED) as u32, "other"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(uid: &str) -> ObjectReference {
        ObjectReference {
            kind: Some("AIJob".into()),
            namespace: Some("team-b".into()),
            name: Some("llm".into()),
            uid: Some(uid.into()),
            ..ObjectReference::default()
        }
    }

    fn notes(writes: &[ApiRequest]) -> Vec<String> {
        let note = |write: &ApiRequest| {
            let event: Event = serde_json::from_slice(&write.body).unwrap();
            event.note.unwrap()
        };
        writes.iter().map(note).collect()
    }

    #[test]
    fn a_reclaim_of_512_gpus_is_one_event() {
        let mut events = Events::new("replica-0");
        let start = Instant::now();
        let what = || Notice::TakesBack { reason: ReclaimReason::AiDemand };
        for number in 0..512_u32 {
            let miner: Name = format!("team-a/m{}", number % 7).into();
            events.note(&subject("1"), what(), 1, Some(&miner), start);
        }
        assert!(events.due(start).is_empty());
        let writes = events.due(start + SETTLE);
        assert_eq!(
            notes(&writes),
            ["Taking back 512 GPUs from miners team-a/m0 (74), team-a/m1 (73), team-a/m2 (73), \
              team-a/m3 (73), team-a/m4 (73) and 2 others."]
        );
        assert_eq!(writes[0].path, "/apis/events.k8s.io/v1/namespaces/team-b/events");
    }

    #[test]
    fn a_notice_that_repeats_waits_and_is_not_lost() {
        let mut events = Events::new("replica-0");
        let start = Instant::now();
        let what = || Notice::Granted { pool: "hall-1".into() };
        events.note(&subject("1"), what(), 2, None, start);
        assert_eq!(events.due(start + SETTLE).len(), 1);
        events.note(&subject("1"), what(), 2, None, start + SETTLE);
        events.note(&subject("1"), what(), 2, None, start + SETTLE);
        assert!(events.due(start + 3 * SETTLE).is_empty());
        let later = events.due(start + SETTLE + AGAIN);
        assert_eq!(notes(&later), ["Started 2 replicas on 4 GPUs of pool hall-1."]);
    }

    #[test]
    fn a_flood_is_spread_over_time() {
        let mut events = Events::new("replica-0");
        let start = Instant::now();
        for number in 0..200 {
            let subject = subject(&number.to_string());
            events.note(&subject, Notice::Granted { pool: "hall-1".into() }, 1, None, start);
        }
        let first = events.due(start + SETTLE).len();
        let second = events.due(start + 2 * SETTLE).len();
        assert_eq!((first, second), (50, 10));
    }
}
