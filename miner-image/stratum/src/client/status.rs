//! How it stands with the pools.

use std::time::Duration;

use crate::{Failure, Malformed};

/// How it stands with the pools, and what they said so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Whether there is a connection.
    pub state: State,
    /// Shares that a pool took.
    pub accepted: u64,
    /// Shares that a pool did not take.
    pub rejected: u64,
    /// Shares that were not sent, since their job or connection was gone.
    pub stale: u64,
    /// Shares that were sent, and of which no word came.
    pub lost: u64,
    /// Hashes that the accepted shares took on average.
    pub accepted_hashes: u64,
    pub logins: u64,
    /// Times that another pool than before took the work.
    pub failovers: u64,
    /// Redirects to hosts that are not declared.
    pub refused_redirects: u64,
    /// From a request to its reply, the last time.
    pub latency: Option<Duration>,
    /// What went wrong last.
    pub fault: Option<Fault>,
    /// What the pool last said to humans.
    pub message: Option<String>,
}

impl Status {
    /// Adds up with another client's: the state is the better one, the rest what is newer.
    pub(crate) fn add(&mut self, other: &Self) {
        if let State::LoggedIn { .. } = other.state {
            self.state = other.state;
        }
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.stale += other.stale;
        self.lost += other.lost;
        self.accepted_hashes = self.accepted_hashes.saturating_add(other.accepted_hashes);
        self.logins += other.logins;
        self.failovers += other.failovers;
        self.refused_redirects += other.refused_redirects;
        self.latency = other.latency.or(self.latency);
        self.fault = other.fault.clone().or(self.fault.take());
        self.message = other.message.clone().or(self.message.take());
    }
}

/// Whether there is a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not yet, or not any more.
    #[default]
    Connecting,
    /// All pools failed: the next try comes a while later.
    Waiting,
    /// The worker is logged in.
    LoggedIn {
        /// At which of the declared pools, from 0.
        pool: usize,
    },
    /// It has ended in good order.
    Drained,
}

/// What went wrong with a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("pool {pool} cannot be reached: {why}")]
    Unreachable { pool: String, why: String },
    /// It did not let the worker in.
    #[error("pool {pool} refused the login: {failure}")]
    Refused { pool: String, failure: Failure },
    /// It said something that is no message.
    #[error("pool {pool} broke the protocol: {error}")]
    Malformed {
        pool: String,
        /// What was wrong with it.
        error: Malformed,
    },
    #[error("the connection to pool {pool} ended: {why}")]
    Lost { pool: String, why: String },
    /// It wanted the connection to go to a host that is not declared.
    #[error(
        "pool {pool} wanted to send us to {to}, which is no declared pool: declare it if it is right"
    )]
    Redirected { pool: String, to: String },
}
