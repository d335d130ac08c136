//! The pool that an engine is sent to, and how templates are filled with it.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use super::{Adapter, Pools};
use crate::config::{Config, Protocol, RandomxMode, host_and_port};
use crate::pool;
use crate::secret::Secrets;

/// Pools, login and loopback port of an engine.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    /// The pools, in the order of preference. At least one.
    pub(super) pools: Vec<Place>,
    pub(super) login: String,
    pub(super) password: String,
    pub(super) worker: String,
    /// Algorithm in the engine's own spelling.
    pub(super) algorithm: Option<String>,
    /// Loopback port on which the engine serves its figures.
    pub(super) api_port: u16,
    pub(super) threads: Option<NonZeroUsize>,
    /// Memory of RandomX; the engine's own choice if it is left out.
    pub(super) mode: Option<RandomxMode>,
    /// Whether it may use huge pages.
    pub(super) huge_pages: bool,
}

/// Address of a pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// As it is configured; empty if it is the agent itself.
    declared: String,
    /// As it is declared, or as it names the dialect of the agent to the engine; empty if there is none.
    scheme: String,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Place {
    fn declared(endpoint: &str) -> Self {
        let scheme = endpoint.split_once("://").map_or("", |(scheme, _)| scheme);
        let (host, port) = host_and_port(endpoint).unwrap_or_default();
        Self { declared: endpoint.into(), scheme: scheme.into(), host: host.into(), port }
    }

    pub(super) fn tls(&self) -> bool {
        self.scheme.contains("ssl") || self.scheme.contains("tls")
    }

    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The protocol that the scheme names, such as `ethstratum`, if it is not plain Stratum.
    pub(super) fn protocol(&self) -> Option<&str> {
        let (protocol, _) = self.scheme.split_once('+')?;
        (protocol != "stratum").then_some(protocol)
    }

    /// The address with a scheme as the engines write it: the protocol that is declared, over `tcp` or
    /// `ssl`.
    pub(super) fn url(&self) -> String {
        let over = if self.tls() { "ssl" } else { "tcp" };
        format!("{}+{over}://{}", self.protocol().unwrap_or("stratum"), self.address())
    }
}

impl Upstream {
    /// Returns the configured pools. An engine that takes its login on the command line only, which is
    /// public, gets the worker's name for one.
    pub(crate) fn new(config: &Config, secrets: &Secrets) -> Self {
        let engine = config.engine.name;
        let pools = config.pool.endpoints.iter().map(|endpoint| Place::declared(endpoint));
        let mut pools: Vec<_> = pools.collect();
        if pools.is_empty() {
            pools.push(Place::default());
        }
        let bare = Self::without_login(config, pools);
        let wallet = secrets.wallet.as_deref().filter(|_| engine.keeps_wallet());
        let form = engine.adapter().map_or("{wallet}", |adapter| adapter.login);
        let login = wallet.map(|wallet| pool::login(&config.pool, form, wallet, &bare.worker));
        let password = secrets.password.clone().filter(|_| engine.keeps_password());
        Self {
            login: login.unwrap_or(bare.login),
            password: password.unwrap_or(bare.password),
            ..bare
        }
    }

    /// Returns the agent's own proxy at `address`, which accepts any login.
    pub(crate) fn proxy(config: &Config, address: SocketAddr) -> Self {
        let (host, port) = (address.ip().to_string(), address.port());
        let schemes = config.engine.name.adapter().and_then(|adapter| adapter.ethash.as_ref());
        let scheme = schemes.and_then(|schemes| match config.pool_protocol()? {
            Protocol::EthereumStratum => Some(format!("{}+tcp", schemes.ethereum_stratum)),
            Protocol::EthProxy => Some(format!("{}+tcp", schemes.ethproxy)),
            _ => None,
        });
        let scheme = scheme.unwrap_or_default();
        Self::without_login(config, vec![Place { scheme, host, port, ..Place::default() }])
    }

    fn without_login(config: &Config, pools: Vec<Place>) -> Self {
        let worker = config.pool.worker.clone().unwrap_or_else(|| "daylight".into());
        Self {
            pools,
            login: worker.clone(),
            password: "x".into(),
            worker,
            algorithm: config.engine.algorithm.clone(),
            api_port: config.engine.api_port,
            threads: config.engine.threads,
            mode: config.engine.mode,
            huge_pages: config.engine.huge_pages,
        }
    }

    /// The first pool.
    pub(super) fn first(&self) -> &Place {
        &self.pools[0]
    }

    /// Fills in a configuration file's template, secrets included.
    pub(crate) fn fill(&self, template: &str) -> String {
        let algorithm = self.algorithm.as_deref().unwrap_or("");
        let secret = [
            ("{wallet}", &*self.login),
            ("{password}", &*self.password),
            ("{worker}", &*self.worker),
            ("{algorithm}", algorithm),
        ];
        let (pool, port) = (self.pool(), self.first().port.to_string());
        let place = [("{pool}", &*pool), ("{host}", &*self.first().host), ("{port}", &*port)];
        fill(template, &[&secret[..], &place].concat())
    }

    /// Fills in one word of a command line: the pool's address, and no secret.
    pub(crate) fn fill_word(&self, word: &str) -> String {
        let (pool, port) = (self.pool(), self.first().port.to_string());
        fill(word, &[("{pool}", &*pool), ("{host}", &*self.first().host), ("{port}", &*port)])
    }

    /// Returns the arguments of an engine that is known by name. `{config}` remains in them.
    pub(crate) fn args(&self, adapter: &Adapter) -> Vec<String> {
        let api_port = self.api_port.to_string();
        let words = adapter.args.split_whitespace();
        let mut args: Vec<String> =
            words.map(|word| word.replace("{api_port}", &api_port)).collect();
        if let Pools::Args(pools) = adapter.pools {
            args.extend(pools(self));
        }
        args
    }

    fn pool(&self) -> String {
        let first = self.first();
        if first.declared.is_empty() { first.url() } else { first.declared.clone() }
    }
}

/// Replaces the names in `template` by their values, in one pass, so that nothing in a value is taken
/// for a name.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((name, value)) = values.iter().find(|(name, _)| rest.starts_with(name)) {
            text.push_str(value);
            rest = &rest[name.len()..];
        } else {
            text.push('{');
            rest = &rest[1..];
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_once() {
        let mut config = Config::default();
        config.pool.endpoints = vec!["stratum+tcp://pool.example.com:3333".into()];
        let (wallet, password) = (Some("49{password}".into()), Some("p".into()));
        let secrets = Secrets { wallet, password, ..Secrets::default() };
        let text = Upstream::new(&config, &secrets)
            .fill(r#"{"url":"{host}:{port}","user":"{wallet}","pass":"{password}","x":{}}"#);
        assert_eq!(
            text,
            r#"{"url":"pool.example.com:3333","user":"49{password}","pass":"p","x":{}}"#
        );
    }
}
