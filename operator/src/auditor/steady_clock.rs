//! The auditor's clock.
//!
//! What is booked stays booked, so a wall clock that is set must not move the books. Time passes here
//! as the monotonic clock counts it. A step of the wall clock counts once the API server's `Date`
//! confirms it, as it does after a suspension of the machine. While the API server's clock differs
//! from this one, it is unknown which is right, and nothing is booked.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daylight_base::{Timestamp, duration};
use http::Request;
use http::header::DATE;
use jiff::fmt::rfc2822::DateTimeParser;
use kube::Client;
use kube::client::Body;
use tokio::sync::Notify;

use crate::clock::wall_clock;
use crate::failure::chain;

/// Difference between two clocks that both count as right. `Date` has whole seconds, an answer may
/// take seconds, and clocks that are synchronized differ by less than one.
const TOLERANCE_MS: u64 = 30_000;

/// A wall clock that NTP slews runs up to an eighth faster or slower (chrony's `maxslewrate`), and may
/// be off by this much from one reading to the next.
const SLEW: u64 = 8;
const JITTER_MS: u64 = 100;

/// Shortest time after which the wall clock is followed: many small steps must not add up.
const FOLLOW: Duration = Duration::from_secs(1);

/// Time between two comparisons with the API server, while the clocks agree and while not.
const COMPARE_EVERY: Duration = Duration::from_mins(1);
const COMPARE_AGAIN: Duration = Duration::from_secs(5);
/// Longest time that an answer may take: a small part of the tolerance.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Clock that all parts of the auditor share.
#[derive(Clone, Debug)]
pub(super) struct SteadyClock {
    line: Arc<Mutex<Line>>,
    /// Wakes the comparison after a step.
    stepped: Arc<Notify>,
}

/// Difference from the API server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockDifference {
    is_ahead: bool,
    by: Duration,
}

#[cfg(test)]
impl ClockDifference {
    pub(super) fn ahead(by: Duration) -> Self {
        Self { is_ahead: true, by }
    }
}

/// Time, as it continues from a point at which it was right.
#[derive(Debug)]
struct Line {
    at: Timestamp,
    instant: Instant,
    /// The latest time that was read. Time never runs backwards here.
    last: Timestamp,
    /// `true` while the wall clock is elsewhere.
    has_stepped: bool,
    /// `true` once it agreed with the API server's clock. What was read before was not booked.
    was_certain: bool,
    agreement: Agreement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreement {
    /// Not compared since the start, or since a step.
    Unknown,
    Agrees,
    Differs(ClockDifference),
}

impl SteadyClock {
    pub(super) fn new() -> Self {
        let line = Line::new(wall_clock(), Instant::now());
        Self { line: Arc::new(Mutex::new(line)), stepped: Arc::default() }
    }

    /// Reads the clock.
    pub(super) fn now(&self) -> Timestamp {
        let mut line = self.line();
        let before = line.has_stepped;
        let now = line.read(wall_clock(), Instant::now());
        if line.has_stepped && !before {
            self.stepped.notify_one();
        }
        now
    }

    /// Returns `true` while time can be booked.
    pub(super) fn is_certain(&self) -> bool {
        self.line().agreement == Agreement::Agrees
    }

    /// Returns how far it is from the API server's clock, if they differ.
    pub(super) fn difference(&self) -> Option<ClockDifference> {
        match self.line().agreement {
            Agreement::Differs(difference) => Some(difference),
            Agreement::Unknown | Agreement::Agrees => None,
        }
    }

