//! Growing Merkle trees.

use std::collections::BTreeMap;

use crate::hash::Hash;
use crate::tile::{TILE_WIDTH, TileKind, TilePath};

/// Right edge of a Merkle tree: what is needed of it to append to it and to know its root, at most 64
/// hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees that make up the tree, the largest first: one for each bit
    /// of `size`.
    subtrees: Vec<Hash>,
}

/// Hash that became known and belongs into a tile of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileHash {
    /// Level of the tile.
    pub level: u8,
    /// Place among all hashes of that level; the tile is this divided by 256.
    pub index: u64,
    /// Root of the subtree of 256^`level` entries.
    pub hash: Hash,
}

impl Frontier {
    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends the hash of an entry, and hands out each hash that belongs into a tile, from the lowest
    /// level up.
    pub fn append(&mut self, leaf: Hash, mut each: impl FnMut(TileHash)) {
        let index = self.size;
        let mut hash = leaf;
        each(TileHash { level: 0, index, hash });
        // Each 1 at the end of the number before is a subtree that this entry completes, with the one
        // on its left, into one of twice its size.
        for height in 1..=index.trailing_ones() {
            let left = self.subtrees.pop();
            debug_assert!(left.is_some(), "there is a subtree for each bit of the size");
            hash = Hash::node(&left.unwrap_or_else(Hash::empty), &hash);
            if height.is_multiple_of(8) {
                each(TileHash { level: (height / 8) as u8, index: index >> height, hash });
            }
        }
        self.subtrees.push(hash);
        self.size += 1;
        debug_assert_eq!(self.subtrees.len(), self.size.count_ones() as usize);
    }

    /// Root hash of the tree.
    pub fn root(&self) -> Hash {
        let mut subtrees = self.subtrees.iter().rev();
        let Some(last) = subtrees.next() else { return Hash::empty() };
        subtrees.fold(*last, |right, left| Hash::node(left, &right))
    }
}

/// Bytes that belong at the end of a growing tile of hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Tile, with the width that it has after this.
    pub path: TilePath,
    /// Bytes of the tile before these.
    pub offset: u64,
    /// Hashes of 32 bytes each, never none.
    pub bytes: Vec<u8>,
}

/// Merkle tree that only grows, with the tiles of hashes that belong on disk.
///
/// 1. [`Tree::new`], or [`Tree::resume`] with the last tile of each level.
/// 2. [`Tree::append`] as often as necessary.
/// 3. [`Tree::take_writes`], whose bytes must be durable before [`Tree::root`] is signed.
///
/// It takes some hundred bytes, and 33 for each entry whose writes were not taken. To be able to return
/// after a failed write, clone it before step 2.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    frontier: Frontier,
    /// Hashes that are not taken, by level and index of the tile.
    writes: BTreeMap<(u8, u64), Vec<Hash>>,
}

/// Error of a tree that cannot be continued from its tiles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError<E> {
    /// A tile is missing.
    #[error("{path} is missing, which a tree of {size} entries has")]
    Missing { path: TilePath, size: u64 },
    /// A tile has fewer bytes than its hashes need.
    #[error(
        "{path} has {bytes} bytes, but a tree of {size} entries has {} there",
        path.width() * 32
    )]
    Short { path: TilePath, size: u64, bytes: usize },
    /// A tile could not be read.
    #[error(transparent)]
    Read(E),
}

