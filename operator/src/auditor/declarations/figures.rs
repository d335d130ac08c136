//! Totals of the ledger in the form of a `Declaration`'s status.

use daylight_base::Timestamp;
use daylight_crds::{
    DeclaredAmount, DeclaredEnergy, DeclaredPeak, DeclaredTime, DeclaredTotals, LedgerRange,
    Millijoules, WorkSource,
};
use daylight_meter::{Bounded, Method};
use strum::VariantArray as _;

use super::scan::Extent;
use crate::conditions::time;
use crate::metric_table::signed;
use crate::reporting::PeriodTotals;
use crate::reporting::numbers::{HOUR, bounded, decimal, kwh};

pub(super) fn declared(totals: &PeriodTotals) -> DeclaredTotals {
    let mut pods = Bounded::default();
    for operated in &totals.operated {
        pods.saturating_add(operated.operated.pod_ms);
    }
    let energy = Method::VARIANTS.iter().filter_map(|method| {
        let amount = totals.millijoules(|_, of| of == *method);
        let is_nothing = amount == Bounded::default();
        let method = <&str>::from(*method).to_owned();
        (!is_nothing).then(|| DeclaredEnergy { method, amount: millijoules(amount) })
    });
    let work = &totals.work;
    let hashes: u128 = work.iter().map(|it| u128::from(it.work.hashes)).sum();
    let shares: u64 = work.iter().fold(0, |sum, it| sum.saturating_add(it.work.shares_accepted));
    let seen = work.iter().filter(|it| it.work.seen).count();
    let work_is = match (seen, work.len()) {
        (_, 0) => None,
        (0, _) => Some(WorkSource::Claimed),
        (seen, all) if seen == all => Some(WorkSource::Seen),
        _ => Some(WorkSource::Mixed),
    };
    let peak = totals.peak.and_then(|peak| {
        let (from, until) = (time(peak.from)?, time(peak.until)?);
        Some(DeclaredPeak { watts: peak.watts, from, until })
    });
    DeclaredTotals {
        gpu_milliseconds: milliseconds(totals.device_ms(|_| true)),
        pod_milliseconds: milliseconds(pods),
        energy: energy.collect(),
        peak,
        limit_millijoules: Millijoules(totals.limit.millijoules),
        ended_leases: signed(totals.ended_leases),
        hashes: work_is.map(|_| hashes.to_string()),
        shares_accepted: work_is.map(|_| signed(shares)),
        work_is,
        gaps: totals.gaps.iter().map(|gap| signed(gap.count)).fold(0, i64::saturating_add),
    }
}

pub(super) fn range(origin: &str, totals: &PeriodTotals, extent: Extent) -> LedgerRange {
    LedgerRange {
        origin: origin.to_owned(),
        first: totals.first.map(signed),
        last: totals.last.map(signed),
        size: signed(extent.size),
        root_hash: extent.root.to_base64(),
    }
}

/// GPU time in hours, to be read by people.
pub(super) fn gpu_time(totals: &DeclaredTotals) -> String {
    let ms = totals.gpu_milliseconds.value.cast_unsigned();
    format!("{} GPU-hours", decimal(ms.into(), HOUR, 2))
}

/// Energy in kWh with its bounds, to be read by people.
pub(super) fn energy_text(totals: &DeclaredTotals) -> String {
    let sum = |part: fn(&DeclaredAmount) -> u64| -> u64 {
        totals.energy.iter().fold(0, |sum, it| sum.saturating_add(part(&it.amount)))
    };
    let (value, below, above) = (sum(|it| it.value.0), sum(|it| it.below.0), sum(|it| it.above.0));
    let [value, least, most] = bounded(Bounded { value, below, above }, kwh);
    match (below, above) {
        (0, 0) => format!("{value} kWh"),
        _ => format!("{value} kWh ({least} to {most})"),
    }
}

fn milliseconds(Bounded { value, below, above }: Bounded) -> DeclaredTime {
    DeclaredTime { value: signed(value), below: signed(below), above: signed(above) }
}

/// A status holds at most 19 digits.
fn millijoules(Bounded { value, below, above }: Bounded) -> DeclaredAmount {
    let at_most = |mj: u64| Millijoules(mj.min(i64::MAX.cast_unsigned()));
    DeclaredAmount { value: at_most(value), below: at_most(below), above: at_most(above) }
}

/// End of the time up to which a declaration is on time: that of the due day, in the month that begins
/// at the period's end.
pub(super) fn due(end: Timestamp, due_day: u32, zone: &str) -> Option<Timestamp> {
    let zone = jiff::tz::TimeZone::get(zone).ok()?;
    let month = jiff::Timestamp::from_millisecond(end.0).ok()?.to_zoned(zone.clone()).date();
    let day = month.with().day(i8::try_from(due_day).ok()?).build().ok()?;
    crate::reporting::midnight(day.tomorrow().ok()?, &zone)
}
