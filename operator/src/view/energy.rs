//! The use of energy limits: what the meter read, and what miners may have drawn since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_cluster::names::key;
use daylight_cluster::slim::Pod;
use daylight_cluster::{Cluster, timestamp};
use daylight_crds::{ApprovalState, EnergyPeriod, Limits, Registration, RegistrationSpec};
use daylight_planner::model;
use daylight_planner::model::{Delta, PeriodUse, Reading, Usage};
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{ToSpan as _, Zoned};
use rustc_hash::FxHashMap;
use strum::VariantArray as _;

use super::View;
use super::authority::power_limit;
use crate::reporting::midnight;

/// The most by which the meter's clock may be ahead of this one.
const SKEW: Duration = Duration::from_mins(1);

/// Energy drawn and not yet in the meter's readings, and the periods of limits.
#[derive(Debug, Default)]
pub(super) struct Energy {
    /// The time from which on the ends of leases were seen.
    ends_known_since: Timestamp,
    /// Leases that ended and may be missing in the last reading, by registration and pod: an end
    /// may be observed twice.
    ended: FxHashMap<Name, FxHashMap<Name, EndedLease>>,
    /// The end of the present period of each limited registration.
    resets: FxHashMap<Name, Timestamp>,
    /// Registrations whose leases ended and that are not evaluated again yet.
    drawn: BTreeSet<Name>,
    /// Use of registrations that were deleted, which counts against their owner's limits until the
    /// period is over. The auditor counts it too, and later: its figure survives this process.
    deleted: BTreeMap<Name, DeletedUse>,
}

/// The use of a registration that was deleted, or that another owner took over.
#[derive(Clone, Debug)]
struct DeletedUse {
    owner: Name,
    periods: Vec<DeletedInPeriod>,
}

/// The use of a deleted registration in one period.
#[derive(Clone, Copy, Debug)]
struct DeletedInPeriod {
    period: model::EnergyPeriod,
    millijoules: u64,
    /// The auditor's figure for the owner's deleted registrations, in which this one is missing.
    others: u64,
    /// The end of the period.
    until: Timestamp,
}

/// A lease that ended.
#[derive(Clone, Copy, Debug)]
struct EndedLease {
    from: Timestamp,
    to: Timestamp,
    watts: u64,
}

/// A registration's use of energy, as the planner receives it.
#[derive(Clone, Debug, Default)]
pub(super) struct EnergyUse {
    pub(super) usage: Option<Usage>,
    pub(super) reading: Reading,
    pub(super) period: model::EnergyPeriod,
    /// The end of the limit's period; `None` without a limit.
    pub(super) resets: Option<Timestamp>,
    /// Use in the periods of the owner's other limits, as far as it is metered.
    pub(super) others: Vec<PeriodUse>,
}

impl Energy {
    /// Creates an empty state of a process that observes the ends of leases from `since` on.
    pub(super) fn new(since: Timestamp) -> Self {
        Self { ends_known_since: since, ..Self::default() }
    }

