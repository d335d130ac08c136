//! Readings: which of them bring a new value, and when the exporter took it.

use crate::moment::Moment;
use crate::node::Node;
use crate::observed::Reading;
use crate::state::Sample;

impl Node {
    /// Queues a reading if it brings a new value. `scraped` spans from the request to the answer.
    pub(crate) fn read(&mut self, reading: &Reading, scraped: Moment, refresh_ms: u64) {
        // A device that has not joined yet may be read too: its readings wait for it.
        let id = reading.device.clone();
        let device = self.state.devices.iter().find(|device| device.seen.id == id);
        let newest = self.samples.get(&id).and_then(|samples| samples.back());
        let known = newest.or(device.and_then(|device| device.last.as_ref()));
        let queued = self.samples.get(&id).into_iter().flatten();
        let queued_resets = queued.filter(|sample| sample.reset).count();
        let reset = device.is_some_and(|device| device.resets as usize > queued_resets);
        let reset = self.reset_before_joining.remove(&id) || reset;
        let has_counter = known.is_some_and(|known| known.counter.is_some());
        let is_new = match (reading.counter_mj, known.and_then(|known| known.counter)) {
            // After a reset even an equal count is new: it was counted since.
            (Some(counter), Some(before)) => reset || counter != before,
            (Some(_), None) => true,
            // A counter that is missing once proves nothing; its next value covers the time.
            (None, _) => !has_counter && reading.power_mw.is_some(),
        };
        let latest = known.map(|known| known.at.latest).max(self.read_at.get(&id).copied());
        let untimed = latest.is_some_and(|latest| scraped.latest < latest);
        // The exporter refreshed after the last answer that still had the old value.
        let after = known.map(|known| known.at.earliest).max(self.read_at.get(&id).copied());
        // An answer without the counter does not show that it still had the old value.
        if reading.counter_mj.is_some() || !has_counter {
            let read_at = self.read_at.entry(id.clone()).or_insert(scraped.earliest);
            *read_at = scraped.earliest.max(*read_at);
        }
        if !is_new {
            return;
        }
        let at = match latest {
            // The clock was set back: the reading is later than the previous one all the same.
            Some(latest) if untimed => Moment::exactly(latest),
            _ => {
                let earliest = after.max(Some(scraped.earliest.minus_millis(refresh_ms)));
                let earliest = earliest.unwrap_or(scraped.earliest).min(scraped.latest);
                Moment { earliest, latest: scraped.latest }
            }
        };
        let samples = self.samples.entry(id).or_default();
        debug_assert!(
            at.earliest <= at.latest
                && samples.back().is_none_or(|last| last.at.latest <= at.latest),
            "readings are in order"
        );
        samples.push_back(Sample {
            at,
            counter: reading.counter_mj,
            power: if reading.counter_mj.is_some() { None } else { reading.power_mw },
            reset,
            clock_steps: self.state.clock_steps,
            untimed,
            holder: reading.holder.clone(),
        });
    }
}
