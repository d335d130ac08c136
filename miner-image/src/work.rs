//! Work of all runs of the engine, added up from the figures of each run.

use std::time::Duration;

use crate::figures::Figures;

/// Totals of all runs, which never decrease.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    pub(crate) accepted: Total,
    pub(crate) rejected: Total,
    /// Shares that arrived too late.
    pub(crate) stale: Total,
    /// Shares that the pool never answered.
    pub(crate) lost: Total,
    pub(crate) hashes: Total,
}

/// Total of a counter that starts at 0 with each run of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Total {
    sum: f64,
    last: f64,
}

impl Total {
    /// Returns the total as a whole number.
    pub(crate) fn value(self) -> u64 {
        self.sum as u64
    }

    fn count_to(&mut self, now: f64) {
        // As in Prometheus: a counter that is lower than before has started again at 0, for an engine
        // may restart itself unseen.
        self.sum += if now >= self.last { now - self.last } else { now };
        self.last = now;
    }
}

impl Work {
    /// Returns the number of shares that the pool does not pay for.
    pub(crate) fn unpaid(&self) -> u64 {
        self.rejected.value() + self.stale.value() + self.lost.value()
    }

    /// Begins a run, whose counters start at 0.
    pub(crate) fn begin(&mut self) {
        let shares = [&mut self.accepted, &mut self.rejected, &mut self.stale, &mut self.lost];
        for total in shares.into_iter().chain([&mut self.hashes]) {
            total.last = 0.0;
        }
    }

    /// Adds the figures of the current run; `since` is the time from the last reading to this one. An
    /// engine that does not count its hashes has hashed its hashrate times that.
    pub(crate) fn add(&mut self, figures: &Figures, since: Duration) {
        let shares = [
            (&mut self.accepted, figures.shares_accepted),
            (&mut self.rejected, figures.shares_rejected),
            (&mut self.stale, figures.shares_stale),
            (&mut self.lost, figures.shares_lost),
        ];
        for (total, now) in shares {
            if let Some(now) = now {
                total.count_to(now as f64);
            }
        }
        match (figures.hashes, figures.hashrate) {
            (Some(now), _) => self.hashes.count_to(now),
            (None, Some(rate)) => self.hashes.sum += rate.max(0.0) * since.as_secs_f64(),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(accepted: u64, hashes: Option<f64>) -> Figures {
        Figures {
            shares_accepted: Some(accepted),
            hashes,
            hashrate: Some(10.0),
            ..Figures::default()
        }
    }

    #[test]
    fn totals_continue_over_restarts_seen_and_unseen() {
        let mut work = Work::default();
        work.add(&figures(5, Some(100.0)), Duration::ZERO);
        work.add(&figures(7, Some(140.0)), Duration::ZERO);
        work.begin();
        work.add(&figures(8, Some(150.0)), Duration::ZERO);
        work.add(&figures(1, Some(10.0)), Duration::ZERO);
        assert_eq!(work.accepted.value(), 16);
        assert_eq!(work.hashes.value(), 300);
    }

    #[test]
    fn hashes_that_are_not_counted_are_rate_times_time() {
        let mut work = Work::default();
        work.add(&figures(0, None), Duration::from_secs(3));
        assert_eq!(work.hashes.value(), 30);
    }
}
