//! Conclusions from a configuration that several modules need.

use daylight_agent_api::Evidence;

use super::{Config, EngineConfig, EngineName, Protocol};
use crate::engine::BuiltInName;

impl Config {
    /// Returns the protocol in which the agent itself is logged in at the pool, if it is.
    pub(crate) fn pool_protocol(&self) -> Option<Protocol> {
        if let Some(built_in) = self.engine.name.built_in() {
            return Some(built_in.protocol());
        }
        // For these, xmrig speaks EthereumStratum and not the dialect of Monero's pools.
        let others = ["kawpow", "ghostrider", "gr", "ghostrider/rtm"];
        let algorithm = self.engine.algorithm.as_deref().unwrap_or_default();
        let by_engine = (self.engine.name == EngineName::Xmrig && !others.contains(&algorithm))
            .then_some(Protocol::Monero);
        self.pool.protocol.or(by_engine).filter(|protocol| *protocol != Protocol::Unknown)
    }

    /// Whether anything but its running will be known of the engine.
    pub(crate) fn has_figures(&self) -> bool {
        self.pool_protocol().is_some()
            || self.engine.name.adapter().is_some()
            || self.engine.figures.is_some()
    }

    /// Returns the source of the engine's figures.
    pub(crate) fn evidence(&self) -> Evidence {
        if self.pool_protocol().is_some() { Evidence::Seen } else { Evidence::Claimed }
    }

    /// Returns the algorithm, in the engine's own spelling.
    pub(crate) fn algorithm(&self) -> Option<&str> {
        let built_in = || self.engine.name.built_in().map(BuiltInName::algorithm);
        self.engine.algorithm.as_deref().or_else(built_in)
    }
}

impl EngineConfig {
    /// Returns the engine's name and program, for people.
    pub(crate) fn display(&self) -> String {
        match (self.name.built_in(), self.command.first()) {
            (Some(_), _) => self.name.to_string(),
            (None, command) => {
                format!("{} ({})", self.name, command.map_or("no command", String::as_str))
            }
        }
    }
}
