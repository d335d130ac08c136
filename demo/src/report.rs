//! How a story is told: line by line as it happens, and as a table in the end.

use std::time::{Duration, Instant};

/// One line of the summary.
#[derive(Clone, Debug)]
pub struct Step {
    /// What was to hold.
    pub what: String,
    /// How long it took, where that says something.
    pub took: Option<Duration>,
    pub seen: String,
    pub held: bool,
}

/// What has been told so far.
pub(super) struct Telling<'a> {
    pub(super) steps: Vec<Step>,
    say: &'a mut dyn FnMut(&str),
    begun: Instant,
}

impl<'a> Telling<'a> {
    pub(super) fn new(say: &'a mut dyn FnMut(&str)) -> Self {
        Self { steps: Vec::new(), say, begun: Instant::now() }
    }

    pub(super) fn line(&mut self, text: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        for (index, part) in text.lines().enumerate() {
            let stamp = if index == 0 { format!("{at:6.1}s") } else { " ".repeat(7) };
            (self.say)(&format!("{stamp}  {part}"));
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

/// A time as people read it.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// The summary as a table.
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
