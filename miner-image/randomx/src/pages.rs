//! Memory pages in use.

use std::fmt;

/// Pages of the cache or the dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Normal ones, as configured.
    Normal,
    Huge,
    /// Normal ones, although huge ones were configured.
    NormalInstead(NoHugePages),
}

/// Reason why no huge pages are used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHugePages {
    /// The container's limit is too low.
    #[error(
        "{needed} MiB of huge pages are needed and the container's limit is {limit} MiB: raise its hugepages-2Mi"
    )]
    Limit {
        /// In MiB.
        needed: u64,
        /// In MiB.
        limit: u64,
    },
    /// The node has not enough of them free.
    #[error(
        "{needed} MiB of huge pages are needed and the node has fewer free: reserve more there (vm.nr_hugepages)"
    )]
    Free {
        /// In MiB.
        needed: u64,
    },
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal pages"),
            Self::Huge => f.write_str("huge pages"),
            Self::NormalInstead(why) => write!(f, "normal pages instead of huge ones, since {why}"),
        }
    }
}
