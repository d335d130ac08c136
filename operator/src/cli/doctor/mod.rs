//! `daylight doctor`: whether an installation does what the security model says, as far as the API
//! server tells; and what it cannot tell.

mod access;
mod admission;
mod look;
mod processes;
mod shipped;
mod unseen;
mod work;

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use super::Failed;
use super::connect::Connection;
use super::output::Output;
use look::Installation;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Tell of what is as it should be, too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: Output,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum Level {
    /// A promise does not hold.
    Problem,
    /// It holds, and something should be looked at.
    Warning,
    /// Nobody can tell from here.
    Unknown,
    /// It is as it should be.
    Fine,
}

/// What was found: one sentence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Finding {
    level: Level,
    sentence: String,
}

/// What a check finds.
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

    fn fine(&mut self, sentence: impl Into<String>) {
        self.add(Level::Fine, sentence);
    }

    /// What was read; where it could not be, that is told.
    fn read<'a, T>(&mut self, read: &'a look::Read<T>) -> Option<&'a T> {
        match read {
            Ok(read) => Some(read),
            Err(why) => {
                // Several checks may need it.
                let finding = Finding { level: Level::Unknown, sentence: why.clone() };
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

/// All that is found of an installation, the worst first.
fn examine(seen: &Installation) -> Findings {
    let mut found = Findings::default();
    admission::examine(seen, &mut found);
    access::examine(seen, &mut found);
    processes::examine(seen, &mut found);
    work::examine(seen, &mut found);
    unseen::tell(&mut found);
    found.0.sort_by_key(|finding| finding.level);
    found
}

pub(super) async fn run(connection: &Connection, flags: &Flags) -> Result<(), Failed> {
    let client = connection.client().await?;
    let seen = look::at(&client, &connection.namespace).await;
    let mut found = examine(&seen);
    let problems = found.count(Level::Problem);
    let fine = found.count(Level::Fine);
    if !flags.all {
        found.0.retain(|finding| finding.level != Level::Fine);
    }
    flags.output.print(&found.0, |found| text(found, fine))?;
    match problems {
        0 => Ok(()),
        1 => Err(Failed::new("There is 1 problem.")),
        _ => Err(Failed::new(format!("There are {problems} problems."))),
    }
}

fn text(found: &[Finding], fine: usize) -> String {
    let mut text = String::new();
    for finding in found {
        let word = match finding.level {
            Level::Problem => "PROBLEM",
            Level::Warning => "warning",
            Level::Unknown => "unknown",
            Level::Fine => "fine   ",
        };
        let _ = writeln!(text, "{word}  {}", finding.sentence);
    }
    let _ = writeln!(text, "{fine} checks found everything as it should be (--all tells of them).");
    text
}
