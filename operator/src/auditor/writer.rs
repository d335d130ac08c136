//! Writing the journal, away from the main loop: one batch at a time, in order.

use std::time::{Duration, Instant};

use daylight_meter::Entry;
use daylight_planner::model::Name;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::books::closed_in;
use super::journal::{Directory, Journal, JournalError, MAX_ENTRY, Tail};

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
    /// Leases that they close, by UID.
    closed: Vec<Name>,
}

type Written = (Journal<Directory>, Batch, Result<(), JournalError>);

/// Writes the journal.
#[derive(Debug)]
pub(super) struct Writer {
    /// Not there while it is being written.
    journal: Option<Journal<Directory>>,
    size: u64,
    waiting: Batch,
    writing: Option<JoinHandle<Written>>,
    trouble: Option<String>,
    again_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(journal: Journal<Directory>) -> Self {
        Self {
            size: journal.size(),
            journal: Some(journal),
            waiting: Batch::default(),
            writing: None,
            trouble: None,
            again_at: None,
        }
    }

    /// Takes entries to be written. A snapshot among them must be whole.
    pub(super) fn push(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if matches!(entry, Entry::SnapshotBegin) {
                self.waiting.snapshot = Some(self.waiting.leaves.len());
            }
            self.waiting.closed.extend(closed_in(&entry).cloned());
            self.put(entry);
        }
    }

    fn put(&mut self, entry: Entry) {
        let leaf = Leaf { v: VERSION, entry };
        // Entries are of strings, whole numbers, lists and maps: that cannot fail.
        let bytes = serde_json_canonicalizer::to_vec(&leaf).unwrap_or_default();
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
        let Some(mut journal) = self.journal.take() else { return };
        let batch = std::mem::take(&mut self.waiting);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let result = journal.append(&batch.leaves, batch.snapshot);
            (journal, batch, result)
        }));
    }

    /// Waits until the batch that is being written is, and gives the leases whose end is on record
    /// now; never returns while none is being written. Safe to cancel.
    pub(super) async fn next(&mut self) -> Vec<Name> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let written = writing.await;
        self.writing = None;
        let Ok((journal, mut batch, result)) = written else {
            self.trouble = Some("writing the journal panicked, which is a bug".into());
            return Vec::new();
        };
        self.size = journal.size();
        self.journal = Some(journal);
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
        self.waiting.snapshot = later.snapshot.map(|at| at + before).or(self.waiting.snapshot);
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

/// What the entries of a journal say.
pub(super) fn read(tail: &Tail) -> Result<Vec<Entry>, JournalError> {
    let entries = tail.entries.iter().zip(tail.from..);
    entries
        .map(|(bytes, number)| {
            let leaf: Leaf = serde_json::from_slice(bytes).map_err(|error| {
                JournalError::Damaged(format!("entry {number} cannot be read ({error})"))
            })?;
            Ok(leaf.entry)
        })
        .collect()
}
