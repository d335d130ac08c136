//! A run of an engine: a program of its own, or a part of the agent.

mod built_in;
mod program;

use crate::figures::Figures;
pub(crate) use built_in::{BuiltIn, BuiltInName, EngineFailure};
pub(crate) use program::{Program, Unreadable};

/// An engine that is running.
pub(crate) enum Engine {
    Program(Program),
    BuiltIn(BuiltIn),
}

impl Engine {
    /// Reads its figures; if they should be there and are not, returns why.
    pub(crate) async fn figures(&self) -> (Option<Figures>, Option<Unreadable>) {
        match self {
            Self::Program(program) => program.figures().await,
            Self::BuiltIn(built_in) => (Some(built_in.figures()), None),
        }
    }

    /// Returns why the run should end, if every pool refuses the agent's login.
    pub(crate) fn refusal(&self) -> Option<String> {
        let pools = match self {
            Self::Program(program) => program.pools()?,
            Self::BuiltIn(built_in) => built_in.pools(),
        };
        pools.refusal.map(|refusal| refusal.to_string())
    }
}
