//! The auditor's metrics, kept up to date with its books.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use daylight_base::{Name, Timestamp};
use daylight_meter::{Books, Entry};

use super::admission::AdmissionState;
use super::bookkeeper::{Bookkeeper, UnreadEnergy};
use super::metrics::{Metrics, NodeSource};
use super::writer::JournalWriter;
use crate::metric_table::signed;
use crate::process_memory::resident_bytes;

/// Time between two updates of the metrics. Prometheus rarely scrapes more often.
const EVERY: Duration = Duration::from_secs(5);

/// Sets the metrics.
pub(super) struct Publisher {
    pub(super) metrics: Metrics,
    /// Totals, and the number of entries that must be durable before they may be shown.
    ///
    /// Prometheus takes a counter that falls for one that began again at zero, and adds its value
    /// once more. So a total is shown only once no crash can take it back.
    pending: Option<(u64, Books)>,
    due: Option<Instant>,
    /// What is not read of each pool's energy, once it is known again.
    unread: Option<BTreeMap<Name, UnreadEnergy>>,
    /// The state of admission, once it has changed.
    admission: Option<AdmissionState>,
    /// Directory of the journal.
    data_dir: PathBuf,
}

impl Publisher {
    /// Shows the totals of the journal with which the auditor starts from the first scrape on.
    pub(super) fn new(metrics: Metrics, data_dir: PathBuf, at_start: &Books) -> Self {
        metrics.set_books(at_start);
        Self { metrics, pending: None, due: None, unread: None, admission: None, data_dir }
    }

    /// Takes what is not read of each pool's energy.
    pub(super) fn take_unread(&mut self, unread: BTreeMap<Name, UnreadEnergy>) {
        self.unread = Some(unread);
    }

    /// Takes the state of admission.
    pub(super) fn take_admission(&mut self, state: AdmissionState) {
        self.admission = Some(state);
    }

    /// Counts entries that go to the journal.
    pub(super) fn count(&self, entries: &[Entry]) {
        for entry in entries {
            self.metrics.count_entry(entry);
        }
    }

    /// Takes the totals with which the journal has `taken` entries, unless earlier ones still wait.
    pub(super) fn hold(&mut self, totals: &Books, taken: u64) {
        if self.pending.is_none() {
            self.pending = Some((taken, totals.clone()));
        }
    }

    /// Sets what is due. `kept` is the number of entries in the checkpoint outside of the volume.
    pub(super) fn publish(
        &mut self,
        books: &Bookkeeper,
        writer: &JournalWriter,
        kept: u64,
        now: Instant,
    ) {
        let metrics = &self.metrics;
        metrics.unwritten.set(signed(writer.waiting_bytes() as u64));
        if self.due.is_some_and(|due| now < due) {
            return;
        }
        // A scrape that is being answered must not hold up the books: the next turn is soon.
        let whole = metrics.whole.clone();
        let Some(_whole) = whole.try_hold() else { return };
        self.due = Some(now + EVERY);
        if let Some(unread) = self.unread.take() {
            metrics.set_unread(&unread);
        }
        if let Some(state) = self.admission.take() {
            metrics.set_admission(&state);
        }
        let closed = books.meter.check_with(&books.meter.books());
        if let Err(imbalance) = &closed {
            tracing::error!(%imbalance, "The books do not close. This is a bug; please report it.");
        }
        metrics.books_closed.set(i64::from(closed.is_ok()));
        if let Some((_, totals)) = self.pending.take_if(|(needed, _)| writer.durable() >= *needed) {
            metrics.set_books(&totals);
        }
        metrics.resident_memory.set(resident_bytes().unwrap_or_default());
        metrics.log_size.set(signed(writer.size()));
        metrics.log_signed.set(signed(writer.published()));
        metrics.log_kept.set(signed(kept));
        metrics.booked_until.set(books.meter.booked_until().0.div_euclid(1000));
        metrics.set_unregistered(books.unregistered());
        // The time up to which energy is read is the same in every period.
        let registrations = books.cluster.registrations().map(|(key, _)| (key, Timestamp(0)));
        let usages = books.meter.usages(books.meter.written_counts(), registrations);
        metrics.set_registrations_read(&usages);
        metrics.set_peaks(&usages);
        metrics.set_late_nodes(&books.late_nodes());
        metrics.set_agents_not_ready(&books.agents_not_ready());
        match rustix::fs::statvfs(&self.data_dir) {
            Ok(volume) => metrics.set_journal_free(volume.f_bavail.saturating_mul(volume.f_frsize)),
            Err(error) => {
                tracing::warn!(%error, "Cannot read the free space of the journal's volume.");
            }
        }
        metrics.set_unlisted(books.unlisted());
        let (by_exporter, by_count) = books.nodes_by_source();
        metrics.set_nodes(NodeSource::Exporter, by_exporter);
        metrics.set_nodes(NodeSource::Count, by_count);
    }
}