    /// Returns the use of a registration's limit in the present period.
    ///
    /// A reading of an earlier period means that nothing of this one is used, except for what
    /// miners drew since. A reading from a period or a time in the future is ignored.
    pub(super) fn used(
        &self,
        name: &Name,
        registration: &Registration,
        cluster: &Cluster,
        is_approved: bool,
        now: Timestamp,
    ) -> EnergyUse {
        let spec = &registration.spec;
        let zone = zone(cluster, spec);
        // An edit that is not approved ends no count: the reading is of the period before it.
        let before = period_in_status(registration)
            .filter(|(start, end)| !is_approved && *start <= now + SKEW && now < *end);
        let kind = match before {
            Some(before) => {
                let mut kinds = EnergyPeriod::VARIANTS.iter().copied();
                kinds.find(|kind| period(now, *kind, zone) == Some(before))
            }
            None => None,
        };
        let kind = kind.or_else(|| energy_limit_period(cluster, spec));
        let mut energy = EnergyUse { period: period_kind(kind), ..EnergyUse::default() };
        let period_now = before.or_else(|| energy_period(cluster, registration, now));
        energy.resets = period_now.map(|(_, end)| end);
        let status = registration.status.as_ref();
        let Some(read) = status.and_then(|status| status.usage.as_ref()) else { return energy };
        let mut usage = Usage {
            metered_until: timestamp(&read.metered_until),
            millijoules: read.millijoules.0,
            peak_watts: read.peak_watts,
        };
        let Some((start, _)) = period_now else {
            return EnergyUse { usage: Some(usage), ..energy };
        };
        if usage.metered_until > now + SKEW {
            return energy;
        }
        let main =
            PeriodRead { start: timestamp(&read.period_start), millijoules: usage.millijoules };
        let own = reading_of(read, kind, start).unwrap_or(main);
        let Some(millijoules) = own.since(start, &mut usage.metered_until) else { return energy };
        usage.millijoules = millijoules;
        for other in owner_periods(cluster, spec, self::is_approved) {
            if Some(other) == kind {
                continue;
            }
            let Some((start, end)) = period(now, other, zone) else { continue };
            let used = reading_of(read, Some(other), start)
                .and_then(|used| used.since(start, &mut usage.metered_until));
            let Some(millijoules) = used else { continue };
            let period = period_kind(Some(other));
            let deleted_mj = self.deleted(registration, period, cluster, now);
            energy.others.push(PeriodUse { period, millijoules, deleted_mj, resets: end });
        }
        let peak = usage.possible_watts();
        let since = usage.metered_until;
        let ended = self.ended.get(name).into_iter().flat_map(FxHashMap::values);
        for lease in ended.filter(|lease| lease.to > since) {
            let ran = lease.to.millis_since(lease.from.max(since));
            let drawn = lease.watts.max(peak).saturating_mul(ran);
            usage.millijoules = usage.millijoules.saturating_add(drawn);
            for other in &mut energy.others {
                other.millijoules = other.millijoules.saturating_add(drawn);
            }
        }
        // An older reading may lack leases that ended before this process watched. Where only power is
        // limited, they do not matter, and the meter seldom writes.
        let is_partial =
            since < self.ends_known_since && energy_limit_period(cluster, spec).is_some();
        energy.reading = if is_partial { Reading::Partial } else { Reading::Counts };
        energy.usage = Some(usage);
        energy
    }

    /// Notes the end of a registration's period, and forgets the leases that its meter has
    /// counted.
    pub(super) fn note(&mut self, name: &Name, view: Option<&model::Registration>) {
        let ends = view.map(|view| {
            let others = view.other_periods.iter().map(|other| other.resets);
            view.energy_resets.into_iter().chain(others)
        });
        match ends.and_then(Iterator::min) {
            Some(end) => self.resets.insert(name.clone(), end),
            None => self.resets.remove(name),
        };
        if let Some(Usage { metered_until, .. }) = view.and_then(|view| view.usage)
            && let Some(ended) = self.ended.get_mut(name)
        {
            ended.retain(|_, lease| lease.to > metered_until);
        }
        // The meter counts by name, so the reading of one that was filed again has the use of both.
        if let Some(view) = view.filter(|view| view.usage.is_some())
            && self
                .deleted
                .get(name)
                .is_some_and(|deleted| Some(&deleted.owner) == view.owner.as_ref())
            && let Some(again) = self.deleted.remove(name)
        {
            let of_owner = self.deleted.values_mut().filter(|other| other.owner == again.owner);
            for other in of_owner.flat_map(|other| &mut other.periods) {
                let same = again.periods.iter().find(|same| same.period == other.period);
                let counted = same.map_or(0, |same| same.millijoules);
                other.others = other.others.saturating_sub(counted);
            }
        }
    }

