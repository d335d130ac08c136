//! Durations in Go's notation, as Kubernetes users write them: `30s`, `10m`, `1h30m`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use daylight_base::duration::{self, InvalidDuration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A duration in Go's notation, limited to hours, minutes, seconds and milliseconds.
///
/// The text is kept as it was written: reading an object and writing it again changes nothing,
/// on which the digests of specs depend. Durations of equal length are equal: `90s` equals
/// `1m30s`.
#[derive(Clone, Debug)]
pub struct GoDuration {
    text: String,
    value: Duration,
}

impl GoDuration {
    /// Returns a duration of whole seconds.
    pub fn from_secs(seconds: u64) -> Self {
        Duration::from_secs(seconds).into()
    }

    /// Returns the duration as the standard library's type.
    pub fn as_duration(&self) -> Duration {
        self.value
    }

    /// Returns the duration in whole seconds, rounded down.
    pub fn as_secs(&self) -> u64 {
        self.value.as_secs()
    }

    /// Returns the text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { text: text.to_owned(), value: duration::parse(text)? })
    }
}

impl From<Duration> for GoDuration {
    /// Writes the shortest text, such as `1h30m`. Fractions of a millisecond are dropped.
    fn from(value: Duration) -> Self {
        let value = Duration::new(value.as_secs(), value.subsec_millis() * 1_000_000);
        Self { text: duration::format(value), value }
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
            "maxLength": duration::MAX_LENGTH,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('{}')", duration::PATTERN),
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
    fn keeps_the_text_as_written() {
        let duration: GoDuration = "90s".parse().unwrap();
        assert_eq!(duration.as_duration(), Duration::from_secs(90));
        assert_eq!(duration.to_string(), "90s");
        assert_eq!(GoDuration::from(Duration::from_secs(90)).as_str(), "1m30s");
    }

    #[test]
    fn equal_when_equally_long() {
        assert_eq!("90s".parse::<GoDuration>(), "1m30s".parse::<GoDuration>());
    }
}
