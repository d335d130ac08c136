//! Whose signatures count.

use std::path::{Path, PathBuf};

use clap::Args;
use daylight_ledger::{Accepted, Checkpoint, Note, Policy, VerifierKey};

use crate::cli::error::{CommandError, ErrorCode};

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Trust {
    /// File with the log and the witnesses that are trusted, in the form of C2SP tlog-policy
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Public key of the ledger, such as `daylight.dev/ledger/…+…+…`
    #[arg(long, value_name = "KEY")]
    key: Option<VerifierKey>,
}

/// Checkpoint, and who vouches for it.
#[derive(Debug)]
pub(super) struct Vouched {
    pub(super) checkpoint: Checkpoint,
    /// Public key that signed it; `None` if no key was named to verify it with.
    pub(super) signed_by: Option<String>,
    /// Names of the witnesses that cosigned it.
    pub(super) cosigned_by: Vec<String>,
}

impl Trust {
    /// The key of the ledger, if it alone is trusted.
    pub(super) fn key(&self) -> Option<&VerifierKey> {
        self.key.as_ref()
    }

    /// The policy that the flags name; `None` without one.
    pub(super) fn policy(&self) -> Result<Option<Policy>, CommandError> {
        if let Some(key) = &self.key {
            return Ok(Some(Policy::of_log(key.clone())));
        }
        self.policy.as_deref().map(read_policy).transpose()
    }

    /// The policy that the flags name, as a file has it.
    pub(super) fn text(&self) -> Result<String, CommandError> {
        match (&self.key, &self.policy) {
            (Some(key), _) => Ok(format!("log {key}\nquorum none\n")),
            (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| {
                CommandError::new(format!("Cannot read the policy {}", path.display()))
                    .because(error)
            }),
            (None, None) => Ok(String::new()),
        }
    }
}

/// Reads a policy file.
pub(in crate::cli) fn read_policy(path: &Path) -> Result<Policy, CommandError> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        CommandError::new(format!("Cannot read the policy {file}")).because(error)
    })?;
    text.parse().map_err(|error: daylight_ledger::PolicyError| {
        CommandError::new(format!("{file} is not a policy")).because(error).code(ErrorCode::Invalid)
    })
}

/// Verifies who signed and cosigned a checkpoint. Without a policy it is only read.
pub(super) fn vouch(policy: Option<&Policy>, note: &Note) -> Result<Vouched, CommandError> {
    let untrusted =
        || CommandError::new("The checkpoint is not trusted").code(ErrorCode::LedgerInvalid);
    let Some(policy) = policy else {
        let checkpoint =
            Checkpoint::parse(note.text()).map_err(|error| untrusted().because(error))?;
        return Ok(Vouched { checkpoint, signed_by: None, cosigned_by: Vec::new() });
    };
    policy.verify(note).map(Vouched::from).map_err(|error| untrusted().because(error))
}

impl From<Accepted<'_>> for Vouched {
    fn from(accepted: Accepted<'_>) -> Self {
        Self {
            signed_by: Some(accepted.log.key.to_string()),
            cosigned_by: accepted.witnesses.iter().map(|(by, _)| by.name.clone()).collect(),
            checkpoint: accepted.checkpoint,
        }
    }
}

/// Lines about who vouches for a checkpoint.
pub(super) fn signatures(signed_by: Option<&String>, cosigned_by: &[String]) -> String {
    let signed = match signed_by {
        Some(key) => format!("Signed by {key}.\n"),
        None => {
            "The signature was not verified: name the ledger's key with --key, or a --policy.\n"
                .to_owned()
        }
    };
    let cosigned = match cosigned_by {
        [] => String::new(),
        witnesses => format!("Cosigned by {}.\n", witnesses.join(", ")),
    };
    signed + &cosigned
}
