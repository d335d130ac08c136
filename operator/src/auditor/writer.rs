//! Writing the journal, away from the main loop: one batch at a time, in order.

use std::time::{Duration, Instant};

use daylight_base::Name;
use daylight_meter::Entry;
use tokio::task::JoinHandle;

use super::batch::Batch;
use super::journal::{Directory, Journal, JournalError};
use super::pseudonyms::Pseudonyms;

/// How soon a journal that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// The state begins anew when it has grown to so many times what it began with,
const GROWTH: u64 = 4;
/// and to so many bytes.
const ANEW_FROM: u64 = 16 << 20;

type Written = (Journal<Directory>, Batch, Result<(), JournalError>);

/// Writes the journal.
#[derive(Debug)]
pub(super) struct Writer {
    /// Not there while it is being written.
    journal: Option<Journal<Directory>>,
    pseudonyms: Pseudonyms,
    size: u64,
    /// Bytes of the state, and how many it began with.
    state: (u64, u64),
    waiting: Batch,
    waiting_bytes: usize,
    writing: Option<JoinHandle<Written>>,
    /// Entries of the meter that were taken, and those of them that are durable.
    taken: u64,
    durable: u64,
    trouble: Option<String>,
    again_at: Option<Instant>,
}

impl Writer {
    /// Goes on with what lies in a directory. Gives the entries that the meter goes on from.
    pub(super) fn open(directory: Directory) -> Result<(Self, Vec<Entry>), JournalError> {
        let (mut journal, state) = Journal::open(directory)?;
        let begins = journal.size() == 0;
        let pseudonyms = Pseudonyms::open(journal.disk(), begins)?;
        let entries = state.iter().map(|line| serde_json::from_slice(line));
        let entries = entries.collect::<Result<Vec<Entry>, _>>().map_err(|error| {
            JournalError::Damaged(format!("its state cannot be read ({error})"))
        })?;
        let writer = Self {
            pseudonyms,
            size: journal.size(),
            state: (journal.state_bytes(), 0),
            journal: Some(journal),
            waiting: Batch::default(),
            waiting_bytes: 0,
            writing: None,
            taken: 0,
            durable: 0,
            trouble: None,
            again_at: None,
        };
        Ok((writer, entries))
    }

    /// Takes entries to be written. A snapshot among them must be whole.
    pub(super) fn push(&mut self, entries: Vec<Entry>) {
        self.taken += entries.len() as u64;
        self.waiting.add(entries, &mut self.pseudonyms);
        self.waiting_bytes = self.waiting.bytes();
    }

    /// Begins to write what waits, unless that is under way or was refused just now.
    pub(super) fn start(&mut self, now: Instant) {
        if self.waiting.is_empty() || self.again_at.is_some_and(|at| at > now) {
            return;
        }
        let Some(mut journal) = self.journal.take() else { return };
        let batch = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let result = journal.append(&batch.leaves, &batch.state, batch.anew);
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
        self.state.0 = journal.state_bytes();
        self.journal = Some(journal);
        match result {
            Ok(()) => {
                self.trouble = None;
                self.again_at = None;
                self.durable += batch.count;
                if batch.anew {
                    self.state.1 = self.state.0;
                }
                batch.closed
            }
            Err(error) => {
                self.trouble = Some(error.to_string());
                self.again_at = Some(Instant::now() + AGAIN);
                batch.append(std::mem::take(&mut self.waiting));
                self.waiting = batch;
                self.waiting_bytes = self.waiting.bytes();
                Vec::new()
            }
        }
    }

    /// How many entries are on record.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether the state has grown so long that a snapshot should begin it anew.
    pub(super) fn wants_snapshot(&self) -> bool {
        let (bytes, began_with) = self.state;
        bytes >= ANEW_FROM.max(GROWTH * began_with)
    }

    /// Entries of the meter that were taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// How many of them are durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Why the journal cannot be written, if it cannot.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether everything is written.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.writing.is_none()
    }

    /// When it is tried again.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.again_at
    }
}
