use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::Component;

/// What can go wrong with the testbed, each said in a sentence that names the
/// place and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Go is not installed.
    #[error(
        "the testbed builds {title} from source, for which there is no `go` on the PATH: \
         install Go {needed} or newer{instead}"
    )]
    GoMissing {
        /// What is to be built.
        title: &'static str,
        /// The oldest version that will do, for example `1.26.0`.
        needed: String,
        /// What else would do, as the end of a sentence.
        instead: &'static str,
    },
    /// Go is installed, but too old.
    #[error(
        "the testbed builds {title} from source, for which the `go` on the PATH is too old \
         ({found}): install Go {needed} or newer{instead}"
    )]
    GoTooOld {
        /// What is to be built.
        title: &'static str,
        found: String,
        /// The oldest version that will do.
        needed: String,
        /// What else would do, as the end of a sentence.
        instead: &'static str,
    },
    /// `go` could not build a program.
    #[error("building {title} in {directory} failed ({status}); its last words:\n{log}")]
    Build {
        /// What was to be built.
        title: &'static str,
        directory: PathBuf,
        /// How `go` ended.
        status: ExitStatus,
        /// The last lines that it printed.
        log: String,
    },
    /// The miner's image could not be built.
    #[error("building the miner's image failed: {why}")]
    MinerImage { why: String },
    /// `DAYLIGHT_TESTBED` names no file.
    #[error(
        "DAYLIGHT_TESTBED is set to {path}, where there is no file: correct it, or unset it to build one"
    )]
    NoBinary { path: PathBuf },
    /// A program was asked for that the binaries at hand do not include.
    #[error(
        "{program} is not among the programs in {directory} (KUBEBUILDER_ASSETS): add it, or unset the variable"
    )]
    NoProgram {
        /// What was to be run.
        program: &'static str,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A real node cannot run here.
    #[error("no real node can run here: {why}")]
    NoRealNode {
        /// What is missing, and what to do about it.
        why: String,
    },
    /// The file system or the operating system refused something.
    #[error("{doing} failed for {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file, directory or program.
        path: PathBuf,
        source: std::io::Error,
    },
    /// A key or certificate could not be made.
    #[error("making a certificate for the control plane failed: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A kubeconfig that the testbed wrote cannot be used.
    #[error("the testbed's own kubeconfig is of no use: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// A component ended while it was needed.
    #[error("{component} ended ({status}) while it was starting; the end of its log:\n{log}")]
    Ended {
        component: Component,
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// A component did not become ready in time.
    #[error("{component} was not ready after {} s; the end of its log:\n{log}", after.as_secs())]
    NotReady {
        component: Component,
        /// How long it was given.
        after: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// A component was to be stopped, but does not run, or to be started, but
    /// runs.
    #[error("{component} {state}")]
    Component {
        component: Component,
        /// `is not running` or `is running already`.
        state: &'static str,
    },
    /// Nodes did not become ready in time.
    #[error("{missing} of {wanted} nodes were not ready after {} s", after.as_secs())]
    NodesNotReady {
        /// How many were created.
        wanted: usize,
        /// How many of these are not ready, or still tainted as such.
        missing: usize,
        /// How long they were given.
        after: Duration,
    },
    /// Exporters did not answer in time.
    #[error("{available} of {wanted} exporters of {set} were ready in time: see the log of kwok")]
    ExportersNotReady {
        /// The `DaemonSet`.
        set: &'static str,
        /// How many nodes are to have one.
        wanted: i32,
        /// How many have one that answers.
        available: i32,
    },
    /// A node has no exporter.
    #[error("no exporter of {set} runs on {node}: call create_exporters first")]
    NoExporter {
        node: String,
        /// The `DaemonSet`.
        set: &'static str,
    },
    /// The API server refused a request of the testbed.
    #[error("{doing} failed: {source}")]
    Request {
        /// What was asked for.
        doing: &'static str,
        source: Box<kube::Error>,
    },
    /// kubectl or helm failed.
    #[error("`{program} {arguments}` failed ({status}): {stderr}")]
    Command {
        /// `kubectl` or `helm`.
        program: &'static str,
        /// What it was told.
        arguments: String,
        status: ExitStatus,
        stderr: String,
    },
}

/// The result of what the testbed does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: an error of the file system, with what was being done.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    /// For `map_err`: a refused request, with what was asked for.
    pub(crate) fn request(doing: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Request { doing, source: Box::new(source) }
    }
}
