//! Counts of the energy that registrations have used since the beginning of a period.
//!
//! Energy is added to stretches of time. A stretch begins where a period begins, whatever its
//! length, and the use of a period is the sum of the stretches from its start on. So the periods of
//! a day, a week, a month and a year are counted at once, in each time zone that was ever asked for,
//! and an edit of a limit's period never finds less than was drawn. A stretch lasts until the
//! longest period that begins with it is over, and is then added to the one before it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// Period over which the energy of a registration is counted.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// `namespace/name` of the registration.
    pub registration: Name,
    /// Owner of what is drawn from `start` on: its pseudonym, if it has one.
    pub owner: Option<Name>,
    pub start: Timestamp,
    /// Entries of older versions do not have it: such a period is counted for ever.
    #[serde(default = "never")]
    pub end: Timestamp,
}

fn never() -> Timestamp {
    Timestamp(i64::MAX)
}

/// Energy of a registration from the start of a period to the start of the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stretch {
    /// End of the longest period that begins with it.
    until: Timestamp,
    owner: Option<Name>,
    millijoules: u64,
}

/// Start of the stretch of what is drawn before a period is known.
const UNKNOWN: Timestamp = Timestamp(0);

/// Count of one registration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count {
    stretches: BTreeMap<Timestamp, Stretch>,
    /// Highest mean power of one replica.
    pub(crate) peak_watts: u64,
}

impl Count {
    /// Returns whether a period is counted already.
    fn has(&self, period: &Period) -> bool {
        self.stretches.get(&period.start).is_some_and(|it| it.until >= period.end)
    }

    /// Returns the stretch in which a time lies, with its start.
    fn at(&self, now: Timestamp) -> Option<(Timestamp, &Stretch)> {
        let before = self.stretches.range(..=now).next_back();
        before.map(|(start, stretch)| (*start, stretch))
    }

    /// Begins a period at a time up to which the books are.
    pub(crate) fn begin(&mut self, period: &Period, at: Timestamp) {
        self.merge(at);
        let Period { registration: _, owner, start, end } = period;
        let unknown = self.stretches.remove(&UNKNOWN);
        let stretch = self.stretches.entry(*start).or_default();
        stretch.until = stretch.until.max(*end);
        if stretch.millijoules == 0 {
            stretch.owner.clone_from(owner);
        }
        if let Some(unknown) = unknown {
            stretch.millijoules = stretch.millijoules.saturating_add(unknown.millijoules);
        }
    }

    /// Adds each stretch whose periods are over to the one before it. The use of periods that are
    /// not over stays the same.
    fn merge(&mut self, now: Timestamp) {
        let known = self.stretches.iter().filter(|(start, _)| **start != UNKNOWN);
        let over = known.filter(|(_, it)| it.until <= now);
        for start in over.map(|(start, _)| *start).collect::<Vec<_>>() {
            let Some(stretch) = self.stretches.remove(&start) else { continue };
            match self.stretches.range_mut(..start).next_back() {
                Some((_, before)) if before.owner == stretch.owner => {
                    before.millijoules = before.millijoules.saturating_add(stretch.millijoules);
                }
                // What was drawn for different owners stays apart.
                Some(_) => {
                    self.stretches.insert(start, stretch);
                }
                // Every period that is not over begins later.
                None => {}
            }
        }
    }

    /// Returns the start of the stretch to which energy that was drawn until `until` is added.
    pub(crate) fn start_of(&self, until: Timestamp) -> Timestamp {
        let before = self.stretches.range(..until).next_back();
        before.or(self.stretches.first_key_value()).map_or(UNKNOWN, |(start, _)| *start)
    }

    /// Adds energy to the stretch that begins at `start`, or to the one that it was added to.
    pub(crate) fn add(&mut self, start: Timestamp, millijoules: u64) {
        let before = self.stretches.range(..=start).next_back();
        let at = before.or(self.stretches.first_key_value()).map_or(start, |(at, _)| *at);
        let stretch = self.stretches.entry(at).or_default();
        stretch.millijoules = stretch.millijoules.saturating_add(millijoules);
    }

