//! A miner's lasting connection to its pools.
//!
//! [`Client`] logs in at the first pool that lets it in, in the order in which they are declared,
//! offers the newest work, sends shares, and counts the pool's verdicts. When a connection fails it
//! continues with the next pool, and returns to the first once that is back.

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

/// Pools, and the login at them.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pools, in the order of preference. At least one.
    pub pools: Vec<Endpoint>,
    pub login: Login,
    pub timing: Timing,
}

/// Time limits and pauses of a client.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Limit for a login, from the first packet on.
    pub login: Duration,
    /// Limit for a line, from its first byte to its last.
    pub line: Duration,
    /// Limit for a pool's verdict on a share.
    pub reply: Duration,
    /// Limit for the time without any line from the pool.
    pub silence: Duration,
    /// Pause before all pools are tried again; it doubles each time.
    pub first_backoff: Duration,
    /// Longest such pause.
    pub longest_backoff: Duration,
    /// Pause between attempts to return to the first pool.
    pub return_to_first: Duration,
    /// Pause between two keep-alive messages, where the dialect has one.
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

/// Work that a pool wants hashed.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer<W> {
    /// Number of the client's connection on which it arrived, from 1.
    pub connection: u64,
    /// Increases whenever shares of earlier work no longer count.
    pub era: u64,
    pub work: W,
}

/// Waits for work other than the last one seen, in a thread that may block. Returns false once there
/// will be none, or `is_over` holds for the thread's orders.
pub fn wait_for_work<W, T>(
    runtime: &Handle,
    work: &mut watch::Receiver<Option<Arc<Offer<W>>>>,
    orders: &mut watch::Receiver<T>,
    is_over: impl FnMut(&T) -> bool,
) -> bool {
    runtime.block_on(async {
        tokio::select! {
            changed = work.changed() => changed.is_ok(),
            _ = orders.wait_for(is_over) => false,
        }
    })
}

/// Outcome of a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Rejected(Failure),
    /// It was not sent: its job, or the connection of its job, has ended.
    Stale,
    /// It was sent, and the connection failed before the pool's verdict arrived.
    Lost,
}

/// A connection to pools. Dropping it closes it at once, [`Client::drain`] in good order.
#[derive(Debug)]
pub struct Client<S: Session> {
    work: watch::Receiver<Option<Arc<Offer<S::Work>>>>,
    status: watch::Receiver<Status>,
    shares: Shares<S::Share>,
    task: JoinHandle<()>,
}

/// Sender of shares to the pool. Clones send to the same client.
#[derive(Clone, Debug)]
pub struct Shares<T>(mpsc::Sender<Order<T>>);

/// Request to the task of a client.
#[derive(Debug)]
enum Order<T> {
    Submit { connection: u64, share: T, answer: oneshot::Sender<Verdict> },
    Drain { within: Duration },
}

/// Shares that may wait for the connection. An engine that finds more has a difficulty far too low,
/// or a pool that does not read.
const WAITING: usize = 1024;

impl<S: Session> Client<S> {
    /// Connects, and stays connected. Must be called within a runtime.
    pub fn start(config: Config) -> Self {
        let (work, work_seen) = watch::channel(None);
        let (status, status_seen) = watch::channel(Status::default());
        let (shares, orders) = mpsc::channel(WAITING);
        let task = tokio::spawn(Task::<S>::new(config, orders, work, status).run());
        Self { work: work_seen, status: status_seen, shares: Shares(shares), task }
    }

    /// Returns the newest work; none while there is no connection.
    pub fn work(&self) -> watch::Receiver<Option<Arc<Offer<S::Work>>>> {
        self.work.clone()
    }

    /// Returns the client's status.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Returns a sender of shares.
    pub fn shares(&self) -> Shares<S::Share> {
        self.shares.clone()
    }

    /// Sends the shares that are waiting, waits for the pool's verdicts, and disconnects, within this
    /// time. Shares that are submitted later are not sent.
    pub async fn drain(mut self, within: Duration) -> Status {
        if self.shares.0.send(Order::Drain { within }).await.is_ok() {
            // The task ends itself. If it has panicked, there is nothing to wait for either.
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
    /// Sends a share for the work of a connection. The receiver gets its verdict; without one, the
    /// client has ended.
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
