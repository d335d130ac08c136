//! Finds series in the Prometheus text format, with one sample per line:
//! `name{label="value",…} number [timestamp]`
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

// Not the crate prometheus-parse, with which the tests compare: it splits labels at each comma, drops
// a label whose value holds `=`, ends them at the first `}`, and leaves escapes as they are, so that a
// selector such as `{pool="a=b, c"}` could never match. It would also bring regex and chrono into the
// agent.

/// Name of a series, and labels that it must have.
#[derive(Debug, PartialEq)]
pub(super) struct Selector {
    name: String,
    labels: Vec<(String, String)>,
}

impl Selector {
    /// Reads `name` or `name{label="value",…}`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (series, rest) = series(text)?;
        rest.trim().is_empty().then_some(series)
    }

    fn matches(&self, other: &Self) -> bool {
        self.name == other.name && self.labels.iter().all(|label| other.labels.contains(label))
    }
}

/// Adds up all series in `text` that `selector` matches; `None` if there is none.
pub(super) fn sum(text: &str, selector: &Selector) -> Option<f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (found, rest) = series(line)?;
            let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
            (selector.matches(&found) && value.is_finite()).then_some(value)
        })
        .reduce(|sum, value| sum + value)
}

/// Reads a series at the start of `text`; returns it and the rest.
fn series(text: &str) -> Option<(Selector, &str)> {
    let text = text.trim_start();
    let end = text.find(|c: char| !word(c)).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner.trim_start();
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once('=')?;
            let (value, after) = quoted(after.trim_start())?;
            labels.push((label.trim().to_owned(), value));
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        rest = &rest[1..];
    }
    Some((Selector { name: name.to_owned(), labels }, rest))
}

fn word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Reads a value in quotes, with the escapes `\\`, `\"` and `\n`; returns it and the rest.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.strip_prefix('"')?.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 2..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_prometheus_parse_reads() {
        let text =
            "# HELP h help\n# TYPE h gauge\nh{a=\"x, y\",b=\"say \\\"it\\\" \\\\\"} 2.5\nh 1e3\n";
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let other = prometheus_parse::Scrape::parse(lines).unwrap();
        let value = |labelled: bool| {
            let found = other.samples.iter().find(|sample| sample.labels.is_empty() != labelled);
            match found.map(|sample| &sample.value) {
                Some(prometheus_parse::Value::Gauge(value)) => *value,
                _ => f64::NAN,
            }
        };
        let labelled = Selector::parse(r#"h{a="x, y"}"#).unwrap();
        assert_eq!(sum(text, &labelled), Some(value(true)));
        let all = value(true) + value(false);
        assert_eq!(sum(text, &Selector::parse("h").unwrap()), Some(all));
    }

    #[test]
    fn what_is_broken_is_not_a_series() {
        for text in ["", "{}", "h{a=1}", "h{a=\"x", "h{a", "h x"] {
            assert_eq!(Selector::parse(text), None, "{text}");
        }
        assert_eq!(sum("h{a=\"x\nh NaN\nh{}} \n", &Selector::parse("h").unwrap()), None);
    }
}
