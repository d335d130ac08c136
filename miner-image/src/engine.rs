//! What an engine is to the agent.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::adapters::Upstream;
use crate::config::{Config, EngineName, FigureSource, host_and_port, loopback};
use crate::fetch;
use crate::figures::Figures;
use crate::record::Evidence;
use crate::secret::Secrets;

/// Something that works for a pool. Engines that are built in, and the one that stands between an
/// engine and its pool, are further kinds.
pub(crate) enum Engine {
    /// A program of somebody else's.
    External(External),
}

/// A program of somebody else's, and how it is started and asked.
pub(crate) struct External {
    words: Vec<String>,
    env: Vec<(String, String)>,
    figures: Option<Source>,
    /// Holds the wallet, and goes when the engine does.
    secret_file: Option<PathBuf>,
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

impl Engine {
    /// The engine that `config` asks for. Writes the file with its secrets, if it has one.
    pub(crate) fn new(config: &Config, secrets: &Secrets) -> io::Result<Self> {
        let engine = &config.engine;
        let upstream = Upstream::new(config, secrets);
        let text = match &engine.config_template {
            Some(template) => Some(fill(&fs::read_to_string(template)?, config, secrets)),
            None => engine.name.file(&upstream),
        };
        let secret_file =
            text.map(|text| write_secret(&config.agent.run_dir, &text)).transpose()?;
        let path = secret_file.as_deref().map(Path::to_string_lossy).unwrap_or_default();
        let made = engine.name.args(&upstream);
        let words = engine.command.iter().chain(&made).chain(&engine.args);
        Ok(Self::External(External {
            words: words.map(|word| word.replace("{config}", &path)).collect(),
            env: engine.env.clone().into_iter().collect(),
            figures: Source::new(config),
            secret_file,
        }))
    }

    /// How it is started.
    pub(crate) fn command(&self) -> Command {
        let Self::External(external) = self;
        let mut words = external.words.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        command.args(words).envs(external.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Whether it can be asked for its figures.
    pub(crate) fn tells(&self) -> bool {
        let Self::External(external) = self;
        external.figures.is_some()
    }

    /// Who sees what it tells.
    pub(crate) fn evidence(&self) -> Evidence {
        match self {
            Self::External(_) => Evidence::Claimed,
        }
    }

    /// What it tells of itself now.
    ///
    /// # Errors
    ///
    /// One sentence on why it tells nothing.
    pub(crate) async fn figures(&self) -> Result<Figures, String> {
        let Self::External(external) = self;
        let Some(source) = &external.figures else {
            return Err("the configuration does not say where its figures are".into());
        };
        let answer = fetch::get(source.address, &source.path).await?;
        match &source.form {
            Form::Told(told) => told.parse(&answer),
            Form::Known(name) => serde_json::from_slice(&answer)
                .map(|answer| name.parse(&answer))
                .map_err(|error| format!("the answer is no JSON: {error}")),
        }
    }
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
}

impl Drop for External {
    fn drop(&mut self) {
        if let Some(file) = &self.secret_file {
            // The directory is in memory, and ends with the container.
            let _ = fs::remove_file(file);
        }
    }
}

/// `template` with what the agent knows.
fn fill(template: &str, config: &Config, secrets: &Secrets) -> String {
    let pool = config.pool.endpoints.first().map_or("", String::as_str);
    let (host, port) = host_and_port(pool).unwrap_or_default();
    let port = port.to_string();
    let values = [
        ("{wallet}", secrets.wallet.as_deref().unwrap_or("")),
        ("{password}", secrets.password.as_deref().unwrap_or("x")),
        ("{worker}", config.pool.worker.as_deref().unwrap_or("")),
        ("{algorithm}", config.engine.algorithm.as_deref().unwrap_or("")),
        ("{pool}", pool),
        ("{host}", host),
        ("{port}", &port),
    ];
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    // Once through, so that what is filled in is never filled in again.
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

/// Writes `text` where only this user can read it.
fn write_secret(directory: &Path, text: &str) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let file = directory.join("engine.conf");
    let _ = fs::remove_file(&file);
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
    out.write_all(text.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_once() {
        let mut config = Config::default();
        config.pool.endpoints = vec!["stratum+tcp://pool.example.com:3333".into()];
        let secrets = Secrets { wallet: Some("49{password}".into()), password: Some("p".into()) };
        let text = fill(
            r#"{"url":"{host}:{port}","user":"{wallet}","pass":"{password}","x":{}}"#,
            &config,
            &secrets,
        );
        assert_eq!(
            text,
            r#"{"url":"pool.example.com:3333","user":"49{password}","pass":"p","x":{}}"#
        );
    }
}
