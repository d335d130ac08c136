//! What a configuration of the right form can still have wrong.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use daylight_agent_api::env::POD_ADDRESS;
use daylight_agent_api::http::PORT;

use super::{Config, EngineName, FigureSource, Pool};
use crate::engine::BuiltInName;

/// One mistake as one sentence, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    place: String,
    says: String,
}

impl Mistake {
    /// What is wrong at `place`.
    pub(crate) fn new(place: impl Into<String>, says: impl Into<String>) -> Self {
        Self { place: place.into(), says: says.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.says)
    }
}

impl Config {
    /// All mistakes of meaning.
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Vec::new();
        let mut wrong = |place: &str, says: String| found.push(Mistake::new(place, says));
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
        if let Err(says) = listen(&self.http.listen) {
            wrong("http.listen", says);
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
                format!("{} is part of the agent and is no program: leave it out", engine.name),
            ),
            None if engine.name.built_in().is_some() => {}
            Some(program) if !program.is_empty() => {
                if let Err(says) = program_there(program) {
                    wrong("engine.command", says);
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
                        "neither engine.command nor engine.args has {config}, so the engine would never see it".into(),
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
        if self.pool_protocol().is_some() {
            self.spoken_mistakes(wrong);
        } else if self.pool.wallet_commitment.is_some() {
            wrong(
                "pool.wallet_commitment",
                "it can be held to only where the agent itself logs in: set pool.protocol, or leave it out".into(),
            );
        }
    }

    fn built_in_mistakes(&self, name: BuiltInName, wrong: &mut impl FnMut(&str, String)) {
        let engine = &self.engine;
        if !name.is_available() {
            wrong(
                "engine.name",
                format!("this agent was built without {}: take another image", engine.name),
            );
        }
        if engine.algorithm.as_deref().is_some_and(|algorithm| algorithm != name.algorithm()) {
            wrong(
                "engine.algorithm",
                format!("{} computes {}: leave it out", engine.name, name.algorithm()),
            );
        }
        for (place, said) in [
            ("engine.args", !engine.args.is_empty()),
            ("engine.figures", engine.figures.is_some()),
            ("engine.config_template", engine.config_template.is_some()),
            ("drain.hook", !self.drain.hook.is_empty()),
            ("pool.protocol", self.pool.protocol.is_some()),
        ] {
            if said {
                wrong(
                    place,
                    format!(
                        "it is for programs, and {} is part of the agent: leave it out",
                        engine.name
                    ),
                );
            }
        }
    }

    /// Where the agent itself logs in, it has to know where and as whom.
    fn spoken_mistakes(&self, wrong: &mut impl FnMut(&str, String)) {
        let pool = &self.pool;
        if pool.endpoints.is_empty() {
            wrong("pool.endpoints", "it must name a pool to work for".into());
        }
        for endpoint in &pool.endpoints {
            if let Err(says) = crate::pool::endpoint(pool, endpoint) {
                wrong("pool.endpoints", says);
            }
        }
        if pool.wallet_file.is_none() {
            wrong(
                "pool.wallet_file",
                "it must name the file with the wallet: there is no default one".into(),
            );
        }
    }

    fn adapter_mistakes(&self, wrong: &mut impl FnMut(&str, String)) {
        let name = self.engine.name;
        if self.engine.figures.is_some() {
            wrong(
                "engine.figures",
                format!("the agent knows where {name} gives its figures: leave it out"),
            );
        }
        if self.engine.config_template.is_some() {
            wrong(
                "engine.config_template",
                format!("the agent makes the files of {name}: leave it out"),
            );
        }
        if self.pool.endpoints.is_empty() && self.pool_protocol().is_none() {
            wrong("pool.endpoints", format!("{name} needs a pool to work for"));
        }
        if self.pool_protocol().is_some() {
            return;
        }
        let secrets = [
            ("pool.wallet_file", &self.pool.wallet_file),
            ("pool.password_file", &self.pool.password_file),
        ];
        for (place, _) in secrets.iter().filter(|(_, file)| file.is_some() && !name.keeps_secrets())
        {
            wrong(
                place,
                format!(
                    "{name} takes it on its command line only, where everyone can read it: leave it out, and let pool.endpoints name a proxy that holds it; where the pool speaks Bitcoin's Stratum, set pool.protocol = \"stratum-v1\", and the agent is that proxy"
                ),
            );
        }
    }
}

fn figure_mistakes(figures: &FigureSource, wrong: &mut impl FnMut(&str, String)) {
    if let Err(says) = loopback(&figures.address) {
        wrong("engine.figures.address", says);
    }
    if !(figures.hashrate_scale.is_finite() && figures.hashrate_scale > 0.0) {
        wrong("engine.figures.hashrate_scale", "it must be a number above 0".into());
    }
    for (name, path) in figures.paths() {
        if let Err(says) = figures.format.accepts(path) {
            wrong(&format!("engine.figures.{name}"), says);
        }
    }
    if figures.paths().next().is_none() {
        wrong("engine.figures", "it must say where at least one figure stands".into());
    }
}

fn pool_mistakes(pool: &Pool, wrong: &mut impl FnMut(&str, String)) {
    for endpoint in &pool.endpoints {
        if let Err(says) = host_and_port(endpoint) {
            wrong("pool.endpoints", format!("\"{endpoint}\": {says}"));
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

/// Whether `program` can be run: as a path, or as a name in `PATH`.
fn program_there(program: &str) -> Result<(), String> {
    let runs = |file: &Path| {
        file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return runs(Path::new(program))
            .then_some(())
            .ok_or_else(|| format!("{program} is no file that can be run"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .any(|directory| runs(&directory.join(program)))
        .then_some(())
        .ok_or_else(|| format!("{program} is in no directory of PATH: write its whole path"))
}

/// The host and the port of `endpoint`, which is `host:port` or `scheme://host:port`.
pub(crate) fn host_and_port(endpoint: &str) -> Result<(&str, u16), String> {
    let bare = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    if bare.contains(['@', '/', ' ']) {
        return Err("write scheme://host:port, without a login and without a path".into());
    }
    let (host, port) = bare.rsplit_once(':').ok_or("it has no port: write host:port")?;
    if host.is_empty() {
        return Err("it has no host: write host:port".into());
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok((host, port)),
        _ => Err(format!("\"{port}\" is no port: it must be from 1 to 65535")),
    }
}

/// The socket address, host and path of an address on loopback.
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
            "{} is not on loopback: an engine's figures are only read from inside the pod",
            socket.ip()
        ));
    }
    Ok((socket, path.to_owned()))
}

/// The address to listen on: as it is written, or the pod's own one for `pod:PORT`, which kubelet
/// writes into `/etc/hosts` beside the pod's name.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, String> {
    let address = match text.strip_prefix(POD_ADDRESS) {
        Some(port) => {
            let port = port.parse().map_err(|_| format!("\"{port}\" is no port"))?;
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

    fn said(text: &str) -> Vec<String> {
        let config: Config = toml::from_str(text).unwrap();
        config.mistakes().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_mistake_of_meaning_is_a_sentence_with_its_place() {
        let all = said(
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
                "engine.figures.address: 10.0.0.1 is not on loopback: an engine's figures are only read from inside the pod",
                "engine.figures.hashrate: \"total\" is no JSON pointer: it must begin with /",
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
