//! The auditor's main loop: watch events, scrapes and the clock in; journal, releases, statuses and
//! metrics out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use daylight_base::{Name, Timestamp};
use daylight_cluster::watch::{self, Watches};
use daylight_meter::{AuditorEvent, Config, Meter};
use kube::Client;
use tokio::task::JoinSet;

use super::admission::AdmissionObjects;
use super::agents::{self, AgentReport};
use super::bookkeeper::{BookSettings, Bookkeeper};
use super::cluster_writes::ClusterWrites;
use super::cosigning::{Cosigning, CosigningError, CosigningSettings};
use super::declarations::Declarations;
use super::exporter::discovery::ExporterName;
use super::exporter::scrape::{Scrape, Scraper};
use super::journal::{Directory, Journal, JournalError, continued};
use super::kept_checkpoint::{CheckpointPlace, KeptCheckpoint, KeptCheckpointError};
use super::ledger_key::{LedgerKeyError, LedgerKeyPlace, LedgerKeys};
use super::metered::{self, RecordState};
use super::metrics::{Metrics, ScrapeOutcome};
use super::other_watches::{OtherChange, OtherWatches};
use super::poll::{Answer, PollSettings, Poller};
use super::publish::Publisher;
use super::release::Releases;
use super::steady_clock::SteadyClock;
use super::usage;
use super::writer::{JournalWriter, WriterError};
use crate::clock::wall_clock;
use crate::connection;
use crate::failure::RunError;
use crate::gpu_resources::GpuResources;
use crate::serving::{self, Health};
use crate::user_agent::{Component, identify};

/// Settings of the auditor.
#[derive(Clone, Debug)]
pub struct Settings {
    pub namespace: String,
    /// `true` if nothing is written in the cluster, where another auditor does.
    pub read_only: bool,
    /// `ConfigMap` in that namespace with the authority's keys.
    pub authority_keys: String,
    /// `true` if approvals count only with the authority's signature.
    pub require_signature: bool,
    /// Mode of the admission policies, to be recorded.
    pub admission_mode: Option<String>,
    /// Directory of the journal.
    pub data_dir: PathBuf,
    /// Directory of a journal that this one continues under another key.
    pub continues: Option<PathBuf>,
    /// Place of the key that signs the ledger.
    pub ledger_key: LedgerKeyPlace,
    /// Place of the key that will replace it, and signs as well.
    pub ledger_next_key: Option<LedgerKeyPlace>,
    /// Place outside of the journal's volume where its last checkpoint is kept.
    pub ledger_checkpoint: CheckpointPlace,
    /// Witnesses that cosign its checkpoints; `None` if there are none.
    pub cosigning: Option<CosigningSettings>,
    /// Address of metrics and health; `None` to serve neither.
    pub listen: Option<SocketAddr>,
    /// Exporters of the devices' power and energy; none if devices are only counted.
    pub exporters: Vec<ExporterName>,
    /// Time between two scrapes of one exporter.
    pub scrape_every: Duration,
    /// Age that an exporter's figures may have.
    pub refresh: Duration,
    /// Power limit of a device whose exporter does not report one, in watts.
    pub device_watts: u32,
    /// Extended resources that are GPUs, in addition to those that pools name.
    pub resources: Vec<String>,
    /// Patterns of images from which the evidence `seen` counts.
    pub trusted_images: Vec<String>,
    /// Queries of agents while they run; `None` to query none.
    pub agents: Option<PollSettings>,
    /// Time after which a node's books are written though nothing happened on it.
    pub book_every: Duration,
    /// Time after which nodes on which nothing happens have an entry in the ledger.
    pub quiet_every: Duration,
    /// Interval at which declarations are compared with the ledger.
    pub declare_every: Duration,
    /// Time between two closings of the ledger's entries: they are at its multiples since 1970.
    pub close_every: Duration,
    /// Most bytes of entries that wait in memory while the journal cannot be written.
    pub memory: usize,
    /// Time between two updates of the usage in registrations' statuses.
    pub usage_every: Duration,
}

