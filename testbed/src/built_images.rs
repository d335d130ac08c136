//! Daylight's own images, built by the cargo that runs this.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::cargo::cargo;
use crate::error::{Error, Result};

/// The name of the miner's image on a real node.
pub const MINER_IMAGE: &str = "daylight.dev/miner:testbed";
/// The name of the operator's image on a real node.
pub const OPERATOR_IMAGE: &str = "daylight.dev/operator:testbed";

/// Builds the miner's image in the repository's target directory, and returns its path. The first
/// time this takes minutes; cargo prints its progress. Call it before
/// [`isolate`](crate::isolate), since cargo may have to download dependencies.
///
/// # Errors
///
/// Cargo cannot be run, or the build fails; cargo has printed why.
pub fn miner_image() -> Result<PathBuf> {
    image("miner-image", MINER_IMAGE)
}

/// Builds the operator's image in the same way.
///
/// # Errors
///
/// Cargo cannot be run, or the build fails; cargo has printed why.
pub fn operator_image() -> Result<PathBuf> {
    image("operator-image", OPERATOR_IMAGE)
}

/// Builds an image by the command of this name.
fn image(command: &str, name: &str) -> Result<PathBuf> {
    let failed = |why: String| Error::Image { command: command.to_owned(), why };
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let directory = target_directory(&repository).join("testbed");
    std::fs::create_dir_all(&directory).map_err(Error::io("making a directory", &directory))?;
    let file = directory.join(command).with_extension("tar");
    let status = cargo()
        .current_dir(&repository)
        .args(["run", "--quiet", "--package", "daylight-oci", "--bin", command, "--"])
        .args(["--name", name, "--output"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| failed(format!("cargo cannot be run: {error}")))?;
    if !status.success() {
        return Err(failed(format!("cargo ended with {status}; see above")));
    }
    Ok(file)
}

/// Returns the target directory of this program's build.
fn target_directory(repository: &Path) -> PathBuf {
    let program = std::env::current_exe().ok();
    let profile = program.as_deref().and_then(Path::parent).map(|directory| {
        // Tests are one level deeper.
        if directory.ends_with("deps") || directory.ends_with("examples") {
            directory.parent().unwrap_or(directory)
        } else {
            directory
        }
    });
    let target = profile.and_then(Path::parent).map(Path::to_owned);
    target.unwrap_or_else(|| repository.join("target"))
}
