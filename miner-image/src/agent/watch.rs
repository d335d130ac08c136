//! Watches a run: reads its figures, logs what changes, and ends it when it has become useless.

use std::time::Duration;

use daylight_agent_api::{LastWords, Outcome, Work, WorkRecord};
use daylight_base::duration;
use tokio::time::{Instant, sleep};

use super::Stop;
use crate::config::Config;
use crate::engine::{Engine, EngineFailure, Unreadable};
use crate::log::LogWriter;
use crate::record;
use crate::status::{Phase, Shared, Status};

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
    let (mut hashed, mut logged, mut signs) = (None, Logged::default(), Signs::default());
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
        let signs = signs.read(&shared.get(), config);
        // Without a pool there is nothing to hash, so that a stall is not the engine's fault.
        if signs != Life::None {
            hashed = Some(Instant::now());
            if signs == Life::Hashes {
                shared.get().phase = Phase::Working;
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

/// What shows that an engine is alive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Hashes,
    /// It cannot be known, or there is nothing to hash.
    Unknown,
    /// It should hash, and nothing shows that it does.
    None,
}

/// Reader of the signs of life of an engine.
#[derive(Default)]
struct Signs {
    /// Shares that it had found at the last reading.
    shares: u64,
}

impl Signs {
    fn read(&mut self, status: &Status, config: &Config) -> Life {
        if !config.has_figures() {
            return Life::Hashes;
        }
        let Some(figures) = status.figures() else {
            // One that answers, if only in an unknown form, does not hang.
            let answers = matches!(status.figures_error, Some(Unreadable::Answer(_)));
            return if answers { Life::Unknown } else { Life::None };
        };
        let shares = figures.shares().unwrap_or(0);
        let found = shares > std::mem::replace(&mut self.shares, shares);
        match (figures.hashing(), &figures.pool) {
            (Some(true), _) => Life::Hashes,
            (_, Some(pool)) if !pool.has_engine() => Life::None,
            _ if figures.connected == Some(false) => Life::Unknown,
            (Some(false), _) => Life::None,
            // Behind the agent's port, shares show that an engine hashes of which nothing else is known.
            (None, Some(_)) if found => Life::Hashes,
            (None, Some(_)) if !matches!(status.figures_error, Some(Unreadable::Answer(_))) => {
                Life::None
            }
            (None, _) => Life::Unknown,
        }
    }
}

/// Last state that was logged, so that only changes are.
#[derive(Default)]
struct Logged {
    connected: Option<bool>,
    fault: Option<String>,
    rejection: Option<String>,
    message: Option<String>,
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

    /// Logs new faults and words of the pools, and new logins.
    fn pools(&mut self, shared: &Shared, log: &LogWriter) {
        let (connected, pool) = {
            let status = shared.get();
            let Some(figures) = status.figures() else { return };
            let Some(pool) = &figures.pool else { return };
            (figures.connected, pool.clone())
        };
        let changed = |last: &mut Option<String>, text: Option<String>, what: &str| {
            if text != *last {
                text.iter().for_each(|text| log.write(&format!("{what}{text}")));
                *last = text;
            }
        };
        changed(&mut self.fault, pool.fault, "");
        changed(&mut self.rejection, pool.rejection, "the pool rejected a share: ");
        changed(&mut self.message, pool.message, "the pool says: ");
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
