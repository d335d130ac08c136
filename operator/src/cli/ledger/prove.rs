//! `daylight ledger prove`.

use std::path::PathBuf;

use clap::Args;
use daylight_ledger::{
    Checkpoint, Hash, Note, TileHashes, TlogProof, prove_inclusion, verify_inclusion,
};

use super::registration_proof;
use super::show::{bundle, entries};
use super::source::{Opened, Source};
use super::trust::{Trust, vouch};
use crate::cli::error::CommandError;
use crate::cli::output;

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["entry", "registration"])]
pub(super) struct Flags {
    /// Directory of the ledger, or its address
    source: Source,
    /// Number of the entry, from 0
    entry: Option<u64>,
    /// Prove what a closing has of this registration, `namespace/name` or its pseudonym, and the figures
    /// of no other
    #[arg(long, value_name = "NAME")]
    registration: Option<String>,
    /// Number of the closing, from 1; by default the last one that has something of the registration
    #[arg(long, value_name = "NUMBER", requires = "registration")]
    closing: Option<u64>,
    /// File with the key of the ledger's pseudonyms; by default that in the ledger's directory
    #[arg(long, value_name = "FILE", requires = "registration")]
    pseudonym_key: Option<PathBuf>,
    /// File for the proof: by default `entry.tlog-proof`, or `registration-proof.json`
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
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
    let file = |default: &str| flags.proof.clone().unwrap_or_else(|| default.into());
    if let Some(registration) = &flags.registration {
        let (key, directory) = (flags.pseudonym_key.as_deref(), flags.source.directory());
        let registration = registration_proof::pseudonym(registration, key, directory)?;
        let proof = registration_proof::of_registration(
            &source,
            &vouched,
            &note,
            &registration,
            flags.closing,
        )?;
        let (path, json) = (file("registration-proof.json"), serde_json::to_string(&proof));
        std::fs::write(&path, json.unwrap_or_default() + "\n").map_err(output::failed)?;
        let path = path.display();
        println!(
            "Wrote the proof to {path}. Check it with `daylight ledger check {path} --key KEY`."
        );
        return Ok(());
    }
    let entry_number = flags.entry.unwrap_or_default();
    let (proof, entry) = prove(&source, &note, &vouched.checkpoint, entry_number)?;
    let path = file("entry.tlog-proof");
    std::fs::write(&path, proof.to_string()).map_err(output::failed)?;
    std::fs::write(&flags.entry_file, &entry).map_err(output::failed)?;
    println!(
        "Wrote the proof to {} and entry {entry_number} to {}. Check them with `daylight ledger check {} {} --key KEY`.",
        path.display(),
        flags.entry_file.display(),
        path.display(),
        flags.entry_file.display()
    );
    Ok(())
}

/// Proves that an entry is in the ledger. Returns the proof, and the entry byte for byte.
pub(super) fn prove(
    source: &Opened<'_>,
    note: &Note,
    checkpoint: &Checkpoint,
    index: u64,
) -> Result<(TlogProof, Vec<u8>), CommandError> {
    let size = checkpoint.size;
    let bundle = bundle(source, index, size)?;
    let entry = entries(&bundle, index)?.next().unwrap_or_default();
    let mut hashes = TileHashes::new(source, size);
    let hashes = inclusion(source, &mut hashes, checkpoint, index, &entry)?;
    Ok((TlogProof { extra: None, index, hashes, checkpoint: note.clone() }, entry))
}

/// Returns the hashes that prove an entry, whose bytes were read.
pub(super) fn inclusion(
    source: &Opened<'_>,
    hashes: &mut TileHashes<'_, Opened<'_>>,
    checkpoint: &Checkpoint,
    index: u64,
    entry: &[u8],
) -> Result<Vec<Hash>, CommandError> {
    let Checkpoint { size, root, .. } = *checkpoint;
    let unproved = || source.invalid(&format!("cannot prove entry {index}"));
    let path = prove_inclusion(hashes, index, size)
        .map_err(|error| unproved().because(error.to_string()))?;
    // What the tiles hold may not be what was signed.
    verify_inclusion(Hash::leaf(entry), index, size, root, &path)
        .map_err(|error| unproved().because(error))?;
    Ok(path)
}