    /// Compares it with the API server's clock, as long as the process runs.
    pub(super) async fn compare(self, client: Client) {
        loop {
            let every = match tokio::time::timeout(TIMEOUT, server_date(&client)).await {
                Ok(Ok(Some(date))) => {
                    let agreement = self.line().compare(date, wall_clock(), Instant::now());
                    match agreement {
                        Agreement::Agrees => COMPARE_EVERY,
                        _ => COMPARE_AGAIN,
                    }
                }
                Ok(Ok(None)) => {
                    tracing::warn!(
                        "The API server's answers have no Date, so that only the monotonic clock \
                         bounds steps of this node's clock."
                    );
                    self.line().agree();
                    COMPARE_EVERY
                }
                Ok(Err(error)) => {
                    tracing::debug!(error, "Cannot read the API server's clock.");
                    COMPARE_AGAIN
                }
                Err(_) => COMPARE_AGAIN,
            };
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.stepped.notified() => {}
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The API server's time. Every account may read its version, and every answer has the time.
async fn server_date(client: &Client) -> Result<Option<Timestamp>, String> {
    let request =
        Request::get("/version").body(Body::empty()).map_err(|error| error.to_string())?;
    let answer = client.send(request).await.map_err(|error| chain(&error))?;
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    date.map(parse).transpose()
}

fn parse(date: &str) -> Result<Timestamp, String> {
    let date = DateTimeParser::new().parse_timestamp(date).map_err(|error| error.to_string())?;
    Ok(Timestamp(date.as_millisecond()))
}

impl Line {
    fn new(at: Timestamp, instant: Instant) -> Self {
        Self {
            at,
            instant,
            last: at,
            has_stepped: false,
            was_certain: false,
            agreement: Agreement::Unknown,
        }
    }

    fn at(&self, instant: Instant) -> Timestamp {
        self.at + instant.saturating_duration_since(self.instant)
    }

    fn read(&mut self, wall: Timestamp, instant: Instant) -> Timestamp {
        let line = self.at(instant);
        let passed = instant.saturating_duration_since(self.instant);
        let slack = JITTER_MS + u64::try_from(passed.as_millis()).unwrap_or(u64::MAX) / SLEW;
        let has_stepped = apart_ms(wall, line) > slack;
        if has_stepped && !self.has_stepped {
            // Who is right is known at the next comparison.
            self.agreement = Agreement::Unknown;
        }
        if !has_stepped && passed >= FOLLOW {
            (self.at, self.instant) = (wall, instant);
        }
        self.has_stepped = has_stepped;
        self.last = self.last.max(self.at(instant));
        self.last
    }

    /// Compares it with what the API server's clock read at `instant`, to the second.
    fn compare(&mut self, date: Timestamp, wall: Timestamp, instant: Instant) -> Agreement {
        self.read(wall, instant);
        let line = self.at(instant);
        if self.has_stepped && apart_ms(wall, date) <= TOLERANCE_MS {
            let by = duration::format(Duration::from_millis(apart_ms(wall, line)));
            tracing::warn!(by, "The clock was set, and the API server's confirms it.");
            (self.at, self.instant, self.has_stepped) = (wall, instant, false);
            self.last = if self.was_certain { self.last.max(wall) } else { wall };
            return self.agree();
        }
        let apart = apart_ms(line, date);
        if apart <= TOLERANCE_MS {
            if self.has_stepped {
                let by = duration::format(Duration::from_millis(apart_ms(wall, line)));
                tracing::warn!(
                    by,
                    "The clock of this node is wrong, by the API server's; the books do not follow \
                     it. Correct it before the auditor restarts."
                );
            }
            return self.agree();
        }
        let by = Duration::from_millis(apart);
        self.agreement = Agreement::Differs(ClockDifference { is_ahead: line > date, by });
        self.agreement
    }

    fn agree(&mut self) -> Agreement {
        self.was_certain = true;
        self.agreement = Agreement::Agrees;
        self.agreement
    }
}

fn apart_ms(one: Timestamp, other: Timestamp) -> u64 {
    one.0.abs_diff(other.0)
}

impl fmt::Display for ClockDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_ahead, by } = self;
        // In whole seconds: more is not known.
        let by = duration::format(Duration::from_secs(by.as_secs()));
        write!(f, "{by} {} the API server's", if *is_ahead { "ahead of" } else { "behind" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Timestamp = Timestamp(1_795_500_000_000);
    const DAY: i64 = 24 * 3600;

    /// A line that was compared at its start, and the clocks around it.
    struct Clocks {
        line: Line,
        start: Instant,
    }

    impl Clocks {
        fn new() -> Self {
            let start = Instant::now();
            let mut line = Line::new(BEGIN, start);
            assert_eq!(line.compare(BEGIN, BEGIN, start), Agreement::Agrees);
            Self { line, start }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// Reads it after these milliseconds, in milliseconds since the start, while the wall clock
        /// is off by some seconds.
        fn read(&mut self, ms: u64, off: i64) -> i64 {
            let now = self.line.read(wall(ms, off), self.at(ms));
            now.0 - BEGIN.0
        }

        fn compare(&mut self, ms: u64, off: i64, server_off: i64) -> Agreement {
            let instant = self.at(ms);
            self.line.compare(wall(ms, server_off), wall(ms, off), instant)
        }
    }

    fn wall(ms: u64, off: i64) -> Timestamp {
        Timestamp(BEGIN.plus_millis(ms).0 + off * 1000)
    }

    #[test]
    fn a_step_is_not_followed_unless_the_api_server_confirms_it() {
        let mut clocks = Clocks::new();
        assert_eq!(clocks.read(60_000, 0), 60_000);
        // A month ahead, by mistake.
        assert_eq!(clocks.read(60_250, 30 * DAY), 60_250);
        assert_eq!(clocks.line.agreement, Agreement::Unknown);
        assert_eq!(clocks.compare(61_000, 30 * DAY, 0), Agreement::Agrees);
        assert_eq!(clocks.read(120_000, 30 * DAY), 120_000);
        // Mended.
        assert_eq!(clocks.read(121_000, 0), 121_000);
        // The machine was suspended: the monotonic clock stood still.
        assert_eq!(clocks.read(122_000, DAY), 122_000);
        assert_eq!(clocks.compare(122_500, DAY, DAY), Agreement::Agrees);
        assert_eq!(clocks.read(123_000, DAY), 123_000 + DAY * 1000);
    }

    #[test]
    fn time_that_is_set_back_goes_on_and_never_backwards() {
        let mut clocks = Clocks::new();
        assert_eq!(clocks.read(60_000, 0), 60_000);
        assert_eq!(clocks.read(60_500, -3600), 60_500);
        assert_eq!(clocks.compare(61_000, -3600, 0), Agreement::Agrees);
        assert_eq!(clocks.read(90_000, -3600), 90_000);
        // It was this clock that was ahead: time stands still until the right one has caught up.
        assert_eq!(clocks.compare(91_000, -3600, -3600), Agreement::Agrees);
        assert_eq!(clocks.read(100_000, -3600), 91_000);
        assert_eq!(clocks.read(3_692_000, -3600), 92_000);
    }

    #[test]
    fn a_clock_that_is_wrong_from_the_start_is_uncertain_until_it_is_corrected() {
        let start = Instant::now();
        let month = BEGIN.plus_millis(30 * 86_400_000);
        let mut line = Line::new(month, start);
        assert_eq!(line.agreement, Agreement::Unknown, "nothing is booked before it is compared");
        let Agreement::Differs(difference) = line.compare(BEGIN, month, start) else {
            panic!("a month ahead of the server")
        };
        assert_eq!(difference.to_string(), "720h ahead of the API server's");
        assert_eq!(line.compare(BEGIN, BEGIN, start), Agreement::Agrees, "it was corrected");
        assert_eq!(line.read(BEGIN, start), BEGIN, "and what was read before does not count");
    }

    #[test]
    fn a_difference_says_who_is_ahead() {
        for (server, expected) in
            [(-31, "31s ahead of the API server's"), (3600, "1h behind the API server's")]
        {
            let mut clocks = Clocks::new();
            let Agreement::Differs(difference) = clocks.compare(1_000, 0, server) else {
                panic!("{server}")
            };
            assert_eq!(difference.to_string(), expected);
            assert_eq!(clocks.compare(2_000, 0, 30), Agreement::Agrees);
        }
    }

    #[test]
    fn a_slewed_clock_is_followed_and_one_that_races_is_not() {
        let mut clocks = Clocks::new();
        for second in 1..600 {
            // A twelfth faster.
            let wall = BEGIN.plus_millis(1000 * second + 1000 * second / 12);
            let read = clocks.line.read(wall, clocks.at(1000 * second));
            assert_eq!(read, wall);
        }
        let mut clocks = Clocks::new();
        for tick in 1..2400 {
            // Twice as fast, read four times a second.
            clocks.line.read(BEGIN.plus_millis(500 * tick), clocks.at(250 * tick));
        }
        let ahead = clocks.line.last.0 - BEGIN.0 - 600_000;
        assert!(ahead < 200, "{ahead} ms ahead after ten minutes");
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert_eq!(parse("Tue, 24 Nov 2026 06:00:00 GMT"), Ok(BEGIN));
        assert!(parse("yesterday").is_err());
    }
}
