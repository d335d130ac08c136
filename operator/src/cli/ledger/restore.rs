//! `daylight ledger restore`: a data directory for the auditor out of a mirror.

use std::path::PathBuf;

use clap::Args;
use daylight_ledger::LogVerifier;

use super::mirror::{self, Copy};
use super::source::Source;
use super::trust::{Trust, vouch};
use super::verify::{read_note, some};
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of a mirror that was copied with --with-secrets
    mirror: Source,
    /// Data directory for the auditor, which is created or empty
    directory: PathBuf,
    /// Checkpoint that the auditor kept outside of its volume, than which the mirror must not be older
    #[arg(long, value_name = "FILE")]
    kept: Option<PathBuf>,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    pub(super) output: Output,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let policy = flags.trust.policy()?;
    let source = flags.mirror.open()?;
    let place = flags.directory.display();
    let is_used = std::fs::read_dir(&flags.directory).is_ok_and(|mut files| files.next().is_some());
    if is_used {
        return Err(CommandError::new(format!("{place} is not empty"))
            .code(ErrorCode::Conflict)
            .remedy("Keep what is there as evidence, and name an empty directory"));
    }
    let checkpoint = vouch(policy.as_ref(), &source.checkpoint()?)?.checkpoint;
    let kept = match &flags.kept {
        Some(path) => Some(vouch(policy.as_ref(), &read_note(path)?)?.checkpoint),
        None => None,
    };
    if let Some(kept) = &kept
        && kept.size > checkpoint.size
    {
        return Err(CommandError::new(format!(
            "The mirror {} has {} entries, but {} were signed: it is an old copy",
            flags.mirror, checkpoint.size, kept.size
        ))
        .code(ErrorCode::LedgerInvalid)
        .remedy(
            "Restore a newer one, or continue its books under another key with `daylight auditor \
             --continues`",
        ));
    }
    let mut verifier = LogVerifier::new(&checkpoint);
    if let Some(kept) = &kept {
        verifier = verifier.continues(kept, "checkpoint that was kept");
    }
    let disagreements = verifier.verify(&source, |_, _| {})?;
    if !disagreements.is_empty() {
        return Err(source.invalid("is not what was signed").because(some(&disagreements)));
    }
    let copy = Copy { source: &source, directory: &flags.directory, with_secrets: true };
    let restored = mirror::copy(&copy, policy.as_ref())?;
    flags.output.print(&restored, |restored| {
        format!(
            "Restored {} entries of {}, with the state from which its auditor continues.\n",
            restored.entries, restored.origin
        )
    })
}
