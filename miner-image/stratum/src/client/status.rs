//! State of a client, and the pools' verdicts.

use std::time::Duration;

use crate::{Failure, Malformed};

/// State of a client, with the pools' verdicts so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub state: State,
    /// Shares that a pool accepted.
    pub accepted: u64,
    /// Shares that a pool rejected.
    pub rejected: u64,
    /// Shares whose job or connection had expired: the pool said so, or they were not sent.
    pub stale: u64,
    /// Shares that were sent and never answered.
    pub lost: u64,
    /// Hashes that shares like the accepted ones take on average.
    pub accepted_hashes: u64,
    pub logins: u64,
    /// Logins at another pool than the one before.
    pub failovers: u64,
    /// Redirects to hosts that are not declared.
    pub refused_redirects: u64,
    /// Lines of pools that could not be read and were passed over.
    pub unread_lines: u64,
    /// Time from the last request to its reply.
    pub latency: Option<Duration>,
    /// The last fault.
    pub fault: Option<Fault>,
    /// By pool, in their order: the faults that still stand.
    pub faults: Vec<Fault>,
    /// Why it is useless to continue: every pool refuses the login.
    pub refusal: Option<Fault>,
    /// Why a pool last rejected a share, or called it stale.
    pub rejection: Option<Failure>,
    /// The pool's last message to people.
    pub message: Option<String>,
}

impl Status {
    /// Adds another client's: counters add up, the better state counts, and of texts the other's. What
    /// the clients know together, `faults` and `refusal`, is left as it is.
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
        self.unread_lines += other.unread_lines;
        self.latency = other.latency.or(self.latency);
        self.fault = other.fault.clone().or(self.fault.take());
        self.rejection = other.rejection.clone().or(self.rejection.take());
        self.message = other.message.clone().or(self.message.take());
    }
}

/// State of a client's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No connection: none yet, or it has failed.
    #[default]
    Connecting,
    /// All pools failed; the next attempt follows after a pause.
    Waiting,
    /// The worker is logged in.
    LoggedIn {
        /// Index of the declared pool, from 0.
        pool: usize,
    },
    /// The client has ended in good order.
    Drained,
}

/// Fault of a pool or of the connection to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("pool {pool} cannot be reached: {why}")]
    Unreachable { pool: String, why: String },
    #[error("pool {pool} refused the login: {failure}")]
    Refused { pool: String, failure: Failure },
    /// The pool's answer to the login cannot be read, or nothing that it sends.
    #[error("pool {pool} broke the protocol: {error}")]
    Malformed { pool: String, error: Malformed },
    /// The pool sent a line that cannot be read; the connection continues.
    #[error("a line of pool {pool} was passed over: {error}")]
    Unread { pool: String, error: Malformed },
    #[error("the connection to pool {pool} ended: {why}")]
    Lost { pool: String, why: String },
    /// The pool accepted the login, and then gave no job, or no new one for too long.
    #[error("pool {pool} gives no work")]
    NoWork { pool: String },
    /// The pool rejects shares as if no miner had logged in, or rejects every share.
    #[error("pool {pool} takes no more shares: {failure}")]
    Forgotten { pool: String, failure: Failure },
    /// The pool sent the miner to another declared address, before it was of use.
    #[error("pool {pool} redirects to {to}")]
    Moved { pool: String, to: String },
    /// The pool redirected the connection to a host that is not declared.
    #[error(
        "pool {pool} redirects to {to}, which is not a declared pool: declare it if you trust it"
    )]
    Redirected { pool: String, to: String },
}
