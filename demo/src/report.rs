//! The output of a story: a line for each thing that happens, and a table at the end.

use std::time::{Duration, Instant};

/// One line of the summary.
#[derive(Clone, Debug)]
pub struct Step {
    /// The promise that is checked.
    pub what: String,
    /// The time until it held, where that is of interest.
    pub took: Option<Duration>,
    pub seen: String,
    pub held: bool,
}

/// The output so far.
pub(super) struct Report<'a> {
    pub(super) steps: Vec<Step>,
    print: &'a mut dyn FnMut(&str),
    begun: Instant,
}

impl<'a> Report<'a> {
    pub(super) fn new(print: &'a mut dyn FnMut(&str)) -> Self {
        Self { steps: Vec::new(), print, begun: Instant::now() }
    }

    pub(super) fn line(&mut self, text: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        for (index, part) in text.lines().enumerate() {
            let stamp = if index == 0 { format!("{at:6.1}s") } else { " ".repeat(7) };
            (self.print)(&format!("{stamp}  {part}"));
        }
    }

    pub(super) fn step(
        &mut self,
        what: &str,
        took: Option<Duration>,
        seen: impl Into<String>,
        held: bool,
    ) {
        let seen = seen.into();
        let time = took.map_or(String::new(), |took| format!(" after {}", seconds(took)));
        let mark = if held { "ok" } else { "DID NOT HOLD" };
        self.line(&format!("{mark}: {what}{time} ({seen})"));
        self.steps.push(Step { what: what.to_owned(), took, seen, held });
    }
}

/// Formats a time in seconds, to the hundredth.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Formats the summary as a table.
pub fn table(steps: &[Step]) -> String {
    let width = steps.iter().map(|step| step.what.chars().count()).max().unwrap_or_default();
    let mut lines = vec![format!("{:width$}  {:>9}  held", "what", "time")];
    for step in steps {
        let took = step.took.map_or_else(|| "-".to_owned(), seconds);
        let held = if step.held { "yes" } else { "NO" };
        lines.push(format!("{:width$}  {took:>9}  {held}", step.what));
    }
    lines.join("\n")
}
