//! The pool that an engine is sent to, and how templates are filled with it.

use std::net::SocketAddr;

use super::Adapter;
use crate::config::{Config, host_and_port};
use crate::secret::Secrets;

/// Pool, login and loopback port of an engine.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    /// The pool as it is configured; empty if it is the agent itself.
    endpoint: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) login: String,
    pub(super) password: String,
    pub(super) worker: String,
    /// Algorithm in the engine's own spelling.
    pub(super) algorithm: Option<String>,
    /// Loopback port on which the engine serves its figures.
    pub(super) api_port: u16,
}

impl Upstream {
    /// Returns the first configured pool. An engine that takes its login on the command line only,
    /// which is public, gets the worker's name for one.
    pub(crate) fn new(config: &Config, secrets: &Secrets) -> Self {
        let endpoint = config.pool.endpoints.first().map_or("", String::as_str);
        let scheme = endpoint.split_once("://").map_or("", |(scheme, _)| scheme);
        let (host, port) = host_and_port(endpoint).unwrap_or_default();
        let keeps_secrets = config.engine.name.keeps_secrets();
        let kept = |secret: &Option<String>| secret.clone().filter(|_| keeps_secrets);
        let bare = Self::without_login(config, host.to_owned(), port);
        Self {
            endpoint: endpoint.to_owned(),
            tls: scheme.contains("ssl") || scheme.contains("tls"),
            login: kept(&secrets.wallet).unwrap_or(bare.login),
            password: kept(&secrets.password).unwrap_or(bare.password),
            ..bare
        }
    }

    /// Returns the agent's own proxy at `address`, which accepts any login.
    pub(crate) fn proxy(config: &Config, address: SocketAddr) -> Self {
        Self::without_login(config, address.ip().to_string(), address.port())
    }

    fn without_login(config: &Config, host: String, port: u16) -> Self {
        let worker = config.pool.worker.clone().unwrap_or_else(|| "daylight".into());
        Self {
            endpoint: String::new(),
            host,
            port,
            tls: false,
            login: worker.clone(),
            password: "x".into(),
            worker,
            algorithm: config.engine.algorithm.clone(),
            api_port: config.engine.api_port,
        }
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
        let (pool, port) = (self.pool(), self.port.to_string());
        let place = [("{pool}", &*pool), ("{host}", &*self.host), ("{port}", &*port)];
        fill(template, &[&secret[..], &place].concat())
    }

    /// Fills in one word of a command line: the pool's address, and no secret.
    pub(crate) fn fill_word(&self, word: &str) -> String {
        let (pool, port) = (self.pool(), self.port.to_string());
        fill(word, &[("{pool}", &*pool), ("{host}", &*self.host), ("{port}", &*port)])
    }

    /// Returns the arguments of an engine that is known by name. `{config}` remains in them.
    pub(crate) fn args(&self, adapter: &Adapter) -> Vec<String> {
        let (url, address) = (self.url(), self.address());
        let (port, api_port) = (self.port.to_string(), self.api_port.to_string());
        let values = [
            ("{url}", &*url),
            ("{address}", &*address),
            ("{host}", &*self.host),
            ("{port}", &*port),
            ("{login}", &*self.login),
            ("{password}", &*self.password),
            ("{worker}", &*self.worker),
            ("{tls}", adapter.tls[usize::from(self.tls)]),
            ("{api_port}", &*api_port),
        ];
        // Split before it is filled in, so that a space in a value does not make two arguments.
        let words = adapter.args.split_whitespace();
        let mut args: Vec<String> = words.map(|word| fill(word, &values)).collect();
        if let (Some(option), Some(algorithm)) = (adapter.algorithm, &self.algorithm) {
            args.extend([option.to_owned(), algorithm.clone()]);
        }
        args
    }

    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn url(&self) -> String {
        format!("stratum+{}://{}", if self.tls { "ssl" } else { "tcp" }, self.address())
    }

    fn pool(&self) -> String {
        if self.endpoint.is_empty() { self.url() } else { self.endpoint.clone() }
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
