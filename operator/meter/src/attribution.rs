//! Attribution: what a device drew between two readings, divided among those who held it.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};

use crate::amount::{Bounded, most_mj, split};
use crate::config::Terms;
use crate::key::{Method, Use};
use crate::lease::Lease;
use crate::moment::Moment;
use crate::node::Node;
use crate::state::{Sample, Span};

/// Times of pods are told in whole seconds.
pub(crate) const SECOND: u64 = 1000;

/// Who held a device; `None` is nobody.
type Holder = Option<Name>;

/// What a device drew between two moments.
pub(crate) struct Drawn {
    pub(crate) from: Moment,
    pub(crate) until: Moment,
    pub(crate) mj: u64,
    pub(crate) method: Method,
    /// Whether the truth may be anything from `mj` to what the device can draw.
    pub(crate) open: bool,
    /// Whether the clock was set back meanwhile, and does not tell how long it was.
    pub(crate) untimed: bool,
}

impl Drawn {
    /// Something between nothing and what the device can draw.
    pub(crate) fn anything(from: Moment, until: Moment) -> Self {
        Self { from, until, mj: 0, method: Method::Counter, open: true, untimed: false }
    }
}

impl Node {
    /// Books what a device drew to those who had it, and says how much was booked.
    pub(crate) fn book_drawn(
        &mut self,
        drawn: &Drawn,
        last: &Sample,
        next: &Sample,
        limit_mw: u64,
        terms: &Terms<'_>,
    ) -> u64 {
        let labels = [next.holder.as_ref(), last.holder.as_ref()];
        let (from, until) = (drawn.from.middle(), drawn.until.middle());
        let mut within: Vec<(Span, u64)> = self
            .state
            .spans
            .iter()
            .map(|span| (span.clone(), overlap(span.from, span.until, from, until)))
            .filter(|(_, ms)| *ms > 0)
            .collect();
        if within.is_empty() {
            // No time passed, or it is older than what is known: who holds it now drew it.
            let span = self.state.spans.back().cloned();
            within.push((span.unwrap_or_else(|| self.present()), 1));
        }
        let (wide_from, wide_until) = if drawn.untimed {
            (Timestamp(i64::MIN), Timestamp(i64::MAX))
        } else {
            (drawn.from.earliest.minus_millis(SECOND), drawn.until.latest.plus_millis(SECOND))
        };
        let mut could = self.could_have(wide_from, wide_until, labels);
        if drawn.untimed {
            // Nor is it known how long it was nobody's.
            could.entry(None).or_default();
        }
        let all = most_mj(limit_mw, drawn.until.latest.millis_since(drawn.from.earliest));
        let ceiling = if drawn.open { all.max(drawn.mj) } else { drawn.mj };
        let most = |ms: u64| if drawn.untimed { ceiling } else { most_mj(limit_mw, ms) };
        let most: BTreeMap<Holder, u64> =
            could.iter().map(|(holder, ms)| (holder.clone(), most(*ms))).collect();
        let floor = if drawn.method == Method::Power { 0 } else { drawn.mj };

        let weights: Vec<u64> = within.iter().map(|(_, ms)| *ms).collect();
        let mut parts: Vec<Part> = Vec::new();
        for ((span, ms), mj) in within.iter().zip(split(drawn.mj, &weights)) {
            self.booked.pool(span.pool.as_ref()).moved_mj += mj;
            let holders = self.holders(span, labels);
            let shared = holders.len() > 1;
            let shares: Vec<u64> = holders.iter().map(|(_, share)| *share).collect();
            for ((holder, _), mj) in holders.into_iter().zip(split(mj, &shares)) {
                let known = parts.iter_mut().find(|part| {
                    part.holder == holder && part.shared == shared && part.pool == span.pool
                });
                match known {
                    Some(part) => {
                        part.mj += mj;
                        part.ms += ms;
                        part.until = part.until.max(span.until);
                    }
                    None => parts.push(Part {
                        holder,
                        shared,
                        pool: span.pool.clone(),
                        mj,
                        ms: *ms,
                        until: span.until,
                    }),
                }
            }
        }
        let pool = within[0].0.pool.clone();
        for holder in could.keys() {
            // Who may have had it is told so, even if nothing is booked for it.
            if parts.iter().all(|part| part.holder != *holder) {
                let (holder, pool) = (holder.clone(), pool.clone());
                parts.push(Part { holder, shared: false, pool, mj: 0, ms: 0, until });
            }
        }
        let alone = could.len() <= 1 && !drawn.open;
        let mut booked = 0;
        for part in parts {
            let mut bounded = Bounded::exactly(part.mj);
            if !alone {
                let upper = most.get(&part.holder).copied().unwrap_or(ceiling).min(ceiling);
                let others: u64 = most
                    .iter()
                    .filter(|(holder, _)| **holder != part.holder)
                    .map(|(_, mj)| *mj)
                    .sum();
                let lower = floor.saturating_sub(others);
                bounded.above = upper.saturating_sub(part.mj);
                bounded.below = part.mj.saturating_sub(lower);
            }
            booked += self.book_part(&part, bounded, drawn, terms);
        }
        booked
    }

