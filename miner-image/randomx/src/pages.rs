//! Which memory pages are in use.

use std::fmt;

/// The pages that the cache or the dataset is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Normal ones, as was asked for.
    Normal,
    Huge,
    /// Normal ones, though huge ones were asked for.
    NormalInstead(NoHugePages),
}

/// Why there are no huge pages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHugePages {
    /// The container may not have as many.
    #[error(
        "the container may have {limit} MiB of huge pages and {needed} MiB are needed: give it more hugepages-2Mi"
    )]
    Limit {
        /// In MiB.
        needed: u64,
        /// In MiB.
        limit: u64,
    },
    /// The system has not as many to give.
    #[error(
        "the system has not {needed} MiB of huge pages free: have the node set aside more (vm.nr_hugepages)"
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
