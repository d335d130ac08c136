//! `daylight doctor`: compares an installation with the security model as far as the API server
//! shows it, and lists what the API server does not show.

mod access;
mod admission;
mod blind_spots;
mod pod_security;
mod probe;
mod processes;
mod queues;
mod snapshot;
mod work;

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use super::connect::Connection;
use super::error::{CommandError, ErrorCode};
use super::output::Output;
use snapshot::{Installation, Read};

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// List passed checks too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

/// What is checked: the stable name of a finding. Its level is the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(strum::VariantArray, strum::IntoStaticStr))]
enum Check {
    /// Objects that the checks need can be read.
    Readable,
    KubernetesVersion,
    Definitions,
    Policies,
    PolicyWarnings,
    GpuLists,
    Bindings,
    AdmissionMode,
    ExemptNamespaces,
    PodSecurity,
    GuaranteedClasses,
    Mirrors,
    MirrorsInUse,
    MinerPriority,
    OtherPriorities,
    PoolResources,
    Rights,
    AllRights,
    RoleRights,
    RoleSubjects,
    Controller,
    Leader,
    Auditor,
    AuditorReplicas,
    Exporter,
    Pools,
    PodEnd,
    PodPriority,
    PodClass,
    PodDevices,
    PodGates,
    DefaultQueues,
    ContainerRuntime,
    StaticPods,
    NodeAccess,
    JournalVolume,
    AuditLog,
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
    id: Check,
    level: Level,
    sentence: String,
}

/// The results of the checks so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, id: Check, level: Level, sentence: impl Into<String>) {
        self.0.push(Finding { id, level, sentence: sentence.into() });
    }

    fn problem(&mut self, id: Check, sentence: impl Into<String>) {
        self.add(id, Level::Problem, sentence);
    }

    fn warning(&mut self, id: Check, sentence: impl Into<String>) {
        self.add(id, Level::Warning, sentence);
    }

    fn passed(&mut self, id: Check, sentence: impl Into<String>) {
        self.add(id, Level::Passed, sentence);
    }

    /// Returns what was read; adds a finding if it could not be.
    fn read<'a, T>(&mut self, read: &'a Read<T>) -> Option<&'a T> {
        match read {
            Ok(read) => Some(read),
            Err(sentence) => {
                // Several checks may need the same objects.
                let id = Check::Readable;
                let finding = Finding { id, level: Level::Unknown, sentence: sentence.clone() };
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

    /// Returns the number of kinds that could not be read.
    fn unread(&self) -> usize {
        self.0.iter().filter(|finding| finding.id == Check::Readable).count()
    }

    /// Returns the error of problems, or of checks that could not be made: an installation of which
    /// nothing is known must not pass for a sound one.
    fn outcome(&self) -> Result<(), CommandError> {
        match (self.count(Level::Problem), self.unread()) {
            (0, 0) => Ok(()),
            (0, unread) => Err(CommandError::new(format!(
                "No problem was found, but checks were skipped, since {} could not be read",
                count(unread, "kind of object", "kinds of objects")
            ))
            .code(ErrorCode::ChecksSkipped)
            .remedy("Run it as a user who may list them")),
            (problems, _) => Err(CommandError::new(format!(
                "The installation has {}",
                count(problems, "problem", "problems")
            ))
            .code(ErrorCode::ProblemsFound)),
        }
    }
}

/// Returns all findings, the worst first.
fn check(installation: &Installation) -> Findings {
    let mut findings = Findings::default();
    admission::check(installation, &mut findings);
    access::check(installation, &mut findings);
    processes::check(installation, &mut findings);
    pod_security::check(installation, &mut findings);
    work::check(installation, &mut findings);
    queues::check(installation, &mut findings);
    blind_spots::list(&mut findings);
    findings.0.sort_by_key(|finding| finding.level);
    findings
}

pub(super) async fn run(connection: &Connection, flags: &Flags) -> Result<(), CommandError> {
    let client = connection.client().await?;
    // Whatever the connection fails at, it would fail at for each kind.
    match client.apiserver_version().await {
        Err(kube::Error::Api(status)) if status.code != 401 => {}
        result => drop(result?),
    }
    let installation = snapshot::read(&client, &connection.namespace).await;
    let mut findings = check(&installation);
    let outcome = findings.outcome();
    let passed = findings.count(Level::Passed);
    if !flags.all {
        findings.0.retain(|finding| finding.level != Level::Passed);
    }
    flags.output.print(&findings.0, |findings| text(findings, passed))?;
    outcome
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
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
    let checks = count(passed, "check", "checks");
    let _ = writeln!(text, "{checks} passed (use --all to list them).");
    text
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn findings_are_printed_with_their_level_and_passed_ones_counted() {
        let finding =
            |level, sentence: &str| Finding { id: Check::Leader, level, sentence: sentence.into() };
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
        let finding =
            Finding { id: Check::Exporter, level: Level::Warning, sentence: "One.".into() };
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(json, r#"{"id":"Exporter","level":"Warning","sentence":"One."}"#);
    }

    #[test]
    fn an_unreadable_installation_has_no_problem_that_was_not_seen() {
        let findings = check(&Installation::unreadable());
        assert_eq!(findings.count(Level::Problem), 0, "{findings:?}");
        assert_eq!(findings.count(Level::Passed), 0, "{findings:?}");
        // But it does not pass for a sound one.
        let error = findings.outcome().unwrap_err();
        assert!(error.json().contains(r#""code":"ChecksSkipped""#), "{}", error.json());
    }

    #[test]
    fn every_check_is_documented() {
        let page = include_str!("../../../../docs/operations.md");
        for check in Check::VARIANTS {
            let name: &str = check.into();
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}
