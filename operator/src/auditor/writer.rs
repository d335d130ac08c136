//! Writing of the journal, apart from the main loop: one batch at a time, in order.

use std::time::{Duration, Instant};

use daylight_base::{Name, Timestamp};
use daylight_meter::Entry;
use tokio::task::JoinHandle;

use super::batch::Batch;
use super::journal::{Directory, Journal, JournalError, Published};
use super::ledger_key::LedgerKeys;
use super::pseudonyms::Pseudonyms;
use crate::entries::EntryWriter;

/// Time until a journal that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// A snapshot replaces the state once that has grown to this multiple of the last snapshot, so that
/// snapshots add at most a third to what is written,
const GROWTH: u64 = 4;
/// and to this number of bytes, so that a small site is not busy with snapshots.
const SNAPSHOT_FROM: u64 = 16 << 20;

/// Failure after which the journal must be opened again.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    #[error("the journal's writer panicked; this is a bug, please report it with the log")]
    Panicked,
    #[error(transparent)]
    Journal(#[from] JournalError),
}

type Written = (Journal<Directory>, Batch, Result<(), JournalError>);

/// Writes the journal.
///
/// 1. [`JournalWriter::push`] entries.
/// 2. [`JournalWriter::start`] writes what waits, unless a batch is being written.
/// 3. [`JournalWriter::next`] returns what has become durable.
#[derive(Debug)]
pub(super) struct JournalWriter {
    /// `None` while a batch is being written.
    journal: Option<Journal<Directory>>,
    entries: EntryWriter,
    /// The ledger's name.
    origin: Name,
    size: u64,
    published: Option<Published>,
    state_bytes: u64,
    /// Bytes of the snapshot with which the state began; 0 if this process has written none.
    snapshot_bytes: u64,
    waiting: Batch,
    waiting_bytes: usize,
    writing: Option<JoinHandle<Written>>,
    /// Entries of the meter that were pushed, and those of them that are durable.
    taken: u64,
    durable: u64,
    failure: Option<String>,
    retry_at: Option<Instant>,
}

impl JournalWriter {
    /// Opens the journal in a directory, which these keys sign. `verify` may refuse it before anything is
    /// written to it. Returns the entries from which the meter is restored.
    pub(super) fn open(
        directory: Directory,
        keys: LedgerKeys,
        quiet_every: Duration,
        verify: impl FnOnce(&Journal<Directory>) -> Result<(), JournalError>,
    ) -> Result<(Self, Vec<Entry>), JournalError> {
        let origin = Name::from(keys.key.name());
        let (mut journal, state) = Journal::open(directory, keys.key)?;
        verify(&journal)?;
        if let Some(next) = keys.next {
            journal.set_next_key(next);
        }
        let is_new = journal.size() == 0;
        let pseudonyms = Pseudonyms::open(journal.disk(), is_new)?;
        let (writer, entries) =
            EntryWriter::restore(pseudonyms, journal.size(), quiet_every, &state)
                .map_err(|error| JournalError::Damaged(error.to_string()))?;
        let writer = Self {
            entries: writer,
            origin,
            size: journal.size(),
            published: journal.checkpoint().cloned(),
            state_bytes: journal.state_bytes(),
            snapshot_bytes: 0,
            journal: Some(journal),
            waiting: Batch::default(),
            waiting_bytes: 0,
            writing: None,
            taken: 0,
            durable: 0,
            failure: None,
            retry_at: None,
        };
        Ok((writer, entries))
    }

    /// Takes entries to be written. A snapshot among them must be complete.
    pub(super) fn push(&mut self, entries: Vec<Entry>) {
        self.taken += entries.len() as u64;
        self.waiting.add(entries, &mut self.entries);
        self.waiting_bytes = self.waiting.bytes();
    }

    /// Returns `true` if a multiple of `every` lies between the last closing and this time.
    pub(super) fn is_closing_due(&mut self, until: Timestamp, every: Duration) -> bool {
        let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
        let number = |at: Timestamp| at.millis_since(Timestamp::default()) / every;
        number(until) > number(self.entries.open_since(until))
    }

    /// Returns the name under which the ledger has a registration.
    pub(super) fn pseudonym_of(&mut self, registration: &Name) -> Name {
        self.entries.pseudonym_of(registration)
    }

    /// Adds the entries of quiet nodes, which wait otherwise.
    pub(super) fn push_quiet(&mut self) {
        self.waiting.add_quiet(&mut self.entries);
        self.waiting_bytes = self.waiting.bytes();
    }