    /// Returns the energy drawn since the start of a period.
    pub(crate) fn since(&self, start: Timestamp) -> u64 {
        self.sum(start, |_| true)
    }

    /// Returns the energy drawn for an owner since the start of a period.
    pub(crate) fn of_owner(&self, owner: &str, start: Timestamp) -> u64 {
        self.sum(start, |it| it.owner.as_deref() == Some(owner))
    }

    fn sum(&self, start: Timestamp, counts: impl Fn(&Stretch) -> bool) -> u64 {
        let first = self.stretches.range(..=start).next_back().map_or(start, |(at, _)| *at);
        let stretches = self.stretches.range(first..).filter(|(_, it)| counts(it));
        stretches.fold(0, |sum, (_, it)| sum.saturating_add(it.millijoules))
    }
}

/// Counts of all registrations. That of a registration that was deleted is kept until its periods
/// are over.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    of: BTreeMap<Name, Count>,
}

impl Counts {
    /// Returns the energy that a registration has used since the start of a period, in millijoules.
    pub fn since(&self, registration: &str, start: Timestamp) -> u64 {
        self.of.get(registration).map_or(0, |count| count.since(start))
    }

    /// Returns whether the energy of a registration is counted.
    pub fn has(&self, registration: &str) -> bool {
        self.of.contains_key(registration)
    }

    /// Owner of what a registration draws at a time.
    pub fn owner(&self, registration: &str, now: Timestamp) -> Option<&Name> {
        self.of.get(registration)?.at(now)?.1.owner.as_ref()
    }

    /// Highest mean power of one replica, in watts.
    pub fn peak_watts(&self, registration: &str) -> u64 {
        self.of.get(registration).map_or(0, |count| count.peak_watts)
    }

    /// Returns what registrations have used for an owner since the start of a period, in
    /// millijoules.
    pub fn of_owner(&self, owner: &str, start: Timestamp, which: impl Fn(&Name) -> bool) -> u64 {
        let some = self.of.iter().filter(|(registration, _)| which(registration));
        some.fold(0, |sum, (_, count)| sum.saturating_add(count.of_owner(owner, start)))
    }

    pub(crate) fn get(&self, registration: &str) -> Option<&Count> {
        self.of.get(registration)
    }

    pub(crate) fn count(&mut self, registration: &Name) -> &mut Count {
        self.of.entry(registration.clone()).or_default()
    }

    /// Returns the periods that are not counted yet, in the order in which they are to begin.
    pub(crate) fn new_periods(
        &self,
        periods: impl IntoIterator<Item = Period>,
        now: Timestamp,
    ) -> Vec<Period> {
        let mut new: BTreeMap<(Name, Timestamp), Period> = BTreeMap::new();
        let mut add = |period: Period| {
            let key = (period.registration.clone(), period.start);
            let known = new.entry(key).or_insert_with(|| period.clone());
            known.end = known.end.max(period.end);
        };
        for period in periods {
            let Some(count) = self.of.get(&period.registration) else {
                add(period);
                continue;
            };
            match count.at(now).filter(|(_, present)| present.owner != period.owner) {
                // From now on it draws for another owner.
                Some((start, _)) if period.start <= now => {
                    add(Period { start: now.max(start.plus_millis(1)), ..period.clone() });
                }
                Some(_) => add(period.clone()),
                None => {}
            }
            if !count.has(&period) {
                add(period);
            }
        }
        // Energy of no known period is added to the one that begins first here: the present one.
        let mut new: Vec<Period> = new.into_values().collect();
        new.sort_by_key(|one| (one.registration.clone(), one.start > now, Reverse(one.start)));
        new
    }

