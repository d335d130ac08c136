//! Attribution: the energy of a device between two readings, divided among its holders.
//!
//! The time of a reading is only known within the exporter's refresh. If one lease held the device
//! in all of that time, its part is exact. If holders changed, each gets a part by time and two
//! bounds: at most what the device can draw while it may have held it, and at least what the others
//! cannot have drawn.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};

use crate::amount::{Bounded, energy_mj, split};
use crate::config::Terms;
use crate::key::{Method, Use};
use crate::lease::Lease;
use crate::moment::Moment;
use crate::node::Node;
use crate::state::{Sample, Span};

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
    /// True if the clock was set back in between, so that the duration is unknown.
    pub(crate) untimed: bool,
}

impl Drawn {
    /// Returns energy of which only the maximum of the device is known.
    pub(crate) fn unknown(from: Moment, until: Moment) -> Self {
        Self { from, until, mj: 0, method: Method::Counter, open: true, untimed: false }
    }
}

/// Line that a part of the energy is booked under.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct PartKey {
    holder: Holder,
    shared: bool,
    pool: Option<Name>,
}

/// Part of the energy, with the time over which it was drawn.
struct Part {
    mj: u64,
    ms: u64,
    until: Timestamp,
}

/// Maximum energy of each possible holder, and of all together.
struct Limits {
    by_holder: BTreeMap<Holder, u64>,
    total: u64,
}

impl Limits {
    /// Returns a part with its bounds. `certain` is the energy that was drawn at least.
    fn bound(&self, holder: &Holder, mj: u64, certain: u64) -> Bounded {
        let upper = self.by_holder.get(holder).copied().unwrap_or(self.total).min(self.total);
        let others = self.by_holder.iter().filter(|(other, _)| *other != holder);
        let lower = certain.saturating_sub(others.map(|(_, most)| *most).sum());
        Bounded { value: mj, below: mj.saturating_sub(lower), above: upper.saturating_sub(mj) }
    }
}