    /// Returns the entry that closes all that were pushed, to be pushed next.
    pub(super) fn close(&mut self, until: Timestamp) -> Option<Entry> {
        self.push_quiet();
        let closing = self.entries.close(until);
        let failed = |error| tracing::error!(%error, "The ledger's entries cannot be closed.");
        closing.map_err(failed).ok().map(Entry::Closing)
    }

    /// Starts to write what waits, unless a batch is being written or has just failed.
    pub(super) fn start(&mut self, now: Instant) {
        if self.waiting.is_empty() || self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        let Some(mut journal) = self.journal.take() else { return };
        let batch = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        // The disk is synchronous, and a sync may take seconds.
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let result = journal.append(&batch.leaves, &batch.state, batch.replaces_state);
            if result.is_ok()
                && let Err(error) = journal.publish()
            {
                // What counts is written; the next batch is signed together with it.
                tracing::warn!(%error, "The last entries of the ledger are not signed yet.");
            }
            (journal, batch, result)
        }));
    }

    /// Waits until the batch is written. Returns the UIDs of leases whose end has become durable;
    /// never returns while no batch is being written. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The journal is lost to this process: the writer panicked, or what is committed is uncertain.
    /// A process that ran on would record nothing. The next one opens the journal again.
    pub(super) async fn next(&mut self) -> Result<Vec<Name>, WriterError> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let written = writing.await;
        self.writing = None;
        let (journal, mut batch, result) = written.map_err(|_| WriterError::Panicked)?;
        self.size = journal.size();
        self.published = journal.checkpoint().cloned();
        self.state_bytes = journal.state_bytes();
        self.journal = Some(journal);
        match result {
            Ok(()) => {
                self.failure = None;
                self.retry_at = None;
                self.durable += batch.count;
                if batch.replaces_state {
                    self.snapshot_bytes = self.state_bytes;
                }
                debug_assert!(self.durable <= self.taken, "durable_entries_were_pushed");
                Ok(batch.closed)
            }
            Err(error @ JournalError::Uncertain { .. }) => Err(error.into()),
            Err(error) => {
                self.failure = Some(error.to_string());
                self.retry_at = Some(Instant::now() + RETRY);
                // Nothing of the batch counts. It goes before what has arrived since.
                batch.append(std::mem::take(&mut self.waiting));
                self.waiting = batch;
                self.waiting_bytes = self.waiting.bytes();
                Ok(Vec::new())
            }
        }
    }

    /// The ledger's name.
    pub(super) fn origin(&self) -> Name {
        self.origin.clone()
    }

    /// Number of entries in the journal.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Number of entries that the checkpoint vouches for.
    pub(super) fn published(&self) -> u64 {
        self.published.as_ref().map_or(0, |published| published.size)
    }

    /// The checkpoint on the disk.
    pub(super) fn checkpoint(&self) -> Option<&Published> {
        self.published.as_ref()
    }

    /// Returns `true` once a snapshot should replace the state.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.state_bytes >= SNAPSHOT_FROM.max(GROWTH * self.snapshot_bytes)
    }

    /// Number of the meter's entries that this process pushed.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Number of them that are durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// The reason that the journal cannot be written, if it cannot.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Returns `true` if nothing waits and nothing is being written.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.writing.is_none()
    }
}

#[cfg(test)]
mod tests {
    use daylight_base::Timestamp;
    use daylight_ledger::SigningKey;

    use super::*;

    /// A writer of an empty journal with an entry that waits.
    fn writer(directory: &tempfile::TempDir) -> JournalWriter {
        let directory = Directory::take(directory.path()).unwrap();
        let key = SigningKey::from_seed("example.com/ledger", [7; 32]).unwrap();
        let keys = LedgerKeys { key, next: None };
        let (mut writer, _) =
            JournalWriter::open(directory, keys, Duration::ZERO, |_| Ok(())).unwrap();
        writer.push(vec![Entry::Clock { at: Timestamp(1), back_ms: 1 }]);
        writer
    }

    #[tokio::test]
    async fn a_panic_of_the_writer_is_an_error_and_not_a_silence() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = writer(&directory);
        writer.writing = Some(tokio::task::spawn_blocking(|| panic!("a bug")));
        let error = writer.next().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the journal's writer panicked; this is a bug, please report it with the log"
        );
    }

    #[tokio::test]
    async fn entries_become_durable() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = writer(&directory);
        writer.start(Instant::now());
        assert_eq!(writer.next().await.unwrap(), Vec::<Name>::new());
        assert_eq!((writer.size(), writer.durable(), writer.is_settled()), (1, 1, true));
        assert_eq!(writer.published(), 1);
    }
}
