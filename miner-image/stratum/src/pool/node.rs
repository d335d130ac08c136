//! The interface between a pool and the chain that it mines.

use std::ops::RangeInclusive;

use tokio::sync::broadcast;

use crate::v1::Redirect;
use crate::{Difficulty, Failure, monero, v1};

/// Work of a pool, whatever the dialect: its logins, its announcements and its records.
pub trait Node: Send + Sync + 'static {
    /// Orders to all connections from now on.
    fn orders(&self) -> broadcast::Receiver<Order>;

    /// Whether a worker of this name may log in.
    fn admits(&self, _user: &str) -> bool {
        true
    }

    /// Records an event of a connection, before the miner gets the answer. A worker's events have its
    /// user.
    fn record(&self, user: Option<&str>, event: Event);
}

/// A source of jobs for Stratum v1, with SHA-256d as the proof of work.
pub trait V1Node: Node {
    /// The newest job; none while there is no work.
    fn newest(&self) -> Option<V1Job>;

    /// The job of this number; none if shares for it no longer count.
    fn job(&self, number: u64) -> Option<V1Job>;

    /// Takes a share that reaches the pool's difficulty. Where it is a block, this submits it to the
    /// network, and fails unless it becomes the newest block of the chain.
    fn accept(&self, share: V1Share<'_>) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A source of jobs for Monero's dialect.
pub trait MoneroNode: Node {
    /// Makes a job for the connection of this number, unlike that of every other connection.
    fn new_job(&self, miner: u32) -> impl Future<Output = Result<monero::Job, Failure>> + Send;

    /// The job of this number; none if it is another connection's, or shares for it no longer count.
    fn job(&self, miner: u32, number: u64) -> Option<monero::Job>;

    /// Whether there is no work until further notice: [`Order::Renew`].
    fn is_away(&self) -> bool;

    /// Computes the proof of work of a job's blob with a nonce in it.
    fn hash(
        &self,
        number: u64,
        blob: &[u8],
    ) -> impl Future<Output = Result<[u8; 32], Failure>> + Send;

    /// Takes a share that reaches the pool's difficulty and whose hash is right. Where it is a block,
    /// this submits it to the network, and fails unless it becomes the newest block of the chain.
    fn accept(
        &self,
        user: &str,
        number: u64,
        share: &monero::Submit,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A job of Stratum v1, with the rules for its shares.
#[derive(Clone, Debug)]
pub struct V1Job {
    pub number: u64,
    /// `id` and `clean` are the pool's to fill in.
    pub job: v1::Job,
    pub difficulty: Difficulty,
    /// The times that a header may have.
    pub times: RangeInclusive<u32>,
}

/// A share of Stratum v1, verified.
#[derive(Clone, Copy, Debug)]
pub struct V1Share<'a> {
    pub user: &'a str,
    /// Number of its job.
    pub number: u64,
    pub header: &'a [u8; 80],
    pub hash: &'a [u8; 32],
    /// The pool's part of the coinbase, then the miner's.
    pub extranonces: &'a [u8],
}

/// An order to all connections of a pool.
#[derive(Clone, Debug)]
pub enum Order {
    /// Send the newest job.
    Renew,
    Redirect(Redirect),
    Disconnect,
}

/// An event at a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Connected,
    /// A successful login, with its user.
    LoggedIn(String),
    /// A share that reached the target, for the job of this number.
    Accepted {
        job: u64,
    },
    /// A share that was rejected, with the code.
    Rejected(i64),
    /// The other side closed the connection, in good order or not.
    Left,
}

/// The event of a verdict.
pub(super) fn judged(verdict: &Result<u64, Failure>) -> Event {
    match verdict {
        Ok(job) => Event::Accepted { job: *job },
        Err(failure) => Event::Rejected(failure.code),
    }
}
