//! Failures that end a process, and errors as one line of text.

use std::io;

pub use daylight_base::chain;

/// Failure of a part that the controller and the auditor both have.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot connect to the API server ({}); check KUBECONFIG or the service account", chain(.0))]
    Client(#[from] kube::Error),
    #[error("cannot set up the metrics ({0}); this is a bug in Daylight")]
    Metrics(#[from] prometheus::Error),
    /// The server of metrics and health; its error names the address.
    #[error("{0}")]
    Serve(io::Error),
    /// A part that runs as long as the process.
    #[error("{0} stopped unexpectedly; exiting so that the pod is restarted")]
    Stopped(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_stopped_is_named() {
        assert_eq!(
            RunError::Stopped("leader election").to_string(),
            "leader election stopped unexpectedly; exiting so that the pod is restarted"
        );
    }
}
