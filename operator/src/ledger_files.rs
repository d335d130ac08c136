//! The files of a ledger as readers expect them, by C2SP `tlog-tiles`, from a directory in which the
//! last ones grow in place.

use std::io;
use std::path::Path;

use daylight_ledger::{CHECKPOINT, Checkpoint, Note, serve};

use crate::files;

/// File of the last checkpoint that enough witnesses cosigned. It is handed out as the checkpoint.
pub(crate) const COSIGNED: &str = "checkpoint.cosigned";

/// File of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LedgerFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: &'static str,
    /// Value of the header `Cache-Control`.
    pub(crate) caching: &'static str,
}

/// Reads the checkpoint, or a tile or bundle as far as the newest checkpoint vouches for it. `None` if
/// there is no such file. The checkpoint is the last one that enough witnesses cosigned, if there is one.
///
/// # Errors
///
/// The directory cannot be read, or has something else in that place.
pub(crate) fn read(directory: &Path, path: &str) -> io::Result<Option<LedgerFile>> {
    let files = |path: &str| files::read(&directory.join(path));
    let Some(checkpoint) = files(CHECKPOINT)? else { return Ok(None) };
    let (media_type, caching) = match path {
        CHECKPOINT => ("text/plain; charset=utf-8", "no-cache"),
        _ => ("application/octet-stream", "public, max-age=31536000, immutable"),
    };
    let size = signed_size(&checkpoint)?;
    let bytes = match path {
        CHECKPOINT => Some(files(COSIGNED)?.unwrap_or(checkpoint)),
        _ => serve(&files, path, size)?,
    };
    Ok(bytes.map(|bytes| LedgerFile { bytes, media_type, caching }))
}

/// Number of entries that a checkpoint vouches for. Who signed it is for the reader to verify.
fn signed_size(checkpoint: &[u8]) -> io::Result<u64> {
    let text = str::from_utf8(checkpoint).map_err(io::Error::other)?;
    let note = Note::parse(text).map_err(io::Error::other)?;
    Ok(Checkpoint::parse(note.text()).map_err(io::Error::other)?.size)
}

#[cfg(test)]
mod tests {
    use daylight_ledger::{Hash, SigningKey};

    use super::*;
    use crate::auditor::journal::{Directory, Journal};

    #[test]
    fn files_are_served_as_far_as_they_are_signed() {
        let directory = tempfile::tempdir().unwrap();
        let read = |path: &str| read(directory.path(), path).unwrap().map(|file| file.bytes);
        assert_eq!(read("checkpoint"), None);
        let key = SigningKey::from_seed("example.com/ledger", [7; 32]).unwrap();
        let disk = Directory::take(directory.path()).unwrap();
        let (mut journal, _) = Journal::open(disk, key).unwrap();
        journal.append(&vec![b"entry"; 300], &["state"], false).unwrap();
        journal.publish().unwrap();
        // Not signed yet.
        journal.append(&vec![b"entry"; 300], &["state"], false).unwrap();

        let note = read("checkpoint").unwrap();
        assert!(note.starts_with(b"example.com/ledger\n300\n"));
        std::fs::write(directory.path().join(COSIGNED), "cosigned").unwrap();
        assert_eq!(read("checkpoint").as_deref(), Some(&b"cosigned"[..]));
        let bundle = b"\0\x05entry".repeat(256);
        assert_eq!(read("tile/entries/000").as_ref(), Some(&bundle));
        assert_eq!(read("tile/entries/001.p/44").as_deref(), Some(&bundle[..44 * 7]));
        assert_eq!(read("tile/entries/000.p/7").as_deref(), Some(&bundle[..7 * 7]));
        let hash = Hash::leaf(b"entry").0;
        assert_eq!(read("tile/0/001.p/44"), Some(hash.repeat(44)));
        assert_eq!(read("tile/1/000.p/1").map(|bytes| bytes.len()), Some(32));
        for absent in [
            "tile/entries/001",
            "tile/entries/001.p/45",
            "tile/0/001.p/45",
            "tile/1/000.p/2",
            "tile/0/002",
            "tile/2/000.p/1",
            "pseudonym.key",
            "state/1",
            "commit",
            "tile/../state/1",
        ] {
            assert_eq!(read(absent), None, "{absent}");
        }
    }
}
