//! The Prometheus text format: `name{label="value",…} number [timestamp]` on each line
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

// Not one of the parsers on crates.io: prometheus-parse splits labels at each comma and takes the
// text in front of any `=` for a name, so that the value of one label can pass for another label.
// openmetrics-parser refuses a whole answer for one line that is broken.

use std::borrow::Cow;

/// Sample of a series: one line of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    pub name: &'a str,
    pub value: f64,
    /// In the order of the line, each name once, values without escapes.
    labels: Vec<(&'a str, Cow<'a, str>)>,
}

/// Returns the samples of an answer whose names `is_wanted` accepts. Comments and lines that cannot
/// be read are skipped, so that a truncated answer yields what it has.
pub fn samples(text: &str, is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Sample<'_>> {
    // An answer has hundreds of lines for each device, most of which no one wants.
    let wanted =
        text.lines().filter(move |line| name(blank(line)).is_some_and(|(it, _)| is_wanted(it)));
    wanted.filter_map(Sample::parse)
}

impl<'a> Sample<'a> {
    /// Reads a line; `None` if it is a comment, empty or broken, or has a label twice.
    ///
    /// The timestamp is not used, but has to be a number.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (name, rest) = name(blank(line))?;
        let mut labels = Vec::new();
        let rest = match blank(rest).strip_prefix('{') {
            Some(inner) => read_labels(inner, &mut labels)?,
            None => rest.strip_prefix([' ', '\t'])?,
        };
        let mut numbers = rest.split_ascii_whitespace();
        let value = numbers.next()?.parse().ok()?;
        if let Some(timestamp) = numbers.next() {
            timestamp.parse::<f64>().ok()?;
        }
        numbers.next().is_none().then_some(Self { name, value, labels })
    }

    /// Returns the value of a label; `None` if it is missing or empty, which are the same in the
    /// data model of Prometheus.
    pub fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| *label == name);
        found.map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }

    /// Iterates over all labels, in the order of the line.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (*name, &**value))
    }
}

/// Reads the labels up to the closing brace; returns the text after it.
fn read_labels<'a>(text: &'a str, labels: &mut Vec<(&'a str, Cow<'a, str>)>) -> Option<&'a str> {
    let mut text = blank(text);
    loop {
        if let Some(rest) = text.strip_prefix('}') {
            return Some(rest);
        }
        let (name, rest) = label_name(text)?;
        let (value, rest) = quoted(blank(blank(rest).strip_prefix('=')?))?;
        // Prometheus refuses such a line. A pod's own labels, which dcgm-exporter can add, must not
        // replace those of the exporter.
        if labels.iter().any(|(known, _)| *known == name) {
            return None;
        }
        labels.push((name, value));
        let rest = blank(rest);
        text = match rest.strip_prefix(',') {
            Some(next) => blank(next),
            None if rest.starts_with('}') => rest,
            None => return None,
        };
    }
}

/// Reads a value in quotes, with the escapes `\\`, `\"` and `\n`; returns it and the text after it.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = Cow::Borrowed("");
    loop {
        let (plain, tail) = rest.split_at(rest.find(['"', '\\'])?);
        value += plain;
        if let Some(tail) = tail.strip_prefix('"') {
            return Some((value, tail));
        }
        let mut escaped = tail.chars();
        escaped.next();
        match escaped.next()? {
            'n' => value += "\n",
            same @ ('"' | '\\') => value.to_mut().push(same),
            // Some exporters write values as they are. Prometheus keeps the backslash as well.
            other => value.to_mut().extend(['\\', other]),
        }
        rest = escaped.as_str();
    }
}

