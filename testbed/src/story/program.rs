//! `daylight`, built by the cargo that runs this.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::cargo::cargo;

use super::{Stopped, Told};

/// Builds `daylight` and says where it is.
///
/// # Errors
///
/// Cargo cannot be run, or the build fails; cargo has printed why.
pub fn build(repository: &Path, release: bool) -> Told<PathBuf> {
    let mut command = cargo();
    command.current_dir(repository).args(["build", "--bin", "daylight"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    if release {
        command.arg("--release");
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Stopped::new(format!("cargo cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(Stopped::new("building daylight failed; see above"));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut built = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let executable = message["executable"].as_str()?;
        (message["target"]["name"] == "daylight").then(|| PathBuf::from(executable))
    });
    let built = built.next_back();
    built.ok_or_else(|| Stopped::new("cargo did not say where it put daylight"))
}
