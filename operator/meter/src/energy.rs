//! Energy books of one node: the energy of each device between two of its readings.

use daylight_base::{Name, Timestamp};

use crate::amount::energy_mj;
use crate::attribution::{Drawn, SECOND};
use crate::config::Terms;
use crate::entry::{Gap, GapKind, Settled};
use crate::key::Method;
use crate::lease::Lease;
use crate::moment::Moment;
use crate::node::Node;
use crate::silence::possible_mj;
use crate::state::{Counted, Doubt, Sample};

/// Time that ended leases of a node wait for its first reading: enough to schedule and start the
/// exporter of a new node.
pub(crate) const FIRST_READING_WITHIN: u64 = 600_000;

/// In millijoules.
pub(crate) const JOULE: u64 = 1000;

impl Node {
    /// Books energy from the readings within the booked time. Later readings wait: the holders in
    /// their time are not yet known.
    pub(crate) fn settle(&mut self, terms: &Terms<'_>) {
        self.note_labels();
        for at in 0..self.state.devices.len() {
            while let Some(sample) = self.next_sample(at, false, terms.config) {
                self.settle_device(at, sample, terms);
            }
            if let Some(sample) = self.give_up(at, terms.config) {
                self.settle_device(at, sample, terms);
            }
        }
        self.book_attributed(terms);
        self.settle_leases();
        self.forget_spans();
    }

    /// Books the energy of a device from its last reading to `sample`.
    fn settle_device(&mut self, at: usize, sample: Sample, terms: &Terms<'_>) {
        let device = &self.state.devices[at];
        let (id, joined) = (device.seen.id.clone(), device.joined);
        let limit = device.seen.limit_mw.unwrap_or(terms.config.limit_mw);
        let (was_mismatched, was_dropped_from) = (device.mismatched, device.dropped_from);
        let Some(last) = device.last.clone() else {
            // What it drew between joining and its first reading is not in any difference.
            let unknown_from = self.unknown_from(joined);
            if sample.at.latest > unknown_from {
                let drawn = Drawn::unknown(Moment::exactly(unknown_from), sample.at);
                self.record_gap(&id, GapKind::First, &drawn, 0);
                self.attribute(&id, &drawn, limit);
            }
            self.continue_from(at, sample, None);
            self.booked.first = true;
            return;
        };
        let limit = sample.possible_limit(&last, limit);
        let ms = sample.at.middle().millis_since(last.at.middle());
        let longest = sample.at.latest.millis_since(last.at.earliest);
        let most = energy_mj(limit, longest);
        let untimed = !sample.is_timed_from(&last);
        let mut drawn = Drawn { open: false, untimed, ..Drawn::unknown(last.at, sample.at) };
        if untimed && !last.untimed {
            self.record_gap(&id, GapKind::Backwards, &drawn, 0);
        }
        let (mut mismatched, mut dropped_from) = (None, None);
        let booked = match (last.counter, sample.counter) {
            (Some(before), Some(after))
                if sample.reset || sample.doubt == Some(Doubt::Reset) || after < before =>
            {
                drawn.open = true;
                // Without a boot it may also be a counter that went back a little: then what it
                // counts was drawn before.
                drawn.doubted = !sample.reset;
                drawn.mj = after.checked_sub(before).filter(|_| !sample.reset).unwrap_or(after);
                // Its count since the reset was really drawn, unless the device cannot have.
                let went_back = !sample.reset && after < before && after > before / 2;
                if drawn.mj > most || went_back {
                    drawn.mj = 0;
                }
                if !sample.reset && after < before {
                    dropped_from = was_dropped_from.max(Some(before));
                }
                self.record_gap(&id, GapKind::Reset, &drawn, after);
                self.attribute(&id, &drawn, limit);
                None
            }
            (Some(before), Some(after))
                if !untimed && after - before > possible_mj(limit, longest) =>
            {
                drawn.open = true;
                mismatched = Some(was_mismatched.unwrap_or(sample.at.earliest));
                self.record_gap(&id, GapKind::Jump, &drawn, after - before);
                self.attribute(&id, &drawn, limit);
                None
            }
            (Some(before), Some(after)) => {
                drawn.mj = after - before;
                // A zero may have been no value, and the counter may have begun again behind it.
                let was_zero = was_dropped_from.is_some() && before == 0;
                // It came back to where it was: perhaps it never was less.
                let came_back = was_dropped_from.is_some_and(|dropped| after >= dropped);
                drawn.open = was_zero || sample.doubt.is_some();
                drawn.doubted = was_zero || came_back;
                let is_long = ms > terms.config.unread_ms;
                if !untimed && is_long {
                    self.record_gap(&id, GapKind::Unread, &drawn, drawn.mj);
                } else if !untimed && sample.contradicts(&last, drawn.mj, ms) {
                    (drawn.open, drawn.doubted) = (true, true);
                    mismatched = Some(was_mismatched.unwrap_or(sample.at.earliest));
                    self.record_gap(&id, GapKind::Mismatch, &drawn, drawn.mj);
                }
                Some(self.attribute(&id, &drawn, limit))
            }
            _ => {
                drawn.open = true;
                if let (Some(before), Some(after)) = (last.power, sample.power) {
                    drawn.method = Method::Power;
                    drawn.mj = energy_mj(u64::midpoint(before, after), ms).min(most);
                }
                if last.counter.is_some() || drawn.method != Method::Power {
                    self.record_gap(&id, GapKind::Unread, &drawn, drawn.mj);
                }
                self.attribute(&id, &drawn, limit);
                None
            }
        };
        let device = &mut self.state.devices[at];
        (device.mismatched, device.dropped_from) = (mismatched, dropped_from);
        self.continue_from(at, sample, booked);
    }

