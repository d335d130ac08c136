//! The main loop: watch events in, plans made, changes begun.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use daylight_base::Timestamp;
use daylight_planner::explain::Plan;
use daylight_planner::{Margins, Planner};
use kube::Client;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;

use super::events::Events;
use super::executor::send::Sender;
use super::executor::{Executor, Limits, Target};
use super::fence::fenced_client;
use super::lease::{self, Leadership, LeaseConfig, LeaseConfigError, Tenure, Vacate};
use super::metrics::Metrics;
use super::mirrors::Mirrors;
use super::report;
use super::site::Site;
use super::status::Statuses;
use super::upkeep::Upkeep;
use crate::clock::wall_clock;
use crate::requests;
use crate::serving::{self, Health};
use crate::view::View;
use daylight_cluster::watch;
use daylight_cluster::watch::Watches;
use daylight_cluster::{Event, Round};

/// How the controller runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub namespace: String,
    /// How leadership is claimed.
    pub lease: LeaseConfig,
    /// The `ConfigMap` in that namespace that holds the authority's keys.
    pub authority_keys: String,
    /// Whether approvals count only with the authority's signature.
    pub require_signature: bool,
    /// How far ahead energy limits are looked after.
    pub margins: Margins,
    /// How much is done at once.
    pub limits: Limits,
    /// Where metrics and health are served, if anywhere.
    pub listen: Option<SocketAddr>,
    /// How long changes are gathered before a plan is made of them.
    pub debounce: Duration,
}

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The lease cannot be held with these settings.
    #[error(transparent)]
    Lease(#[from] LeaseConfigError),
    /// No client can be made.
    #[error("the API server cannot be spoken to ({0}); check KUBECONFIG or the service account")]
    Client(#[from] kube::Error),
    /// A metric is defined twice.
    #[error("the metrics are not consistent ({0})")]
    Metrics(#[from] prometheus::Error),
    /// Nothing can be served.
    #[error("{0}")]
    Serve(std::io::Error),
    /// A part that never ends has ended.
    #[error("{0} ended, so the process must; it is to be started again")]
    Died(&'static str),
}

/// How long requests that are under way are waited for when the process is asked to end.
const SETTLE: Duration = Duration::from_millis(800);
/// How long the first claim of the lease is waited for before the watches start.
const FIRST_CLAIM: Duration = Duration::from_millis(500);
/// How often statuses are looked at.
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// How often they are looked at though no plan was made.
const STATUS_AT_LEAST: Duration = Duration::from_mins(1);
/// How often the PriorityClass of miners is looked at: while it is well, and while it is not.
const PRIORITY_CLASS_EVERY: Duration = Duration::from_mins(5);
const PRIORITY_CLASS_AGAIN: Duration = Duration::from_secs(2);
/// Setting the gauges takes at most one part of the time in so many.
const METRICS_SHARE: u32 = 20;
/// The longest sleep of the main loop.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// A plan that took long is not made again before so many times that.
const PLAN_SHARE: u32 = 4;

/// Decides and writes until `shutdown`, as long as this process leads.
pub async fn run(
    config: kube::Config,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    settings.lease.check()?;
    let mut config = config;
    // Retries are ours: a refused eviction must not be sent again for minutes.
    config.default_retry = false;
    let client = Client::try_from(config.clone())?;
    let metrics = Metrics::new()?;
    let health = Health::default();
    let (mut leadership, elector) = lease::elect(client.clone(), settings.lease.clone());
    let mut elector = tokio::spawn(elector);
    let mut server = serving::start(settings.listen, metrics.registry(), &metrics.whole, &health);

    let timeout = settings.lease.request_timeout;
    let writer = fenced_client(&config, leadership.standing.clone(), timeout)?;
    let sender = Sender::new(writer, leadership.standing.clone(), timeout, metrics.clone());

    // Lists that begin after the lease was taken are fresh enough for its first write.
    let first = leadership.tenure.wait_for(Option::is_some);
    let _ = tokio::time::timeout(FIRST_CLAIM, first).await;
    let watches_from = Instant::now();
    let watch_settings = watch::Settings {
        namespace: settings.namespace.clone(),
        authority_keys: settings.authority_keys.clone(),
        ..watch::Settings::default()
    };
    let index = View::new(wall_clock()).requiring_signatures(settings.require_signature);
    let mut main = Main {
        site: Site::new(index, Events::new(&settings.lease.identity), metrics),
        planner: Planner::default().with_margins(settings.margins),
        executor: Executor::new(sender, settings.limits),
        statuses: Statuses::default(),
        mirrors: Mirrors::new(&settings.namespace),
        watches: watch::start(&client, &watch_settings),
        watches_from,
        tenure: leadership.tenure.clone(),
        mode: Mode::Following,
        health,
        limits: settings.limits,
        debounce: settings.debounce,
        plan: Plan::default(),
        changed: None,
        planned: None,
        plan_cost: Duration::ZERO,
        wake_at: None,
        status_due: None,
        metrics_due: None,
        metrics_free: Instant::now(),
        statused: None,
        priority_class_at: None,
        beat: None,
    };
    main.lead();

    let mut shutdown = std::pin::pin!(shutdown);
    let mut events = Vec::new();
    loop {
        let sleep = main.sleep();
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            _ = &mut elector => return Err(RunError::Died("leader election")),
            error = &mut server => return Err(RunError::Serve(error)),
            changed = main.tenure.changed() => {
                if changed.is_err() {
                    return Err(RunError::Died("leader election"));
                }
                main.site.tick();
                main.lead();
            }
            ended = main.executor.next() => {
                main.site.tick();
                if let Err(error) = main.executor.take(ended, &mut main.site) {
                    tracing::error!(%error, "A request's task failed.");
                    return Err(RunError::Died("a request"));
                }
                main.touch();
            }
            count = main.watches.recv_many(&mut events, 1024) => {
                if count == 0 {
                    return Err(RunError::Died("the watches"));
                }
                main.site.tick();
                main.take_events(&mut events);
            }
            () = tokio::time::sleep(sleep) => main.site.tick(),
        }
        main.turn();
    }
    main.end(leadership, elector).await;
    Ok(())
}

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Following,
    /// It leads, and the picture must become fresher than the lease before anything is written.
    Settling(Tenure, Option<Round>),
    Leading,
}

struct Main {
    site: Site,
    planner: Planner,
    executor: Executor,
    statuses: Statuses,
    mirrors: Mirrors,
    watches: Watches,
    watches_from: Instant,
    tenure: Receiver<Option<Tenure>>,
    mode: Mode,
    health: Health,
    limits: Limits,
    debounce: Duration,
    plan: Plan,
    /// When the first change came that no plan has taken in.
    changed: Option<Instant>,
    planned: Option<Instant>,
    plan_cost: Duration,
    /// When the plan changes by time alone.
    wake_at: Option<Timestamp>,
    status_due: Option<Instant>,
    /// When the gauges are set next, and from when on that may be.
    metrics_due: Option<Instant>,
    metrics_free: Instant,
    statused: Option<Instant>,
    /// When the PriorityClass of miners was looked at.
    priority_class_at: Option<Instant>,
    beat: Option<Instant>,
}

impl Main {
    fn touch(&mut self) {
        self.changed.get_or_insert(self.site.instant);
    }

    fn take_events(&mut self, events: &mut Vec<Event>) {
        self.site.metrics.watch_events.inc_by(events.len() as u64);
        for event in events.drain(..) {
            self.site.view.apply(event, self.site.now, &mut self.site.deltas);
        }
        self.touch();
    }

    /// Follows the lease.
    fn lead(&mut self) {
        let tenure = *self.tenure.borrow_and_update();
        self.site.metrics.leader.set(i64::from(tenure.is_some()));
        if let Some(tenure) = tenure {
            self.mode = Mode::Settling(tenure, None);
        } else {
            self.mode = Mode::Following;
            self.executor.clear();
            self.site.metrics.forget_site();
        }
    }

    /// Does all that can be done without waiting.
    fn turn(&mut self) {
        let now = self.site.now;
        if self.site.view.wake_at().is_some_and(|at| at <= now) {
            self.site.view.refresh(now, &mut self.site.deltas);
            self.touch();
        }
        for seen in self.site.view.take_observations() {
            report::seen(&seen, &mut self.site, &mut self.executor);
        }
        if !self.site.deltas.is_empty() {
            self.touch();
        }
        self.settle();
        if self.mode == Mode::Leading {
            if self.is_plan_due() {
                self.make_plan();
            }
            self.look_after_priority_class();
            let repairs = self.mirrors.due(&self.site, &self.executor);
            self.executor.submit_background(repairs);
            self.executor.dispatch(&mut self.site);
            self.write_statuses();
        }
        self.tell_planner();
        if self.beat.is_none_or(|at| self.site.instant - at >= Duration::from_secs(1)) {
            self.beat = Some(self.site.instant);
            let pending = self.site.view.cluster().pending();
            let pending = pending.into_iter().map(|(kind, why)| format!("{kind}: {why}"));
            self.health.beat(pending.collect());
        }
    }

    /// Waits for the picture to become fresher than the lease.
    fn settle(&mut self) {
        let Mode::Settling(tenure, round) = self.mode else { return };
        if self.site.instant < tenure.writes_from {
            return;
        }
        if self.watches_from < tenure.writes_from && round.is_none() {
            self.mode = Mode::Settling(tenure, Some(self.watches.relist()));
            return;
        }
        let fresh = round.is_none_or(|round| self.site.view.cluster().is_fresh(round));
        if self.site.view.is_warm() && fresh {
            tracing::info!("The picture is complete and fresh; planning.");
            self.mode = Mode::Leading;
            self.priority_class_at = None;
            self.touch();
        }
    }

    fn tell_planner(&mut self) {
        for delta in self.site.take_deltas() {
            self.planner.apply(delta);
        }
    }

    /// When the next plan is due, if one is.
    fn plan_due(&self) -> Option<Instant> {
        let changed = self.changed?;
        let rest = self.debounce.max(self.plan_cost * PLAN_SHARE);
        // A lone change is planned for at once; those that follow within the rest, together.
        Some(self.planned.map_or(changed, |planned| changed.max(planned + rest)))
    }

    fn is_plan_due(&self) -> bool {
        self.wake_at.is_some_and(|at| at <= self.site.now)
            || self.plan_due().is_some_and(|due| due <= self.site.instant)
    }

    fn make_plan(&mut self) {
        self.tell_planner();
        let begun = Instant::now();
        let mut plan = self.planner.plan(self.site.now);
        self.plan_cost = begun.elapsed();
        let metrics = &self.site.metrics;
        metrics.plan_duration.observe(self.plan_cost.as_secs_f64());
        if let Some(changed) = self.changed.take() {
            metrics.plan_lag.observe(begun.saturating_duration_since(changed).as_secs_f64());
        }
        self.planned = Some(Instant::now());
        let upkeep = Upkeep::of(&self.site.view, &plan, self.site.now, &self.limits);
        let (asks, ask_at) = self.site.gang_refusals.due(&self.site.view, self.site.now);
        self.executor.submit_background(asks);
        self.wake_at = [plan.wake_at, upkeep.wake_at, ask_at].into_iter().flatten().min();
        let actions = std::mem::take(&mut plan.actions);
        self.executor.submit(actions, upkeep.changes);
        self.plan = plan;
        let due = self.statused.map_or(self.site.instant, |at| at + STATUS_EVERY);
        self.status_due.get_or_insert(due);
    }

    /// When the PriorityClass of miners is looked at; `None` is at once.
    fn priority_class_due(&self) -> Option<Instant> {
        let well = self.executor.may_grant();
        let every = if well { PRIORITY_CLASS_EVERY } else { PRIORITY_CLASS_AGAIN };
        self.priority_class_at.map(|at| at + every)
    }

    fn look_after_priority_class(&mut self) {
        if self.priority_class_due().is_none_or(|due| due <= self.site.instant) {
            self.priority_class_at = Some(self.site.instant);
            let write = requests::read_priority_class();
            self.executor.submit_background([(Target::PriorityClass, write)]);
        }
    }

    fn write_statuses(&mut self) {
        let now = self.site.instant;
        // Days that are left pass without a plan.
        if self.statused.is_some_and(|at| at + STATUS_AT_LEAST <= now) {
            self.status_due.get_or_insert(now);
        }
        if self.status_due.is_some_and(|due| due <= now) {
            self.statused = Some(now);
            let (writes, later) = self.statuses.due(&self.plan, &mut self.site, &self.executor);
            self.executor.submit_background(writes);
            self.status_due = later.then_some(now + STATUS_EVERY);
            self.metrics_due.get_or_insert(self.metrics_free.max(now));
        }
        if self.metrics_due.is_some_and(|due| due <= now) {
            let began = Instant::now();
            report::metrics(&self.plan, &self.site);
            // A large site's gauges take a while; the loop has better things to do.
            self.metrics_free = now + began.elapsed() * METRICS_SHARE;
            self.metrics_due = None;
        }
        let events = self.site.events.due(now);
        let events = events.into_iter().map(|write| (Target::Event, write));
        self.executor.submit_background(events);
        self.executor.dispatch(&mut self.site);
    }

    /// How long the loop may sleep if nothing comes.
    fn sleep(&self) -> Duration {
        let mut sleep = LONGEST_SLEEP;
        let now = Instant::now();
        let mut until = |at: Option<Instant>| {
            if let Some(at) = at {
                sleep = sleep.min(at.saturating_duration_since(now));
            }
        };
        match self.mode {
            Mode::Following | Mode::Settling(_, Some(_)) => {}
            Mode::Settling(tenure, None) => until(Some(tenure.writes_from)),
            Mode::Leading => {
                until(self.plan_due());
                until(self.status_due);
                until(self.metrics_due);
                until(self.priority_class_due());
                until(self.site.refusals.wake_at(self.site.instant));
                until(self.executor.wait().map(|wait| now + wait));
                until(self.site.events.wake_in().map(|wait| now + wait));
            }
        }
        let mut wall = self.site.view.wake_at();
        if self.mode == Mode::Leading {
            wall = [wall, self.wake_at].into_iter().flatten().min();
        }
        if let Some(at) = wall {
            sleep = sleep.min(at.since(wall_clock()));
        }
        // Moments are told in milliseconds: not to wake just before one.
        sleep + Duration::from_millis(1)
    }

    /// Ends well: no new request begins, those under way are waited for a little, and the lease
    /// is vacated.
    async fn end(mut self, leadership: Leadership, elector: JoinHandle<()>) {
        tracing::info!("Ending.");
        self.executor.clear();
        let deadline = tokio::time::sleep(SETTLE);
        let mut deadline = std::pin::pin!(deadline);
        while !self.executor.is_settled() {
            tokio::select! {
                () = &mut deadline => break,
                ended = self.executor.next() => {
                    if self.executor.take(ended, &mut self.site).is_err() {
                        break;
                    }
                }
            }
        }
        let how = if self.executor.is_settled() { Vacate::Settled } else { Vacate::Unsettled };
        if leadership.vacate.send(how).await.is_ok() {
            let _ = elector.await;
        }
    }
}
