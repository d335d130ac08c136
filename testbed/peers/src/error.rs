use std::process::ExitStatus;
use std::time::Duration;

use daylight_stratum::Failure;

/// Error of a node or a bridge.
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
    /// A node's program cannot be built, or there is no place for its files.
    #[error(transparent)]
    Testbed(#[from] daylight_testbed::Error),
    /// An operation of the system failed.
    #[error("{doing} failed: {source}")]
    Io { doing: String, source: std::io::Error },
    /// A node ended unexpectedly.
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
        after: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// A node cannot be reached.
    #[error("{node} cannot be reached for {method}: {why}")]
    Unreachable { node: &'static str, method: String, why: String },
    /// A node refused a request.
    #[error("{node} refused {method}: {message} (code {code})")]
    Refused { node: &'static str, method: String, code: i64, message: String },
    /// A node's answer differs from its documentation.
    #[error("{node}'s answer to {method} cannot be read: {why}")]
    Unreadable { node: &'static str, method: String, why: String },
}

/// Result of nodes and bridges.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The answer to a miner whose share the node should have judged.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Self::OTHER, error.to_string())
    }
}

impl Error {
    /// Returns whether a node cannot run here because a program is not installed.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Testbed(error) => error.is_missing_go(),
            _ => false,
        }
    }

    /// For `map_err`: a failed operation of the system.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing: doing.into(), source }
    }
}
