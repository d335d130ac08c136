//! The decision: which GPUs go to AI jobs, which to miners, and why.
//!
//! [`Planner`] is a pure value. It is told of changes with [`Planner::apply`]
//! and asked with [`Planner::plan`]; it has no clock, does no I/O and knows
//! nothing of Kubernetes. What it keeps between calls is a cache only: after
//! any sequence of changes it equals one built from the whole snapshot.

pub mod explain;
pub mod model;
pub mod time;

use explain::Plan;
use model::{Delta, Snapshot};
use time::Timestamp;

/// The planner: see the crate documentation.
#[derive(Clone, Debug, Default)]
pub struct Planner {}

impl Planner {
    /// A planner of a whole site.
    pub fn new(_snapshot: Snapshot) -> Self {
        Self {}
    }

    /// Takes one change in.
    pub fn apply(&mut self, _delta: Delta) {}

    /// What to do at `now`, and why.
    pub fn plan(&mut self, _now: Timestamp) -> Plan {
        Plan::default()
    }
}
