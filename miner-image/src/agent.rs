//! The life of a run: the engine is started, watched, started again, and ended.

use std::collections::VecDeque;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::asks::Asks;
use crate::config::{Config, StopSignal, listen};
use crate::engine::Engine;
use crate::http;
use crate::log::{Signs, Voice, pass_on};
use crate::outcome::Outcome;
use crate::process::{Child, Exit, Processes};
use crate::record::Record;
use crate::secret::Secrets;
use crate::status::{Phase, Shared};

/// What is left of an engine that ended by itself is given so long to go once it is killed.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// How often figures are read while the engine is being ended.
const LAST_FIGURES: Duration = Duration::from_millis(250);

/// Runs the engine until the agent is asked to end, or has to.
pub(crate) async fn run(config: Config, secrets: Secrets) -> Outcome {
    let voice = Voice::new(secrets.clone());
    let shared = Shared::new(&config.engine);
    shared.get().grace = config.drain.grace.0;
    let (outcome, sentence) = match Agent::new(config.clone(), &secrets, &voice, &shared).await {
        Ok(mut agent) => agent.live().await,
        Err(refusal) => refusal,
    };
    shared.get().outcome = Some(outcome);
    shared.get().message.clone_from(&sentence);
    voice.say(&sentence);
    leave_record(&config, &shared, &voice, &secrets.hide(&sentence));
    voice.finish().await;
    outcome
}

/// How a run ends, and the sentence that says so.
type End = (Outcome, String);

struct Agent {
    config: Config,
    engine: Engine,
    processes: Processes,
    asks: Asks,
    signs: Signs,
    found: mpsc::Sender<Outcome>,
    voice: Voice,
    shared: Shared,
}

/// How a run of the engine ended.
enum Stop {
    /// Because somebody asked.
    Asked(End),
    /// Unasked.
    Unasked(String, Option<Exit>),
}

