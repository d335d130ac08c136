//! Watching a run: its figures, and whether it is of any use.

use std::time::Duration;

use daylight_agent_api::{LastWords, Outcome, Work, WorkRecord};
use tokio::time::{Instant, sleep};

use super::Stop;
use crate::config::Config;
use crate::engine::{Engine, Trouble};
use crate::log::Voice;
use crate::record;
use crate::status::{Phase, Shared};

/// Looking at an engine that is part of the agent costs nothing.
const OWN_FIGURES: Duration = Duration::from_secs(1);

/// Reads the figures for as long as the engine hashes, or may still come to it. Then the run is over,
/// if it is not by itself.
pub(super) async fn watch(
    config: &Config,
    engine: &Engine,
    shared: &Shared,
    voice: &Voice,
) -> Stop {
    let began = Instant::now();
    let every = match engine {
        Engine::Program(_) => config.engine.figures_every,
        Engine::BuiltIn(_) => config.engine.figures_every.min(OWN_FIGURES),
    };
    let (mut hashed, mut said) = (None, Said::default());
    loop {
        sleep(every).await;
        if config.has_figures() {
            read(engine, shared).await;
        }
        if let Some(says) = engine.refusal() {
            return Stop::Final((Outcome::LoginRefused, says));
        }
        if let Engine::BuiltIn(engine) = engine {
            match engine.trouble() {
                Some(Trouble::DeviceLost(says)) => return Stop::Final((Outcome::DeviceLost, says)),
                Some(Trouble::Failed(says)) => return Stop::Unasked(says),
                None => {}
            }
            said.remark(engine.remark(), voice);
        }
        shared.get().lines_dropped = voice.dropped();
        leave_record(config, shared, voice, "");
        said.say(shared, voice);
        let (connected, hashing) = {
            let status = shared.get();
            let figures = status.figures();
            (
                figures.and_then(|figures| figures.connected),
                figures.map_or(Some(false), crate::figures::Figures::hashing),
            )
        };
        // Without a pool there is nothing to hash, and an engine that tells no hashrate is taken
        // at its running.
        if !config.has_figures() || hashing != Some(false) || connected == Some(false) {
            hashed = Some(Instant::now());
            let mut status = shared.get();
            if hashing == Some(true) || !config.has_figures() {
                status.phase = Phase::Working;
            }
            continue;
        }
        let limit = match hashed {
            Some(at) => at + config.engine.stalled_after,
            None => began + config.engine.start_within,
        };
        if Instant::now() > limit {
            return Stop::Unasked(match engine {
                Engine::Program(_) => "the engine did not hash for too long and was killed".into(),
                Engine::BuiltIn(_) => "the engine did not hash for too long".into(),
            });
        }
    }
}

/// What the log has heard of the pools.
#[derive(Default)]
struct Said {
    connected: Option<bool>,
    fault: Option<String>,
    remark: Option<String>,
}

impl Said {
    /// Says what an engine remarks, if it is new.
    fn remark(&mut self, remark: Option<String>, voice: &Voice) {
        if remark != self.remark {
            remark.iter().for_each(|remark| voice.say(remark));
            self.remark = remark;
        }
    }

    /// Says what has changed.
    fn say(&mut self, shared: &Shared, voice: &Voice) {
        let (connected, fault) = {
            let status = shared.get();
            let Some(figures) = status.figures() else { return };
            let Some(pool) = &figures.pool else { return };
            (figures.connected, pool.fault.clone())
        };
        if fault != self.fault {
            fault.iter().for_each(|fault| voice.say(fault));
            self.fault = fault;
        }
        if connected != self.connected {
            if connected == Some(true) {
                voice.say("logged in at a pool");
            }
            self.connected = connected;
        }
    }
}

/// Reads the figures once.
pub(super) async fn read(engine: &Engine, shared: &Shared) {
    let (figures, untold) = engine.figures().await;
    let now = Instant::now();
    let mut status = shared.get();
    status.failed_reads += u64::from(untold.is_some());
    status.untold = untold;
    if let Some(figures) = &figures {
        let since = status.told.as_ref().map_or(Duration::ZERO, |(_, at)| now - *at);
        status.work.add(figures, since);
    }
    status.told = figures.map(|figures| (figures, now));
}

/// Leaves the record of work, as it stands, in the termination message.
pub(super) fn leave_record(config: &Config, shared: &Shared, voice: &Voice, sentence: &str) {
    let mut status = shared.get();
    let work = &status.work;
    let record = WorkRecord {
        work: Work {
            shares_accepted: work.accepted.value(),
            shares_rejected: work.of_no_use(),
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
        voice.say(&format!("{}: the record cannot be written: {error}", file.display()));
    }
    status.record_failed = written.is_err();
}
