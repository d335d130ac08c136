//! Time books of one node: which lease ran when, and which held its devices.
//!
//! Time is booked in spans in which nothing changed, so that it adds up exactly. Events and readings
//! wait in queues until the books reach their time.

use std::collections::{BTreeMap, VecDeque};

use daylight_base::{Name, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::amount::{Bounded, energy_mj, split};
use crate::attribution::Attributed;
use crate::booked::Booked;
use crate::config::{Config, Terms};
use crate::entry::{Closed, DeviceEntry, Gap, GapKind};
use crate::key::{Method, Use};
use crate::lease::{Facts, Lease};
use crate::moment::Moment;
use crate::observed::{ObservedDevice, ObservedLease};
use crate::operated::Operated;
use crate::operating::Turn;
use crate::state::{Device, NodeState, Sample, Span};

/// Change on a node.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Begin(Box<Lease>),
    End {
        uid: Name,
        ended: Moment,
        facts: Option<Facts>,
        /// True if `ended` was inferred rather than observed.
        unseen: bool,
    },
    Devices {
        pool: Option<Name>,
        usable: u32,
        devices: Vec<ObservedDevice>,
    },
    /// No change, but a new span: energy before and after is booked separately.
    Cut,
}

/// Node with its durable state and everything that is not yet in an entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) state: NodeState,
    /// By time, then by order of arrival.
    pub(crate) events: BTreeMap<(Timestamp, u64), Event>,
    sequence: u64,
    /// End of the booked operating time: that of the devices' time, except while it is booked.
    operated_until: Timestamp,
    /// Readings of each device from which energy is not yet booked, oldest first.
    pub(crate) samples: FxHashMap<Name, VecDeque<Sample>>,
    /// Latest time at which each device was read, with or without a new value.
    pub(crate) read_at: FxHashMap<Name, Timestamp>,
    /// Time of the first answer of each device since its last new value.
    pub(crate) silent_since: FxHashMap<Name, Timestamp>,
    pub(crate) booked: Booked,
    /// Begins and ends of leases since they were last taken.
    pub(crate) turns: Vec<Turn>,
    /// Devices that have not joined yet and whose counters were reset since they were read.
    pub(crate) reset_before_joining: FxHashSet<Name>,
    /// Horizon up to which this process booked first; `None` before.
    pub(crate) booked_since: Option<Timestamp>,
    /// Energy that is divided among its holders and not yet booked.
    pub(crate) attributed: Vec<Attributed>,
    /// True if the next span must not be merged into the last one.
    cut: bool,
}

impl Node {
    pub(crate) fn new(at: Timestamp) -> Self {
        let state = NodeState { booked_until: at, ..NodeState::default() };
        Self::from_state(state)
    }

    pub(crate) fn from_state(state: NodeState) -> Self {
        let booked = Booked { from: state.booked_until, ..Booked::default() };
        let deviates = state.devices.iter().filter_map(|device| {
            Some((device.seen.id.clone(), VecDeque::from([device.deviates.clone()?])))
        });
        let operated_until = state.booked_until;
        Self { samples: deviates.collect(), state, booked, operated_until, ..Self::default() }
    }

    /// Queues an event for its time, or for now if the books have passed its time.
    pub(crate) fn schedule(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.events.insert((at.max(self.state.booked_until), self.sequence), event);
    }

    /// Iterates over leases that are in the books and have not ended.
    pub(crate) fn held_leases(&self) -> impl Iterator<Item = &Lease> {
        let held = self.state.leases.iter().filter(|lease| lease.until.is_none());
        held.chain(&self.state.without_gpus)
    }

    fn held_leases_mut(&mut self) -> impl Iterator<Item = &mut Lease> {
        let held = self.state.leases.iter_mut().filter(|lease| lease.until.is_none());
        held.chain(&mut self.state.without_gpus)
    }

    /// Returns a lease that is in the books and has not ended.
    pub(crate) fn lease(&self, uid: &str) -> Option<&Lease> {
        self.held_leases().find(|lease| *lease.uid == *uid)
    }

    pub(crate) fn lease_mut(&mut self, uid: &str) -> Option<&mut Lease> {
        self.held_leases_mut().find(|lease| *lease.uid == *uid)
    }

    /// Returns whether it has neither devices nor leases.
    pub(crate) fn is_empty(&self) -> bool {
        let NodeState { devices, leases, without_gpus, .. } = &self.state;
        let leases_are_empty = leases.is_empty() && without_gpus.is_empty();
        devices.is_empty() && leases_are_empty && self.events.is_empty()
    }

