//! `daylight ledger check`.

use std::path::{Path, PathBuf};

use clap::Args;
use daylight_ledger::{Hash, TlogProof};
use serde::Serialize;

use super::registration_proof::RegistrationProof;
use super::trust::{Trust, signatures};
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// File with the proof: of an entry, in the form of C2SP tlog-proof, or of a registration
    proof: PathBuf,
    /// File with the entry, byte for byte; the proof of a registration needs none
    entry: Option<PathBuf>,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Entry that is in a ledger.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    origin: String,
    index: u64,
    entries: u64,
    signed_by: String,
    cosigned_by: Vec<String>,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let policy = flags.trust.policy()?.ok_or_else(|| {
        CommandError::new("A proof holds only under a key that you trust")
            .code(ErrorCode::Invalid)
            .remedy("Name the ledger's key with --key, or a --policy")
    })?;
    let (file, bytes) = (flags.proof.display(), read(&flags.proof)?);
    if let Some(proof) = RegistrationProof::parse(&bytes) {
        let checked = proof.check(&policy)?;
        return flags.output.print(&checked, |checked| {
            checked.text() + &signatures(Some(&checked.signed_by), &checked.cosigned_by)
        });
    }
    let entry_file = flags.entry.as_ref().ok_or_else(|| {
        CommandError::new(format!("{file} is not the proof of a registration"))
            .code(ErrorCode::Invalid)
            .remedy("Name the file with the entry behind that with its proof")
    })?;
    let (entry, text) = (read(entry_file)?, String::from_utf8_lossy(&bytes).into_owned());
    let proof: TlogProof = text.parse().map_err(|error: daylight_ledger::TlogProofError| {
        CommandError::new(format!("{file} is not a proof")).because(error).code(ErrorCode::Invalid)
    })?;
    let accepted = proof.verify(Hash::leaf(&entry), &policy).map_err(|error| {
        CommandError::new(format!(
            "{file} does not prove that {} is in the ledger",
            entry_file.display()
        ))
        .because(error)
        .code(ErrorCode::LedgerInvalid)
    })?;
    let checked = Checked {
        origin: accepted.checkpoint.origin.clone(),
        index: proof.index,
        entries: accepted.checkpoint.size,
        signed_by: accepted.log.key.to_string(),
        cosigned_by: accepted.witnesses.iter().map(|(by, _)| by.name.clone()).collect(),
    };
    flags.output.print(&checked, |Checked { origin, index, entries, signed_by, cosigned_by }| {
        let place = format!("It is entry {index} of the {entries} of {origin}.\n");
        place + &signatures(Some(signed_by), cosigned_by)
    })
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|error| {
        CommandError::new(format!("Cannot read {}", path.display())).because(error)
    })
}
