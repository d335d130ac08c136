//! Engines that the agent knows: how each is told what to do, and how it tells what it did.
//!
//! Sources are cited at each.

mod bzminer;
mod gminer;
mod lolminer;
mod rigel;
mod srbminer;
mod trex;
mod xmrig;

use std::net::SocketAddr;

use serde_json::Value;

use crate::config::{Config, EngineName, host_and_port};
use crate::figures::Figures;
use crate::secret::Secrets;

/// How an engine is told for whom to work.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    /// The pool as it was told.
    told: String,
    host: String,
    port: u16,
    /// Whether the connection is encrypted.
    tls: bool,
    login: String,
    password: String,
    worker: String,
    /// The algorithm, in the engine's own writing.
    algorithm: Option<String>,
    /// The loopback port for its figures.
    api_port: u16,
}

impl Upstream {
    /// What `config` and `secrets` say. The login of an engine that would have to take it on its
    /// command line is a name that opens nothing.
    pub(crate) fn new(config: &Config, secrets: &Secrets) -> Self {
        let endpoint = config.pool.endpoints.first().map_or("", String::as_str);
        let scheme = endpoint.split_once("://").map_or("", |(scheme, _)| scheme);
        let (host, port) = host_and_port(endpoint).unwrap_or_default();
        let worker = config.pool.worker.clone().unwrap_or_else(|| "daylight".into());
        let secret = config.engine.name.keeps_secrets();
        let told = |secret_text: &Option<String>| secret_text.clone().filter(|_| secret);
        Self {
            told: endpoint.to_owned(),
            host: host.to_owned(),
            port,
            tls: scheme.contains("ssl") || scheme.contains("tls"),
            login: told(&secrets.wallet).unwrap_or_else(|| worker.clone()),
            password: told(&secrets.password).unwrap_or_else(|| "x".into()),
            worker,
            algorithm: config.engine.algorithm.clone(),
            api_port: config.engine.api_port,
        }
    }

    /// The agent itself, at this address, which takes any login.
    pub(crate) fn proxy(config: &Config, address: SocketAddr) -> Self {
        let worker = config.pool.worker.clone().unwrap_or_else(|| "daylight".into());
        Self {
            told: String::new(),
            host: address.ip().to_string(),
            port: address.port(),
            tls: false,
            login: worker.clone(),
            password: "x".into(),
            worker,
            algorithm: config.engine.algorithm.clone(),
            api_port: config.engine.api_port,
        }
    }

    /// A template with all that is known filled in, the secrets too.
    pub(crate) fn fill(&self, template: &str) -> String {
        let algorithm = self.algorithm.as_deref().unwrap_or("");
        let (pool, port) = (self.pool(), self.port.to_string());
        let values = [
            ("{wallet}", &*self.login),
            ("{password}", &*self.password),
            ("{worker}", &*self.worker),
            ("{algorithm}", algorithm),
            ("{pool}", &*pool),
            ("{host}", &*self.host),
            ("{port}", &*port),
        ];
        fill(template, &values)
    }

    /// A word of a command line with the pool's place filled in.
    pub(crate) fn place(&self, word: &str) -> String {
        let (pool, port) = (self.pool(), self.port.to_string());
        fill(word, &[("{pool}", &*pool), ("{host}", &*self.host), ("{port}", &*port)])
    }

    fn pool(&self) -> String {
        if self.told.is_empty() { self.stratum() } else { self.told.clone() }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn api(&self) -> String {
        format!("127.0.0.1:{}", self.api_port)
    }

    fn stratum(&self) -> String {
        format!("stratum+{}://{}", if self.tls { "ssl" } else { "tcp" }, self.address())
    }
}

impl EngineName {
    /// Whether the engine takes a login from a file, and not on its command line only.
    pub(crate) fn keeps_secrets(self) -> bool {
        matches!(self, Self::Command | Self::Xmrig)
    }

    /// The arguments that the agent makes for it, in which `{config}` is its file's path.
    pub(crate) fn args(self, upstream: &Upstream) -> Vec<String> {
        match self {
            Self::Command | Self::Sha256d | Self::Randomx | Self::Sha256dGpu => Vec::new(),
            Self::Xmrig => xmrig::args(),
            Self::Trex => trex::args(upstream),
            Self::Rigel => rigel::args(upstream),
            Self::Gminer => gminer::args(upstream),
            Self::Lolminer => lolminer::args(upstream),
            Self::Srbminer => srbminer::args(upstream),
            Self::Bzminer => bzminer::args(upstream),
        }
    }

    /// The file that the agent makes for it.
    pub(crate) fn file(self, upstream: &Upstream) -> Option<String> {
        (self == Self::Xmrig).then(|| xmrig::file(upstream))
    }

    /// The path of its figures, if the agent knows one.
    pub(crate) fn path(self) -> Option<&'static str> {
        match self {
            Self::Command | Self::Sha256d | Self::Randomx | Self::Sha256dGpu => None,
            Self::Xmrig => Some("/2/summary"),
            Self::Trex => Some("/summary"),
            Self::Gminer => Some("/stat"),
            Self::Bzminer => Some("/status"),
            Self::Lolminer | Self::Rigel | Self::Srbminer => Some("/"),
        }
    }

