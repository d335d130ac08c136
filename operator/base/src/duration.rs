//! Durations in Go's notation, as Kubernetes users write them: `30s`, `10m`, `1h30m`.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// The longest text accepted, in characters.
pub const MAX_LENGTH: usize = 32;

/// A regular expression that matches what [`parse`] accepts, apart from the length.
pub const PATTERN: &str = "^([0-9]{1,9}(h|ms|m|s))+$";

/// The error for a text that is not a duration. It holds the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDuration(pub String);

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a duration: write whole numbers with the units h, m, s or ms, such as \
             30s, 10m or 1h30m",
            self.0
        )
    }
}

impl std::error::Error for InvalidDuration {}

/// Reads whole numbers with the units `h`, `m`, `s` and `ms`, in any order, at least one.
///
/// # Errors
///
/// [`InvalidDuration`] for anything else, for a number of more than nine digits, and for a text
/// longer than [`MAX_LENGTH`].
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    if text.is_empty() || text.len() > MAX_LENGTH {
        return Err(invalid());
    }
    let mut millis = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=9).contains(&digits) {
            return Err(invalid());
        }
        let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        let (unit, after) = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)]
            .into_iter()
            .find_map(|(unit, millis)| Some((millis, rest[digits..].strip_prefix(unit)?)))
            .ok_or_else(invalid)?;
        // At most nine digits of hours in at most sixteen parts: far below the end of u64.
        millis += number * unit;
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

/// Writes the shortest text that [`parse`] reads, such as `1h30m`. What is below a millisecond is
/// dropped.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_millis()), "ms"),
    ];
    let mut text = String::new();
    for (number, unit) in parts {
        if number > 0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "{number}{unit}");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, millis) in [
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("90s", 90_000),
            ("250ms", 250),
            ("1m500ms", 60_500),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn rejects_what_is_not_a_duration() {
        let long = "1s".repeat(MAX_LENGTH);
        for text in
            ["", "30", "s", "5 s", "-1s", "1d", "1.5h", "1h 30m", "9999999999s", "³s", &long]
        {
            assert_eq!(parse(text), Err(InvalidDuration(text.to_owned())));
        }
    }

    #[test]
    fn writes_the_shortest_text() {
        for (millis, text) in [(0, "0s"), (90_000, "1m30s"), (3_600_000, "1h"), (1_500, "1s500ms")]
        {
            assert_eq!(format(Duration::from_millis(millis)), text);
        }
    }
}
