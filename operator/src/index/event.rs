//! What the watches tell the index.

use std::fmt;

use daylight_crds::{ActivityClass, AiJob, GpuPool, Miner, Registration};

use super::slim::{BatchJob, ConfigMap, Custom, Namespace, Node, Pod};

/// The kinds of objects that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Pod,
    Node,
    Namespace,
    BatchJob,
    GpuPool,
    ActivityClass,
    Registration,
    Miner,
    AiJob,
    EmergencyStop,
    RegistrationMirror,
    ClassMirror,
    AuthorityKeys,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Pod,
        Self::Node,
        Self::Namespace,
        Self::BatchJob,
        Self::GpuPool,
        Self::ActivityClass,
        Self::Registration,
        Self::Miner,
        Self::AiJob,
        Self::EmergencyStop,
        Self::RegistrationMirror,
        Self::ClassMirror,
        Self::AuthorityKeys,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "Pod",
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::BatchJob => "Job",
            Self::GpuPool => "GpuPool",
            Self::ActivityClass => "ActivityClass",
            Self::Registration => "Registration",
            Self::Miner => "Miner",
            Self::AiJob => "AIJob",
            Self::EmergencyStop => "ConfigMap of the emergency stop",
            Self::RegistrationMirror => "ConfigMap of registrations",
            Self::ClassMirror => "ConfigMap of classes",
            Self::AuthorityKeys => "ConfigMap of the authority's keys",
        })
    }
}

/// One thing that a watch saw.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Event {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Namespace(Change<Namespace>),
    BatchJob(Change<BatchJob>),
    GpuPool(Change<Custom<GpuPool>>),
    ActivityClass(Change<Custom<ActivityClass>>),
    Registration(Change<Custom<Registration>>),
    Miner(Change<Custom<Miner>>),
    AiJob(Change<Custom<AiJob>>),
    EmergencyStop(Change<ConfigMap>),
    RegistrationMirror(Change<ConfigMap>),
    ClassMirror(Change<ConfigMap>),
    AuthorityKeys(Change<ConfigMap>),
}

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
    Failed(Trouble),
    /// The watch works again, where no list is needed.
    Resumed,
}

/// Why a watch does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
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
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut T)) {
        match self {
            Self::Item(object) | Self::Applied(object) | Self::Deleted(object) => edit(object),
            _ => {}
        }
    }
}
