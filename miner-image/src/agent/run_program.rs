//! The life of a program's run.

use std::process::Command;
use std::time::Duration;

use daylight_agent_api::Outcome;
use rustix::process::{Pid, Signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::watch::{read, watch};
use super::{Agent, End, Stop};
use crate::config::StopSignal;
use crate::engine::{Engine, Program};
use crate::log::pass_on;
use crate::process::{Child, Exit, Processes};

/// What is left of an engine that ended by itself is given so long to go once it is killed.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// How often figures are read while the engine is being ended.
const LAST_FIGURES: Duration = Duration::from_millis(250);

impl Agent {
    /// Starts the program and stays with it until nothing of it is left.
    pub(super) async fn run_program(&mut self) -> Stop {
        let wrong = |says: String| Stop::Final((Outcome::BadConfiguration, says));
        let program = match Program::new(&self.config, &self.secrets).await {
            Ok(program) => program,
            Err(error) => return wrong(format!("engine.config_template: {error}")),
        };
        let mut child = match self.processes.start(&mut program.command()) {
            Ok(child) => child,
            Err(error) => {
                let command = self.config.engine.display();
                return wrong(format!("engine.command: {command} cannot be started: {error}"));
            }
        };
        self.began(&format!("the engine runs as process {}", child.pid));
        let log = self.listen_to(&mut child);
        let engine = Engine::Program(program);
        let (stop, exit) = tokio::select! {
            exit = &mut child.ended => {
                let exit = exit.unwrap_or(Exit::Code(0));
                let says = format!("the engine ended by itself with {exit}");
                (Stop::Unasked(says), Some(exit))
            }
            stop = watch(&self.config, &engine, &self.shared, &self.voice) => (stop, None),
            (outcome, why) = self.stop_requests.next(Some(child.pid)) => {
                let end = self.drain(&engine, child.pid, outcome, why).await;
                self.settle(engine, log).await;
                return Stop::Final(end);
            }
        };
        if !Processes::kill_all(child.pid, Instant::now() + LEFTOVERS).await {
            self.voice.say("processes of the engine could not be killed");
        }
        self.settle(engine, log).await;
        match (stop, self.meaning_of(exit)) {
            (Stop::Unasked(sentence), Some(outcome)) => Stop::Final((outcome, sentence)),
            (stop, _) => stop,
        }
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
            self.stop_requests.sign()
        }
    }

    /// Ends the engine before the grace period does.
    async fn drain(&self, run: &Engine, engine: Pid, outcome: Outcome, why: &str) -> End {
        let began = self.draining(why);
        let grace = self.config.drain.grace;
        let kill_at = began + self.config.drain.until_kill();
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
                    read(run, &self.shared).await;
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

    /// The engine is gone: its last words are read, and the pool's on its last shares.
    async fn settle(&self, engine: Engine, log: JoinHandle<()>) {
        let _ = timeout(Duration::from_millis(500), log).await;
        let told = self.shared.get().told.take().map(|(figures, _)| figures);
        if let Engine::Program(program) = engine
            && let Some(last) = program.settle(told, self.config.drain.margin / 2).await
        {
            self.shared.get().work.add(&last, Duration::ZERO);
        }
        self.ended();
    }
}
