//! A mining pool in the node's network.

use std::net::{Ipv4Addr, SocketAddr};

use daylight_stratum::Difficulty;
use daylight_stratum::loopback::{Dialect, Event, LoopbackPool, Setup};
use daylight_testbed::RealNode;

/// A pool that verifies every share, and accepts one wallet.
pub struct Pool {
    pool: LoopbackPool,
    port: u16,
}

/// The wallet that pools accept, and the salt of its commitment.
pub const WALLET: &str = "bc1qexampleexampleexample";
pub const SALT: &str = "pepper";

impl Pool {
    /// Opens a pool that accepts only the worker of this name.
    pub async fn open(user: Option<String>) -> Self {
        // About ten million hashes a share.
        let difficulty = Difficulty::new(0.0025).unwrap();
        let setup = Setup { difficulty, user, ..Setup::new(Dialect::V1) };
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let pool = LoopbackPool::start_at(setup, address).await.unwrap();
        let port = pool.endpoint().port;
        Self { pool, port }
    }

    /// The endpoint for pods.
    pub fn endpoint(&self) -> String {
        format!("stratum+tcp://{}:{}", RealNode::GATEWAY, self.port)
    }

    /// The number of shares that it has accepted.
    pub fn accepted(&self) -> u64 {
        let events = self.pool.events();
        events.iter().filter(|event| matches!(event, Event::Accepted { .. })).count() as u64
    }

    /// The users that logged in.
    pub fn users(&self) -> Vec<String> {
        let events = self.pool.events().into_iter();
        let users = events.filter_map(|event| match event {
            Event::LoggedIn(user) => Some(user),
            _ => None,
        });
        users.collect()
    }
}
