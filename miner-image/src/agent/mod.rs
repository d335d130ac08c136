//! Life of the agent: starts the engine, watches it, restarts it, and ends it.

mod run_built_in;
mod run_program;
mod watch;

use std::collections::VecDeque;

use daylight_agent_api::Outcome;
use daylight_base::duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::config::{Config, listen};
use crate::http;
use crate::log::{LogWriter, Signs};
use crate::process::Processes;
use crate::secret::Secrets;
use crate::status::{Phase, Shared};
use crate::stop_requests::{HeldSignals, StopRequests};
use watch::write_record;

/// Runs the engine until the agent is stopped or has to give up.
pub(crate) async fn run(config: Config, secrets: Secrets, held: HeldSignals) -> Outcome {
    let log = LogWriter::new(secrets.clone());
    let shared = Shared::new(&config);
    shared.get().grace = config.drain.grace;
    let (outcome, sentence) = match Agent::new(config.clone(), &secrets, &log, &shared, &held).await
    {
        Ok(mut agent) => agent.live().await,
        Err(refusal) => refusal,
    };
    shared.get().outcome = Some(outcome);
    shared.get().message.clone_from(&sentence);
    log.write(&sentence);
    write_record(&config, &shared, &log, &secrets.hide(&sentence));
    log.finish().await;
    outcome
}

/// Outcome of the agent, and the sentence that explains it.
type End = (Outcome, String);

struct Agent {
    config: Config,
    secrets: Secrets,
    processes: Processes,
    stop_requests: StopRequests,
    signs: Signs,
    found: mpsc::Sender<Outcome>,
    log: LogWriter,
    shared: Shared,
}

/// End of one run of the engine.
enum Stop {
    /// No other run follows: there was a stop request, or another run would be useless.
    Final(End),
    /// The engine ended without a request and is restarted.
    Unasked(String),
}

impl Agent {
    async fn new(
        config: Config,
        secrets: &Secrets,
        log: &LogWriter,
        shared: &Shared,
        held: &HeldSignals,
    ) -> Result<Self, End> {
        let wrong =
            |sentence: String| (Outcome::BadConfiguration, format!("http.listen: {sentence}"));
        let failed = |error: std::io::Error| {
            (Outcome::AgentFailed, format!("the agent cannot start: {error}"))
        };
        let (found, signs) = mpsc::channel(1);
        // Before anything else, so that no signal is lost.
        let stop_requests =
            StopRequests::new(config.lease.clone(), signs, shared.clone(), held).map_err(failed)?;
        // A built-in engine takes all the memory that the pod gives it.
        let memory =
            config.engine.name.built_in().is_none().then_some(config.agent.memory_mib << 20);
        let processes = Processes::adopt(memory).map_err(failed)?;
        let address = listen(&config.http.listen).map_err(wrong)?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| wrong(format!("cannot listen on {address}: {error}")))?;
        tokio::spawn(http::serve(listener, shared.clone(), config.has_figures()));
        let signs = config.engine.signs().into_iter();
        let signs =
            signs.flat_map(|(sign, outcome)| sign.log.into_iter().map(move |text| (text, outcome)));
        Ok(Self {
            secrets: secrets.clone(),
            processes,
            stop_requests,
            signs: Signs(signs.collect()),
            found,
            log: log.clone(),
            shared: shared.clone(),
            config,
        })
    }

    async fn live(&mut self) -> End {
        let restart = self.config.restart.clone();
        let mut ends = VecDeque::new();
        let mut pause = restart.backoff;
        loop {
            let began = Instant::now();
            tokio::select! {
                biased;
                // A request that has arrived already, such as a lapsed lease, takes precedence over the start.
                (outcome, why) = self.stop_requests.next(None) => {
                    return (outcome, format!("stopped before the engine was started: {why}"));
                }
                () = std::future::ready(()) => {}
            }
            let sentence = match self.one_run().await {
                Stop::Final(end) => return end,
                Stop::Unasked(sentence) => sentence,
            };
            let now = Instant::now();
            ends.push_back(now);
            while ends.front().is_some_and(|at| now - *at > restart.window) {
                ends.pop_front();
            }
            if ends.len() >= restart.limit as usize {
                let (times, window) = (ends.len(), duration::format(restart.window));
                return (
                    Outcome::EngineCrashed,
                    format!("{sentence}; giving up after {times} ends within {window}"),
                );
            }
            if now - began > restart.window {
                pause = restart.backoff;
            }
            let then = format!("{sentence}; restarting it in {}", duration::format(pause));
            self.report(Phase::Waiting, &then);
            write_record(&self.config, &self.shared, &self.log, "");
            tokio::select! {
                () = sleep(pause) => {}
                (outcome, why) = self.stop_requests.next(None) => {
                    return (outcome, format!("stopped between two runs of the engine: {why}"));
                }
            }
            pause = (pause * 2).min(restart.longest);
            self.shared.get().restarts += 1;
        }
    }

    /// Starts the engine, and returns when nothing of it is left.
    async fn one_run(&mut self) -> Stop {
        match self.config.engine.name.built_in() {
            Some(name) => self.run_built_in(name).await,
            None => self.run_program().await,
        }
    }

    /// Begins a run, whose counters start at 0.
    fn run_began(&self, sentence: &str) {
        self.report(Phase::Starting, sentence);
        let mut status = self.shared.get();
        status.run = Some(Instant::now());
        status.figures = None;
        status.work.begin();
    }

    /// Begins the drain; returns when it began.
    fn draining(&self, why: &str) -> Instant {
        let now = Instant::now();
        self.shared.get().drain_began = Some(now);
        self.report(Phase::Draining, &format!("stopping the engine: {why}"));
        now
    }

    /// Ends a run, and adds its time to that of the earlier ones.
    fn run_ended(&self) {
        let mut status = self.shared.get();
        if let Some(began) = status.run.take() {
            status.ran += began.elapsed();
        }
        status.figures = None;
    }

    fn report(&self, phase: Phase, sentence: &str) {
        self.log.write(sentence);
        let mut status = self.shared.get();
        status.phase = phase;
        sentence.clone_into(&mut status.message);
    }
}
