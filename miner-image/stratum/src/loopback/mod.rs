//! A pool for tests on a chain that it invents. It judges every share itself, and misbehaves on
//! request.

mod chain;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;

pub use crate::pool::{Event, Misbehaviour};
use crate::pool::{Options, Order, Server};
use crate::v1::Redirect;
use crate::{Difficulty, Endpoint, Tls};
use chain::Chain;

/// Options of a [`LoopbackPool`].
#[derive(Clone)]
pub struct Setup {
    pub dialect: Dialect,
    /// The difficulty of the first job.
    pub difficulty: Difficulty,
    pub misbehaviour: Misbehaviour,
    /// The only worker that may log in; any worker if there is none.
    pub user: Option<String>,
    /// The server's certificate; plain TCP without one.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Protocol of a pool.
#[derive(Clone, Copy, Debug)]
pub enum Dialect {
    /// Stratum v1, with SHA-256d as the proof of work.
    V1,
    /// Monero's, with this function as the proof of work.
    Monero(fn(&[u8]) -> [u8; 32]),
}

impl Setup {
    /// A pool that behaves, and wants a share in some thousands of hashes.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            difficulty: Difficulty::new(1e-6).unwrap_or(Difficulty::ONE),
            misbehaviour: Misbehaviour::None,
            user: None,
            tls: None,
        }
    }
}

/// A pool. Dropping it ends it and all its connections.
#[derive(Debug)]
pub struct LoopbackPool {
    server: Server,
    tls: Tls,
    chain: Arc<Chain>,
}

impl LoopbackPool {
    /// Opens it on a free port.
    pub async fn start(setup: Setup) -> io::Result<Self> {
        Self::start_on(setup, 0).await
    }

    /// Opens it on a port.
    pub async fn start_on(setup: Setup, port: u16) -> io::Result<Self> {
        Self::start_at(setup, (Ipv4Addr::LOCALHOST, port).into()).await
    }

    /// Opens it at an address, for miners that are in a network of their own.
    pub async fn start_at(setup: Setup, address: SocketAddr) -> io::Result<Self> {
        let Setup { dialect, difficulty, misbehaviour, user, tls: certificate } = setup;
        let tls = if certificate.is_some() { Tls::Roots } else { Tls::Off };
        let refuses_all = misbehaviour == Misbehaviour::RefusesLogins;
        let options = Options { tls: certificate, misbehaviour };
        let chain = |proof| Arc::new(Chain::new(proof, difficulty, user, refuses_all));
        let (chain, server) = match dialect {
            Dialect::V1 => {
                let chain = chain(crate::sha256d::sha256d);
                (Arc::clone(&chain), Server::v1(address, chain, options).await?)
            }
            Dialect::Monero(proof) => {
                let chain = chain(proof);
                (Arc::clone(&chain), Server::monero(address, chain, options).await?)
            }
        };
        Ok(Self { server, tls, chain })
    }

    /// Endpoint to configure in a miner. With TLS its certificate is checked against the system's
    /// roots; see [`Tls::Pinned`].
    pub fn endpoint(&self) -> Endpoint {
        let address = self.server.address();
        Endpoint { host: address.ip().to_string(), port: address.port(), tls: self.tls.clone() }
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.chain.events().borrow().clone()
    }

    /// Waits until the events so far are enough, and returns them.
    pub async fn until(&self, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        match self.chain.events().wait_for(|events| enough(events)).await {
            Ok(events) => events.clone(),
            Err(_) => self.events(),
        }
    }

    /// Sends another job and returns its number. A clean one makes shares for those before stale.
    pub fn new_job(&self, clean: bool) -> u64 {
        let number = self.chain.extend(clean);
        self.chain.order(Order::Renew);
        number
    }

    /// Sets the difficulty from the next job on.
    pub fn set_difficulty(&self, difficulty: Difficulty) {
        self.chain.change(|job| job.difficulty = difficulty);
    }

    /// Sets the seed from the next job on, where the dialect is Monero's.
    pub fn set_seed(&self, seed: [u8; 32]) {
        self.chain.change(|job| job.seed = seed);
    }

    /// Sends all miners elsewhere, where the dialect has a word for it.
    pub fn redirect(&self, redirect: Redirect) {
        self.chain.order(Order::Redirect(redirect));
    }

    /// Closes all connections.
    pub fn disconnect(&self) {
        self.chain.order(Order::Disconnect);
    }
}
