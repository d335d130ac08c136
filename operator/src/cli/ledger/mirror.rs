//! `daylight ledger mirror`: a copy of a ledger that is verified as it grows.

use std::path::PathBuf;

use clap::Args;
use daylight_ledger::{
    CHECKPOINT, Checkpoint, Entries, Hash, Note, TILE_WIDTH, TileKind, TilePath, Tree, bundle_bytes,
};
use serde::Serialize;

use super::show::bundle;
use super::source::Source;
use super::trust::{Trust, vouch};
use crate::auditor::journal::{Directory, Disk};
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the ledger, or its address
    source: Source,
    /// Directory of the copy; it is created
    directory: PathBuf,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Copy that is complete.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mirrored {
    origin: String,
    entries: u64,
    /// Entries that were copied now.
    new: u64,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let policy = flags.trust.policy()?;
    let source = flags.source.open()?;
    let note = source.checkpoint()?;
    let Checkpoint { origin, size, root, extensions: _ } =
        vouch(policy.as_ref(), &note)?.checkpoint;

    let place = flags.directory.display();
    let unusable = || CommandError::new(format!("Cannot write the copy in {place}"));
    let mut copy = Directory::take(&flags.directory).map_err(|error| unusable().because(error))?;
    let old = match copy.read(CHECKPOINT).map_err(|error| unusable().because(error))? {
        Some(text) => {
            let note = Note::parse(&String::from_utf8_lossy(&text));
            let note = note.map_err(|error| unusable().because(error))?;
            let old = Checkpoint::parse(note.text()).map_err(|error| unusable().because(error))?;
            if old.origin != origin {
                return Err(unusable()
                    .because(format!("it has {}, not {origin}", old.origin))
                    .code(ErrorCode::Invalid));
            }
            old.size
        }
        None => 0,
    };
    if old > size {
        return Err(
            source.invalid(&format!("has {size} entries, but the copy in {place} has {old}"))
        );
    }
    let tree = Tree::resume(old, |path| copy.read(&path.whole_name()));
    let mut tree = tree.map_err(|error| {
        CommandError::new(format!("The copy in {place} is damaged"))
            .because(error.to_string())
            .code(ErrorCode::LedgerInvalid)
            .remedy("Keep it as evidence, and copy into an empty directory")
    })?;
    let mut at = old;
    while at < size {
        let bytes = bundle(&source, at, size)?;
        let (from, path) = (at % TILE_WIDTH, TilePath::full(TileKind::Entries, at / TILE_WIDTH));
        let kept = bundle_bytes(&bytes, from).unwrap_or_default();
        for entry in Entries::new(&bytes[kept..]).flatten() {
            tree.append(Hash::leaf(entry));
            at += 1;
        }
        copy.extend(&path.whole_name(), kept as u64, &bytes[kept..])
            .map_err(|error| unusable().because(error))?;
        for write in tree.take_writes() {
            copy.extend(&write.path.whole_name(), write.offset, &write.bytes)
                .map_err(|error| unusable().because(error))?;
        }
    }
    // What was copied counts only with the checkpoint: without it, the next run writes over it.
    if tree.root() != root {
        return Err(source.invalid(&format!(
            "is not what was signed, or does not continue the {old} entries of the copy in {place}"
        )));
    }
    copy.replace(CHECKPOINT, note.to_string().as_bytes())
        .map_err(|error| unusable().because(error))?;
    let mirrored = Mirrored { origin, entries: size, new: size - old };
    flags.output.print(&mirrored, |Mirrored { origin, entries, new }| {
        format!("Verified and copied {new} new entries of {origin}. The copy has {entries}.\n")
    })
}
