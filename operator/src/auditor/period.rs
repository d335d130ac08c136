//! Calendar periods of energy limits.

use daylight_crds::EnergyPeriod;
use daylight_meter::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{ToSpan as _, Zoned};

/// When the period began that `now` is in, in a site's time zone; where that does not exist, in
/// UTC, so that a limit is never without a period.
pub(super) fn start(now: Timestamp, period: EnergyPeriod, time_zone: &str) -> Option<Timestamp> {
    let zone = TimeZone::get(time_zone).unwrap_or(TimeZone::UTC);
    let now = jiff::Timestamp::from_millisecond(now.0).ok()?.to_zoned(zone);
    let day = now.start_of_day().ok()?;
    let start: Zoned = match period {
        EnergyPeriod::Day => day,
        EnergyPeriod::Week => {
            let since_monday = day.weekday().since(Weekday::Monday);
            day.checked_sub(i64::from(since_monday).days()).ok()?.start_of_day().ok()?
        }
        EnergyPeriod::Month => day.first_of_month().ok()?.start_of_day().ok()?,
        EnergyPeriod::Year => day.first_of_year().ok()?.start_of_day().ok()?,
    };
    Some(Timestamp(start.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn periods_begin_at_midnight_of_the_site() {
        let now = at("2026-11-01T23:30:00Z"); // In Oslo it is Monday, 2 November, 00:30.
        let start = |period| start(now, period, "Europe/Oslo").unwrap();
        assert_eq!(start(EnergyPeriod::Day), at("2026-11-01T23:00:00Z"));
        assert_eq!(start(EnergyPeriod::Week), at("2026-11-01T23:00:00Z"));
        assert_eq!(start(EnergyPeriod::Month), at("2026-10-31T23:00:00Z"));
        assert_eq!(start(EnergyPeriod::Year), at("2025-12-31T23:00:00Z"));
    }

    #[test]
    fn a_day_that_begins_at_one_has_its_period() {
        // In Beirut clocks go from 00:00 to 01:00 on 29 March 2026.
        let now = at("2026-03-29T10:00:00Z");
        let day = start(now, EnergyPeriod::Day, "Asia/Beirut").unwrap();
        assert_eq!(day, at("2026-03-28T22:00:00Z"));
    }
}
