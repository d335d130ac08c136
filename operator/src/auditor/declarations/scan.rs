//! Figures of registrations, added up from the ledger as it is on disk.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use daylight_base::{Name, Timestamp};
use daylight_ledger::{Entries, Frontier, Hash, TILE_WIDTH, TileKind, TilePath, read_tile};
use daylight_meter::Entry;

use crate::files;
use crate::reporting::{PeriodTotals, ReportingInterval, Totals};

/// What is added up: a registration by its pseudonym, in an interval.
pub(super) type Subject = (Name, ReportingInterval);

/// Part of the ledger from which totals follow: its first entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Number of these entries.
    pub(super) size: u64,
    /// Their root hash.
    pub(super) root: Hash,
}

/// Totals so far.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) totals: PeriodTotals,
    /// Ends with the last entry that counts, or with the one by which the last node reported up to the
    /// interval's end. So the same figures always have the same extent. `None` while nothing counts.
    pub(super) extent: Option<Extent>,
    /// `true` once every node has reported up to the interval's end.
    pub(super) is_final: bool,
}

/// Reading of a ledger from its first entry on, continued as it grows.
#[derive(Debug, Default)]
pub(super) struct Scan {
    frontier: Frontier,
    progress: BTreeMap<Subject, Progress>,
}

#[derive(Debug)]
struct Progress {
    totals: Totals,
    extent: Option<Extent>,
    is_final: bool,
}

impl Scan {
    /// Takes what is to be added up. With a new subject the ledger is read again from its beginning.
    pub(super) fn set_subjects(&mut self, subjects: impl Iterator<Item = Subject>) {
        let subjects: Vec<Subject> = subjects.collect();
        if subjects.iter().any(|subject| !self.progress.contains_key(subject)) {
            *self = Self::default();
            self.progress =
                subjects.into_iter().map(|it| (it.clone(), Progress::new(it))).collect();
        } else {
            self.progress.retain(|subject, _| subjects.contains(subject));
        }
    }

    /// Reads on until the ledger has `size` entries.
    ///
    /// # Errors
    ///
    /// A bundle cannot be read, or has fewer entries. What was read before counts, and is not read again.
    pub(super) fn read(&mut self, directory: &Path, size: u64) -> io::Result<()> {
        let files = |path: &str| files::read(&directory.join(path));
        while self.frontier.size() < size {
            let from = self.frontier.size();
            let bundle = from / TILE_WIDTH;
            let missing = || {
                let problem = format!("bundle {bundle} of the ledger is missing or cut off");
                io::Error::new(io::ErrorKind::InvalidData, problem)
            };
            let path = TilePath::at_size(TileKind::Entries, bundle, size).ok_or_else(missing)?;
            let found = read_tile(&files, path)?.ok_or_else(missing)?;
            let width = usize::try_from(path.width()).unwrap_or(usize::MAX);
            let skipped = usize::try_from(from % TILE_WIDTH).unwrap_or(usize::MAX);
            for entry in Entries::new(&found.bytes).take(width).skip(skipped) {
                self.take(entry.map_err(io::Error::other)?);
            }
            if self.frontier.size() < size.min((bundle + 1) * TILE_WIDTH) {
                return Err(missing());
            }
        }
        Ok(())
    }

    fn take(&mut self, leaf: &[u8]) {
        let index = self.frontier.size();
        self.frontier.append(Hash::leaf(leaf), |_| {});
        // Kinds of a later version book nothing that this one knows.
        let Ok(entry) = serde_json::from_slice::<Entry>(leaf) else { return };
        let extent = || Extent { size: self.frontier.size(), root: self.frontier.root() };
        for progress in self.progress.values_mut() {
            if progress.totals.add(index, &entry) {
                progress.extent = Some(extent());
            }
            if !progress.is_final && progress.ends_with(&entry) {
                progress.is_final = true;
                progress.extent = Some(extent());
            }
        }
    }

    /// Returns what was added up.
    pub(super) fn figures(&self) -> BTreeMap<Subject, Figures> {
        let figures = self.progress.iter().map(|(subject, progress)| {
            let &Progress { ref totals, extent, is_final } = progress;
            (subject.clone(), Figures { totals: totals.finish(), extent, is_final })
        });
        figures.collect()
    }
}

impl Progress {
    fn new((registration, interval): Subject) -> Self {
        Self { totals: Totals::new(registration, interval), extent: None, is_final: false }
    }

    /// Returns `true` if every node has reported up to the interval's end with this entry.
    fn ends_with(&self, entry: &Entry) -> bool {
        let until = match entry {
            Entry::Node(node) => Some(node.until),
            Entry::Nodes(nodes) => nodes.stretches.iter().map(|stretch| stretch.until).max(),
            _ => None,
        };
        let end: Timestamp = self.totals.interval().end;
        until.is_some_and(|until| until >= end) && self.totals.is_complete()
    }
}