    /// What its answer says.
    pub(crate) fn parse(self, answer: &Value) -> Figures {
        match self {
            Self::Command | Self::Sha256d | Self::Randomx | Self::Sha256dGpu => Figures::default(),
            Self::Xmrig => xmrig::parse(answer),
            Self::Trex => trex::parse(answer),
            Self::Rigel => rigel::parse(answer),
            Self::Gminer => gminer::parse(answer),
            Self::Lolminer => lolminer::parse(answer),
            Self::Srbminer => srbminer::parse(answer),
            Self::Bzminer => bzminer::parse(answer),
        }
    }
}

/// `template` with `values` in the place of their names. Once through, so that what is filled in is
/// never filled in again.
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

/// The words of a command line.
fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// The number at a JSON pointer.
fn number(value: &Value, path: &str) -> Option<f64> {
    value.pointer(path)?.as_f64()
}

/// The count at a JSON pointer.
fn count(value: &Value, path: &str) -> Option<u64> {
    value.pointer(path)?.as_u64()
}

/// The text at a JSON pointer.
fn text(value: &Value, path: &str) -> Option<String> {
    value.pointer(path)?.as_str().map(str::to_owned)
}

/// What sensors that are not there read as.
fn measured(value: &Value, path: &str) -> Option<f64> {
    number(value, path).filter(|number| *number > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_once() {
        let mut config = Config::default();
        config.pool.endpoints = vec!["stratum+tcp://pool.example.com:3333".into()];
        let secrets = Secrets { wallet: Some("49{password}".into()), password: Some("p".into()) };
        let text = Upstream::new(&config, &secrets)
            .fill(r#"{"url":"{host}:{port}","user":"{wallet}","pass":"{password}","x":{}}"#);
        assert_eq!(
            text,
            r#"{"url":"pool.example.com:3333","user":"49{password}","pass":"p","x":{}}"#
        );
    }

    fn told(name: EngineName) -> Upstream {
        let mut config = Config::default();
        config.engine.name = name;
        config.engine.algorithm = Some("algo".into());
        config.engine.api_port = 4067;
        config.pool.endpoints = vec!["stratum+ssl://pool.example.com:3333".into()];
        config.pool.worker = Some("rig-1".into());
        let secrets = Secrets { wallet: Some("49wallet".into()), password: Some("secret".into()) };
        Upstream::new(&config, &secrets)
    }

    #[test]
    fn command_lines_are_what_the_engines_document_and_hold_no_secret() {
        let cases = [
            (EngineName::Xmrig, "--config={config}"),
            (
                EngineName::Trex,
                "--url stratum+ssl://pool.example.com:3333 --user rig-1 --pass x --worker rig-1 --api-bind-http 127.0.0.1:4067 --api-bind-telnet 0 --api-read-only --no-watchdog --no-color --algo algo",
            ),
            (
                EngineName::Rigel,
                "--url stratum+ssl://pool.example.com:3333 --username rig-1 --password x --worker rig-1 --api-bind 127.0.0.1:4067 --no-watchdog --no-tui --no-colour --algorithm algo",
            ),
            (
                EngineName::Gminer,
                "--server pool.example.com --port 3333 --user rig-1 --pass x --ssl 1 --api 4067 --watchdog 0 --color 0 --algo algo",
            ),
            (
                EngineName::Lolminer,
                "--pool pool.example.com:3333 --user rig-1 --pass x --tls on --apihost 127.0.0.1 --apiport 4067 --watchdog exit --nocolor --algo algo",
            ),
            (
                EngineName::Srbminer,
                "--pool pool.example.com:3333 --wallet rig-1 --worker rig-1 --password x --tls true --api-enable --api-port 4067 --disable-worker-watchdog --algorithm algo",
            ),
            (
                EngineName::Bzminer,
                "-p stratum+ssl://pool.example.com:3333 -w rig-1 -r rig-1 --pool_password x --http_enabled 1 --http_address 127.0.0.1 --http_port 4067 --no_watchdog --nc 1 --disable_index_html --no_color 1 -a algo",
            ),
        ];
        for (name, expected) in cases {
            assert_eq!(name.args(&told(name)).join(" "), expected, "{name}");
        }
    }

    #[test]
    fn xmrigs_login_stands_in_its_file() {
        let file = EngineName::Xmrig.file(&told(EngineName::Xmrig)).unwrap();
        let file: Value = serde_json::from_str(&file).unwrap();
        let pool = &file["pools"][0];
        assert_eq!((&pool["user"], &pool["pass"]), (&"49wallet".into(), &"secret".into()));
        assert_eq!((&pool["url"], &pool["tls"]), (&"pool.example.com:3333".into(), &true.into()));
        assert_eq!(file["http"]["host"], "127.0.0.1");
    }
}
