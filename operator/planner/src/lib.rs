//! The decision: which GPUs go to AI jobs, which to miners, and why.
//!
//! [`Planner`] is a pure value. It is told of changes with [`Planner::apply`]
//! and asked with [`Planner::plan`]; it has no clock, does no I/O and knows
//! nothing of Kubernetes. What it keeps between calls is a cache only: after
//! any sequence of changes it equals one built from the whole snapshot.

pub mod explain;
pub mod model;
mod plan;
mod reason;
mod state;
pub mod time;

use explain::Plan;
use model::{Delta, Snapshot};
use state::State;
use time::Timestamp;

/// The planner: see the crate documentation.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    state: State,
}

impl Planner {
    /// A planner of a whole site.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { state: State::new(snapshot) }
    }

    /// Takes one change in.
    pub fn apply(&mut self, delta: Delta) {
        self.state.apply(delta);
    }

    /// What to do at `now`, and why.
    ///
    /// The planner changes only when it is told that the actions took effect.
    pub fn plan(&mut self, now: Timestamp) -> Plan {
        plan::Run::new(&mut self.state, now).plan()
    }
}
