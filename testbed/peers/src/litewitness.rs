//! A witness of transparency logs.

use std::path::{Path, PathBuf};

use daylight_testbed::{GoProgram, Scratch};
use tokio::net::TcpStream;

use crate::daemon::{Daemon, free_port, on_a_free_port};
use crate::error::{Error, Result};

const NAME: &str = "litewitness";

/// litewitness, torchwood's witness by C2SP `tlog-witness`, which knows one log. Dropping it ends it.
#[derive(Debug)]
pub struct LiteWitness {
    _daemon: Daemon,
    port: u16,
    /// Last, so that it is removed after the process has ended.
    _scratch: Scratch,
}

impl LiteWitness {
    /// Starts a witness, and waits until it listens. The first start on a machine builds it, which
    /// takes about two minutes. Its Ed25519 key is made of `seed`; `log` is the verifier key of the log.
    pub async fn start(name: &str, seed: [u8; 32], log: &str) -> Result<Self> {
        let programs = tokio::task::spawn_blocking(build)
            .await
            .map_err(|error| Error::io("building litewitness")(std::io::Error::other(error)))??;
        on_a_free_port(|| Self::start_once(&programs, name, seed, log)).await
    }

    async fn start_once(
        (prepared, witness): &(PathBuf, PathBuf),
        name: &str,
        seed: [u8; 32],
        log: &str,
    ) -> Result<Self> {
        let scratch = Scratch::new()?;
        let port = free_port()?;
        let arguments = [
            witness.display().to_string(),
            scratch.path().display().to_string(),
            name.to_owned(),
            hex::encode(seed),
            format!("127.0.0.1:{port}"),
            log.to_owned(),
        ];
        let mut daemon = Daemon::start(NAME, prepared, &arguments, scratch.path())?;
        daemon.until(async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await?;
        Ok(Self { _daemon: daemon, port, _scratch: scratch })
    }

    /// Returns the address to which `add-checkpoint` is posted, as `HOST:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn build() -> Result<(PathBuf, PathBuf)> {
    let program = |name, package| GoProgram {
        name,
        title: name,
        sources: Path::new(env!("CARGO_MANIFEST_DIR")).join("litewitness"),
        package,
        linker_flags: "-s -w".into(),
        takes: Some("about a minute"),
        instead: "",
    };
    Ok((
        program("prepared-litewitness", ".").build()?,
        program(NAME, "filippo.io/torchwood/cmd/litewitness").build()?,
    ))
}
