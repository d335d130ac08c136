//! Observations for metrics and Events: occurrences in the cluster, in addition to its state.

use std::time::Duration;

use daylight_base::Name;
use daylight_cluster::slim::{Phase, PodFailure};

/// An occurrence in the cluster, for metrics and Events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A pod that is not a miner's, and requests a pool's resource, was bound.
    AiPodBound {
        pod: Name,
        /// The class that it declares.
        class: Option<Name>,
        /// The pool of its node.
        pool: Option<Name>,
        /// Time from its creation to its binding, as Daylight saw it.
        waited: Duration,
    },
    /// A miner's pod ended.
    MinerEnded {
        pod: Name,
        /// The pool it was granted in.
        pool: Name,
        phase: Phase,
        miner: Name,
        /// `true` if it failed by itself, and was not ended by Daylight, a user or the node's
        /// shutdown.
        failed: bool,
        /// The cause, where it is known.
        failure: Option<Box<PodFailure>>,
        /// Time that it ran, where it is known.
        ran: Option<Duration>,
        /// Time from when its deletion was seen to its end, if it was deleted.
        drained_for: Option<Duration>,
    },
    /// The container of a miner's pod cannot be started.
    MinerStuck { miner: Name, failure: Box<PodFailure> },
    /// A miner's pod became ready.
    MinerReady { miner: Name },
    /// An `AIJob` was deleted. It may be reported more than once.
    AiJobGone { job: Name },
}
