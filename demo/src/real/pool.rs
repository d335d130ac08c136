//! A mining pool in the node's network.

use std::net::{Ipv4Addr, SocketAddr};

use daylight_stratum::Difficulty;
use daylight_stratum::loopback::{Dialect, Event, LoopbackPool, Setup};

use crate::{Error, Result};
use daylight_testbed::RealNode;

/// About ten million hashes a share: some seconds for a miner with a tenth of a processor.
const DIFFICULTY: f64 = 0.0025;

/// A pool that speaks Stratum v1 and verifies every share. It ends when this is dropped.
#[derive(Debug)]
pub struct MiningPool {
    pool: LoopbackPool,
}

impl MiningPool {
    /// Opens a pool for the pods of a real node.
    pub async fn open() -> Result<Self> {
        let difficulty = Difficulty::new(DIFFICULTY)
            .ok_or_else(|| Error::new(format!("{DIFFICULTY} is not a difficulty")))?;
        let setup = Setup { difficulty, ..Setup::new(Dialect::V1) };
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let pool = LoopbackPool::start_at(setup, address)
            .await
            .map_err(|error| Error::new(format!("the mining pool cannot be started: {error}")))?;
        Ok(Self { pool })
    }

    /// The endpoint for pods.
    pub fn endpoint(&self) -> String {
        format!("stratum+tcp://{}:{}", RealNode::GATEWAY, self.pool.endpoint().port)
    }

    /// The number of shares that it has accepted.
    pub fn accepted(&self) -> u64 {
        let events = self.pool.events();
        events.iter().filter(|event| matches!(event, Event::Accepted { .. })).count() as u64
    }

    /// The wallets that have logged in so far, each once.
    pub(super) fn wallets(&self) -> Vec<String> {
        let users = self.pool.events().into_iter().filter_map(|event| match event {
            // The wallet, a dot, and the worker.
            Event::LoggedIn(user) => user.split('.').next().map(str::to_owned),
            _ => None,
        });
        let wallets: std::collections::BTreeSet<_> = users.collect();
        wallets.into_iter().collect()
    }
}
