//! Permission to write, which is checked before every write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock::wall_clock;

/// The time for which this process holds the lease, by its own clocks.
///
/// The elector extends it; the executor and its connections check it. Clones share one state. Two
/// clocks are kept: the monotonic one, which cannot be set back, and the wall clock, because the
/// monotonic one stops while a machine is suspended. The clock that leaves less time counts.
#[derive(Clone, Debug)]
pub struct LeaseValidity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: Instant,
    /// Period in which writing is allowed, in milliseconds since `base`.
    from: AtomicU64,
    until: AtomicU64,
    /// End of that period in milliseconds since the Unix epoch.
    until_wall: AtomicI64,
    closed: AtomicBool,
}

impl Default for LeaseValidity {
    fn default() -> Self {
        Self(Arc::new(Inner {
            base: Instant::now(),
            from: AtomicU64::new(0),
            until: AtomicU64::new(0),
            until_wall: AtomicI64::new(0),
            closed: AtomicBool::new(false),
        }))
    }
}

fn wall_millis() -> i64 {
    wall_clock().0
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl LeaseValidity {
    /// Returns `true` if the lease is held now and for at least `duration` more.
    ///
    /// A write that may take `duration` may be sent only where this is true.
    pub fn is_current_for(&self, duration: Duration) -> bool {
        let inner = &*self.0;
        if inner.closed.load(Ordering::Acquire) {
            return false;
        }
        let now = millis(inner.base.elapsed());
        let needed = millis(duration);
        let wall_needed = i64::try_from(needed).unwrap_or(i64::MAX);
        inner.from.load(Ordering::Acquire) <= now
            && now.saturating_add(needed) < inner.until.load(Ordering::Acquire)
            && wall_millis().saturating_add(wall_needed) < inner.until_wall.load(Ordering::Acquire)
    }

    /// Extends the lease to `duration` after `sent`, when the renewal was sent; nothing may be
    /// written before `from`.
    pub(super) fn extend(&self, sent: Sent, duration: Duration, from: Instant) {
        let inner = &*self.0;
        let until = sent.instant.saturating_duration_since(inner.base) + duration;
        let wall = i64::try_from(millis(duration)).unwrap_or(i64::MAX);
        inner.from.store(millis(from.saturating_duration_since(inner.base)), Ordering::Release);
        inner.until_wall.store(sent.wall.saturating_add(wall), Ordering::Release);
        inner.until.store(millis(until), Ordering::Release);
    }

    #[cfg(test)]
    pub(crate) fn hold_for_test(&self, duration: Duration, from: Instant) {
        self.extend(Sent::now(), duration, from);
    }

    /// Ends the validity until the next renewal: the lease lapsed, or another process holds it.
    pub(super) fn lapse(&self) {
        self.0.until.store(0, Ordering::Release);
    }

    /// Ends the validity for good, whatever happens to the lease, because the process ends.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }
}

/// The moment at which a renewal was sent, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) instant: Instant,
    wall: i64,
}

impl Sent {
    pub(super) fn now() -> Self {
        Self { instant: Instant::now(), wall: wall_millis() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_be_written_before_the_lease_is_held() {
        assert!(!LeaseValidity::default().is_current_for(Duration::ZERO));
    }

    #[test]
    fn a_write_that_may_outlast_the_lease_is_refused() {
        let validity = LeaseValidity::default();
        validity.extend(Sent::now(), Duration::from_secs(10), Instant::now());
        assert!(validity.is_current_for(Duration::from_secs(9)));
        assert!(!validity.is_current_for(Duration::from_secs(10)));
    }

    #[test]
    fn a_new_leader_waits_for_the_old_ones_requests() {
        let validity = LeaseValidity::default();
        let from = Instant::now() + Duration::from_secs(5);
        validity.extend(Sent::now(), Duration::from_secs(10), from);
        assert!(!validity.is_current_for(Duration::ZERO));
    }

    #[test]
    fn lapsed_and_closed_are_final_until_renewed_and_for_ever() {
        let validity = LeaseValidity::default();
        let extend = || validity.extend(Sent::now(), Duration::from_secs(10), Instant::now());
        extend();
        validity.lapse();
        assert!(!validity.is_current_for(Duration::ZERO));
        extend();
        assert!(validity.is_current_for(Duration::ZERO));
        validity.close();
        extend();
        assert!(!validity.is_current_for(Duration::ZERO));
    }

    #[test]
    fn a_machine_that_slept_finds_the_lease_lapsed() {
        let validity = LeaseValidity::default();
        let slept = Sent { instant: Instant::now(), wall: wall_millis() - 60_000 };
        validity.extend(slept, Duration::from_secs(10), Instant::now());
        assert!(!validity.is_current_for(Duration::ZERO));
    }
}
