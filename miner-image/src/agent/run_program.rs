//! A run of a program, from start to the last of its processes.

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

/// Time for the processes that an engine left behind to disappear after they are killed. Generous: a
/// process in an uninterruptible driver call may take seconds.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// Interval of figures while the engine is being stopped, so that its last shares are seen.
const LAST_FIGURES: Duration = Duration::from_millis(250);

impl Agent {
    /// Starts the program, and returns when none of its processes is left.
    pub(super) async fn run_program(&mut self) -> Stop {
        let wrong = |sentence: String| Stop::Final((Outcome::BadConfiguration, sentence));
        let program = match Program::new(&self.config, &self.secrets).await {
            Ok(program) => program,
            Err(sentence) => return wrong(sentence),
        };
        let mut child = match self.processes.start(&mut program.command()) {
            Ok(child) => child,
            Err(error) => {
                let command = self.config.engine.display();
                return wrong(format!("engine.command: {command} cannot be started: {error}"));
            }
        };
        self.run_began(&format!("started the engine as process {}", child.pid));
        let output = self.pass_on_output(&mut child);
        let engine = Engine::Program(program);
        let (stop, exit) = tokio::select! {
            exit = &mut child.ended => {
                let exit = exit.unwrap_or(Exit::Code(0));
                let sentence = format!("the engine ended by itself with {exit}");
                (Stop::Unasked(sentence), Some(exit))
            }
            stop = watch(&self.config, &engine, &self.shared, &self.log) => (stop, None),
            (outcome, why) = self.stop_requests.next(Some(child.pid)) => {
                let end = self.drain(&engine, child.pid, outcome, why).await;
                self.settle(engine, output).await;
                return Stop::Final(end);
            }
        };
        // The device is free only when no child of the engine holds it.
        if !Processes::kill_all(child.pid, Instant::now() + LEFTOVERS).await {
            self.log.write("some processes of the engine could not be killed");
        }
        self.settle(engine, output).await;
        match (stop, self.meaning_of(exit)) {
            (Stop::Unasked(sentence), Some(outcome)) => Stop::Final((outcome, sentence)),
            (stop, _) => stop,
        }
    }

    /// Returns the outcome for which the exit code, or the last lines, of an engine that ended by itself
    /// are a sign.
    fn meaning_of(&mut self, exit: Option<Exit>) -> Option<Outcome> {
        let is = |codes: &[i32]| matches!(exit, Some(Exit::Code(code)) if codes.contains(&code));
        let mut signs = self.config.engine.signs().into_iter();
        let by_code = signs.find(|(sign, _)| is(&sign.exit)).map(|(_, outcome)| outcome);
        by_code.or_else(|| self.stop_requests.sign())
    }

    /// Ends the engine before the grace period ends.
    ///
    /// The kubelet kills the agent at the end of the grace period, and the record and the engine's
    /// children with it. So the engine's time ends `drain.margin` earlier, and the rest is for killing
    /// and for the record.
    async fn drain(&self, run: &Engine, engine: Pid, outcome: Outcome, why: &str) -> End {
        let began = self.draining(why);
        let grace = self.config.drain.grace;
        let kill_at = began + self.config.drain.until_kill();
        let stopped = async {
            self.stop(engine, began, kill_at).await;
            Processes::gone_by(kill_at).await
        };
        tokio::pin!(stopped);
        let gone = loop {
            tokio::select! {
                gone = &mut stopped => break gone,
                // The engine's counters end with it: the last ones are those read just before.
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
        // Any other outcome is more telling than a slow engine.
        let outcome = if outcome == Outcome::Drained { Outcome::Killed } else { outcome };
        let left = if killed { "" } else { ", but some of its processes remain" };
        (
            outcome,
            format!(
                "{why}: the engine had not ended after {:.1?} and was killed{left}",
                kill_at - began
            ),
        )
    }

    /// Stops the engine by the hook, if there is one and it succeeds, or else by a signal.
    async fn stop(&self, engine: Pid, began: Instant, kill_at: Instant) {
        if let Some((program, args)) = self.config.drain.hook.split_first() {
            // The other half of the time is for the signal.
            let half = began + (kill_at - began) / 2;
            let mut hook = Command::new(program);
            hook.args(args).env("ENGINE_PID", engine.to_string());
            match self.processes.start(&mut hook) {
                Ok(mut hook) => {
                    self.pass_on_output(&mut hook);
                    let exit = timeout_at(half, hook.ended).await;
                    if matches!(exit, Ok(Ok(Exit::Code(0)))) && Processes::gone_by(half).await {
                        return;
                    }
                    self.log.write("drain.hook did not end the engine; sending it a signal");
                }
                Err(error) => self.log.write(&format!("drain.hook cannot be started: {error}")),
            }
        }
        let signal = match self.config.drain.signal {
            StopSignal::Term => Signal::TERM,
            StopSignal::Int => Signal::INT,
            StopSignal::Quit => Signal::QUIT,
        };
        Processes::signal_all(engine, signal);
    }

    fn pass_on_output(&self, child: &mut Child) -> JoinHandle<()> {
        let output = child.output.take();
        let limits = self.config.log.clone();
        tokio::spawn(pass_on(
            output,
            limits,
            self.log.clone(),
            self.signs.clone(),
            self.found.clone(),
        ))
    }

    /// Reads the engine's last lines, and waits for the pool's answers on its last shares.
    async fn settle(&self, engine: Engine, output: JoinHandle<()>) {
        let within = self.config.drain.margin / 2;
        let last = self.shared.get().figures.take().map(|(figures, _)| figures);
        let settled = async {
            let Engine::Program(program) = engine else { return None };
            program.settle(last, within).await
        };
        // A child that escaped may hold the pipe open.
        let (_, last) = tokio::join!(timeout(within, output), settled);
        if let Some(last) = last {
            self.shared.get().work.add(&last, Duration::ZERO);
        }
        self.run_ended();
    }
}
