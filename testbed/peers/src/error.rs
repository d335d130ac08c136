use std::process::ExitStatus;
use std::time::Duration;

use daylight_stratum::Failure;

/// What can go wrong with a node or a bridge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A node's program is not installed.
    #[error("there is no `{program}` on the PATH: install it (Debian's package {package})")]
    Missing {
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A node's program could not be built, or there is no place for its files.
    #[error(transparent)]
    Testbed(#[from] daylight_testbed::Error),
    /// The operating system refused something.
    #[error("{doing} failed: {source}")]
    Io {
        /// What was being done.
        doing: String,
        source: std::io::Error,
    },
    /// A node ended while it was needed.
    #[error("{node} ended ({status}); the end of its log:\n{log}")]
    Ended {
        node: &'static str,
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// A node did not answer in time.
    #[error("{node} was not ready after {} s; the end of its log:\n{log}", after.as_secs())]
    NotReady {
        node: &'static str,
        /// How long it was given.
        after: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// A node cannot be reached.
    #[error("{node} cannot be reached for {method}: {why}")]
    Unreachable {
        node: &'static str,
        /// What it was to be asked.
        method: String,
        why: String,
    },
    /// A node refused a request.
    #[error("{node} refused {method}: {message} (code {code})")]
    Refused {
        node: &'static str,
        /// What it was asked.
        method: String,
        /// The number of its refusal.
        code: i64,
        message: String,
    },
    /// A node's answer is not what its documentation says.
    #[error("{node} answered {method} with what cannot be read: {why}")]
    Unreadable {
        node: &'static str,
        /// What it was asked.
        method: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The result of what nodes and bridges do.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A node's failure is, to the miner whose share it was to judge, the pool's.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Self::OTHER, error.to_string())
    }
}

impl Error {
    /// Whether a node cannot run here since a program is not installed.
    pub fn is_missing(&self) -> bool {
        use daylight_testbed::Error::{GoMissing, GoTooOld};
        matches!(self, Self::Missing { .. } | Self::Testbed(GoMissing { .. } | GoTooOld { .. }))
    }

    /// For `map_err`: a refusal of the operating system, with what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing: doing.into(), source }
    }
}
