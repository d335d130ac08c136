//! The failure of a command.

use std::error::Error;

use kube::core::Status;
use serde::Serialize;

use crate::failure::chain;

/// The stable code of a failure, by which programs tell failures apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(strum::VariantArray, strum::IntoStaticStr))]
pub(super) enum ErrorCode {
    /// No cluster is configured, or the configuration cannot be used.
    NotConfigured,
    /// The API server cannot be reached, or the connection is not trusted.
    Unreachable,
    /// The API server does not accept the credentials.
    Unauthorized,
    /// The user lacks a right, or an admission policy refuses the request.
    Forbidden,
    NotFound,
    /// The object exists already, or was changed meanwhile.
    Conflict,
    /// A flag, an argument, a file or an object does not have the form that is required.
    Invalid,
    /// The API server refuses the request for another reason.
    Refused,
    /// What would be decided on was displayed, and not confirmed.
    NotConfirmed,
    /// The controller has not processed the object.
    NotProcessed,
    /// The watches were not complete in time.
    Incomplete,
    /// `doctor` found problems.
    ProblemsFound,
    /// `doctor` could not make some checks, and the others found no problem.
    ChecksSkipped,
    /// There is no ledger in that place.
    NoLedger,
    /// The ledger, or a proof, is not what was signed.
    LedgerInvalid,
    /// Two ledgers have different entries.
    LedgersDiffer,
    /// Anything else, such as output that cannot be written.
    #[default]
    Failed,
}

/// The failure of a command: the problem with its object, the cause, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(super) struct CommandError {
    code: ErrorCode,
    problem: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    remedy: Option<String>,
}

/// A failure as JSON, under the key `error`.
#[derive(Debug, Serialize)]
struct ErrorObject {
    code: ErrorCode,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
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
        Self { code: ErrorCode::default(), problem: problem.into(), source: None, remedy: None }
    }

    pub(super) fn code(self, code: ErrorCode) -> Self {
        Self { code, ..self }
    }

    /// Adds the cause.
    pub(super) fn because(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Adds what the user can do, as a sentence without a full stop.
    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// Returns the problem and its causes.
    fn message(&self) -> String {
        let problem = chain(self);
        format!("{}.", problem.trim_end().trim_end_matches('.'))
    }

    /// Returns the text to print: problem and causes, then the remedy.
    pub(super) fn report(&self) -> String {
        let message = self.message();
        match &self.remedy {
            Some(remedy) => format!("{message} {remedy}."),
            None => message,
        }
    }

    /// Returns the JSON to print.
    pub(super) fn json(&self) -> String {
        let remedy = self.remedy.as_ref().map(|remedy| format!("{remedy}."));
        let error = ErrorObject { code: self.code, message: self.message(), remedy };
        serde_json::json!({ "error": error }).to_string()
    }
}

impl From<kube::Error> for CommandError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => refused(status),
            kube::Error::Auth(error) => Self::new("Cannot log in to the API server")
                .because(error)
                .code(ErrorCode::Unauthorized)
                .remedy("Check the user in KUBECONFIG or --context"),
            // kube's own layer adds nothing to the cause.
            kube::Error::Service(error) => unreachable(error),
            other => unreachable(other.into()),
        }
    }
}

fn unreachable(cause: Box<dyn Error + Send + Sync>) -> CommandError {
    CommandError::new("Cannot connect to the API server")
        .because(cause)
        .code(ErrorCode::Unreachable)
        .remedy("Check the server and its certificate authority in KUBECONFIG or --context")
}

fn refused(status: Box<Status>) -> CommandError {
    let code = match status.code {
        401 => ErrorCode::Unauthorized,
        403 => ErrorCode::Forbidden,
        404 => ErrorCode::NotFound,
        409 => ErrorCode::Conflict,
        400 | 422 => ErrorCode::Invalid,
        _ => ErrorCode::Refused,
    };
    if code == ErrorCode::Unauthorized {
        return CommandError::new("The API server does not accept your credentials")
            .because(Refusal(status))
            .code(code)
            .remedy("Log in again, or check the user in KUBECONFIG or --context");
    }
    CommandError::new("The API server refused the request").because(Refusal(status)).code(code)
}

#[cfg(test)]
mod tests {
    use std::io;

    use strum::VariantArray as _;

    use super::*;

    fn answer(code: u16, reason: &str, message: &str) -> CommandError {
        let status =
            Status { message: message.into(), reason: reason.into(), code, ..Status::default() };
        kube::Error::Api(Box::new(status)).into()
    }

    #[test]
    fn a_report_has_the_problem_the_causes_and_the_remedy() {
        let error = CommandError::new("Cannot read the signature night.sig");
        assert_eq!(error.report(), "Cannot read the signature night.sig.");
        let error =
            error.because(io::Error::other("permission denied")).remedy("Name another file");
        assert_eq!(
            error.report(),
            "Cannot read the signature night.sig: permission denied. Name another file."
        );
    }

    #[test]
    fn json_has_the_code_the_message_and_the_remedy() {
        let error = CommandError::new("There is no Miner team-a/night")
            .code(ErrorCode::NotFound)
            .remedy("List the objects of Daylight with `kubectl get daylight -A`");
        assert_eq!(
            error.json(),
            "{\"error\":{\"code\":\"NotFound\",\"message\":\"There is no Miner team-a/night.\",\
             \"remedy\":\"List the objects of Daylight with `kubectl get daylight -A`.\"}}"
        );
        let error = CommandError::new("Cannot write the output").because(io::Error::other("full"));
        assert_eq!(
            error.json(),
            r#"{"error":{"code":"Failed","message":"Cannot write the output: full."}}"#
        );
    }

    #[test]
    fn every_code_is_documented() {
        let page = include_str!("../../../docs/operations.md");
        for code in ErrorCode::VARIANTS {
            let name: &str = code.into();
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
    }

    #[test]
    fn a_refusal_is_reported_by_its_message_alone() {
        let message = "registrations.daylight.dev \"night\" is forbidden";
        let error = answer(403, "Forbidden", message);
        assert_eq!(error.report(), format!("The API server refused the request: {message}."));
        let source = error.source().and_then(|source| source.downcast_ref::<Refusal>());
        assert_eq!(source.map(|refusal| refusal.0.code), Some(403));
        for (code, expected) in [
            (401, ErrorCode::Unauthorized),
            (403, ErrorCode::Forbidden),
            (404, ErrorCode::NotFound),
            (409, ErrorCode::Conflict),
            (422, ErrorCode::Invalid),
            (500, ErrorCode::Refused),
        ] {
            assert_eq!(answer(code, "", "no").code, expected, "{code}");
        }
    }

    #[test]
    fn a_connection_that_fails_is_reported_with_its_cause() {
        let cause = io::Error::other("invalid peer certificate: UnknownIssuer");
        let error = CommandError::from(kube::Error::Service(cause.into()));
        assert_eq!(
            error.report(),
            "Cannot connect to the API server: invalid peer certificate: UnknownIssuer. Check the \
             server and its certificate authority in KUBECONFIG or --context."
        );
        assert_eq!(error.code, ErrorCode::Unreachable);
    }
}
