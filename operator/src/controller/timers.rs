//! The times at which the main loop has something to do without an event.

use std::time::Instant;

use strum::{EnumCount, VariantArray};

/// Something that is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumCount, VariantArray)]
pub enum Timer {
    /// The lease permits the first write.
    FirstWrite,
    /// The view changes by time alone.
    View,
    /// Changes have been gathered long enough for a plan.
    Plan,
    /// The present plan changes by time alone.
    Replan,
    /// Statuses are compared with the plan.
    Status,
    /// Gauges are set.
    Gauges,
    /// The PriorityClass of miners is read.
    PriorityClass,
    /// The cap of a refused miner changes.
    Refusals,
    /// The Services of gangs are listed.
    Services,
    /// A request that had no effect may be repeated.
    Retry,
    /// The executor's rate permits the next change.
    Rate,
    /// An Event may be sent.
    Events,
    /// The probes learn that the loop is alive.
    Heartbeat,
}

/// The due time of each timer. Setting a timer is what wakes the loop: no timer can be forgotten
/// when the loop decides how long to sleep.
#[derive(Debug, Default)]
pub struct TimerTable([Option<Instant>; Timer::COUNT]);

impl TimerTable {
    /// Sets or stops a timer.
    pub fn set(&mut self, timer: Timer, at: Option<Instant>) {
        self.0[timer as usize] = at;
    }

    /// Sets a timer unless it is set already.
    pub fn set_if_stopped(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize].get_or_insert(at);
    }

    /// Returns `true` if a timer is due.
    pub fn is_due(&self, timer: Timer, now: Instant) -> bool {
        self.0[timer as usize].is_some_and(|at| at <= now)
    }

    /// Stops a timer that is due, and returns whether it was.
    pub fn take(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.is_due(timer, now);
        if due {
            self.0[timer as usize] = None;
        }
        due
    }

    /// Sets a timer unless it is due earlier.
    pub fn set_earlier(&mut self, timer: Timer, at: Instant) {
        let slot = &mut self.0[timer as usize];
        *slot = Some(slot.map_or(at, |known| known.min(at)));
    }

    /// Stops all timers but these.
    pub fn stop_all_but(&mut self, kept: &[Timer]) {
        for timer in Timer::VARIANTS.iter().filter(|timer| !kept.contains(timer)) {
            self.set(*timer, None);
        }
    }

    /// The time at which the first timer is due.
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_timer_wakes_and_stops_once_it_is_taken() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut timers = TimerTable::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Events, Some(later));
        timers.set(Timer::Plan, Some(now));
        assert_eq!(timers.next(), Some(now));
        assert!(!timers.take(Timer::Events, now));
        assert!(timers.take(Timer::Plan, now));
        assert!(!timers.take(Timer::Plan, now));
        timers.set_if_stopped(Timer::Events, now);
        assert_eq!(timers.next(), Some(later));
        timers.set_earlier(Timer::Events, now);
        assert_eq!(timers.next(), Some(now));
    }

    #[test]
    fn only_the_heartbeat_continues_without_the_lease() {
        let now = Instant::now();
        let mut timers = TimerTable::default();
        for timer in Timer::VARIANTS {
            timers.set(*timer, Some(now));
        }
        timers.stop_all_but(&[Timer::Heartbeat]);
        assert!(timers.is_due(Timer::Heartbeat, now));
        assert!(!timers.is_due(Timer::Plan, now) && !timers.is_due(Timer::Status, now));
    }
}