    /// Notes that a registration was deleted; `running` is what its leases may draw until they have
    /// ended, and `others` the auditor's figure for those deleted before.
    fn note_deleted(
        &mut self,
        view: &model::Registration,
        running: u64,
        others: impl Fn(model::EnergyPeriod) -> u64,
    ) {
        let (Some(owner), Some(until)) = (&view.owner, view.energy_resets) else { return };
        let used = view.usage.map_or(0, |usage| usage.millijoules);
        let own = (view.energy_period, used, until);
        let further = view.other_periods.iter();
        let further = further.map(|other| (other.period, other.millijoules, other.resets));
        let periods = std::iter::once(own).chain(further).map(|(period, used, until)| {
            let millijoules = used.saturating_add(running);
            DeletedInPeriod { period, millijoules, others: others(period), until }
        });
        let deleted = DeletedUse { owner: owner.clone(), periods: periods.collect() };
        self.deleted.insert(view.key.clone(), deleted);
    }

    /// Returns the use of an owner's registrations that were deleted in the present period, by the
    /// auditor's figure in the status of one that exists and by what this process observed.
    pub(super) fn deleted(
        &self,
        registration: &Registration,
        period: model::EnergyPeriod,
        cluster: &Cluster,
        now: Timestamp,
    ) -> u64 {
        let owner = registration.spec.operator.owner_pseudonym.as_deref();
        let of_owner = self.deleted.values().filter(|it| Some(&*it.owner) == owner);
        let of_period = of_owner.flat_map(|it| &it.periods).filter(|it| it.period == period);
        let current: Vec<&DeletedInPeriod> = of_period.filter(|it| now < it.until).collect();
        let observed = current.iter().fold(0_u64, |sum, it| sum.saturating_add(it.millijoules));
        let others = current.iter().map(|it| it.others).min().unwrap_or_default();
        let counted = deleted_in_status(registration, period, cluster, now);
        observed.saturating_add(others).max(counted)
    }

    /// Notes the end of a miner's pod.
    pub(super) fn lease_ended(&mut self, pod: &Pod, now: Timestamp) {
        let Some(lease) = &pod.lease else { return };
        let name = &lease.registration;
        if pod.node.is_none() || !self.resets.contains_key(name) {
            return;
        }
        // Kubernetes rounds times down to whole seconds.
        let finished = pod.finished_at.map(|at| at + Duration::from_secs(1));
        let to = finished.map_or(now, |at| at.min(now));
        let ended = EndedLease { from: pod.created, to, watts: lease.watts };
        self.ended.entry(name.clone()).or_default().insert(pod.key.clone(), ended);
        self.drawn.insert(name.clone());
    }

    /// Moves all times that were read from this machine's clock, because it was set.
    pub(super) fn move_times(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        for lease in self.ended.values_mut().flat_map(FxHashMap::values_mut) {
            lease.from = moved(lease.from);
            lease.to = moved(lease.to);
        }
        self.ends_known_since = moved(self.ends_known_since);
    }

    /// Takes the registrations whose period is over, sorted.
    fn take_over(&mut self, now: Timestamp) -> Vec<Name> {
        self.deleted.retain(|_, deleted| {
            deleted.periods.retain(|period| now < period.until);
            !deleted.periods.is_empty()
        });
        let over = self.resets.extract_if(|_, end| *end <= now);
        let mut over: Vec<Name> = over.map(|(name, _)| name).collect();
        over.sort_unstable();
        over
    }

    /// The time at which the first period is over.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        self.resets.values().min().copied()
    }
}

