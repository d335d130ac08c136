//! Proofs of RFC 6962: that an entry is in a tree, and that one tree continues another.

use std::collections::HashMap;
use std::hash::RandomState;

use crate::files::{Files, read_tile};
use crate::hash::Hash;
use crate::tile::{TILE_WIDTH, TileKind, TilePath};
use crate::tree::root_of;

/// Most hashes of a proof.
pub(crate) const MAX_PROOF: usize = 63;

/// Source of the hashes of complete subtrees.
pub trait Hashes {
    /// Error of a hash that cannot be read.
    type Error;

    /// Returns the root hash of entries `index` × 2^`height` up to (`index` + 1) × 2^`height`.
    fn hash(&mut self, height: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// Hashes out of the tiles of a tree. It keeps the tiles that it read last.
#[derive(Debug)]
pub struct TileHashes<'a, F> {
    files: &'a F,
    size: u64,
    tiles: HashMap<TilePath, Vec<u8>, RandomState>,
}

/// Error of a hash that no tile has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileHashesError<E> {
    /// A tile is missing.
    #[error("{0} is missing")]
    Missing(TilePath),
    /// A tile has another length than its hashes need.
    #[error("{path} has {bytes} bytes instead of {}", path.width() * 32)]
    Length { path: TilePath, bytes: usize },
    /// A tile could not be read.
    #[error(transparent)]
    Read(E),
}

/// Tiles that [`TileHashes`] keeps: more than one proof needs, at 8 kB each.
const KEPT_TILES: usize = 32;

impl<'a, F: Files> TileHashes<'a, F> {
    /// Takes hashes out of the tiles of a tree of `size` entries.
    pub fn new(files: &'a F, size: u64) -> Self {
        Self { files, size, tiles: HashMap::default() }
    }

    fn tile(&mut self, path: TilePath) -> Result<&[u8], TileHashesError<F::Error>> {
        if !self.tiles.contains_key(&path) {
            let mut bytes = read_tile(self.files, path)
                .map_err(TileHashesError::Read)?
                .ok_or(TileHashesError::Missing(path))?
                .bytes;
            let wanted = path.width() as usize * Hash::BYTES;
            if bytes.len() < wanted {
                return Err(TileHashesError::Length { path, bytes: bytes.len() });
            }
            bytes.truncate(wanted);
            if self.tiles.len() == KEPT_TILES {
                self.tiles.clear();
            }
            self.tiles.insert(path, bytes);
        }
        Ok(self.tiles.get(&path).map_or(&[], Vec::as_slice))
    }
}

impl<F: Files> Hashes for TileHashes<'_, F> {
    type Error = TileHashesError<F::Error>;

    fn hash(&mut self, height: u8, index: u64) -> Result<Hash, Self::Error> {
        let kind = TileKind::Hashes(height / 8);
        let count = 1 << (height % 8);
        let first = index * count;
        let full = TilePath::full(kind, first / TILE_WIDTH);
        let path = TilePath::at_size(kind, full.index(), self.size)
            .ok_or(TileHashesError::Missing(full))?;
        let (hashes, _) = self.tile(path)?.as_chunks();
        let first = (first % TILE_WIDTH) as usize;
        let hashes = hashes.get(first..first + count as usize);
        hashes.map(root_of).ok_or(TileHashesError::Missing(full))
    }
}

/// Returns the root hash that the tree had when it had `size` entries.
///
/// # Errors
///
/// A hash cannot be read.
pub fn root_at<H: Hashes>(hashes: &mut H, size: u64) -> Result<Hash, H::Error> {
    if size == 0 { Ok(Hash::empty()) } else { range_root(hashes, 0, size) }
}

/// Root of the entries `start..end`, where `start` is a multiple of the smallest power of two that is
/// not less than their number.
fn range_root<H: Hashes>(hashes: &mut H, start: u64, end: u64) -> Result<Hash, H::Error> {
    let count = end - start;
    debug_assert!(count > 0);
    if count.is_power_of_two() {
        let height = count.trailing_zeros();
        return hashes.hash(height as u8, start >> height);
    }
    let middle = start + split(count);
    let left = range_root(hashes, start, middle)?;
    Ok(Hash::node(&left, &range_root(hashes, middle, end)?))
}

/// Largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// Returns the proof that entry `index` is in the tree of `size` entries: the hashes of the subtrees
/// that are joined on its way to the root, from the leaf up. It is empty if there is no such entry.
///
/// # Errors
///
/// A hash cannot be read.
pub fn prove_inclusion<H: Hashes>(
    hashes: &mut H,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, H::Error> {
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while index < end && end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(range_root(hashes, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(hashes, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Returns the proof that the tree of `size` entries continues the one of `old` entries. It is empty if
/// `old` is 0 or not less than `size`.
///
/// # Errors
///
/// A hash cannot be read.
pub fn prove_consistency<H: Hashes>(
    hashes: &mut H,
    old: u64,
    size: u64,
) -> Result<Vec<Hash>, H::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= size {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, size);
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(range_root(hashes, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(hashes, start, middle)?);
            start = middle;
        }
    }
    // The old tree's root is known to who verifies, unless the way led to the right.
    if start > 0 {
        proof.push(range_root(hashes, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Error of a proof that proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is no such entry in the tree.
    #[error("the tree of {size} entries has no entry {index}")]
    Index { index: u64, size: u64 },
    /// The second tree is smaller than the first.
    #[error("a tree of {size} entries does not continue one of {old}")]
    Smaller { old: u64, size: u64 },
    /// The number of hashes is wrong for these trees.
    #[error("the proof has {0} hashes, which is wrong for this tree")]
    Length(usize),
    /// The hashes lead to another root.
    #[error("the proof does not lead to the root hash of the tree")]
    Root,
    /// The hashes lead to another root of the first tree.
    #[error("the proof does not lead to the root hash of the older tree: the entries differ")]
    OldRoot,
}

/// Verifies that the entry with hash `leaf` is at `index` in the tree of `size` entries with this root.
///
/// # Errors
///
/// It is not, or the proof does not show it.
pub fn verify_inclusion(
    leaf: Hash,
    index: u64,
    size: u64,
    root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let length = ProofError::Length(proof.len());
    let mut way = Way { at: index, last: size - 1 };
    let mut hash = leaf;
    for other in proof {
        hash = match way.climb().ok_or(length)? {
            Sibling::Left => Hash::node(other, &hash),
            Sibling::Right => Hash::node(&hash, other),
        };
    }
    match (way.is_at_root(), hash == root) {
        (true, true) => Ok(()),
        (true, false) => Err(ProofError::Root),
        (false, _) => Err(length),
    }
}

/// Way from a subtree up to the root.
struct Way {
    /// Place of the subtree among all of its height.
    at: u64,
    /// Place of the last of these.
    last: u64,
}

/// Side on which the next subtree is joined.
enum Sibling {
    Left,
    Right,
}

impl Way {
    /// Goes up to the next subtree that two are joined into; `None` at the root.
    fn climb(&mut self) -> Option<Sibling> {
        if self.is_at_root() {
            return None;
        }
        let sibling = if self.at % 2 == 1 || self.at == self.last {
            // At the right edge, the levels at which there is no subtree on the left are left out.
            while self.at.is_multiple_of(2) && self.at != 0 {
                self.halve();
            }
            Sibling::Left
        } else {
            Sibling::Right
        };
        self.halve();
        Some(sibling)
    }

    fn halve(&mut self) {
        (self.at, self.last) = (self.at / 2, self.last / 2);
    }

    fn is_at_root(&self) -> bool {
        self.last == 0
    }
}

/// Verifies that the tree of `size` entries with root `root` continues the tree of `old` entries with
/// root `old_root`. The empty tree is continued by each tree.
///
/// # Errors
///
/// It does not, or the proof does not show it.
pub fn verify_consistency(
    old: u64,
    old_root: Hash,
    size: u64,
    root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    let length = ProofError::Length(proof.len());
    if old > size {
        return Err(ProofError::Smaller { old, size });
    }
    if old == 0 || old == size {
        let known = if old == 0 { Hash::empty() } else { root };
        return match (proof.is_empty(), old_root == known) {
            (false, _) => Err(length),
            (true, false) => Err(ProofError::OldRoot),
            (true, true) => Ok(()),
        };
    }
    // The largest subtree that ends with the old tree: the old tree itself, if it is complete.
    let height = old.trailing_zeros();
    let mut way = Way { at: (old - 1) >> height, last: (size - 1) >> height };
    let (first, rest) = match old.is_power_of_two() {
        true => (old_root, proof),
        false => proof.split_first().map(|(first, rest)| (*first, rest)).ok_or(length)?,
    };
    let (mut old_hash, mut hash) = (first, first);
    for other in rest {
        match way.climb().ok_or(length)? {
            Sibling::Left => {
                old_hash = Hash::node(other, &old_hash);
                hash = Hash::node(other, &hash);
            }
            Sibling::Right => hash = Hash::node(&hash, other),
        }
    }
    match (way.is_at_root(), old_hash == old_root, hash == root) {
        (true, true, true) => Ok(()),
        (true, false, _) => Err(ProofError::OldRoot),
        (true, true, false) => Err(ProofError::Root),
        (false, ..) => Err(length),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::tree::Tree;

    /// Tree in memory that knows its hashes by their definition.
    struct Known(Vec<Hash>);

    impl Known {
        fn of(count: u64) -> Self {
            Self((0..count).map(|number| Hash::leaf(&number.to_be_bytes())).collect())
        }

        fn root(&self, size: u64) -> Hash {
            defined(&self.0[..size as usize])
        }
    }

    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::empty(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                Hash::node(&defined(left), &defined(right))
            }
        }
    }

    impl Hashes for Known {
        type Error = Infallible;

        fn hash(&mut self, height: u8, index: u64) -> Result<Hash, Infallible> {
            let first = (index as usize) << height;
            Ok(defined(&self.0[first..first + (1 << height)]))
        }
    }

    /// Proof by its definition in RFC 6962, section 2.1.1.
    fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut proof, other) = match index < left.len() {
            true => (path(index, left), right),
            false => (path(index - left.len(), right), left),
        };
        proof.push(defined(other));
        proof
    }

    /// Proof by its definition in RFC 6962, section 2.1.2.
    fn subproof(old: usize, leaves: &[Hash], is_known: bool) -> Vec<Hash> {
        if old == leaves.len() {
            return if is_known { Vec::new() } else { vec![defined(leaves)] };
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut proof, other) = match old <= left.len() {
            true => (subproof(old, left, is_known), right),
            false => (subproof(old - left.len(), right, false), left),
        };
        proof.push(defined(other));
        proof
    }

    #[test]
    fn proofs_of_small_trees_are_those_of_the_definition_and_verify() {
        for size in 1..=17_u64 {
            let mut known = Known::of(size);
            let root = known.root(size);
            for index in 0..size {
                let proof = prove_inclusion(&mut known, index, size).unwrap();
                assert_eq!(proof, path(index as usize, &known.0));
                let leaf = known.0[index as usize];
                assert_eq!(verify_inclusion(leaf, index, size, root, &proof), Ok(()));
                for other in (0..size).filter(|other| *other != index) {
                    assert!(verify_inclusion(leaf, other, size, root, &proof).is_err());
                }
            }
            for old in 0..=size {
                let proof = prove_consistency(&mut known, old, size).unwrap();
                if old > 0 {
                    assert_eq!(proof, subproof(old as usize, &known.0, true));
                }
                let old_root = known.root(old);
                assert_eq!(verify_consistency(old, old_root, size, root, &proof), Ok(()));
                assert!(verify_consistency(old, Hash::leaf(b"x"), size, root, &proof).is_err());
                if old > 0 {
                    let wrong = Hash::leaf(b"x");
                    assert!(verify_consistency(old, old_root, size, wrong, &proof).is_err());
                }
            }
        }
        let root = Hash::empty();
        assert_eq!(
            verify_inclusion(root, 3, 3, root, &[]),
            Err(ProofError::Index { index: 3, size: 3 })
        );
        assert_eq!(
            verify_consistency(4, root, 3, root, &[]),
            Err(ProofError::Smaller { old: 4, size: 3 })
        );
        assert_eq!(verify_consistency(3, root, 7, root, &[]), Err(ProofError::Length(0)));
    }

    #[test]
    fn a_proof_is_made_from_tiles() {
        const SIZE: u64 = 70_000;
        let mut files = BTreeMap::new();
        let mut tree = Tree::new();
        let mut roots = BTreeMap::new();
        let sizes = [1, 255, 256, 257, 65_535, 65_536, 65_537, 69_999, SIZE];
        for number in 0..SIZE {
            tree.append(Hash::leaf(&number.to_be_bytes()));
            if sizes.contains(&tree.size()) {
                roots.insert(tree.size(), tree.root());
            }
        }
        for write in tree.take_writes() {
            files.insert(write.path.to_string(), write.bytes);
        }
        let files = |path: &str| Ok::<_, Infallible>(files.get(path).cloned());
        let mut hashes = TileHashes::new(&files, SIZE);
        let root = tree.root();
        for index in [0, 255, 256, 65_535, 65_536, 69_888, 69_999] {
            let proof = prove_inclusion(&mut hashes, index, SIZE).unwrap();
            let leaf = Hash::leaf(&index.to_be_bytes());
            assert_eq!(verify_inclusion(leaf, index, SIZE, root, &proof), Ok(()), "{index}");
        }
        for (old, old_root) in roots {
            assert_eq!(root_at(&mut hashes, old), Ok(old_root));
            let proof = prove_consistency(&mut hashes, old, SIZE).unwrap();
            assert_eq!(verify_consistency(old, old_root, SIZE, root, &proof), Ok(()), "{old}");
        }
        let none = |_: &str| Ok::<_, Infallible>(None);
        let mut none = TileHashes::new(&none, SIZE);
        let error = prove_inclusion(&mut none, 0, SIZE).unwrap_err();
        assert_eq!(error.to_string(), "tile/1/001.p/17 is missing");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_changed_proof_does_not_verify(
            size in 2_u64..300,
            place: prop::sample::Index,
            at: prop::sample::Index,
            bit in 0_usize..256,
        ) {
            let mut known = Known::of(size);
            let root = known.root(size);
            let index = place.index(size as usize) as u64;
            let leaf = known.0[index as usize];
            let whole = prove_inclusion(&mut known, index, size).unwrap();
            let mut proof = whole.clone();
            let changed = at.index(proof.len());
            proof[changed].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify_inclusion(leaf, index, size, root, &proof).is_err());
            prop_assert!(
                verify_inclusion(leaf, index, size, root, &whole[..whole.len() - 1]).is_err()
            );
            let longer = [&whole[..], &[leaf]].concat();
            prop_assert!(verify_inclusion(leaf, index, size, root, &longer).is_err());

            let old = index.max(1);
            let old_root = known.root(old);
            let whole = prove_consistency(&mut known, old, size).unwrap();
            let mut proof = whole.clone();
            let changed = at.index(proof.len());
            proof[changed].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify_consistency(old, old_root, size, root, &proof).is_err());
            let shorter = &whole[..whole.len() - 1];
            prop_assert!(verify_consistency(old, old_root, size, root, shorter).is_err());
            let longer = [&whole[..], &[leaf]].concat();
            prop_assert!(verify_consistency(old, old_root, size, root, &longer).is_err());
        }

        #[test]
        fn any_proof_is_answered(
            index: u64,
            size: u64,
            old: u64,
            proof in prop::collection::vec(any::<[u8; 32]>().prop_map(Hash), 0..70),
        ) {
            let root = Hash::empty();
            prop_assert!(verify_inclusion(root, index, size, root, &proof).is_err());
            let _ = verify_consistency(old, root, size, root, &proof);
        }
    }
}
