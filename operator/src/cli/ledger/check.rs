//! `daylight ledger check`.

use std::path::{Path, PathBuf};

use clap::Args;
use daylight_ledger::{Hash, TlogProof};
use serde::Serialize;

use super::trust::{Trust, signatures};
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// File with the proof, of the form C2SP tlog-proof
    proof: PathBuf,
    /// File with the entry, byte for byte
    entry: PathBuf,
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
    let (file, entry) = (flags.proof.display(), read(&flags.entry)?);
    let text = String::from_utf8_lossy(&read(&flags.proof)?).into_owned();
    let proof: TlogProof = text.parse().map_err(|error: daylight_ledger::TlogProofError| {
        CommandError::new(format!("{file} is not a proof")).because(error).code(ErrorCode::Invalid)
    })?;
    let accepted = proof.verify(Hash::leaf(&entry), &policy).map_err(|error| {
        CommandError::new(format!(
            "{file} does not prove that {} is in the ledger",
            flags.entry.display()
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
