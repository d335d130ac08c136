//! A pool for the engines beside it, on the loopback interface only.
//!
//! An engine logs in with whatever it likes and gets the jobs of the declared pools, where the proxy
//! is logged in as whom it was told. The engine never learns the wallet, nor the pool; its shares
//! are counted as the pool has them.

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

use crate::client::Offer;
use crate::client::{Config, State, Status, Verdict};
use crate::message::Id;
use crate::{Malformed, Session};

/// A proxy. Dropping it ends it and its connections at once, [`Proxy::drain`] in good order.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    books: Arc<Mutex<Books>>,
    drain: watch::Sender<Option<Duration>>,
    task: JoinHandle<()>,
}

/// What the pools said, by engine.
#[derive(Debug, Default)]
struct Books {
    /// Of the engines that left.
    ended: Status,
    live: HashMap<u64, watch::Receiver<Status>>,
}

/// How a dialect is spoken with an engine, without I/O.
pub trait Front: Default + Send + 'static {
    /// How it is spoken with a pool.
    type Session: Session;

    /// Takes a line of the engine, with the newest offer at hand.
    fn hear(
        &mut self,
        line: &[u8],
        offer: &Offer<<Self::Session as Session>::Work>,
    ) -> Result<Vec<Act<<Self::Session as Session>::Share>>, Malformed>;

    /// Lines that give the engine a new offer; none where it has to connect again for it.
    fn offer(&mut self, offer: &Offer<<Self::Session as Session>::Work>) -> Option<Vec<String>>;

    /// A line that tells the engine what became of its share.
    fn judged(&self, id: Id, verdict: Verdict) -> String;

    /// A line that tells the engine that it asked for something which is not there.
    fn unknown(&self, error: &Malformed) -> String;
}

/// What comes of an engine's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act<T> {
    /// A line to the engine.
    Say(String),
    /// A share to the pool.
    Submit {
        id: Id,
        /// The connection that its job came on.
        connection: u64,
        share: T,
    },
}

/// Stratum v1 for engines.
pub type V1 = v1::V1;

/// Monero's dialect for engines.
pub type Monero = monero::Monero;

impl Proxy {
    /// Opens it on a free port of 127.0.0.1. Each engine that connects has a connection to a pool
    /// of its own, and with it its own part of the space to search.
    pub async fn start<F: Front>(config: Config) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let books = Arc::new(Mutex::new(Books::default()));
        let (drain, drained) = watch::channel(None);
        let task = tokio::spawn(accept::<F>(listener, config, Arc::clone(&books), drained));
        Ok(Self { address, books, drain, task })
    }

    /// Where engines connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many engines are connected.
    pub fn engines(&self) -> usize {
        lock(&self.books).live.len()
    }

    /// How it stands with the pools, all engines together: logged in if one of them is.
    pub fn status(&self) -> Status {
        let books = lock(&self.books);
        let mut status = books.ended.clone();
        status.state = State::Connecting;
        for live in books.live.values() {
            status.add(&live.borrow());
        }
        status
    }

    /// Takes no more engines, sends what they have submitted so far, waits for the pools' word on
    /// it, and disconnects: within this time.
    pub async fn drain(mut self, within: Duration) -> Status {
        self.drain.send_replace(Some(within));
        // Should it have panicked, there is nothing to wait for either.
        let _ = (&mut self.task).await;
        Status { state: State::Drained, ..self.status() }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<F: Front>(
    listener: TcpListener,
    config: Config,
    books: Arc<Mutex<Books>>,
    mut drain: watch::Receiver<Option<Duration>>,
) {
    let mut engines = JoinSet::new();
    for number in 0.. {
        let accepted = select! {
            accepted = listener.accept() => accepted,
            _ = drain.wait_for(Option::is_some) => break,
        };
        // An engine that left before it was accepted is no reason to stop.
        let Ok((stream, _)) = accepted else { continue };
        let (books, drain, config) = (Arc::clone(&books), drain.clone(), config.clone());
        engines.spawn(async move {
            let engine = engine::Engine::<F>::new(stream, config);
            lock(&books).live.insert(number, engine.status());
            let status = engine.serve(drain).await;
            let mut books = lock(&books);
            books.live.remove(&number);
            books.ended.add(&status);
        });
        while engines.try_join_next().is_some() {}
    }
    while engines.join_next().await.is_some() {}
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A job's name for the engine: with the connection that it came on, since pools use the same names.
fn name(connection: u64, job: &str) -> String {
    format!("{connection:x}-{job}")
}

/// The connection and the pool's name of a job.
fn named(name: &str) -> Option<(u64, String)> {
    let (connection, job) = name.split_once('-')?;
    Some((u64::from_str_radix(connection, 16).ok()?, job.into()))
}
