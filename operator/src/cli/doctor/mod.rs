//! `daylight doctor`: compares an installation with the security model as far as the API server
//! shows it, and lists what the API server does not show.

mod access;
mod admission;
mod blind_spots;
mod processes;
mod shipped;
mod snapshot;
mod work;

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use super::connect::Connection;
use super::error::CommandError;
use super::output::Output;
use snapshot::{Installation, Read};

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// List passed checks too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: Output,
}

/// The severity of a finding, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum Level {
    /// A promise does not hold.
    Problem,
    /// Every promise holds, but something needs attention.
    Warning,
    /// It cannot be checked.
    Unknown,
    Passed,
}

/// The result of a check, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Finding {
    level: Level,
    sentence: String,
}

/// The results of the checks so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, sentence: impl Into<String>) {
        self.0.push(Finding { level, sentence: sentence.into() });
    }

    fn problem(&mut self, sentence: impl Into<String>) {
        self.add(Level::Problem, sentence);
    }

    fn warning(&mut self, sentence: impl Into<String>) {
        self.add(Level::Warning, sentence);
    }

    fn passed(&mut self, sentence: impl Into<String>) {
        self.add(Level::Passed, sentence);
    }

    /// Returns what was read; adds a finding if it could not be.
    fn read<'a, T>(&mut self, read: &'a Read<T>) -> Option<&'a T> {
        match read {
            Ok(read) => Some(read),
            Err(sentence) => {
                // Several checks may need the same objects.
                let finding = Finding { level: Level::Unknown, sentence: sentence.clone() };
                if !self.0.contains(&finding) {
                    self.0.push(finding);
                }
                None
            }
        }
    }

    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }
}

/// Returns all findings, the worst first.
fn check(installation: &Installation) -> Findings {
    let mut findings = Findings::default();
    admission::check(installation, &mut findings);
    access::check(installation, &mut findings);
    processes::check(installation, &mut findings);
    work::check(installation, &mut findings);
    blind_spots::list(&mut findings);
    findings.0.sort_by_key(|finding| finding.level);
    findings
}

pub(super) async fn run(connection: &Connection, flags: &Flags) -> Result<(), CommandError> {
    let client = connection.client().await?;
    let installation = snapshot::read(&client, &connection.namespace).await;
    let mut findings = check(&installation);
    let problems = findings.count(Level::Problem);
    let passed = findings.count(Level::Passed);
    if !flags.all {
        findings.0.retain(|finding| finding.level != Level::Passed);
    }
    flags.output.print(&findings.0, |findings| text(findings, passed))?;
    match problems {
        0 => Ok(()),
        1 => Err(CommandError::new("The installation has 1 problem")),
        _ => Err(CommandError::new(format!("The installation has {problems} problems"))),
    }
}

fn text(findings: &[Finding], passed: usize) -> String {
    let mut text = String::new();
    for finding in findings {
        let word = match finding.level {
            Level::Problem => "PROBLEM",
            Level::Warning => "warning",
            Level::Unknown => "unknown",
            Level::Passed => "passed ",
        };
        let _ = writeln!(text, "{word}  {}", finding.sentence);
    }
    let checks = if passed == 1 { "check" } else { "checks" };
    let _ = writeln!(text, "{passed} {checks} passed (use --all to list them).");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_printed_with_their_level_and_passed_ones_counted() {
        let finding = |level, sentence: &str| Finding { level, sentence: sentence.into() };
        let findings = [finding(Level::Problem, "One."), finding(Level::Unknown, "Two.")];
        assert_eq!(
            text(&findings, 31),
            "PROBLEM  One.\nunknown  Two.\n31 checks passed (use --all to list them).\n"
        );
    }

    #[test]
    fn json_names_the_level_of_each_finding() {
        let levels = [Level::Problem, Level::Warning, Level::Unknown, Level::Passed];
        let json = serde_json::to_string(&levels).unwrap();
        assert_eq!(json, r#"["Problem","Warning","Unknown","Passed"]"#);
        let finding = Finding { level: Level::Warning, sentence: "One.".into() };
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(json, r#"{"level":"Warning","sentence":"One."}"#);
    }

    #[test]
    fn an_unreadable_installation_has_no_problem_that_was_not_seen() {
        let findings = check(&Installation::unreadable());
        assert_eq!(findings.count(Level::Problem), 0, "{findings:?}");
        assert_eq!(findings.count(Level::Passed), 0, "{findings:?}");
    }
}
