//! A miner's connection to its pools, kept up.
//!
//! [`Client`] logs in at the first pool that lets it in, in the order in which they are declared,
//! offers the newest work, sends shares, and counts what the pool said of them. Where a connection
//! fails it goes on with the next pool, and returns to the first once that is back.

mod connection;
mod status;
mod task;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::lines::LINE_TIME;
use crate::{Endpoint, Failure, Login, Session};
pub use status::{Fault, State, Status};
use task::Task;

/// Whom to talk to, as whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pools, in the order of preference. At least one.
    pub pools: Vec<Endpoint>,
    /// The login, the same at all.
    pub login: Login,
    /// How long to wait for what.
    pub timing: Timing,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For a pool to let the worker in, from the first packet on.
    pub login: Duration,
    /// For a line, from its first byte to its last.
    pub line: Duration,
    /// For a pool's word on a share.
    pub reply: Duration,
    /// For anything at all from the pool.
    pub silence: Duration,
    /// Before all pools are tried once more; it doubles each time.
    pub first_backoff: Duration,
    /// At most before that.
    pub longest_backoff: Duration,
    /// Between tries to return to the first pool.
    pub return_to_first: Duration,
    /// Between two signs of life, where the dialect has one.
    pub keep_alive: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            login: Duration::from_secs(15),
            line: LINE_TIME,
            reply: Duration::from_secs(30),
            silence: Duration::from_mins(10),
            first_backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_mins(1),
            return_to_first: Duration::from_mins(5),
            keep_alive: Duration::from_mins(1),
        }
    }
}

/// What a pool wants hashed.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer<W> {
    /// Which of the client's connections it came on, from 1.
    pub connection: u64,
    /// Goes up whenever shares of the work before are worth nothing any more.
    pub era: u64,
    pub work: W,
}

/// Waits for other work than was seen last, in a thread that may block. False once there is to be
/// none, or `is_over` holds of what the thread was told.
pub fn wait_for_work<W, T>(
    runtime: &Handle,
    work: &mut watch::Receiver<Option<Arc<Offer<W>>>>,
    told: &mut watch::Receiver<T>,
    is_over: impl FnMut(&T) -> bool,
) -> bool {
    runtime.block_on(async {
        tokio::select! {
            changed = work.changed() => changed.is_ok(),
            _ = told.wait_for(is_over) => false,
        }
    })
}

/// What became of a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pool took it.
    Accepted,
    /// The pool did not.
    Rejected(Failure),
    /// It was not sent: its job, or the connection that it came on, is gone.
    Stale,
    /// It was sent, and the connection failed before the pool's word came.
    Lost,
}

/// A connection to pools. Dropping it ends it at once, [`Client::drain`] in good order.
#[derive(Debug)]
pub struct Client<S: Session> {
    work: watch::Receiver<Option<Arc<Offer<S::Work>>>>,
    status: watch::Receiver<Status>,
    shares: Shares<S::Share>,
    task: JoinHandle<()>,
}

/// The way for shares to the pool. Clones lead to the same.
#[derive(Clone, Debug)]
pub struct Shares<T>(mpsc::Sender<Order<T>>);

/// What is done for those who hold a client.
#[derive(Debug)]
enum Order<T> {
    Submit { connection: u64, share: T, answer: oneshot::Sender<Verdict> },
    Drain { within: Duration },
}

/// How many shares may wait for the connection to take them.
const WAITING: usize = 1024;

impl<S: Session> Client<S> {
    /// Connects, and stays connected. Has to be called within a runtime.
    pub fn start(config: Config) -> Self {
        let (work, work_seen) = watch::channel(None);
        let (status, status_seen) = watch::channel(Status::default());
        let (shares, orders) = mpsc::channel(WAITING);
        let task = tokio::spawn(Task::<S>::new(config, orders, work, status).run());
        Self { work: work_seen, status: status_seen, shares: Shares(shares), task }
    }

    /// The newest work; none while there is no connection.
    pub fn work(&self) -> watch::Receiver<Option<Arc<Offer<S::Work>>>> {
        self.work.clone()
    }

    /// How it stands with the pools.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The way for shares.
    pub fn shares(&self) -> Shares<S::Share> {
        self.shares.clone()
    }

    /// Sends what is still to be sent, waits for the pool's word on it, and disconnects: within
    /// this time. Shares that are submitted later come too late.
    pub async fn drain(mut self, within: Duration) -> Status {
        if self.shares.0.send(Order::Drain { within }).await.is_ok() {
            // It ends by itself; should it have panicked, there is nothing to wait for either.
            let _ = (&mut self.task).await;
        }
        self.status.borrow().clone()
    }
}

impl<S: Session> Drop for Client<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> Shares<T> {
    /// Sends a share for the work of a connection. What becomes of it comes by the receiver; no
    /// answer means that the client has ended.
    pub fn submit(&self, connection: u64, share: T) -> oneshot::Receiver<Verdict> {
        let (answer, verdict) = oneshot::channel();
        if let Err(mpsc::error::TrySendError::Full(Order::Submit { answer, .. })) =
            self.0.try_send(Order::Submit { connection, share, answer })
        {
            let _ = answer.send(Verdict::Stale);
        }
        verdict
    }
}