fn blank(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

fn name(text: &str) -> Option<(&str, &str)> {
    word(text, |c| c == '_' || c == ':')
}

fn label_name(text: &str) -> Option<(&str, &str)> {
    word(text, |c| c == '_')
}

/// Splits after the letters, digits and `more` at the start; `None` without one, or if it is a digit.
fn word(text: &str, more: fn(char) -> bool) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !more(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let is_word = word.starts_with(|c: char| !c.is_ascii_digit());
    is_word.then_some((word, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Labels and value of a line.
    fn read(line: &str) -> Option<(Vec<(&str, String)>, f64)> {
        let sample = Sample::parse(line)?;
        let labels = sample.labels.into_iter().map(|(name, value)| (name, value.into_owned()));
        Some((labels.collect(), sample.value))
    }

    #[test]
    fn labels_may_hold_any_text() {
        for (line, labels, value) in [
            (r"up 1", vec![], 1.0),
            ("\t up\t1e3 1767225600000 ", vec![], 1000.0),
            (r"up{} -2.5", vec![], -2.5),
            (r#"up{a="x, b=y {z}"} 3"#, vec![("a", "x, b=y {z}")], 3.0),
            (r#"up { a = "1" , b_2="", } 4"#, vec![("a", "1"), ("b_2", "")], 4.0),
            (
                r#"up{a="say \"no\" \\ then\nstop \d"}5"#,
                vec![("a", "say \"no\" \\ then\nstop \\d")],
                5.0,
            ),
            ("up{a=\"Grüße\"} 6", vec![("a", "Grüße")], 6.0),
        ] {
            let labels = labels.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
            assert_eq!(read(line), Some((labels, value)), "{line}");
        }
        assert_eq!(Sample::parse("up{a=\"\"} 1").unwrap().label("a"), None);
        assert!(Sample::parse("up NaN").unwrap().value.is_nan());
        assert!(Sample::parse("up +Inf").is_some_and(|sample| sample.value > f64::MAX));
    }

    #[test]
    fn a_line_that_is_broken_or_ambiguous_is_no_sample() {
        for line in [
            "",
            "# HELP up Is it up.",
            "up",
            "up{",
            "up{a",
            "up{a=",
            "up{a=1} 1",
            "up{a=\"x} 1",
            "up{a=\"x\\",
            "up{a=\"x\" b=\"y\"} 1",
            "up{a=\"x\",,b=\"y\"} 1",
            "up{,} 1",
            "up{1a=\"x\"} 1",
            "up{a=\"x\"}",
            "up{a=\"x\"} one",
            "up 1 now",
            "up 1 2 3",
            "1up 1",
            "up+1",
            // The same label twice.
            r#"up{pod="mine",pod="victim"} 1"#,
            // A quotation mark that its exporter did not escape.
            r#"up{model="broken,pod="p7",namespace="a"} 107"#,
        ] {
            assert_eq!(Sample::parse(line), None, "{line}");
        }
    }

    #[test]
    fn only_samples_that_are_wanted_are_read() {
        let text = "# TYPE up gauge\nup 1\nupper 2\nup{a=\"x\nup{a=\"x\"} 3\n";
        let values: Vec<f64> = samples(text, |name| name == "up").map(|it| it.value).collect();
        assert_eq!(values, [1.0, 3.0]);
    }

    fn escape(value: &str) -> String {
        value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
    }

    proptest! {
        #[test]
        fn a_sample_that_is_written_is_read(
            values in prop::collection::vec("([a-z,=\\\\\"{}\n ]|\\PC){0,12}", 0..5),
            blank in "[ \t]{0,2}",
            number in any::<f64>().prop_filter("a number", |number| !number.is_nan()),
        ) {
            let names = ["a", "b_1", "_c", "D", "e"];
            let labels: Vec<String> = names.iter().zip(&values)
                .map(|(name, value)| format!("{blank}{name}{blank}={blank}\"{}\"{blank}", escape(value)))
                .collect();
            let line = format!("m:x{blank}{{{}}}{blank}{number}", labels.join(","));
            let sample = Sample::parse(&line);
            prop_assert!(sample.is_some(), "{line}");
            let sample = sample.unwrap();
            prop_assert_eq!((sample.name, sample.value), ("m:x", number));
            let read: Vec<String> = sample.labels().map(|(_, value)| value.to_owned()).collect();
            prop_assert_eq!(read, values);
        }
    }
}