    /// Iterates over leases that are queued.
    pub(crate) fn queued_leases(&self) -> impl Iterator<Item = &Lease> {
        self.events.values().filter_map(|event| match event {
            Event::Begin(lease) => Some(&**lease),
            _ => None,
        })
    }

    /// Returns when a queued lease will begin in the books.
    pub(crate) fn queued_begin(&self, uid: &str) -> Option<Timestamp> {
        self.events.iter().find_map(|((at, _), event)| match event {
            Event::Begin(lease) if *lease.uid == *uid => Some(*at),
            _ => None,
        })
    }

    /// Takes what a lease that is known has now: its account while it is still queued, and what it
    /// requests.
    ///
    /// That has changed at some time since it was last booked, and counts from then on: so what is
    /// durable is never ahead of what was observed.
    pub(crate) fn observe_again(&mut self, seen: ObservedLease, now: Timestamp) {
        let ObservedLease { uid, requested, watts, account, .. } = seen;
        let queued = self.events.values_mut().find_map(|event| match event {
            Event::Begin(lease) if lease.uid == uid => Some(&mut **lease),
            _ => None,
        });
        let (lease, since) = if let Some(lease) = queued {
            lease.account = account;
            let since = lease.from;
            (lease, since)
        } else {
            let held = self.state.leases.iter_mut().filter(|lease| lease.until.is_none());
            let mut held = held.chain(&mut self.state.without_gpus);
            let Some(lease) = held.find(|lease| lease.uid == uid) else { return };
            (lease, self.state.booked_until)
        };
        // Less is declared only of pods that begin later: an edit takes nothing away.
        let watts = if lease.gpus > 0 { lease.watts } else { watts.max(lease.watts) };
        if (lease.requested, lease.watts) == (requested, watts) {
            return;
        }
        let (pool, ms) = (self.state.pool.as_ref(), now.millis_since(since));
        let doubt = Operated::in_doubt(lease.requested, requested, ms);
        self.booked.operated(pool, &lease.account, doubt);
        (lease.requested, lease.watts) = (requested, watts);
    }

    /// Returns a lease that is not closed, or closed and not yet in an entry.
    pub(crate) fn unwritten_lease(&mut self, uid: &str) -> Option<&mut Lease> {
        let is_it = |lease: &&mut Lease| *lease.uid == *uid;
        let queued = self.events.values_mut().filter_map(|event| match event {
            Event::Begin(lease) => Some(&mut **lease),
            _ => None,
        });
        let closed = self.booked.closed.iter_mut().map(|closed| &mut closed.lease);
        let held = self.state.leases.iter_mut().filter(|lease| lease.until.is_none());
        let held = held.chain(&mut self.state.without_gpus);
        queued.chain(held).chain(closed).find(is_it)
    }

    /// Returns whether the end of a lease is queued.
    pub(crate) fn has_queued_end(&self, uid: &str) -> bool {
        self.events
            .values()
            .any(|event| matches!(event, Event::End { uid: ending, .. } if **ending == *uid))
    }

    /// Widens the time of current holders after the clock was set back: the books do not advance until
    /// the clock has caught up, while the holders keep their devices.
    pub(crate) fn clock_set_back(&mut self, ms: u64, terms: &Terms<'_>) {
        self.state.clock_steps += 1;
        let (pool, until) = (self.state.pool.as_ref(), self.state.booked_until);
        let held = self.state.leases.iter_mut().filter(|lease| lease.until.is_none());
        for lease in held.chain(&mut self.state.without_gpus) {
            let above = ms * u64::from(lease.gpus);
            let usage = Use::Lease(lease.account.clone());
            let longer = Bounded { value: 0, below: 0, above };
            self.booked.time(pool, usage, longer);
            self.booked.may_have_run(pool, lease, [0, ms], until, terms);
        }
    }

    /// Books time until `to`, then energy from the readings in it.
    pub(crate) fn book(&mut self, to: Timestamp, terms: &Terms<'_>) {
        // After the clock was set back, `to` lies before the books' end: nothing is booked twice,
        // but events that were queued for the end are still applied.
        let to = to.max(self.state.booked_until);
        while let Some(entry) = self.events.first_entry() {
            let at = entry.key().0;
            if at > to {
                break;
            }
            let event = entry.remove();
            self.operate(at, terms);
            // Only what changes the devices or their holders begins a new span of their time, so that
            // leases without GPUs leave their books as they are.
            if self.is_of_devices(&event) {
                self.book_span(at, terms);
            }
            self.apply(at, event, terms);
        }
        self.operate(to, terms);
        self.book_span(to, terms);
        self.settle(terms);
        debug_assert!(self.booked.closes(), "the books close");
    }

