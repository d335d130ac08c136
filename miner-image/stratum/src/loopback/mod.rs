//! A pool on the loopback interface, for tests: it verifies every share by itself, and misbehaves
//! when it is told to.

mod miner;
mod misbehaviour;
mod seat;

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::lines::{LINE_TIME, Lines};
use crate::v1::Redirect;
use crate::{Difficulty, Endpoint, Tls};
pub use misbehaviour::Misbehaviour;

/// A pool as it is to be.
#[derive(Clone)]
pub struct Setup {
    pub dialect: Dialect,
    /// How rare shares are to be, at first.
    pub difficulty: Difficulty,
    /// What it does wrong.
    pub misbehaviour: Misbehaviour,
    /// Whom it lets in; anybody if there is none.
    pub user: Option<String>,
    /// Its certificate, for TLS.
    pub tls: Option<Arc<ServerConfig>>,
}

/// What a pool speaks.
#[derive(Clone, Copy, Debug)]
pub enum Dialect {
    /// Stratum v1, with SHA-256d as the proof of work.
    V1,
    /// Monero's, with this as the proof of work.
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

/// What a pool saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Connected,
    /// A login that was let in, with its user.
    LoggedIn(String),
    /// A share that reached the target, for the job of this number.
    Accepted {
        job: u64,
    },
    /// A share that was not taken, with the code.
    Rejected(i64),
    /// The other side closed the connection, in good order or not.
    Left,
}

/// A pool. Dropping it ends it and all its connections.
#[derive(Debug)]
pub struct LoopbackPool {
    address: SocketAddr,
    tls: Tls,
    events: watch::Receiver<Vec<Event>>,
    orders: broadcast::Sender<Order>,
    current: watch::Sender<Current>,
    task: JoinHandle<()>,
}

/// What all connections are told.
#[derive(Clone, Debug)]
enum Order {
    Renew,
    Redirect(Redirect),
    Disconnect,
}

/// What is hashed now.
#[derive(Clone, Debug)]
struct Current {
    job: u64,
    /// Jobs from this one on count.
    oldest: u64,
    difficulty: Difficulty,
    /// What Monero's jobs name as the key.
    seed: [u8; 32],
}

/// What the connections share.
struct Floor {
    setup: Setup,
    current: watch::Receiver<Current>,
    events: watch::Sender<Vec<Event>>,
    seats: AtomicU64,
    /// The proofs that were accepted, so that none counts twice.
    proofs: std::sync::Mutex<HashSet<Vec<u8>>>,
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
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let tls = if setup.tls.is_some() { Tls::Roots } else { Tls::Off };
        let current = Current { job: 1, oldest: 1, difficulty: setup.difficulty, seed: [0; 32] };
        let (current, current_seen) = watch::channel(current);
        let (events, events_seen) = watch::channel(vec![]);
        let (orders, _) = broadcast::channel(64);
        let floor = Arc::new(Floor {
            setup,
            current: current_seen,
            events,
            seats: AtomicU64::new(1),
            proofs: std::sync::Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, floor, orders.clone()));
        Ok(Self { address, tls, events: events_seen, orders, current, task })
    }

    /// How to reach it. With TLS its certificate is held against the system's roots; see
    /// [`Tls::Pinned`].
    pub fn endpoint(&self) -> Endpoint {
        let Self { address, tls, .. } = self;
        Endpoint { host: address.ip().to_string(), port: address.port(), tls: *tls }
    }

    /// What it saw so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// Waits until what it saw is enough.
    pub async fn until(&self, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let mut events = self.events.clone();
        match events.wait_for(|events| enough(events)).await {
            Ok(events) => events.clone(),
            Err(_) => self.events(),
        }
    }

    /// Goes on to another job; a clean one makes shares for those before stale. Gives its number.
    pub fn new_job(&self, clean: bool) -> u64 {
        self.current.send_modify(|current| {
            current.job += 1;
            if clean {
                current.oldest = current.job;
            }
        });
        self.tell(Order::Renew);
        self.current.borrow().job
    }

    /// Wants another difficulty from the next job on.
    pub fn set_difficulty(&self, difficulty: Difficulty) {
        self.current.send_modify(|current| current.difficulty = difficulty);
    }

    /// Wants another key from the next job on, where the dialect is Monero's.
    pub fn set_seed(&self, seed: [u8; 32]) {
        self.current.send_modify(|current| current.seed = seed);
    }

    /// Sends everybody elsewhere.
    pub fn redirect(&self, redirect: Redirect) {
        self.tell(Order::Redirect(redirect));
    }

    /// Closes all connections.
    pub fn disconnect(&self) {
        self.tell(Order::Disconnect);
    }

    fn tell(&self, order: Order) {
        // Without connections there is nobody to be told.
        let _ = self.orders.send(order);
    }
}

impl Drop for LoopbackPool {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, floor: Arc<Floor>, orders: broadcast::Sender<Order>) {
    let mut seats = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (floor, orders) = (Arc::clone(&floor), orders.subscribe());
        // A share's answer waits for nothing; where that cannot be set, it only comes later.
        let _ = stream.set_nodelay(true);
        seats.spawn(async move {
            floor.saw(Event::Connected);
            let lines = match &floor.setup.tls {
                None => Some(Lines::new(stream, LINE_TIME)),
                Some(config) => (TlsAcceptor::from(Arc::clone(config)).accept(stream).await.ok())
                    .map(|stream| Lines::new(stream, LINE_TIME)),
            };
            if let Some(lines) = lines {
                let number = floor.seats.fetch_add(1, Ordering::Relaxed);
                seat::Seat::new(Arc::clone(&floor), number, lines).serve(orders).await;
            }
            floor.saw(Event::Left);
        });
        while seats.try_join_next().is_some() {}
    }
}

impl Floor {
    fn saw(&self, event: Event) {
        self.events.send_modify(|events| events.push(event));
    }

    /// Whether a proof is there for the first time.
    fn is_new(&self, proof: &[u8]) -> bool {
        let mut proofs = self.proofs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        proofs.insert(proof.to_vec())
    }
}
