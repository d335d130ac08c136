//! Attribution: the energy of devices between two readings, divided among their holders.
//!
//! The time of a reading is only known within the exporter's refresh. If one account held a device
//! in all of that time, its part is exact. If holders changed, each gets a part by time and two
//! bounds, which hold for a lease, an account or a registration alike. Its leases drew
//!
//! - together at most what the device drew, and at most what the device can draw while they may
//!   have held it,
//! - at least what all others cannot have drawn,
//! - nothing of other devices than their own: a lease of `n` GPUs has the same `n` devices for all
//!   of its time, and the exporter's labels may name them.

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};

use crate::amount::{Bounded, energy_mj, split};
use crate::config::Terms;
use crate::key::{Method, Use};
use crate::lease::{Account, Lease};
use crate::moment::Moment;
use crate::node::Node;
use crate::state::{Span, Stretch};

/// Resolution of Kubernetes's times of pods: holders are in doubt for this long around each change.
pub(crate) const SECOND: u64 = 1000;

/// UID of the lease that held a device; `None` if none did.
type Holder = Option<Name>;

/// Energy of a device between two moments.
pub(crate) struct Drawn {
    pub(crate) from: Moment,
    pub(crate) until: Moment,
    pub(crate) mj: u64,
    pub(crate) method: Method,
    /// True if the device may have drawn anything up to its maximum.
    pub(crate) open: bool,
    /// True if the device may not have drawn this energy.
    pub(crate) doubted: bool,
    /// True if the clock was set back in between, so that the duration is unknown.
    pub(crate) untimed: bool,
}

impl Drawn {
    /// Returns energy of which only the maximum of the device is known.
    pub(crate) fn unknown(from: Moment, until: Moment) -> Self {
        let (open, doubted, untimed) = (true, false, false);
        Self { from, until, mj: 0, method: Method::Counter, open, doubted, untimed }
    }

    /// Returns the longest time in which it can have been drawn, by the times of pods.
    fn window(&self) -> (Timestamp, Timestamp) {
        (self.from.earliest.minus_millis(SECOND), self.until.latest.plus_millis(SECOND))
    }
}

/// Energy of a device between two moments, divided among its holders and not yet booked.
#[derive(Clone, Debug)]
pub(crate) struct Attributed {
    device: Name,
    from: Moment,
    until: Moment,
    method: Method,
    /// True if parts are no measure of power: the energy or its time is unknown.
    open: bool,
    untimed: bool,
    /// Energy that was drawn at least.
    certain: u64,
    /// Energy that was drawn at most.
    total: u64,
    /// Maximum energy of each possible holder.
    most: BTreeMap<Holder, u64>,
    parts: BTreeMap<PartKey, Part>,
    /// Number of the node's devices that may have been free at some time in between.
    free: usize,
    /// True if devices were offered more than once.
    divided: bool,
}

/// Line that a part of the energy is booked under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PartKey {
    holder: Holder,
    /// True if it is divided among several accounts that may have held the device.
    shared: bool,
    pool: Option<Name>,
}

/// Part of the energy, with the time over which it was drawn.
#[derive(Clone, Debug)]
struct Part {
    mj: u64,
    ms: u64,
}

impl Attributed {
    /// Returns whether a lease that was on both devices had different ones of its GPUs there.
    fn is_read_with(&self, other: &Self) -> bool {
        let timed = !self.untimed && !other.untimed && !self.divided && !other.divided;
        let same = (self.from, self.until) == (other.from, other.until);
        timed && same && self.device != other.device
    }

    /// Returns the energy of some holders together, with the bounds that this device alone gives.
    fn of(&self, is_member: impl Fn(&Holder) -> bool) -> Bounded {
        let value = self.parts.iter().filter(|(key, _)| is_member(&key.holder));
        let value = value.map(|(_, part)| part.mj).sum::<u64>();
        let (members, others) = most_of(&self.most, is_member);
        let (upper, lower) = (members.min(self.total), self.certain.saturating_sub(others));
        Bounded { value, below: value.saturating_sub(lower), above: upper.saturating_sub(value) }
    }
}

