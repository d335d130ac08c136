//! Checks the meaning of a configuration, as far as its form does not.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use daylight_agent_api::env::POD_ADDRESS;
use daylight_agent_api::http::PORT;

use super::{Config, EngineName, FigureSource, Pool, scheme_protocol};
use crate::engine::BuiltInName;

/// A mistake in the configuration: its place and one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    place: String,
    sentence: String,
}

impl Mistake {
    /// Creates a mistake at `place`, such as `pool.endpoints`.
    pub(crate) fn new(place: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { place: place.into(), sentence: sentence.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.sentence)
    }
}

impl Config {
    /// Returns all mistakes of meaning.
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Vec::new();
        let mut wrong = |place: &str, sentence: String| found.push(Mistake::new(place, sentence));
        self.engine_mistakes(&mut wrong);
        pool_mistakes(&self.pool, &mut wrong);
        if self.drain.hook.first().is_some_and(String::is_empty) {
            wrong("drain.hook", "it must name a program".into());
        }
        if self.restart.backoff > self.restart.longest {
            wrong("restart.backoff", "it must be at most restart.longest".into());
        }
        if self.restart.limit == 0 {
            wrong(
                "restart.limit",
                "it must be at least 1: with 1 the first crash ends the run".into(),
            );
        }
        if self.log.lines_per_second == 0 {
            wrong("log.lines_per_second", "it must be at least 1".into());
        }
        if !(80..=65_536).contains(&self.log.line_bytes) {
            wrong("log.line_bytes", "it must be from 80 to 65536".into());
        }
        if let Err(sentence) = listen(&self.http.listen) {
            wrong("http.listen", sentence);
        }
        if let Some(lease) = &self.lease
            && lease.lapses_after.as_secs() == 0
        {
            wrong("lease.lapses_after", "it must be at least 1s".into());
        }
        if !(16..=4096).contains(&self.agent.memory_mib) {
            wrong("agent.memory_mib", "it must be from 16 to 4096".into());
        }
        found
    }

    fn engine_mistakes(&self, wrong: &mut impl FnMut(&str, String)) {
        let engine = &self.engine;
        match engine.command.first() {
            Some(_) if engine.name.built_in().is_some() => wrong(
                "engine.command",
                format!("{} is built into the agent and is not a program: remove it", engine.name),
            ),
            None if engine.name.built_in().is_some() => {}
            Some(program) if !program.is_empty() => {
                if let Err(sentence) = check_program(program) {
                    wrong("engine.command", sentence);
                }
            }
            _ => wrong(
                "engine.command",
                "it must name the engine's program, here or after --".into(),
            ),
        }
        if engine.dev_fee.is_some_and(|fee| !(0.0..=1.0).contains(&fee)) {
            wrong("engine.dev_fee", "it must be a ratio from 0 to 1: 0.01 is one percent".into());
        }
        if engine.api_port == 0 {
            wrong("engine.api_port", "it must be from 1 to 65535".into());
        }
        if engine.figures_every.as_millis() < 100 {
            wrong("engine.figures_every", "it must be at least 100ms".into());
        }
        let named = engine.command.iter().chain(&engine.args).any(|word| word.contains("{config}"));
        match &engine.config_template {
            Some(file) => {
                if let Err(error) = std::fs::metadata(file) {
                    wrong("engine.config_template", format!("{}: {error}", file.display()));
                }
                if !named {
                    wrong(
                        "engine.config_template",
                        "neither engine.command nor engine.args contains {config}: add it where the engine expects the file's path".into(),
                    );
                }
            }
            None if named && engine.name == EngineName::Command => wrong(
                "engine.args",
                "{config} stands for the file made from engine.config_template, which is not set"
                    .into(),
            ),
            None => {}
        }
        if let Some(figures) = &engine.figures {
            figure_mistakes(figures, wrong);
        }
        match engine.name.built_in() {
            Some(name) => self.built_in_mistakes(name, wrong),
            None if engine.name != EngineName::Command => self.adapter_mistakes(wrong),
            None => {}
        }
        let digest = |text: &str| {
            let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            text.len() == 64 && text.chars().all(lower)
        };
        if let Some(commitment) = &self.pool.wallet_commitment
            && !commitment.strip_prefix("sha256:").is_some_and(digest)
        {
            wrong(
                "pool.wallet_commitment",
                format!("\"{commitment}\": write sha256: and 64 hexadecimal digits in lower case"),
            );
        }
        let writes_login = engine.name.adapter().is_some() && engine.name.keeps_wallet();
        if self.pool_protocol().is_some() {
            self.login_mistakes(wrong);
        } else {
            if self.pool.wallet_commitment.is_some() && !writes_login {
                wrong(
                    "pool.wallet_commitment",
                    "it can be checked only where the agent itself logs in, or writes the login into the engine's file: set pool.protocol, or remove it".into(),
                );
            }
            if !self.pool.pins.is_empty() {
                wrong(
                    "pool.pins",
                    format!(
                        "{} logs in by itself, and cannot be made to check a certificate: set pool.protocol, or remove the pins",
                        engine.name
                    ),
                );
            }
        }
    }

    fn built_in_mistakes(&self, name: BuiltInName, wrong: &mut impl FnMut(&str, String)) {
        let engine = &self.engine;
        if !name.is_available() {
            wrong(
                "engine.name",
                format!("this agent was built without {}: use another image", engine.name),
            );
        }
        if engine.algorithm.as_deref().is_some_and(|algorithm| algorithm != name.algorithm()) {
            wrong(
                "engine.algorithm",
                format!("{} computes {}: remove it", engine.name, name.algorithm()),
            );
        }
        for (place, is_set) in [
            ("engine.args", !engine.args.is_empty()),
            ("engine.figures", engine.figures.is_some()),
            ("engine.config_template", engine.config_template.is_some()),
            ("drain.hook", !self.drain.hook.is_empty()),
            ("pool.protocol", self.pool.protocol.is_some()),
        ] {
            if is_set {
                wrong(
                    place,
                    format!(
                        "it is for programs, and {} is built into the agent: remove it",
                        engine.name
                    ),
                );
            }
        }
    }

    /// Checks the pools and the login where the agent itself logs in.
    fn login_mistakes(&self, wrong: &mut impl FnMut(&str, String)) {
        let pool = &self.pool;
        if pool.endpoints.is_empty() {
            wrong("pool.endpoints", "it must name at least one pool".into());
        }
        for endpoint in &pool.endpoints {
            let named = scheme_protocol(endpoint);
            if named.is_some() && named != self.pool_protocol() {
                wrong(
                    "pool.endpoints",
                    format!(
                        "the scheme of {endpoint} names another protocol than the one that the agent speaks: write stratum+tcp:// or stratum+tls://, or set pool.protocol"
                    ),
                );
            } else if let Err(sentence) = crate::pool::endpoint(pool, endpoint) {
                wrong("pool.endpoints", sentence);
            }
        }
        if pool.wallet_file.is_none() {
            wrong(
                "pool.wallet_file",
                "it must name the file with the wallet: there is no default wallet".into(),
            );
        }
    }

    fn adapter_mistakes(&self, wrong: &mut impl FnMut(&str, String)) {
        let name = self.engine.name;
        if self.engine.figures.is_some() {
            wrong("engine.figures", format!("the agent knows the figures of {name}: remove it"));
        }
        if self.engine.config_template.is_some() {
            wrong(
                "engine.config_template",
                format!("the agent writes the configuration of {name}: remove it"),
            );
        }
        if self.pool.endpoints.is_empty() && self.pool_protocol().is_none() {
            wrong("pool.endpoints", format!("{name} needs at least one pool"));
        }
        if self.pool_protocol().is_some() {
            return;
        }
        let secrets = [
            ("pool.wallet_file", &self.pool.wallet_file, name.keeps_wallet()),
            ("pool.password_file", &self.pool.password_file, name.keeps_password()),
        ];
        for (place, _, _) in secrets.iter().filter(|(_, file, kept)| file.is_some() && !kept) {
            wrong(
                place,
                format!(
                    "{name} takes it on its command line only, where anyone who sees the process can read it: remove it, and name a proxy that holds it in pool.endpoints. Or set pool.protocol to what the pool speaks: the agent is then that proxy"
                ),
            );
        }
    }
}

