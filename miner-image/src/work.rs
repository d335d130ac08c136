//! The work of all runs of the engine, added up from what each run tells of itself.

use std::time::Duration;

use crate::figures::Figures;

/// Totals that never go back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    /// Shares that the pool took.
    pub(crate) accepted: Total,
    /// Shares that it did not take.
    pub(crate) rejected: Total,
    /// Shares that came too late.
    pub(crate) stale: Total,
    /// Shares of which the pool said nothing.
    pub(crate) lost: Total,
    pub(crate) hashes: Total,
}

/// A total of counters that begin again at 0 with each run of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Total {
    sum: f64,
    last: f64,
}

impl Total {
    /// The total, as a whole number.
    pub(crate) fn value(self) -> u64 {
        self.sum as u64
    }

    fn reach(&mut self, now: f64) {
        // As Prometheus has it: a counter that is lower than before began again at 0.
        self.sum += if now >= self.last { now - self.last } else { now };
        self.last = now;
    }
}

impl Work {
    /// Shares that earn nothing.
    pub(crate) fn of_no_use(&self) -> u64 {
        self.rejected.value() + self.stale.value() + self.lost.value()
    }

    /// The engine begins again, and with it its counters.
    pub(crate) fn begin(&mut self) {
        let shares = [&mut self.accepted, &mut self.rejected, &mut self.stale, &mut self.lost];
        for total in shares.into_iter().chain([&mut self.hashes]) {
            total.last = 0.0;
        }
    }

    /// Takes figures in, `since` which the last ones were told. Where an engine does not count its
    /// hashes, they are its hashrate times that.
    pub(crate) fn add(&mut self, figures: &Figures, since: Duration) {
        let shares = [
            (&mut self.accepted, figures.shares_accepted),
            (&mut self.rejected, figures.shares_rejected),
            (&mut self.stale, figures.shares_stale),
            (&mut self.lost, figures.shares_lost),
        ];
        for (total, now) in shares {
            if let Some(now) = now {
                total.reach(now as f64);
            }
        }
        match (figures.hashes, figures.hashrate) {
            (Some(now), _) => self.hashes.reach(now),
            (None, Some(rate)) => self.hashes.sum += rate.max(0.0) * since.as_secs_f64(),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(accepted: u64, hashes: Option<f64>) -> Figures {
        Figures {
            shares_accepted: Some(accepted),
            hashes,
            hashrate: Some(10.0),
            ..Figures::default()
        }
    }

    #[test]
    fn totals_go_on_over_restarts_seen_and_unseen() {
        let mut work = Work::default();
        work.add(&told(5, Some(100.0)), Duration::ZERO);
        work.add(&told(7, Some(140.0)), Duration::ZERO);
        work.begin();
        work.add(&told(8, Some(150.0)), Duration::ZERO);
        work.add(&told(1, Some(10.0)), Duration::ZERO);
        assert_eq!(work.accepted.value(), 16);
        assert_eq!(work.hashes.value(), 300);
    }

    #[test]
    fn hashes_that_nobody_counts_are_rate_times_time() {
        let mut work = Work::default();
        work.add(&told(0, None), Duration::from_secs(3));
        assert_eq!(work.hashes.value(), 30);
    }
}
