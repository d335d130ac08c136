//! A run of a built-in engine, from start to drain.

use std::time::Duration;

use daylight_agent_api::Outcome;
use tokio::time::Instant;

use super::watch::watch;
use super::{Agent, Stop};
use crate::engine::{BuiltIn, BuiltInName, Engine};

impl Agent {
    /// Hashes until a stop request, or until hashing has become useless.
    pub(super) async fn run_built_in(&mut self, name: BuiltInName) -> Stop {
        let engine = match BuiltIn::start(name, &self.config, &self.secrets) {
            Ok(engine) => Engine::BuiltIn(engine),
            Err(error) => {
                let sentence =
                    format!("engine: {} cannot be started: {error}", self.config.engine.name);
                return Stop::Final((Outcome::BadConfiguration, sentence));
            }
        };
        self.run_began(&format!("starting the engine {}", self.config.engine.display()));
        let stop = tokio::select! {
            stop = watch(&self.config, &engine, &self.shared, &self.log) => stop,
            (outcome, why) = self.stop_requests.next(None) => {
                self.draining(why);
                Stop::Final((outcome, why.to_owned()))
            }
        };
        let Engine::BuiltIn(engine) = engine else { return stop };
        let began = Instant::now();
        let (last, stopped) = engine.drain(began + self.config.drain.until_kill()).await;
        self.shared.get().work.add(&last, Duration::ZERO);
        self.run_ended();
        match stop {
            Stop::Final((Outcome::Drained, why)) if stopped => {
                let sentence = format!("{why}: the engine ended within {:.1?}", began.elapsed());
                Stop::Final((Outcome::Drained, sentence))
            }
            Stop::Final((Outcome::Drained, why)) => {
                let sentence =
                    format!("{why}: the engine had not ended after {:.1?}", began.elapsed());
                Stop::Final((Outcome::Killed, sentence))
            }
            stop => stop,
        }
    }
}
