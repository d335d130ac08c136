//! The decision: which GPUs go to AI jobs, which to miners, and why.
//!
//! [`Planner`] is a pure value: it has no clock, does no I/O and knows nothing of Kubernetes. The
//! caller passes in changes as [`model::Delta`]s and the time as an argument, and gets a
//! [`explain::Plan`] of actions and explanations. The planner's state is only a cache: after any
//! sequence of deltas it equals that of a planner built from the whole snapshot.

pub mod explain;
mod margins;
pub mod model;
mod plan;
mod reason;
mod state;
pub mod windows;

pub use plan::SHRUNK_TOLERANCE;

use daylight_base::Timestamp;
use explain::Plan;
pub use margins::Margins;
use model::{Delta, Snapshot};
use state::State;

/// Decides which GPUs go to whom.
///
/// The methods are called in this order:
///
/// 1. [`new`](Self::new) with the whole site, or `default` and then only deltas;
/// 2. [`apply`](Self::apply) for every change of the site, in the order in which the changes happened.
///    It only records; many deltas may precede one plan;
/// 3. [`plan`](Self::plan) with the current time. The plan is a proposal: the planner assumes nothing
///    of it to have happened;
/// 4. [`apply`](Self::apply) for each action of the plan that took effect, as the delta that it caused:
///    a grant as a pod, an eviction as a pod that is `deleting`, a reservation, release or suspension
///    as the job in its new state. Actions that failed are simply not applied, and planned again;
/// 5. [`plan`](Self::plan) again after the next change, and at [`Plan::wake_at`] at the latest: by then
///    the passing of time alone may change the plan.
///
/// Planning again without a change and before `wake_at` gives the same plan; once all its actions are
/// applied, planning again gives no more actions.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    state: State,
    margins: Margins,
}

impl Planner {
    /// Creates a planner for a whole site.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { state: State::new(snapshot), margins: Margins::default() }
    }

    /// Sets the margins around energy limits.
    #[must_use]
    pub fn with_margins(mut self, margins: Margins) -> Self {
        self.margins = margins;
        self
    }

    /// Records one change of the site.
    pub fn apply(&mut self, delta: Delta) {
        self.state.apply(delta);
    }

    /// Decides what to do at `now`, and why.
    pub fn plan(&mut self, now: Timestamp) -> Plan {
        plan::Run::new(&mut self.state, self.margins, now).plan()
    }
}
