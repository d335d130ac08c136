//! The auditor's main loop: watch events, scrapes and the clock in; journal, finalizers, statuses
//! and metrics out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use daylight_base::{Name, Timestamp};
use daylight_crds::LeaseRecord;
use daylight_meter::{Books, Config, Entry, Meter};
use kube::Client;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;

use super::agents::{AgentSettings, Agents};
use super::books::{Bookkeeper, Terms};
use super::exporter::found::{ExporterName, Found};
use super::exporter::scrape::{ScrapeSettings, Scraper};
use super::journal::{Directory, JournalError};
use super::metrics::Metrics;
use super::miners::Says;
use super::say;
use super::writer::Writer;
use crate::clock::wall_clock;
use crate::failure::RunError;
use crate::api_requests;
use crate::serving::{self, Health};
use crate::view::energy::energy_period;
use daylight_cluster::Change;
use daylight_cluster::slim::{Custom, ExporterPod};
use daylight_cluster::store::Store;
use daylight_cluster::watch;
use daylight_cluster::watch::{Selectors, Source, Task, Watches};

/// How the auditor runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub namespace: String,
    /// The `ConfigMap` in that namespace that holds the authority's keys.
    pub authority_keys: String,
    /// Whether approvals count only with the authority's signature.
    pub require_signature: bool,
    /// Where the journal lies.
    pub data_dir: PathBuf,
    /// Where metrics and health are served, if anywhere.
    pub listen: Option<SocketAddr>,
    /// The exporter of the devices' figures, if there is one.
    pub exporter: Option<ExporterName>,
    /// How often it is asked.
    pub scrape_every: Duration,
    /// How old its figures may be.
    pub refresh: Duration,
    /// The most watts that a device draws whose exporter does not say.
    pub device_watts: u32,
    /// Extended resources that are GPUs, beside those that pools name.
    pub resources: Vec<String>,
    /// Images whose agents are believed to have seen a pool take shares, by patterns.
    pub agents: Vec<String>,
    /// How those are asked while they run, if they are.
    pub ask_agents: Option<AgentSettings>,
    /// How often a node's books are written when nothing happens on it.
    pub book_every: Duration,
    /// Entries that are kept in memory while the journal cannot be written, in bytes.
    pub memory: usize,
    /// How often registrations are told what they have used.
    pub usage_every: Duration,
}