impl Agent {
    async fn new(
        config: Config,
        secrets: &Secrets,
        voice: &Voice,
        shared: &Shared,
    ) -> Result<Self, End> {
        let wrong = |place: &str, error: &dyn std::fmt::Display| {
            (Outcome::BadConfiguration, format!("{place}: {error}"))
        };
        let failed = |error: std::io::Error| {
            (Outcome::AgentFailed, format!("the agent cannot start: {error}"))
        };
        let (found, signs) = mpsc::channel(1);
        let asks = Asks::new(config.lease.clone(), signs, shared.clone()).map_err(failed)?;
        let processes = Processes::adopt(config.agent.memory_mib << 20).map_err(failed)?;
        let engine = Engine::new(&config, secrets)
            .map_err(|error| wrong("engine.config_template", &error))?;
        let address = listen(&config.http.listen).map_err(|says| wrong("http.listen", &says))?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| wrong("http.listen", &format!("{address} cannot be had: {error}")))?;
        shared.get().evidence = engine.evidence();
        tokio::spawn(http::serve(listener, shared.clone(), engine.tells()));
        let signs = [
            (&config.engine.login_refused, Outcome::LoginRefused),
            (&config.engine.device_lost, Outcome::DeviceLost),
        ];
        let signs = signs
            .iter()
            .flat_map(|(sign, outcome)| sign.log.iter().map(|text| (text.clone(), *outcome)));
        Ok(Self {
            engine,
            processes,
            asks,
            signs: Signs(signs.collect()),
            found,
            voice: voice.clone(),
            shared: shared.clone(),
            config,
        })
    }

    async fn live(&mut self) -> End {
        let restart = self.config.restart.clone();
        let mut ends = VecDeque::new();
        let mut pause = restart.backoff.0;
        loop {
            let began = Instant::now();
            tokio::select! {
                biased;
                // Nothing is started for somebody who has asked already.
                (outcome, why) = self.asks.next(None) => {
                    return (outcome, format!("asked to end before anything ran: {why}"));
                }
                () = std::future::ready(()) => {}
            }
            let (sentence, exit) = match self.one_run().await {
                Stop::Asked(end) => return end,
                Stop::Unasked(sentence, exit) => (sentence, exit),
            };
            if let Some(outcome) = self.meaning_of(exit) {
                return (outcome, sentence);
            }
            let now = Instant::now();
            ends.push_back(now);
            while ends.front().is_some_and(|at| now - *at > restart.window.0) {
                ends.pop_front();
            }
            if ends.len() >= restart.limit as usize {
                return (
                    Outcome::EngineCrashed,
                    format!(
                        "{sentence}, as the last of {} ends within {:?}",
                        ends.len(),
                        restart.window.0
                    ),
                );
            }
            if now - began > restart.window.0 {
                pause = restart.backoff.0;
            }
            self.report(Phase::Waiting, &format!("{sentence}; it is started again in {pause:?}"));
            self.leave();
            tokio::select! {
                () = sleep(pause) => {}
                (outcome, why) = self.asks.next(None) => {
                    return (outcome, format!("asked to end while nothing ran: {why}"));
                }
            }
            pause = (pause * 2).min(restart.longest.0);
            self.shared.get().restarts += 1;
        }
    }

    /// Starts the engine and stays with it until nothing of it is left.
    async fn one_run(&mut self) -> Stop {
        let mut child = match self.processes.start(&mut self.engine.command()) {
            Ok(child) => child,
            Err(error) => {
                let command = self.config.engine.display();
                let says = format!("engine.command: {command} cannot be started: {error}");
                return Stop::Asked((Outcome::BadConfiguration, says));
            }
        };
        self.report(Phase::Starting, &format!("the engine runs as process {}", child.pid));
        {
            let mut status = self.shared.get();
            status.run = Some(Instant::now());
            status.told = None;
            status.work.begin();
        }
        let log = self.listen_to(&mut child);
        let stop = tokio::select! {
            exit = &mut child.ended => {
                let exit = exit.unwrap_or(Exit::Code(0));
                Stop::Unasked(format!("the engine ended by itself with {exit}"), Some(exit))
            }
            () = watch(&self.config, &self.engine, &self.shared, &self.voice) => {
                Stop::Unasked("the engine did not hash for too long and was killed".into(), None)
            }
            (outcome, why) = self.asks.next(Some(child.pid)) => {
                let end = self.drain(child.pid, outcome, why).await;
                self.settle(log).await;
                return Stop::Asked(end);
            }
        };
        if !Processes::kill_all(child.pid, Instant::now() + LEFTOVERS).await {
            self.voice.say("processes of the engine could not be killed");
        }
        self.settle(log).await;
        stop
    }

    /// What an exit code, or the last words, of an engine that ended by itself mean.
    fn meaning_of(&mut self, exit: Option<Exit>) -> Option<Outcome> {
        let engine = &self.config.engine;
        let is = |codes: &[i32]| matches!(exit, Some(Exit::Code(code)) if codes.contains(&code));
        if is(&engine.login_refused.exit) {
            Some(Outcome::LoginRefused)
        } else if is(&engine.device_lost.exit) {
            Some(Outcome::DeviceLost)
        } else {
            self.asks.sign()
        }
    }

    /// Ends the engine before the grace period does.
    async fn drain(&self, engine: Pid, outcome: Outcome, why: &str) -> End {
        let began = Instant::now();
        let grace = self.config.drain.grace.0;
        let kill_at = began + grace.saturating_sub(self.config.drain.margin.0).max(grace / 2);
        self.shared.get().drain_began = Some(began);
        self.report(Phase::Draining, &format!("the engine is asked to end: {why}"));
        let gently = async {
            self.ask(engine, began, kill_at).await;
            Processes::gone_by(kill_at).await
        };
        tokio::pin!(gently);
        let gone = loop {
            tokio::select! {
                gone = &mut gently => break gone,
                // What the engine counted last is known only as long as it lives.
                () = async {
                    read(&self.engine, &self.shared).await;
                    sleep(LAST_FIGURES).await;
                } => {}
            }
        };
        if gone {
            return (outcome, format!("{why}: the engine ended within {:.1?}", began.elapsed()));
        }
        let killed =
            Processes::kill_all(engine, began + grace.max(Duration::from_millis(500))).await;
        let outcome = if outcome == Outcome::Drained { Outcome::Killed } else { outcome };
        let left = if killed { "" } else { ", and even so is not gone" };
        (
            outcome,
            format!(
                "{why}: the engine had not ended after {:.1?} and was killed{left}",
                kill_at - began
            ),
        )
    }

    /// Asks the engine to end: by the hook, where there is one and it says that it did, else by a
    /// signal.
    async fn ask(&self, engine: Pid, began: Instant, kill_at: Instant) {
        if let Some((program, args)) = self.config.drain.hook.split_first() {
            let half = began + (kill_at - began) / 2;
            let mut hook = Command::new(program);
            hook.args(args).env("ENGINE_PID", engine.to_string());
            match self.processes.start(&mut hook) {
                Ok(mut hook) => {
                    self.listen_to(&mut hook);
                    let exit = timeout_at(half, hook.ended).await;
                    if matches!(exit, Ok(Ok(Exit::Code(0)))) && Processes::gone_by(half).await {
                        return;
                    }
                    self.voice.say("drain.hook did not end the engine: it gets a signal");
                }
                Err(error) => self.voice.say(&format!("drain.hook cannot be started: {error}")),
            }
        }
        let signal = match self.config.drain.signal {
            StopSignal::Term => Signal::TERM,
            StopSignal::Int => Signal::INT,
            StopSignal::Quit => Signal::QUIT,
        };
        Processes::signal_all(engine, signal);
    }

    fn listen_to(&self, child: &mut Child) -> JoinHandle<()> {
        let output = child.output.take();
        let limits = self.config.log.clone();
        tokio::spawn(pass_on(
            output,
            limits,
            self.voice.clone(),
            self.signs.clone(),
            self.found.clone(),
        ))
    }

    /// The engine is gone: its last words are read, and its time is booked.
    async fn settle(&self, log: JoinHandle<()>) {
        let _ = timeout(Duration::from_millis(500), log).await;
        let mut status = self.shared.get();
        if let Some(began) = status.run.take() {
            status.ran += began.elapsed();
        }
        status.told = None;
    }

    fn report(&self, phase: Phase, sentence: &str) {
        self.voice.say(sentence);
        let mut status = self.shared.get();
        status.phase = phase;
        sentence.clone_into(&mut status.message);
    }

    fn leave(&self) {
        leave_record(&self.config, &self.shared, &self.voice, "");
    }
}

