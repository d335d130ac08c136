//! How many nonces a batch has.

use std::time::{Duration, Instant};

use crate::shader::{GROUP, ROOM};

/// Makes a device's batches as long as they should take.
#[derive(Debug)]
pub(crate) struct Pace {
    nonces: u32,
    ended: Option<Instant>,
}

/// What a batch should take. With two in flight a stop waits for at most twice as long; much
/// shorter ones would leave a fast device idle between them.
const LENGTH: Duration = Duration::from_millis(20);

/// A first batch takes a slow device some milliseconds, and a fast one next to nothing.
const FIRST: u32 = 1 << 14;

impl Pace {
    pub(crate) fn new() -> Self {
        Self { nonces: FIRST, ended: None }
    }

    /// How many nonces the next batch may have, where the hash's upper 32 bits may be at most this.
    pub(crate) fn nonces(&self, upper: u32) -> u32 {
        // Half of what there is room for, on average: then it all but never overflows.
        let most = (u64::from(ROOM / 2) << 32) / (u64::from(upper) + 1);
        u64::from(self.nonces).min(most) as u32
    }

    /// Learns from a batch.
    pub(crate) fn learn(&mut self, nonces: u32, begun: Instant, ended: Instant) {
        // It did not begin before the one before it ended.
        let begun = self.ended.replace(ended).map_or(begun, |before| begun.max(before));
        // Short ones, at the end of a unit, are mostly overhead.
        if nonces < self.nonces / 2 {
            return;
        }
        let took = ended.saturating_duration_since(begun).max(Duration::from_micros(1));
        let factor = (LENGTH.as_secs_f64() / took.as_secs_f64()).clamp(0.25, 4.0);
        let wanted = (f64::from(nonces) * factor) as u32;
        let groups = (wanted / GROUP).clamp(1, (1 << 28) / GROUP);
        self.nonces = groups * GROUP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After some batches, two in flight, on a device of this speed.
    fn settled(hashes_per_second: f64) -> u32 {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        let mut in_flight = [(pace.nonces(0), now), (pace.nonces(0), now)];
        for step in 0..40 {
            let (nonces, begun) = in_flight[step % 2];
            now += Duration::from_secs_f64(f64::from(nonces) / hashes_per_second);
            pace.learn(nonces, begun, now);
            in_flight[step % 2] = (pace.nonces(0), now);
        }
        pace.nonces(0)
    }

    #[test]
    fn batches_take_the_same_time_on_any_device() {
        for speed in [1e5, 3e6, 1e9, 1e10] {
            let took = f64::from(settled(speed)) / speed;
            assert!((0.019..0.021).contains(&took), "{took} s at {speed} hashes/s");
        }
    }

    #[test]
    fn batches_are_short_where_much_is_found() {
        let pace = Pace::new();
        assert_eq!(pace.nonces(u32::MAX), ROOM / 2);
        assert_eq!(pace.nonces(u32::MAX / 4), 2 * ROOM);
        assert_eq!(pace.nonces(0), FIRST);
    }

    #[test]
    fn a_short_rest_teaches_nothing() {
        let mut pace = Pace::new();
        let begun = Instant::now();
        pace.learn(64, begun, begun + Duration::from_secs(1));
        assert_eq!(pace.nonces(0), FIRST);
    }
}