/// Failure that ends the auditor.
#[derive(Debug, thiserror::Error)]
pub enum AuditorError {
    #[error("cannot use the data directory {0} ({1}); choose another with --data-dir")]
    DataDirectory(PathBuf, std::io::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal lacks what its later entries need.
    #[error(transparent)]
    Restore(#[from] daylight_meter::RestoreError),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// What the auditor watches beside the index.
enum Seen {
    Exporter(Change<ExporterPod>),
    Record(Change<Custom<LeaseRecord>>),
}

/// What is still to be told may be this old: nothing later is booked yet.
const LAG: Duration = Duration::from_millis(1500);
/// How often what has happened is booked.
const TICK: Duration = Duration::from_millis(250);
/// How often metrics are brought up to date.
const METRICS_EVERY: Duration = Duration::from_secs(5);
/// How soon a pod that could not be let go is tried again.
const LET_GO_AGAIN: Duration = Duration::from_secs(2);
/// How long the last entries are waited for at the end.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the end of a lease is remembered that nobody asks for any more, in milliseconds: a
/// `LeaseRecord` of it may come after its pod is gone.
const REMEMBERED: u64 = 60_000;
/// A device is unread when so many readings of its exporter should have been news, and none was.
const UNREAD: u64 = 4;
/// The part that [`RunError::Stopped`] names.
const WATCHES: &str = "the watches";
/// Requests under way at once.
const AT_ONCE: usize = 32;

/// Audits until `shutdown`.
pub async fn run(
    config: kube::Config,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AuditorError> {
    let directory = Directory::take(&settings.data_dir)
        .map_err(|error| AuditorError::DataDirectory(settings.data_dir.clone(), error))?;
    let (writer, entries) = Writer::open(directory)?;
    tracing::info!(size = writer.size(), read = entries.len(), "The journal is open.");
    let meter = Meter::restore(meter_config(&settings), entries)?;

    let mut config = config;
    config.default_retry = false;
    let client = Client::try_from(config).map_err(RunError::from)?;
    let metrics = Metrics::new().map_err(RunError::from)?;
    let health = Health::default();
    let mut server = serving::start(settings.listen, metrics.registry(), &metrics.whole, &health);
    let watch_settings = watch::Settings {
        namespace: settings.namespace.clone(),
        authority_keys: settings.authority_keys.clone(),
        ..watch::Settings::default()
    };
    let (also, _tasks, _rounds) = watch_also(&client, &watch_settings, settings.exporter.as_ref());

    let now = now_after(Timestamp(0));
    let terms = Terms {
        resources: settings.resources.iter().map(|name| Name::from(name.as_str())).collect(),
        agents: settings.agents.clone(),
        has_exporter: settings.exporter.is_some(),
        signature_required: settings.require_signature,
    };
    let mut main = Main {
        closed: meter.closed().map(|uid| (uid.clone(), now)).collect(),
        books: Bookkeeper::new(meter, terms),
        watches: watch::start(&client, &watch_settings),
        also,
        asked: settings.ask_agents.map(Agents::new),
        found: settings.exporter.as_ref().map(Found::new),
        scraper: settings.exporter.as_ref().map(|exporter| {
            Scraper::new(ScrapeSettings {
                port: exporter.port,
                every: settings.scrape_every,
                timeout: Duration::from_secs(5),
            })
        }),
        to_publish: None,
        writer,
        records: Store::default(),
        requests: JoinSet::new(),
        let_go: FxHashMap::default(),
        usage_at: None,
        metrics_at: None,
        miners_at: None,
        client,
        metrics,
        health,
        settings,
        now,
    };

    let mut shutdown = std::pin::pin!(shutdown);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut events = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            error = &mut server => return Err(RunError::Serve(error).into()),
            count = main.watches.recv_many(&mut events, 1024) => {
                if count == 0 {
                    return Err(RunError::Stopped(WATCHES).into());
                }
                main.tick();
                for event in events.drain(..) {
                    main.books.apply(event, main.now);
                }
            }
            seen = main.also.recv() => {
                let Some(seen) = seen else { return Err(RunError::Stopped(WATCHES).into()) };
                main.tick();
                main.see(seen);
            }
            scraped = next_scrape(&mut main.scraper) => {
                main.tick();
                let outcome = if scraped.devices.is_ok() { "read" } else { "failed" };
                main.metrics.scrapes.with_label_values(&[outcome]).inc();
                if let Err(why) = &scraped.devices {
                    tracing::debug!(node = %scraped.node, %why, "An exporter does not answer.");
                }
                main.books.scraped(&scraped, main.now);
            }
            (uid, told) = next_agent(&mut main.asked) => match told {
                Ok(says) => main.books.said(&uid, says),
                Err(why) => tracing::debug!(%uid, %why, "An agent does not answer."),
            },
            closed = main.writer.next() => {
                main.closed.extend(closed.into_iter().map(|uid| (uid, main.now)));
            }
            Some(_) = main.requests.join_next() => {}
            _ = tick.tick() => {
                main.tick();
                main.book();
            }
        }
        main.writer.start(Instant::now());
        main.release();
    }
    main.end().await;
    Ok(())
}

fn meter_config(settings: &Settings) -> Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        refresh_ms: millis(settings.refresh),
        unread_ms: UNREAD * millis(settings.refresh.max(settings.scrape_every)),
        book_every_ms: millis(settings.book_every),
        limit_mw: u64::from(settings.device_watts) * 1000,
        ..Config::default()
    }
}

/// The wall clock, which never runs backwards here: what was booked stays booked.
fn now_after(last: Timestamp) -> Timestamp {
    wall_clock().max(last)
}

async fn next_scrape(scraper: &mut Option<Scraper>) -> super::exporter::scrape::Scraped {
    match scraper {
        Some(scraper) => scraper.next().await,
        None => std::future::pending().await,
    }
}

async fn next_agent(agents: &mut Option<Agents>) -> (Name, Result<Says, String>) {
    match agents {
        Some(agents) => agents.next().await,
        None => std::future::pending().await,
    }
}

/// Watches exporters' pods and `LeaseRecord`s.
fn watch_also(
    client: &Client,
    settings: &watch::Settings,
    exporter: Option<&ExporterName>,
) -> (mpsc::Receiver<Seen>, JoinSet<()>, channel::Sender<u64>) {
    let (to, seen) = mpsc::channel(1024);
    let (rounds, round) = channel::channel(0);
    let mut tasks = JoinSet::new();
    let path = "/apis/daylight.dev/v1alpha1/leaserecords".to_owned();
    let source = Source::new(path, Selectors::default(), Seen::Record);
    let task = Task::new(client.clone(), source, settings.clone());
    tasks.spawn(task.run(to.clone(), round.clone()));
    if let Some(exporter) = exporter {
        let path = format!("/api/v1/namespaces/{}/pods", exporter.namespace);
        let source = Source::new(path, Selectors::default(), Seen::Exporter);
        let task = Task::new(client.clone(), source, settings.clone());
        tasks.spawn(task.run(to, round));
    }
    (seen, tasks, rounds)
}

