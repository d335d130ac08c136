//! Errors that end the engine.

use crate::Mode;

/// Reason why the engine cannot hash at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The container's limit is too low: the kernel would kill it.
    #[error(
        "RandomX in {mode} mode needs {needed} MiB of memory, and the container's limit is {limit} MiB: {}",
        remedy(*mode)
    )]
    Limit {
        mode: Mode,
        /// In MiB.
        needed: u64,
        /// In MiB.
        limit: u64,
    },
    /// The system has not enough memory.
    #[error(
        "the system has no memory for the {part} of RandomX in {mode} mode, which needs {needed} MiB in all: {}",
        remedy(*mode)
    )]
    Memory {
        mode: Mode,
        /// `cache`, `dataset` or `threads`.
        part: &'static str,
        /// In MiB, all parts together.
        needed: u64,
    },
    /// The system starts no more threads.
    #[error("the system refuses a thread to hash with ({0}): raise the pod's limit of processes")]
    Thread(String),
}

impl Error {
    pub(crate) fn thread(error: &std::io::Error) -> Self {
        Self::Thread(error.to_string())
    }
}

fn remedy(mode: Mode) -> &'static str {
    match mode {
        Mode::Light => "raise its memory limit",
        Mode::Fast => "raise its memory limit, or use light mode",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_sentence_with_the_remedy() {
        assert_eq!(
            Error::Limit { mode: Mode::Fast, needed: 2340, limit: 512 }.to_string(),
            "RandomX in fast mode needs 2340 MiB of memory, and the container's limit is 512 MiB: \
             raise its memory limit, or use light mode"
        );
        assert_eq!(
            Error::Memory { mode: Mode::Light, part: "cache", needed: 258 }.to_string(),
            "the system has no memory for the cache of RandomX in light mode, which needs 258 MiB \
             in all: raise its memory limit"
        );
    }
}