impl Tree {
    /// Starts an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues a tree of `size` entries. `read` returns the bytes of a tile, `None` if there is none;
    /// it is called for the last, partial tile of each level that has one. More bytes than the tile's
    /// width are ignored: a crash may have left them.
    ///
    /// The result is not verified here: compare [`Tree::root`] with the checkpoint.
    ///
    /// # Errors
    ///
    /// A tile is missing or too short, or `read` failed.
    pub fn resume<E>(
        size: u64,
        mut read: impl FnMut(TilePath) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Self, ResumeError<E>> {
        let mut subtrees = Vec::with_capacity(size.count_ones() as usize);
        for level in (0..8).rev() {
            let kind = TileKind::Hashes(level);
            let elements = kind.elements(size);
            let width = elements % TILE_WIDTH;
            if width == 0 {
                continue;
            }
            let Some(path) = TilePath::at_size(kind, elements / TILE_WIDTH, size) else { continue };
            debug_assert_eq!(path.width(), width);
            let bytes = read(path)
                .map_err(ResumeError::Read)?
                .ok_or(ResumeError::Missing { path, size })?;
            let (hashes, _) = bytes.as_chunks();
            let Some(mut hashes) = hashes.get(..width as usize) else {
                return Err(ResumeError::Short { path, size, bytes: bytes.len() });
            };
            // The bits of the width are the subtrees' sizes, the largest first.
            for bit in (0..8).rev().filter(|bit| width >> bit & 1 == 1) {
                let (subtree, rest) = hashes.split_at(1 << bit);
                subtrees.push(root_of(subtree));
                hashes = rest;
            }
        }
        Ok(Self { frontier: Frontier { size, subtrees }, writes: BTreeMap::new() })
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.frontier.size
    }

    /// Root hash of the tree.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Appends the hash of an entry.
    pub fn append(&mut self, leaf: Hash) {
        let writes = &mut self.writes;
        self.frontier.append(leaf, |TileHash { level, index, hash }| {
            writes.entry((level, index / TILE_WIDTH)).or_default().push(hash);
        });
    }

    /// Takes what belongs on disk since the last time, at most one write for each tile, the lowest
    /// level first.
    pub fn take_writes(&mut self) -> Vec<Write> {
        let size = self.size();
        let write = |((level, index), hashes): ((u8, u64), Vec<Hash>)| {
            let path = TilePath::at_size(TileKind::Hashes(level), index, size)?;
            let bytes = hashes.iter().flat_map(|hash| hash.0).collect::<Vec<_>>();
            let offset = path.width() * Hash::BYTES as u64 - bytes.len() as u64;
            Some(Write { path, offset, bytes })
        };
        std::mem::take(&mut self.writes).into_iter().filter_map(write).collect()
    }
}

/// Root of a complete tree over 1, 2, 4 … hashes.
pub(crate) fn root_of(hashes: &[[u8; Hash::BYTES]]) -> Hash {
    debug_assert!(hashes.len().is_power_of_two());
    if let [hash] = hashes {
        return Hash(*hash);
    }
    let (left, right) = hashes.split_at(hashes.len() / 2);
    Hash::node(&root_of(left), &root_of(right))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// Merkle tree hash by its definition in RFC 6962.
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

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|number| Hash::leaf(&number.to_be_bytes())).collect()
    }

    /// Files that grow in place.
    #[derive(Default)]
    struct Growing(BTreeMap<String, Vec<u8>>);

    impl Growing {
        fn perform(&mut self, writes: Vec<Write>) {
            for write in writes {
                let file = self.0.entry(write.path.whole_name()).or_default();
                assert_eq!(file.len() as u64, write.offset, "{}", write.path);
                file.extend(write.bytes);
            }
        }

        fn resume(&self, size: u64) -> Result<Tree, ResumeError<Infallible>> {
            Tree::resume(size, |path| Ok(self.0.get(&path.whole_name()).cloned()))
        }
    }

    #[test]
    fn roots_are_those_of_the_test_vectors_for_rfc_6962() {
        // The entries and roots that Certificate Transparency's implementations are tested with.
        let entries = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::new();
        assert_eq!(tree.root(), Hash::empty());
        for (entry, root) in entries.iter().zip(roots) {
            let bytes: Vec<u8> = (0..entry.len() / 2)
                .map(|at| u8::from_str_radix(&entry[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            tree.append(Hash::leaf(&bytes));
            assert_eq!(tree.root().to_string(), root);
        }
    }

    #[test]
    fn the_third_level_begins_with_entry_65536() {
        let leaves = leaves(65_537);
        let mut files = Growing::default();
        let mut tree = Tree::new();
        leaves.iter().for_each(|leaf| tree.append(*leaf));
        files.perform(tree.take_writes());
        let complete = defined(&leaves[..65_536]);
        assert_eq!(files.0["tile/2/000"], complete.0);
        assert_eq!(files.0["tile/0/256"], leaves[65_536].0);
        assert_eq!(files.0["tile/1/000"].len(), 8192);
        assert_eq!(tree.root(), Hash::node(&complete, &leaves[65_536]));
        assert_eq!(files.resume(65_537).unwrap().frontier, tree.frontier);
    }

    #[test]
    fn a_missing_or_short_tile_is_named() {
        let mut files = Growing::default();
        let mut tree = Tree::new();
        leaves(300).into_iter().for_each(|leaf| tree.append(leaf));
        files.perform(tree.take_writes());
        files.0.get_mut("tile/0/001").unwrap().pop();
        assert_eq!(
            files.resume(300).unwrap_err().to_string(),
            "tile/0/001.p/44 has 1407 bytes, but a tree of 300 entries has 1408 there"
        );
        files.0.remove("tile/1/000");
        assert_eq!(
            files.resume(300).unwrap_err().to_string(),
            "tile/1/000.p/1 is missing, which a tree of 300 entries has"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn a_tree_is_the_same_however_often_it_is_stored_and_continued(
            batches in prop::collection::vec(0_u64..600, 0..5)
        ) {
            let leaves = leaves(batches.iter().sum());
            let mut files = Growing::default();
            let mut size = 0;
            for batch in batches {
                let mut tree = files.resume(size).unwrap();
                prop_assert_eq!(tree.root(), defined(&leaves[..size as usize]));
                for leaf in &leaves[size as usize..(size + batch) as usize] {
                    tree.append(*leaf);
                }
                size += batch;
                prop_assert_eq!(tree.size(), size);
                prop_assert_eq!(tree.root(), defined(&leaves[..size as usize]));
                files.perform(tree.take_writes());
                prop_assert!(tree.take_writes().is_empty());
                for level in 0..2 {
                    let all = TilePath::all(TileKind::Hashes(level), size);
                    for path in all {
                        let span = 256_usize.pow(u32::from(level));
                        let hashes: Vec<u8> = (0..path.width())
                            .map(|at| (path.index() * 256 + at) as usize * span)
                            .flat_map(|at| defined(&leaves[at..at + span]).0)
                            .collect();
                        prop_assert_eq!(&files.0[&path.whole_name()], &hashes);
                    }
                }
            }
        }
    }
}
