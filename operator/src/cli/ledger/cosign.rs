//! `daylight ledger cosign`: has witnesses cosign the checkpoint of a ledger.

use std::path::PathBuf;

use clap::Args;
use daylight_ledger::{Hash, TileHashes, prove_consistency};
use serde::Serialize;

use super::source::{Opened, Source};
use super::trust::{Trust, vouch};
use super::web::wait;
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::{self, Output};
use crate::witness_client::WitnessClient;

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
    let size = vouch(Some(&policy.without_witnesses()), &note)?.checkpoint.size;
    let (clients, mut failed) = WitnessClient::of(&policy);
    for mut client in clients {
        let prove = |old| std::future::ready(prove(&source, old, size));
        let cosigned = wait(client.cosign(&note, size, prove));
        let added = cosigned.and_then(|cosigned| {
            note.add(cosigned.signatures().iter().cloned()).map_err(|error| error.to_string())
        });
        if let Err(reason) = added {
            failed.push(format!("{}: {reason}", client.names.join(", ")));
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

/// Proves that a ledger of `size` entries continues its first `old` ones.
fn prove(source: &Opened<'_>, old: u64, size: u64) -> Result<Vec<Hash>, String> {
    prove_consistency(&mut TileHashes::new(source, size), old, size)
        .map_err(|error| error.to_string())
}
