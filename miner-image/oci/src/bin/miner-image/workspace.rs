use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::MetadataCommand;
use serde::Deserialize;

use crate::failure::{Failure, Result, doing, wrong};

/// The package and the binary that the image is made of.
pub(crate) const MINER: &str = "daylight-miner";

/// The source that the image is built from: the workspace around the current folder.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target_directory: PathBuf,
    pub(crate) version: String,
    /// The miner's, as SPDX writes it.
    pub(crate) license: String,
    locked: BTreeMap<(String, String), String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    #[serde(default)]
    checksum: String,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .no_deps()
            .exec()
            .map_err(wrong("there is no workspace of Daylight here"))?;
        let miner = metadata.packages.iter().find(|package| package.name.as_str() == MINER);
        let miner = miner.ok_or_else(|| {
            Failure(format!(
                "{} has no {MINER}: run this in Daylight's root",
                metadata.workspace_root
            ))
        })?;
        let root: PathBuf = metadata.workspace_root.clone().into();
        let lock = root.join("Cargo.lock");
        let lock = fs::read_to_string(&lock).map_err(doing("reading", &lock))?;
        let lock: Lock = toml::from_str(&lock).map_err(wrong("Cargo.lock"))?;
        let locked = lock.package.into_iter();
        Ok(Self {
            target_directory: metadata.target_directory.clone().into(),
            version: miner.version.to_string(),
            license: miner.license.clone().unwrap_or_default(),
            locked: locked.map(|each| ((each.name, each.version), each.checksum)).collect(),
            root,
        })
    }

    /// Cargo, as it called this program, in the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        self.command(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
    }

    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// The SHA-256 of a crate, if it comes from a registry.
    pub(crate) fn checksum(&self, name: &str, version: &str) -> Option<&str> {
        let checksum = self.locked.get(&(name.to_owned(), version.to_owned()))?;
        (!checksum.is_empty()).then_some(checksum.as_str())
    }

    /// The version of a crate of which there is one.
    pub(crate) fn version_of(&self, name: &str) -> Option<&str> {
        self.locked.keys().find(|(each, _)| each == name).map(|(_, version)| version.as_str())
    }
}

/// Where cargo keeps the sources of crates.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}
