//! What can go wrong for good.

use crate::Mode;

/// Why there is no hashing, and will be none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More memory is needed than the container may have: the kernel would kill it.
    #[error(
        "RandomX in {mode} mode needs {needed} MiB of memory and the container's limit is {limit} MiB: {}",
        remedy(*mode)
    )]
    Limit {
        mode: Mode,
        /// In MiB.
        needed: u64,
        /// In MiB.
        limit: u64,
    },
    /// The system does not give the memory.
    #[error(
        "RandomX in {mode} mode got no memory from the system for its {part}, and needs {needed} MiB in all: {}",
        remedy(*mode)
    )]
    Memory {
        mode: Mode,
        /// What it was for.
        part: &'static str,
        /// In MiB, all parts together.
        needed: u64,
    },
    /// The system does not give a thread.
    #[error("the system started no thread to hash with: {0}: allow more processes")]
    Thread(String),
}

impl Error {
    pub(crate) fn thread(error: &std::io::Error) -> Self {
        Self::Thread(error.to_string())
    }
}

fn remedy(mode: Mode) -> &'static str {
    match mode {
        Mode::Light => "give it more",
        Mode::Fast => "give it more, or use light mode",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_sentence_with_the_remedy() {
        assert_eq!(
            Error::Limit { mode: Mode::Fast, needed: 2340, limit: 512 }.to_string(),
            "RandomX in fast mode needs 2340 MiB of memory and the container's limit is 512 MiB: \
             give it more, or use light mode"
        );
        assert_eq!(
            Error::Memory { mode: Mode::Light, part: "cache", needed: 258 }.to_string(),
            "RandomX in light mode got no memory from the system for its cache, and needs 258 MiB \
             in all: give it more"
        );
    }
}
