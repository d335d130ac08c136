//! The image of Daylight's own miner, built by the cargo that runs this.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::cargo::cargo;
use crate::error::{Error, Result};

/// The name of the image on a real node.
pub const MINER_IMAGE: &str = "daylight.dev/miner:testbed";

/// Builds the miner's image in the repository's target directory, and returns its path. The first
/// time this takes minutes; cargo prints its progress. Call it before
/// [`isolate`](crate::isolate), since cargo may have to download dependencies.
///
/// # Errors
///
/// Cargo cannot be run, or the build fails; cargo has printed why.
pub fn miner_image() -> Result<PathBuf> {
    let failed = |why: String| Error::MinerImage { why };
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let directory = target_directory(&repository);
    std::fs::create_dir_all(&directory).map_err(Error::io("making a directory", &directory))?;
    let file = directory.join("miner-image.tar");
    let status = cargo()
        .current_dir(&repository)
        .args(["run", "--quiet", "--package", "daylight-oci", "--bin", "build-image", "--"])
        .args(["--name", MINER_IMAGE, "--output"])
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
