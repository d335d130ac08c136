//! SHA-256d on GPUs.

use daylight_gpu::{Choice, Engine, choose, devices};
use daylight_stratum::client::{self, Client};

use super::{EngineFailure, Hashing, Link, Started};
use crate::config::Config;

/// An engine and the names of its devices.
struct Gpus {
    engine: Engine,
    names: Vec<String>,
}

pub(super) fn start(config: &Config, client: client::Config) -> Started {
    let chosen = &config.engine.devices;
    let choice = if chosen.is_empty() { Choice::Gpus } else { Choice::Indices(chosen.clone()) };
    let devices = choose(&devices(), &choice).map_err(|error| error.to_string())?;
    let client = Client::start(client);
    let (work, shares) = (client.work(), client.shares());
    let engine = Engine::start(&devices, &work, &shares).map_err(|error| error.to_string())?;
    let names = devices.iter().map(|device| device.name().to_owned()).collect();
    Ok((Link::V1(client), Box::new(Gpus { engine, names })))
}

impl Hashing for Gpus {
    fn hashes(&self) -> Vec<u64> {
        self.engine.hashes()
    }

    fn devices(&self) -> &[String] {
        &self.names
    }

    fn failure(&self) -> Option<EngineFailure> {
        let lost = self.engine.lost();
        let lost = lost.borrow();
        lost.as_ref().map(|lost| EngineFailure::DeviceLost(lost.to_string()))
    }

    fn stop(self: Box<Self>) -> Vec<u64> {
        self.engine.stop()
    }
}
