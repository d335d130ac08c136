//! One node: who held its devices when. Time is booked span by span, in each of which nothing
//! changed, so that it adds up exactly.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::amount::{Bounded, most_mj, split};
use crate::booked::Booked;
use crate::config::Terms;
use crate::entry::{Closed, DeviceEntry, Gap, GapKind};
use crate::key::{Method, Use};
use crate::lease::{Facts, Lease};
use crate::moment::Moment;
use crate::observe::DeviceSeen;
use crate::state::{Device, NodeState, Sample, Span};
use daylight_base::{Name, Timestamp};

/// Something that changes who holds what.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Begin(Lease),
    End {
        uid: Name,
        ended: Moment,
        facts: Option<Facts>,
        unseen: bool,
    },
    Devices {
        pool: Option<Name>,
        usable: u32,
        devices: Vec<DeviceSeen>,
    },
    /// Nothing; but what is before and what is after is told apart.
    Cut,
}

/// A node, and what is not booked of it yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) state: NodeState,
    pub(crate) events: BTreeMap<(Timestamp, u64), Event>,
    sequence: u64,
    /// Readings of each device that energy is not booked from yet.
    pub(crate) samples: FxHashMap<Name, VecDeque<Sample>>,
    /// The latest time at which each device was read, whatever it said.
    pub(crate) read_at: FxHashMap<Name, Timestamp>,
    pub(crate) booked: Booked,
    /// Devices that have not joined yet, and whose counters began again since they were read.
    pub(crate) began_again: FxHashSet<Name>,
    /// What follows is told apart from what was.
    cut: bool,
}

impl Node {
    pub(crate) fn new(at: Timestamp) -> Self {
        let state = NodeState { booked_until: at, ..NodeState::default() };
        Self::from_state(state)
    }

    pub(crate) fn from_state(state: NodeState) -> Self {
        let booked = Booked { from: state.booked_until, ..Booked::default() };
        Self { state, booked, ..Self::default() }
    }

    /// Takes in an event at its time, or now where the books have passed it.
    pub(crate) fn at(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.events.insert((at.max(self.state.booked_until), self.sequence), event);
    }

    /// Whether a lease is known and has not ended, nor is about to.
    pub(crate) fn lease(&self, uid: &str) -> Option<&Lease> {
        self.state.leases.iter().find(|lease| *lease.uid == *uid && lease.until.is_none())
    }

