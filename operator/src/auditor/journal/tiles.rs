//! Bundles of entries and tiles of hashes. Those that are not full grow in place, under the name that
//! they have when they are.

use daylight_ledger::{Entries, Hash, ResumeError, TILE_WIDTH, TileKind, TilePath, Tree};

use super::disk::Disk;
use super::error::{JournalError, failed, read};

/// Continues the tree over the first `size` entries from its tiles.
pub(super) fn tree_of(disk: &impl Disk, size: u64) -> Result<Tree, JournalError> {
    let tree = Tree::resume(size, |path| read(disk, &path.whole_name()));
    tree.map_err(|error| match error {
        ResumeError::Read(error) => error,
        error => JournalError::Damaged(error.to_string()),
    })
}

/// Writes the hashes that a tree has gained.
pub(super) fn write_tiles(disk: &mut impl Disk, tree: &mut Tree) -> Result<(), JournalError> {
    for write in tree.take_writes() {
        let path = write.path.whole_name();
        disk.extend(&path, write.offset, &write.bytes).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// Reads the entries of a bundle of a journal of `size` entries, and compares them with their hashes.
pub(super) fn verify_bundle(disk: &impl Disk, bundle: u64, size: u64) -> Result<(), JournalError> {
    let path = whole_name(TileKind::Entries, bundle);
    let missing = |path: &str| JournalError::Damaged(format!("{path} is missing"));
    let bytes = read(disk, &path)?.ok_or_else(|| missing(&path))?;
    let tile = whole_name(TileKind::Hashes(0), bundle);
    let hashes = read(disk, &tile)?.ok_or_else(|| missing(&tile))?;
    let mut entries = Entries::new(&bytes);
    let mut hashes = hashes.chunks_exact(Hash::BYTES);
    for number in bundle * TILE_WIDTH..size.min((bundle + 1) * TILE_WIDTH) {
        let Some(Ok(entry)) = entries.next() else {
            return Err(JournalError::Damaged(format!("{path} ends within entry {number}")));
        };
        if hashes.next() != Some(&Hash::leaf(entry).0) {
            return Err(JournalError::Damaged(format!(
                "entry {number} in {path} differs from its hash in {tile}"
            )));
        }
    }
    Ok(())
}

pub(super) fn whole_name(kind: TileKind, index: u64) -> String {
    TilePath::full(kind, index).whole_name()
}