impl Node {
    /// Books the energy of a device to its holders and returns how much was booked.
    pub(crate) fn book_drawn(
        &mut self,
        drawn: &Drawn,
        last: &Sample,
        next: &Sample,
        limit_mw: u64,
        terms: &Terms<'_>,
    ) -> u64 {
        // The later reading's label first: it is fresher.
        let labels = [next.holder.as_ref(), last.holder.as_ref()];
        let limits = self.limits(drawn, labels, limit_mw);
        // Consecutive stretches meet in the middle of a reading's moment, so that no time counts
        // twice.
        let spans = self.spans_between(drawn.from.middle(), drawn.until.middle());
        let weights: Vec<u64> = spans.iter().map(|(_, ms)| *ms).collect();
        let mut parts: BTreeMap<PartKey, Part> = BTreeMap::new();
        for ((span, ms), mj) in spans.iter().zip(split(drawn.mj, &weights)) {
            self.booked.pool(span.pool.as_ref()).moved_mj += mj;
            let holders = self.holders(span, labels);
            let shared = holders.len() > 1;
            let shares: Vec<u64> = holders.iter().map(|(_, share)| *share).collect();
            for ((holder, _), mj) in holders.into_iter().zip(split(mj, &shares)) {
                let until = span.until;
                parts
                    .entry(PartKey { holder, shared, pool: span.pool.clone() })
                    .and_modify(|part| {
                        part.mj += mj;
                        part.ms += ms;
                        part.until = part.until.max(until);
                    })
                    .or_insert(Part { mj, ms: *ms, until });
            }
        }
        // Every possible holder gets a part, even an empty one, so that its bounds are recorded.
        for holder in limits.by_holder.keys() {
            if parts.keys().all(|key| key.holder != *holder) {
                let (holder, pool) = (holder.clone(), spans[0].0.pool.clone());
                let until = drawn.until.middle();
                parts.insert(PartKey { holder, shared: false, pool }, Part { mj: 0, ms: 0, until });
            }
        }
        // Power between two readings is interpolated, so that none of it is certain.
        let certain = if drawn.method == Method::Power { 0 } else { drawn.mj };
        let is_exact = limits.by_holder.len() <= 1 && !drawn.open;
        let mut booked = 0;
        for (key, part) in parts {
            let mj = if is_exact {
                Bounded::exactly(part.mj)
            } else {
                limits.bound(&key.holder, part.mj, certain)
            };
            booked += self.book_part(&key, &part, mj, drawn, terms);
        }
        debug_assert_eq!(booked, drawn.mj, "the books close");
        booked
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

    fn limits(&self, drawn: &Drawn, labels: [Option<&Name>; 2], limit_mw: u64) -> Limits {
        let (from, until) = if drawn.untimed {
            // Its time is unknown, so every lease on record may have held the device.
            (Timestamp(i64::MIN), Timestamp(i64::MAX))
        } else {
            (drawn.from.earliest.minus_millis(SECOND), drawn.until.latest.plus_millis(SECOND))
        };
        let mut holders = self.possible_holders(from, until, labels);
        if drawn.untimed {
            // The device may also have been free.
            holders.entry(None).or_default();
        }
        let longest = drawn.until.latest.millis_since(drawn.from.earliest);
        let total = if drawn.open { energy_mj(limit_mw, longest).max(drawn.mj) } else { drawn.mj };
        let most = |ms: u64| if drawn.untimed { total } else { energy_mj(limit_mw, ms) };
        Limits {
            by_holder: holders.into_iter().map(|(holder, ms)| (holder, most(ms))).collect(),
            total,
        }
    }

    /// Returns all leases that may have held a device between two times, each with its maximum time
    /// in milliseconds; `None` means that the device was free.
    fn possible_holders(
        &self,
        from: Timestamp,
        until: Timestamp,
        labels: [Option<&Name>; 2],
    ) -> BTreeMap<Holder, u64> {
        let mut possible: BTreeMap<Holder, u64> = BTreeMap::new();
        for span in &self.state.spans {
            let ms = overlap(span.from, span.until, from, until);
            if ms > 0 {
                for (holder, _) in self.holders(span, labels) {
                    *possible.entry(holder).or_default() += ms;
                }
            }
        }
        // Spans use the booked begin and end; a lease that began or ended in this time may have held
        // the device a little longer.
        for lease in &self.state.leases {
            let began = lease.bound.latest.max(lease.from) >= from
                && lease.bound.earliest.min(lease.from) <= until;
            let end = lease.held_until().unwrap_or(until);
            let ended = end >= from && lease.until.is_some_and(|booked| booked <= until);
            if began || ended {
                let ms = overlap(lease.bound.earliest, end, from, until);
                let known = possible.entry(Some(lease.uid.clone())).or_default();
                *known = ms.max(*known);
            }
        }
        possible
    }

    /// Books a part and returns how much.
    fn book_part(
        &mut self,
        key: &PartKey,
        part: &Part,
        mj: Bounded,
        drawn: &Drawn,
        terms: &Terms<'_>,
    ) -> u64 {
        debug_assert!(mj.below <= mj.value, "bounds are not negative");
        let method = if key.shared { Method::Shared } else { drawn.method };
        let pool = key.pool.as_ref();
        let Some(uid) = &key.holder else {
            let most = energy_mj(terms.config.idle_mw, part.ms);
            let idle = if drawn.untimed { mj.value } else { mj.value.min(most) };
            let excess = mj.value - idle;
            let idle = Bounded { value: idle, below: mj.below.min(idle), above: mj.above };
            self.booked.energy(pool, Use::Idle, method, idle);
            let excess = Bounded { value: excess, below: mj.below.min(excess), above: 0 };
            self.booked.energy(pool, Use::Idle, Method::Unexplained, excess);
            return mj.value;
        };
        let Some(lease) = self.state.leases.iter_mut().find(|lease| lease.uid == *uid) else {
            return 0;
        };
        lease.energy.add(mj);
        let account = lease.account.clone();
        let gpus = u64::from(lease.gpus);
        if let Some(registration) = &account.registration
            && terms.periods.get(registration).is_none_or(|start| part.until > *start)
        {
            let used = self.booked.used.entry(registration.clone()).or_default();
            // The limit counts upper bounds: it must hold whatever the truth is.
            used.0 += mj.upper();
            // Mean power needs the whole stretch with one holder, and at least a second: below that
            // the time of the readings is too uncertain.
            let ms = drawn.until.middle().millis_since(drawn.from.middle());
            let is_timed = !drawn.open && !drawn.untimed;
            if is_timed && !key.shared && part.ms == ms && ms >= SECOND {
                used.1 = used.1.max((mj.value / ms + 1) * gpus);
            }
        }
        self.booked.energy(pool, Use::Lease(account), method, mj);
        mj.value
    }

    /// Returns the possible holders of a device in a span, with the number of GPUs of each.
    fn holders(&self, span: &Span, labels: [Option<&Name>; 2]) -> Vec<(Holder, u64)> {
        let leases: Vec<&Lease> = span
            .held
            .iter()
            .filter_map(|uid| self.state.leases.iter().find(|lease| lease.uid == *uid))
            .collect();
        for label in labels.into_iter().flatten() {
            if let Some(lease) = leases.iter().find(|lease| lease.pod == *label) {
                return vec![(Some(lease.uid.clone()), 1)];
            }
        }
        let held: u64 = leases.iter().map(|lease| u64::from(lease.gpus)).sum();
        // If labels name the holders of all leased devices, a device without a label is free.
        if held == 0 || self.labelled_devices(&leases) >= held {
            return vec![(None, 1)];
        }
        let mut holders: Vec<(Holder, u64)> =
            leases.iter().map(|lease| (Some(lease.uid.clone()), lease.gpus.into())).collect();
        let (devices, offered) = (u64::from(span.devices), u64::from(span.offered));
        let free = devices.saturating_sub(held);
        // If devices are divided, all leased parts may be on the others: this one may be free even
        // where as many GPUs are leased as there are devices.
        let parts_per_device = offered / devices.max(1);
        if free > 0 || (offered > devices && held + parts_per_device <= offered) {
            holders.push((None, free));
        }
        holders
    }

    /// Counts the devices that the exporter's labels assign to one of these leases.
    fn labelled_devices(&self, leases: &[&Lease]) -> u64 {
        let labelled = self.state.devices.iter().filter(|device| {
            let next = self.samples.get(&device.seen.id).and_then(|samples| samples.front());
            [next, device.last.as_ref()]
                .into_iter()
                .flatten()
                .filter_map(|sample| sample.holder.as_ref())
                .any(|holder| leases.iter().any(|lease| lease.pod == *holder))
        });
        labelled.count() as u64
    }
}

/// Milliseconds that two stretches of time have in common.
fn overlap(from: Timestamp, until: Timestamp, since: Timestamp, to: Timestamp) -> u64 {
    until.min(to).millis_since(from.max(since))
}
