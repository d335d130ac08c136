//! Series in the Prometheus text format, by their name and labels.

use daylight_exposition::{Sample, samples};

/// Name of a series, and labels that it must have.
#[derive(Debug, PartialEq)]
pub(super) struct Selector {
    name: String,
    labels: Vec<(String, String)>,
}

impl Selector {
    /// Reads `name` or `name{label="value",…}`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // A line of the format without its number.
        let line = format!("{} NaN", text.trim());
        let sample = Sample::parse(&line).filter(|sample| sample.value.is_nan())?;
        let labels = sample.labels().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(Self { name: sample.name.to_owned(), labels: labels.collect() })
    }

    fn matches(&self, sample: &Sample<'_>) -> bool {
        let has = |(name, value): &(String, String)| {
            sample.labels().any(|(label, of)| label == name && of == value)
        };
        self.labels.iter().all(has)
    }
}

/// Adds up all series in `text` that `selector` matches; `None` if there is none.
pub(super) fn sum(text: &str, selector: &Selector) -> Option<f64> {
    samples(text, |name| name == selector.name)
        .filter(|sample| selector.matches(sample) && sample.value.is_finite())
        .map(|sample| sample.value)
        .reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_added_up_by_name_and_labels() {
        let text = "# HELP h help\n# TYPE h gauge\nh{a=\"x, y\",b=\"say \\\"it\\\" \\\\\"} 2.5\n\
                    h 1e3\nhh 7\nh{a=\"x\"} 4\n";
        let of = |selector| sum(text, &Selector::parse(selector).unwrap());
        assert_eq!(of(r#"h{a="x, y"}"#), Some(2.5));
        assert_eq!(of(r#"h{b="say \"it\" \\"}"#), Some(2.5));
        assert_eq!(of(" h "), Some(1006.5));
        assert_eq!(of(r#"h{c="x"}"#), None);
    }

    #[test]
    fn what_is_broken_is_not_a_series() {
        for text in ["", "{}", "h{a=1}", "h{a=\"x", "h{a", "h x", "h 5"] {
            assert_eq!(Selector::parse(text), None, "{text}");
        }
        assert_eq!(sum("h{a=\"x\nh NaN\nh{}} \n", &Selector::parse("h").unwrap()), None);
    }
}
