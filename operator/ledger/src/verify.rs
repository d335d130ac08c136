//! Verification of whole logs.

use crate::checkpoint::Checkpoint;
use crate::files::{Files, FoundTile, read_tile};
use crate::hash::Hash;
use crate::tile::{Entries, TILE_WIDTH, TileKind, TilePath};
use crate::tree::{Frontier, TileHash};

/// Most disagreements that are collected before verification ends.
const MAX_DISAGREEMENTS: usize = 100;

/// Disagreement between a log's files and what was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// A file is missing.
    #[error("{0} is missing")]
    Missing(TilePath),
    /// A tile has another length than its hashes need.
    #[error("{file} has {bytes} bytes, but its {} hashes need {}", path.width(), path.width() * 32)]
    Length { path: TilePath, file: String, bytes: usize },
    /// A bundle ends before its entries do.
    #[error("{file} ends before entry {entry}")]
    Truncated { file: String, entry: u64 },
    /// A bundle continues after its entries.
    #[error("{file} continues after entry {entry}, the last one that belongs there")]
    Excess { file: String, entry: u64 },
    /// An entry is not the one whose hash is in the tile.
    #[error("entry {entry} in {bundle} does not have the hash in {tile}: one of them was changed")]
    Entry { entry: u64, bundle: String, tile: String },
    /// A hash is not that of the tile below.
    #[error("hash {at} in {tile} is not that of {below}: one of them was changed")]
    TileHash { at: u64, tile: String, below: TilePath },
    /// The entries do not have the root hash that was signed.
    #[error(
        "the first {size} entries do not have the root hash of the {checkpoint}: entries were changed, \
         moved, inserted or left out"
    )]
    Root { size: u64, checkpoint: String },
    /// The log is shorter than it was.
    #[error(
        "the checkpoint has {size} entries, but the {checkpoint} had {old}: entries were left out"
    )]
    Shorter { size: u64, old: u64, checkpoint: String },
    /// The checkpoints are of different logs.
    #[error("the checkpoint is of {origin}, but the {checkpoint} is of {old}")]
    Origin { origin: String, old: String, checkpoint: String },
}

/// Verification of a whole log against its checkpoint: every entry, every tile and the root.
///
/// It reads each file once, in order, and takes some hundred kilobytes in addition to one bundle.
#[derive(Clone, Debug)]
pub struct LogVerifier<'a> {
    checkpoint: &'a Checkpoint,
    /// Older checkpoints with what they are called, by size.
    older: Vec<(&'a Checkpoint, String)>,
    pruned: u64,
}

impl<'a> LogVerifier<'a> {
    /// Verifies against a checkpoint whose signatures were verified before: see
    /// [`Policy::verify`](crate::Policy::verify).
    pub fn new(checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint, older: Vec::new(), pruned: 0 }
    }

    /// Verifies also that the log continues an older checkpoint, whose signatures were verified before.
    /// `name` is what disagreements call it, such as `older checkpoint in saved/checkpoint`.
    #[must_use]
    pub fn continues(mut self, older: &'a Checkpoint, name: impl Into<String>) -> Self {
        self.older.push((older, name.into()));
        self
    }

    /// Lets bundles be missing whose entries are all below this number. Their hashes are used instead.
    #[must_use]
    pub fn pruned_below(mut self, entry: u64) -> Self {
        self.pruned = entry;
        self
    }

    /// Verifies the log, and hands out each entry with its number, also those that were changed.
    /// Returns the disagreements, none of them if the log is as it was signed. After 100 it ends.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn verify<F: Files>(
        &self,
        files: &F,
        mut each: impl FnMut(u64, &[u8]),
    ) -> Result<Vec<Disagreement>, F::Error> {
        let Checkpoint { origin, size, root, extensions: _ } = self.checkpoint;
        let mut disagreements = Vec::new();
        let mut roots = vec![(*size, *root, "checkpoint")];
        for (older, name) in &self.older {
            if older.origin != *origin {
                let (origin, old) = (origin.clone(), older.origin.clone());
                let checkpoint = name.clone();
                disagreements.push(Disagreement::Origin { origin, old, checkpoint });
            } else if older.size > *size {
                let (size, old, checkpoint) = (*size, older.size, name.clone());
                disagreements.push(Disagreement::Shorter { size, old, checkpoint });
            } else {
                roots.push((older.size, older.root, name));
            }
        }
        // The next one is the last.
        roots.sort_by_key(|(size, ..)| std::cmp::Reverse(*size));
        let mut run = Run {
            files,
            size: *size,
            roots,
            frontier: Frontier::default(),
            bundle: String::new(),
            tiles: Default::default(),
            disagreements,
        };
        for bundle in TilePath::all(TileKind::Entries, *size) {
            let may_be_missing = (bundle.index() + 1) * TILE_WIDTH <= self.pruned;
            if !run.bundle(bundle, may_be_missing, &mut each)?
                || run.disagreements.len() >= MAX_DISAGREEMENTS
            {
                break;
            }
        }
        run.finish()
    }
}

