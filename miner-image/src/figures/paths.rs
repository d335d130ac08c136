//! Reads the figures at the places that the configuration names.

use serde_json::Value;

use super::Figures;
use super::prometheus::{Selector, sum};
use crate::config::{FigureSource, Format};

impl FigureSource {
    /// Returns the configured places, with the names of their figures.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("hashrate", &self.hashrate),
            ("hashes", &self.hashes),
            ("shares_accepted", &self.shares_accepted),
            ("shares_rejected", &self.shares_rejected),
            ("shares_stale", &self.shares_stale),
            ("difficulty", &self.difficulty),
            ("connected", &self.connected),
            ("authorised", &self.authorised),
        ]
        .into_iter()
        .filter_map(|(name, path)| Some((name, path.as_deref()?)))
    }

    fn collect(&self, number: impl Fn(&str) -> Option<f64>) -> Figures {
        let at = |path: &Option<String>| path.as_deref().and_then(&number);
        let whole = |path| at(path).filter(|number| *number >= 0.0).map(|number| number as u64);
        let truth = |path| at(path).map(|number| number != 0.0);
        Figures {
            connected: truth(&self.connected),
            authorised: truth(&self.authorised),
            hashrate: at(&self.hashrate).map(|rate| rate * self.hashrate_scale),
            hashes: at(&self.hashes),
            shares_accepted: whole(&self.shares_accepted),
            shares_rejected: whole(&self.shares_rejected),
            shares_stale: whole(&self.shares_stale),
            difficulty: at(&self.difficulty),
            ..Figures::default()
        }
    }
}

impl Format {
    /// Checks that `path` is a place in this format.
    pub(crate) fn accepts(self, path: &str) -> Result<(), String> {
        match self {
            Self::Json if !path.starts_with('/') => {
                Err(format!("\"{path}\" is not a JSON pointer: it must begin with /"))
            }
            Self::Json => Ok(()),
            Self::Prometheus => Selector::parse(path).map(|_| ()).ok_or_else(|| {
                format!("\"{path}\" does not name a series: write name or name{{label=\"value\"}}")
            }),
        }
    }
}

/// Reads the figures in a JSON answer.
pub(super) fn json(source: &FigureSource, body: &[u8]) -> Result<Figures, String> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| format!("the answer is not JSON: {error}"))?;
    Ok(source.collect(|path| number(value.pointer(path)?)))
}

/// Reads the figures in an answer in the Prometheus text format.
pub(super) fn prometheus(source: &FigureSource, body: &[u8]) -> Result<Figures, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
    Ok(source.collect(|path| sum(text, &Selector::parse(path)?)))
}

/// Returns a number as engines write it: some write it as a string.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> FigureSource {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn json_figures_are_read_where_the_configuration_says() {
        let source = source(
            r#"
            address = "http://127.0.0.1:80"
            format = "json"
            hashrate = "/total/0"
            hashrate_scale = 1e6
            shares_accepted = "/shares/ok"
            shares_rejected = "/shares/none"
            connected = "/up"
            "#,
        );
        let figures =
            json(&source, br#"{"total":[1.5,2],"shares":{"ok":"7"},"up":true,"odd":[]}"#).unwrap();
        let expected = Figures {
            hashrate: Some(1.5e6),
            shares_accepted: Some(7),
            connected: Some(true),
            ..Figures::default()
        };
        assert_eq!(figures, expected);
        assert!(json(&source, b"<html>").is_err());
    }

    #[test]
    fn prometheus_series_that_match_are_added_up() {
        let source = source(
            r#"
            address = "http://127.0.0.1:80"
            format = "prometheus"
            hashrate = "hashrate"
            shares_accepted = 'shares_total{result="ok"}'
            "#,
        );
        let text = "# TYPE hashrate gauge\nhashrate{gpu=\"0\"} 10\nhashrate{gpu=\"1\"} 5.5 1700000000\n\
                    shares_total{gpu=\"0\",result=\"ok\"} 3\nshares_total{result=\"bad\"} 9\n";
        let figures = prometheus(&source, text.as_bytes()).unwrap();
        assert_eq!(figures.hashrate, Some(15.5));
        assert_eq!(figures.shares_accepted, Some(3));
    }
}