/// Devices that were read together, so that a lease of `n` GPUs had at most `n` of them.
struct Together<'a> {
    devices: &'a [Attributed],
    /// Maximum energy of each possible holder on all the devices.
    most: BTreeMap<&'a Holder, u64>,
}

impl<'a> Together<'a> {
    fn new(devices: &'a [Attributed], gpus: impl Fn(&Holder) -> usize) -> Self {
        let mut each: BTreeMap<&Holder, Vec<u64>> = BTreeMap::new();
        for device in devices {
            for (holder, most) in &device.most {
                each.entry(holder).or_default().push(*most);
            }
        }
        let most = each.into_iter().map(|(holder, mut most)| {
            most.sort_unstable_by(|one, other| other.cmp(one));
            let own = most.iter().take(gpus(holder).max(1));
            (holder, own.fold(0, |sum: u64, most| sum.saturating_add(*most)))
        });
        Self { devices, most: most.collect() }
    }

    /// Returns the energy of some holders together on each device. The bounds of the sum are those
    /// of all devices together.
    fn of(&self, is_member: impl Fn(&Holder) -> bool) -> Vec<Bounded> {
        let mut each: Vec<Bounded> =
            self.devices.iter().map(|device| device.of(&is_member)).collect();
        let (members, others) =
            most_of(self.most.iter().map(|(one, most)| (*one, most)), is_member);
        let value: u64 = each.iter().map(|one| one.value).sum();
        let certain: u64 = self.devices.iter().map(|device| device.certain).sum();
        let mut above = members.saturating_sub(value);
        let mut below = value.saturating_sub(certain.saturating_sub(others));
        for one in &mut each {
            one.above = one.above.min(above);
            above -= one.above;
            one.below = one.below.min(below);
            below -= one.below;
        }
        each
    }
}

/// Returns the maximum energy of some holders together, and that of all others.
fn most_of<'a>(
    most: impl IntoIterator<Item = (&'a Holder, &'a u64)>,
    is_member: impl Fn(&Holder) -> bool,
) -> (u64, u64) {
    most.into_iter().fold((0, 0), |(members, others): (u64, u64), (holder, most)| {
        if is_member(holder) {
            (members.saturating_add(*most), others)
        } else {
            (members, others.saturating_add(*most))
        }
    })
}

