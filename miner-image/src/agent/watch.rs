//! Watches a run: reads its figures, logs what changes, and ends it when it has become useless.

use std::time::Duration;

use daylight_agent_api::{LastWords, Outcome, Work, WorkRecord};
use daylight_base::duration;
use tokio::time::{Instant, sleep};

use super::Stop;
use crate::config::Config;
use crate::engine::{Engine, EngineFailure};
use crate::figures::Figures;
use crate::log::LogWriter;
use crate::record;
use crate::status::{Phase, Shared};

/// Longest interval of a built-in engine's figures. Reading them costs nothing, and a failure is
/// noticed within a second.
const BUILT_IN_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the figures at each interval. Returns when the run is useless: the login is refused, the
/// device is lost, or the engine does not hash. A run that ends by itself is the caller's to notice.
pub(super) async fn watch(
    config: &Config,
    engine: &Engine,
    shared: &Shared,
    log: &LogWriter,
) -> Stop {
    let began = Instant::now();
    let interval = match engine {
        Engine::Program(_) => config.engine.figures_every,
        Engine::BuiltIn(_) => config.engine.figures_every.min(BUILT_IN_INTERVAL),
    };
    let (mut hashed, mut logged) = (None, Logged::default());
    loop {
        sleep(interval).await;
        if config.has_figures() {
            read(engine, shared).await;
        }
        if let Some(refusal) = engine.refusal() {
            return Stop::Final((Outcome::LoginRefused, refusal));
        }
        if let Engine::BuiltIn(engine) = engine {
            match engine.failure() {
                Some(EngineFailure::DeviceLost(why)) => {
                    return Stop::Final((Outcome::DeviceLost, why));
                }
                Some(EngineFailure::Other(why)) => return Stop::Unasked(why),
                None => {}
            }
            logged.remark(engine.remark(), log);
        }
        shared.get().lines_dropped = log.dropped();
        write_record(config, shared, log, "");
        logged.pools(shared, log);
        let (connected, hashing) = {
            let status = shared.get();
            let figures = status.figures();
            (
                figures.and_then(|figures| figures.connected),
                figures.map_or(Some(false), Figures::hashing),
            )
        };
        // Without a pool there is nothing to hash, so that a stall is not the engine's fault. An
        // engine that does not report its hashrate counts as hashing while it runs.
        if !config.has_figures() || hashing != Some(false) || connected == Some(false) {
            hashed = Some(Instant::now());
            let mut status = shared.get();
            if hashing == Some(true) || !config.has_figures() {
                status.phase = Phase::Working;
            }
            continue;
        }
        let (since, limit, setting) = match hashed {
            Some(at) => (at, config.engine.stalled_after, "engine.stalled_after"),
            None => (began, config.engine.start_within, "engine.start_within"),
        };
        if since.elapsed() > limit {
            let limit = duration::format(limit);
            let killed = if matches!(engine, Engine::Program(_)) { " and was killed" } else { "" };
            return Stop::Unasked(format!(
                "the engine did not hash for {limit} ({setting}){killed}"
            ));
        }
    }
}

/// Last state that was logged, so that only changes are.
#[derive(Default)]
struct Logged {
    connected: Option<bool>,
    fault: Option<String>,
    remark: Option<String>,
}

impl Logged {
    /// Logs an engine's remark, if it is new.
    fn remark(&mut self, remark: Option<String>, log: &LogWriter) {
        if remark != self.remark {
            remark.iter().for_each(|remark| log.write(remark));
            self.remark = remark;
        }
    }

    /// Logs new faults of the pools, and new logins.
    fn pools(&mut self, shared: &Shared, log: &LogWriter) {
        let (connected, fault) = {
            let status = shared.get();
            let Some(figures) = status.figures() else { return };
            let Some(pool) = &figures.pool else { return };
            (figures.connected, pool.fault.clone())
        };
        if fault != self.fault {
            fault.iter().for_each(|fault| log.write(fault));
            self.fault = fault;
        }
        if connected != self.connected {
            if connected == Some(true) {
                log.write("logged in at a pool");
            }
            self.connected = connected;
        }
    }
}

/// Reads the figures once.
pub(super) async fn read(engine: &Engine, shared: &Shared) {
    let (figures, error) = engine.figures().await;
    let now = Instant::now();
    let mut status = shared.get();
    status.failed_reads += u64::from(error.is_some());
    status.figures_error = error;
    if let Some(figures) = &figures {
        let since = status.figures.as_ref().map_or(Duration::ZERO, |(_, at)| now - *at);
        status.work.add(figures, since);
    }
    status.figures = figures.map(|figures| (figures, now));
}

/// Writes the record of work into the termination message. It is written after every reading, so that
/// a container that the kernel kills leaves the last one.
pub(super) fn write_record(config: &Config, shared: &Shared, log: &LogWriter, sentence: &str) {
    let mut status = shared.get();
    let work = &status.work;
    let record = WorkRecord {
        work: Work {
            shares_accepted: work.accepted.value(),
            shares_rejected: work.unpaid(),
            hashes: work.hashes.value(),
            evidence: status.evidence,
            ..Work::default()
        },
        last_words: LastWords {
            reason: status.outcome.map(|outcome| outcome.to_string()),
            message: sentence.to_owned(),
        },
        engine: status.engine.clone(),
        algorithm: status.algorithm.clone(),
        seconds: status.seconds() as u64,
        restarts: status.restarts,
    };
    let file = &config.record.file;
    let written = record::write(record, file);
    if let Err(error) = &written
        && !status.record_failed
    {
        log.write(&format!("cannot write the record of work to {}: {error}", file.display()));
    }
    status.record_failed = written.is_err();
}
