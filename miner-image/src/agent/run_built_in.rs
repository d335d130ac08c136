//! The life of a built-in engine's run.

use std::time::Duration;

use daylight_agent_api::Outcome;
use tokio::time::Instant;

use super::watch::watch;
use super::{Agent, Stop};
use crate::engine::{BuiltIn, BuiltInName, Engine};

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
            stop = watch(&self.config, &engine, &self.shared, &self.voice) => stop,
            (outcome, why) = self.stop_requests.next(None) => {
                self.draining(why);
                Stop::Final((outcome, why.to_owned()))
            }
        };
        let Engine::BuiltIn(engine) = engine else { return stop };
        let began = Instant::now();
        let (last, stopped) = engine.drain(began + self.config.drain.until_kill()).await;
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
