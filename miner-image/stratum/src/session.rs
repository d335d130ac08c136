//! The miner's side of a connection, without I/O: lines in, lines out.

use std::time::Duration;

use crate::malformed::Malformed;
use crate::message::Failure;
use crate::v1::Redirect;

/// Credentials at a pool. They are secret: `Debug` does not show them.
#[derive(Clone)]
pub struct Login {
    /// The wallet, or the account with the worker's name.
    pub user: String,
    /// The password; where a pool needs none, `x` is customary.
    pub password: String,
    /// The worker's name, for pools that have a separate field for it.
    pub worker: Option<String>,
    /// The algorithms, for pools that have a field for them. May be empty.
    pub algorithms: Vec<String>,
    /// Texts that a pool may repeat in its words and that must not be read there, each with
    /// what stands for it.
    pub hidden: Vec<(String, &'static str)>,
}

impl Login {
    /// Returns a pool's words without what is hidden.
    fn hide(&self, words: &str) -> String {
        let hidden = self.hidden.iter();
        hidden.fold(words.to_owned(), |words, (text, name)| hide(&words, text, name))
    }
}

/// Length from which a secret is found within longer words, too. A shorter one, such as an account's
/// name, may be part of other words by chance.
const DISTINCT: usize = 16;

/// Returns where a text has a secret: anywhere if it is long, or else as a word of its own.
pub fn places_of<'a>(text: &'a str, secret: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = move |at: usize| {
        let in_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let (before, after) = (&text[..at], &text[at + secret.len()..]);
        !in_word(before.chars().next_back()) && !in_word(after.chars().next())
    };
    let places = text.match_indices(secret).map(|(at, _)| at);
    places.filter(move |at| secret.len() >= DISTINCT || is_word(*at))
}

/// Returns a text with `name` in place of a secret.
pub fn hide(text: &str, secret: &str, name: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut rest = 0;
    for at in places_of(text, secret) {
        hidden.push_str(&text[rest..at]);
        hidden.push_str(name);
        rest = at + secret.len();
    }
    hidden.push_str(&text[rest..]);
    hidden
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(hidden)")
    }
}

/// Program and version, as sent to pools.
pub(crate) const AGENT: &str = concat!("daylight/", env!("CARGO_PKG_VERSION"));

/// Effect of a line that a pool sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Received<W> {
    /// Work that replaces the work before.
    Work {
        work: W,
        /// Whether shares of the work before no longer count.
        clean: bool,
    },
    LoggedIn,
    /// The pool refused the login.
    Refused(Failure),
    /// The pool accepted or rejected a share.
    Judged {
        id: u64,
        verdict: Result<(), Failure>,
    },
    /// A line to send to the pool.
    Send(String),
    /// The pool redirects the connection.
    Moved(Redirect),
    /// Text for people.
    Message(String),
    /// The line cannot be read, and is passed over.
    Unread(Malformed),
}

impl<W> Received<W> {
    /// Takes what a login hides out of the pool's words, before anyone stores them.
    pub(crate) fn hiding(self, login: &Login) -> Self {
        let words = |Failure { code, message }| Failure { code, message: login.hide(&message) };
        match self {
            Self::Refused(failure) => Self::Refused(words(failure)),
            Self::Judged { id, verdict } => Self::Judged { id, verdict: verdict.map_err(words) },
            Self::Message(text) => Self::Message(login.hide(&text)),
            other => other,
        }
    }
}

/// A share to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The number that the pool's verdict repeats.
    pub id: u64,
    pub line: String,
    /// Average number of hashes that such a share takes.
    pub hashes: u64,
}

/// A dialect on one connection. It has no clock and does no I/O.
pub trait Session: Sized + Send + 'static {
    /// Input of an engine.
    type Work: Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static;
    /// Result of an engine.
    type Share: Clone + std::fmt::Debug + Send + Sync + 'static;

    /// Time in which pools of this dialect give a new job. One that has none for longer does not follow
    /// its chain any more, whatever else it sends.
    const JOBS: Duration;

    /// Whether two pieces of work are the same: pools repeat a job, and an engine that gets it
    /// again would start it again.
    fn same(one: &Self::Work, other: &Self::Work) -> bool;

    /// Begins a connection, and returns the lines to send first.
    fn open(login: &Login) -> (Self, Vec<String>);

    /// Interprets a line of the pool. Only the answer to the login may fail: without it there is nothing
    /// to go on with, while any other line that cannot be read concerns itself alone.
    fn receive(&mut self, line: &[u8]) -> Result<Vec<Received<Self::Work>>, Malformed>;

    /// Returns a share as the line to send; none if its job has expired.
    fn submit(&mut self, share: &Self::Share) -> Option<Submission>;

    /// Returns a line that keeps the connection alive, where the dialect has one.
    fn keep_alive(&mut self) -> Option<String>;
}
