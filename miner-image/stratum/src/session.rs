//! One connection's side of the talk with a pool, without the connection: lines in, lines out.

use crate::malformed::Malformed;
use crate::message::Failure;
use crate::v1::Redirect;

/// Who logs in at a pool. What it holds is secret and is never shown.
#[derive(Clone)]
pub struct Login {
    /// The wallet, or the account with the worker's name.
    pub user: String,
    /// The password; many pools want none, and `x` does.
    pub password: String,
    /// The worker's name, for pools that have a field of its own for it.
    pub worker: Option<String>,
    /// The algorithms, for pools that have a field for it. May be empty.
    pub algorithms: Vec<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(hidden)")
    }
}

/// The program and version that pools are told.
pub(crate) const AGENT: &str = concat!("daylight/", env!("CARGO_PKG_VERSION"));

/// What came of a line that a pool sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard<W> {
    /// Something to work on, instead of what was before.
    Work {
        work: W,
        /// Whether shares of the work before are worth nothing any more.
        clean: bool,
    },
    /// The pool let the worker in.
    LoggedIn,
    /// The pool did not.
    Refused(Failure),
    /// The pool took a share, or did not.
    Judged { id: u64, verdict: Result<(), Failure> },
    /// A line to send.
    Say(String),
    /// The pool wants the connection to go elsewhere.
    Moved(Redirect),
    /// Words for a human.
    Message(String),
}

/// A share to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The number under which the pool will judge it.
    pub id: u64,
    pub line: String,
    /// How many hashes such a share takes on average.
    pub hashes: u64,
}

/// A dialect: what is said on one connection. It knows no clock and does no I/O.
pub trait Session: Sized + Send + 'static {
    /// What to hash.
    type Work: Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static;
    /// What was found.
    type Share: Clone + std::fmt::Debug + Send + Sync + 'static;

    /// A new connection, and the lines to begin with.
    fn open(login: &Login) -> (Self, Vec<String>);

    /// Takes a line of the pool.
    fn receive(&mut self, line: &[u8]) -> Result<Vec<Heard<Self::Work>>, Malformed>;

    /// A share as the line to send; none where its job is worth nothing any more.
    fn submit(&mut self, share: &Self::Share) -> Option<Submission>;

    /// A line that shows the pool that somebody is there, where the dialect has one.
    fn keep_alive(&mut self) -> Option<String>;
}
