use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::MetadataCommand;
use serde::Deserialize;

use super::environment;
use super::error::{Error, Result};
use super::toolchain::output;

/// The source that the image is built from: the workspace around the current folder.
pub(super) struct Workspace {
    pub(super) root: PathBuf,
    pub(super) target_directory: PathBuf,
    /// Folder of what cargo builds on the way, where it is not the target folder.
    pub(super) build_directory: Option<PathBuf>,
    pub(super) version: String,
    /// The package's, as an SPDX expression.
    pub(super) license: String,
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
    /// Finds the workspace around the current folder, with a package in it.
    pub(super) fn find(package: &str) -> Result<Self> {
        let mut cargo = MetadataCommand::new().no_deps().cargo_command();
        environment::limit(&mut cargo);
        let absent = "there is no workspace of Daylight here";
        let metadata = output(&mut cargo).map_err(Error::unreadable(absent))?;
        let metadata = MetadataCommand::parse(metadata).map_err(Error::unreadable(absent))?;
        let found = metadata.packages.iter().find(|each| each.name.as_str() == package);
        let package = found.ok_or_else(|| {
            Error::Workspace(format!(
                "{} has no {package}: run this in Daylight's root",
                metadata.workspace_root
            ))
        })?;
        let root: PathBuf = metadata.workspace_root.clone().into();
        let lock = root.join("Cargo.lock");
        let lock = fs::read_to_string(&lock).map_err(Error::io("reading", &lock))?;
        let lock: Lock = toml::from_str(&lock).map_err(Error::unreadable("Cargo.lock"))?;
        let locked = lock.package.into_iter();
        Ok(Self {
            target_directory: metadata.target_directory.clone().into(),
            build_directory: metadata
                .build_directory
                .clone()
                .filter(|build| *build != metadata.target_directory)
                .map(PathBuf::from),
            version: package.version.to_string(),
            license: package.license.clone().unwrap_or_default(),
            locked: locked.map(|each| ((each.name, each.version), each.checksum)).collect(),
            root,
        })
    }

    /// The cargo that called this program, in the workspace's root.
    pub(super) fn cargo(&self) -> Command {
        self.command(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
    }

    /// A program in the workspace's root, whose environment has nothing that changes compilers' output.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        environment::limit(&mut command);
        command.current_dir(&self.root);
        command
    }

    /// The SHA-256 of a crate from a registry.
    pub(super) fn checksum(&self, name: &str, version: &str) -> Option<&str> {
        let checksum = self.locked.get(&(name.to_owned(), version.to_owned()))?;
        (!checksum.is_empty()).then_some(checksum.as_str())
    }

    /// The version of a crate that the lock file has once.
    pub(super) fn version_of(&self, name: &str) -> Option<&str> {
        self.locked.keys().find(|(each, _)| each == name).map(|(_, version)| version.as_str())
    }
}

/// Returns the folder in which cargo keeps the sources of crates.
pub(super) fn cargo_home() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}
