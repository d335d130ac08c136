//! The page `docs/reference/cli.md`, which is generated from the commands and their flags.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;

const HEAD: &str = "# The command line

<!-- Generated from operator/src/cli: edit that, then run
     WRITE_REFERENCE=1 cargo test -p daylight --lib cli::reference -->

`daylight COMMAND`, or `kubectl daylight COMMAND` where the binary is on the path as `kubectl-daylight`.
[Operations](../operations.md) shows how the commands are used and what they print. `daylight COMMAND --help` displays what this
page has. A variable sets the flag of its row; the flag has precedence.

## How do I get completion and man pages?

    daylight completion bash > ~/.local/share/bash-completion/completions/daylight
    daylight completion zsh > \"${fpath[1]}/_daylight\"
    daylight completion fish > ~/.config/fish/completions/daylight.fish
    daylight man ~/.local/share/man/man1                        # man daylight, man daylight-approve, …

kubectl completes `kubectl daylight` by a program of the name `kubectl_complete-daylight`, which is the same binary:

    ln -s \"$(command -v kubectl-daylight)\" ~/.local/bin/kubectl_complete-daylight

For [krew](https://krew.sigs.k8s.io), `operator/krew.sh` packs binaries of your own and writes the manifest. Without arguments it
shows how, and how krew installs from these files. krew does not install the completion.

## Which commands are there?

";

const CONNECTION: &str = "## Flags of all commands

";

fn page() -> String {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut page = HEAD.to_owned();
    page.push_str("| command | what it does |\n|---|---|\n");
    for subcommand in command.get_subcommands() {
        let name = subcommand.get_name();
        let _ = writeln!(page, "| [`{name}`](#daylight-{name}) | {} |", about(subcommand));
    }
    page.push('\n');
    page.push_str(CONNECTION);
    flags(&mut page, command.get_arguments());
    for subcommand in command.get_subcommands() {
        section(&mut page, "##", "daylight", subcommand);
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

/// Adds the section of a command, and then those of its subcommands.
fn section(page: &mut String, heading: &str, parent: &str, command: &Command) {
    let name = format!("{parent} {}", command.get_name());
    let _ = writeln!(page, "{heading} `{name}`\n\n{}.\n", about(command));
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(page, "    {}\n", usage.trim_start_matches("Usage: "));
    flags(page, command.get_arguments().filter(|argument| !argument.is_global_set()));
    for subcommand in command.get_subcommands() {
        section(page, &format!("{heading}#"), &name, subcommand);
    }
}

fn flags<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let rows: Vec<String> = arguments.filter(|argument| is_listed(argument)).map(row).collect();
    if rows.is_empty() {
        return;
    }
    page.push_str("| flag or argument | variable | default | meaning |\n|---|---|---|---|\n");
    for row in rows {
        page.push_str(&row);
        page.push('\n');
    }
    page.push('\n');
}

/// Every command has `--help`, and the program `--version`.
fn is_listed(argument: &Arg) -> bool {
    !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version")
}

fn row(argument: &Arg) -> String {
    let values: Vec<&str> =
        argument.get_value_names().into_iter().flatten().map(clap::builder::Str::as_str).collect();
    let takes_value = argument.get_action().takes_values();
    let mut name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, None) => String::new(),
    };
    if takes_value {
        if !name.is_empty() {
            name.push(' ');
        }
        name.push_str(&values.join(" "));
    }
    let variable = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
    let defaults: Vec<_> = argument
        .get_default_values()
        .iter()
        .filter(|_| takes_value)
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    let help = argument.get_long_help().or(argument.get_help());
    let mut help = help.map(ToString::to_string).unwrap_or_default();
    let possible: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| takes_value && !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !possible.is_empty() {
        let _ = write!(help, ": {}", possible.join(", "));
    }
    format!(
        "| `{}` | {} | {} | {} |",
        cell(&name),
        variable.unwrap_or_default(),
        defaults.join(" "),
        cell(&help)
    )
}

fn about(command: &Command) -> String {
    command.get_about().map(|about| cell(&about.to_string())).unwrap_or_default()
}

fn cell(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    // In a table, a bar ends the cell also within code. What is in angle brackets would be HTML.
    words.join(" ").replace('|', "\\|").replace('<', "\\<")
}

#[test]
fn the_page_of_the_command_line_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/cli.md");
    let page = page();
    if std::env::var_os("WRITE_REFERENCE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).is_ok_and(|found| found == page),
        "docs/reference/cli.md differs from the commands: run `WRITE_REFERENCE=1 cargo test -p daylight \
         --lib cli::reference` and commit the result"
    );
}
