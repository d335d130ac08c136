//! RandomX on processors.

use std::num::NonZeroU32;

use daylight_randomx::{Engine, Mode, Options, State};
use daylight_stratum::client::{self, Client};

use super::{EngineFailure, Hashing, Link, Started, threads};
use crate::config::{Config, RandomxMode};

pub(super) fn start(config: &Config, client: client::Config) -> Started {
    let engine = &config.engine;
    let threads = u32::try_from(threads(config).get()).ok().and_then(NonZeroU32::new);
    let options = Options {
        threads: threads.unwrap_or(NonZeroU32::MIN),
        mode: match engine.mode.unwrap_or_default() {
            RandomxMode::Light => Mode::Light,
            RandomxMode::Fast => Mode::Fast,
        },
        huge_pages: engine.huge_pages,
    };
    let client = Client::start(client);
    let (work, shares) = (client.work(), client.shares());
    let engine = Engine::start(options, &work, &shares).map_err(|error| error.to_string())?;
    Ok((Link::Monero(client), Box::new(engine)))
}

impl Hashing for Engine {
    fn hashes(&self) -> Vec<u64> {
        vec![Self::hashes(self).iter().sum()]
    }

    fn failure(&self) -> Option<EngineFailure> {
        match &*self.state().borrow() {
            State::Failed(error) => Some(EngineFailure::Other(error.to_string())),
            _ => None,
        }
    }

    fn remark(&self) -> Option<String> {
        match &*self.state().borrow() {
            State::Preparing { .. } => Some("RandomX is preparing its memory".into()),
            State::Hashing => Some(format!("RandomX hashes on {}", self.pages())),
            State::Refused(refusal) => Some(refusal.to_string()),
            State::Waiting | State::Failed(_) | State::Ended => None,
        }
    }

    fn stop(self: Box<Self>) -> Vec<u64> {
        Self::stop(*self)
    }
}
