//! The life of a run: the engine is started, watched, started again, and ended.

mod run_built_in;
mod run_program;
mod watch;

use std::collections::VecDeque;

use daylight_agent_api::Outcome;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::config::{Config, listen};
use crate::http;
use crate::log::{Signs, Voice};
use crate::process::Processes;
use crate::secret::Secrets;
use crate::status::{Phase, Shared};
use crate::stop_requests::StopRequests;
use watch::leave_record;

/// Runs the engine until the agent is asked to end, or has to.
pub(crate) async fn run(config: Config, secrets: Secrets) -> Outcome {
    let voice = Voice::new(secrets.clone());
    let shared = Shared::new(&config);
    shared.get().grace = config.drain.grace;
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
    secrets: Secrets,
    processes: Processes,
    stop_requests: StopRequests,
    signs: Signs,
    found: mpsc::Sender<Outcome>,
    voice: Voice,
    shared: Shared,
}

/// How a run of the engine ended.
enum Stop {
    /// For good: because somebody asked, or since it is of no use to go on.
    Final(End),
    /// By itself, for now.
    Unasked(String),
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
        let stop_requests =
            StopRequests::new(config.lease.clone(), signs, shared.clone()).map_err(failed)?;
        // An engine that is part of the agent takes what the pod gives it.
        let memory =
            config.engine.name.built_in().is_none().then_some(config.agent.memory_mib << 20);
        let processes = Processes::adopt(memory).map_err(failed)?;
        let address = listen(&config.http.listen).map_err(|says| wrong("http.listen", &says))?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| wrong("http.listen", &format!("{address} cannot be had: {error}")))?;
        tokio::spawn(http::serve(listener, shared.clone(), config.has_figures()));
        let signs = [
            (&config.engine.login_refused, Outcome::LoginRefused),
            (&config.engine.device_lost, Outcome::DeviceLost),
        ];
        let signs = signs
            .iter()
            .flat_map(|(sign, outcome)| sign.log.iter().map(|text| (text.clone(), *outcome)));
        Ok(Self {
            secrets: secrets.clone(),
            processes,
            stop_requests,
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
        let mut pause = restart.backoff;
        loop {
            let began = Instant::now();
            tokio::select! {
                biased;
                // Nothing is started for somebody who has asked already.
                (outcome, why) = self.stop_requests.next(None) => {
                    return (outcome, format!("asked to end before anything ran: {why}"));
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
                return (
                    Outcome::EngineCrashed,
                    format!(
                        "{sentence}, as the last of {} ends within {:?}",
                        ends.len(),
                        restart.window
                    ),
                );
            }
            if now - began > restart.window {
                pause = restart.backoff;
            }
            self.report(Phase::Waiting, &format!("{sentence}; it is started again in {pause:?}"));
            self.leave();
            tokio::select! {
                () = sleep(pause) => {}
                (outcome, why) = self.stop_requests.next(None) => {
                    return (outcome, format!("asked to end while nothing ran: {why}"));
                }
            }
            pause = (pause * 2).min(restart.longest);
            self.shared.get().restarts += 1;
        }
    }

    /// Starts the engine and stays with it until nothing of it is left.
    async fn one_run(&mut self) -> Stop {
        match self.config.engine.name.built_in() {
            Some(name) => self.run_built_in(name).await,
            None => self.run_program().await,
        }
    }

    /// A run begins, and with it its counters.
    fn began(&self, sentence: &str) {
        self.report(Phase::Starting, sentence);
        let mut status = self.shared.get();
        status.run = Some(Instant::now());
        status.told = None;
        status.work.begin();
    }

    /// The engine is asked to end, from now on.
    fn draining(&self, why: &str) -> Instant {
        let now = Instant::now();
        self.shared.get().drain_began = Some(now);
        self.report(Phase::Draining, &format!("the engine is asked to end: {why}"));
        now
    }

    /// A run is over: its time is booked.
    fn ended(&self) {
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
