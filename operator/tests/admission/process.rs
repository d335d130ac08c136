//! The program under test, as processes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use daylight_testbed::ControlPlane;
use tokio::process::Child;

/// The variables by which a program finds the control plane.
pub(crate) type Environment = Vec<(&'static str, PathBuf)>;

/// One that serves: it ends when this is dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `daylight ARGUMENTS`, whose log is named `name`.
    pub(crate) fn start(control_plane: &ControlPlane, name: &str, arguments: &[&str]) -> Self {
        let log = control_plane.directory().join(format!("logs/{name}.log"));
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_daylight"))
            .args(arguments)
            .args(["--listen", "none"])
            .envs(control_plane.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// An auditor whose journal is new, and so its key, unless a flag names another place for that.
    pub(crate) fn auditor(control_plane: &ControlPlane, name: &str, arguments: &[&str]) -> Self {
        let journal = control_plane.directory().join(name);
        let key = journal.with_extension("key");
        let key = ["--ledger-key", path(&key)];
        let key = if arguments.contains(&"--ledger-key") { &[][..] } else { &key };
        let often = ["--usage-every", "1s", "--book-every", "5s"];
        let arguments =
            [&["auditor", "--data-dir", path(&journal)], &often[..], key, arguments].concat();
        Self::start(control_plane, name, &arguments)
    }

    /// Kills it, and gives what it logged.
    pub(crate) async fn end(mut self) -> String {
        self.child.kill().await.unwrap();
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Runs a command of the program.
pub(crate) async fn command(environment: &Environment, arguments: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_daylight"))
        .args(arguments)
        .envs(environment.clone())
        .output()
        .await
        .unwrap()
}

/// A path that is text.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
