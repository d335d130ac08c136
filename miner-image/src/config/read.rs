//! Reads the file, and reports each mistake of form with its line.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde::de::Error as _;
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Deserializer};

use super::{Config, Mistake};

/// Mistakes after which reading stops: it is probably another kind of file.
const MAX_MISTAKES: usize = 20;

impl Config {
    /// Reads `file`. If it may be `missing`, a file that does not exist is an empty one.
    ///
    /// # Errors
    ///
    /// All mistakes of form that can be found in one reading.
    pub(crate) fn read(file: &Path, missing: bool) -> Result<Self, Vec<Mistake>> {
        match fs::read_to_string(file) {
            Ok(text) => parse(&text, &file.display().to_string()),
            Err(error) if missing && error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(vec![Mistake::new(
                file.display().to_string(),
                format!("the configuration cannot be read: {error}"),
            )]),
        }
    }
}

/// Parses `text`. A TOML parser stops at the first mistake, so that the line with it is removed and the
/// rest parsed again, until all mistakes are known.
fn parse(text: &str, name: &str) -> Result<Config, Vec<Mistake>> {
    let mut text = text.to_owned();
    let mut mistakes = Vec::new();
    loop {
        let error = match toml::from_str(&text) {
            Ok(config) if mistakes.is_empty() => return Ok(config),
            Ok(_) => break,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let line = text[..span.start].matches('\n').count() + 1;
        let sentence = error.message().trim().replace('\n', ", ");
        mistakes.push((line, sentence));
        let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        // Only a line that is a key and its value can be removed without changing what follows.
        let alone = &text[start..end];
        let pair = !alone.trim_start().starts_with('[') && alone.parse::<toml::Table>().is_ok();
        if !pair || span.end > end || mistakes.len() == MAX_MISTAKES {
            break;
        }
        text.replace_range(start..end, "");
    }
    if let Some(other) = other_form(&text) {
        let sentence = format!("this is {other}: write TOML, such as `engine.name = \"xmrig\"`");
        return Err(vec![Mistake::new(name, sentence)]);
    }
    mistakes.sort();
    let place = |line| format!("{name}, line {line}");
    Err(mistakes.into_iter().map(|(line, sentence)| Mistake::new(place(line), sentence)).collect())
}

/// Returns the form of a text that is not TOML, if its first line shows it.
fn other_form(text: &str) -> Option<&'static str> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let is_key = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if first.starts_with('{') {
        Some("JSON")
    } else if first == "---" || first.split_once(':').is_some_and(|(key, _)| is_key(key)) {
        Some("YAML")
    } else {
        None
    }
}

/// Longest duration, so that adding one to the current time cannot overflow.
const LONGEST: Duration = Duration::from_hours(1000);

/// Reads a duration in Go's notation.
pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let duration = daylight_base::duration::parse(&text).map_err(D::Error::custom)?;
    if duration > LONGEST {
        return Err(D::Error::custom(format!("{text:?} is too long: write at most 1000h")));
    }
    Ok(duration)
}

/// Reads a value of an enum by its name.
pub(super) fn word<'de, T: Deserialize<'de>>(name: &'de str) -> Result<T, String> {
    T::deserialize(StrDeserializer::<Error>::new(name)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        parse(text, "miner.toml").unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_is_shown_with_its_line() {
        let said = mistakes(
            "[engine]\ncommand = \"xmrig\"\nname = \"command\"\n\n[drain]\ngrace = \"soon\"\ngrade = 5\n",
        );
        assert_eq!(
            said,
            [
                "miner.toml, line 2: invalid type: string \"xmrig\", expected a sequence",
                "miner.toml, line 6: \"soon\" is not a duration: write whole numbers with the units h, m, s or ms, such as 30s, 10m or 1h30m",
                "miner.toml, line 7: unknown field `grade`, expected one of `grace`, `margin`, `hook`, `signal`",
            ]
        );
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let read = |text: &str| duration(StrDeserializer::<Error>::new(text));
        let cases =
            [("90s", 90_000), ("1m30s", 90_000), ("250ms", 250), ("1h", 3_600_000), ("0s", 0)];
        for (text, millis) in cases {
            assert_eq!(read(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "5 s", "-5s", "5d", "1.5s", "99999999999999999999s"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("is not a duration"), "{error}");
        }
        assert_eq!(read("1000h"), Ok(LONGEST));
        let error = read("1001h").unwrap_err().to_string();
        assert_eq!(error, "\"1001h\" is too long: write at most 1000h");
    }

    #[test]
    fn a_file_that_is_not_toml_is_one_mistake() {
        assert_eq!(mistakes("[engine\nname = 1").len(), 1);
    }

    #[test]
    fn another_form_is_named() {
        for (text, form) in [
            ("{\"engine\": {\"name\": \"xmrig\"}}", "JSON"),
            ("# mine\nengine:\n  name: xmrig\n", "YAML"),
            ("---\nengine:\n", "YAML"),
        ] {
            let said = mistakes(text);
            assert!(
                said.len() == 1 && said[0].contains(&format!("this is {form}: write TOML")),
                "{said:?}"
            );
        }
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        assert!(parse("", "miner.toml").is_ok());
    }
}
