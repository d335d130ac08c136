//! A run of somebody else's program.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daylight_stratum::client::Status;
use daylight_stratum::proxy::{self, Proxy};

use crate::adapters::Upstream;
use crate::config::{Config, EngineName, FigureSource, Protocol, loopback};
use crate::fetch;
use crate::figures::Figures;
use crate::pool;
use crate::secret::Secrets;

/// Somebody else's program, told for whom to work: by the agent, which then stands between it and
/// the pools, or for the pool itself.
pub(crate) struct Program {
    words: Vec<String>,
    env: Vec<(String, String)>,
    figures: Option<Source>,
    proxy: Option<Proxy>,
    _file: Option<SecretFile>,
}

/// Where an engine gives its figures.
struct Source {
    address: SocketAddr,
    path: String,
    form: Form,
}

/// How it writes them.
enum Form {
    /// As the agent knows of this engine.
    Known(EngineName),
    /// As the configuration says.
    Told(Box<FigureSource>),
}

/// A file that may hold a secret, and goes when the run does.
struct SecretFile(PathBuf);

impl Program {
    /// Makes what the program needs: the proxy, and the file that tells it what to do.
    pub(crate) async fn new(config: &Config, secrets: &Secrets) -> io::Result<Self> {
        let engine = &config.engine;
        let told = pool::client(config, secrets);
        let proxy = match config.pool_protocol() {
            Some(Protocol::StratumV1) => Some(Proxy::start::<proxy::V1>(told).await?),
            Some(Protocol::Monero) => Some(Proxy::start::<proxy::Monero>(told).await?),
            Some(Protocol::Unknown) | None => None,
        };
        let upstream = match &proxy {
            Some(proxy) => Upstream::proxy(config, proxy.address()),
            None => Upstream::new(config, secrets),
        };
        let text = match &engine.config_template {
            Some(template) => Some(upstream.fill(&fs::read_to_string(template)?)),
            None => engine.name.file(&upstream),
        };
        let file = text.map(|text| SecretFile::write(&config.agent.run_dir, &text)).transpose()?;
        let path = file.as_ref().map(|file| file.0.to_string_lossy()).unwrap_or_default();
        let made = engine.name.args(&upstream);
        let words = engine.command.iter().chain(&made).chain(&engine.args);
        Ok(Self {
            words: words.map(|word| upstream.place(word).replace("{config}", &path)).collect(),
            env: engine.env.clone().into_iter().collect(),
            figures: Source::new(config),
            proxy,
            _file: file,
        })
    }

    /// How it is started.
    pub(crate) fn command(&self) -> Command {
        let mut words = self.words.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        command.args(words).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// How it stands with the pools, where the agent stands in between.
    pub(crate) fn pools(&self) -> Option<Status> {
        self.proxy.as_ref().map(Proxy::status)
    }

    /// What the program tells of itself now, with what the agent saw. An error is why the program
    /// tells nothing.
    pub(crate) async fn figures(&self) -> (Option<Figures>, Option<String>) {
        let (told, untold) = match &self.figures {
            None => (None, None),
            Some(source) => match source.read().await {
                Ok(figures) => (Some(figures), None),
                Err(says) => (None, Some(says)),
            },
        };
        match self.pools() {
            Some(status) => (Some(with_pools(&status, told)), untold),
            None => (told, untold),
        }
    }

    /// The program has ended: waits for the pool's word on its last shares. Gives what the agent
    /// saw then, on top of what the program told last.
    pub(crate) async fn settle(self, told: Option<Figures>, within: Duration) -> Option<Figures> {
        let status = self.proxy?.drain(within).await;
        Some(with_pools(&status, told))
    }
}

/// Hashes are those that the accepted shares stand for: what nobody else can count.
fn with_pools(status: &Status, told: Option<Figures>) -> Figures {
    let hashes = Some(status.accepted_hashes as f64);
    pool::seen(status, Figures { hashes, ..told.unwrap_or_default() })
}

impl Source {
    fn new(config: &Config) -> Option<Self> {
        let engine = &config.engine;
        if let Some(path) = engine.name.path() {
            let address = (Ipv4Addr::LOCALHOST, engine.api_port).into();
            return Some(Self { address, path: path.into(), form: Form::Known(engine.name) });
        }
        let told = engine.figures.clone()?;
        let (address, path) = loopback(&told.address).ok()?;
        Some(Self { address, path, form: Form::Told(told.into()) })
    }

    async fn read(&self) -> Result<Figures, String> {
        let answer = fetch::get(self.address, &self.path).await?;
        match &self.form {
            Form::Told(told) => told.parse(&answer),
            Form::Known(name) => serde_json::from_slice(&answer)
                .map(|answer| name.parse(&answer))
                .map_err(|error| format!("the answer is no JSON: {error}")),
        }
    }
}

impl SecretFile {
    /// Writes `text` where only this user can read it.
    fn write(directory: &Path, text: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let file = directory.join("engine.conf");
        let _ = fs::remove_file(&file);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
        out.write_all(text.as_bytes())?;
        Ok(Self(file))
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // The directory is in memory, and ends with the container.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_behind_the_agent_learns_neither_pool_nor_wallet() {
        let directory = tempfile::tempdir().unwrap();
        let text = r#"
            [engine]
            name = "xmrig"
            command = ["/bin/true", "{host}:{port}"]
            [pool]
            endpoints = ["stratum+tls://pool.example.com:3333"]
        "#;
        let mut config: Config = toml::from_str(text).unwrap();
        config.agent.run_dir = directory.path().join("run");
        let secrets = Secrets { wallet: Some("49wallet".into()), password: Some("hunter2".into()) };
        let program = Program::new(&config, &secrets).await.unwrap();
        let told = config.agent.run_dir.join("engine.conf");
        let file = fs::read_to_string(&told).unwrap();
        let address = program.proxy.as_ref().unwrap().address().to_string();
        for told in ["49wallet", "hunter2", "pool.example.com"] {
            assert!(!file.contains(told), "{file}");
        }
        assert!(file.contains(&address), "{file}");
        assert_eq!(program.words[1], address);

        drop(program);
        assert!(!told.exists());

        config.pool.protocol = Some(Protocol::Unknown);
        let alone = Program::new(&config, &secrets).await.unwrap();
        let file = fs::read_to_string(&told).unwrap();
        assert!(file.contains("49wallet") && file.contains("pool.example.com:3333"), "{file}");
        assert!(alone.proxy.is_none());
    }
}
