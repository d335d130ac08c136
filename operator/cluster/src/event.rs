//! Observations of a watch.

use std::time::Instant;

/// One observation of the watch of one kind.
///
/// A watch begins with a list (`Listing`, `Item`s, `Listed`) and continues with `Applied`,
/// `Deleted` and `Progress`. It lists again if the resource version at which it was interrupted has
/// expired; an object that is not in the new list is gone. A list that is interrupted begins again
/// with `Listing`.
#[derive(Clone, Debug)]
pub enum Change<T> {
    /// A list begins.
    Listing,
    /// An object of the list.
    Item(Box<T>),
    /// The list is complete.
    Listed {
        /// Resource version of the list.
        version: u64,
        /// The last request for a fresh list that was known when the list began.
        round: Round,
    },
    /// An object was added or changed.
    Applied(Box<T>),
    /// An object was deleted; this is its last state.
    Deleted(Box<T>),
    /// Every change up to this resource version has been reported.
    Progress(u64),
    /// Every change before this moment has been reported.
    Current(Instant),
    /// The watch does not work, and is opened again. It works again with the next `Current` or
    /// `Listed`: until then, changes may be missing.
    Failed(WatchFailure),
}

/// Cause for which a watch does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchFailure {
    /// The server does not know the kind: its `CustomResourceDefinition` is not installed.
    Missing,
    /// The service account may not list or watch the kind.
    Forbidden,
    /// The server did not answer, or did not end the watch, in time.
    Silent,
    /// Anything else, such as a lost connection.
    Other(String),
}

/// Number of requests for fresh lists so far; see `Watches::relist`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Round(pub u64);

impl<T> Change<T> {
    /// Edits the object in this change, if there is one.
    pub fn edit(&mut self, edit: impl FnOnce(&mut T)) {
        match self {
            Self::Item(object) | Self::Applied(object) | Self::Deleted(object) => edit(object),
            _ => {}
        }
    }
}
