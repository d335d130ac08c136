//! Journals of format 1, which had no tree: bundles without tiles of hashes, and one hash over the
//! sequence of all entries.

use daylight_ledger::{Entries, Hash, TILE_WIDTH, TileKind, Tree};

use super::commit::{COMMIT, Commit, EarlierCommit, Head};
use super::disk::Disk;
use super::error::{JournalError, failed, read};
use super::tiles::{whole_name, write_tiles};

/// Takes a journal over: reads all its entries, writes the tiles of their hashes, and commits both. It
/// takes time once, and memory for one bundle. After a crash it begins again.
///
/// # Errors
///
/// The disk failed, or the entries differ from what was committed. Then nothing is taken over.
pub(super) fn take_over(disk: &mut impl Disk, old: &EarlierCommit) -> Result<Commit, JournalError> {
    tracing::info!(entries = old.size, "Taking over a journal of an earlier version.");
    let (mut head, mut tree) = (Head::default(), Tree::new());
    for bundle in 0..old.size.div_ceil(TILE_WIDTH) {
        let path = whole_name(TileKind::Entries, bundle);
        let bytes = read(disk, &path)?
            .ok_or_else(|| JournalError::Damaged(format!("{path} is missing")))?;
        let mut entries = Entries::new(&bytes);
        for number in bundle * TILE_WIDTH..old.size.min((bundle + 1) * TILE_WIDTH) {
            let Some(Ok(entry)) = entries.next() else {
                return Err(JournalError::Damaged(format!("{path} ends within entry {number}")));
            };
            head = head.and(entry);
            tree.append(Hash::leaf(entry));
        }
        write_tiles(disk, &mut tree)?;
    }
    if head != old.head {
        return Err(JournalError::Damaged("its entries differ from what was committed".into()));
    }
    let mut commit = Commit::default();
    (commit.size, commit.root, commit.end) = (old.size, tree.root(), old.end);
    (commit.state, commit.state_end, commit.state_head) =
        (old.state, old.state_end, old.state_head);
    let text = serde_json::to_vec(&commit).unwrap_or_default();
    disk.replace(COMMIT, &text).map_err(|error| failed(COMMIT, error))?;
    Ok(commit)
}