/// Failure that ends the auditor.
#[derive(Debug, thiserror::Error)]
pub enum AuditorError {
    #[error("cannot use the data directory {0} ({1}); choose another with --data-dir")]
    DataDirectory(PathBuf, std::io::Error),
    #[error(transparent)]
    LedgerKey(#[from] LedgerKeyError),
    #[error(transparent)]
    KeptCheckpoint(#[from] KeptCheckpointError),
    #[error(transparent)]
    Cosigning(#[from] CosigningError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Writer(#[from] WriterError),
    /// The journal lacks what its later entries need.
    #[error(transparent)]
    Restore(#[from] daylight_meter::RestoreError),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Age that time must have before it is booked. What is booked stays, so an event has to arrive
/// before its time is booked. Kubernetes rounds times down to whole seconds; the other half second
/// is for the watch.
const LAG: Duration = Duration::from_millis(1500);
/// Time between two bookings.
const TICK: Duration = Duration::from_millis(250);
/// Longest wait for the last entries to become durable: a small part of a pod's default grace
/// period, 30 s.
const SETTLE: Duration = Duration::from_secs(5);
/// Least time for the last checkpoint to be kept outside of the volume.
const KEEP: Duration = Duration::from_secs(2);
/// A device counts as unread after this number of refreshes of its exporter without a reading: a
/// scrape may fail, or be read before a refresh, without a gap in the books.
const UNREAD: u64 = 4;
/// Most watch events that are taken in before the other inputs get their turn.
const EVENTS: usize = 1024;
/// The version that is on record.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The part that [`RunError::Stopped`] names.
const WATCHES: &str = "the watches";

/// Audits until `shutdown`.
///
/// # Errors
///
/// The journal cannot be opened, or a part of the process stopped.
pub async fn run(
    mut config: kube::Config,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AuditorError> {
    let mut directory = Directory::take(&settings.data_dir)
        .map_err(|error| AuditorError::DataDirectory(settings.data_dir.clone(), error))?;
    // A write that fails is sent again when it is due, not held back by the client.
    config.default_retry = false;
    identify(&mut config, Component::Auditor);
    let client = connection::client(&config).map_err(RunError::from)?;
    let next = settings.ledger_next_key.as_ref();
    let keys = LedgerKeys::load(&settings.ledger_key, next, &client, &settings.namespace).await?;
    let (verifier, verifiers) = (keys.key.verifier(), keys.verifiers());
    let place = settings.ledger_checkpoint.clone();
    let mut kept = KeptCheckpoint::read(place, &client, &settings.namespace).await?;
    if let Some(path) = &settings.continues
        && !continued::is_begun(&directory)?
    {
        let unusable = |error| AuditorError::DataDirectory(path.clone(), error);
        let other = Directory::take(path).map_err(unusable)?;
        continued::begin(&mut directory, &keys.key, &other, kept.found(), wall_clock())?;
        tracing::info!(from = %path.display(), "Began a ledger that continues another one.");
    }
    let verify = |journal: &Journal<Directory>| kept.verify(journal, &verifier);
    let (writer, entries) = JournalWriter::open(directory, keys, settings.quiet_every, verify)?;
    let witnesses = settings.cosigning.clone();
    let cosigning = Cosigning::start(witnesses, &verifier, &settings.data_dir)?;
    let (size, state) = (writer.size(), entries.len());
    tracing::info!(size, state, %verifier, "Opened the journal, which this key signs.");
    let meter = Meter::restore(meter_config(&settings), entries)?;

    let metrics = Metrics::new().map_err(RunError::from)?;
    let health = Health::default();
    let served = serving::Served {
        registry: metrics.registry().clone(),
        lock: metrics.whole.clone(),
        health: health.clone(),
        ledger: Some(settings.data_dir.clone()),
    };
    let mut server = serving::start(settings.listen, served);
    let mut main =
        Main::new(settings, meter, verifiers, (writer, kept, cosigning), client, metrics, health);

    let mut shutdown = std::pin::pin!(shutdown);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut events = Vec::new();
    loop {
        tokio::select! {
            // In this order: events before the tick, so that no time is booked past an event that
            // has already arrived.
            biased;
            () = &mut shutdown => break,
            error = &mut server => return Err(RunError::Serve(error).into()),
            count = main.watches.recv_many(&mut events, EVENTS) => {
                if count == 0 {
                    return Err(RunError::Stopped(WATCHES).into());
                }
                main.tick();
                for event in events.drain(..) {
                    main.books.apply(event, main.now);
                }
            }
            change = main.other_watches.next() => {
                let change = change.ok_or(RunError::Stopped(WATCHES))?;
                main.tick();
                main.apply(change);
            }
            scrape = main.scraper.next() => {
                main.tick();
                main.scraped(&scrape);
            }
            answer = next_report(&mut main.agents) => main.reported(answer),
            closed = main.writer.next() => main.releases.set_durable(closed?, main.now),
            () = main.writes.next() => {}
            () = main.kept.next() => {}
            () = main.declarations.next() => main.write_declarations(),
            round = main.cosigning.next() => main.publisher.metrics.set_round(&round),
            _ = tick.tick() => {
                main.tick();
                main.turn();
            }
        }
        main.writer.start(Instant::now());
        main.writes.release(main.releases.due(&main.books, main.writes.room(), Instant::now()));
    }
    Box::pin(main.end()).await;
    Ok(())
}

fn meter_config(settings: &Settings) -> Config {
    Config {
        refresh_ms: millis(settings.refresh),
        unread_ms: UNREAD * millis(settings.refresh.max(settings.scrape_every)),
        book_every_ms: millis(settings.book_every),
        lag_ms: millis(LAG),
        limit_mw: u64::from(settings.device_watts) * 1000,
        ..Config::default()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn next_report(agents: &mut Option<Poller<AgentReport>>) -> Answer<AgentReport> {
    match agents {
        Some(agents) => agents.next().await,
        None => std::future::pending().await,
    }
}

struct Main {
    settings: Settings,
    clock: SteadyClock,
    now: Timestamp,
    /// They end with it.
    _tasks: JoinSet<()>,
    watches: Watches,
    other_watches: OtherWatches,
    admission: AdmissionObjects,
    scraper: Scraper,
    agents: Option<Poller<AgentReport>>,
    books: Bookkeeper,
    writer: JournalWriter,
    kept: KeptCheckpoint,
    cosigning: Cosigning,
    releases: Releases,
    writes: ClusterWrites,
    publisher: Publisher,
    declarations: Declarations,
    health: Health,
    usage_due: Option<Instant>,
    miners_due: Option<Instant>,
}

impl Main {
    fn new(
        settings: Settings,
        meter: Meter,
        ledger_keys: Vec<Name>,
        (writer, kept, cosigning): (JournalWriter, KeptCheckpoint, Cosigning),
        client: Client,
        metrics: Metrics,
        health: Health,
    ) -> Self {
        let watch_settings = watch::Settings {
            namespace: settings.namespace.clone(),
            authority_keys: settings.authority_keys.clone(),
            optional_kinds: false,
            ..watch::Settings::default()
        };
        let exporters = &settings.exporters;
        let book_settings = BookSettings {
            resources: GpuResources::new(&settings.resources),
            trusted_images: settings.trusted_images.clone(),
            exporters: exporters.clone(),
            signature_required: settings.require_signature,
            admission_mode: settings.admission_mode.as_deref().map(Into::into),
            ledger_keys,
        };
        let clock = SteadyClock::new();
        let now = clock.now();
        let mut tasks = JoinSet::new();
        tasks.spawn(clock.clone().compare(client.clone()));
        Self {
            now,
            _tasks: tasks,
            watches: watch::start(&client, &watch_settings),
            other_watches: OtherWatches::start(&client, &watch_settings, exporters),
            admission: AdmissionObjects::default(),
            scraper: Scraper::new(exporters, settings.scrape_every, &clock),
            agents: settings.agents.map(|settings| agents::poller(settings, clock.clone())),
            clock,
            releases: Releases::new(meter.closed().cloned(), now),
            publisher: Publisher::new(metrics, settings.data_dir.clone(), meter.written()),
            books: Bookkeeper::new(meter, book_settings),
            writer,
            kept,
            cosigning,
            writes: ClusterWrites::new((!settings.read_only).then_some(client)),
            declarations: Declarations::new(settings.data_dir.clone(), settings.declare_every),
            health,
            usage_due: None,
            miners_due: None,
            settings,
        }
    }

    fn tick(&mut self) {
        self.now = self.clock.now();
    }

    fn apply(&mut self, change: OtherChange) {
        match change {
            OtherChange::Record(change) => self.releases.apply(change),
            OtherChange::Declaration(change) => self.declarations.apply(change),
            OtherChange::Claim(change) => self.books.apply_claim(change, self.now),
            OtherChange::Policy(change) => self.admission.policy(change),
            OtherChange::Binding(change) => self.admission.binding(change),
            OtherChange::Exporter(exporter, change) => self.scraper.apply(exporter, change),
        }
    }

    fn scraped(&mut self, scrape: &Scrape) {
        let outcome = match &scrape.answer.content {
            Ok(_) => ScrapeOutcome::Read,
            Err(reason) => {
                tracing::debug!(node = %scrape.answer.from, reason, "Cannot scrape an exporter.");
                ScrapeOutcome::Failed
            }
        };
        self.publisher.metrics.count_scrape(outcome);
        self.books.scraped(scrape, self.now);
    }

    fn reported(&mut self, answer: Answer<AgentReport>) {
        match answer.content {
            Ok(report) => self.books.agent_reported(&answer.from, report),
            Err(reason) => tracing::debug!(pod = %answer.from, reason, "Cannot query an agent."),
        }
    }

    /// Books what has happened, starts what is due, and reports.
    fn turn(&mut self) {
        let instant = Instant::now();
        let is_certain = self.clock.is_certain();
        let is_complete = self.books.is_complete() && self.releases.is_ready();
        if !self.books.is_warm() && is_complete && is_certain {
            // Recorded ends first: a lease that is gone without one ended at an unknown time.
            self.take_records();
            self.books.begin(self.now);
            self.books.meter.auditor(AuditorEvent::Started, VERSION, self.now);
            usage::begin_periods(&mut self.books, self.now);
        }
        self.books.refresh(self.now);
        if self.books.is_warm() {
            self.admission.record(&mut self.books.meter, self.now);
            if let Some(state) = self.admission.compare_again(&self.settings.namespace) {
                self.publisher.take_admission(state);
            }
            self.scraper.start_due(instant);
        }
        if let Some(agents) = &mut self.agents {
            let agents_of = self.books.agents.iter();
            let endpoints = agents_of.map(|(uid, agent)| (uid, agent.ip, agent.tenant()));
            agents.start_due(endpoints, instant);
        }
        let has_room = self.writer.waiting_bytes() < self.settings.memory;
        // Without room, time stays unbooked: counters and finalizers keep what it needs.
        if self.books.is_current() && has_room && is_certain {
            self.take_records();
            self.books.meter.advance(self.now.minus_millis(millis(LAG)));
            self.push();
            self.close();
        }
        self.releases.forget(&mut self.books, self.now);
        self.write_statuses(instant, has_room);
        if self.books.is_warm() {
            self.declarations.start(&self.books, &mut self.writer, self.now, instant);
        }
        self.kept.start(self.writer.checkpoint(), instant);
        self.cosigning.follow(self.writer.checkpoint());
        self.publisher.publish(&self.books, &self.writer, self.kept.size(), instant);
        self.beat();
    }

    /// Books the ends of leases that the controller recorded.
    fn take_records(&mut self) {
        let mut records = self.releases.unbooked().peekable();
        if records.peek().is_none() {
            return;
        }
        let pods_there = self.books.pods_there();
        for record in records {
            self.books.take_record(record, &pods_there, self.now);
        }
    }

    /// Hands the meter's new entries to the journal, or all its state if that has grown too long.
    fn push(&mut self) {
        let meter = &mut self.books.meter;
        // A snapshot replaces the state, so it must not overtake entries that still wait.
        let snapshot = self.writer.wants_snapshot() && self.writer.is_settled();
        let entries = if snapshot { meter.snapshot() } else { meter.take_entries() };
        self.publisher.count(&entries);
        self.writer.push(entries);
        self.publisher.hold(self.books.meter.written(), self.writer.taken());
    }

    /// Closes the entries so far at each multiple of the time that is set.
    fn close(&mut self) {
        let until = self.books.meter.booked_until();
        if self.writer.is_closing_due(until, self.settings.close_every) {
            self.books.meter.flush();
            self.push();
            if let Some(closing) = self.writer.close(until) {
                let entries = vec![closing];
                self.publisher.count(&entries);
                self.writer.push(entries);
                self.publisher.hold(self.books.meter.written(), self.writer.taken());
            }
        }
    }

    /// Sets what is due in the statuses of registrations, pools and miners.
    fn write_statuses(&mut self, now: Instant, has_room: bool) {
        if !self.books.is_warm() {
            // A clock that is wrong keeps the books from beginning, and pools say so.
            if let Some(difference) = self.clock.difference()
                && self.books.is_complete()
                && self.usage_due.is_none_or(|due| now >= due)
            {
                self.usage_due = Some(now + self.settings.usage_every);
                let state = RecordState::ClockDiffers(difference);
                let pools = self.books.cluster.pools();
                let writes =
                    pools.filter_map(|(_, pool)| metered::condition(pool, &state, self.now));
                self.writes.set_statuses(writes.collect());
            }
            return;
        }
        if self.usage_due.is_none_or(|due| now >= due) {
            self.usage_due = Some(now + self.settings.usage_every);
            self.books.observe_register(self.now);
            let mut writes = usage::statuses(&mut self.books, self.now);
            let unread = self.books.unread_energy(self.now);
            let state = self.record_state(has_room);
            for (name, pool) in self.books.cluster.pools() {
                let state = match (&state, unread.get(name)) {
                    (RecordState::Metering, Some(unread)) if unread.devices > 0 => {
                        &RecordState::EnergyUnread(unread)
                    }
                    (state, _) => state,
                };
                writes.extend(metered::condition(pool, state, self.now));
            }
            self.publisher.take_unread(unread);
            self.writes.set_statuses(writes);
        }
        if let Some(every) = self.settings.agents.map(|agents| agents.every)
            && self.miners_due.is_none_or(|due| now >= due)
        {
            self.miners_due = Some(now + every);
            self.writes.set_statuses(self.books.miner_statuses());
        }
    }

    fn write_declarations(&mut self) {
        let origin = self.writer.origin();
        let writes = self.declarations.writes(&mut self.books, &origin, self.now);
        self.publisher.metrics.set_declarations(self.declarations.iter(), self.now);
        self.writes.set_statuses(writes);
    }

    fn record_state(&self, has_room: bool) -> RecordState<'_> {
        if let (true, Some(difference)) = (has_room, self.clock.difference()) {
            return RecordState::ClockDiffers(difference);
        }
        match (has_room, self.writer.failure(), self.books.meter.check()) {
            (false, failure, _) => RecordState::JournalFull(failure),
            (true, Some(failure), _) => RecordState::JournalUnwritable(failure),
            (true, None, Err(imbalance)) => RecordState::BooksOpen(imbalance),
            (true, None, Ok(())) => RecordState::Metering,
        }
    }

    fn beat(&self) {
        let pending = self.books.cluster.pending().into_iter();
        let mut pending: Vec<String> =
            pending.map(|(kind, reason)| format!("{kind}: {reason}")).collect();
        pending.extend(self.writer.failure().map(str::to_owned));
        self.health.beat(pending);
    }

    /// Books everything, and waits a little for it to become durable.
    async fn end(mut self) {
        tracing::info!("Stopping: writing the last entries.");
        self.books.meter.flush();
        if self.books.is_warm() {
            self.books.meter.auditor(AuditorEvent::Stopped, VERSION, self.now);
        }
        self.push();
        self.writer.push_quiet();
        let deadline = Instant::now() + SETTLE;
        while !self.writer.is_settled() && Instant::now() < deadline {
            self.writer.start(Instant::now());
            let left = deadline.saturating_duration_since(Instant::now());
            let written = tokio::time::timeout(left, self.writer.next()).await;
            // What cannot be written is not lost: pods keep their finalizers and devices their
            // counters, from which the next process books it.
            if !matches!(written, Ok(Ok(_))) || self.writer.failure().is_some() {
                break;
            }
        }
        let left = KEEP.max(deadline.saturating_duration_since(Instant::now()));
        if tokio::time::timeout(left, self.kept.finish(self.writer.checkpoint())).await.is_err() {
            tracing::warn!(
                "The last checkpoint is not kept outside of the volume: no answer in time."
            );
        }
    }
}
