//! `daylight ledger prove`.

use std::path::PathBuf;

use clap::Args;
use daylight_ledger::{Hash, TileHashes, TlogProof, prove_inclusion, verify_inclusion};

use super::show::{bundle, entries};
use super::source::Source;
use super::trust::{Trust, vouch};
use crate::cli::error::CommandError;
use crate::cli::output;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the ledger, or its address
    source: Source,
    /// Number of the entry, from 0
    entry: u64,
    /// File for the proof
    #[arg(long, value_name = "FILE", default_value = "entry.tlog-proof")]
    proof: PathBuf,
    /// File for the entry itself
    #[arg(long, value_name = "FILE", default_value = "entry.json")]
    entry_file: PathBuf,
    #[command(flatten)]
    trust: Trust,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let policy = flags.trust.policy()?;
    let source = flags.source.open()?;
    let note = source.checkpoint()?;
    let vouched = vouch(policy.as_ref(), &note)?;
    let size = vouched.checkpoint.size;
    let bundle = bundle(&source, flags.entry, size)?;
    let entry = entries(&bundle, flags.entry)?.next().unwrap_or_default();
    let mut hashes = TileHashes::new(&source, size);
    let path = prove_inclusion(&mut hashes, flags.entry, size)
        .map_err(|error| source.invalid("cannot prove the entry").because(error.to_string()))?;
    let proof = TlogProof { extra: None, index: flags.entry, hashes: path, checkpoint: note };
    // What the tiles hold may not be what was signed.
    verify_inclusion(Hash::leaf(&entry), flags.entry, size, vouched.checkpoint.root, &proof.hashes)
        .map_err(|error| source.invalid("cannot prove the entry").because(error))?;
    std::fs::write(&flags.proof, proof.to_string()).map_err(output::failed)?;
    std::fs::write(&flags.entry_file, &entry).map_err(output::failed)?;
    println!(
        "Wrote the proof to {} and entry {} to {}. Check them with `daylight ledger check {} {} --key KEY`.",
        flags.proof.display(),
        flags.entry,
        flags.entry_file.display(),
        flags.proof.display(),
        flags.entry_file.display()
    );
    Ok(())
}