    /// Leases that the books do not have yet.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Lease> {
        self.events.values().filter_map(|event| match event {
            Event::Begin(lease) => Some(lease),
            _ => None,
        })
    }

    /// From when on a lease will be in the books that is not yet.
    pub(crate) fn began_at(&self, uid: &str) -> Option<Timestamp> {
        self.events.iter().find_map(|((at, _), event)| match event {
            Event::Begin(lease) if *lease.uid == *uid => Some(*at),
            _ => None,
        })
    }

    pub(crate) fn is_ending(&self, uid: &str) -> bool {
        self.events
            .values()
            .any(|event| matches!(event, Event::End { uid: ending, .. } if **ending == *uid))
    }

    /// The clock was set back: what holds devices now may have had them for longer than it tells.
    pub(crate) fn clock_set_back(&mut self, ms: u64) {
        self.state.clock_steps += 1;
        for lease in self.state.leases.iter().filter(|lease| lease.until.is_none()) {
            let above = ms * u64::from(lease.gpus);
            let usage = Use::Lease(lease.account.clone());
            let longer = Bounded { value: 0, below: 0, above };
            self.booked.time(self.state.pool.as_ref(), usage, longer);
        }
    }

    /// Books time until `to`.
    pub(crate) fn book(&mut self, to: Timestamp, terms: &Terms<'_>) {
        // With a clock that was set back nothing is booked twice, and what happens is still heard.
        let to = to.max(self.state.booked_until);
        while let Some(entry) = self.events.first_entry() {
            let at = entry.key().0;
            if at > to {
                break;
            }
            let event = entry.remove();
            self.step(at, terms);
            self.take(at, event, terms);
        }
        self.step(to, terms);
        self.settle(terms);
    }

    /// Books the span until `to`, in which nothing changes.
    fn step(&mut self, to: Timestamp, terms: &Terms<'_>) {
        let from = self.state.booked_until;
        let ms = to.millis_since(from);
        if ms == 0 {
            return;
        }
        let present = self.present();
        self.state.booked_until = to;
        let pool = self.state.pool.clone();
        let devices = self.state.devices.len() as u64;
        let holding: Vec<&Lease> =
            self.state.leases.iter().filter(|lease| lease.holds_at(from)).collect();
        let held: u64 = holding.iter().map(|lease| u64::from(lease.gpus)).sum();
        let measured = self.state.devices.iter().any(|device| device.last.is_some())
            || !self.samples.is_empty();
        let booked = &mut self.booked;
        let capacity = devices * ms;
        booked.pool(pool.as_ref()).capacity_ms += capacity;
        booked.pool(pool.as_ref()).overcommitted_ms += held.saturating_sub(devices) * ms;
        if held <= devices {
            for lease in &holding {
                let usage = Use::Lease(lease.account.clone());
                booked.time(pool.as_ref(), usage, Bounded::exactly(u64::from(lease.gpus) * ms));
            }
            let free = devices - held;
            let unavailable = devices.saturating_sub(self.state.usable.into()).min(free);
            booked.time(pool.as_ref(), Use::Unavailable, Bounded::exactly(unavailable * ms));
            booked.time(pool.as_ref(), Use::Idle, Bounded::exactly((free - unavailable) * ms));
        } else {
            let weights: Vec<u64> = holding.iter().map(|lease| lease.gpus.into()).collect();
            for (lease, ms) in holding.iter().zip(split(capacity, &weights)) {
                booked.time(pool.as_ref(), Use::Lease(lease.account.clone()), Bounded::exactly(ms));
            }
        }
        if !measured {
            let limits = self.state.devices.iter().map(|device| device.seen.limit_mw);
            let limit = limits.map(|own| own.unwrap_or(terms.config.limit_mw)).max();
            let limit = limit.unwrap_or(terms.config.limit_mw);
            for lease in &holding {
                // Watts × milliseconds are millijoules.
                let declared = lease.watts * ms;
                let most = most_mj(limit, ms) * u64::from(lease.gpus);
                let above = most.saturating_sub(declared);
                let mj = Bounded { value: declared, below: declared, above };
                let usage = Use::Lease(lease.account.clone());
                booked.energy(pool.as_ref(), usage, Method::Declared, mj);
            }
        }
        let span = Span { until: to, ..present };
        let cut = std::mem::take(&mut self.cut);
        match self.state.spans.back_mut() {
            Some(last) if !cut && last.is_like(&span) => last.until = to,
            _ => self.state.spans.push_back(span),
        }
    }

    /// Who holds the devices where the books end.
    pub(crate) fn present(&self) -> Span {
        let at = self.state.booked_until;
        let holding = self.state.leases.iter().filter(|lease| lease.holds_at(at));
        Span {
            from: at,
            until: at,
            pool: self.state.pool.clone(),
            devices: self.state.devices.len() as u32,
            offered: self.state.usable,
            held: holding.map(|lease| lease.uid.clone()).collect(),
        }
    }

    fn take(&mut self, at: Timestamp, event: Event, terms: &Terms<'_>) {
        match event {
            Event::Begin(lease) => self.begin(at, lease, terms),
            Event::End { uid, ended, facts, unseen } => self.end(at, &uid, ended, facts, unseen),
            Event::Devices { pool, usable, devices } => {
                self.leave(at, &devices, terms);
                self.have(at, pool, usable, devices);
            }
            Event::Cut => self.cut = true,
        }
    }

    fn begin(&mut self, at: Timestamp, mut lease: Lease, terms: &Terms<'_>) {
        if self.state.leases.iter().any(|known| known.uid == lease.uid) {
            return;
        }
        lease.from = at;
        let gpus = u64::from(lease.gpus);
        // It may have begun later than it says, and earlier than the books could take it in.
        let later = lease.bound.latest.millis_since(at) * gpus;
        let earlier = at.millis_since(lease.bound.earliest) * gpus;
        self.uncertain(&lease, later, earlier);
        // What it drew before the books reach back to is bounded, and no more.
        let reach = self.state.spans.front().map_or(at, |span| span.from);
        self.unmeasured(&lease, reach.millis_since(lease.bound.earliest), terms);
        self.booked.first = true;
        self.state.leases.push(lease);
    }

    fn end(&mut self, at: Timestamp, uid: &str, ended: Moment, facts: Option<Facts>, unseen: bool) {
        let Some(place) =
            self.state.leases.iter().position(|lease| *lease.uid == *uid && lease.until.is_none())
        else {
            return;
        };
        let lease = &mut self.state.leases[place];
        lease.until = Some(at.max(lease.from));
        lease.ended = Some(ended);
        let lease = lease.clone();
        let gpus = u64::from(lease.gpus);
        // It may have held its GPUs for longer, or for less long than the books already say.
        let longer = ended.latest.millis_since(at) * gpus;
        let shorter = at.millis_since(ended.earliest) * gpus;
        self.uncertain(&lease, shorter, longer);
        if unseen {
            self.booked.gaps.push(Gap {
                kind: GapKind::Unseen,
                device: None,
                between: ended,
                millijoules: 0,
            });
        }
        self.close(lease, ended, facts);
    }

    fn close(&mut self, mut lease: Lease, ended: Moment, facts: Option<Facts>) {
        if lease.owed {
            self.state.closed.push(lease.uid.clone());
        }
        let facts = facts.or(lease.work.take());
        self.booked.closed.push(Closed { lease, ended, facts });
    }

    /// Closes a lease that the books have gone past: it is on record, and what was booked as idle
    /// in its place is bounded.
    pub(crate) fn close_late(
        &mut self,
        mut lease: Lease,
        ended: Moment,
        facts: Option<Facts>,
        terms: &Terms<'_>,
    ) {
        let between = Moment::between(lease.bound.earliest, ended.latest);
        let gap = Gap { kind: GapKind::Late, device: None, between, millijoules: 0 };
        self.booked.gaps.push(gap);
        let gpus = u64::from(lease.gpus);
        self.uncertain(&lease, 0, between.width() * gpus);
        self.unmeasured(&lease, between.width(), terms);
        (lease.until, lease.ended) = (Some(lease.from), Some(ended));
        self.close(lease, ended, facts);
    }

    /// Bounds what a lease may have drawn over so many milliseconds that nothing is known of.
    fn unmeasured(&mut self, lease: &Lease, ms: u64, terms: &Terms<'_>) {
        let above = most_mj(terms.config.limit_mw, ms) * u64::from(lease.gpus);
        let usage = Use::Lease(lease.account.clone());
        let mj = Bounded { value: 0, below: 0, above };
        self.booked.energy(self.state.pool.as_ref(), usage, Method::Shared, mj);
        if let Some(registration) = &lease.account.registration {
            self.booked.used.entry(registration.clone()).or_default().0 += above;
        }
    }

    /// Says how far the time of a lease may be from what is booked, and with it that of what it
    /// took the time from.
    fn uncertain(&mut self, lease: &Lease, below: u64, above: u64) {
        let pool = self.state.pool.as_ref();
        let usage = Use::Lease(lease.account.clone());
        self.booked.time(pool, usage, Bounded { value: 0, below, above });
        self.booked.time(pool, Use::Idle, Bounded { value: 0, below: above, above: below });
    }

    fn have(&mut self, at: Timestamp, pool: Option<Name>, usable: u32, devices: Vec<DeviceSeen>) {
        self.state.pool = pool;
        self.state.usable = usable;
        for seen in devices {
            let known = self.state.devices.iter_mut().find(|device| device.seen.id == seen.id);
            if let Some(known) = known {
                known.seen = seen;
                continue;
            }
            self.booked.devices.push(DeviceEntry { device: seen.clone(), at, joined: true });
            self.state.devices.push(Device {
                seen,
                joined: at,
                resets: 0,
                last: None,
                counted: None,
            });
        }
        self.state.devices.sort_by(|one, other| one.seen.id.cmp(&other.seen.id));
        let devices = &self.state.devices;
        let is_here = |id: &Name| devices.iter().any(|device| device.seen.id == *id);
        // One that was read later may be about to join.
        let is_later = |sample: &Sample| sample.at.latest >= at;
        self.samples.retain(|id, samples| is_here(id) || samples.back().is_some_and(is_later));
    }

    /// Devices that are not among those that are there now are gone.
    fn leave(&mut self, at: Timestamp, there: &[DeviceSeen], terms: &Terms<'_>) {
        let gone = |device: &Device| there.iter().all(|seen| seen.id != device.seen.id);
        while let Some(place) = self.state.devices.iter().position(gone) {
            self.settle_rest(place, at, terms);
            let device = self.state.devices.remove(place).seen;
            self.samples.remove(&device.id);
            self.read_at.remove(&device.id);
            self.booked.devices.push(DeviceEntry { device, at, joined: false });
        }
    }
}
