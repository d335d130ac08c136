//! `daylight ledger mirror`: a copy of a ledger that is verified as it grows.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use daylight_ledger::{
    CHECKPOINT, Checkpoint, Entries, Hash, Note, Policy, TILE_WIDTH, TileKind, TilePath, Tree,
    bundle_bytes,
};
use serde::Serialize;

use super::show::bundle;
use super::source::{Opened, Source};
use super::trust::{Trust, vouch};
use crate::auditor::journal::{Backup, Directory, Disk};
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the ledger, or its address
    source: Source,
    /// Directory of the copy; it is created
    directory: PathBuf,
    /// Copy also the auditor's state and the key of its pseudonyms, so that the copy can be restored. Both
    /// have the real names; the copy is made its owner's alone. Only from the auditor's data directory
    #[arg(long)]
    with_secrets: bool,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Copy that is complete.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mirrored {
    pub(super) origin: String,
    pub(super) entries: u64,
    /// Entries that were copied now.
    new: u64,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let policy = flags.trust.policy()?;
    let source = flags.source.open()?;
    let Flags { directory, with_secrets, .. } = flags;
    let copy = Copy { source: &source, directory, with_secrets: *with_secrets };
    let mirrored = self::copy(&copy, policy.as_ref())?;
    flags.output.print(&mirrored, |Mirrored { origin, entries, new }| {
        format!("Verified and copied {new} new entries of {origin}. The copy has {entries}.\n")
    })
}

/// Copy to be made or continued.
pub(super) struct Copy<'a> {
    pub(super) source: &'a Opened<'a>,
    pub(super) directory: &'a Path,
    pub(super) with_secrets: bool,
}

impl Copy<'_> {
    /// Reads what an auditor continues from, after the checkpoint of `size` entries was read.
    fn backup(&self, size: u64) -> Result<Option<Backup>, CommandError> {
        if !self.with_secrets {
            return Ok(None);
        }
        let lacks = |what: &str| {
            let remedy = "Name the auditor's data directory, or a mirror that was copied with \
                          --with-secrets";
            self.source.invalid(what).code(ErrorCode::Invalid).remedy(remedy)
        };
        let Some(directory) = self.source.directory() else {
            return Err(lacks("is served, and its secrets are not"));
        };
        let backup = Backup::read(directory).map_err(|error| {
            self.source.invalid("has a state that cannot be read").because(error)
        })?;
        let backup = backup.ok_or_else(|| lacks("has no state from which an auditor continues"))?;
        if backup.size() < size {
            let what = format!("has the state of {} entries, and {size} entries", backup.size());
            return Err(lacks(&what));
        }
        Ok(Some(backup))
    }
}

/// Copies what is new, up to the signed checkpoint, and with secrets to the last entry.
pub(super) fn copy(what: &Copy<'_>, policy: Option<&Policy>) -> Result<Mirrored, CommandError> {
    let Copy { source, directory, with_secrets: _ } = what;
    let note = source.checkpoint()?;
    let Checkpoint { origin, size, root, extensions: _ } = vouch(policy, &note)?.checkpoint;
    let backup = what.backup(size)?;

    let place = directory.display();
    let unusable = || CommandError::new(format!("Cannot write the copy in {place}"));
    let mut copy = Directory::take(directory).map_err(|error| unusable().because(error))?;
    if backup.is_some() {
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(directory, private).map_err(|error| unusable().because(error))?;
    }
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
    // What was copied counts only with the checkpoint: without it, the next run writes over it.
    let differs = || {
        source.invalid(&format!(
            "is not what was signed, or does not continue the {old} entries of the copy in {place}"
        ))
    };
    extend(source, &mut copy, &mut tree, size, &unusable)?;
    if tree.root() != root {
        return Err(differs());
    }
    if let Some(backup) = &backup {
        let end = backup.size();
        extend(source, &mut copy, &mut tree, end, &unusable)?;
        if tree.root() != backup.root() {
            return Err(differs());
        }
        backup.write(&mut copy).map_err(|error| unusable().because(error))?;
    }
    copy.replace(CHECKPOINT, note.to_string().as_bytes())
        .map_err(|error| unusable().because(error))?;
    Ok(Mirrored { origin, entries: size, new: size - old })
}

/// Copies the entries up to this number.
fn extend(
    source: &Opened<'_>,
    copy: &mut Directory,
    tree: &mut Tree,
    end: u64,
    unusable: &impl Fn() -> CommandError,
) -> Result<(), CommandError> {
    while tree.size() < end {
        let at = tree.size();
        let bytes = bundle(source, at, end)?;
        let (from, path) = (at % TILE_WIDTH, TilePath::full(TileKind::Entries, at / TILE_WIDTH));
        let kept = bundle_bytes(&bytes, from).unwrap_or_default();
        for entry in Entries::new(&bytes[kept..]).flatten() {
            tree.append(Hash::leaf(entry));
        }
        copy.extend(&path.whole_name(), kept as u64, &bytes[kept..])
            .map_err(|error| unusable().because(error))?;
        for write in tree.take_writes() {
            copy.extend(&write.path.whole_name(), write.offset, &write.bytes)
                .map_err(|error| unusable().because(error))?;
        }
    }
    Ok(())
}
