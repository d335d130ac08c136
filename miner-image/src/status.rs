//! State of the agent, as metrics, `/status` and the probes show it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daylight_agent_api::{Evidence, NotReady, Outcome};
use serde::Serialize;
use tokio::time::Instant;

use crate::config::Config;
use crate::engine::Unreadable;
use crate::figures::Figures;
use crate::work::Work;

/// Handle to the one state of the agent.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Status>>);

impl Shared {
    /// Creates the state at the start.
    pub(crate) fn new(config: &Config) -> Self {
        let engine = &config.engine;
        Self(Arc::new(Mutex::new(Status {
            engine: engine.name.to_string(),
            algorithm: config.algorithm().map(str::to_owned),
            dev_fee: engine.dev_fee,
            evidence: config.evidence(),
            began: Instant::now(),
            phase: Phase::Starting,
            run: None,
            ran: Duration::ZERO,
            figures: None,
            figures_error: None,
            work: Work::default(),
            restarts: 0,
            lines_dropped: 0,
            failed_reads: 0,
            record_failed: false,
            lease_age: None,
            lease_renewed: None,
            grace: Duration::ZERO,
            drain_began: None,
            outcome: None,
            message: String::new(),
        })))
    }

    /// Locks the state, to read or to change it.
    pub(crate) fn get(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Phase of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Phase {
    /// The engine is running, and has not hashed yet.
    Starting,
    Working,
    /// The engine ended and will be restarted after a pause.
    Waiting,
    /// The engine is being stopped.
    Draining,
}

/// Returns a reason as a sentence without its full stop.
fn sentence(reason: NotReady) -> &'static str {
    match reason {
        NotReady::Starting => "the engine is not running",
        NotReady::Restarting => "the engine ended and will be started again",
        NotReady::Draining => "the engine is being stopped",
        NotReady::NoFigures => "the engine has not reported any figures yet",
        NotReady::EngineNotConnected => {
            "the engine has not connected to the agent's port: see its lines in the log, and whether its algorithm is that of the pool"
        }
        NotReady::PoolUnreachable => "the engine is not connected to a pool",
        NotReady::NotAuthorised => "the pool has not accepted the login",
        NotReady::NotHashing => "the engine does not hash",
    }
}

/// The agent's state.
pub(crate) struct Status {
    pub(crate) engine: String,
    pub(crate) algorithm: Option<String>,
    /// Share of the work that the engine does for its author, from 0 to 1.
    pub(crate) dev_fee: Option<f64>,
    pub(crate) evidence: Evidence,
    /// When the agent started.
    pub(crate) began: Instant,
    pub(crate) phase: Phase,
    /// When the current run of the engine began.
    pub(crate) run: Option<Instant>,
    /// Duration of all earlier runs.
    pub(crate) ran: Duration,
    /// The last figures of the current run, and when they were read.
    pub(crate) figures: Option<(Figures, Instant)>,
    /// Why the last reading of the figures failed.
    pub(crate) figures_error: Option<Unreadable>,
    pub(crate) work: Work,
    /// Times that the engine was restarted.
    pub(crate) restarts: u32,
    /// Lines of the log that were dropped.
    pub(crate) lines_dropped: u64,
    /// Readings of the engine's figures that failed.
    pub(crate) failed_reads: u64,
    /// Whether the last attempt to write the record failed.
    pub(crate) record_failed: bool,
    /// Time since the last renewal of the lease.
    pub(crate) lease_age: Option<Duration>,
    /// When a request renewed the lease, until the lease takes note of it.
    pub(crate) lease_renewed: Option<Instant>,
    pub(crate) grace: Duration,
    /// When the drain began.
    pub(crate) drain_began: Option<Instant>,
    pub(crate) outcome: Option<Outcome>,
    /// The last event, as a sentence.
    pub(crate) message: String,
}

impl Status {
    /// Returns the last figures of the current run.
    pub(crate) fn figures(&self) -> Option<&Figures> {
        self.figures.as_ref().map(|(figures, _)| figures)
    }

