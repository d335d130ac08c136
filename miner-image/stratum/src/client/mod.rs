//! A miner's lasting connection to its pools.
//!
//! [`Client`] logs in at the first pool that lets it in, in the order in which they are declared,
//! offers the newest work, sends shares, and counts the pool's verdicts. When a connection fails it
//! continues with the next pool, and returns to the first once that is back.

mod connection;
mod judgement;
mod route;
mod status;
mod task;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::lines::LINE_TIME;
use crate::{Endpoint, Failure, Login, Session};
use judgement::judge;
pub(crate) use route::Route;
pub use status::{Fault, State, Status};
use task::Task;
pub(crate) use task::until;

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
    /// Limit for the first job after the login.
    pub first_job: Duration,
    /// Limit for the time without a new job; if there is none, [`Session::JOBS`].
    pub jobs: Option<Duration>,
    /// Limit for a pool's verdict on a share.
    pub reply: Duration,
    /// Duration of a session with an accepted share after which its end is no reason for a pause.
    pub lasting: Duration,
    /// Pause before all pools are tried again; it doubles each time.
    pub first_backoff: Duration,
    /// Longest such pause.
    pub longest_backoff: Duration,
    /// Pause between attempts to return to the first pool; it doubles with each return that fails.
    pub return_to_first: Duration,
    /// Pause between two keep-alive messages, where the dialect has one.
    pub keep_alive: Duration,
    /// Time for which an engine behind the proxy may hash an old job while there is no pool; then it
    /// is disconnected, so that it stops.
    pub engine_patience: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            login: Duration::from_secs(15),
            line: LINE_TIME,
            first_job: Duration::from_secs(30),
            jobs: None,
            reply: Duration::from_secs(30),
            lasting: Duration::from_mins(1),
            first_backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_mins(1),
            return_to_first: Duration::from_mins(5),
            keep_alive: Duration::from_mins(1),
            engine_patience: Duration::from_mins(2),
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
pub struct Shares<T> {
    orders: mpsc::Sender<Order<T>>,
    status: watch::Sender<Status>,
}

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
        let route = Arc::new(Route::new(config.pools.len()));
        Self::start_on(route, config)
    }

    /// Connects by a route that several clients share.
    pub(crate) fn start_on(route: Arc<Route>, config: Config) -> Self {
        let (work, work_seen) = watch::channel(None);
        let (status, status_seen) = watch::channel(Status::default());
        let (orders, taken) = mpsc::channel(WAITING);
        let shares = Shares { orders, status: status.clone() };
        let task = tokio::spawn(Task::<S>::new(config, route, taken, work, status).run());
        Self { work: work_seen, status: status_seen, shares, task }
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
        let ended = async {
            if self.shares.orders.send(Order::Drain { within }).await.is_ok() {
                // If the task has panicked, there is nothing to wait for either.
                let _ = (&mut self.task).await;
            }
        };
        // A pool that does not read keeps the task from taking the order.
        if timeout(within, ended).await.is_err() {
            self.task.abort();
            let _ = (&mut self.task).await;
            self.shares.status.send_modify(|status| status.state = State::Drained);
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
            self.orders.try_send(Order::Submit { connection, share, answer })
        {
            judge(&self.status, answer, Verdict::Stale, 0);
        }
        verdict
    }
}
