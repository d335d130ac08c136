//! Writing the journal, away from the main loop: one batch at a time, in order.

use std::time::{Duration, Instant};

use daylight_meter::Entry;
use daylight_planner::model::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::books::closed_in;
use super::journal::{Directory, Journal, JournalError, MAX_ENTRY, Tail};
use super::pseudonyms::{Named, Names, Pseudonyms};

/// The version of the entries' form.
const VERSION: u32 = 1;

/// How soon a journal that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// An entry as it lies in the journal.
#[derive(Debug, Serialize, Deserialize)]
struct Leaf {
    v: u32,
    #[serde(flatten)]
    entry: Entry,
}

/// Entries that are to be written together.
#[derive(Debug, Default)]
struct Batch {
    leaves: Vec<Vec<u8>>,
    bytes: usize,
    /// The last complete snapshot among them.
    snapshot: Option<usize>,
    /// Names that they are the first to use.
    names: Vec<Named>,
    /// From which of these on they are those of the snapshot, and of what follows it.
    names_of_snapshot: usize,
    /// Leases that they close, by UID.
    closed: Vec<Name>,
}

/// What is written to, away from the main loop.
#[derive(Debug)]
struct Files {
    journal: Journal<Directory>,
    names: Names,
}

type Written = (Files, Batch, Result<(), JournalError>);

impl Files {
    /// Makes a batch durable: names first, so that no entry is without them.
    fn write(&mut self, batch: &Batch) -> Result<(), JournalError> {
        self.names.add(self.journal.disk(), &batch.names)?;
        self.journal.append(&batch.leaves, batch.snapshot)?;
        if batch.snapshot.is_some() {
            let of_snapshot = &batch.names[batch.names_of_snapshot..];
            if let Err(error) = self.names.keep(self.journal.disk(), of_snapshot) {
                tracing::warn!(%error, "Names that are no longer needed are kept.");
            }
        }
        Ok(())
    }
}

/// Writes the journal.
#[derive(Debug)]
pub(super) struct Writer {
    /// Not there while they are being written.
    files: Option<Files>,
    pseudonyms: Pseudonyms,
    size: u64,
    waiting: Batch,
    writing: Option<JoinHandle<Written>>,
    trouble: Option<String>,
    again_at: Option<Instant>,
}

impl Writer {
    /// Goes on with a journal, and gives what it says.
    pub(super) fn open(
        mut journal: Journal<Directory>,
        tail: &Tail,
    ) -> Result<(Self, Vec<Entry>), JournalError> {
        let mut leaves = read(tail)?;
        let (names, pseudonyms) = Names::open(journal.disk(), &mut leaves)?;
        let entries = understood(leaves, tail.from)?;
        let writer = Self {
            size: journal.size(),
            files: Some(Files { journal, names }),
            pseudonyms,
            waiting: Batch::default(),
            writing: None,
            trouble: None,
            again_at: None,
        };
        Ok((writer, entries))
    }

    /// Takes entries to be written. A snapshot among them must be whole.
    pub(super) fn push(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if matches!(entry, Entry::SnapshotBegin) {
                self.waiting.names.extend(self.pseudonyms.take_new());
                self.waiting.snapshot = Some(self.waiting.leaves.len());
                self.waiting.names_of_snapshot = self.waiting.names.len();
                self.pseudonyms.begin_anew();
            }
            self.waiting.closed.extend(closed_in(&entry).cloned());
            self.put(entry);
        }
        self.waiting.names.extend(self.pseudonyms.take_new());
    }

    fn put(&mut self, entry: Entry) {
        let leaf = Leaf { v: VERSION, entry };
        // Entries are of strings, whole numbers, lists and maps: that cannot fail.
        let mut value = serde_json::to_value(&leaf).unwrap_or_default();
        self.pseudonyms.hide(&mut value);
        let bytes = serde_json_canonicalizer::to_vec(&value).unwrap_or_default();
        if bytes.len() > MAX_ENTRY
            && let Entry::Node(entry) = leaf.entry
            && !entry.more
            && !entry.closed.is_empty() | !entry.time.is_empty() | !entry.energy.is_empty()
        {
            for part in entry.in_two() {
                self.put(Entry::Node(Box::new(part)));
            }
            return;
        }
        self.waiting.bytes += bytes.len();
        self.waiting.leaves.push(bytes);
    }

    /// Begins to write what waits, unless that is under way or was refused just now.
    pub(super) fn start(&mut self, now: Instant) {
        if self.waiting.leaves.is_empty() || self.again_at.is_some_and(|at| at > now) {
            return;
        }
        let Some(mut files) = self.files.take() else { return };
        let batch = std::mem::take(&mut self.waiting);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let result = files.write(&batch);
            (files, batch, result)
        }));
    }

    /// Waits until the batch that is being written is, and gives the leases whose end is on record
    /// now; never returns while none is being written. Safe to cancel.
    pub(super) async fn next(&mut self) -> Vec<Name> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let written = writing.await;
        self.writing = None;
        let Ok((files, mut batch, result)) = written else {
            self.trouble = Some("writing the journal panicked, which is a bug".into());
            return Vec::new();
        };
        self.size = files.journal.size();
        self.files = Some(files);
        match result {
            Ok(()) => {
                self.trouble = None;
                self.again_at = None;
                std::mem::take(&mut batch.closed)
            }
            Err(error) => {
                self.trouble = Some(error.to_string());
                self.again_at = Some(Instant::now() + AGAIN);
                let later = std::mem::replace(&mut self.waiting, batch);
                self.append(later);
                Vec::new()
            }
        }
    }

    fn append(&mut self, later: Batch) {
        let before = self.waiting.leaves.len();
        if let Some(at) = later.snapshot {
            self.waiting.snapshot = Some(before + at);
            self.waiting.names_of_snapshot = self.waiting.names.len() + later.names_of_snapshot;
        }
        self.waiting.names.extend(later.names);
        self.waiting.leaves.extend(later.leaves);
        self.waiting.bytes += later.bytes;
        self.waiting.closed.extend(later.closed);
    }

    /// How many entries are on record.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.bytes
    }

    /// Why the journal cannot be written, if it cannot.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether everything is written.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.leaves.is_empty() && self.writing.is_none()
    }

    /// When it is tried again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.again_at
    }
}

fn unreadable(number: u64, error: &serde_json::Error) -> JournalError {
    JournalError::Damaged(format!("entry {number} cannot be read ({error})"))
}

/// The entries of a journal.
fn read(tail: &Tail) -> Result<Vec<Value>, JournalError> {
    let leaves = tail.entries.iter().zip(tail.from..);
    leaves
        .map(|(bytes, number)| {
            serde_json::from_slice(bytes).map_err(|error| unreadable(number, &error))
        })
        .collect()
}

/// What entries say.
fn understood(leaves: Vec<Value>, from: u64) -> Result<Vec<Entry>, JournalError> {
    let leaves = leaves.into_iter().zip(from..);
    leaves
        .map(|(leaf, number)| {
            let leaf: Leaf =
                serde_json::from_value(leaf).map_err(|error| unreadable(number, &error))?;
            Ok(leaf.entry)
        })
        .collect()
}
