//! What a user sees at the end of `kubectl describe`: Events, few and summed up.
//!
//! What happens to one object for one cause within a second becomes one Event, however many
//! pods it concerns, and the next one of that kind follows ten seconds later at the earliest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use daylight_base::Name;
use daylight_planner::explain::{Reason, ReclaimReason};
use http::Method;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use crate::requests::{JSON, Write};

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // The fields are what their names say.
pub enum What {
    /// A miner got GPUs of a pool.
    Granted { pool: Name },
    /// A miner gives GPUs back, to somebody or nobody in particular.
    Reclaimed { why: ReclaimReason, beneficiary: Option<Name> },
    /// A disruption budget refused an eviction, and the pod was deleted all the same.
    BudgetOverruled,
    /// GPUs are taken back for a job or pod.
    MakesWay { why: ReclaimReason },
    /// A job moved on, or an object waits: the word and the sentence.
    State { word: String, sentence: String, warning: bool },
}

/// What is summed up in one Event.
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

/// Collects what happens and says when an Event of it is due.
#[derive(Default)]
pub struct Events {
    identity: String,
    pending: BTreeMap<(String, What), Pending>,
    said: BTreeMap<(String, What), Instant>,
    budget: f64,
    budget_at: Option<Instant>,
}

/// How long happenings are summed up before they are told.
const SETTLE: Duration = Duration::from_secs(1);
/// How soon the same is told of the same object again.
const AGAIN: Duration = Duration::from_secs(10);
/// The most objects and causes that wait to be told; more are dropped.
const MOST: usize = 4096;
/// Events a second, and how many at once.
const RATE: f64 = 10.0;
const BURST: f64 = 50.0;

impl Events {
    /// `identity` is the replica that reports.
    pub fn new(identity: &str) -> Self {
        Self { identity: identity.into(), budget: BURST, ..Self::default() }
    }

    /// Notes that something happened to `subject`, concerning a pod with `gpus` GPUs of `miner`
    /// where it concerns one.
    pub fn note(
        &mut self,
        subject: &ObjectReference,
        what: What,
        gpus: u32,
        miner: Option<&Name>,
        now: Instant,
    ) {
        let key = (subject.uid.clone().unwrap_or_default(), what);
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
    pub fn due(&mut self, now: Instant) -> Vec<Write> {
        let passed = self.budget_at.replace(now).map_or(0.0, |at| (now - at).as_secs_f64());
        self.budget = (self.budget + passed * RATE).min(BURST);
        self.said.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        let ripe = |key: &(String, What), pending: &Pending| {
            now.saturating_duration_since(pending.since) >= SETTLE && !self.said.contains_key(key)
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
                writes.extend(self.write(&key.1, pending));
                self.said.insert(key, now);
            }
        }
        writes
    }

    /// When [`Events::due`] may have something next.
    pub fn wake_in(&self) -> Option<Duration> {
        (!self.pending.is_empty()).then_some(SETTLE / 2)
    }

    fn write(&self, what: &What, pending: Pending) -> Option<Write> {
        let Pending { subject, sum, .. } = pending;
        let told = tell(what, &sum);
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
            action: Some(told.action.into()),
            reason: Some(told.reason),
            note: Some(format!("{:.1000}", told.note)),
            type_: Some(if told.warning { "Warning" } else { "Normal" }.into()),
            regarding: Some(subject),
            ..Event::default()
        };
        Some(Write {
            what: "create event",
            method: Method::POST,
            path: format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"),
            content_type: JSON,
            body: serde_json::to_vec(&event).ok()?.into(),
        })
    }
}

struct Told {
    reason: String,
    action: &'static str,
    note: String,
    warning: bool,
}

fn count(number: u32, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn tell(what: &What, sum: &Sum) -> Told {
    let gpus = count(sum.gpus, "GPU");
    let pods = count(sum.pods, "replica");
    match what {
        What::Granted { pool } => Told {
            reason: "Granted".into(),
            action: "Grant",
            note: format!("Started {pods} on {gpus} of pool {pool}."),
            warning: false,
        },
        What::Reclaimed { why, beneficiary } => Told {
            reason: why.code().into(),
            action: "Reclaim",
            note: match beneficiary {
                Some(other) => format!("Stopping {pods} on {gpus} for {other} ({why})."),
                None => format!("Stopping {pods} on {gpus} ({why})."),
            },
            warning: false,
        },
        What::BudgetOverruled => Told {
            reason: "BudgetOverruled".into(),
            action: "Reclaim",
            note: format!(
                "A PodDisruptionBudget refused to evict {pods}; deleted with the same grace, since \
                 a budget must not hold back GPUs that are lent."
            ),
            warning: true,
        },
        What::MakesWay { why } => Told {
            reason: why.code().into(),
            action: "Reclaim",
            note: format!("Takes back {gpus} from {}.", from(&sum.miners)),
            warning: false,
        },
        What::State { word, sentence, warning } => Told {
            reason: word.clone(),
            action: "Explain",
            note: sentence.clone(),
            warning: *warning,
        },
    }
}

/// The miners that give most, by name.
fn from(miners: &BTreeMap<Name, u32>) -> String {
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

/// A reason as something to tell.
pub fn state(reason: &Reason, warning: bool) -> What {
    What::State { word: reason.code().into(), sentence: reason.to_string(), warning }
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

    fn notes(writes: &[Write]) -> Vec<String> {
        let note = |write: &Write| {
            let event: Event = serde_json::from_slice(&write.body).unwrap();
            event.note.unwrap()
        };
        writes.iter().map(note).collect()
    }

    #[test]
    fn a_reclaim_of_512_gpus_is_one_event() {
        let mut events = Events::new("replica-0");
        let start = Instant::now();
        let what = || What::MakesWay { why: ReclaimReason::AiDemand };
        for number in 0..512_u32 {
            let miner: Name = format!("team-a/m{}", number % 7).into();
            events.note(&subject("1"), what(), 1, Some(&miner), start);
        }
        assert!(events.due(start).is_empty());
        let writes = events.due(start + SETTLE);
        assert_eq!(
            notes(&writes),
            ["Takes back 512 GPUs from miners team-a/m0 (74), team-a/m1 (73), team-a/m2 (73), \
              team-a/m3 (73), team-a/m4 (73) and 2 others."]
        );
        assert_eq!(writes[0].path, "/apis/events.k8s.io/v1/namespaces/team-b/events");
    }

    #[test]
    fn the_same_is_not_told_again_at_once_and_not_lost_either() {
        let mut events = Events::new("replica-0");
        let start = Instant::now();
        let what = || What::Granted { pool: "hall-1".into() };
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
            events.note(&subject, What::Granted { pool: "hall-1".into() }, 1, None, start);
        }
        let first = events.due(start + SETTLE).len();
        let second = events.due(start + 2 * SETTLE).len();
        assert_eq!((first, second), (50, 10));
    }
}
