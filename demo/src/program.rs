//! The program `daylight`, built by the cargo that runs this.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use daylight_testbed::cargo;

use crate::{Error, Result};

/// Builds `daylight` and returns its path.
///
/// # Errors
///
/// Cargo cannot be run, or the build fails; cargo has printed why.
pub fn build(repository: &Path, release: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.current_dir(repository).args(["build", "--bin", "daylight"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    if release {
        command.arg("--release");
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::new(format!("cargo cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(Error::new("building daylight failed; see above"));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut built = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let executable = message["executable"].as_str()?;
        (message["target"]["name"] == "daylight").then(|| PathBuf::from(executable))
    });
    let built = built.next_back();
    built.ok_or_else(|| Error::new("cargo did not report the path of the daylight that it built"))
}

/// Returns the repository's root, where `crds/` and `examples/` are.
///
/// # Errors
///
/// This program was built elsewhere, or the checkout has moved since.
pub fn repository() -> Result<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = parent.filter(|path| path.join("crds").is_dir() && path.join("examples").is_dir());
    root.map(Path::to_owned).ok_or_else(|| {
        Error::new(concat!(
            "there is no crds/ and examples/ next to ",
            env!("CARGO_MANIFEST_DIR"),
            ": build this program again in the repository"
        ))
    })
}
