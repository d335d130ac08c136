//! Built-in engines by name, and the abilities of each.

use crate::config::{EngineName, Protocol};

/// A built-in engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltInName {
    /// SHA-256d on processors.
    Sha256d,
    /// RandomX on processors.
    Randomx,
    /// SHA-256d on GPUs.
    Sha256dGpu,
}

impl EngineName {
    /// Returns the built-in engine of this name, if it is one.
    pub(crate) fn built_in(self) -> Option<BuiltInName> {
        match self {
            Self::Sha256d => Some(BuiltInName::Sha256d),
            Self::Randomx => Some(BuiltInName::Randomx),
            Self::Sha256dGpu => Some(BuiltInName::Sha256dGpu),
            Self::Command
            | Self::Xmrig
            | Self::Trex
            | Self::Rigel
            | Self::Gminer
            | Self::Lolminer
            | Self::Srbminer
            | Self::Bzminer => None,
        }
    }
}

impl BuiltInName {
    /// Returns its algorithm, in the spelling of its pools.
    pub(crate) fn algorithm(self) -> &'static str {
        match self {
            Self::Sha256d | Self::Sha256dGpu => "sha256d",
            Self::Randomx => "rx/0",
        }
    }

    /// Returns the protocol of its pools.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Sha256d | Self::Sha256dGpu => Protocol::StratumV1,
            Self::Randomx => Protocol::Monero,
        }
    }

    /// Whether this agent was built with it.
    pub(crate) fn is_available(self) -> bool {
        match self {
            Self::Sha256d => true,
            Self::Randomx => cfg!(feature = "randomx"),
            Self::Sha256dGpu => cfg!(feature = "gpu"),
        }
    }
}
