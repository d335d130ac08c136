//! The watches that feed the index.
//!
//! One task a kind lists and then watches, and never ends. Where the server has
//! streaming lists, they are used: they cost neither side a whole list in memory.
//! Where it has not, lists are read in pages. A connection that is lost, or silent
//! for too long, is opened again where it stopped; only where the server has
//! forgotten that place (410) is everything listed anew. Kinds whose definition is
//! not installed are asked for until it is.

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
use crate::{Event, Kind, Round, well_known};
pub use task::{Selectors, Source, Task};

/// How the watches behave.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Daylight's own namespace, where the emergency stop is kept.
    pub namespace: String,
    /// The `ConfigMap` there that holds the authority's keys.
    pub authority_keys: String,
    /// Objects in a page of a list, where lists cannot be streamed.
    pub page: u32,
    /// How long a watch may be silent before it counts as lost. The server sends
    /// a bookmark about once a minute.
    pub silence: Duration,
    /// How long a request may take to be answered.
    pub answer: Duration,
    /// The first pause before a failed request is repeated; it doubles from there.
    pub pause: Duration,
    pub longest_pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "daylight-system".to_owned(),
            authority_keys: well_known::AUTHORITY_KEYS.to_owned(),
            page: 500,
            silence: Duration::from_secs(150),
            answer: Duration::from_mins(1),
            pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
        }
    }
}

/// The running watches. They end when this is dropped.
#[derive(Debug)]
pub struct Watches {
    events: mpsc::Receiver<Event>,
    rounds: watch::Sender<u64>,
    tasks: JoinSet<()>,
}

/// Events that may wait before the watches do.
const WAITING: usize = 1024;

/// Starts all watches.
pub fn start(client: &kube::Client, settings: &Settings) -> Watches {
    let (to, events) = mpsc::channel(WAITING);
    let (rounds, round) = watch::channel(0);
    let mut tasks = JoinSet::new();

    macro_rules! spawn {
        ($($kind:ident, $store:ident, $type:ty, $name:literal;)*) => {
            $({
                let (path, selectors) = source(Kind::$kind, settings);
                let source = Source::new(path, selectors, Event::$kind);
                let task = Task::new(client.clone(), source, settings.clone());
                tasks.spawn(task.run(to.clone(), round.clone()));
            })*
        };
    }

    for_each_kind!(spawn);

    Watches { events, rounds, tasks }
}

/// The path and the selectors of a kind's watch.
fn source(kind: Kind, settings: &Settings) -> (String, Selectors) {
    let all = |path: &str| (path.to_owned(), Selectors::default());
    let own = |plural: &str| all(&format!("/apis/daylight.dev/v1alpha1/{plural}"));
    let config_map = |name: &str| {
        let path = format!("/api/v1/namespaces/{}/configmaps", settings.namespace);
        let fields = Some(format!("metadata.name={name}"));
        (path, Selectors { labels: None, fields })
    };
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
        Kind::RegistrationMirror => config_map(well_known::REGISTRATION_MIRROR),
        Kind::ClassMirror => config_map(well_known::CLASS_MIRROR),
        Kind::AuthorityKeys => config_map(&settings.authority_keys),
    }
}

impl Watches {
    /// The next event; `None` if a watch has ended, which it never should: the
    /// picture would be stale from then on, so the process must end too. Safe to
    /// cancel.
    pub async fn recv(&mut self) -> Option<Event> {
        tokio::select! {
            event = self.events.recv() => event,
            Some(_) = self.tasks.join_next() => None,
        }
    }

    /// Waits for an event, and gives it with those that wait behind it, up to
    /// `limit` in all; none if a watch has ended, as in [`Watches::recv`]. Safe to
    /// cancel.
    pub async fn recv_many(&mut self, events: &mut Vec<Event>, limit: usize) -> usize {
        tokio::select! {
            count = self.events.recv_many(events, limit) => count,
            Some(_) = self.tasks.join_next() => 0,
        }
    }

    /// Makes every watch list afresh from a quorum, as a new leader must before
    /// its first write. [`Index::is_fresh`](daylight::view::View::is_fresh) tells when
    /// all of these lists are in.
    pub fn relist(&self) -> Round {
        let mut round = 0;
        self.rounds.send_modify(|count| {
            *count += 1;
            round = *count;
        });
        Round(round)
    }
}