impl Node {
    /// Divides the energy of a device among its holders and returns how much is booked by
    /// [`Self::book_attributed`].
    pub(crate) fn attribute(&mut self, device: &Name, drawn: &Drawn, limit_mw: u64) -> u64 {
        let longest = drawn.until.latest.millis_since(drawn.from.earliest);
        let total = if drawn.open { energy_mj(limit_mw, longest).max(drawn.mj) } else { drawn.mj };
        let (from, until) = drawn.window();
        let divided = self.is_divided(from, until);
        let possible = self.possible_holders(device, drawn, divided);
        let mut most: BTreeMap<Holder, u64> = possible
            .into_iter()
            .map(|(holder, ms)| {
                let most = if drawn.untimed { total } else { energy_mj(limit_mw, ms).min(total) };
                (holder, most)
            })
            .collect();
        // Consecutive stretches meet in the middle of a reading's moment, so that no time counts
        // twice.
        let spans = self.spans_between(drawn.from.middle(), drawn.until.middle());
        let weights: Vec<u64> = spans.iter().map(|(_, ms)| *ms).collect();
        let mut parts: BTreeMap<PartKey, Part> = BTreeMap::new();
        let mut booked = 0;
        for ((span, ms), mj) in spans.iter().zip(split(drawn.mj, &weights)) {
            self.booked.pool(span.pool.as_ref()).moved_mj += mj;
            booked += mj;
            let holders = self.holders(span, device);
            let accounts: BTreeSet<Option<&Account>> =
                holders.iter().map(|(holder, _)| self.account(holder)).collect();
            let shared = accounts.len() > 1;
            let shares: Vec<u64> = holders.iter().map(|(_, share)| *share).collect();
            for ((holder, _), mj) in holders.into_iter().zip(split(mj, &shares)) {
                most.entry(holder.clone()).or_insert(total);
                parts
                    .entry(PartKey { holder, shared, pool: span.pool.clone() })
                    .and_modify(|part| {
                        part.mj += mj;
                        part.ms += ms;
                    })
                    .or_insert(Part { mj, ms: *ms });
            }
        }
        // Every possible holder gets a part, even an empty one, so that its bounds are recorded.
        for holder in most.keys() {
            if parts.keys().all(|key| key.holder != *holder) {
                let (holder, pool) = (holder.clone(), spans[0].0.pool.clone());
                parts.insert(PartKey { holder, shared: false, pool }, Part { mj: 0, ms: 0 });
            }
        }
        let free = self.free_between(from, until);
        self.attributed.push(Attributed {
            device: device.clone(),
            from: drawn.from,
            until: drawn.until,
            method: drawn.method,
            open: drawn.open,
            untimed: drawn.untimed,
            // Power between two readings is interpolated, so that none of it is certain.
            certain: if drawn.doubted || drawn.method == Method::Power { 0 } else { drawn.mj },
            total,
            most,
            parts,
            free,
            divided,
        });
        debug_assert_eq!(booked, drawn.mj, "the books close");
        booked
    }

    /// Books what was attributed. Devices that were read together are bounded together.
    pub(crate) fn book_attributed(&mut self, terms: &Terms<'_>) {
        let mut groups: Vec<Vec<Attributed>> = Vec::new();
        for one in std::mem::take(&mut self.attributed) {
            let fits = |group: &&mut Vec<Attributed>| group.iter().all(|it| it.is_read_with(&one));
            match groups.iter_mut().rev().find(fits) {
                Some(group) => group.push(one),
                None => groups.push(vec![one]),
            }
        }
        for devices in &groups {
            self.book_together(devices, terms);
        }
    }

    fn book_together(&mut self, devices: &[Attributed], terms: &Terms<'_>) {
        let free = devices.iter().map(|device| device.free).max().unwrap_or_default();
        let gpus: BTreeMap<Name, usize> = self
            .state
            .leases
            .iter()
            .map(|lease| (lease.uid.clone(), lease.gpus as usize))
            .collect();
        let together = Together::new(devices, |holder| match holder {
            Some(uid) => gpus.get(uid).copied().unwrap_or(usize::MAX),
            None => free,
        });
        let mut of_account: BTreeMap<Option<Account>, BTreeSet<Holder>> = BTreeMap::new();
        let mut of_registration: BTreeMap<(Name, Timestamp), BTreeSet<Holder>> = BTreeMap::new();
        let holders: Vec<Holder> = together.most.keys().copied().cloned().collect();
        for holder in holders {
            let lease = holder.as_ref().and_then(|uid| self.find(uid));
            let account = lease.map(|lease| lease.account.clone());
            if let Some(registration) = account.as_ref().and_then(|it| it.registration.clone()) {
                let end = lease.and_then(Lease::held_until);
                let until = devices.iter().map(|device| device.until.latest).max();
                let until = end.into_iter().chain(until).min().unwrap_or_default();
                let start = terms.count_of(&registration, until);
                of_registration.entry((registration, start)).or_default().insert(holder.clone());
            }
            of_account.entry(account).or_default().insert(holder);
        }
        // The limit counts upper bounds: it must hold whatever the truth is.
        for (key, members) in of_registration {
            let upper = together.of(|holder| members.contains(holder));
            let upper = upper.iter().fold(0, |sum: u64, one| sum.saturating_add(one.upper()));
            self.booked.used(key, upper);
        }
        for (account, members) in &of_account {
            let each = together.of(|holder| members.contains(holder));
            for (device, mj) in devices.iter().zip(each) {
                self.book_account(account.as_ref(), members, device, mj, terms);
            }
        }
        for uid in together.most.keys().copied().flatten() {
            let each = together.of(|holder| holder.as_ref() == Some(uid));
            self.note_peak(uid, devices, terms);
            if let Some(lease) = self.state.leases.iter_mut().find(|lease| lease.uid == *uid) {
                for (device, mj) in devices.iter().zip(each) {
                    lease.energy.add(mj);
                    let of_it = |holder: &Holder| holder.as_ref() == Some(uid);
                    for line in lines(device, of_it, mj) {
                        lease.add_energy(line.method, line.mj);
                    }
                }
            }
        }
    }

