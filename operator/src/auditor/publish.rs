//! The auditor's metrics, kept up to date with its books.

use std::time::{Duration, Instant};

use daylight_base::Timestamp;
use daylight_meter::{Books, Entry};

use super::bookkeeper::Bookkeeper;
use super::metrics::{Metrics, NodeSource};
use super::writer::JournalWriter;

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
}

impl Publisher {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, pending: None, due: None }
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

    /// Sets what is due.
    pub(super) fn publish(&mut self, books: &Bookkeeper, writer: &JournalWriter, now: Instant) {
        let metrics = &self.metrics;
        metrics.unwritten.set(signed(writer.waiting_bytes() as u64));
        if self.due.is_some_and(|due| now < due) {
            return;
        }
        self.due = Some(now + EVERY);
        let closed = books.meter.check_with(&books.meter.books());
        if let Err(imbalance) = &closed {
            tracing::error!(%imbalance, "The books do not close. This is a bug; please report it.");
        }
        metrics.books_closed.set(i64::from(closed.is_ok()));
        match self.pending.take_if(|(needed, _)| writer.durable() >= *needed) {
            Some((_, totals)) => metrics.set_books(&totals),
            // Everything in the books is from the journal, as it was at the start.
            None if writer.taken() == 0 => metrics.set_books(books.meter.written()),
            None => {}
        }
        metrics.log_size.set(signed(writer.size()));
        metrics.booked_until.set(books.meter.booked_until().0.div_euclid(1000));
        metrics.set_unregistered(books.unregistered());
        // The time up to which energy is read is the same in every period.
        let registrations = books.cluster.registrations().map(|(key, _)| (key, Timestamp(0)));
        let usages = books.meter.usages(books.meter.written_counts(), registrations);
        metrics.set_registrations_read(&usages);
        metrics.set_unlisted(books.unlisted());
        let (by_exporter, by_count) = books.nodes_by_source();
        metrics.set_nodes(NodeSource::Exporter, by_exporter);
        metrics.set_nodes(NodeSource::Count, by_count);
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
