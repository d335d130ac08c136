use serde::{Deserialize, Serialize};

/// Outcome of a run of the agent. The discriminants are the agent's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(strum::VariantArray))]
pub enum Outcome {
    /// The agent was asked to stop, and everything ended in time.
    Drained = 0,
    /// The agent itself failed.
    AgentFailed = 1,
    /// The agent was asked to stop, and killed what had not ended in time.
    Killed = 10,
    /// The engine ended, or did not hash, too often.
    EngineCrashed = 11,
    /// The configuration is wrong; nothing was started.
    BadConfiguration = 12,
    /// The pool refused the login.
    LoginRefused = 13,
    /// The engine lost its device.
    DeviceLost = 14,
    /// The lease was not renewed in time.
    LeaseLapsed = 15,
    /// The wallet is not the one that the registration commits to; nothing was started.
    WrongWallet = 16,
}

impl Outcome {
    /// Returns the agent's exit code.
    pub const fn exit_code(self) -> u8 {
        self as u8
    }

    /// Whether the miner's own settings caused it, so that it would be the same on any node.
    pub const fn is_same_on_any_node(self) -> bool {
        matches!(self, Self::BadConfiguration | Self::LoginRefused | Self::WrongWallet)
    }
}

/// Reason that the engine does not earn anything at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(strum::VariantArray))]
pub enum NotReady {
    /// The engine is not running yet.
    Starting,
    /// The engine ended and will be started again.
    Restarting,
    /// The engine is being stopped.
    Draining,
    /// The engine reports no figures.
    NoFigures,
    /// The engine has not connected to the agent's own port, where its pool should be.
    EngineNotConnected,
    /// The engine is not connected to a pool.
    PoolUnreachable,
    /// The pool has not accepted the login.
    NotAuthorised,
    /// The engine does not hash.
    NotHashing,
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn outcomes_have_their_words_and_exit_codes() {
        for (outcome, word, code) in [
            (Outcome::Drained, "Drained", 0),
            (Outcome::AgentFailed, "AgentFailed", 1),
            (Outcome::Killed, "Killed", 10),
            (Outcome::EngineCrashed, "EngineCrashed", 11),
            (Outcome::BadConfiguration, "BadConfiguration", 12),
            (Outcome::LoginRefused, "LoginRefused", 13),
            (Outcome::DeviceLost, "DeviceLost", 14),
            (Outcome::LeaseLapsed, "LeaseLapsed", 15),
            (Outcome::WrongWallet, "WrongWallet", 16),
        ] {
            assert_eq!((&*outcome.to_string(), outcome.exit_code()), (word, code));
            assert_eq!(word.parse(), Ok(outcome));
            let miners_own = ["BadConfiguration", "LoginRefused", "WrongWallet"].contains(&word);
            assert_eq!(outcome.is_same_on_any_node(), miners_own, "{word}");
        }
        assert!("drained".parse::<Outcome>().is_err());
    }

    #[test]
    fn reasons_have_their_words() {
        for (reason, word) in [
            (NotReady::Starting, "Starting"),
            (NotReady::Restarting, "Restarting"),
            (NotReady::Draining, "Draining"),
            (NotReady::NoFigures, "NoFigures"),
            (NotReady::EngineNotConnected, "EngineNotConnected"),
            (NotReady::PoolUnreachable, "PoolUnreachable"),
            (NotReady::NotAuthorised, "NotAuthorised"),
            (NotReady::NotHashing, "NotHashing"),
        ] {
            assert_eq!((reason.to_string().as_str(), word.parse()), (word, Ok(reason)));
        }
        assert!("".parse::<NotReady>().is_err());
    }

    #[test]
    fn the_manual_says_what_to_do_about_each_word() {
        let manual = include_str!("../../../docs/miner.md");
        let (_, table) = manual.split_once("## What does REASON mean").unwrap();
        let (table, _) = table.split_once("\n## ").unwrap();
        let has_row = |word: &str| {
            let first_cell = |line: &str| line.split(" | ").next().unwrap_or_default().to_owned();
            table.lines().any(|line| first_cell(line).contains(&format!("`{word}`")))
        };
        // What is true of a run that ends as requested is not displayed.
        for outcome in Outcome::VARIANTS {
            assert!(has_row(&outcome.to_string()) || *outcome == Outcome::Drained, "{outcome}");
        }
        for reason in NotReady::VARIANTS {
            assert!(has_row(&reason.to_string()) || *reason == NotReady::Draining, "{reason}");
        }
    }
}