/// Verification under way.
struct Run<'a, F> {
    files: &'a F,
    size: u64,
    /// Size, root and name of each checkpoint that the tree has not reached, the smallest last.
    roots: Vec<(u64, Hash, &'a str)>,
    /// Tree of the entries as they are in the bundles.
    frontier: Frontier,
    /// File of the last bundle.
    bundle: String,
    /// Last tile of each level.
    tiles: [Level; 8],
    disagreements: Vec<Disagreement>,
}

/// Computed hashes that belong into the tile that comes next at a level.
#[derive(Default)]
struct Level {
    hashes: Vec<Hash>,
    /// For each, whether it differs because of a disagreement below, which was reported there.
    is_known: Vec<bool>,
    /// Whether the tile before has such hashes.
    was_wrong: bool,
}

impl<F: Files> Run<'_, F> {
    /// Verifies a bundle, and the tiles that it completes. Returns `false` if the hashes of its entries
    /// are not known.
    fn bundle(
        &mut self,
        path: TilePath,
        may_be_missing: bool,
        each: &mut impl FnMut(u64, &[u8]),
    ) -> Result<bool, F::Error> {
        let first = path.index() * TILE_WIDTH;
        let mut leaves = Vec::with_capacity(path.width() as usize);
        if let Some(FoundTile { bytes, file, is_growing }) = read_tile(self.files, path)? {
            let mut entries = Entries::new(&bytes);
            for entry in first..first + path.width() {
                let Some(Ok(bytes)) = entries.next() else {
                    self.disagree(Disagreement::Truncated { file: file.clone(), entry });
                    break;
                };
                each(entry, bytes);
                leaves.push(Hash::leaf(bytes));
            }
            if leaves.len() as u64 == path.width() && !is_growing && !entries.rest().is_empty() {
                let entry = first + path.width() - 1;
                self.disagree(Disagreement::Excess { file: file.clone(), entry });
            }
            self.bundle = file;
        } else if !may_be_missing {
            self.disagree(Disagreement::Missing(path));
        }
        // The hashes in the tile stand for the entries that cannot be read, so that the others are
        // verified nevertheless.
        if (leaves.len() as u64) < path.width() {
            let kind = TileKind::Hashes(0);
            let tile = TilePath::of_width(kind, path.index(), path.width());
            let Some((_, stored)) = tile.map_or(Ok(None), |tile| self.tile(tile))? else {
                return Ok(false);
            };
            leaves.extend(&stored[leaves.len()..]);
        }
        for leaf in leaves {
            self.check_roots();
            let mut new: [Option<TileHash>; 8] = [None; 8];
            self.frontier.append(leaf, |hash| new[usize::from(hash.level)] = Some(hash));
            for hash in new.into_iter().flatten() {
                self.push(hash)?;
            }
        }
        Ok(true)
    }

    /// Compares the root with that of each checkpoint of this size.
    fn check_roots(&mut self) {
        let size = self.frontier.size();
        while let Some((_, root, name)) = self.roots.pop_if(|(next, ..)| *next == size) {
            if self.frontier.root() != root {
                let checkpoint = name.to_owned();
                self.disagreements.push(Disagreement::Root { size, checkpoint });
            }
        }
    }

    /// Takes a computed hash, and compares its tile if it is the last one in it.
    fn push(&mut self, TileHash { level, index, hash }: TileHash) -> Result<(), F::Error> {
        let at = usize::from(level);
        let is_known = at > 0 && self.tiles[at - 1].was_wrong;
        self.tiles[at].hashes.push(hash);
        self.tiles[at].is_known.push(is_known);
        match index % TILE_WIDTH == TILE_WIDTH - 1 {
            true => self.compare(level, index / TILE_WIDTH),
            false => Ok(()),
        }
    }

    /// Compares the computed hashes of a tile with those that are stored.
    fn compare(&mut self, level: u8, index: u64) -> Result<(), F::Error> {
        let Level { hashes, is_known, .. } = std::mem::take(&mut self.tiles[usize::from(level)]);
        let mut was_wrong = is_known.contains(&true);
        let path = TilePath::of_width(TileKind::Hashes(level), index, hashes.len() as u64);
        let Some(path) = path else { return Ok(()) };
        if let Some((file, stored)) = self.tile(path)? {
            for (at, (computed, stored)) in hashes.iter().zip(&stored).enumerate() {
                if computed == stored || is_known[at] {
                    continue;
                }
                was_wrong = true;
                let at = at as u64;
                let below = index * TILE_WIDTH + at;
                let tile = file.clone();
                self.disagreements.push(match level {
                    0 => Disagreement::Entry { entry: below, bundle: self.bundle.clone(), tile },
                    _ => Disagreement::TileHash {
                        at,
                        tile,
                        below: TilePath::full(TileKind::Hashes(level - 1), below),
                    },
                });
            }
        }
        self.tiles[usize::from(level)].was_wrong = was_wrong;
        Ok(())
    }

    /// Reads a tile of hashes, and the name of its file. `None` after a disagreement.
    fn tile(&mut self, path: TilePath) -> Result<Option<(String, Vec<Hash>)>, F::Error> {
        let Some(FoundTile { bytes, file, is_growing }) = read_tile(self.files, path)? else {
            self.disagree(Disagreement::Missing(path));
            return Ok(None);
        };
        let wanted = path.width() as usize * Hash::BYTES;
        if bytes.len() < wanted || (bytes.len() > wanted && !is_growing) {
            self.disagree(Disagreement::Length { path, file, bytes: bytes.len() });
            return Ok(None);
        }
        let (hashes, _) = bytes[..wanted].as_chunks();
        Ok(Some((file, hashes.iter().copied().map(Hash).collect())))
    }

    fn disagree(&mut self, disagreement: Disagreement) {
        if !self.disagreements.contains(&disagreement) {
            self.disagreements.push(disagreement);
        }
    }

    /// Compares the last, partial tile of each level, and the root.
    fn finish(mut self) -> Result<Vec<Disagreement>, F::Error> {
        if self.frontier.size() == self.size {
            for level in 0..8 {
                if !self.tiles[usize::from(level)].hashes.is_empty() {
                    let elements = TileKind::Hashes(level).elements(self.size);
                    self.compare(level, elements / TILE_WIDTH)?;
                }
            }
            self.check_roots();
        }
        self.disagreements.truncate(MAX_DISAGREEMENTS);
        Ok(self.disagreements)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::tile::push_entry;
    use crate::tree::Tree;

    /// Files of a log, and its checkpoint.
    #[derive(Clone)]
    pub(crate) struct Log {
        files: BTreeMap<String, Vec<u8>>,
        pub(crate) checkpoint: Checkpoint,
    }

    pub(crate) fn entry(number: u64) -> Vec<u8> {
        format!("{{\"entry\":{number}}}").into_bytes()
    }

    impl Log {
        /// With partial tiles by their own names, or as files that grow in place.
        pub(crate) fn new(entries: impl Iterator<Item = Vec<u8>>, is_growing: bool) -> Self {
            let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            let mut tree = Tree::new();
            let mut bundles: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            for entry in entries {
                push_entry(bundles.entry(tree.size() / 256).or_default(), &entry).unwrap();
                tree.append(Hash::leaf(&entry));
            }
            let name =
                |path: TilePath| if is_growing { path.whole_name() } else { path.to_string() };
            for (index, bundle) in bundles {
                let path = TilePath::at_size(TileKind::Entries, index, tree.size()).unwrap();
                files.insert(name(path), bundle);
            }
            for write in tree.take_writes() {
                files.insert(name(write.path), write.bytes);
            }
            let checkpoint = Checkpoint::new("example.com/log", tree.size(), tree.root());
            Self { files, checkpoint }
        }

        pub(crate) fn files(&self) -> impl Files<Error = Infallible> {
            |path: &str| Ok::<_, Infallible>(self.files.get(path).cloned())
        }

        fn disagreements(&self) -> Vec<String> {
            sentences(&LogVerifier::new(&self.checkpoint), self)
        }

        fn change(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
            let mut changed = self.clone();
            change(changed.files.get_mut(file).unwrap());
            changed
        }
    }

    fn sentences(verifier: &LogVerifier<'_>, log: &Log) -> Vec<String> {
        let found = verifier.verify(&log.files(), |_, _| ()).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn log(size: u64) -> Log {
        Log::new((0..size).map(entry), true)
    }

    #[test]
    fn a_log_verifies_in_either_form_and_hands_out_its_entries() {
        for size in [0, 1, 255, 256, 257, 512, 700] {
            for is_growing in [false, true] {
                let log = Log::new((0..size).map(entry), is_growing);
                let mut next = 0;
                let verifier = LogVerifier::new(&log.checkpoint);
                let found = verifier.verify(&log.files(), |number, bytes| {
                    assert_eq!((number, bytes), (next, &entry(next)[..]));
                    next += 1;
                });
                assert_eq!(found, Ok(vec![]), "{size}");
                assert_eq!(next, size);
            }
        }
        // What was appended since is not looked at.
        let mut older = log(700);
        older.checkpoint = log(300).checkpoint;
        assert!(older.disagreements().is_empty());
    }

    #[test]
    fn each_change_is_named() {
        let log = log(700);
        let root = "the first 700 entries do not have the root hash of the checkpoint: \
                    entries were changed, moved, inserted or left out";
        let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
        let entry = |number: u64, file: u64| {
            format!(
                "entry {number} in tile/entries/00{file} does not have the hash in tile/0/00{file}: \
                 one of them was changed"
            )
        };
        assert_eq!(
            log.change("tile/entries/001", flip(10)).disagreements(),
            [&entry(256, 1), root]
        );
        assert_eq!(
            log.change("tile/entries/002", flip(10)).disagreements(),
            [&entry(512, 2), root]
        );
        let mut numbers: Vec<u64> = (0..700).collect();
        numbers.swap(3, 600);
        let mut swapped = log.clone();
        for (name, file) in Log::new(numbers.into_iter().map(self::entry), true).files {
            if name.starts_with("tile/entries/") {
                swapped.files.insert(name, file);
            }
        }
        assert_eq!(swapped.disagreements(), [&entry(3, 0), &entry(600, 2), root]);
    }

    #[test]
    fn changed_tiles_are_named_while_the_entries_are_as_signed() {
        let log = log(700);
        let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
        assert_eq!(
            log.change("tile/0/002", flip(3 * 32)).disagreements(),
            [
                "entry 515 in tile/entries/002 does not have the hash in tile/0/002: one of them was changed"
            ]
        );
        assert_eq!(
            log.change("tile/1/000", flip(32)).disagreements(),
            ["hash 1 in tile/1/000 is not that of tile/0/001: one of them was changed"]
        );
        assert_eq!(
            log.change("tile/1/000", |bytes| bytes.truncate(33)).disagreements(),
            ["tile/1/000 has 33 bytes, but its 2 hashes need 64"]
        );
        assert_eq!(
            log.change("tile/0/001", |bytes| bytes.push(0)).disagreements(),
            ["tile/0/001 has 8193 bytes, but its 256 hashes need 8192"]
        );
        for file in ["tile/0/000", "tile/0/002", "tile/1/000"] {
            let mut without = log.clone();
            without.files.remove(file);
            let [sentence] = &without.disagreements()[..] else { panic!("{file}") };
            assert!(sentence.starts_with(file) && sentence.ends_with(" is missing"), "{sentence}");
        }
    }

    #[test]
    fn bundles_that_are_cut_or_missing_are_named() {
        let log = log(700);
        assert_eq!(
            log.change("tile/entries/002", |bytes| bytes.truncate(100)).disagreements(),
            ["tile/entries/002 ends before entry 518"]
        );
        assert_eq!(
            log.change("tile/entries/001", |bytes| bytes.push(0)).disagreements(),
            ["tile/entries/001 continues after entry 511, the last one that belongs there"]
        );
        let mut without = log.clone();
        without.files.remove("tile/entries/000");
        assert_eq!(without.disagreements(), ["tile/entries/000 is missing"]);
        let pruned = LogVerifier::new(&log.checkpoint).pruned_below(256);
        assert!(sentences(&pruned, &without).is_empty());
        let pruned = LogVerifier::new(&log.checkpoint).pruned_below(255);
        assert_eq!(sentences(&pruned, &without), ["tile/entries/000 is missing"]);
        without.files.remove("tile/0/000");
        assert_eq!(
            without.disagreements(),
            ["tile/entries/000 is missing", "tile/0/000 is missing"]
        );
    }

    #[test]
    fn a_log_that_was_written_again_is_found_with_an_older_checkpoint() {
        let old = log(300);
        let verify = |newer: &Log| {
            sentences(
                &LogVerifier::new(&newer.checkpoint).continues(&old.checkpoint, "older one"),
                newer,
            )
        };
        assert!(verify(&log(300)).is_empty());
        assert!(verify(&log(700)).is_empty());
        let forked =
            Log::new((0..700).map(|number| entry(if number == 7 { 8 } else { number })), true);
        assert!(forked.disagreements().is_empty());
        assert_eq!(
            verify(&forked),
            [
                "the first 300 entries do not have the root hash of the older one: entries were changed, \
              moved, inserted or left out"
            ]
        );
        assert_eq!(
            verify(&log(299)),
            ["the checkpoint has 299 entries, but the older one had 300: entries were left out"]
        );
        let mut other = log(700);
        other.checkpoint.origin = "example.com/other".into();
        assert_eq!(
            verify(&other),
            ["the checkpoint is of example.com/other, but the older one is of example.com/log"]
        );
    }

    #[test]
    fn an_older_checkpoint_of_any_size_is_compared() {
        let newer = log(700);
        for size in [0, 1, 255, 256, 257, 700] {
            let mut older = log(size).checkpoint;
            let known = older.clone();
            older.root = Hash::leaf(b"another");
            for (older, found) in [(known, 0), (older, 1)] {
                let verifier = LogVerifier::new(&newer.checkpoint).continues(&older, "older one");
                assert_eq!(sentences(&verifier, &newer).len(), found, "{size}");
            }
        }
    }

    #[test]
    fn verification_ends_after_many_disagreements() {
        let mut log = log(700);
        for name in ["tile/0/000", "tile/0/001"] {
            log.files.get_mut(name).unwrap().fill(0);
        }
        assert_eq!(log.disagreements().len(), 100);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Flips a bit of a file, drops an entry, or exchanges two.
        #[test]
        fn every_change_is_found(
            size in 1_u64..600,
            is_growing: bool,
            file: prop::sample::Index,
            at: prop::sample::Index,
            bit in 0_u8..8,
            entries: (prop::sample::Index, prop::sample::Index),
        ) {
            let log = Log::new((0..size).map(entry), is_growing);
            let name = file.get(&log.files.keys().cloned().collect::<Vec<_>>()).clone();
            let flipped = log.change(&name, |bytes| {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            });
            prop_assert!(!flipped.disagreements().is_empty(), "{name}");

            let mut numbers: Vec<u64> = (0..size).collect();
            let dropped = entries.0.index(numbers.len());
            numbers.remove(dropped);
            let mut shorter = Log::new(numbers.into_iter().map(entry), is_growing);
            shorter.checkpoint = log.checkpoint.clone();
            prop_assert!(!shorter.disagreements().is_empty());

            let (a, b) = (entries.0.index(size as usize), entries.1.index(size as usize));
            let mut numbers: Vec<u64> = (0..size).collect();
            numbers.swap(a, b);
            let mut swapped = Log::new(numbers.into_iter().map(entry), is_growing);
            swapped.checkpoint = log.checkpoint.clone();
            prop_assert_eq!(swapped.disagreements().is_empty(), a == b);
        }
    }
}
