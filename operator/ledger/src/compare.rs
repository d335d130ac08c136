//! Comparisons of two states of a log, or of two logs, by their hashes alone.

use crate::checkpoint::Checkpoint;
use crate::files::Files;
use crate::proof::{
    Hashes, ProofError, TileHashes, TileHashesError, prove_consistency, verify_consistency,
};

/// Error of a log whose growth cannot be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrowthError<E> {
    /// A tile is missing, short or cannot be read.
    #[error(transparent)]
    Tile(#[from] TileHashesError<E>),
    /// The newer checkpoint does not continue the older one.
    #[error(transparent)]
    Proof(ProofError),
}

/// Verifies that a checkpoint continues an older one, with a few tiles of the newer log. Entries are
/// not read.
///
/// # Errors
///
/// It does not, or a tile cannot be read.
pub fn verify_growth<F: Files>(
    files: &F,
    older: &Checkpoint,
    newer: &Checkpoint,
) -> Result<(), GrowthError<F::Error>> {
    let mut hashes = TileHashes::new(files, newer.size);
    let proof = prove_consistency(&mut hashes, older.size, newer.size)?;
    verify_consistency(older.size, older.root, newer.size, newer.root, &proof)
        .map_err(GrowthError::Proof)
}

/// Returns the number of the first entry that differs in the first `size` entries of two logs; `None` if
/// they are the same.
///
/// # Errors
///
/// A hash cannot be read.
pub fn first_difference<A: Hashes, B: Hashes<Error = A::Error>>(
    a: &mut A,
    b: &mut B,
    size: u64,
) -> Result<Option<u64>, A::Error> {
    // The complete subtrees of the tree, from the left: one for each bit of its size.
    let mut start = 0;
    for bit in (0..64).rev().filter(|bit| size >> bit & 1 == 1) {
        let mut height = bit as u8;
        let mut index = start >> height;
        start += 1 << bit;
        if a.hash(height, index)? == b.hash(height, index)? {
            continue;
        }
        while height > 0 {
            height -= 1;
            index *= 2;
            if a.hash(height, index)? == b.hash(height, index)? {
                index += 1;
            }
        }
        return Ok(Some(index));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::tests::{Log, entry, log};

    #[test]
    fn another_history_is_found_without_its_entries() {
        let old = log(300);
        let forked =
            Log::new((0..700).map(|number| entry(if number == 7 { 8 } else { number })), true);
        let growth =
            |newer: &Log| verify_growth(&newer.files(), &old.checkpoint, &newer.checkpoint);
        assert_eq!(growth(&log(700)), Ok(()));
        assert_eq!(growth(&forked), Err(GrowthError::Proof(ProofError::OldRoot)));
        let differ = |a: &Log, b: &Log, size| {
            first_difference(
                &mut TileHashes::new(&a.files(), a.checkpoint.size),
                &mut TileHashes::new(&b.files(), b.checkpoint.size),
                size,
            )
        };
        assert_eq!(differ(&log(700), &forked, 700), Ok(Some(7)));
        assert_eq!(differ(&log(700), &forked, 7), Ok(None));
        assert_eq!(differ(&old, &log(700), 300), Ok(None));
    }
}
