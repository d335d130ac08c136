//! The metrics of a process, each registered once, and the table in `docs/metrics.md` with which a
//! test compares them.

use prometheus::Registry;
use prometheus::core::Collector;

/// Registers metrics and lists their rows of the table. Two of the same name are an error at once.
#[derive(Debug)]
pub struct Register {
    registry: Registry,
    rows: Vec<Row>,
}

/// A figure as a gauge has it: the largest that it can have in place of larger ones.
pub(crate) fn signed(figure: impl TryInto<i64>) -> i64 {
    figure.try_into().unwrap_or(i64::MAX)
}

/// The row of a metric in the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub name: String,
    /// `gauge`, `counter` or `histogram`.
    pub kind: String,
    pub labels: Vec<String>,
}

impl Register {
    /// Creates a register without metrics.
    pub fn new(registry: &Registry) -> Self {
        Self { registry: registry.clone(), rows: Vec::new() }
    }

    /// Registers a metric.
    pub fn add<C: Collector + Clone + 'static>(
        &mut self,
        made: prometheus::Result<C>,
    ) -> prometheus::Result<C> {
        let metric = made?;
        self.registry.register(Box::new(metric.clone()))?;
        for (family, desc) in metric.collect().iter().zip(metric.desc()) {
            self.rows.push(Row {
                name: desc.fq_name.clone(),
                kind: format!("{:?}", family.get_field_type()).to_lowercase(),
                labels: desc.variable_labels.clone(),
            });
        }
        Ok(metric)
    }

    /// The rows of all metrics that were registered.
    pub fn rows(self) -> Vec<Row> {
        self.rows
    }
}

/// The rows of the table below a heading of a Markdown text. Its columns are metric, type, unit,
/// labels and meaning.
#[cfg(test)]
pub(crate) fn documented(text: &str, heading: &str) -> Vec<Row> {
    let mut lines = text.lines().skip_while(|line| *line != format!("## {heading}")).skip(1);
    let mut rows = Vec::new();
    for line in lines.by_ref().take_while(|line| !line.starts_with("## ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, _unit, labels, meaning] = &cells[..] else { continue };
        if !name.starts_with("`daylight_") {
            continue;
        }
        assert!(!meaning.is_empty(), "{name} has no meaning");
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        rows.push(Row {
            name: name.trim_matches('`').to_owned(),
            kind: (*kind).to_owned(),
            labels: labels.filter(|label| !label.is_empty()).collect(),
        });
    }
    rows
}

/// Panics where the table below a heading of `docs/metrics.md` and the code differ, in either
/// direction.
#[cfg(test)]
pub(crate) fn check(heading: &str, mut registered: Vec<Row>) {
    let mut rows = documented(include_str!("../../docs/metrics.md"), heading);
    rows.sort();
    registered.sort();
    for row in &registered {
        assert!(rows.contains(row), "docs/metrics.md, {heading}: no row is {row:?}");
    }
    for row in &rows {
        assert!(registered.contains(row), "docs/metrics.md, {heading}: no metric is {row:?}");
    }
}
