//! The watches that feed the [`Cluster`](crate::Cluster).
//!
//! For each kind, one task lists and then watches, and never ends. It uses streaming lists where
//! the server supports them, because they cost neither side a whole list in memory, and otherwise
//! reads lists in pages. A connection that is lost resumes at the last resource version; only if
//! that has expired (410) is everything listed again. A kind whose definition is not installed is
//! requested until it is.
//!
//! A watch that is silent may be idle, or dead: a virtual IP address moved, packets are dropped, or
//! the API server hangs while its kernel still acknowledges what arrives. So each watch requests to
//! be ended by the server after a few seconds, whatever happens, and one that the server does not
//! end in time is dead. This holds behind every kind of proxy. Shortly before the end the server
//! sends a bookmark, which also proves until when the picture is complete ([`Change::Current`]).
//!
//! [`Change::Current`]: crate::Change::Current

mod backoff;
mod lenient;
mod line;
mod list;
mod task;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::kinds::for_each_kind;
use crate::{Change, Event, Kind, Round, WatchFailure, well_known};
pub use task::{Selectors, Source, Task};

/// Settings of all watches.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Daylight's namespace, which contains the emergency stop.
    pub namespace: String,
    /// Name of the `ConfigMap` in that namespace that contains the authority's keys.
    pub authority_keys: String,
    /// `true` to watch the kinds that are optional, too ([`Kind::is_optional`]).
    pub optional_kinds: bool,
    /// Number of objects in a page of a list, where lists cannot be streamed.
    pub page: u32,
    /// Time after which the server ends a watch. Each watch lasts up to a quarter less, so that they
    /// do not all end at once.
    pub lasts: Duration,
    /// Time for which a watch may be silent after it should have ended. With `lasts`, it bounds the
    /// time for which a dead watch is taken for an idle one.
    pub overdue: Duration,
    /// Time for which a list may be silent before it is complete.
    pub silence: Duration,
    /// Time within which the server must begin to answer a request for a watch.
    pub answer: Duration,
    /// Time within which the server must answer a request for a page of a list.
    pub page_answer: Duration,
    /// First pause before a failed request is repeated; it doubles up to `longest_pause`.
    pub pause: Duration,
    pub longest_pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "daylight-system".to_owned(),
            authority_keys: well_known::AUTHORITY_KEYS.to_owned(),
            optional_kinds: true,
            page: 500,
            lasts: Duration::from_secs(10),
            overdue: Duration::from_secs(5),
            silence: Duration::from_secs(15),
            answer: Duration::from_secs(10),
            page_answer: Duration::from_mins(1),
            pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
        }
    }
}

/// The running watches. They end when this value is dropped.
#[derive(Debug)]
pub struct Watches {
    events: mpsc::Receiver<Event>,
    rounds: watch::Sender<u64>,
    tasks: JoinSet<()>,
}

/// Number of events that may wait to be received; beyond it, the watches wait. It bounds the memory
/// that events take while the receiver is busy.
const WAITING: usize = 1024;

/// Starts all watches.
pub fn start(client: &kube::Client, settings: &Settings) -> Watches {
    let (to, events) = mpsc::channel(WAITING);
    let (rounds, round) = watch::channel(0);
    let mut tasks = JoinSet::new();

    macro_rules! spawn {
        ($($kind:ident, $store:ident, $type:ty, $name:literal;)*) => {
            $(if Kind::$kind.is_optional() && !settings.optional_kinds {
                // There is room: nothing else has been sent.
                let _ = to.try_send(Event::$kind(Change::Failed(WatchFailure::Missing)));
            } else {
                let (path, selectors) = source(Kind::$kind, settings);
                let source = Source::new(path, selectors, Event::$kind)
                    .optional(Kind::$kind.is_optional());
                let task = Task::new(client.clone(), source, settings.clone());
                tasks.spawn(task.run(to.clone(), round.clone()));
            })*
        };
    }

    for_each_kind!(spawn);

    Watches { events, rounds, tasks }
}

/// Path and selectors of the watch of a kind.
fn source(kind: Kind, settings: &Settings) -> (String, Selectors) {
    let all = |path: &str| (path.to_owned(), Selectors::default());
    let own = |plural: &str| all(&format!("/apis/daylight.dev/v1alpha1/{plural}"));
    let named = |api: &str, plural: &str, name: &str| {
        let path = format!("/{api}/namespaces/{}/{plural}", settings.namespace);
        let fields = Some(format!("metadata.name={name}"));
        (path, Selectors { labels: None, fields })
    };
    let config_map = |name: &str| named("api/v1", "configmaps", name);
    let admission_list = |name: &str| named("apis/daylight.dev/v1alpha1", "admissionlists", name);
    match kind {
        Kind::Pod => all("/api/v1/pods"),
        Kind::Node => all("/api/v1/nodes"),
        Kind::Namespace => all("/api/v1/namespaces"),
        Kind::BatchJob => {
            let labels = Some(daylight_crds::labels::AI_JOB.to_owned());
            ("/apis/batch/v1/jobs".to_owned(), Selectors { labels, fields: None })
        }
        Kind::GpuPool => own("gpupools"),
        Kind::ActivityClass => own("activityclasses"),
        Kind::Registration => own("registrations"),
        Kind::Miner => own("miners"),
        Kind::AiJob => own("aijobs"),
        Kind::EmergencyStop => config_map(well_known::EMERGENCY_STOP),
        Kind::RegistrationMirror => admission_list(well_known::REGISTRATION_MIRROR),
        Kind::ClassMirror => admission_list(well_known::CLASS_MIRROR),
        Kind::AuthorityKeys => config_map(&settings.authority_keys),
        // Kueue 0.15 and newer.
        Kind::Workload => all("/apis/kueue.x-k8s.io/v1beta2/workloads"),
        Kind::RuntimeClass => all("/apis/node.k8s.io/v1/runtimeclasses"),
    }
}

impl Watches {
    /// Receives the next event; `None` if a watch has ended, which only a defect can cause. The
    /// cluster would be stale from then on, so the process must end, too. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Event> {
        tokio::select! {
            event = self.events.recv() => event,
            Some(_) = self.tasks.join_next() => None,
        }
    }

    /// Waits for an event, and adds it and those that wait behind it to `events`, at most `limit`
    /// in all. Returns their number: 0 if a watch has ended, as in [`Watches::recv`]. Safe to
    /// cancel.
    pub async fn recv_many(&mut self, events: &mut Vec<Event>, limit: usize) -> usize {
        tokio::select! {
            count = self.events.recv_many(events, limit) => count,
            Some(_) = self.tasks.join_next() => 0,
        }
    }

    /// Adds the events that are ready to `events`, at most `limit`.
    pub fn take_ready(&mut self, events: &mut Vec<Event>, limit: usize) {
        events.extend(std::iter::from_fn(|| self.events.try_recv().ok()).take(limit));
    }

    /// Makes every watch list again from a quorum, as a new leader must before its first write.
    /// [`Cluster::is_fresh`](crate::Cluster::is_fresh) returns `true` once all of these lists are
    /// complete.
    pub fn relist(&self) -> Round {
        let mut round = 0;
        self.rounds.send_modify(|count| {
            *count += 1;
            round = *count;
        });
        Round(round)
    }
}