    /// Books the energy of an account on one device. Its lines have the account's bounds together.
    fn book_account(
        &mut self,
        account: Option<&Account>,
        members: &BTreeSet<Holder>,
        device: &Attributed,
        mj: Bounded,
        terms: &Terms<'_>,
    ) {
        for Line { pool, method, mj: line, ms } in
            lines(device, |holder| members.contains(holder), mj)
        {
            let (Bounded { value, below: under, above }, pool) = (line, pool.as_ref());
            let Some(account) = account else {
                let most = energy_mj(terms.config.idle_mw, ms);
                let idle = if device.untimed { value } else { value.min(most) };
                let excess = value - idle;
                let idle = Bounded { value: idle, below: under.min(idle), above };
                self.booked.energy(pool, Use::Idle, method, idle);
                let excess = Bounded { value: excess, below: under.min(excess), above: 0 };
                self.booked.energy(pool, Use::Idle, Method::Unexplained, excess);
                continue;
            };
            self.booked.energy(pool, Use::Lease(account.clone()), method, line);
        }
    }

    /// Notes the mean power of a lease on the devices that it had alone, from one reading to another.
    fn note_peak(&mut self, uid: &Name, devices: &[Attributed], terms: &Terms<'_>) {
        let Some(lease) = self.find(uid) else { return };
        let Some(registration) = lease.account.registration.clone() else { return };
        let gpus = u64::from(lease.gpus);
        let own = Some(uid.clone());
        let alone = |read: &&Attributed| read.most.len() == 1 && read.most.contains_key(&own);
        for read in devices.iter().filter(|device| !device.open && !device.untimed).filter(alone) {
            let device = self.state.devices.iter_mut().find(|it| it.seen.id == read.device);
            let Some(device) = device else { continue };
            let before = device.stretch.take();
            let before = before.filter(|it| it.lease == *uid && it.until == read.from);
            let stretch = Stretch {
                lease: uid.clone(),
                from: before.as_ref().map_or(read.from, |before| before.from),
                until: read.until,
                millijoules: before.map_or(0, |before| before.millijoules) + read.certain,
            };
            if let Some(watts) = stretch.watts() {
                let key = (registration.clone(), terms.count_of(&registration, read.until.latest));
                let peak = &mut self.booked.used.entry(key).or_default().1;
                *peak = (*peak).max(watts * gpus);
            } else {
                device.stretch = Some(stretch);
            }
        }
    }

    fn find(&self, uid: &Name) -> Option<&Lease> {
        self.state.leases.iter().find(|lease| lease.uid == *uid)
    }

    fn account(&self, holder: &Holder) -> Option<&Account> {
        Some(&self.find(holder.as_ref()?)?.account)
    }

