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
        let algorithm = self.engine.algorithm.as_deref().unwrap_or_default();
        // For some algorithms, xmrig speaks Stratum and not the dialect of Monero's pools.
        let by_engine = (self.engine.name == EngineName::Xmrig).then_some(match algorithm {
            "kawpow" | "kawpow/rvn" => Protocol::Kawpow,
            "ghostrider" | "gr" | "ghostrider/rtm" => Protocol::Unknown,
            _ => Protocol::Monero,
        });
        let protocol = self.pool.protocol.or(by_engine).or_else(|| self.protocol_by_scheme());
        protocol.filter(|protocol| *protocol != Protocol::Unknown)
    }

    /// Returns the protocol that the schemes of all pools name, for an engine that cannot be given a
    /// wallet and that has one: without the agent's login, that would be a mistake.
    fn protocol_by_scheme(&self) -> Option<Protocol> {
        let engine = self.engine.name;
        let needs_login = !engine.keeps_wallet() && self.pool.wallet_file.is_some();
        let knows_schemes = engine.adapter()?.ethash.is_some();
        let mut named = self.pool.endpoints.iter().map(|endpoint| scheme_protocol(endpoint));
        let first = named.next()??;
        (needs_login && knows_schemes && named.all(|other| other == Some(first))).then_some(first)
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

/// Returns the protocol that the scheme of a pool's address names, as ethminer and the engines after it
/// write it.
pub(crate) fn scheme_protocol(endpoint: &str) -> Option<Protocol> {
    let (scheme, _) = endpoint.split_once("://")?;
    match scheme.split_once('+')?.0 {
        "ethstratum" | "stratum2" | "nicehash" => Some(Protocol::EthereumStratum),
        "ethproxy" | "stratum1" => Some(Protocol::EthProxy),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_the_configured_one_or_that_of_engine_algorithm_and_schemes() {
        let protocol = |text: &str| toml::from_str::<Config>(text).unwrap().pool_protocol();
        let xmrig = |algorithm| {
            protocol(&format!("engine.name = \"xmrig\"\nengine.algorithm = \"{algorithm}\""))
        };
        assert_eq!(xmrig("rx/0"), Some(Protocol::Monero));
        assert_eq!(xmrig("kawpow"), Some(Protocol::Kawpow));
        assert_eq!(xmrig("ghostrider"), None);

        let with = |name: &str, wallet: &str, endpoints: &str| {
            protocol(&format!("engine.name = \"{name}\"\n{wallet}\npool.endpoints = [{endpoints}]"))
        };
        let wallet = "pool.wallet_file = \"/wallet\"";
        let (nicehash, ethproxy) = ("\"stratum2+tcp://p:1\"", "\"ethproxy+ssl://p:1\"");
        assert_eq!(with("rigel", wallet, nicehash), Some(Protocol::EthereumStratum));
        assert_eq!(with("rigel", wallet, ethproxy), Some(Protocol::EthProxy));
        assert_eq!(with("srbminer", wallet, ethproxy), Some(Protocol::EthProxy));
        // Several protocols, no wallet, an engine that is given the wallet, and one whose scheme says nothing.
        assert_eq!(with("rigel", wallet, &format!("{nicehash}, {ethproxy}")), None);
        assert_eq!(with("rigel", "", ethproxy), None);
        assert_eq!(with("trex", wallet, ethproxy), None);
        assert_eq!(with("rigel", wallet, "\"stratum+tcp://p:1\""), None);
        let none = format!("{wallet}\npool.protocol = \"none\"");
        assert_eq!(with("rigel", &none, ethproxy), None);
    }

    #[test]
    fn a_scheme_of_another_protocol_is_a_mistake() {
        let config: Config = toml::from_str(
            "engine.command = [\"/bin/true\"]\npool.protocol = \"kawpow\"\npool.wallet_file = \"/wallet\"\npool.endpoints = [\"ethproxy+tcp://p:1\", \"tls://p:2\"]",
        )
        .unwrap();
        let mistakes: Vec<_> = config.mistakes().iter().map(ToString::to_string).collect();
        assert_eq!(
            mistakes,
            [
                "pool.endpoints: the scheme of ethproxy+tcp://p:1 names another protocol than the one that the agent speaks: write stratum+tcp:// or stratum+tls://, or set pool.protocol"
            ]
        );
    }
}