    /// Returns whether an event concerns the devices or their holders.
    fn is_of_devices(&self, event: &Event) -> bool {
        match event {
            Event::Begin(lease) => lease.gpus > 0,
            Event::End { uid, .. } => self.state.without_gpus.iter().all(|one| one.uid != *uid),
            Event::Devices { .. } | Event::Cut => true,
        }
    }

    /// Books the operating time until `to`, in which nothing changes.
    fn operate(&mut self, to: Timestamp, terms: &Terms<'_>) {
        let from = self.operated_until;
        let ms = to.millis_since(from);
        if ms == 0 {
            return;
        }
        self.operated_until = to;
        let pool = self.state.pool.as_ref();
        let held = self.state.leases.iter_mut().filter(|lease| lease.holds_at(from));
        for lease in held.chain(&mut self.state.without_gpus) {
            self.booked.ran(pool, lease, ms, to, terms);
        }
    }

    /// Books the devices' time until `to`, in which nothing changes.
    fn book_span(&mut self, to: Timestamp, terms: &Terms<'_>) {
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
        let (measured, limit) = (self.is_measured(), self.highest_limit(terms.config));
        let booked = &mut self.booked;
        let capacity = devices * ms;
        if devices + held > 0 {
            booked.pool(pool.as_ref()).capacity_ms += capacity;
            booked.pool(pool.as_ref()).overcommitted_ms += held.saturating_sub(devices) * ms;
        }
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
            // Partitions and time slices: a device counts once, so its time is divided.
            let weights: Vec<u64> = holding.iter().map(|lease| lease.gpus.into()).collect();
            for (lease, ms) in holding.iter().zip(split(capacity, &weights)) {
                booked.time(pool.as_ref(), Use::Lease(lease.account.clone()), Bounded::exactly(ms));
            }
        }
        if measured {
            // Until a device is read, readings that wait may be lost with this process.
            if !self.is_read() {
                self.state.undeclared_since.get_or_insert(from);
            }
        } else {
            let since = self.state.undeclared_since.take().unwrap_or(from);
            self.state.declared_until = Some(to);
            for lease in &mut self.state.leases {
                let ms = lease.until.map_or(to, |until| until.min(to));
                let ms = ms.millis_since(lease.from.max(since));
                // Watts × milliseconds are millijoules.
                let declared = lease.watts.saturating_mul(ms);
                let most = energy_mj(limit, ms).saturating_mul(lease.gpus.into());
                let above = most.saturating_sub(declared);
                let mj = Bounded { value: declared, below: declared, above };
                let usage = Use::Lease(lease.account.clone());
                booked.energy(pool.as_ref(), usage, Method::Declared, mj);
                lease.add_energy(Method::Declared, mj);
                if let Some(registration) = &lease.account.registration {
                    let start = terms.count_of(registration, to);
                    booked.used((registration.clone(), start), mj.upper());
                }
            }
        }
        let span = Span { until: to, ..present };
        debug_assert!(
            self.state.spans.back().is_none_or(|last| last.until == from),
            "spans follow each other without a break"
        );
        let cut = std::mem::take(&mut self.cut);
        match self.state.spans.back_mut() {
            Some(last) if !cut && last.has_same_holders(&span) => last.until = to,
            _ => self.state.spans.push_back(span),
        }
    }

    /// Returns the highest power limit of its devices, in milliwatts.
    pub(crate) fn highest_limit(&self, config: &Config) -> u64 {
        let limits = self.state.devices.iter().map(|device| device.seen.limit_mw);
        let limit = limits.map(|own| own.unwrap_or(config.limit_mw)).max();
        limit.unwrap_or(config.limit_mw)
    }

    /// Returns an empty span at the end of the books, with the holders from there on.
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

    fn apply(&mut self, at: Timestamp, event: Event, terms: &Terms<'_>) {
        match event {
            Event::Begin(lease) => self.begin(at, *lease, terms),
            Event::End { uid, ended, facts, unseen } => {
                self.end(at, &uid, ended, facts, unseen, terms);
            }
            Event::Devices { pool, usable, devices } => {
                // Devices leave the old pool before the rest moves to the new one: their remaining
                // energy is bounded there.
                self.remove_devices(at, &devices, terms);
                self.set_devices(at, pool, usable, devices);
            }
            Event::Cut => self.cut = true,
        }
    }

    fn begin(&mut self, at: Timestamp, mut lease: Lease, terms: &Terms<'_>) {
        // After a restart the cluster reports leases again that the journal already has.
        let mut known = self.state.leases.iter().chain(&self.state.without_gpus);
        if known.any(|known| known.uid == lease.uid) {
            return;
        }
        self.booked.first = true;
        self.turn(at, &lease, false);
        let pool = self.state.pool.as_ref();
        if lease.gpus == 0 {
            // No other had this time, so that it is booked whole, however late.
            lease.from = lease.bound.earliest.min(at);
            let late = at.millis_since(lease.from);
            self.booked.ran(pool, &mut lease, late, at, terms);
            let shorter = lease.bound.width();
            self.booked.may_have_run(pool, &mut lease, [shorter, 0], at, terms);
            self.state.without_gpus.push(lease);
            return;
        }
        lease.from = at;
        // `bound` is an interval, and the books may have passed it.
        let later = lease.bound.latest.millis_since(at);
        let earlier = at.millis_since(lease.bound.earliest);
        self.booked.may_have_run(pool, &mut lease, [later, earlier], at, terms);
        self.widen_time(&lease, later, earlier);
        // Energy since the oldest span is divided with this lease among the possible holders;
        // before that span its energy can only be bounded.
        let reach = self.state.spans.front().map_or(at, |span| span.from);
        let unbounded = Moment::between(lease.bound.earliest.min(reach), reach);
        self.bound_energy(&mut lease, unbounded, terms);
        self.state.leases.push(lease);
    }

    fn turn(&mut self, at: Timestamp, lease: &Lease, is_end: bool) {
        let turn = |registration: &Name| Turn { at, is_end, registration: registration.clone() };
        self.turns.extend(lease.account.registration.as_ref().map(turn));
    }

    fn end(
        &mut self,
        at: Timestamp,
        uid: &str,
        ended: Moment,
        facts: Option<Facts>,
        unseen: bool,
        terms: &Terms<'_>,
    ) {
        let Some(lease) = self.lease_mut(uid) else { return };
        lease.until = Some(at.max(lease.from));
        lease.ended = Some(ended);
        let mut lease = lease.clone();
        self.state.without_gpus.retain(|one| *one.uid != *uid);
        self.turn(at, &lease, true);
        // `ended` is an interval, and the books may have passed it.
        let longer = ended.latest.millis_since(at);
        let shorter = at.millis_since(ended.earliest);
        let pool = self.state.pool.as_ref();
        self.booked.may_have_run(pool, &mut lease, [shorter, longer], ended.latest, terms);
        self.widen_time(&lease, shorter, longer);
        if lease.gpus > 0 && !self.is_read() {
            // Perhaps no reading will show what it drew until it ended.
            let longer = longer * u64::from(lease.gpus);
            let above = energy_mj(self.highest_limit(terms.config), longer);
            self.add_bound(&mut lease, Method::Declared, above, ended.latest, terms);
            // Its energy is booked on until it is settled.
            if let Some(kept) = self.state.leases.iter_mut().find(|kept| kept.uid == lease.uid) {
                kept.methods.clone_from(&lease.methods);
            }
        }
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
        let operated = Operated { ended_ms: lease.operated_ms, ..Operated::default() };
        self.booked.operated(self.state.pool.as_ref(), &lease.account, operated);
        let facts = facts.or(lease.work.take());
        self.booked.closed.push(Closed { lease, ended, facts });
    }

    /// Records a lease whose end the books have passed. The time of its devices was booked as idle and
    /// stays so; both get bounds that allow for the lease. Its operating time is booked now.
    pub(crate) fn close_late(
        &mut self,
        mut lease: Lease,
        ended: Moment,
        facts: Option<Facts>,
        terms: &Terms<'_>,
    ) {
        lease.ended = Some(ended);
        let pool = self.state.pool.as_ref();
        let ms = ended.earliest.millis_since(lease.from);
        self.booked.ran(pool, &mut lease, ms, ended.earliest, terms);
        let doubt = [lease.bound.width(), ended.width()];
        self.booked.may_have_run(pool, &mut lease, doubt, ended.latest, terms);
        if lease.gpus == 0 {
            lease.until = Some(lease.from.plus_millis(ms));
            self.close(lease, ended, facts);
            return;
        }
        let between = Moment::between(lease.bound.earliest, ended.latest);
        let gap = Gap { kind: GapKind::Late, device: None, between, millijoules: 0 };
        self.booked.gaps.push(gap);
        self.widen_time(&lease, 0, between.width());
        self.bound_energy(&mut lease, between, terms);
        lease.until = Some(lease.from);
        self.close(lease, ended, facts);
    }

    /// Bounds the energy of a lease over a time without any measurement. The registration's limit
    /// counts upper bounds, so it gets the maximum.
    fn bound_energy(&mut self, lease: &mut Lease, over: Moment, terms: &Terms<'_>) {
        let above = energy_mj(terms.config.limit_mw, over.width()) * u64::from(lease.gpus);
        self.add_bound(lease, Method::Shared, above, over.latest, terms);
    }

    /// Adds energy that a lease may have drawn until a time.
    fn add_bound(
        &mut self,
        lease: &mut Lease,
        method: Method,
        above: u64,
        until: Timestamp,
        terms: &Terms<'_>,
    ) {
        let usage = Use::Lease(lease.account.clone());
        let mj = Bounded { value: 0, below: 0, above };
        self.booked.energy(self.state.pool.as_ref(), usage, method, mj);
        lease.add_energy(method, mj);
        if let Some(registration) = &lease.account.registration {
            let start = terms.count_of(registration, until);
            self.booked.used((registration.clone(), start), above);
        }
    }

    /// Widens the bounds of a lease's device time by milliseconds, and in the opposite direction those
    /// of idle time.
    fn widen_time(&mut self, lease: &Lease, below: u64, above: u64) {
        let gpus = u64::from(lease.gpus);
        let (below, above) = (below * gpus, above * gpus);
        let pool = self.state.pool.as_ref();
        let usage = Use::Lease(lease.account.clone());
        self.booked.time(pool, usage, Bounded { value: 0, below, above });
        self.booked.time(pool, Use::Idle, Bounded { value: 0, below: above, above: below });
    }

    fn set_devices(
        &mut self,
        at: Timestamp,
        pool: Option<Name>,
        usable: u32,
        devices: Vec<ObservedDevice>,
    ) {
        self.state.pool = pool;
        self.state.usable = usable;
        for seen in devices {
            let known = self.state.devices.iter_mut().find(|device| device.seen.id == seen.id);
            if let Some(known) = known {
                known.seen = seen;
                continue;
            }
            self.booked.devices.push(DeviceEntry { device: seen.clone(), at, joined: true });
            // Readings that wait may show resets from before it joined.
            let waiting = self.samples.get(&seen.id).into_iter().flatten();
            let resets = waiting.filter(|sample| sample.reset).count() as u32;
            self.state.devices.push(Device {
                seen,
                joined: at,
                resets,
                last: None,
                counted: None,
                deviates: None,
                dropped_from: None,
                stopped: None,
                mismatched: None,
                stretch: None,
            });
        }
        self.state.devices.sort_by(|one, other| one.seen.id.cmp(&other.seen.id));
        // Readings arrive before the event of their device: keep those that are not older than it.
        let devices = &self.state.devices;
        let is_here = |id: &Name| devices.iter().any(|device| device.seen.id == *id);
        let is_later = |sample: &Sample| sample.at.latest >= at;
        self.samples.retain(|id, samples| is_here(id) || samples.back().is_some_and(is_later));
    }

    /// Removes the devices that are not in `present`.
    fn remove_devices(&mut self, at: Timestamp, present: &[ObservedDevice], terms: &Terms<'_>) {
        let gone = |device: &Device| present.iter().all(|seen| seen.id != device.seen.id);
        while let Some(place) = self.state.devices.iter().position(gone) {
            self.settle_removed(place, at, terms);
            let device = self.state.devices.remove(place).seen;
            self.samples.remove(&device.id);
            self.read_at.remove(&device.id);
            self.silent_since.remove(&device.id);
            for lease in &mut self.state.leases {
                lease.devices.retain(|id| *id != device.id);
            }
            self.booked.devices.push(DeviceEntry { device, at, joined: false });
        }
        self.book_attributed(terms);
    }
}
