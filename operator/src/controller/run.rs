//! The main loop: watch events in, plans made, changes begun.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use daylight_base::{Name, Timestamp};
use daylight_cluster::watch::{self, Watches};
use daylight_cluster::{Event, Round};
use daylight_planner::Margins;
use daylight_planner::explain::Plan;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;

use super::events::Events;
use super::executor::send::Sender;
use super::executor::{Executor, Limits, Target};
use super::fence::fenced_client;
use super::lease::{self, Leadership, LeaseConfig, LeaseConfigError, Tenure, Vacate};
use super::metrics::Metrics;
use super::mirrors::Mirrors;
use super::planning::Planning;
use super::state::State;
use super::status::Statuses;
use super::timers::{Timer, TimerTable};
use super::upkeep::Upkeep;
use super::{gauges, observations};
use crate::api_requests;
use crate::clock::wall_clock;
use crate::connection;
use crate::failure;
use crate::process_memory::resident_bytes;
use crate::serving::{self, Health};
use crate::user_agent::{Component, identify};
use crate::view::View;

/// Settings of the controller.
#[derive(Clone, Debug)]
pub struct Settings {
    pub namespace: String,
    pub lease: LeaseConfig,
    /// The `ConfigMap` in that namespace that holds the authority's keys.
    pub authority_keys: String,
    /// `true` if approvals count only with the authority's signature.
    pub require_signature: bool,
    /// The resources that admission takes for GPUs; empty if they are not known.
    pub gpu_resources: Vec<String>,
    /// Margins that the planner keeps before energy limits.
    pub margins: Margins,
    pub limits: Limits,
    /// Address that serves metrics and health; `None` serves neither.
    pub listen: Option<SocketAddr>,
    /// Time for which changes are gathered before a plan is made of them.
    pub debounce: Duration,
}

