//! A run of an engine that is a program of its own.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daylight_stratum::client::Status;
use daylight_stratum::proxy::{self, Proxy};

use crate::adapters::{Adapter, Upstream};
use crate::config::{Config, FigureSource, Protocol, loopback};
use crate::fetch;
use crate::figures::Figures;
use crate::pool;
use crate::secret::Secrets;

/// A program, its arguments, and what it needs while it runs: a proxy to the pools where the agent
/// itself is logged in, and a file with its configuration.
pub(crate) struct Program {
    words: Vec<String>,
    env: Vec<(String, String)>,
    figures: Option<Source>,
    proxy: Option<Proxy>,
    _file: Option<SecretFile>,
}

/// Reason that an engine's figures cannot be read.
#[derive(Clone, Debug)]
pub(crate) enum Unreadable {
    /// The engine does not answer, as one that hangs.
    NoAnswer(String),
    /// It answers, in a form that is not known.
    Answer(String),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::NoAnswer(why) | Self::Answer(why)) = self;
        f.write_str(why)
    }
}

/// Source of an engine's figures.
struct Source {
    address: SocketAddr,
    path: String,
    form: Form,
}

/// Form of an engine's figures.
enum Form {
    /// As the agent knows it of this engine.
    Known(&'static Adapter),
    /// As the configuration describes it.
    Configured(Box<FigureSource>),
}

/// A file that may hold a secret, removed when the run ends.
struct SecretFile(PathBuf);

impl Program {
    /// Starts the proxy, writes the engine's file, and makes the command line.
    ///
    /// # Errors
    ///
    /// One sentence: which setting cannot be followed, and why.
    pub(crate) async fn new(config: &Config, secrets: &Secrets) -> Result<Self, String> {
        let engine = &config.engine;
        let client = pool::client(config, secrets);
        let proxy = match config.pool_protocol() {
            Some(Protocol::StratumV1) => Some(Proxy::start::<proxy::V1>(client).await),
            Some(Protocol::Monero) => Some(Proxy::start::<proxy::Monero>(client).await),
            Some(Protocol::EthereumStratum) => {
                Some(Proxy::start::<proxy::EthereumStratum>(client).await)
            }
            Some(Protocol::EthProxy) => Some(Proxy::start::<proxy::EthProxy>(client).await),
            Some(Protocol::Kawpow) => Some(Proxy::start::<proxy::Kawpow>(client).await),
            Some(Protocol::Unknown) | None => None,
        };
        let proxy = proxy.transpose();
        let proxy = proxy.map_err(|error| format!("the agent's port cannot be opened: {error}"))?;
        let upstream = match &proxy {
            Some(proxy) => Upstream::proxy(config, proxy.address()),
            None => Upstream::new(config, secrets),
        };
        let adapter = engine.name.adapter();
        let text = match &engine.config_template {
            Some(template) => {
                let text = fs::read_to_string(template).map_err(|error| {
                    format!("engine.config_template: {}: {error}", template.display())
                })?;
                Some(upstream.fill(&text))
            }
            None => adapter.and_then(|adapter| adapter.file(&upstream)),
        };
        let directory = &config.agent.run_dir;
        let file = text.map(|text| SecretFile::write(directory, &text)).transpose();
        let file = file.map_err(|error| {
            format!(
                "agent.run_dir: {} cannot be written: {error}; name a directory in memory, such as an emptyDir",
                directory.display()
            )
        })?;
        let path = file.as_ref().map(|file| file.0.to_string_lossy()).unwrap_or_default();
        let added = adapter.map(|adapter| upstream.args(adapter)).unwrap_or_default();
        let words = engine.command.iter().chain(&added).chain(&engine.args);
        Ok(Self {
            words: words.map(|word| upstream.fill_word(word).replace("{config}", &path)).collect(),
            env: engine.env.clone().into_iter().collect(),
            figures: Source::new(config),
            proxy,
            _file: file,
        })
    }

