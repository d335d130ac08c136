//! Failures that end a process, and errors as one line of text.

use std::error::Error;
use std::io;

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

/// Returns an error and its causes in one line. A cause that the text before it contains is left
/// out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the journal")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("disk failed: {0}")]
    struct Middle(#[source] io::Error);

    #[test]
    fn a_chain_names_each_cause_once() {
        let error = Outer(Middle(io::Error::other("no space left")));
        assert_eq!(chain(&error), "cannot read the journal: disk failed: no space left");
        assert_eq!(chain(&io::Error::other("one")), "one");
    }

    #[test]
    fn a_part_that_stopped_is_named() {
        assert_eq!(
            RunError::Stopped("leader election").to_string(),
            "leader election stopped unexpectedly; exiting so that the pod is restarted"
        );
    }
}