/// Failure that ends the controller.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The lease cannot be held with these settings.
    #[error(transparent)]
    Lease(#[from] LeaseConfigError),
    #[error(transparent)]
    Run(#[from] failure::RunError),
}

impl RunError {
    fn stopped(part: &'static str) -> Self {
        failure::RunError::Stopped(part).into()
    }
}

/// Time for which a process that ends waits for its requests under way: shorter than the lease, so
/// that it can be vacated.
const SETTLE: Duration = Duration::from_millis(800);
/// Time for which the first claim of the lease is waited for before the watches start: lists that
/// begin after it need not be repeated.
const FIRST_CLAIM: Duration = Duration::from_millis(500);
/// Statuses are compared with the plan at this interval after a plan,
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// and at this one without a plan: days that are left pass all the same.
const STATUS_AT_LEAST: Duration = Duration::from_mins(1);
/// The PriorityClass of miners is read at this interval while it is as it should be,
const PRIORITY_CLASS_EVERY: Duration = Duration::from_mins(5);
/// and at this one while it is not, or may not be.
const PRIORITY_CLASS_AGAIN: Duration = Duration::from_secs(2);
/// At most 1/20 of the time is spent on updating gauges: a large site has tens of thousands.
const METRICS_SHARE: u32 = 20;
/// Time after which gauges are set that a scrape kept from being set.
const SCRAPE_ENDS: Duration = Duration::from_millis(20);
/// The longest sleep of the main loop, which bounds the harm of a step of the wall clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// A plan is made again after 4 times its own duration at the earliest, so that planning takes at
/// most a fifth of the time.
const PLAN_SHARE: u32 = 4;
/// Interval at which the probes learn that the loop is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Runs until `shutdown`; decides and writes while this process leads.
pub async fn run(
    config: kube::Config,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    settings.lease.check()?;
    let mut config = config;
    // Retries are ours: a refused eviction must not be sent again for minutes.
    config.default_retry = false;
    identify(&mut config, Component::Controller);
    let client = connection::client(&config).map_err(failure::RunError::from)?;
    let metrics = Metrics::new().map_err(failure::RunError::from)?;
    let health = Health::default();
    let (mut leadership, elector) = lease::elect(client.clone(), settings.lease.clone());
    let mut elector = tokio::spawn(elector);
    let served = serving::Served {
        registry: metrics.registry().clone(),
        lock: metrics.scrape_lock.clone(),
        health: health.clone(),
        ledger: None,
    };
    let mut server = serving::start(settings.listen, served);

    let timeout = settings.lease.request_timeout;
    let writer = fenced_client(&config, leadership.validity.clone(), timeout)
        .map_err(failure::RunError::from)?;
    let sender = Sender::new(writer, leadership.validity.clone(), timeout, metrics.clone());

    // Lists that begin after the lease was taken are fresh enough for its first write.
    let first = leadership.tenure.wait_for(Option::is_some);
    let _ = tokio::time::timeout(FIRST_CLAIM, first).await;
    let watches_from = Instant::now();
    let watch_settings = watch::Settings {
        namespace: settings.namespace.clone(),
        authority_keys: settings.authority_keys.clone(),
        ..watch::Settings::default()
    };
    let view = View::new(wall_clock()).requiring_signatures(settings.require_signature);
    let mut main = Main {
        state: State::new(view, Events::new(&settings.lease.identity), metrics),
        planning: Planning::new(settings.margins),
        executor: Executor::new(sender, settings.limits),
        statuses: Statuses::new(settings.gpu_resources),
        mirrors: Mirrors::new(&settings.namespace),
        watches: watch::start(&client, &watch_settings),
        watches_from,
        tenure: leadership.tenure.clone(),
        mode: Mode::Following,
        health,
        limits: settings.limits,
        debounce: settings.debounce,
        timers: TimerTable::default(),
        plan: Plan::default(),
        changed: None,
        planned: None,
        plan_cost: Duration::ZERO,
        replan_at: None,
        statuses_at: None,
        gauges_free: Instant::now(),
        priority_class_at: None,
    };
    main.lead();

    let mut shutdown = std::pin::pin!(shutdown);
    let mut events = Vec::new();
    loop {
        let sleep = main.sleep();
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            _ = &mut elector => return Err(RunError::stopped("leader election")),
            error = &mut server => return Err(failure::RunError::Serve(error).into()),
            changed = main.tenure.changed() => {
                if changed.is_err() {
                    return Err(RunError::stopped("leader election"));
                }
                main.state.tick();
                main.lead();
            }
            ended = main.executor.next() => {
                main.state.tick();
                if let Err(error) = main.executor.take(ended, &mut main.state) {
                    tracing::error!(
                        %error,
                        "The task of a request panicked, so the controller ends; please report this bug."
                    );
                    return Err(RunError::stopped("a request"));
                }
                // In a burst some answer is always ready: the watches must not wait for its end.
                main.watches.take_ready(&mut events, 1024);
                main.take_events(&mut events);
                main.touch();
            }
            count = main.watches.recv_many(&mut events, 1024) => {
                if count == 0 {
                    return Err(RunError::stopped("the watches"));
                }
                main.state.tick();
                main.take_events(&mut events);
            }
            () = tokio::time::sleep(sleep) => main.state.tick(),
        }
        main.turn();
    }
    main.end(leadership, elector).await;
    Ok(())
}

/// The extent to which this process may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Following,
    /// It leads, and the view must become newer than the lease before anything is written.
    Settling(Tenure, Option<Round>),
    Leading,
}

struct Main {
    state: State,
    planning: Planning,
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
    timers: TimerTable,
    /// The time of the first change that no plan has taken in.
    changed: Option<Instant>,
    planned: Option<Instant>,
    plan_cost: Duration,
    /// The time at which the plan, or what is done in addition to it, changes by time alone.
    replan_at: Option<Timestamp>,
    /// The time of the last comparison of statuses.
    statuses_at: Option<Instant>,
    /// The time from which on gauges may be set again.
    gauges_free: Instant,
    /// The time at which the PriorityClass of miners was last read.
    priority_class_at: Option<Instant>,
}

impl Main {
    fn touch(&mut self) {
        self.changed.get_or_insert(self.state.instant);
    }

    fn take_events(&mut self, events: &mut Vec<Event>) {
        self.state.metrics.watch_events.inc_by(events.len() as u64);
        for event in events.drain(..) {
            self.state.view.apply(event, self.state.now, &mut self.state.deltas);
        }
        self.touch();
    }

    /// Follows the lease.
    fn lead(&mut self) {
        let tenure = *self.tenure.borrow_and_update();
        self.state.metrics.leader.set(i64::from(tenure.is_some()));
        self.executor.clear();
        if let Some(tenure) = tenure {
            self.mode = Mode::Settling(tenure, None);
        } else {
            self.mode = Mode::Following;
            self.state.metrics.forget_site();
        }
        // What a follower would have reported is the leader's to report.
        self.state.events.clear();
    }