fn figure_mistakes(figures: &FigureSource, wrong: &mut impl FnMut(&str, String)) {
    if let Err(sentence) = loopback(&figures.address) {
        wrong("engine.figures.address", sentence);
    }
    if !(figures.hashrate_scale.is_finite() && figures.hashrate_scale > 0.0) {
        wrong("engine.figures.hashrate_scale", "it must be a number above 0".into());
    }
    for (name, path) in figures.paths() {
        if let Err(sentence) = figures.format.accepts(path) {
            wrong(&format!("engine.figures.{name}"), sentence);
        }
    }
    if figures.paths().next().is_none() {
        wrong("engine.figures", "it must name the place of at least one figure".into());
    }
}

fn pool_mistakes(pool: &Pool, wrong: &mut impl FnMut(&str, String)) {
    for endpoint in &pool.endpoints {
        if let Err(sentence) = host_and_port(endpoint) {
            wrong("pool.endpoints", format!("\"{endpoint}\": {sentence}"));
        }
    }
    for (place, file) in
        [("pool.wallet_file", &pool.wallet_file), ("pool.password_file", &pool.password_file)]
    {
        if file.as_deref().is_some_and(|file| file == Path::new("")) {
            wrong(place, "it must name a file".into());
        }
    }
}

/// Checks that `program`, a path or a name in `PATH`, can be run.
fn check_program(program: &str) -> Result<(), String> {
    let runs = |file: &Path| {
        file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return runs(Path::new(program))
            .then_some(())
            .ok_or_else(|| format!("{program} is not an executable file"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .any(|directory| runs(&directory.join(program)))
        .then_some(())
        .ok_or_else(|| format!("{program} is not in any directory of PATH: write its whole path"))
}

/// Returns the host and the port of `endpoint`, which is `host:port` or `scheme://host:port`.
pub(crate) fn host_and_port(endpoint: &str) -> Result<(&str, u16), String> {
    let bare = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let bare = bare.trim_end_matches('/');
    if bare.contains(['@', '/', ' ']) {
        return Err("write scheme://host:port, without a login and without a path".into());
    }
    let (host, port) = bare.rsplit_once(':').ok_or("it has no port: write host:port")?;
    if host.is_empty() {
        return Err("it has no host: write host:port".into());
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok((host, port)),
        _ => Err(format!("\"{port}\" is not a port: it must be from 1 to 65535")),
    }
}

/// Returns the socket address and the path of a URL on loopback.
pub(crate) fn loopback(address: &str) -> Result<(SocketAddr, String), String> {
    let rest = address.strip_prefix("http://").ok_or("it must begin with http://")?;
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let socket: SocketAddr = host
        .replace("localhost", "127.0.0.1")
        .parse()
        .map_err(|_| "it must be an IP address with a port, such as http://127.0.0.1:8080/stats")?;
    if !socket.ip().is_loopback() {
        return Err(format!(
            "{} is not on loopback: figures are read from inside the pod only",
            socket.ip()
        ));
    }
    Ok((socket, path.to_owned()))
}

/// Returns the address to listen on: `text` itself, or the pod's own address for `pod:PORT`, which the
/// kubelet writes into `/etc/hosts` next to the pod's name.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, String> {
    let address = match text.strip_prefix(POD_ADDRESS) {
        Some(port) => {
            let port = port.parse().map_err(|_| format!("\"{port}\" is not a port"))?;
            SocketAddr::new(pod_address()?, port)
        }
        None => text.parse().map_err(|_| {
            format!("\"{text}\" is not an address: write 127.0.0.1:{PORT} or {POD_ADDRESS}{PORT}")
        })?,
    };
    if address.ip().is_unspecified() {
        return Err(format!(
            "{} means every network that the pod is on: write 127.0.0.1:{port} or {POD_ADDRESS}{port}",
            address.ip(),
            port = address.port()
        ));
    }
    Ok(address)
}

fn pod_address() -> Result<IpAddr, String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    address_of(&name, &hosts)
        .ok_or_else(|| format!("/etc/hosts has no address for {name}: write the address itself"))
}

fn address_of(name: &str, hosts: &str) -> Option<IpAddr> {
    hosts.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word == name).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        let config: Config = toml::from_str(text).unwrap();
        config.mistakes().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_mistake_of_meaning_is_a_sentence_with_its_place() {
        let all = mistakes(
            r#"
            [engine]
            dev_fee = 2
            args = ["--config={config}"]
            [engine.figures]
            address = "http://10.0.0.1:80/"
            format = "json"
            hashrate = "total"
            [pool]
            endpoints = ["stratum+tcp://me@pool.example.com:3333", "pool.example.com"]
            [restart]
            limit = 0
            [http]
            listen = "0.0.0.0:9735"
            [lease]
            file = "/lease"
            lapses_after = "0s"
            "#,
        );
        assert_eq!(
            all,
            [
                "engine.command: it must name the engine's program, here or after --",
                "engine.dev_fee: it must be a ratio from 0 to 1: 0.01 is one percent",
                "engine.args: {config} stands for the file made from engine.config_template, which is not set",
                "engine.figures.address: 10.0.0.1 is not on loopback: figures are read from inside the pod only",
                "engine.figures.hashrate: \"total\" is not a JSON pointer: it must begin with /",
                "pool.endpoints: \"stratum+tcp://me@pool.example.com:3333\": write scheme://host:port, without a login and without a path",
                "pool.endpoints: \"pool.example.com\": it has no port: write host:port",
                "restart.limit: it must be at least 1: with 1 the first crash ends the run",
                "http.listen: 0.0.0.0 means every network that the pod is on: write 127.0.0.1:9735 or pod:9735",
                "lease.lapses_after: it must be at least 1s",
            ]
        );
    }

    #[test]
    fn a_pods_address_is_what_kubelet_writes() {
        let hosts = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n10.88.0.7\tminer-1\n";
        assert_eq!(address_of("miner-1", hosts), "10.88.0.7".parse().ok());
        assert_eq!(address_of("miner-2", hosts), None);
    }
}