/// Reads the engine's figures for as long as it hashes, or may still come to it.
async fn watch(config: &Config, engine: &Engine, shared: &Shared, voice: &Voice) {
    let began = Instant::now();
    let mut hashed = None;
    loop {
        sleep(config.engine.figures_every.0).await;
        if engine.tells() {
            read(engine, shared).await;
        }
        shared.get().lines_dropped = voice.dropped();
        leave_record(config, shared, voice, "");
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
        if !engine.tells() || hashing != Some(false) || connected == Some(false) {
            hashed = Some(Instant::now());
            let mut status = shared.get();
            if hashing == Some(true) || !engine.tells() {
                status.phase = Phase::Working;
            }
            continue;
        }
        let limit = match hashed {
            Some(at) => at + config.engine.stalled_after.0,
            None => began + config.engine.start_within.0,
        };
        if Instant::now() > limit {
            return;
        }
    }
}

/// Reads the figures once.
async fn read(engine: &Engine, shared: &Shared) {
    let figures = engine.figures().await;
    let now = Instant::now();
    let mut status = shared.get();
    match figures {
        Ok(figures) => {
            let since = status.told.as_ref().map_or(Duration::ZERO, |(_, at)| now - *at);
            status.work.add(&figures, since);
            status.told = Some((figures, now));
            status.untold = None;
        }
        Err(says) => {
            status.told = None;
            status.failed_reads += 1;
            status.untold = Some(says);
        }
    }
}

/// Leaves the record of work, as it stands, in the termination message.
fn leave_record(config: &Config, shared: &Shared, voice: &Voice, sentence: &str) {
    let mut status = shared.get();
    let work = &status.work;
    let record = Record {
        shares_accepted: work.accepted.value(),
        shares_rejected: work.rejected.value() + work.stale.value(),
        hashes: work.hashes.value(),
        evidence: status.evidence,
        reason: status.outcome,
        message: sentence,
        engine: &status.engine,
        algorithm: status.algorithm.as_deref(),
        seconds: status.seconds() as u64,
        restarts: status.restarts,
        ..Record::default()
    };
    let file = &config.record.file;
    let written = record.write(file);
    if let Err(error) = &written
        && !status.record_failed
    {
        voice.say(&format!("{}: the record cannot be written: {error}", file.display()));
    }
    status.record_failed = written.is_err();
}
