use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Key of a record's version, by which a record is found in a termination message.
pub const RECORD_KEY: &str = "daylight.dev/work";

/// Returns the last line of a termination message that is a record of work, if there is one. Other
/// lines are the image's own.
pub fn find_record(message: &str) -> Option<&str> {
    message.lines().rev().find(|line| line.contains(RECORD_KEY)).map(str::trim)
}

/// Record of work: one line of JSON in the container's termination message.
///
/// The agent writes it whole. Of a record, which any image may have written, each reader takes only
/// its part, [`Work`] or [`LastWords`], so that a mistake in one does not make the other unreadable.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WorkRecord {
    #[serde(flatten)]
    pub work: Work,
    #[serde(flatten)]
    pub last_words: LastWords,
    pub engine: String,
    pub algorithm: Option<String>,
    /// Seconds in which the engine ran, all its runs together.
    pub seconds: u64,
    /// Times that the engine was started again.
    pub restarts: u32,
}

/// Work done, as the meter books it. Totals are JSON strings, since many readers of JSON numbers keep
/// only 53 bits; both forms are read, and a total that is left out is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    #[serde(rename = "daylight.dev/work")]
    pub version: Version,
    #[serde(default, serialize_with = "text", deserialize_with = "whole")]
    pub shares_accepted: u64,
    /// Late shares, and those that the pool never answered, included.
    #[serde(default, serialize_with = "text", deserialize_with = "whole")]
    pub shares_rejected: u64,
    #[serde(default, serialize_with = "text", deserialize_with = "whole")]
    pub hashes: u64,
    #[serde(default)]
    pub evidence: Evidence,
}

/// Why the container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWords {
    /// A word of [`crate::Outcome`], or one of another image's own; `None` while the run continues.
    pub reason: Option<String>,
    /// The same as a sentence.
    #[serde(default)]
    pub message: String,
}

/// Version of a record. A record of any other version is not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    #[default]
    #[serde(rename = "v1")]
    V1,
}

/// Source of a record's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The agent is logged in at the pool and saw it accept the shares.
    Seen,
    /// The engine reports them.
    #[default]
    Claimed,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn text<S: Serializer>(total: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(total)
}

fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    struct Whole;

    impl Visitor<'_> for Whole {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number, also as a string")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            text.parse().map_err(E::custom)
        }
    }

    from.deserialize_any(Whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    #[test]
    fn a_record_is_written_as_documented() {
        let record = WorkRecord {
            work: Work {
                shares_accepted: 118,
                shares_rejected: 2,
                hashes: 9_000_000_000,
                ..Work::default()
            },
            last_words: LastWords {
                reason: Some(Outcome::Drained.to_string()),
                message: "SIGTERM: the engine ended within 210.4ms".into(),
            },
            engine: "xmrig".into(),
            algorithm: Some("rx/0".into()),
            seconds: 3600,
            restarts: 0,
        };
        let line = r#"{"daylight.dev/work":"v1","sharesAccepted":"118","sharesRejected":"2","hashes":"9000000000","evidence":"claimed","reason":"Drained","message":"SIGTERM: the engine ended within 210.4ms","engine":"xmrig","algorithm":"rx/0","seconds":3600,"restarts":0}"#;
        assert_eq!(serde_json::to_string(&record).unwrap(), line);
        assert!(line.contains(RECORD_KEY));
        assert_eq!(serde_json::from_str::<Work>(line).unwrap(), record.work);
        assert_eq!(serde_json::from_str::<LastWords>(line).unwrap(), record.last_words);
        let alive = serde_json::to_string(&WorkRecord::default()).unwrap();
        assert!(alive.contains(r#""evidence":"claimed","reason":null,"message":"""#), "{alive}");
    }

    #[test]
    fn the_last_record_of_a_message_is_found() {
        let message = "engine: bye\n {\"daylight.dev/work\":\"v1\",\"hashes\":7} \nlast line";
        let line = find_record(message).unwrap();
        assert_eq!(line, "{\"daylight.dev/work\":\"v1\",\"hashes\":7}");
        assert_eq!(serde_json::from_str::<Work>(line).unwrap().hashes, 7);
        let two = format!("{message}\n{{\"daylight.dev/work\":\"v1\"}}");
        assert_eq!(find_record(&two), Some("{\"daylight.dev/work\":\"v1\"}"));
        assert_eq!(find_record("engine: bye"), None);
    }

    #[test]
    fn each_part_is_read_whatever_the_other_holds() {
        let read = |text: &str| serde_json::from_str::<Work>(text);
        let seen = r#"{"daylight.dev/work":"v1","evidence":"seen","reason":7,"fan":true}"#;
        assert_eq!(read(seen).unwrap(), Work { evidence: Evidence::Seen, ..Work::default() });
        for wrong in [
            r#"{"hashes":"1"}"#,
            r#"{"daylight.dev/work":"v9","hashes":"1"}"#,
            r#"{"daylight.dev/work":"v1","hashes":"-1"}"#,
            r#"{"daylight.dev/work":"v1","hashes":-1}"#,
            r#"{"daylight.dev/work":"v1","hashes":1.5}"#,
            r#"{"daylight.dev/work":"v1","hashes":null}"#,
            r#"{"daylight.dev/work":"v1","evidence":"notarised"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let words = r#"{"daylight.dev/work":"v9","hashes":"-1","reason":"Melted"}"#;
        let words: LastWords = serde_json::from_str(words).unwrap();
        let expected = LastWords { reason: Some("Melted".into()), message: String::new() };
        assert_eq!(words, expected);
    }
}