impl View {
    /// Notes that a registration was deleted, as the planner knew it.
    pub(super) fn note_deleted_registration(&mut self, view: &model::Registration) {
        let peak = view.usage.map_or(0, |usage| usage.possible_watts());
        let metered_until = view.usage.map_or(self.started, |usage| usage.metered_until);
        let leases = self.cluster.pods().filter(|pod| !pod.is_terminal() && pod.node.is_some());
        let running = leases.filter_map(|pod| {
            let lease = pod.lease.as_ref().filter(|lease| lease.registration == view.key)?;
            let miner = self.emitted.miners.get(&lease.miner);
            let drain = miner.map_or(Duration::ZERO, |miner| miner.drain_timeout);
            let millis = (self.now + drain).millis_since(pod.created.max(metered_until));
            Some(lease.watts.max(peak).saturating_mul(millis))
        });
        let running = running.fold(0, u64::saturating_add);
        let others = |period| {
            let of_owner = self.cluster.registrations().filter(|(_, other)| {
                other.spec.operator.owner_pseudonym.as_deref() == view.owner.as_deref()
            });
            let counted = of_owner
                .map(|(_, other)| deleted_in_status(other, period, &self.cluster, self.now));
            counted.max().unwrap_or_default()
        };
        self.energy.note_deleted(view, running, others);
    }

    /// Evaluates the registrations whose leases ended.
    pub(super) fn emit_drawn(&mut self, out: &mut Vec<Delta>) {
        for registration in std::mem::take(&mut self.energy.drawn) {
            self.emit_registration(&registration, out);
        }
    }

    /// Evaluates the registrations whose energy period is over.
    pub(super) fn refresh_energy(&mut self, out: &mut Vec<Delta>) {
        for name in self.energy.take_over(self.now) {
            self.emit_registration(&name, out);
        }
    }
}

/// The period over which the use of a registration is counted that contains a time: its start and
/// its end. It is that of the energy limit, or a month where only power is limited; `None` without
/// either.
pub fn energy_period(
    cluster: &Cluster,
    registration: &Registration,
    at: Timestamp,
) -> Option<(Timestamp, Timestamp)> {
    let spec = &registration.spec;
    let period_of = match energy_limit_period(cluster, spec) {
        Some(period) => period,
        None => power_limit(cluster, &key_of(registration)).map(|_| EnergyPeriod::Month)?,
    };
    period(at, period_of, zone(cluster, spec))
}

/// The period of the usage in a registration's status: its start and its end.
pub fn period_in_status(registration: &Registration) -> Option<(Timestamp, Timestamp)> {
    let usage = registration.status.as_ref()?.usage.as_ref()?;
    Some((timestamp(&usage.period_start), timestamp(usage.period_end.as_ref()?)))
}

/// The periods of every length that contain a time, each with its start and its end.
pub fn energy_periods(
    cluster: &Cluster,
    registration: &Registration,
    at: Timestamp,
) -> Vec<(Timestamp, Timestamp)> {
    let zone = zone(cluster, &registration.spec);
    EnergyPeriod::VARIANTS.iter().filter_map(|of| period(at, *of, zone)).collect()
}

/// The period of a length that contains a time, at a registration's site: its start and its end.
pub fn period_of(
    cluster: &Cluster,
    registration: &Registration,
    of: EnergyPeriod,
    at: Timestamp,
) -> Option<(Timestamp, Timestamp)> {
    period(at, of, zone(cluster, &registration.spec))
}

/// The time zone of a registration's site.
pub fn zone<'a>(cluster: &'a Cluster, spec: &RegistrationSpec) -> &'a str {
    let pool = spec.pools.iter().find_map(|pool| cluster.pool(pool));
    pool.map_or("Etc/UTC", |pool| &*pool.spec.site.time_zone)
}

fn key_of(registration: &Registration) -> String {
    let metadata = &registration.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    key(&text(&metadata.namespace), &text(&metadata.name))
}

/// The period of the energy limit that use is counted over first: a registration's own, or else its
/// owner's, which another registration of the owner may set.
pub fn energy_limit_period(cluster: &Cluster, spec: &RegistrationSpec) -> Option<EnergyPeriod> {
    let of_owner = spec.owner_limits.as_ref().and_then(|limits| limits.energy.as_ref());
    let own = spec.limits.energy.as_ref().or(of_owner).map(|limit| limit.period);
    own.or_else(|| owner_periods(cluster, spec, is_approved).first().copied())
}