    /// Notes the devices that the labels of due readings name for each lease.
    pub(crate) fn note_labels(&mut self) {
        if self.is_divided(self.state.booked_until, self.state.booked_until) {
            return;
        }
        for device in &self.state.devices {
            let id = &device.seen.id;
            let due = self.samples.get(id).into_iter().flatten();
            let due = due.take_while(|sample| sample.at.latest <= self.state.booked_until);
            for (pod, at) in due.filter_map(|sample| Some((sample.holder.as_ref()?, sample.at))) {
                let leases = self.state.leases.iter_mut();
                let mut named = leases.filter(|lease| lease.pod == *pod && lease.may_live_at(at));
                // The next pod may have the same name as the last one.
                if let (Some(lease), None) = (named.next(), named.next())
                    && !lease.devices.contains(id)
                {
                    lease.devices.push(id.clone());
                }
            }
        }
    }

    /// Returns whether devices were offered more than once between two times, or are now. Labels
    /// then name one of the pods that share a device.
    fn is_divided(&self, from: Timestamp, until: Timestamp) -> bool {
        let spans = self.state.spans.iter();
        let within = spans.filter(|span| span.until >= from && span.from <= until);
        self.state.usable as usize > self.state.devices.len()
            || within.into_iter().any(|span| span.offered > span.devices)
    }

    /// Returns the spans between two times, each with its milliseconds in between; never empty.
    fn spans_between(&self, from: Timestamp, until: Timestamp) -> Vec<(Span, u64)> {
        let spans = self.state.spans.iter();
        let mut within: Vec<(Span, u64)> = spans
            .map(|span| (span.clone(), overlap(span.from, span.until, from, until)))
            .filter(|(_, ms)| *ms > 0)
            .collect();
        if within.is_empty() {
            // No time passed, or only time before the oldest span: the latest holders drew it.
            let span = self.state.spans.back().cloned();
            within.push((span.unwrap_or_else(|| self.present()), 1));
        }
        within
    }

    /// Returns all leases that may have held a device between two readings, each with its maximum
    /// time in milliseconds; `None` means that the device was free.
    fn possible_holders(
        &self,
        device: &Name,
        drawn: &Drawn,
        divided: bool,
    ) -> BTreeMap<Holder, u64> {
        let mut possible: BTreeMap<Holder, u64> = BTreeMap::new();
        if drawn.untimed {
            // Its time is unknown, so every lease on record may have held the device, and none may.
            possible.extend(self.state.leases.iter().map(|lease| (Some(lease.uid.clone()), 0)));
            possible.insert(None, 0);
            return possible;
        }
        let (from, until) = drawn.window();
        if !divided && let Some(lease) = self.alone_on(device, drawn) {
            possible.insert(Some(lease.uid.clone()), until.millis_since(from));
            return possible;
        }
        for span in &self.state.spans {
            let ms = overlap(span.from, span.until, from, until);
            if ms > 0 {
                for (holder, _) in self.holders(span, device) {
                    *possible.entry(holder).or_default() += ms;
                }
            }
        }
        // Spans use the booked begin and end; a lease that began or ended in this time may have held
        // the device a little longer or shorter.
        for lease in self.state.leases.iter().filter(|lease| divided || lease.may_hold(device)) {
            let began = lease.bound.latest.max(lease.from) >= from
                && lease.bound.earliest.min(lease.from) <= until;
            let end = lease.held_until().unwrap_or(until);
            let ended = end >= from && lease.until.is_some_and(|booked| booked <= until);
            if began || ended {
                let ms = overlap(lease.bound.earliest, end, from, until);
                let known = possible.entry(Some(lease.uid.clone())).or_default();
                *known = ms.max(*known);
            }
            let late_begin = overlap(lease.from, lease.bound.latest, from, until);
            let early_end = lease.until.zip(lease.ended);
            let early_end =
                early_end.map_or(0, |(booked, ended)| overlap(ended.earliest, booked, from, until));
            if late_begin + early_end > 0 {
                *possible.entry(None).or_default() += late_begin + early_end;
            }
        }
        possible
    }