    /// Makes a reading the last one of its device. `booked` is the energy booked from its counter
    /// since the previous reading; `None` restarts the device's own books at this counter.
    fn continue_from(&mut self, at: usize, sample: Sample, booked: Option<u64>) {
        let device = &mut self.state.devices[at];
        device.resets = device.resets.saturating_sub(sample.reset.into());
        device.counted = match (device.counted, booked, sample.counter) {
            (Some(counted), Some(booked), _) => {
                Some(Counted { booked: counted.booked + booked, ..counted })
            }
            (_, _, Some(counter)) => Some(Counted { from: counter, booked: 0 }),
            (_, _, None) => None,
        };
        device.stopped = device.stopped_after(std::iter::once(&sample));
        device.last = Some(sample);
        self.state.undeclared_since = None;
        let device = &self.state.devices[at];
        debug_assert_eq!(device.imbalance(), None, "the books of each device close");
    }

    /// Books the remaining readings of a device that is being removed, and bounds its energy after
    /// the last of them.
    pub(crate) fn settle_removed(&mut self, at: usize, left: Timestamp, terms: &Terms<'_>) {
        let device = &self.state.devices[at];
        let (id, joined) = (device.seen.id.clone(), device.joined);
        let limit = device.seen.limit_mw.unwrap_or(terms.config.limit_mw);
        while let Some(sample) = self.next_sample(at, true, terms.config) {
            self.settle_device(at, sample, terms);
        }
        let drawn = if let Some(last) = &self.state.devices[at].last {
            Drawn {
                untimed: last.untimed || last.clock_steps != self.state.clock_steps,
                ..Drawn::unknown(last.at, Moment::exactly(left.max(last.at.earliest)))
            }
        } else {
            let from = self.unknown_from(joined);
            if from >= left {
                return;
            }
            Drawn::unknown(Moment::exactly(from), Moment::exactly(left))
        };
        self.record_gap(&id, GapKind::Left, &drawn, 0);
        self.attribute(&id, &drawn, limit);
    }

    /// Returns the time from which on the energy of a device without a reading is unknown: before
    /// that it is declared.
    fn unknown_from(&self, joined: Timestamp) -> Timestamp {
        self.state.declared_until.map_or(joined, |declared| joined.max(declared))
    }

    /// Returns whether energy was ever booked from a reading of any device.
    pub(crate) fn is_read(&self) -> bool {
        self.state.devices.iter().any(|device| device.last.is_some())
    }

    /// Returns whether any device was ever read. If not, leases' energy is what they declare.
    pub(crate) fn is_measured(&self) -> bool {
        !self.samples.is_empty() || self.is_read()
    }

    fn record_gap(&mut self, device: &Name, kind: GapKind, drawn: &Drawn, millijoules: u64) {
        let between = Moment::between(drawn.from.earliest, drawn.until.latest);
        self.booked.pool(self.state.pool.as_ref()).gap_ms += between.width();
        self.booked.gaps.push(Gap { kind, device: Some(device.clone()), between, millijoules });
    }

    /// Removes ended leases whose energy is completely booked.
    fn settle_leases(&mut self) {
        let read = self.read_or_given_up();
        let settled =
            |lease: &Lease| lease.held_until().is_some_and(|end| read >= end.plus_millis(SECOND));
        let (gone, stay) = std::mem::take(&mut self.state.leases)
            .into_iter()
            .partition::<Vec<_>, _>(|lease| settled(lease));
        self.state.leases = stay;
        let settled = gone.into_iter().map(|lease| {
            let Lease { uid, energy, methods, .. } = lease;
            Settled { uid, energy, methods }
        });
        self.booked.settled.extend(settled);
    }

    /// Removes spans that no further reading can reach back to.
    fn forget_spans(&mut self) {
        let keep_from = self.read_or_given_up().minus_millis(SECOND);
        while self.state.spans.len() > 1
            && self.state.spans.front().is_some_and(|span| span.until <= keep_from)
        {
            self.state.spans.pop_front();
        }
    }

    /// Returns the time before which no further energy will be booked.
    fn read_or_given_up(&self) -> Timestamp {
        // If no device was ever read, the first reading may still arrive.
        let given_up = self.state.booked_until.minus_millis(FIRST_READING_WITHIN);
        self.read_until().unwrap_or(given_up)
    }

    /// Returns the time up to which the energy of all read devices is booked; `None` if no device
    /// was ever read.
    pub(crate) fn read_until(&self) -> Option<Timestamp> {
        let last = self.state.devices.iter().filter_map(|device| device.last.as_ref());
        last.map(|sample| sample.at.earliest).min()
    }

    /// Like [`Self::read_until`], but `None` as well if a device was never read.
    pub(crate) fn wholly_read_until(&self) -> Option<Timestamp> {
        let all = self.state.devices.iter().all(|device| device.last.is_some());
        self.read_until().filter(|_| all)
    }

    /// Returns the time up to which all energy is counted: as far as it is read, or booked where
    /// leases' energy is what they declare.
    pub(crate) fn wholly_counted_until(&self) -> Option<Timestamp> {
        if self.is_measured() {
            self.wholly_read_until()
        } else {
            Some(self.state.undeclared_since.unwrap_or(self.state.booked_until))
        }
    }
}
