//! The life of a built-in engine's run.

use std::time::Duration;

use tokio::time::Instant;

use super::watch::{Trouble, watch};
use super::{Agent, Stop};
use crate::built_in::BuiltIn;
use crate::config::BuiltInName;
use crate::engine::Engine;
use crate::outcome::Outcome;
use crate::status::Phase;

impl Agent {
    /// Hashes until somebody asks to end, or there is no use in it.
    pub(super) async fn run_built_in(&mut self, name: BuiltInName) -> Stop {
        let engine = match BuiltIn::start(name, &self.config, &self.secrets) {
            Ok(engine) => Engine::BuiltIn(engine),
            Err(error) => {
                let says =
                    format!("engine: {} cannot be started: {error}", self.config.engine.name);
                return Stop::Final((Outcome::BadConfiguration, says));
            }
        };
        self.began(&format!("{} begins", self.config.engine.display()));
        let stop = tokio::select! {
            trouble = watch(&self.config, &engine, &self.shared, &self.voice) => match trouble {
                Trouble::Stalled => {
                    Stop::Unasked("the engine did not hash for too long".into())
                }
                Trouble::Refused(says) => Stop::Final((Outcome::LoginRefused, says)),
                Trouble::DeviceLost(says) => Stop::Final((Outcome::DeviceLost, says)),
                Trouble::Failed(says) => Stop::Unasked(says),
            },
            (outcome, why) = self.asks.next(None) => {
                self.shared.get().drain_began = Some(Instant::now());
                self.report(Phase::Draining, &format!("the engine is asked to end: {why}"));
                Stop::Final((outcome, why.to_owned()))
            }
        };
        let Engine::BuiltIn(engine) = engine else { return stop };
        let began = Instant::now();
        let grace = self.config.drain.grace.0;
        let end_at = began + grace.saturating_sub(self.config.drain.margin.0).max(grace / 2);
        let (last, stopped) = engine.drain(end_at).await;
        self.shared.get().work.add(&last, Duration::ZERO);
        self.ended();
        match stop {
            Stop::Final((Outcome::Drained, why)) if stopped => {
                let says = format!("{why}: the engine ended within {:.1?}", began.elapsed());
                Stop::Final((Outcome::Drained, says))
            }
            Stop::Final((Outcome::Drained, why)) => {
                let says = format!("{why}: the engine had not ended after {:.1?}", began.elapsed());
                Stop::Final((Outcome::Killed, says))
            }
            stop => stop,
        }
    }
}
