//! What an engine is to the agent.

mod built_in;
mod program;

use daylight_stratum::client::Status;

use crate::figures::Figures;
use crate::pool;
pub(crate) use built_in::{BuiltIn, BuiltInName, Trouble};
pub(crate) use program::Program;

/// A run of an engine.
pub(crate) enum Engine {
    Program(Program),
    /// Part of the agent.
    BuiltIn(BuiltIn),
}

impl Engine {
    /// What is known of it now; and, where it was to tell something and did not, why.
    pub(crate) async fn figures(&self) -> (Option<Figures>, Option<String>) {
        match self {
            Self::Program(program) => program.figures().await,
            Self::BuiltIn(built_in) => (Some(built_in.figures()), None),
        }
    }

    /// Why it is of no use to go on, as far as the agent saw.
    pub(crate) fn refusal(&self) -> Option<String> {
        pool::refusal(&self.pools()?)
    }

    fn pools(&self) -> Option<Status> {
        match self {
            Self::Program(program) => program.pools(),
            Self::BuiltIn(built_in) => Some(built_in.pools()),
        }
    }
}
