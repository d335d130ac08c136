//! Errors of a journal.

use std::io;

use daylight_ledger::MAX_ENTRY;

use super::disk::Disk;
use crate::auditor::kept_checkpoint::KeptCheckpointError;

/// Error of a journal that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk failed. What was committed is still committed.
    #[error(
        "cannot read or write {path} of the journal ({error}); free space on its volume, or repair it"
    )]
    Disk { path: String, error: io::Error },
    /// The files differ from what was written.
    #[error(
        "the journal is damaged: {0}; restore the data directory from a backup, or start a new journal in an empty directory"
    )]
    Damaged(String),
    /// The key of the pseudonyms is too short.
    #[error(
        "{path}, the key of the journal's pseudonyms, has {bytes} bytes, with which names could be \
         guessed; write {fewest} or more random bytes into it, and begin a new journal with it"
    )]
    ShortKey { path: &'static str, bytes: usize, fewest: usize },
    /// It may or may not be committed: the directory could not be made durable after `commit` was
    /// replaced. Writing again could destroy what is committed, so the journal must be opened again.
    #[error(
        "cannot make {path} of the journal durable ({error}); check its volume; the auditor opens \
         the journal again"
    )]
    Uncertain { path: String, error: io::Error },
    /// An entry was not divided as it should have been.
    #[error("an entry of {0} bytes exceeds the journal's limit of {MAX_ENTRY}; this is a bug")]
    TooLong(usize),
    /// Another key signed it, so it is another log.
    #[error(
        "the journal is signed by the key {signer}, but the ledger's key is {key}; name the key that \
         signed it, or start a new journal in an empty directory"
    )]
    OtherKey { signer: String, key: String },
    /// Another journal cannot be continued.
    #[error(
        "cannot continue the journal that --continues names: {0}; name its data directory, and a new key"
    )]
    Continued(&'static str),
    /// It is not the journal of the checkpoint that is kept outside of its volume.
    #[error(transparent)]
    Kept(#[from] KeptCheckpointError),
    /// A later version of Daylight wrote it.
    #[error(
        "the journal has format {found}, but this version reads format {known}; use the version that \
         wrote it, or a later one"
    )]
    Version { found: u32, known: u32 },
}

/// Names the file that the disk failed on.
pub(super) fn failed(path: &str, error: io::Error) -> JournalError {
    JournalError::Disk { path: path.into(), error }
}

/// Reads a file; `None` if there is no such file.
pub(super) fn read(disk: &impl Disk, path: &str) -> Result<Option<Vec<u8>>, JournalError> {
    disk.read(path).map_err(|error| failed(path, error))
}
