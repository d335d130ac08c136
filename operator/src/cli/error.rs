//! The failure of a command.

use std::error::Error;

use kube::core::Status;

use crate::failure::chain;

/// The failure of a command: the problem with its object, the cause, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(super) struct CommandError {
    problem: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    remedy: Option<String>,
}

/// The API server's answer to a request that it refused. Displayed as its message, which is written for
/// people.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
struct Refusal(Box<Status>);

impl CommandError {
    /// An error without a full stop at its end, as [`CommandError::report`] adds it.
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), source: None, remedy: None }
    }

    /// Adds the cause.
    pub(super) fn because(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Adds what the user can do, as a sentence without a full stop.
    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// Returns the text to print: problem and causes, then the remedy.
    pub(super) fn report(&self) -> String {
        let problem = chain(self);
        let problem = problem.trim_end().trim_end_matches('.');
        match &self.remedy {
            Some(remedy) => format!("{problem}. {remedy}."),
            None => format!("{problem}."),
        }
    }
}

impl From<kube::Error> for CommandError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                Self::new("The API server refused the request").because(Refusal(status))
            }
            other => Self::new("Cannot connect to the API server")
                .because(other)
                .remedy("Check KUBECONFIG or --context"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_problem_the_causes_and_the_remedy() {
        let error = CommandError::new("Cannot read the signature night.sig");
        assert_eq!(error.report(), "Cannot read the signature night.sig.");
        let error =
            error.because(std::io::Error::other("permission denied")).remedy("Name another file");
        assert_eq!(
            error.report(),
            "Cannot read the signature night.sig: permission denied. Name another file."
        );
    }

    #[test]
    fn a_refusal_is_reported_by_its_message_alone() {
        let status = Status {
            message: "registrations.daylight.dev \"night\" is forbidden".into(),
            reason: "Forbidden".into(),
            code: 403,
            ..Status::default()
        };
        let error = CommandError::from(kube::Error::Api(Box::new(status)));
        assert_eq!(
            error.report(),
            "The API server refused the request: registrations.daylight.dev \"night\" is forbidden."
        );
        let source = error.source().and_then(|source| source.downcast_ref::<Refusal>());
        assert_eq!(source.map(|refusal| refusal.0.code), Some(403));
    }
}
