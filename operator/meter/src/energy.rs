//! Energy: what a device drew between two readings, divided among those who held it.
//!
//! Exporters refresh on their own clock, so the moment of a reading is only bounded. Where one
//! holder had the device for the whole time in question, its part is exact. Where holders changed,
//! each gets its part by time, and bounds: not more than the device can draw while it may have had
//! it, and not less than what the others cannot have drawn.

use daylight_base::{Name, Timestamp};

use crate::amount::most_mj;
use crate::attribution::{Drawn, SECOND};
use crate::config::Terms;
use crate::entry::{Gap, GapKind, Settled};
use crate::key::Method;
use crate::lease::Lease;
use crate::moment::Moment;
use crate::node::Node;
use crate::state::{Counted, Sample};

/// How long the first reading of a node is waited for.
const FIRST_WITHIN: u64 = 600_000;

impl Node {
    /// Books energy from the readings that lie within what is booked of time.
    pub(crate) fn settle(&mut self, terms: &Terms<'_>) {
        for at in 0..self.state.devices.len() {
            let id = self.state.devices[at].seen.id.clone();
            while let Some(sample) = self.next_sample(&id) {
                self.settle_device(at, sample, terms);
            }
        }
        self.settle_leases();
        self.forget_spans();
    }

    fn next_sample(&mut self, device: &Name) -> Option<Sample> {
        let samples = self.samples.get_mut(device)?;
        let due = samples.front()?.at.latest <= self.state.booked_until;
        if due { samples.pop_front() } else { None }
    }

    fn settle_device(&mut self, at: usize, sample: Sample, terms: &Terms<'_>) {
        let device = &self.state.devices[at];
        let (id, joined) = (device.seen.id.clone(), device.joined);
        let limit = device.seen.limit_mw.unwrap_or(terms.config.limit_mw);
        let Some(last) = device.last.clone() else {
            // Who held it before it was first read drew what nobody will know.
            if sample.at.middle() > joined {
                let drawn = Drawn::anything(Moment::exactly(joined), sample.at);
                self.gap(&id, GapKind::First, &drawn, 0);
                self.book_drawn(&drawn, &sample, &sample, limit, terms);
            }
            self.settle_reset(at, &sample);
            self.go_on_from(at, sample, None);
            self.booked.first = true;
            return;
        };
        let ms = sample.at.middle().millis_since(last.at.middle());
        let longest = sample.at.latest.millis_since(last.at.earliest);
        let most = most_mj(limit, longest);
        let untimed = !sample.is_timed_from(&last);
        let mut drawn = Drawn { open: false, untimed, ..Drawn::anything(last.at, sample.at) };
        if untimed && !last.untimed {
            self.gap(&id, GapKind::Backwards, &drawn, 0);
        }
        let booked = match (last.counter, sample.counter) {
            (Some(before), Some(after)) if sample.reset || after < before => {
                drawn.open = true;
                // What it counted since it began again is real, unless that cannot be.
                if after <= most {
                    drawn.mj = after;
                }
                self.gap(&id, GapKind::Reset, &drawn, after);
                self.book_drawn(&drawn, &last, &sample, limit, terms);
                None
            }
            (Some(before), Some(after))
                if !untimed && after - before > most + most / 10 + SECOND =>
            {
                drawn.open = true;
                self.gap(&id, GapKind::Jump, &drawn, after - before);
                self.book_drawn(&drawn, &last, &sample, limit, terms);
                None
            }
            (Some(before), Some(after)) => {
                drawn.mj = after - before;
                if !untimed && ms > terms.config.unread_ms {
                    self.gap(&id, GapKind::Unread, &drawn, drawn.mj);
                }
                Some(self.book_drawn(&drawn, &last, &sample, limit, terms))
            }
            _ => {
                if let (Some(before), Some(after)) = (last.power, sample.power) {
                    drawn.method = Method::Power;
                    drawn.open = true;
                    drawn.mj = most_mj(u64::midpoint(before, after), ms).min(most);
                    self.book_drawn(&drawn, &last, &sample, limit, terms);
                }
                None
            }
        };
        self.settle_reset(at, &sample);
        self.go_on_from(at, sample, booked);
    }