    /// Who may have had a device between two moments, and for how long at most.
    fn could_have(
        &self,
        from: Timestamp,
        until: Timestamp,
        labels: [Option<&Name>; 2],
    ) -> BTreeMap<Holder, u64> {
        let mut could: BTreeMap<Holder, u64> = BTreeMap::new();
        for span in &self.state.spans {
            let ms = overlap(span.from, span.until, from, until);
            if ms > 0 {
                for (holder, _) in self.holders(span, labels) {
                    *could.entry(holder).or_default() += ms;
                }
            }
        }
        // Those that came or went meanwhile may have been there a little longer than is booked.
        for lease in &self.state.leases {
            let came = lease.bound.latest.max(lease.from) >= from
                && lease.bound.earliest.min(lease.from) <= until;
            let end = lease.held_until().unwrap_or(until);
            let went = end >= from && lease.until.is_some_and(|until_then| until_then <= until);
            if came || went {
                let ms = overlap(lease.bound.earliest, end, from, until);
                let known = could.entry(Some(lease.uid.clone())).or_default();
                *known = ms.max(*known);
            }
        }
        could
    }

    /// Books a part, and says how much of it.
    fn book_part(&mut self, part: &Part, mj: Bounded, drawn: &Drawn, terms: &Terms<'_>) -> u64 {
        let method = if part.shared { Method::Shared } else { drawn.method };
        let Some(uid) = &part.holder else {
            let floor = most_mj(terms.config.idle_mw, part.ms);
            let idle = if drawn.untimed { mj.value } else { mj.value.min(floor) };
            let above = mj.value - idle;
            let idle = Bounded { value: idle, below: mj.below.min(idle), above: mj.above };
            self.booked.energy(part.pool.as_ref(), Use::Idle, method, idle);
            let above = Bounded { value: above, below: mj.below.min(above), above: 0 };
            self.booked.energy(part.pool.as_ref(), Use::Idle, Method::Unexplained, above);
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
            used.0 += mj.upper();
            // Over a short time a reading's moment is too uncertain to make a power of it.
            let ms = drawn.until.middle().millis_since(drawn.from.middle());
            let is_timed = !drawn.open && !drawn.untimed;
            if is_timed && !part.shared && part.ms == ms && ms >= SECOND {
                used.1 = used.1.max((mj.value / ms + 1) * gpus);
            }
        }
        self.booked.energy(part.pool.as_ref(), Use::Lease(account), method, mj);
        mj.value
    }

    /// Who had a device in a span, and for how many of its parts.
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
        // Where labels name the holders of all that is held, a device without one is free.
        if held == 0 || self.labelled(&leases) >= held {
            return vec![(None, 1)];
        }
        let mut holders: Vec<(Holder, u64)> =
            leases.iter().map(|lease| (Some(lease.uid.clone()), lease.gpus.into())).collect();
        let (devices, offered) = (u64::from(span.devices), u64::from(span.offered));
        let free = devices.saturating_sub(held);
        // Where devices are divided, all that is held may be on the others.
        let parts = offered / devices.max(1);
        if free > 0 || (offered > devices && held + parts <= offered) {
            holders.push((None, free));
        }
        holders
    }

    fn labelled(&self, leases: &[&Lease]) -> u64 {
        let labelled = self.state.devices.iter().filter(|device| {
            let next = self.samples.get(&device.seen.id).and_then(|samples| samples.front());
            let holders = [next, device.last.as_ref()];
            holders
                .into_iter()
                .flatten()
                .filter_map(|sample| sample.holder.as_ref())
                .any(|holder| leases.iter().any(|lease| lease.pod == *holder))
        });
        labelled.count() as u64
    }
}

/// A holder's part of what was drawn.
struct Part {
    holder: Holder,
    shared: bool,
    pool: Option<Name>,
    mj: u64,
    ms: u64,
    until: Timestamp,
}

/// How long two stretches of time have in common, in milliseconds.
fn overlap(from: Timestamp, until: Timestamp, since: Timestamp, to: Timestamp) -> u64 {
    until.min(to).millis_since(from.max(since))
}
