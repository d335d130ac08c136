//! The one rule for whatever is repeated until it has an effect: it waits two seconds, then twice as
//! long each time, up to five minutes.

use std::time::{Duration, Instant};

/// The first wait, and the longest.
pub const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_mins(5);

/// The wait before something is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    wait: Duration,
    /// The time at which it is tried again.
    pub until: Instant,
}

impl Backoff {
    /// Returns the wait after a failure at `now`, which follows the failure that led to `last`.
    pub fn after(last: Option<Self>, now: Instant) -> Self {
        // A failure long after the last one is a new one.
        let last = last.filter(|last| now.saturating_duration_since(last.until) < LONGEST);
        let wait = last.map_or(FIRST, |last| (last.wait * 2).min(LONGEST));
        Self { wait, until: now + wait }
    }

    /// Returns `true` while nothing may be tried again.
    pub fn lasts(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Returns `true` once a further failure would be a new one.
    pub fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.until) >= LONGEST
    }

    /// The length of the wait.
    pub fn wait(&self) -> Duration {
        self.wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_until_it_is_long_ago() {
        let mut now = Instant::now();
        let mut last = None;
        let mut waits = Vec::new();
        for _ in 0..10 {
            let backoff = Backoff::after(last, now);
            assert!(backoff.lasts(now) && !backoff.lasts(backoff.until));
            waits.push(backoff.wait().as_secs());
            (last, now) = (Some(backoff), backoff.until);
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        now += LONGEST;
        assert!(last.is_some_and(|last| last.is_forgotten(now)));
        assert_eq!(Backoff::after(last, now).wait(), FIRST);
    }
}
