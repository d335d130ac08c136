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
pub mod windows;

use std::time::Duration;

use daylight_base::Timestamp;
use explain::Plan;
use model::{Delta, Snapshot};
use state::State;

/// The planner: see the crate documentation.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    state: State,
    margins: Margins,
}

/// How far ahead energy limits are looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margins {
    /// A meter's reading older than this does not let more miners start.
    pub meter_stale: Duration,
    /// A miner is granted only if the energy left lets all run so long.
    pub energy_ahead: Duration,
}

impl Default for Margins {
    fn default() -> Self {
        Self { meter_stale: Duration::from_mins(5), energy_ahead: Duration::from_mins(10) }
    }
}

impl Planner {
    /// A planner of a whole site.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { state: State::new(snapshot), margins: Margins::default() }
    }

    /// The same with other margins.
    #[must_use]
    pub fn with_margins(mut self, margins: Margins) -> Self {
        self.margins = margins;
        self
    }

    /// Takes one change in.
    pub fn apply(&mut self, delta: Delta) {
        self.state.apply(delta);
    }

    /// What to do at `now`, and why.
    ///
    /// The planner changes only when it is told that the actions took effect.
    pub fn plan(&mut self, now: Timestamp) -> Plan {
        plan::Run::new(&mut self.state, self.margins, now).plan()
    }
}
