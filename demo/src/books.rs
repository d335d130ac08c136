//! The auditor's books, by class.

use std::collections::BTreeSet;
use std::fmt;

use crate::Scrape;

/// A kilowatt-hour.
const JOULES: f64 = 3_600_000.0;

/// The books as the auditor's metrics show them.
pub(super) struct Books {
    /// Whether they add up to the last unit.
    pub(super) closed: bool,
    /// GPU-hours and kilowatt-hours by class, then those of GPUs that no pod held.
    lines: Vec<(String, Amount, Amount)>,
}

impl Books {
    pub(super) fn read(scrape: &Scrape) -> Self {
        let held = scrape.series("daylight_assigned_gpu_seconds_total");
        let class = |(labels, _): (&str, f64)| {
            let class = labels.split(',').find(|label| label.starts_with("class=\""));
            class.map(str::to_owned)
        };
        let classes: BTreeSet<String> = held.filter_map(class).collect();
        let of_class = |class: &str, total: &str, bound: &str, unit: f64| Amount {
            value: scrape.sum(total, &[class]) / unit,
            off: Some(
                ["side=\"below\"", "side=\"above\""]
                    .map(|side| scrape.sum(bound, &[class, side]) / unit),
            ),
        };
        let mut lines: Vec<_> = classes
            .iter()
            .map(|class| {
                let (held, off) =
                    ("daylight_assigned_gpu_seconds_total", "daylight_time_error_bound_seconds");
                let hours = of_class(class, held, off, 3600.0);
                let (drew, off) =
                    ("daylight_gpu_energy_joules_total", "daylight_energy_error_bound_joules");
                let kwh = of_class(class, drew, off, JOULES);
                (class.trim_start_matches("class=").trim_matches('"').to_owned(), hours, kwh)
            })
            .collect();
        for name in ["idle", "unavailable", "unexplained"] {
            let of = |total: &str, label: &str, unit: f64| Amount {
                value: scrape.sum(total, &[&format!("{label}=\"{name}\"")]) / unit,
                off: None,
            };
            let hours = of("daylight_device_seconds_total", "use", 3600.0);
            let kwh = of("daylight_unheld_energy_joules_total", "kind", JOULES);
            if hours.value + kwh.value > 0.0 {
                lines.push((name.to_owned(), hours, kwh));
            }
        }
        let closed = scrape.series("daylight_books_closed").any(|(_, value)| value > 0.0);
        Self { closed, lines }
    }

    pub(super) fn hours(&self) -> f64 {
        self.lines.iter().map(|(_, hours, _)| hours.value).sum()
    }

    pub(super) fn kwh(&self) -> f64 {
        self.lines.iter().map(|(.., kwh)| kwh.value).sum()
    }

    /// Whether each of these classes has time and energy.
    pub(super) fn have_energy_of(&self, classes: &[&str]) -> bool {
        let of = |class: &&str| {
            let mut lines = self.lines.iter().filter(|(name, ..)| name == class);
            lines.any(|(_, hours, kwh)| hours.value > 0.0 && kwh.value > 0.0)
        };
        classes.iter().all(of)
    }

    /// The GPU-hours of a class.
    pub(super) fn hours_of(&self, class: &str) -> f64 {
        let lines = self.lines.iter().filter(|(name, ..)| name == class);
        lines.map(|(_, hours, _)| hours.value).sum()
    }

    /// Formats all amounts as a table; without energy if there is none.
    pub(super) fn table(&self) -> String {
        let energy = self.kwh() > 0.0;
        let heading = if energy { "          kWh  error bound" } else { "" };
        let heading = format!("{:14} GPU-hours  error bound{heading}", "recorded");
        let line = |(name, hours, kwh): &(String, Amount, Amount)| {
            let kwh = if energy { kwh.to_string() } else { String::new() };
            format!("{name:14} {hours}  {kwh}").trim_end().to_owned()
        };
        let lines: Vec<_> = std::iter::once(heading).chain(self.lines.iter().map(line)).collect();
        lines.join("\n")
    }
}

/// An amount, and the most that the true value may be below and above it, where that is known.
#[derive(Clone, Copy, Debug)]
struct Amount {
    value: f64,
    off: Option<[f64; 2]>,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3}", self.value)?;
        match self.off {
            Some([below, above]) => write!(f, "  -{below:.3} +{above:.3}"),
            None => write!(f, "  {:13}", ""),
        }
    }
}