    /// A device's energy is booked up to a reading. `booked` is what was booked of its counter since
    /// the reading before; `None` where that does not follow from the two.
    fn go_on_from(&mut self, at: usize, sample: Sample, booked: Option<u64>) {
        let device = &mut self.state.devices[at];
        device.counted = match (device.counted, booked, sample.counter) {
            (Some(counted), Some(booked), _) => {
                Some(Counted { booked: counted.booked + booked, ..counted })
            }
            (_, _, Some(counter)) => Some(Counted { from: counter, booked: 0 }),
            (_, _, None) => None,
        };
        device.last = Some(sample);
    }

    fn settle_reset(&mut self, at: usize, sample: &Sample) {
        let resets = &mut self.state.devices[at].resets;
        *resets = resets.saturating_sub(sample.reset.into());
    }

    /// Books what is known of the energy of a device that leaves; the rest nobody will know.
    pub(crate) fn settle_rest(&mut self, at: usize, left: Timestamp, terms: &Terms<'_>) {
        let device = &self.state.devices[at];
        let (id, joined) = (device.seen.id.clone(), device.joined);
        let limit = device.seen.limit_mw.unwrap_or(terms.config.limit_mw);
        while let Some(sample) = self.next_sample(&id) {
            self.settle_device(at, sample, terms);
        }
        let nothing = Sample {
            at: Moment::exactly(joined),
            counter: None,
            power: None,
            reset: false,
            clock_steps: self.state.clock_steps,
            untimed: false,
            holder: None,
        };
        let last = self.state.devices[at].last.clone().unwrap_or(nothing);
        let until = Moment::exactly(left.max(last.at.earliest));
        let drawn = Drawn {
            untimed: last.untimed || last.clock_steps != self.state.clock_steps,
            ..Drawn::anything(last.at, until)
        };
        self.gap(&id, GapKind::Left, &drawn, 0);
        self.book_drawn(&drawn, &last, &last, limit, terms);
    }

    fn gap(&mut self, device: &Name, kind: GapKind, drawn: &Drawn, millijoules: u64) {
        let between = Moment::between(drawn.from.earliest, drawn.until.latest);
        self.booked.pool(self.state.pool.as_ref()).gap_ms += between.width();
        self.booked.gaps.push(Gap { kind, device: Some(device.clone()), between, millijoules });
    }

    /// Lets go of leases that ended and whose energy is booked to the end.
    fn settle_leases(&mut self) {
        // Where no device was ever read, the first reading may still come.
        let read = self.read_until().unwrap_or(self.state.booked_until.minus_millis(FIRST_WITHIN));
        let settled =
            |lease: &Lease| lease.held_until().is_some_and(|end| read >= end.plus_millis(SECOND));
        let (gone, stay) = std::mem::take(&mut self.state.leases)
            .into_iter()
            .partition::<Vec<_>, _>(|lease| settled(lease));
        self.state.leases = stay;
        for lease in gone {
            let settled = Settled { uid: lease.uid, energy: lease.energy };
            self.booked.settled.push(settled);
        }
    }

    /// Until when the energy of all devices is booked; `None` where none was ever read.
    pub(crate) fn read_until(&self) -> Option<Timestamp> {
        let last = self.state.devices.iter().filter_map(|device| device.last.as_ref());
        last.map(|sample| sample.at.earliest).min()
    }

    /// The same; `None` also where a device was not read yet, or there is none.
    pub(crate) fn wholly_read_until(&self) -> Option<Timestamp> {
        let all = self.state.devices.iter().all(|device| device.last.is_some());
        self.read_until().filter(|_| all)
    }

    fn forget_spans(&mut self) {
        let read = self.read_until().unwrap_or(self.state.booked_until.minus_millis(FIRST_WITHIN));
        let keep_from = read.minus_millis(SECOND);
        while self.state.spans.len() > 1
            && self.state.spans.front().is_some_and(|span| span.until <= keep_from)
        {
            self.state.spans.pop_front();
        }
    }
}