    /// Returns the command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut words = self.words.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        command.args(words).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Returns the state of the agent's own logins at the pools, where it has some.
    pub(crate) fn pools(&self) -> Option<Status> {
        self.proxy.as_ref().map(Proxy::status)
    }

    /// Reads the figures of the program, and adds the agent's own. The error is why the program's
    /// cannot be read.
    pub(crate) async fn figures(&self) -> (Option<Figures>, Option<Unreadable>) {
        let (reported, error) = match &self.figures {
            None => (None, None),
            Some(source) => match source.read().await {
                Ok(figures) => (Some(figures), None),
                Err(error) => (None, Some(error)),
            },
        };
        let Some(proxy) = &self.proxy else { return (reported, error) };
        let mut figures = with_pool(reported, &proxy.status());
        if let Some(pool) = &mut figures.pool {
            pool.engines = Some(proxy.engines());
        }
        (Some(figures), error)
    }

    /// Waits, after the program has ended, for the pool's answers on its last shares. Returns the
    /// agent's figures then, over those that the program reported last.
    pub(crate) async fn settle(self, last: Option<Figures>, within: Duration) -> Option<Figures> {
        let status = self.proxy?.drain(within).await;
        Some(with_pool(last, &status))
    }
}

/// Adds the agent's own figures. Hashes are those that the accepted shares stand for, since that is
/// the only count that does not depend on the program's word.
fn with_pool(reported: Option<Figures>, status: &Status) -> Figures {
    let hashes = Some(status.accepted_hashes as f64);
    Figures { hashes, ..reported.unwrap_or_default() }.with_pool(status)
}

impl Source {
    fn new(config: &Config) -> Option<Self> {
        let engine = &config.engine;
        if let Some(adapter) = engine.name.adapter() {
            let address = (Ipv4Addr::LOCALHOST, engine.api_port).into();
            return Some(Self { address, path: adapter.path.into(), form: Form::Known(adapter) });
        }
        let source = engine.figures.clone()?;
        let (address, path) = loopback(&source.address).ok()?;
        Some(Self { address, path, form: Form::Configured(source.into()) })
    }

    async fn read(&self) -> Result<Figures, Unreadable> {
        let answer = fetch::get(self.address, &self.path).await.map_err(Unreadable::NoAnswer)?;
        let figures = match &self.form {
            Form::Configured(source) => source.parse(&answer),
            Form::Known(adapter) => serde_json::from_slice(&answer)
                .map(|answer| adapter.read(&answer))
                .map_err(|error| format!("the answer is not JSON: {error}")),
        };
        figures.map_err(Unreadable::Answer)
    }
}

impl SecretFile {
    /// Writes `text` where only this user can read it.
    fn write(directory: &Path, text: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let file = directory.join("engine.conf");
        // Created new, with its mode: an existing file would keep its own mode and any reader that
        // has it open.
        let _ = fs::remove_file(&file);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
        out.write_all(text.as_bytes())?;
        Ok(Self(file))
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // If it fails, the file still ends with the container: the directory is in memory.
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
        let (wallet, password) = (Some("49wallet".into()), Some("hunter2".into()));
        let secrets = Secrets { wallet, password, ..Secrets::default() };
        let program = Program::new(&config, &secrets).await.unwrap();
        let path = config.agent.run_dir.join("engine.conf");
        let file = fs::read_to_string(&path).unwrap();
        let address = program.proxy.as_ref().unwrap().address().to_string();
        for secret in ["49wallet", "hunter2", "pool.example.com"] {
            assert!(!file.contains(secret), "{file}");
        }
        assert!(file.contains(&address), "{file}");
        assert_eq!(program.words[1], address);

        drop(program);
        assert!(!path.exists());

        config.pool.protocol = Some(Protocol::Unknown);
        let alone = Program::new(&config, &secrets).await.unwrap();
        let file = fs::read_to_string(&path).unwrap();
        assert!(file.contains("49wallet") && file.contains("pool.example.com:3333"), "{file}");
        assert!(alone.proxy.is_none());
    }
}