/// The periods of the energy limits of a registration's owner: of its own, and of those of the
/// owner's registrations that count.
pub fn owner_periods(
    cluster: &Cluster,
    spec: &RegistrationSpec,
    counts: impl Fn(&Registration) -> bool,
) -> BTreeSet<EnergyPeriod> {
    let limits = limits_of_owner(cluster, spec, counts);
    limits.filter_map(|limits| Some(limits.energy.as_ref()?.period)).collect()
}

/// The limits of a registration's owner: its own, and those of the owner's approved registrations.
pub fn owner_limits<'a>(
    cluster: &'a Cluster,
    spec: &'a RegistrationSpec,
) -> impl Iterator<Item = &'a Limits> {
    limits_of_owner(cluster, spec, is_approved)
}

fn limits_of_owner<'a>(
    cluster: &'a Cluster,
    spec: &'a RegistrationSpec,
    counts: impl Fn(&Registration) -> bool,
) -> impl Iterator<Item = &'a Limits> {
    // Few registrations name an owner, and only those have others to look for.
    let owner = spec.operator.owner_pseudonym.as_ref();
    let all = owner.into_iter().flat_map(|_| cluster.registrations());
    let others = all.map(|(_, registration)| registration).filter(move |other| {
        other.spec.operator.owner_pseudonym.as_ref() == owner && counts(other)
    });
    let others = others.filter_map(|other| other.spec.owner_limits.as_ref());
    spec.owner_limits.iter().chain(others)
}

/// The auditor's figure for what deleted registrations of the same owner used in a period, if it is
/// not over.
fn deleted_in_status(
    registration: &Registration,
    period: model::EnergyPeriod,
    cluster: &Cluster,
    now: Timestamp,
) -> u64 {
    let status = registration.status.as_ref();
    let Some(usage) = status.and_then(|status| status.usage.as_ref()) else { return 0 };
    let mut others = usage.other_periods.iter();
    if let Some(other) = others.find(|other| period_kind(Some(other.period)) == period) {
        let deleted = other.deleted_millijoules.as_ref().map_or(0, |deleted| deleted.0);
        return if now < timestamp(&other.period_end) { deleted } else { 0 };
    }
    if period_kind(energy_limit_period(cluster, &registration.spec)) != period {
        return 0;
    }
    let end = usage.period_end.as_ref().map(timestamp);
    let end = end.or_else(|| Some(energy_period(cluster, registration, now)?.1));
    let deleted = usage.deleted_millijoules.as_ref().map_or(0, |deleted| deleted.0);
    if end.is_some_and(|end| now < end) { deleted } else { 0 }
}

/// Use that a status has for a period.
struct PeriodRead {
    start: Timestamp,
    millijoules: u64,
}

impl PeriodRead {
    /// Returns the use since the start of the present period, and moves the time up to which it is
    /// metered to that start at most; `None` for a reading of a later period.
    fn since(&self, start: Timestamp, metered_until: &mut Timestamp) -> Option<u64> {
        if self.start > start + SKEW {
            return None;
        }
        if self.start < start && *metered_until < start + SKEW {
            *metered_until = start.min(*metered_until);
            return Some(0);
        }
        Some(self.millijoules)
    }
}

/// Returns the reading in a status for the period of a kind that begins at `start`, or for an
/// earlier one of that kind.
fn reading_of(
    read: &daylight_crds::Usage,
    kind: Option<EnergyPeriod>,
    start: Timestamp,
) -> Option<PeriodRead> {
    let main = (None, &read.period_start, &read.millijoules);
    let others = read.other_periods.iter();
    let others = others.map(|other| (Some(other.period), &other.period_start, &other.millijoules));
    let all = std::iter::once(main)
        .chain(others)
        .map(|(of, since, used)| (of, PeriodRead { start: timestamp(since), millijoules: used.0 }));
    let is_it = |read: &PeriodRead| read.start <= start + SKEW && start <= read.start + SKEW;
    let mut earlier = None;
    for (of, read) in all {
        if is_it(&read) {
            return Some(read);
        }
        if of.is_some() && of == kind {
            earlier = Some(read);
        }
    }
    earlier
}