    /// Adds what belongs to periods that were over at a time to the periods before.
    pub(crate) fn merge(&mut self, now: Timestamp) {
        self.of.values_mut().for_each(|count| count.merge(now));
    }

    /// Returns each stretch as a period, with its energy and the registration's peak.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = (Period, u64, u64)> {
        self.of.iter().flat_map(|(registration, count)| {
            count.stretches.iter().map(|(start, stretch)| {
                let Stretch { until, owner, millijoules } = stretch.clone();
                let registration = registration.clone();
                let period = Period { registration, owner, start: *start, end: until };
                (period, millijoules, count.peak_watts)
            })
        })
    }

    /// Forgets the counts of which every period was over at a time, except those of `kept`.
    pub(crate) fn forget(&mut self, now: Timestamp, kept: impl Fn(&Name) -> bool) {
        self.of.retain(|registration, count| {
            kept(registration) || count.stretches.values().any(|it| it.until > now)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn period(owner: &str, start: i64, end: i64) -> Period {
        Period {
            registration: "acme/night".into(),
            owner: Some(owner.into()),
            start: Timestamp(start),
            end: Timestamp(end),
        }
    }

    fn add(count: &mut Count, until: i64, millijoules: u64) {
        let start = count.start_of(Timestamp(until));
        count.add(start, millijoules);
    }

    #[test]
    fn a_day_that_is_over_still_counts_for_its_month() {
        let mut count = Count::default();
        count.begin(&period("a", DAY, 31 * DAY), Timestamp(DAY));
        add(&mut count, DAY + 5, 100);
        for day in 2..30 {
            count.begin(&period("a", day * DAY, (day + 1) * DAY), Timestamp(day * DAY));
            add(&mut count, day * DAY + 5, 1);
            assert_eq!(count.since(Timestamp(day * DAY)), 1);
            assert_eq!(count.since(Timestamp(DAY)), 99 + day as u64);
        }
        assert!(count.stretches.len() <= 3, "{:?}", count.stretches);
    }

    #[test]
    fn what_was_drawn_before_the_first_period_is_known_counts_in_each() {
        let mut counts = Counts::default();
        counts.count(&"acme/night".into()).add(UNKNOWN, 7);
        let next = period("a", 10 * DAY, 11 * DAY);
        let periods = [period("a", DAY, 31 * DAY), next, period("a", 9 * DAY, 10 * DAY)];
        for period in counts.new_periods(periods, Timestamp(9 * DAY)) {
            counts.count(&period.registration).begin(&period, Timestamp(9 * DAY));
        }
        assert_eq!(counts.since("acme/night", Timestamp(DAY)), 7);
        assert_eq!(counts.since("acme/night", Timestamp(9 * DAY)), 7);
        assert_eq!(counts.since("acme/night", Timestamp(10 * DAY)), 0);
    }

    #[test]
    fn what_was_drawn_for_an_owner_stays_with_that_owner() {
        let mut counts = Counts::default();
        let begin = |counts: &mut Counts, owner: &str, now: i64| {
            let periods = [period(owner, DAY, 31 * DAY)];
            for period in counts.new_periods(periods, Timestamp(now)) {
                counts.count(&period.registration).begin(&period, Timestamp(now));
            }
        };
        begin(&mut counts, "a", DAY);
        add(counts.count(&"acme/night".into()), 2 * DAY, 100);
        begin(&mut counts, "b", 3 * DAY);
        begin(&mut counts, "b", 4 * DAY);
        add(counts.count(&"acme/night".into()), 5 * DAY, 30);
        let of = |owner| counts.of_owner(owner, Timestamp(DAY), |_| true);
        assert_eq!((of("a"), of("b")), (100, 30));
        assert_eq!(counts.since("acme/night", Timestamp(DAY)), 130);
        assert_eq!(counts.of_owner("a", Timestamp(DAY), |name| &**name != "acme/night"), 0);
    }
}