    /// Does everything that can be done without waiting.
    fn turn(&mut self) {
        self.arm();
        let now = self.state.instant;
        if self.timers.take(Timer::View, now) {
            self.state.view.refresh(self.state.now, &mut self.state.deltas);
            self.touch();
        }
        for observation in self.state.view.take_observations() {
            observations::act_on(&observation, &mut self.state, &mut self.executor);
        }
        if self.mode != Mode::Leading {
            self.state.events.clear();
        }
        // Grants were left out while the picture was stale, and what had no effect is repeated.
        if self.state.note_staleness()
            || self.state.has_deltas()
            || self.timers.take(Timer::Retry, now)
        {
            self.touch();
        }
        self.settle();
        if self.mode == Mode::Leading {
            // What happened in this turn may have made a plan due.
            self.arm();
            if self.timers.take(Timer::Plan, now) | self.timers.take(Timer::Replan, now) {
                self.make_plan();
            }
            self.read_priority_class();
            if self.timers.take(Timer::Services, now) {
                let State { gang_services, view, .. } = &mut self.state;
                let services = gang_services.due(view, &self.executor, now);
                self.executor.submit_background(services, now);
            }
            let repairs = self.mirrors.due(&self.state, &self.executor);
            self.executor.submit_background(repairs, now);
            self.executor.dispatch(&mut self.state);
            self.write_statuses();
        }
        self.update_planner();
        if self.timers.take(Timer::Heartbeat, now) {
            self.timers.set(Timer::Heartbeat, Some(now + HEARTBEAT));
            let pending = self.state.view.cluster().pending();
            let pending = pending.into_iter().map(|(kind, why)| format!("{kind}: {why}"));
            self.health.beat(pending.collect());
            self.state.metrics.resident_memory.set(resident_bytes().unwrap_or_default());
        }
    }

    /// Sets the timers that follow from the state.
    fn arm(&mut self) {
        let (now, instant) = (self.state.now, self.state.instant);
        let at = |wall: Option<Timestamp>| wall.map(|at| instant + at.since(now));
        let t = &mut self.timers;
        t.set_if_stopped(Timer::Heartbeat, instant);
        t.set(Timer::View, at(self.state.view.wake_at()));
        match self.mode {
            Mode::Following => t.stop_all_but(&[Timer::View, Timer::Heartbeat]),
            Mode::Settling(tenure, round) => {
                t.stop_all_but(&[Timer::View, Timer::Heartbeat]);
                // Once lists are under way, their end is an event.
                let waits = round.is_none() && tenure.writes_from > instant;
                t.set(Timer::FirstWrite, waits.then_some(tenure.writes_from));
            }
            Mode::Leading => {
                t.set(Timer::FirstWrite, None);
                let replan = at(self.replan_at).into_iter().chain(self.planning.wake_at()).min();
                t.set(Timer::Replan, replan);
                t.set(Timer::Refusals, self.state.refusals.wake_at(instant));
                t.set(Timer::Services, Some(self.state.gang_services.wake_at().unwrap_or(instant)));
                t.set(Timer::Retry, self.executor.retry_at(instant));
                t.set(Timer::Rate, self.executor.wait().map(|wait| instant + wait));
                t.set(Timer::Events, self.state.events.wake_in().map(|wait| instant + wait));
                let doubts = self.executor.doubts_priority_class();
                let every = if doubts { PRIORITY_CLASS_AGAIN } else { PRIORITY_CLASS_EVERY };
                let read = self.priority_class_at.map_or(instant, |at| at + every);
                t.set(Timer::PriorityClass, Some(read));
                // A lone change is planned for at once; those that follow within the rest,
                // together.
                let rest = self.debounce.max(self.plan_cost * PLAN_SHARE);
                let due = self.changed.map(|changed| {
                    self.planned.map_or(changed, |planned| changed.max(planned + rest))
                });
                t.set(Timer::Plan, due);
            }
        }
    }