fn period_kind(period: Option<EnergyPeriod>) -> model::EnergyPeriod {
    match period {
        Some(EnergyPeriod::Day) => model::EnergyPeriod::Day,
        Some(EnergyPeriod::Week) => model::EnergyPeriod::Week,
        Some(EnergyPeriod::Month) | None => model::EnergyPeriod::Month,
        Some(EnergyPeriod::Year) => model::EnergyPeriod::Year,
    }
}

/// Returns `true` if the authority approved a registration, whether or not the approval still holds.
pub fn is_approved(registration: &Registration) -> bool {
    let status = registration.status.as_ref();
    status
        .and_then(|status| status.approval.as_ref())
        .is_some_and(|approval| approval.state == ApprovalState::Approved)
}

/// The period that `now` is in, by the calendar of a site: from its first midnight to that of the
/// next one. Where the time zone does not exist it is UTC, so that a limit is never without a
/// period.
fn period(now: Timestamp, period: EnergyPeriod, zone: &str) -> Option<(Timestamp, Timestamp)> {
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    let day = jiff::Timestamp::from_millisecond(now.0).ok()?.to_zoned(zone).start_of_day().ok()?;
    let (first, long) = match period {
        EnergyPeriod::Day => (day, 1.day()),
        EnergyPeriod::Week => {
            let since_monday = day.weekday().since(Weekday::Monday);
            (day.checked_sub(i64::from(since_monday).days()).ok()?, 1.week())
        }
        EnergyPeriod::Month => (day.first_of_month().ok()?, 1.month()),
        EnergyPeriod::Year => (day.first_of_year().ok()?, 1.year()),
    };
    let next = first.checked_add(long).ok()?;
    let midnight = |day: Zoned| midnight(day.date(), day.time_zone());
    Some((midnight(first)?, midnight(next)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_go_from_midnight_to_midnight_of_the_site() {
        let now = at("2026-10-24T22:30:00Z");
        let is = |of, zone, start: &str, end: &str| {
            assert_eq!(period(now, of, zone), Some((at(start), at(end))), "{of:?} {zone}");
        };
        // A day of 25 hours: Oslo leaves summer time.
        is(EnergyPeriod::Day, "Europe/Oslo", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
        is(EnergyPeriod::Week, "Europe/Oslo", "2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z");
        is(EnergyPeriod::Month, "Europe/Oslo", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z");
        is(EnergyPeriod::Year, "Europe/Oslo", "2025-12-31T23:00:00Z", "2026-12-31T23:00:00Z");
        is(EnergyPeriod::Day, "Mars/Base", "2026-10-24T00:00:00Z", "2026-10-25T00:00:00Z");
    }
    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn periods_begin_at_midnight_of_the_site() {
        let now = at("2026-11-01T23:30:00Z"); // In Oslo it is Monday, 2 November, 00:30.
        let start = |of| period(now, of, "Europe/Oslo").unwrap().0;
        assert_eq!(start(EnergyPeriod::Day), at("2026-11-01T23:00:00Z"));
        assert_eq!(start(EnergyPeriod::Week), at("2026-11-01T23:00:00Z"));
        assert_eq!(start(EnergyPeriod::Month), at("2026-10-31T23:00:00Z"));
        assert_eq!(start(EnergyPeriod::Year), at("2025-12-31T23:00:00Z"));
    }

    #[test]
    fn a_day_that_begins_at_one_has_its_period() {
        // In Beirut clocks go from 00:00 to 01:00 on 29 March 2026.
        let now = at("2026-03-29T10:00:00Z");
        let (day, _) = period(now, EnergyPeriod::Day, "Asia/Beirut").unwrap();
        assert_eq!(day, at("2026-03-28T22:00:00Z"));
    }
}
