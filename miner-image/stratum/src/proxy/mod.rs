//! A pool for engines on the same host, on the loopback interface only.
//!
//! An engine logs in with any name and gets the jobs of the declared pools, where the proxy has logged
//! in with the configured credentials. The engine never learns the wallet or the pool; its shares are
//! counted by the pool's verdicts.

mod engine;
mod ethash_stratum;
mod ethproxy;
mod monero;
mod v1;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::client::{Config, Offer, Route, State, Status, Verdict};
use crate::ethash::stratum;
use crate::message::{Failure, Id};
use crate::{Malformed, Session};

/// A proxy. Dropping it closes it and its connections at once, [`Proxy::drain`] in good order.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    route: Arc<Route>,
    seats: Arc<Mutex<Seats>>,
    drain: watch::Sender<Option<Duration>>,
    task: JoinHandle<()>,
}

/// Connections to pools, each for one engine.
#[derive(Debug, Default)]
struct Seats {
    /// The sum of the pools' verdicts over those that have ended.
    ended: Status,
    live: HashMap<u64, watch::Receiver<Status>>,
    /// Those that wait for an engine.
    vacant: Vec<oneshot::Sender<TcpStream>>,
}

impl Seats {
    /// Gives an engine a vacant seat. Returns the engine if there is none.
    fn take(&mut self, mut engine: TcpStream) -> Option<TcpStream> {
        while let Some(seat) = self.vacant.pop() {
            match seat.send(engine) {
                Ok(()) => return None,
                Err(returned) => engine = returned,
            }
        }
        Some(engine)
    }

    fn engines(&self) -> usize {
        let vacant = self.vacant.iter().filter(|seat| !seat.is_closed()).count();
        self.live.len().saturating_sub(vacant)
    }
}

/// A dialect on the connection of one engine, without I/O.
pub trait Frontend: Default + Send + 'static {
    /// The same dialect on the connection to a pool.
    type Session: Session;

    /// Interprets a line of the engine. `offer` is the newest work.
    fn receive(
        &mut self,
        line: &[u8],
        offer: &Offer<<Self::Session as Session>::Work>,
    ) -> Result<Vec<Action<<Self::Session as Session>::Share>>, Malformed>;

    /// Returns the lines that send new work to the engine; none if the engine has to connect again for
    /// it, as it does not accept a change of what it was told when it logged in.
    fn offer(&mut self, offer: &Offer<<Self::Session as Session>::Work>) -> Option<Vec<String>>;

    /// Returns the reply to a share.
    fn verdict(&self, id: Id, verdict: Verdict) -> String;

    /// Returns the reply to a line that cannot be handled, with its number if it has one.
    fn error(&self, id: Option<Id>, error: &Malformed) -> String;
}

/// Action that an engine's line causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<T> {
    /// Send a line to the engine.
    Send(String),
    /// Submit a share to the pool.
    Submit {
        id: Id,
        /// The connection on which its job arrived.
        connection: u64,
        share: T,
    },
}

/// Stratum v1 for engines.
pub type V1 = v1::V1;

/// Monero's dialect for engines.
pub type Monero = monero::Monero;

/// EthereumStratum/1.0.0 for engines.
pub type EthereumStratum = ethash_stratum::EthashStratum<stratum::EthereumStratum>;

/// Ravencoin's Stratum, for engines that compute `KawPow`.
pub type Kawpow = ethash_stratum::EthashStratum<stratum::Kawpow>;

/// `EthProxy` for engines.
pub type EthProxy = ethproxy::EthProxy;

impl Proxy {
    /// Opens it on a free port of 127.0.0.1. Each engine that connects gets its own connection to a
    /// pool, and with it its own part of the search space. All of them share the choice of the pool and
    /// the pauses between logins, and the connection ends with the engine's.
    pub async fn start<F: Frontend>(config: Config) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let route = Arc::new(Route::new(config.pools.len()));
        let seats = Arc::new(Mutex::new(Seats::default()));
        let (drain, drained) = watch::channel(None);
        let upstream = Upstream { route: Arc::clone(&route), config };
        let task = tokio::spawn(accept::<F>(listener, upstream, Arc::clone(&seats), drained));
        Ok(Self { address, route, seats, drain, task })
    }

    /// Address for engines.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of connected engines.
    pub fn engines(&self) -> usize {
        lock(&self.seats).engines()
    }

    /// Status of all engines together: logged in if one of them is.
    pub fn status(&self) -> Status {
        let seats = lock(&self.seats);
        let mut status = seats.ended.clone();
        status.state = State::Connecting;
        for live in seats.live.values() {
            status.add(&live.borrow());
        }
        status.faults = self.route.faults();
        status.refusal = self.route.refusal();
        status
    }

    /// Stops accepting engines, sends the shares that they have submitted so far, waits for the pools'
    /// verdicts, and disconnects, within this time.
    pub async fn drain(mut self, within: Duration) -> Status {
        self.drain.send_replace(Some(within));
        // If the task has panicked, there is nothing to wait for either.
        let _ = (&mut self.task).await;
        Status { state: State::Drained, ..self.status() }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the connections of all engines to the pools share.
#[derive(Clone)]
struct Upstream {
    route: Arc<Route>,
    config: Config,
}

/// Engines at a time. More than a pod has devices, and few enough that none can use up the agent's
/// memory or its descriptors.
const MOST_ENGINES: usize = 64;

/// Pause after a connection that could not be accepted: descriptors may have run out.
const AFTER_ERROR: Duration = Duration::from_millis(100);

async fn accept<F: Frontend>(
    listener: TcpListener,
    upstream: Upstream,
    seats: Arc<Mutex<Seats>>,
    mut drain: watch::Receiver<Option<Duration>>,
) {
    let mut serving = JoinSet::new();
    for number in 0.. {
        let accepted = select! {
            accepted = listener.accept() => accepted,
            _ = drain.wait_for(Option::is_some) => break,
        };
        while serving.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            sleep(AFTER_ERROR).await;
            continue;
        };
        let Some(stream) = lock(&seats).take(stream) else { continue };
        if serving.len() >= MOST_ENGINES {
            continue;
        }
        let (drain, seats, upstream) = (drain.clone(), Arc::clone(&seats), upstream.clone());
        serving.spawn(async move {
            let seat = engine::Seat::<F>::new(Arc::clone(&seats), upstream);
            lock(&seats).live.insert(number, seat.status());
            let status = seat.serve(stream, drain).await;
            let mut seats = lock(&seats);
            seats.live.remove(&number);
            seats.ended.add(&status);
        });
    }
    while serving.join_next().await.is_some() {}
}

fn lock(seats: &Mutex<Seats>) -> MutexGuard<'_, Seats> {
    seats.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the engine's name of a job. It includes the connection, since pools reuse names: a share
/// that arrives after a failover must not count for the new pool's job of the same name.
fn name(connection: u64, job: &str) -> String {
    format!("{connection:x}-{job}")
}

/// Returns the result of the reply to a share, in the dialects with Stratum's codes.
fn judged(verdict: Verdict) -> Result<Value, Failure> {
    match verdict {
        Verdict::Accepted => Ok(true.into()),
        Verdict::Rejected(failure) => Err(failure),
        Verdict::Stale => Err(Failure::new(Failure::STALE, "Job not found")),
        Verdict::Lost => Err(Failure::new(Failure::OTHER, "The pool did not answer")),
    }
}

/// Returns the connection and the pool's name of a job.
fn named(name: &str) -> Option<(u64, String)> {
    let (connection, job) = name.split_once('-')?;
    Some((u64::from_str_radix(connection, 16).ok()?, job.into()))
}
