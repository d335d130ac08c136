//! Readings that deviate, and devices that bring none.

use crate::amount::energy_mj;
use crate::config::Config;
use crate::energy::{FIRST_READING_WITHIN, JOULE};
use crate::moment::Moment;
use crate::node::Node;
use crate::state::{Doubt, Sample};

/// Time without a reading after which the energy of a device is bounded by what it can draw. Until
/// then the next reading covers all of it exactly, as after an update of its driver.
const GIVE_UP_MS: u64 = 3_600_000;

impl Node {
    /// Takes the next reading of a device that is due. `is_leaving` if none follows the last one.
    ///
    /// A counter that is less than before, without a boot, is either one that began again or a
    /// single value that deviates: instances of a device that are refreshed at different times, or a
    /// zero where there was no value. The reading after it decides.
    pub(crate) fn next_sample(
        &mut self,
        at: usize,
        is_leaving: bool,
        config: &Config,
    ) -> Option<Sample> {
        let device = &mut self.state.devices[at];
        let booked_until = self.state.booked_until;
        let samples = self.samples.get_mut(&device.seen.id)?;
        let next = samples.front().filter(|next| next.at.latest <= booked_until)?;
        let stepped_back = device.last.as_ref().filter(|last| next.steps_back_from(last));
        let Some(last) = stepped_back else { return samples.pop_front() };
        let deviates = next.clone();
        // The value of before is that of an exporter that repeats itself, not a new one.
        while samples.get(1).is_some_and(|second| second.counter == last.counter && !second.reset) {
            samples.remove(1);
        }
        let waits =
            booked_until.millis_since(deviates.at.latest) <= config.unread_ms && !is_leaving;
        if samples.len() == 1 && waits {
            // No later reading shows that it went back: it must not be lost with this process.
            self.booked.first |= device.deviates.is_none();
            device.deviates = Some(deviates);
            return None;
        }
        device.deviates = None;
        match samples.get_mut(1) {
            Some(second) if second.continues(last) => {
                let limit = device.seen.limit_mw.unwrap_or(config.limit_mw);
                let limit = second.possible_limit(last, limit);
                let can_count = |from: &Sample, mj: Option<u64>| {
                    let longest = second.at.latest.millis_since(from.at.earliest);
                    mj <= Some(possible_mj(limit, longest))
                };
                let since = second.counter.zip(deviates.counter).map(|(now, then)| now - then);
                second.doubt = if can_count(last, second.counter) {
                    // A small counter may have begun again and have come as far since.
                    Some(Doubt::Reset)
                } else if can_count(&deviates, since) {
                    // It may have gone back, and have passed its earlier value since.
                    Some(Doubt::Step)
                } else {
                    None
                };
                samples.pop_front();
                samples.front().filter(|next| next.at.latest <= booked_until)?;
                samples.pop_front()
            }
            _ => samples.pop_front(),
        }
    }

    /// Returns a reading without a value for a device that has brought none for too long, so that
    /// its energy is bounded and what waits for it continues; `None` while one may still come.
    pub(crate) fn give_up(&self, at: usize, config: &Config) -> Option<Sample> {
        let device = &self.state.devices[at];
        if self.samples.get(&device.seen.id).is_some_and(|samples| !samples.is_empty()) {
            return None;
        }
        let (since, patience) = match &device.last {
            Some(last) if last.is_without_value() => (last.at.latest, config.unread_ms),
            Some(last) => (last.at.latest, GIVE_UP_MS),
            // Without any reading on the node, energy is declared.
            None if self.is_read() => (device.joined, FIRST_READING_WITHIN),
            None => return None,
        };
        // Nothing can be read while no auditor runs.
        let since = since.max(self.booked_since?);
        let now = self.state.booked_until;
        (now.millis_since(since) > patience).then(|| Sample {
            at: Moment::exactly(now),
            counter: None,
            power: None,
            reset: false,
            doubt: None,
            clock_steps: self.state.clock_steps,
            untimed: false,
            holder: None,
        })
    }
}

/// Returns the most that a device may have drawn by its counter. Boards exceed their limit for
/// moments, and counters move in steps: a tenth and one joule are tolerated.
pub(crate) fn possible_mj(limit_mw: u64, ms: u64) -> u64 {
    let most = energy_mj(limit_mw, ms);
    most.saturating_add(most / 10).saturating_add(JOULE)
}

impl Sample {
    /// Returns `true` for a sample of [`Node::give_up`].
    pub(crate) fn is_without_value(&self) -> bool {
        self.counter.is_none() && self.power.is_none()
    }

    /// Returns whether the counter is less than before, though the machine did not boot.
    fn steps_back_from(&self, last: &Self) -> bool {
        let less = self.counter.zip(last.counter).is_some_and(|(now, before)| now < before);
        less && !self.reset && self.is_timed_from(last)
    }

    /// Returns whether the counter has passed an earlier value again.
    fn continues(&self, last: &Self) -> bool {
        let passed = self.counter.zip(last.counter).is_some_and(|(now, before)| now >= before);
        passed && !self.reset && self.is_timed_from(last)
    }

    /// Returns the power limit of a device, or its power if that is more: then it is not its limit.
    pub(crate) fn possible_limit(&self, last: &Self, limit_mw: u64) -> u64 {
        self.power.into_iter().chain(last.power).chain([limit_mw]).max().unwrap_or(limit_mw)
    }

    /// Returns whether counter and power contradict each other over a time in milliseconds in which
    /// the counter moved by millijoules.
    pub(crate) fn contradicts(&self, last: &Self, mj: u64, ms: u64) -> bool {
        let Some((one, other)) = self.power.zip(last.power) else { return false };
        let Some(mean) = (u128::from(mj) * 1000).checked_div(u128::from(ms)) else { return false };
        let (low, high) = (u128::from(one.min(other)), u128::from(one.max(other)));
        let differ = |less: u128, more: u128| more > FACTOR * less && more - less > APART_MW;
        differ(mean, low) || differ(high, mean)
    }
}

/// Factor between power and mean power by which a counter is not believed. The power is that of two
/// moments, so that less may well be a load that changes.
const FACTOR: u128 = 4;
/// Difference, too, in milliwatts: idle devices wake up when they are read.
const APART_MW: u128 = 100_000;
