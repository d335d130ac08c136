//! Finding the programs, or building them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::env_path;
use crate::error::{Error, Result};
use crate::go_program::{directive, module};
use crate::{Component, GoProgram};

const BINARY: &str = "DAYLIGHT_TESTBED";
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// Where etcd, the API server, kubectl and the others are.
#[derive(Clone, Debug)]
pub enum Programs {
    /// All in one binary, ours.
    Binary(PathBuf),
    /// etcd, kube-apiserver and kubectl, each a binary in this directory.
    Assets(PathBuf),
}

impl Programs {
    /// The programs for these components: what `DAYLIGHT_TESTBED` names; else,
    /// if they are no more than etcd and the API server, those in
    /// `KUBEBUILDER_ASSETS` where that is set; else the binary that [`build`]
    /// makes or has made.
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
            // These do not look at their standard input.
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

/// A command that runs a program which does not look at its standard input: a shell does, and ends
/// it when that closes. Arguments that are added are the program's.
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

/// Builds the binary, if it has not been built from the same sources before,
/// and returns where it is, see [`GoProgram::build`]. The first time this takes
/// some 8 minutes on two cores.
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

/// Builds the program that a real node's pods run, in the same way: a second's
/// work, and nothing to fetch.
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

/// No symbol table, and the versions that the programs call themselves, which
/// their makers' builds set in the same way.
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
