//! Pauses between attempts.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Pauses that double from a first to a longest one. Each is shortened by up to half at random, so
/// that clients which lost the same server do not all return at once.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    random: RandomState,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0, random: RandomState::new() }
    }

    /// Returns the pause after one more failure.
    pub(super) fn next(&mut self) -> Duration {
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let full = self.first.saturating_mul(doubled).min(self.longest);
        self.failures = (self.failures + 1).min(31);
        let cut = self.random.hash_one(self.failures) % 512;
        self.random = RandomState::new();
        full.saturating_sub(full * cut as u32 / 1024)
    }

    /// Notes that an attempt succeeded: the next pause is the first one again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        for full in [1, 2, 4, 8, 10, 10] {
            let pause = backoff.next();
            assert!(pause <= Duration::from_secs(full));
            assert!(pause * 2 >= Duration::from_secs(full));
        }
        for _ in 0..100 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_secs(1));
    }
}
