//! Durations as Kubernetes users write them: `30s`, `10m`, `1h30m`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A length of time in Go's notation, limited to hours, minutes, seconds and milliseconds.
///
/// The text is kept as it was written, so that reading an object and writing it again changes
/// nothing (digests of specs depend on that). Two durations are equal when they last equally
/// long: `90s` equals `1m30s`.
#[derive(Clone, Debug)]
pub struct GoDuration {
    text: String,
    value: Duration,
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDuration(String);

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a duration: write numbers with the units h, m, s or ms, such as 30s, \
             10m or 1h30m",
            self.0
        )
    }
}

impl std::error::Error for InvalidDuration {}

impl GoDuration {
    /// The longest text accepted, in characters.
    pub const MAX_LENGTH: u32 = 32;

    /// What the API server accepts: whole numbers with units, in any order, at least one.
    pub const PATTERN: &str = "^([0-9]{1,9}(h|ms|m|s))+$";

    /// A duration of whole seconds.
    pub fn from_secs(seconds: u64) -> Self {
        Duration::from_secs(seconds).into()
    }

    /// The same as the standard library's type.
    pub fn as_duration(&self) -> Duration {
        self.value
    }

    /// The whole seconds in it, rounded down.
    pub fn as_secs(&self) -> u64 {
        self.value.as_secs()
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDuration(text.to_owned());
        let mut millis = 0_u64;
        let mut rest = text;
        if text.is_empty() || text.len() > Self::MAX_LENGTH as usize {
            return Err(invalid());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=9).contains(&digits) {
                return Err(invalid());
            }
            let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
            let tail = &rest[digits..];
            let (unit, unit_millis) = if tail.starts_with("ms") {
                ("ms", 1)
            } else if tail.starts_with('s') {
                ("s", 1_000)
            } else if tail.starts_with('m') {
                ("m", 60_000)
            } else if tail.starts_with('h') {
                ("h", 3_600_000)
            } else {
                return Err(invalid());
            };
            // At most nine digits of hours, at most sixteen parts: far below u64's end.
            millis += number * unit_millis;
            rest = &tail[unit.len()..];
        }
        Ok(Self { text: text.to_owned(), value: Duration::from_millis(millis) })
    }
}

impl From<Duration> for GoDuration {
    /// Writes the shortest text, such as `1h30m`; what is below a millisecond is dropped.
    fn from(value: Duration) -> Self {
        let value = Duration::new(value.as_secs(), value.subsec_millis() * 1_000_000);
        let seconds = value.as_secs();
        let parts = [
            (seconds / 3600, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
            (u64::from(value.subsec_millis()), "ms"),
        ];
        let mut text = String::new();
        for (number, unit) in parts {
            if number > 0 {
                text.push_str(&number.to_string());
                text.push_str(unit);
            }
        }
        if text.is_empty() {
            text.push_str("0s");
        }
        Self { text, value }
    }
}

impl From<GoDuration> for Duration {
    fn from(duration: GoDuration) -> Self {
        duration.value
    }
}

impl PartialEq for GoDuration {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for GoDuration {}

impl PartialOrd for GoDuration {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for GoDuration {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.value.cmp(&other.value)
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": Self::MAX_LENGTH,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('{}')", Self::PATTERN),
                "message": "must be a duration: write whole numbers with the units h, m, s or \
                            ms, such as 30s, 10m or 1h30m",
            }],
        })
    }
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
            let duration: GoDuration = text.parse().unwrap();
            assert_eq!(duration.as_duration(), Duration::from_millis(millis), "{text}");
            assert_eq!(duration.to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "30", "s", "5 s", "-1s", "1d", "1.5h", "1h 30m", "9999999999s", "³s"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn writes_the_shortest_text() {
        for (millis, text) in [(0, "0s"), (90_000, "1m30s"), (3_600_000, "1h"), (1_500, "1s500ms")]
        {
            assert_eq!(GoDuration::from(Duration::from_millis(millis)).as_str(), text);
        }
    }

    #[test]
    fn equal_when_equally_long() {
        assert_eq!("90s".parse::<GoDuration>(), "1m30s".parse::<GoDuration>());
    }
}
