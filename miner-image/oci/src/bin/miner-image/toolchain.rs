use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;
use daylight_oci::spec::Arch;

use crate::failure::{Failure, Result};
use crate::workspace::Workspace;

/// What the miner is built for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Target {
    #[value(name = "x86_64-unknown-linux-gnu", alias = "amd64")]
    Amd64,
    #[value(name = "aarch64-unknown-linux-gnu", alias = "arm64")]
    Arm64,
}

impl Target {
    /// As rustc calls it.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// As images call it.
    pub(crate) fn architecture(self) -> Arch {
        match self {
            Self::Amd64 => Arch::Amd64,
            Self::Arm64 => Arch::ARM64,
        }
    }

    /// What Debian puts before the names of the compilers for it.
    fn gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }
}

/// The compilers, which the program's bytes depend on beside its source.
pub(crate) struct Toolchain {
    pub(crate) target: Target,
    /// Where it is not this machine's own, the C compiler that links.
    pub(crate) linker: Option<String>,
    pub(crate) rustc: String,
    pub(crate) rustc_commit: String,
    pub(crate) sysroot: PathBuf,
    /// Linked in as the C library.
    pub(crate) glibc: String,
    /// Its libgcc is linked in, and its libstdc++ where there is C++.
    pub(crate) gcc: String,
}

impl Toolchain {
    pub(crate) fn find(workspace: &Workspace, target: Option<Target>) -> Result<Self> {
        let about = output(workspace.command("rustc").arg("-vV"))?;
        let says = |key: &str| {
            let value = about.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            value.unwrap_or_default().to_owned()
        };
        let host = says("host");
        let target = match target {
            Some(target) => target,
            None => Target::from_str(&host, false).map_err(|_| {
                Failure(format!("images are not made for {host}: name a --target to build for"))
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
        .map_err(|failure| {
            let package = if foreign {
                format!("{} with its libc6-dev", tool("gcc"))
            } else {
                "gcc and libc6-dev".to_owned()
            };
            Failure(format!("{failure}: install {package}, as Debian calls them"))
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
            linker: foreign.then_some(cc),
            rustc: says("release"),
            rustc_commit: says("commit-hash"),
            sysroot: output(workspace.command("rustc").args(["--print", "sysroot"]))?.trim().into(),
            glibc: version(&["__GLIBC__", "__GLIBC_MINOR__"]),
            gcc: version(&["__GNUC__", "__GNUC_MINOR__", "__GNUC_PATCHLEVEL__"]),
        })
    }
}

/// What a program that has to succeed prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| Failure(format!("running {name}: {error}")))?;
    if !output.status.success() {
        let says = String::from_utf8_lossy(&output.stderr);
        let says = says.trim().lines().last().unwrap_or("it says nothing").to_owned();
        return Err(Failure(format!("{name} failed: {says}")));
    }
    String::from_utf8(output.stdout).map_err(|_| Failure(format!("{name} prints no text")))
}