struct Main {
    books: Bookkeeper,
    watches: Watches,
    also: mpsc::Receiver<Seen>,
    found: Option<Found>,
    scraper: Option<Scraper>,
    asked: Option<Agents>,
    writer: Writer,
    /// Totals, and how many entries must be durable before they may be shown: a counter that was
    /// seen never falls back, whenever this process is killed.
    to_publish: Option<(u64, Books)>,
    /// Leases whose end is on record and may still be asked for, by UID, and when that was last.
    closed: FxHashMap<Name, Timestamp>,
    records: Store<Custom<LeaseRecord>>,
    requests: JoinSet<()>,
    /// Pods and records that were asked to be let go, and when.
    let_go: FxHashMap<Name, Instant>,
    usage_at: Option<Instant>,
    metrics_at: Option<Instant>,
    miners_at: Option<Instant>,
    client: Client,
    metrics: Metrics,
    health: Health,
    settings: Settings,
    now: Timestamp,
}

impl Main {
    fn tick(&mut self) {
        self.now = now_after(self.now);
    }

    fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Exporter(change) => {
                if let Some(found) = &mut self.found {
                    found.apply(change);
                }
            }
            Seen::Record(change) => {
                self.records.apply(change);
            }
        }
    }

    /// Books what has happened, and tells of it.
    fn book(&mut self) {
        let instant = Instant::now();
        // Where records cannot be listed, nothing waits for them.
        let records = self.records.listed().is_some() || self.records.failure().is_some();
        if !self.books.is_warm() && self.books.cluster.is_complete() && records {
            // First the ends that are written down: what is gone then ended unseen.
            self.take_records();
            self.books.begin(self.now);
        }
        self.books.refresh(self.now);
        if let (Some(found), Some(scraper)) = (&self.found, &mut self.scraper)
            && self.books.is_warm()
        {
            scraper.ask(found, instant);
        }
        if let Some(asked) = &mut self.asked {
            asked.ask(&self.books.serving, instant);
        }
        let has_room = self.writer.waiting_bytes() < self.settings.memory;
        if self.books.sees() && has_room {
            self.take_records();
            let lag = u64::try_from(LAG.as_millis()).unwrap_or_default();
            self.books.meter.advance(self.now.minus_millis(lag));
            self.push();
        }
        self.forget();
        self.tell(instant, has_room);
    }

    /// Takes in ends of leases that the controller wrote down.
    fn take_records(&mut self) {
        for object in readable(&self.records) {
            if !self.closed.contains_key(&*object.spec.pod_uid) {
                self.books.record(object, self.now);
            }
        }
    }

    fn push(&mut self) {
        let anew = self.writer.wants_snapshot() && self.writer.is_settled();
        let entries =
            if anew { self.books.meter.snapshot() } else { self.books.meter.take_entries() };
        for entry in &entries {
            if let Entry::Object(object) = entry {
                let kind = format!("{:?}", object.seen.object);
                self.metrics.unseen_edits.with_label_values(&[&kind]).inc_by(object.unseen);
            }
            self.metrics.entries.with_label_values(&[kind(entry)]).inc();
        }
        self.writer.push(entries);
        if self.to_publish.is_none() {
            let written = self.books.meter.written().clone();
            self.to_publish = Some((self.writer.taken(), written));
        }
    }

    /// Lets pods go whose end is on record, and deletes the records of such.
    fn release(&mut self) {
        let now = Instant::now();
        self.let_go.retain(|_, at| now.saturating_duration_since(*at) < LET_GO_AGAIN);
        let pods = self.books.to_let_go(|uid| self.closed.contains_key(uid));
        for (key, uid) in pods {
            if self.requests.len() >= AT_ONCE {
                return;
            }
            if self.let_go.insert(uid.clone(), now).is_none() {
                self.requests.spawn(say::send(self.client.clone(), say::release(&key, &uid)));
            }
        }
        for (key, record) in self.records.iter() {
            let Some(object) = record.get() else { continue };
            if self.requests.len() >= AT_ONCE {
                return;
            }
            let on_record = self.closed.contains_key(&*object.spec.pod_uid);
            if on_record && self.let_go.insert(key.clone(), now).is_none() {
                self.requests.spawn(say::send(
                    self.client.clone(),
                    api_requests::delete_lease_record(key, &record.uid),
                ));
            }
        }
    }

    /// Ends that nobody asks for any more need not be remembered.
    fn forget(&mut self) {
        if !self.books.is_warm() || self.closed.is_empty() {
            return;
        }
        let recorded = readable(&self.records);
        let mut asked: FxHashSet<Name> =
            recorded.map(|record| Name::from(&*record.spec.pod_uid)).collect();
        asked.extend(self.books.unreleased());
        let now = self.now;
        let mut over = Vec::new();
        for (uid, asked_at) in &mut self.closed {
            if asked.contains(uid) {
                *asked_at = now;
            } else if now.millis_since(*asked_at) >= REMEMBERED {
                over.push(uid.clone());
            }
        }
        for uid in over {
            self.closed.remove(&uid);
            self.books.meter.forget(&uid);
        }
    }

    /// Brings statuses, metrics and health up to date.
    fn tell(&mut self, now: Instant, has_room: bool) {
        if self.usage_at.is_none_or(|at| now >= at) && self.books.is_warm() {
            self.usage_at = Some(now + self.settings.usage_every);
            self.books.look_at_register(self.now);
            self.tell_usage();
            self.tell_pools(has_room);
        }
        if let Some(every) = self.settings.ask_agents.map(|settings| settings.every)
            && self.miners_at.is_none_or(|at| now >= at)
            && self.books.is_warm()
        {
            self.miners_at = Some(now + every);
            let miners = self.books.cluster.miners().map(|(key, miner)| (key, &**miner));
            for write in self.books.miners.due(miners) {
                self.requests.spawn(say::send(self.client.clone(), write));
            }
        }
        if self.metrics_at.is_none_or(|at| now >= at) {
            self.metrics_at = Some(now + METRICS_EVERY);
            let books = self.books.meter.books();
            let closes = self.books.meter.check_with(&books);
            if let Err(imbalance) = &closes {
                tracing::error!(%imbalance, "The books do not close.");
            }
            let metrics = &self.metrics;
            metrics.books_closed.set(i64::from(closes.is_ok()));
            match self.to_publish.take_if(|(durable, _)| self.writer.durable() >= *durable) {
                Some((_, books)) => metrics.set_books(&books),
                None if self.writer.taken() == 0 => metrics.set_books(self.books.meter.written()),
                None => {}
            }
            metrics.log_size.set(signed(self.writer.size()));
            metrics.booked_until.set(self.books.meter.booked_until().0.div_euclid(1000));
            metrics.set_unregistered(self.books.unregistered());
            let (read, counted) = self.books.nodes_by_source();
            metrics.nodes.with_label_values(&["exporter"]).set(signed(read as u64));
            metrics.nodes.with_label_values(&["count"]).set(signed(counted as u64));
        }
        self.metrics.unwritten.set(signed(self.writer.waiting_bytes() as u64));
        let pending = self.books.cluster.pending();
        let mut pending: Vec<String> =
            pending.into_iter().map(|(kind, why)| format!("{kind}: {why}")).collect();
        pending.extend(self.writer.trouble().map(str::to_owned));
        self.health.beat(pending);
    }

    fn tell_usage(&mut self) {
        let booked = self.books.meter.booked_until();
        let registrations: Vec<_> = self
            .books
            .cluster
            .registrations()
            // What the authority has not signed, where it must, has no meter: nothing mines under
            // a limit then, whatever the controller makes of it.
            .filter(|(key, _)| self.books.is_signed(key))
            .filter_map(|(key, registration)| {
                let (start, _) = energy_period(&self.books.cluster, registration, booked)?;
                Some((key.clone(), registration.clone(), start))
            })
            .collect();
        let meter = &mut self.books.meter;
        meter.begin_periods(registrations.iter().map(|(key, _, start)| (key.clone(), *start)));
        let usages = meter.usages(registrations.iter().map(|(key, ..)| key));
        for (key, registration, _) in &registrations {
            let Some(usage) = usages.get(key) else { continue };
            if let Some(write) = say::usage(key, registration, usage) {
                self.requests.spawn(say::send(self.client.clone(), write));
            }
        }
    }

    fn tell_pools(&mut self, has_room: bool) {
        let standing = say::Standing {
            trouble: self.writer.trouble(),
            has_room,
            imbalance: self.books.meter.check().err(),
        };
        let pools: Vec<_> = self.books.cluster.pools().collect();
        for (_, pool) in pools {
            if let Some(write) = say::metered(pool, &standing, self.now) {
                self.requests.spawn(say::send(self.client.clone(), write));
            }
        }
    }

    /// Writes what is booked, and waits a little for it to be durable.
    async fn end(mut self) {
        tracing::info!("Ending.");
        self.books.meter.flush();
        self.push();
        let deadline = Instant::now() + SETTLE;
        while !self.writer.is_settled() && Instant::now() < deadline {
            self.writer.start(Instant::now());
            let left = deadline.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, self.writer.next()).await.is_err() {
                break;
            }
            if self.writer.wake_at().is_some() {
                break;
            }
        }
    }
}

/// The records that can be read.
fn readable(records: &Store<Custom<LeaseRecord>>) -> impl Iterator<Item = &LeaseRecord> {
    records.iter().filter_map(|(_, record)| record.get().map(|record| &**record))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn kind(entry: &Entry) -> &'static str {
    match entry {
        Entry::Node(_) => "node",
        Entry::Period { .. } => "period",
        Entry::Object(_) => "object",
        Entry::Clock { .. } => "clock",
        _ => "snapshot",
    }
}
