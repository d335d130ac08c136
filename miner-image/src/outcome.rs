//! How a run ends, as an exit code and as a word.

use serde::Serialize;

/// How a run of the agent ended. The exit codes are a promise, and stand in `docs/miner.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Outcome {
    /// It was asked to stop, and everything ended in time: 0.
    Drained,
    /// The agent itself could not go on: 1.
    AgentFailed,
    /// It was asked to stop, and what had not ended in time was killed: 10.
    Killed,
    /// The engine ended by itself too often, or could not be started: 11.
    EngineCrashed,
    /// The configuration is wrong, so nothing was started: 12.
    BadConfiguration,
    /// The pool refused the login: 13.
    LoginRefused,
    /// The engine lost its device: 14.
    DeviceLost,
    /// The lease was not renewed: 15.
    LeaseLapsed,
    /// The wallet is not the one that the registration commits to, so nothing was started: 16.
    WrongWallet,
}

impl Outcome {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Drained => 0,
            Self::AgentFailed => 1,
            Self::Killed => 10,
            Self::EngineCrashed => 11,
            Self::BadConfiguration => 12,
            Self::LoginRefused => 13,
            Self::DeviceLost => 14,
            Self::LeaseLapsed => 15,
            Self::WrongWallet => 16,
        }
    }
}