    /// Returns the seconds in which the engine ran, all its runs together.
    pub(crate) fn seconds(&self) -> f64 {
        (self.ran + self.run.map_or(Duration::ZERO, |at| at.elapsed())).as_secs_f64()
    }

    /// Returns `Ok` while the engine is connected, authorised and hashing, else the reason that it is
    /// not. Without `has_figures`, and for a figure that the engine does not report, its running is
    /// enough.
    pub(crate) fn ready(&self, has_figures: bool) -> Result<(), NotReady> {
        match self.phase {
            Phase::Waiting => return Err(NotReady::Restarting),
            Phase::Draining => return Err(NotReady::Draining),
            Phase::Starting | Phase::Working => {}
        }
        if self.run.is_none() {
            return Err(NotReady::Starting);
        }
        if !has_figures {
            return Ok(());
        }
        let Some(figures) = self.figures() else { return Err(NotReady::NoFigures) };
        // While pools are at fault, engines come and go.
        if figures.pool.as_ref().is_some_and(|pool| !pool.has_engine() && pool.faults.is_empty()) {
            return Err(NotReady::EngineNotConnected);
        }
        if figures.connected == Some(false) {
            return Err(NotReady::PoolUnreachable);
        }
        if figures.authorised == Some(false) {
            return Err(NotReady::NotAuthorised);
        }
        match figures.hashing() {
            Some(false) => Err(NotReady::NotHashing),
            // Neither a hashrate nor a share: nothing shows that it hashes.
            None if self.figures_error.is_some() && figures.shares().unwrap_or(0) == 0 => {
                Err(NotReady::NoFigures)
            }
            Some(true) | None => Ok(()),
        }
    }

    /// Returns the sentence for a reason, with what is known of its cause.
    pub(crate) fn sentence(&self, reason: NotReady) -> String {
        let pool = self.figures().and_then(|figures| figures.pool.as_ref());
        let cause = match reason {
            NotReady::PoolUnreachable => pool.map(|pool| pool.faults.join("; ")),
            NotReady::NoFigures => self.figures_error.as_ref().map(ToString::to_string),
            _ => None,
        };
        match cause.filter(|cause| !cause.is_empty()) {
            Some(cause) => format!("{}: {cause}", sentence(reason)),
            None => sentence(reason).to_owned(),
        }
    }

    /// Returns the state as `/status` shows it.
    pub(crate) fn view(&self, ready: Result<(), NotReady>) -> View<'_> {
        View {
            phase: self.phase,
            ready: ready.is_ok(),
            not_ready: ready.err(),
            not_ready_because: ready.err().map(|reason| self.sentence(reason)),
            engine: &self.engine,
            algorithm: self.algorithm.as_deref(),
            dev_fee_ratio: self.dev_fee,
            evidence: self.evidence,
            uptime_seconds: self.began.elapsed().as_secs(),
            engine_seconds: self.seconds() as u64,
            restarts: self.restarts,
            shares_accepted: self.work.accepted.value(),
            shares_rejected: self.work.rejected.value(),
            shares_stale: self.work.stale.value(),
            shares_lost: self.work.lost.value(),
            hashes: self.work.hashes.value(),
            figures: self.figures(),
            no_figures_because: self.figures_error.as_ref().map(ToString::to_string),
            lease_age_seconds: self.lease_age.map(|age| age.as_secs()),
            message: &self.message,
        }
    }
}

/// The answer of `/status`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View<'a> {
    phase: Phase,
    ready: bool,
    not_ready: Option<NotReady>,
    not_ready_because: Option<String>,
    engine: &'a str,
    algorithm: Option<&'a str>,
    dev_fee_ratio: Option<f64>,
    evidence: Evidence,
    uptime_seconds: u64,
    engine_seconds: u64,
    restarts: u32,
    shares_accepted: u64,
    shares_rejected: u64,
    shares_stale: u64,
    shares_lost: u64,
    hashes: u64,
    figures: Option<&'a Figures>,
    no_figures_because: Option<String>,
    lease_age_seconds: Option<u64>,
    message: &'a str,
}