    /// Waits for the view to become newer than the lease: a new leader must see what the last one
    /// did.
    fn settle(&mut self) {
        let Mode::Settling(tenure, round) = self.mode else { return };
        if self.state.instant < tenure.writes_from {
            return;
        }
        if self.watches_from < tenure.writes_from && round.is_none() {
            self.mode = Mode::Settling(tenure, Some(self.watches.relist()));
            return;
        }
        let fresh = round.is_none_or(|round| self.state.view.cluster().is_fresh(round));
        if self.state.view.is_warm() && fresh {
            tracing::info!("The view of the cluster is complete and current; planning.");
            self.mode = Mode::Leading;
            // The lists began after the requests of an earlier tenure had ended, so they have the pods
            // that these created.
            let executor = &self.executor;
            let under_way = |pod: &Name| executor.is_in_flight(&Target::Pod(pod.clone()));
            self.state.view.unforesee_pods(under_way, &mut self.state.deltas);
            self.priority_class_at = None;
            self.touch();
        }
    }

    fn update_planner(&mut self) {
        for delta in self.state.take_deltas() {
            self.planning.apply(delta);
        }
    }

    fn make_plan(&mut self) {
        self.update_planner();
        let begun = Instant::now();
        let plan = self.planning.plan(&self.state);
        self.plan_cost = begun.elapsed();
        let metrics = &self.state.metrics;
        metrics.plan_duration.observe(self.plan_cost.as_secs_f64());
        if let Some(changed) = self.changed.take() {
            metrics.plan_lag.observe(begun.saturating_duration_since(changed).as_secs_f64());
        }
        self.planned = Some(Instant::now());
        let Some(mut plan) = plan else { return };
        let upkeep = Upkeep::of(&self.state.view, &plan, self.state.now, &self.limits);
        let (event_lists, list_at) = self.state.gang_refusals.due(&self.state.view, self.state.now);
        let lists = event_lists.into_iter();
        let lists = lists.map(|(job, list)| (Target::GangRefusal(job), list));
        self.executor.submit_background(lists, self.state.instant);
        self.replan_at = [plan.wake_at, upkeep.wake_at, list_at].into_iter().flatten().min();
        let actions = std::mem::take(&mut plan.actions);
        self.executor.submit(actions, upkeep.changes, self.state.instant);
        self.plan = plan;
        let due = self.statuses_at.map_or(self.state.instant, |at| at + STATUS_EVERY);
        self.timers.set_earlier(Timer::Status, due);
    }

    fn read_priority_class(&mut self) {
        if self.timers.take(Timer::PriorityClass, self.state.instant) {
            self.priority_class_at = Some(self.state.instant);
            let read = api_requests::read_priority_class();
            self.executor.submit_background([(Target::PriorityClass, read)], self.state.instant);
        }
    }

    fn write_statuses(&mut self) {
        let now = self.state.instant;
        if self.timers.take(Timer::Status, now) {
            self.statuses_at = Some(now);
            let (writes, later) = self.statuses.due(&self.plan, &mut self.state, &self.executor);
            self.executor.submit_background(writes, now);
            let again = if later { STATUS_EVERY } else { STATUS_AT_LEAST };
            self.timers.set(Timer::Status, Some(now + again));
            self.timers.set_if_stopped(Timer::Gauges, self.gauges_free.max(now));
        }
        if self.timers.take(Timer::Gauges, now) {
            let began = Instant::now();
            if gauges::set(&self.plan, &self.state, &self.mirrors) {
                self.gauges_free = now + began.elapsed() * METRICS_SHARE;
            } else {
                // A scrape must not hold up the plan.
                self.timers.set(Timer::Gauges, Some(now + SCRAPE_ENDS));
            }
        }
        let events = self.state.events.due(now);
        let events = events.into_iter().map(|event| (Target::Event, event));
        self.executor.submit_background(events, now);
        self.executor.dispatch(&mut self.state);
    }

    /// Time that the loop may sleep if nothing happens.
    fn sleep(&mut self) -> Duration {
        self.arm();
        let until = self.timers.next().map(|at| at.saturating_duration_since(Instant::now()));
        // Timestamps are truncated to milliseconds; add one so that the loop never wakes early.
        until.map_or(LONGEST_SLEEP, |until| until.min(LONGEST_SLEEP)) + Duration::from_millis(1)
    }

    /// Ends in order: starts no new request, waits briefly for those under way, and vacates the
    /// lease.
    async fn end(mut self, leadership: Leadership, elector: JoinHandle<()>) {
        tracing::info!("Shutting down.");
        self.executor.clear();
        let deadline = tokio::time::sleep(SETTLE);
        let mut deadline = std::pin::pin!(deadline);
        while !self.executor.is_settled() {
            tokio::select! {
                () = &mut deadline => break,
                ended = self.executor.next() => {
                    if self.executor.take(ended, &mut self.state).is_err() {
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
