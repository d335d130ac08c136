//! `daylight receipt verify`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use daylight_ledger::{TlogProof, TlogProofError};
use serde::Serialize;

use super::content::{FORM, RECEIPT, Receipt, Subject, entry_files, index_of, is_proof};
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::ledger::evidence::{self, Evidence, ProvedEntry, content, read_ledger};
use crate::cli::ledger::source::Source;
use crate::cli::ledger::trust::{Trust, signatures, vouch};
use crate::cli::output::Output;
use crate::reporting::{JobFigures, JobReceipts, WantedJob};

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the receipt
    directory: PathBuf,
    /// Ledger from which the figures are computed, too: its directory or address
    source: Option<Source>,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Receipt whose figures are those of the entries.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    #[serde(flatten)]
    receipt: Receipt,
    /// Entries from which the figures were computed again.
    entries: usize,
    /// `true` if the whole ledger was read.
    with_ledger: bool,
    /// `true` if later entries of the ledger change a figure.
    superseded: bool,
    signed_by: String,
    cosigned_by: Vec<String>,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let directory = &flags.directory;
    let Evidence::<Subject> { manifest, note, policy, vouched } =
        evidence::open(directory, "receipt", FORM, RECEIPT, &flags.trust, wrong)?;
    let checkpoint = &vouched.checkpoint;
    let receipt: Receipt = serde_json::from_slice(&content(directory, RECEIPT)?)
        .map_err(|error| wrong(&format!("{RECEIPT} cannot be read")).because(error))?;
    if receipt.figures.job != manifest.subject.job {
        return Err(wrong("its manifest is of another receipt"));
    }
    // Each once: an entry that counts twice would change the figures.
    let mut indices: BTreeSet<u64> = BTreeSet::new();
    for listed in manifest.files.iter().filter(|listed| is_proof(&listed.name)) {
        let index = index_of(&listed.name).filter(|index| entry_files(*index)[1] == listed.name);
        if !index.is_some_and(|index| indices.insert(index)) {
            return Err(wrong(&format!("{} is not the proof of an entry of its own", listed.name)));
        }
    }
    let wanted = || WantedJob::Uid(receipt.figures.job.uid.clone());
    let mut receipts = JobReceipts::new(wanted());
    for index in &indices {
        let [entry_file, proof_file] = entry_files(*index);
        let unproved = || wrong(&format!("entry {index} is not in the ledger"));
        let proof = String::from_utf8_lossy(&content(directory, &proof_file)?).into_owned();
        let proof: TlogProof =
            proof.parse().map_err(|error: TlogProofError| unproved().because(error))?;
        if proof.index != *index || proof.checkpoint != note {
            return Err(unproved().because("its proof is of another entry or checkpoint"));
        }
        let entry = String::from_utf8(content(directory, &entry_file)?)
            .map_err(|error| unproved().because(error))?;
        let proved = ProvedEntry { index: *index, entry, hashes: proof.hashes };
        proved.verify(checkpoint, wrong)?;
        receipts.take(*index, proved.entry.as_bytes());
    }
    let computed = receipts.finish().map(|proved| proved.figures);
    let computed = computed.ok_or_else(|| wrong("its entries have nothing of the job"))?;
    let expected = Receipt {
        version: receipt.version.clone(),
        ..Receipt::new(computed, receipt.name.clone(), checkpoint)
    };
    compare(&receipt, &expected, "its entries")?;
    let mut superseded = false;
    if let Some(source) = &flags.source {
        let source = source.open()?;
        let latest = vouch(Some(&policy), &source.checkpoint()?)?.checkpoint;
        let [mut then, mut now] = [(); 2].map(|()| JobReceipts::new(wanted()));
        let older = [(checkpoint, "the receipt's checkpoint".to_owned())];
        read_ledger(&source, &latest, &older, |index, entry| {
            if index < checkpoint.size {
                then.take(index, entry);
            }
            now.take(index, entry);
        })?;
        let figures = |of: JobReceipts| of.finish().map(|proved| proved.figures);
        let then = figures(then).ok_or_else(|| wrong("the ledger has nothing of the job"))?;
        compare(&receipt, &Receipt { figures: then, ..receipt.clone() }, "the ledger")?;
        superseded = figures(now).as_ref() != Some::<&JobFigures>(&receipt.figures);
    }
    let verified = Verified {
        receipt,
        entries: indices.len(),
        with_ledger: flags.source.is_some(),
        superseded,
        signed_by: vouched.signed_by.unwrap_or_default(),
        cosigned_by: vouched.cosigned_by,
    };
    flags.output.print(&verified, text_of)
}

fn compare(receipt: &Receipt, expected: &Receipt, from: &str) -> Result<(), CommandError> {
    if receipt == expected {
        return Ok(());
    }
    let differs = evidence::difference(receipt, expected);
    let what = differs.as_deref().unwrap_or("it");
    Err(wrong(&format!("{what} is not what {from} add up to")))
}

fn wrong(what: &str) -> CommandError {
    CommandError::new(format!("The receipt does not hold: {what}")).code(ErrorCode::LedgerInvalid)
}

fn text_of(verified: &Verified) -> String {
    let Verified { receipt, entries, with_ledger, superseded, signed_by, cosigned_by } = verified;
    let mut text = receipt.text();
    let origin = &receipt.origin;
    let _ = writeln!(text, "Verified: all figures are those of {entries} entries of {origin}.");
    text += if *with_ledger {
        "The whole ledger has the same figures.\n"
    } else {
        "Name a copy of the ledger to verify that no pod of the job is missing.\n"
    };
    if *superseded {
        text += "Later entries of the ledger change its figures: write it again.\n";
    }
    text + &signatures(Some(signed_by), cosigned_by)
}
