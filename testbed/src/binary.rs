//! Finds the programs, or builds them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::env_path;
use crate::error::{Error, Result};
use crate::go_program::{directive, module};
use crate::{Component, GoProgram};

const BINARY: &str = "DAYLIGHT_TESTBED";
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The paths of etcd, the API server, kubectl and the others.
#[derive(Clone, Debug)]
pub enum Programs {
    /// The testbed's own binary, with all of them.
    Binary(PathBuf),
    /// etcd, kube-apiserver and kubectl, each a binary in this directory.
    Assets(PathBuf),
}

impl Programs {
    /// Finds the programs for these components: the binary in `DAYLIGHT_TESTBED`;
    /// else, for etcd and the API server alone, those in `KUBEBUILDER_ASSETS` if
    /// that is set; else the binary that [`build`] builds or has built.
    pub fn find(components: impl IntoIterator<Item = Component>) -> Result<Self> {
        if let Some(path) = env_path(BINARY) {
            return if path.is_file() {
                Ok(Self::Binary(path))
            } else {
                Err(Error::NoBinary { path })
            };
        }
        if let Some(directory) = env_path(ASSETS)
            && components.into_iter().all(|component| component <= Component::ApiServer)
        {
            return Ok(Self::Assets(directory));
        }
        build().map(Self::Binary)
    }

    /// A command that runs a server until its standard input closes.
    pub(crate) fn server(&self, program: &'static str) -> Result<Command> {
        match self {
            Self::Binary(path) => {
                let mut command = Command::new(path);
                command.arg(program);
                Ok(command)
            }
            // These ignore their standard input.
            Self::Assets(_) => Ok(until_stdin_closes(self.asset(program)?)),
        }
    }

    /// A command that runs a tool: kubectl or helm.
    pub fn tool(&self, program: &'static str) -> Result<Command> {
        match self {
            Self::Binary(path) => {
                let mut command = Command::new(path);
                command.arg(program);
                Ok(command)
            }
            Self::Assets(_) => Ok(Command::new(self.asset(program)?)),
        }
    }

    fn asset(&self, program: &'static str) -> Result<PathBuf> {
        let (Self::Binary(directory) | Self::Assets(directory)) = self;
        let path = directory.join(program);
        if path.is_file() {
            Ok(path)
        } else {
            Err(Error::NoProgram { program, directory: directory.clone() })
        }
    }
}

/// Returns a command for a program that ignores its standard input: a shell watches the input instead,
/// and ends the program when it closes. Arguments that are added go to the program.
pub fn until_stdin_closes(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(UNTIL_STDIN_CLOSES).arg("sh").arg(program);
    command
}

/// Runs its arguments and waits for them; ends them when standard input does.
const UNTIL_STDIN_CLOSES: &str = r#"
exec 3<&0
"$@" <&3 3<&- &
server=$!
{ cat <&3 >/dev/null; kill -TERM $server; sleep 3; kill -KILL $server; } 2>/dev/null &
exec 3<&- </dev/null
wait $server
"#;

/// Builds the binary, unless it was built from the same sources before, and
/// returns its path, see [`GoProgram::build`]. The first time this takes about
/// 8 minutes on two cores.
pub fn build() -> Result<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s");
    let program = GoProgram {
        name: "k8s",
        title: "Kubernetes",
        package: ".",
        linker_flags: linker_flags(&module(&sources)?),
        takes: Some("about 8 minutes"),
        instead: ", or set DAYLIGHT_TESTBED to a built binary",
        sources,
    };
    program.build()
}

/// Builds the program of a real node's pods in the same way. This takes a second,
/// and fetches nothing.
pub(crate) fn build_workload() -> Result<PathBuf> {
    let program = GoProgram {
        name: "workload",
        title: "the workload of a real node",
        sources: Path::new(env!("CARGO_MANIFEST_DIR")).join("workload"),
        package: ".",
        linker_flags: "-s -w".to_owned(),
        takes: None,
        instead: "",
    };
    program.build()
}

/// The flags for no symbol table, and for the versions that the programs report;
/// upstream builds set them in the same way.
fn linker_flags(module: &str) -> String {
    let mut flags = vec!["-s -w".to_owned()];
    let kubernetes = directive(module, "k8s.io/kubernetes ").unwrap_or_default();
    let mut numbers = kubernetes.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", kubernetes),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitCommit", ""),
            ("gitTreeState", "clean"),
        ] {
            flags.push(format!("-X {package}.{name}={value}"));
        }
    }
    if let Some(helm) = directive(module, "helm.sh/helm/v4 ") {
        flags.push(format!("-X helm.sh/helm/v4/internal/version.version={helm}"));
    }
    flags.join(" ")
}
