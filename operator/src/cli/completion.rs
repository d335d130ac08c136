//! Completion of command lines: scripts for shells, and the answers to kubectl, which completes the words of
//! a plugin by running `kubectl_complete-NAME`.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Args, Command};
use clap_complete::engine::{CompletionCandidate, complete};
use clap_complete::{Shell, generate};

use super::error::CommandError;
use super::output;

/// The name under which kubectl looks for the plugin's completion.
pub(super) const KUBECTL_NAME: &str = "kubectl_complete-daylight";

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Shell that runs the script
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(mut command: Command, flags: &Flags) -> Result<(), CommandError> {
    // `generate` panics where the output is closed.
    let mut script = Vec::new();
    generate(flags.shell, &mut command, "daylight", &mut script);
    io::stdout().write_all(&script).map_err(output::failed)
}

/// Prints what may stand for the last of `arguments`, in the form that kubectl reads: a value and its
/// meaning in each line, then the directive for the shell.
pub(super) fn answer_kubectl(command: Command, arguments: Vec<OsString>) -> io::Result<()> {
    io::stdout().write_all(candidates(command, arguments)?.as_bytes())
}

fn candidates(mut command: Command, mut arguments: Vec<OsString>) -> io::Result<String> {
    // The first argument is the program.
    if arguments.len() < 2 {
        arguments.push(OsString::new());
    }
    let last = arguments.len() - 1;
    let wants_flags = arguments[last].to_string_lossy().starts_with('-');
    let is_offered = |candidate: &CompletionCandidate| {
        let is_flag = candidate.get_value().to_string_lossy().starts_with('-');
        !candidate.is_hide_set() && (wants_flags || !is_flag)
    };
    let directory = std::env::current_dir().ok();
    let mut text = String::new();
    for candidate in complete(&mut command, arguments, last, directory.as_deref())? {
        if !is_offered(&candidate) {
            continue;
        }
        text.push_str(&candidate.get_value().to_string_lossy());
        if let Some(help) = candidate.get_help() {
            text.push('\t');
            text.push_str(help.to_string().lines().next().unwrap_or_default());
        }
        text.push('\n');
    }
    // 0: the shell may complete files. 4: it may not.
    let directive = if text.is_empty() { 0 } else { 4 };
    Ok(format!("{text}:{directive}\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn complete_line(line: &str) -> String {
        let words = std::iter::once("kubectl_complete-daylight").chain(line.split(' '));
        candidates(Cli::command(), words.map(OsString::from).collect()).unwrap()
    }

    #[test]
    fn kubectl_gets_commands_flags_and_values() {
        assert_eq!(
            complete_line("sto"),
            "stop\tEmergency stop: end all mining until `resume`\n:4\n"
        );
        let commands = complete_line("");
        assert!(commands.contains("approve\tApprove a registration as it is now\n"), "{commands}");
        assert!(!commands.contains("--"), "{commands}");
        assert!(complete_line("status --outp").starts_with("--output\t"));
        assert_eq!(complete_line("status -o j"), "json\tFor programs\n:4\n");
        assert_eq!(complete_line("completion ba"), "bash\n:4\n");
    }
}
