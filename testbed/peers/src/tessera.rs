//! A peer of Daylight's ledger.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use daylight_testbed::GoProgram;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::error::{Error, Result};

const NAME: &str = "tessera";

/// Tessera, the library for transparency logs that Certificate Transparency's logs use: its `fsck`, and
/// its logs on a POSIX file system. It also makes and verifies cosignatures, those by ML-DSA-44 with a
/// library of its own.
///
/// Each method runs the program once, and waits for it.
#[derive(Clone, Debug)]
pub struct Tessera {
    program: PathBuf,
}

impl Tessera {
    /// Finds the program. The first time on a machine it is built, which takes about half a minute.
    pub async fn find() -> Result<Self> {
        let program = tokio::task::spawn_blocking(build)
            .await
            .map_err(|error| Error::io("building tessera")(std::io::Error::other(error)))??;
        Ok(Self { program })
    }

    /// Checks the log that is served at an address ending in `/`, against the checkpoint there and the
    /// log's verifier key: each bundle and each tile.
    pub async fn fsck(&self, url: &str, key: &str) -> Result<()> {
        self.run(&["fsck", url, key], "").await.map(drop)
    }

    /// Appends entries, one a line, to the log in a directory, which is created if necessary, and waits
    /// for a checkpoint with all of them. With a policy, its witnesses must cosign that.
    pub async fn append(
        &self,
        directory: &Path,
        private_key: &str,
        policy: Option<&Path>,
        entries: &str,
    ) -> Result<()> {
        let directory = directory.display().to_string();
        let policy = policy.map(|policy| policy.display().to_string());
        let mut arguments = vec!["append", &directory, private_key];
        arguments.extend(policy.as_deref());
        self.run(&arguments, entries).await.map(drop)
    }

    /// Appends batches of entries to the log in a directory, one each `period` or one after the other, and
    /// returns a line with the rate and how long a batch took until it was durable.
    pub async fn rate(
        &self,
        directory: &Path,
        private_key: &str,
        batches: u32,
        entries: u32,
        period: Duration,
    ) -> Result<String> {
        let directory = directory.display().to_string();
        let period = format!("{}ms", period.as_millis());
        let (batches, entries) = (batches.to_string(), entries.to_string());
        self.run(&["rate", &directory, private_key, &batches, &entries, &period], "").await
    }

    /// Returns a cosignature line of an ML-DSA-44 key over a signed checkpoint.
    pub async fn cosign(&self, private_key: &str, note: &str) -> Result<String> {
        self.run(&["cosign", private_key], note).await
    }

    /// Verifies that a key of a witness cosigned a signed checkpoint.
    pub async fn verify(&self, key: &str, note: &str) -> Result<()> {
        self.run(&["verify", key], note).await.map(drop)
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<String> {
        let doing = || format!("tessera {}", arguments[0]);
        let mut child = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::io(doing()))?;
        if let Some(mut pipe) = child.stdin.take() {
            // It may end without having read all of it; then its status says why.
            let _ = pipe.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(Error::io(doing()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Refused {
            node: NAME,
            method: arguments[0].to_owned(),
            code: output.status.code().unwrap_or_default().into(),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

fn build() -> Result<PathBuf> {
    let program = GoProgram {
        name: NAME,
        title: "tessera",
        sources: Path::new(env!("CARGO_MANIFEST_DIR")).join("tessera"),
        package: ".",
        linker_flags: "-s -w".into(),
        takes: Some("about half a minute"),
        instead: "",
    };
    Ok(program.build()?)
}
