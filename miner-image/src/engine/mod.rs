//! What an engine is to the agent.

mod built_in;
mod program;

use daylight_stratum::client::Status;

use crate::config::Config;
use crate::figures::Figures;
use crate::pool;
use crate::record::Evidence;
pub(crate) use built_in::{BuiltIn, Trouble};
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

impl Config {
    /// Whether anything will be known of the engine but that it runs.
    pub(crate) fn tells(&self) -> bool {
        self.spoken().is_some()
            || self.engine.name.path().is_some()
            || self.engine.figures.is_some()
    }

    /// Who sees what is known of it.
    pub(crate) fn evidence(&self) -> Evidence {
        if self.spoken().is_some() { Evidence::Seen } else { Evidence::Claimed }
    }

    /// The algorithm.
    pub(crate) fn algorithm(&self) -> Option<&str> {
        let told = self.engine.algorithm.as_deref();
        told.or(self.engine.name.built_in().map(crate::config::BuiltInName::algorithm))
    }
}