    /// Returns the lease that had a device from one reading to the next, if labels name it there.
    fn alone_on(&self, device: &Name, drawn: &Drawn) -> Option<&Lease> {
        let (from, until) = (drawn.from.earliest, drawn.until.latest);
        let between = Moment::between(from, until);
        let leases = self.state.leases.iter();
        let mut named =
            leases.filter(|lease| lease.is_named_on(device) && lease.may_live_at(between));
        let lease = named.next().filter(|lease| lease.held_throughout(from, until))?;
        named.next().is_none().then_some(lease)
    }

    /// Returns the number of devices that may have been free at some time between two times: all but
    /// those of leases that held them throughout.
    fn free_between(&self, from: Timestamp, until: Timestamp) -> usize {
        let devices = self.state.spans.iter().map(|span| span.devices).max().unwrap_or_default();
        let devices = (devices as usize).max(self.state.devices.len());
        let held = self.state.leases.iter().filter(|lease| lease.held_throughout(from, until));
        let held: usize = held.map(|lease| lease.gpus as usize).sum();
        if held > devices { devices } else { devices - held }
    }

    /// Returns the possible holders of a device in a span, each with its share by GPUs.
    fn holders(&self, span: &Span, device: &Name) -> Vec<(Holder, u64)> {
        let leases: Vec<&Lease> = span.held.iter().filter_map(|uid| self.find(uid)).collect();
        let held: u64 = leases.iter().map(|lease| u64::from(lease.gpus)).sum();
        let (devices, offered) = (u64::from(span.devices), u64::from(span.offered));
        let divided = offered > devices;
        if !divided && let Some(lease) = leases.iter().find(|lease| lease.is_named_on(device)) {
            return vec![(Some(lease.uid.clone()), 1)];
        }
        let mut holders: Vec<(Holder, u64)> = leases
            .iter()
            .map(|lease| (lease, if divided { lease.gpus.into() } else { lease.gpus_elsewhere() }))
            .filter(|(_, share)| *share > 0)
            .map(|(lease, share)| (Some(lease.uid.clone()), share))
            .collect();
        if holders.is_empty() {
            return vec![(None, 1)];
        }
        let free = devices.saturating_sub(held);
        // If devices are divided, all leased parts may be on the others: this one may be free even
        // where as many GPUs are leased as there are devices.
        let parts_per_device = offered / devices.max(1);
        if free > 0 || (divided && held + parts_per_device <= offered) {
            holders.push((None, free));
        }
        holders
    }
}

/// Energy of some holders on one device, of one pool and by one method.
struct Line<'a> {
    pool: &'a Option<Name>,
    method: Method,
    mj: Bounded,
    ms: u64,
}

/// Divides the energy of some holders on one device among its lines, which have its bounds together.
fn lines(device: &Attributed, is_one: impl Fn(&Holder) -> bool, mj: Bounded) -> Vec<Line<'_>> {
    let mut parts: BTreeMap<(&Option<Name>, bool), (u64, u64)> = BTreeMap::new();
    for (key, part) in device.parts.iter().filter(|(key, _)| is_one(&key.holder)) {
        let line = parts.entry((&key.pool, key.shared)).or_default();
        line.0 += part.mj;
        line.1 += part.ms;
    }
    let pools = parts.keys().map(|(pool, _)| *pool).collect::<BTreeSet<_>>().len();
    let (mut below, mut last) = (mj.below, None);
    // What is shared first: that is where the doubt is.
    let line = |((pool, shared), (value, ms))| {
        // Of a node that changed its pool, each pool may have the whole amount.
        let above = if last.replace(pool) == Some(pool) { 0 } else { mj.above };
        let under = if pools > 1 { value } else { below.min(value) };
        below -= under.min(below);
        let method = if shared { Method::Shared } else { device.method };
        Line { pool, method, mj: Bounded { value, below: under, above }, ms }
    };
    parts.into_iter().rev().map(line).collect()
}

/// Milliseconds that two stretches of time have in common.
fn overlap(from: Timestamp, until: Timestamp, since: Timestamp, to: Timestamp) -> u64 {
    until.min(to).millis_since(from.max(since))
}
