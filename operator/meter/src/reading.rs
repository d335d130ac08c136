//! Readings: which of them bring a new value, and when the exporter took it.

use crate::config::Config;
use crate::moment::Moment;
use crate::node::Node;
use crate::observed::Reading;
use crate::state::Sample;

impl Node {
    /// Queues a reading if it brings a new value. `scraped` spans from the request to the answer.
    pub(crate) fn read(&mut self, reading: &Reading, scraped: Moment, config: &Config) {
        // A device that has not joined yet may be read too: its readings wait for it.
        let id = reading.device.clone();
        let was_reset = self.reset_before_joining.remove(&id);
        if was_reset
            && let Some(device) = self.state.devices.iter_mut().find(|one| one.seen.id == id)
        {
            device.resets += 1;
        }
        let device = self.state.devices.iter().find(|device| device.seen.id == id);
        let queued = || self.samples.get(&id).into_iter().flatten();
        let known = queued().next_back().or(device.and_then(|device| device.last.as_ref()));
        let queued_resets = queued().filter(|sample| sample.reset).count();
        let reset = device.is_some_and(|device| device.resets as usize > queued_resets);
        let reset = was_reset || reset;
        let stopped = device.and_then(|device| device.stopped_after(queued())).filter(|_| !reset);
        // A counter that has stopped counts for nothing until it moves.
        let counter = reading.counter_mj.filter(|counter| stopped != Some(*counter));
        let before = known.and_then(|known| known.counter);
        let moved = counter.is_some() && (reset || counter != before);
        let power = known.and_then(|known| known.power);
        // An exporter that repeats all of its values is one that does not refresh. If the power
        // changes, or the counter is gone, it is the counter that cannot be read.
        let lives = reading.power_mw.is_some() && (counter.is_none() || reading.power_mw != power);
        let silent_ms = self.silent_since.get(&id).map_or(0, |at| scraped.latest.millis_since(*at));
        let falls_back = before.is_some() && lives && silent_ms > config.unread_ms;
        // A counter that is missing once proves nothing; its next value covers the time.
        let is_new = moved || falls_back || (before.is_none() && reading.power_mw.is_some());
        let latest = known.map(|known| known.at.latest).max(self.read_at.get(&id).copied());
        let untimed = latest.is_some_and(|latest| scraped.latest < latest);
        // The exporter refreshed after the last answer that still had the old value. After two boots, the
        // same value may be the same reading.
        let same = counter.is_some() && counter == before;
        let answered = self.read_at.get(&id).copied().filter(|_| !same);
        let after = known.map(|known| known.at.earliest).max(answered);
        // An answer without the counter does not show that it still had the old value.
        if counter.is_some() || before.is_none() {
            let read_at = self.read_at.entry(id.clone()).or_insert(scraped.earliest);
            *read_at = scraped.earliest.max(*read_at);
        }
        if !is_new {
            self.silent_since.entry(id).or_insert(scraped.latest);
            return;
        }
        let at = match latest {
            // The clock was set back: the reading is later than the previous one all the same.
            Some(latest) if untimed => Moment::exactly(latest),
            _ => {
                let refreshed = scraped.earliest.minus_millis(config.refresh_ms);
                let earliest = after.max(Some(refreshed)).unwrap_or(scraped.earliest);
                Moment { earliest: earliest.min(scraped.latest), latest: scraped.latest }
            }
        };
        let sample = Sample {
            at,
            counter: counter.filter(|_| moved),
            power: reading.power_mw,
            reset,
            doubt: None,
            clock_steps: self.state.clock_steps,
            untimed,
            holder: reading.holder.clone(),
        };
        self.silent_since.remove(&id);
        let samples = self.samples.entry(id).or_default();
        debug_assert!(
            at.earliest <= at.latest
                && samples.back().is_none_or(|last| last.at.latest <= at.latest),
            "readings are in order"
        );
        samples.push_back(sample);
    }
}
