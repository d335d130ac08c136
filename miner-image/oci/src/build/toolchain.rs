use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use super::error::{Error, Result};
use super::workspace::Workspace;
use crate::spec::Arch;

/// Platform to build for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Target {
    #[value(name = "x86_64-unknown-linux-gnu", alias = "amd64")]
    Amd64,
    #[value(name = "aarch64-unknown-linux-gnu", alias = "arm64")]
    Arm64,
}

impl Target {
    /// rustc's name for it.
    pub(super) fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Images' name for it.
    pub(super) fn architecture(self) -> Arch {
        match self {
            Self::Amd64 => Arch::Amd64,
            Self::Arm64 => Arch::ARM64,
        }
    }

    /// Debian's prefix of the compilers for it.
    fn gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }
}

/// The compilers, on which the program's bytes depend in addition to its source.
pub(super) struct Toolchain {
    pub(super) target: Target,
    /// Whether the target is another than this machine's own.
    pub(super) foreign: bool,
    /// The C compiler, which also links for another machine.
    pub(super) cc: String,
    pub(super) cxx: String,
    pub(super) rustc: String,
    pub(super) rustc_commit: String,
    pub(super) sysroot: PathBuf,
    /// Version of the C library, which is linked in.
    pub(super) glibc: String,
    /// Version of the compiler, whose libgcc is linked in, and its libstdc++ where there is C++.
    pub(super) gcc: String,
}

impl Toolchain {
    pub(super) fn find(workspace: &Workspace, target: Option<Target>) -> Result<Self> {
        let about = output(workspace.command("rustc").arg("-vV"))?;
        let says = |key: &str| {
            let value = about.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            value.unwrap_or_default().to_owned()
        };
        let host = says("host");
        let target = match target {
            Some(target) => target,
            None => Target::from_str(&host, false).map_err(|_| {
                Error::Target(format!(
                    "images are not made for {host}: name a --target to build for"
                ))
            })?,
        };
        let foreign = target.triple() != host;
        let tool = |name: &str| match foreign {
            true => format!("{}-{name}", target.gnu()),
            false => name.to_owned(),
        };
        let cc = tool("gcc");
        let macros = output(workspace.command(&cc).args([
            "-E",
            "-dM",
            "-include",
            "features.h",
            "-x",
            "c",
            "/dev/null",
        ]))
        .map_err(|error| {
            let package = if foreign {
                format!("{} with its libc6-dev", tool("gcc"))
            } else {
                "gcc and libc6-dev".to_owned()
            };
            Error::Command(format!("{error}: install {package}, as Debian calls them"))
        })?;
        let version = |names: &[&str]| {
            let part = |name: &&str| {
                let define = format!("#define {name} ");
                macros.lines().find_map(|line| line.strip_prefix(&define)).unwrap_or_default()
            };
            names.iter().map(part).collect::<Vec<_>>().join(".")
        };
        Ok(Self {
            target,
            foreign,
            cc,
            cxx: tool("g++"),
            rustc: says("release"),
            rustc_commit: says("commit-hash"),
            sysroot: output(workspace.command("rustc").args(["--print", "sysroot"]))?.trim().into(),
            glibc: version(&["__GLIBC__", "__GLIBC_MINOR__"]),
            gcc: version(&["__GNUC__", "__GNUC_MINOR__", "__GNUC_PATCHLEVEL__"]),
        })
    }
}

/// Returns the output of a program that has to succeed.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |reason: String| Error::Command(format!("{name} {reason}"));
    let output = command.output().map_err(|error| failed(format!("cannot be run: {error}")))?;
    if !output.status.success() {
        let says = String::from_utf8_lossy(&output.stderr);
        let says = says.trim().lines().last().unwrap_or("it printed no reason");
        return Err(failed(format!("failed: {says}")));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("printed bytes that are not UTF-8".into()))
}
