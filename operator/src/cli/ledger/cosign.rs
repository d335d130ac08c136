//! `daylight ledger cosign`: has witnesses cosign the checkpoint of a ledger.

use std::path::PathBuf;

use clap::Args;
use daylight_ledger::{
    AddCheckpoint, Note, PolicyWitness, Signature, TileHashes, prove_consistency,
};
use http::StatusCode;
use serde::Serialize;

use super::source::{Opened, Source};
use super::trust::{Trust, vouch};
use super::web::Server;
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::{self, Output};

/// Attempts for each witness: it may have cosigned another checkpoint meanwhile.
const ATTEMPTS: u32 = 3;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the ledger, or its address
    source: Source,
    #[command(flatten)]
    trust: Trust,
    /// File for the checkpoint with the cosignatures
    #[arg(long, value_name = "FILE", default_value = "checkpoint.cosigned")]
    checkpoint: PathBuf,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    origin: String,
    entries: u64,
    cosigned_by: Vec<String>,
    /// The witnesses that did not, each with the reason.
    failed: Vec<String>,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let policy = flags.trust.policy()?.filter(|policy| !policy.witnesses().is_empty());
    let policy = policy.ok_or_else(|| {
        CommandError::new("No witness is named")
            .code(ErrorCode::Invalid)
            .remedy("Name a --policy with the ledger and its witnesses, each with its address")
    })?;
    let source = flags.source.open()?;
    let mut note = source.checkpoint()?;
    // Who signed it is verified first: a witness is not asked about the ledger of another.
    let log_only = daylight_ledger::Policy::of_log(
        policy.logs().first().map(|log| log.key.clone()).ok_or_else(|| {
            CommandError::new("The policy names no ledger").code(ErrorCode::Invalid)
        })?,
    );
    let size = vouch(Some(&log_only), &note)?.checkpoint.size;
    let mut failed = Vec::new();
    for witness in policy.witnesses() {
        match ask(&source, witness, &note, size) {
            Ok(signatures) => {
                if let Err(error) = note.add(signatures) {
                    failed.push(format!("{}: {error}", witness.name));
                }
            }
            Err(reason) => failed.push(format!("{}: {reason}", witness.name)),
        }
    }
    std::fs::write(&flags.checkpoint, note.to_string()).map_err(output::failed)?;
    let accepted = vouch(Some(&policy), &note).map_err(|error| {
        if failed.is_empty() {
            error
        } else {
            error.remedy(format!("Witnesses: {}", failed.join("; ")))
        }
    })?;
    let outcome = Outcome {
        origin: accepted.checkpoint.origin,
        entries: size,
        cosigned_by: accepted.cosigned_by,
        failed,
    };
    flags.output.print(&outcome, |Outcome { origin, entries, cosigned_by, failed }| {
        let done = format!(
            "The checkpoint of {origin} with {entries} entries was cosigned by {}; it is in {}.\n",
            cosigned_by.join(", "),
            flags.checkpoint.display()
        );
        let failed: Vec<String> =
            failed.iter().map(|reason| format!("Not cosigned by {reason}.\n")).collect();
        done + &failed.concat()
    })
}

/// Asks a witness to cosign. Returns the lines of its signatures.
fn ask(
    source: &Opened<'_>,
    witness: &PolicyWitness,
    note: &Note,
    size: u64,
) -> Result<Vec<Signature>, String> {
    let url = witness.url.as_deref().ok_or("the policy has no address of it")?;
    let server = Server::new(url.trim_end_matches('/')).map_err(|error| error.to_string())?;
    let mut old = 0;
    for _ in 0..ATTEMPTS {
        if old > size {
            return Err(format!(
                "it has cosigned a checkpoint of {old} entries, and this one has {size}"
            ));
        }
        let mut hashes = TileHashes::new(source, size);
        let proof = prove_consistency(&mut hashes, old, size).map_err(|error| error.to_string())?;
        let request = AddCheckpoint { old, proof, checkpoint: note.clone() };
        let (status, body) = server
            .post("add-checkpoint", request.to_string())
            .map_err(|error| crate::failure::chain(&*error))?;
        let body = String::from_utf8_lossy(&body).into_owned();
        match status {
            StatusCode::OK => {
                return Signature::parse_lines(&body).map_err(|error| error.to_string());
            }
            StatusCode::CONFLICT => {
                old = body
                    .trim()
                    .parse()
                    .map_err(|_| format!("it answers {status} without a size"))?;
            }
            _ => return Err(format!("it answers {status}: {}", body.trim())),
        }
    }
    Err("others have it cosign at the same time".to_owned())
}
