//! Files of a log, in either of the forms in which they are stored.

use crate::hash::Hash;
use crate::tile::{Entries, TileKind, TilePath};

/// Path of the checkpoint, relative to the log.
pub const CHECKPOINT: &str = "checkpoint";

/// Source of files, such as a directory or a web server.
///
/// A function of the path is one.
pub trait Files {
    /// Error of a file that may exist, but cannot be read.
    type Error;

    /// Returns the bytes of a file; `None` if there is no such file. Paths are relative to the log,
    /// with `/`.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Self::Error>;
}

impl<F, E> Files for F
where
    F: Fn(&str) -> Result<Option<Vec<u8>>, E>,
{
    type Error = E;

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, E> {
        self(path)
    }
}

/// Bytes of a tile as they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTile {
    /// Bytes of the file: the tile, and what was appended since if it grows in place.
    pub bytes: Vec<u8>,
    /// Path of the file.
    pub file: String,
    /// Whether the file may have more than the tile: it has the name of the full tile, which this one is
    /// not.
    pub is_growing: bool,
}

/// Reads a tile or bundle. A partial one is stored by its own name, with `.p/W`, or is the beginning of
/// a file with the name of the full tile: one that grows in place, or that is full by now.
///
/// # Errors
///
/// A file cannot be read.
pub fn read_tile<F: Files>(files: &F, path: TilePath) -> Result<Option<FoundTile>, F::Error> {
    let own_name = path.to_string();
    if let Some(bytes) = files.read(&own_name)? {
        return Ok(Some(FoundTile { bytes, file: own_name, is_growing: false }));
    }
    if path.is_full() {
        return Ok(None);
    }
    let file = path.whole_name();
    Ok(files.read(&file)?.map(|bytes| FoundTile { bytes, file, is_growing: true }))
}

/// Returns what a web server answers for a path of a log that has signed `size` entries: the bytes, or
/// `None` for status 404. Partial tiles are the beginnings of the files that grow in place. A tile is
/// not handed out before its entries are signed.
///
/// # Errors
///
/// A file cannot be read.
pub fn serve<F: Files>(files: &F, path: &str, size: u64) -> Result<Option<Vec<u8>>, F::Error> {
    if path == CHECKPOINT {
        return files.read(path);
    }
    let Ok(path) = path.parse::<TilePath>() else { return Ok(None) };
    let signed = TilePath::at_size(path.kind(), path.index(), size);
    if signed.is_none_or(|signed| signed.width() < path.width()) {
        return Ok(None);
    }
    let Some(mut found) = read_tile(files, path)? else { return Ok(None) };
    let wanted = match path.kind() {
        TileKind::Hashes(_) => Some(path.width() as usize * Hash::BYTES),
        TileKind::Entries => bundle_bytes(&found.bytes, path.width()),
    };
    // A file that is shorter than what was signed is damaged, and so is not served.
    Ok(wanted.filter(|wanted| *wanted <= found.bytes.len()).map(|wanted| {
        found.bytes.truncate(wanted);
        found.bytes
    }))
}

/// Returns how many bytes the first `count` entries of a bundle have; `None` if it has fewer.
pub fn bundle_bytes(bundle: &[u8], count: u64) -> Option<usize> {
    let mut entries = Entries::new(bundle);
    for _ in 0..count {
        entries.next()?.ok()?;
    }
    Some(bundle.len() - entries.rest().len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;
    use crate::tile::push_entry;

    #[test]
    fn partial_tiles_are_served_out_of_growing_files() {
        let mut bundle = Vec::new();
        for entry in [&b"one"[..], b"", b"three"] {
            push_entry(&mut bundle, entry).unwrap();
        }
        let files: BTreeMap<&str, Vec<u8>> = [
            ("checkpoint", b"signed".to_vec()),
            ("tile/entries/000", bundle.clone()),
            ("tile/0/000", vec![7; 3 * 32]),
            ("tile/0/001.p/4", vec![8; 4 * 32]),
            ("state/1", b"secret".to_vec()),
        ]
        .into();
        let files = |path: &str| Ok::<_, Infallible>(files.get(path).cloned());
        let get = |path| serve(&files, path, 260).unwrap();
        assert_eq!(get("checkpoint").unwrap(), b"signed");
        assert_eq!(get("tile/entries/000.p/2").unwrap(), bundle[..7]);
        assert_eq!(get("tile/entries/000.p/3").unwrap(), bundle);
        assert_eq!(get("tile/0/000.p/2").unwrap(), vec![7; 64]);
        assert_eq!(get("tile/0/001.p/4").unwrap(), vec![8; 128]);
        for path in [
            // Fewer entries are there than were signed.
            "tile/entries/000.p/4",
            "tile/entries/000",
            "tile/0/000",
            // More entries than were signed.
            "tile/0/001.p/5",
            "tile/0/001",
            "tile/0/002.p/1",
            // Not files of the log.
            "state/1",
            "tile/0/../../state/1",
            "",
        ] {
            assert_eq!(get(path), None, "{path}");
        }
        assert_eq!(serve(&files, "tile/0/000.p/3", 2), Ok(None));
    }
}
