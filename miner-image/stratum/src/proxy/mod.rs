//! A pool for engines on the same host, on the loopback interface only.
//!
//! An engine logs in with any name and gets the jobs of the declared pools, where the proxy has logged
//! in with the configured credentials. The engine never learns the wallet or the pool; its shares are
//! counted by the pool's verdicts.

mod engine;
mod monero;
mod v1;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::select;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::client::{Config, Offer, Route, State, Status, Verdict};
use crate::message::Id;
use crate::{Malformed, Session};

/// A proxy. Dropping it closes it and its connections at once, [`Proxy::drain`] in good order.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    route: Arc<Route>,
    statuses: Arc<Mutex<Statuses>>,
    drain: watch::Sender<Option<Duration>>,
    task: JoinHandle<()>,
}

/// The pools' verdicts, by engine.
#[derive(Debug, Default)]
struct Statuses {
    /// The sum over the engines that left.
    ended: Status,
    live: HashMap<u64, watch::Receiver<Status>>,
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
    /// it.
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

impl Proxy {
    /// Opens it on a free port of 127.0.0.1. Each engine that connects gets its own connection to a
    /// pool, and with it its own part of the search space. All of them share the choice of the pool and
    /// the pauses between logins, and the connection ends with the engine's.
    pub async fn start<F: Frontend>(config: Config) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let route = Arc::new(Route::new(config.pools.len()));
        let statuses = Arc::new(Mutex::new(Statuses::default()));
        let (drain, drained) = watch::channel(None);
        let upstream = Upstream { route: Arc::clone(&route), config };
        let task = tokio::spawn(accept::<F>(listener, upstream, Arc::clone(&statuses), drained));
        Ok(Self { address, route, statuses, drain, task })
    }

    /// Address for engines.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of connected engines.
    pub fn engines(&self) -> usize {
        lock(&self.statuses).live.len()
    }

    /// Status of all engines together: logged in if one of them is.
    pub fn status(&self) -> Status {
        let statuses = lock(&self.statuses);
        let mut status = statuses.ended.clone();
        status.state = State::Connecting;
        for live in statuses.live.values() {
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
    statuses: Arc<Mutex<Statuses>>,
    mut drain: watch::Receiver<Option<Duration>>,
) {
    let mut engines = JoinSet::new();
    for number in 0.. {
        let accepted = select! {
            accepted = listener.accept() => accepted,
            _ = drain.wait_for(Option::is_some) => break,
        };
        while engines.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            sleep(AFTER_ERROR).await;
            continue;
        };
        if engines.len() >= MOST_ENGINES {
            continue;
        }
        let (statuses, drain, upstream) = (Arc::clone(&statuses), drain.clone(), upstream.clone());
        engines.spawn(async move {
            let engine = engine::Engine::<F>::new(stream, upstream);
            lock(&statuses).live.insert(number, engine.status());
            let status = engine.serve(drain).await;
            let mut statuses = lock(&statuses);
            statuses.live.remove(&number);
            statuses.ended.add(&status);
        });
    }
    while engines.join_next().await.is_some() {}
}

fn lock(statuses: &Mutex<Statuses>) -> MutexGuard<'_, Statuses> {
    statuses.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the engine's name of a job. It includes the connection, since pools reuse names: a share
/// that arrives after a failover must not count for the new pool's job of the same name.
fn name(connection: u64, job: &str) -> String {
    format!("{connection:x}-{job}")
}

/// Returns the connection and the pool's name of a job.
fn named(name: &str) -> Option<(u64, String)> {
    let (connection, job) = name.split_once('-')?;
    Some((u64::from_str_radix(connection, 16).ok()?, job.into()))
}
