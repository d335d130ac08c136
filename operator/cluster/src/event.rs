//! What one watch observes.

/// One thing that the watch of one kind saw.
///
/// A watch begins with a list, `Listing`, `Item`s and `Listed`, and goes on with
/// `Applied`, `Deleted` and `Progress`. It lists again where the server has
/// forgotten the place it stopped at; what the new list does not hold is gone.
#[derive(Clone, Debug)]
pub enum Change<T> {
    Listing,
    /// An object of the list.
    Item(Box<T>),
    /// The list is complete.
    Listed {
        /// The resource version that it shows.
        version: u64,
        /// The last request for a fresh list that was known when it began.
        round: Round,
    },
    /// An object was added or changed.
    Applied(Box<T>),
    /// An object was deleted; its last state.
    Deleted(Box<T>),
    /// Everything up to this resource version has been told.
    Progress(u64),
    /// The watch does not work, and is tried again.
    Failed(WatchFailure),
    /// The watch works again, where no list is needed.
    Resumed,
}

/// Why a watch does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchFailure {
    /// The server does not know the kind: its `CustomResourceDefinition` is not installed.
    Missing,
    /// The service account may not list or watch the kind.
    Forbidden,
    /// Anything else, such as a lost connection.
    Other(String),
}

/// Counts requests for fresh lists; see `Watches::relist`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Round(pub u64);

impl<T> Change<T> {
    /// Edits the object in it, if there is one.
    pub fn edit(&mut self, edit: impl FnOnce(&mut T)) {
        match self {
            Self::Item(object) | Self::Applied(object) | Self::Deleted(object) => edit(object),
            _ => {}
        }
    }
}
