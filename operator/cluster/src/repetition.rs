//! Limits on repeated lines of the log.

use std::time::{Duration, Instant};

/// Time after which the log repeats a failure that lasts.
const AGAIN: Duration = Duration::from_mins(1);

/// A failure that may last: the log has one line when it begins or changes, and then one a minute.
#[derive(Clone, Debug)]
pub struct Repetition<T> {
    logged: Option<(T, Instant)>,
}

impl<T> Default for Repetition<T> {
    fn default() -> Self {
        Self { logged: None }
    }
}

impl<T: Clone + PartialEq> Repetition<T> {
    /// Notes a failure at `now`; returns `true` if the log should have a line about it.
    pub fn is_news(&mut self, failure: &T, now: Instant) -> bool {
        let known = self.logged.as_ref();
        let repeats = known.is_some_and(|(last, at)| {
            last == failure && now.saturating_duration_since(*at) < AGAIN
        });
        if !repeats {
            self.logged = Some((failure.clone(), now));
        }
        !repeats
    }

    /// Notes that it works; returns `true` if the log had a line about a failure before.
    pub fn is_over(&mut self) -> bool {
        self.logged.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_lasts_is_logged_once_a_minute() {
        let start = Instant::now();
        let mut failures = Repetition::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        let news: Vec<bool> =
            (0..130).step_by(10).map(|second| failures.is_news(&"down", at(second))).collect();
        assert_eq!(news.iter().filter(|news| **news).count(), 3);
        assert!(failures.is_news(&"forbidden", at(131)), "another failure");
        assert!(failures.is_over() && !failures.is_over());
        assert!(failures.is_news(&"forbidden", at(132)), "it worked in between");
    }
}
