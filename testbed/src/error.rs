use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::Component;

/// A failure of the testbed. Each message names the place and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Go is not installed.
    #[error(
        "the testbed builds {title} from source, but there is no `go` on the PATH: \
         install Go {needed} or newer{instead}"
    )]
    GoMissing {
        /// The program to build.
        title: &'static str,
        /// The oldest version that is sufficient, for example `1.26.0`.
        needed: String,
        /// The alternative, as the end of a sentence.
        instead: &'static str,
    },
    /// Go is installed, but too old.
    #[error(
        "the testbed builds {title} from source, but the `go` on the PATH is too old \
         ({found}): install Go {needed} or newer{instead}"
    )]
    GoTooOld {
        /// The program to build.
        title: &'static str,
        found: String,
        /// The oldest version that is sufficient.
        needed: String,
        /// The alternative, as the end of a sentence.
        instead: &'static str,
    },
    /// `go` could not build a program.
    #[error("building {title} in {directory} failed ({status}); the end of its output:\n{log}")]
    Build {
        /// The program to build.
        title: &'static str,
        directory: PathBuf,
        status: ExitStatus,
        /// The last lines that it printed.
        log: String,
    },
    /// Go did not report where a module is.
    #[error(
        "`go mod download -json {module}` in {directory} names no directory: run it to see why"
    )]
    NoModule { module: String, directory: PathBuf },
    /// One of Daylight's images could not be built.
    #[error("cargo {command} failed: {why}")]
    Image { command: String, why: String },
    /// `DAYLIGHT_TESTBED` names no file.
    #[error(
        "DAYLIGHT_TESTBED is set to {path}, which is not a file: correct it, or unset it to build one"
    )]
    NoBinary { path: PathBuf },
    /// A program is missing from `KUBEBUILDER_ASSETS`.
    #[error(
        "{program} is not among the programs in {directory} (KUBEBUILDER_ASSETS): add it, or unset the variable"
    )]
    NoProgram {
        /// The program to run.
        program: &'static str,
        directory: PathBuf,
    },
    /// A real node cannot run here.
    #[error("no real node can run here: {why}")]
    NoRealNode {
        /// The cause and the remedy.
        why: String,
    },
    /// A request to the operating system failed.
    #[error("{doing} failed for {path}: {source}")]
    Io {
        /// The action, such as `reading`.
        doing: &'static str,
        /// The file, directory or program.
        path: PathBuf,
        source: std::io::Error,
    },
    /// A key or certificate could not be made.
    #[error("making a certificate for the control plane failed: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A kubeconfig that the testbed wrote cannot be used.
    #[error("the testbed's own kubeconfig cannot be used: {0}")]
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
        after: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// A component to be stopped does not run, or a component to be started does.
    #[error("{component} {state}")]
    Component {
        component: Component,
        /// `is not running` or `is running already`.
        state: &'static str,
    },
    /// Nodes did not become ready in time.
    #[error("{missing} of {wanted} nodes were not ready after {} s", after.as_secs())]
    NodesNotReady {
        wanted: usize,
        /// The number of nodes that are not ready, or still tainted as new.
        missing: usize,
        after: Duration,
    },
    /// Exporters did not become ready in time.
    #[error(
        "only {available} of {wanted} exporters of {set} were ready in time: see the log of kwok"
    )]
    ExportersNotReady {
        /// The `DaemonSet`.
        set: &'static str,
        /// The number of nodes.
        wanted: i32,
        /// The number of exporters that respond.
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
    Request { doing: &'static str, source: Box<kube::Error> },
    /// kubectl or helm failed.
    #[error("`{program} {arguments}` failed ({status}): {stderr}")]
    Command {
        /// `kubectl` or `helm`.
        program: &'static str,
        arguments: String,
        status: ExitStatus,
        stderr: String,
    },
}

/// The result of the testbed's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns whether a program cannot be built here because Go is missing or too old.
    pub fn is_missing_go(&self) -> bool {
        matches!(self, Self::GoMissing { .. } | Self::GoTooOld { .. })
    }

    /// For `map_err`: an error of the operating system during this action.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    /// For `map_err`: a failed request.
    pub(crate) fn request(doing: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Request { doing, source: Box::new(source) }
    }
}
