//! Readings: which of them say something new, and when what they say was so.

use crate::moment::Moment;
use crate::node::Node;
use crate::observe::Reading;
use crate::state::Sample;

impl Node {
    /// Takes in a reading, if it says something new.
    pub(crate) fn read(&mut self, reading: &Reading, asked: Moment, refresh_ms: u64) {
        // Of a device that has not joined yet it is kept until it has.
        let id = reading.device.clone();
        let device = self.state.devices.iter().find(|device| device.seen.id == id);
        let newest = self.samples.get(&id).and_then(|samples| samples.back());
        let known = newest.or(device.and_then(|device| device.last.as_ref()));
        let queued = self.samples.get(&id).into_iter().flatten();
        let waiting = queued.filter(|sample| sample.reset).count();
        let reset = device.is_some_and(|device| device.resets as usize > waiting);
        let reset = self.began_again.remove(&id) || reset;
        let counted = known.is_some_and(|known| known.counter.is_some());
        let news = match (reading.counter_mj, known.and_then(|known| known.counter)) {
            (Some(counter), Some(before)) => reset || counter != before,
            (Some(_), None) => true,
            // A counter that is blank for once says nothing; the next one bridges it.
            (None, _) => !counted && reading.power_mw.is_some(),
        };
        let latest = known.map(|known| known.at.latest).max(self.read_at.get(&id).copied());
        let untimed = latest.is_some_and(|latest| asked.latest < latest);
        // It was refreshed after the answer in which it still had its old value.
        let after = known.map(|known| known.at.earliest).max(self.read_at.get(&id).copied());
        // A blank does not say that the counter still has its old value.
        if reading.counter_mj.is_some() || !counted {
            let read_at = self.read_at.entry(id.clone()).or_insert(asked.earliest);
            *read_at = asked.earliest.max(*read_at);
        }
        if !news {
            return;
        }
        let at = match latest {
            Some(latest) if untimed => Moment::exactly(latest),
            _ => {
                let earliest = after.max(Some(asked.earliest.minus_millis(refresh_ms)));
                let earliest = earliest.unwrap_or(asked.earliest).min(asked.latest);
                Moment { earliest, latest: asked.latest }
            }
        };
        self.samples.entry(id).or_default().push_back(Sample {
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
