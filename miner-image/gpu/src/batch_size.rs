//! Sizes of batches.

use std::time::{Duration, Instant};

use crate::shader::{GROUP, ROOM};

/// Adapts the size of a device's batches to a fixed duration.
#[derive(Debug)]
pub(crate) struct BatchSize {
    nonces: u32,
    ended: Option<Instant>,
}

/// Duration of a batch. With two in flight, a stop waits at most twice as long. Much shorter ones would
/// leave a fast device idle in between.
const LENGTH: Duration = Duration::from_millis(20);

/// Size of the first batch: some milliseconds on a slow device, almost none on a fast one.
const FIRST: u32 = 1 << 14;

impl BatchSize {
    pub(crate) fn new() -> Self {
        Self { nonces: FIRST, ended: None }
    }

    /// Returns the size of the next batch, for a target with these upper 32 bits.
    pub(crate) fn nonces(&self, upper: u32) -> u32 {
        // On average, half of what the device can store is found. So it almost never overflows.
        let most = (u64::from(ROOM / 2) << 32) / (u64::from(upper) + 1);
        u64::from(self.nonces).min(most) as u32
    }

    /// Adapts the size to the duration of a batch.
    pub(crate) fn adapt(&mut self, nonces: u32, begun: Instant, ended: Instant) {
        // With two in flight, a batch waits for the one before. Only the time after that is its own.
        let begun = self.ended.replace(ended).map_or(begun, |before| begun.max(before));
        // Short ones, at the end of a unit, measure mostly overhead.
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

    /// Returns the size after some batches, two in flight, on a device of this speed.
    fn settled(hashes_per_second: f64) -> u32 {
        let (mut size, mut now) = (BatchSize::new(), Instant::now());
        let mut in_flight = [(size.nonces(0), now), (size.nonces(0), now)];
        for step in 0..40 {
            let (nonces, begun) = in_flight[step % 2];
            now += Duration::from_secs_f64(f64::from(nonces) / hashes_per_second);
            size.adapt(nonces, begun, now);
            in_flight[step % 2] = (size.nonces(0), now);
        }
        size.nonces(0)
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
        let size = BatchSize::new();
        assert_eq!(size.nonces(u32::MAX), ROOM / 2);
        assert_eq!(size.nonces(u32::MAX / 4), 2 * ROOM);
        assert_eq!(size.nonces(0), FIRST);
    }

    #[test]
    fn a_short_batch_changes_nothing() {
        let mut size = BatchSize::new();
        let begun = Instant::now();
        size.adapt(64, begun, begun + Duration::from_secs(1));
        assert_eq!(size.nonces(0), FIRST);
    }
}
