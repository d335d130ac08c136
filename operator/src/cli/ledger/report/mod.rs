//! `daylight report`: what a registration, or a site, did in a period, as files for an authority.
//!
//! All figures are computed from a ledger's entries. The entries are in the files, with proofs, so that
//! `daylight report verify` computes the figures again without the ledger.

mod chart;
mod content;
mod csv;
mod files;
mod html;
mod presets;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use self::content::{Compiler, Subject};
use self::files::{CSV, FORM, HTML, NDJSON};
use self::presets::Preset;
use super::evidence::{self, CHECKPOINT, POLICY, untrusted};
use super::registration_proof;
use super::replaced_keys::Since;
use super::source::Source;
use super::trust::{Trust, vouch};
use super::verify::read_note;
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::{Format, Output};
use crate::reporting::ReportingPeriod;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(in crate::cli) struct Flags {
    #[command(subcommand)]
    command: Option<Command>,
    /// Directory of the ledger, or its address
    #[arg(required = true)]
    source: Option<Source>,
    /// Registration, `namespace/name` or its pseudonym; the whole site without it
    #[arg(long, value_name = "NAME")]
    registration: Option<String>,
    /// Month, quarter or year, such as 2026-11, 2026-Q4 or 2026
    #[arg(long, required = true)]
    period: Option<ReportingPeriod>,
    /// Time zone of the period
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// List of fields of an authority
    #[arg(long, value_enum, default_value_t)]
    preset: Preset,
    /// Files for people and spreadsheets, in addition to report.ndjson
    #[arg(long = "format", value_enum, value_delimiter = ',', default_value = "csv,html")]
    files: Vec<FileFormat>,
    /// New directory for the report
    #[arg(long, value_name = "DIRECTORY", required = true)]
    out: Option<PathBuf>,
    /// Write the registration's name in addition to its pseudonym
    #[arg(long, requires = "registration")]
    reveal: bool,
    /// File with the key of the ledger's pseudonyms; by default that in the ledger's directory
    #[arg(long, value_name = "FILE", requires = "registration")]
    pseudonym_key: Option<PathBuf>,
    /// Checkpoint to use in place of the ledger's latest, such as one that witnesses cosigned
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    since: Since,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compute the figures of a report again: from its own entries offline, and from a ledger if one is
    /// named
    Verify(verify::Flags),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FileFormat {
    Csv,
    Html,
    Ndjson,
}

/// Report that was written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    directory: String,
    files: Vec<String>,
    registration: Option<String>,
    period: String,
    entries: usize,
    /// Nodes that have not reported up to the end of the period.
    unreported: Vec<String>,
}

impl Flags {
    /// The format of the command's output, and of its error.
    pub(in crate::cli) fn output_format(&self) -> Format {
        match &self.command {
            Some(Command::Verify(flags)) => flags.output.format,
            None => self.output.format,
        }
    }
}

pub(in crate::cli) fn run(flags: &Flags) -> Result<(), CommandError> {
    if let Some(Command::Verify(flags)) = &flags.command {
        return verify::run(flags);
    }
    let (Some(from), Some(period), Some(directory)) = (&flags.source, flags.period, &flags.out)
    else {
        return Err(CommandError::new("A source, a --period and a directory --out are required")
            .code(ErrorCode::Invalid));
    };
    evidence::refuse_existing(directory, "report")?;
    let policy = flags.trust.policy()?.ok_or_else(|| untrusted("report"))?;
    let source = from.open()?;
    let note = match &flags.checkpoint {
        Some(path) => read_note(path)?,
        None => source.checkpoint()?,
    };
    let checkpoint = vouch(Some(&policy), &note)?.checkpoint;
    let registration = flags.registration.as_deref().map(|name| {
        registration_proof::pseudonym(name, flags.pseudonym_key.as_deref(), from.directory())
    });
    let subject = Subject {
        registration: registration.transpose()?,
        name: flags.registration.clone().filter(|_| flags.reveal),
        period,
        time_zone: flags.time_zone.clone(),
        preset: flags.preset,
    };
    let mut compiler = Compiler::new(subject.clone()).map_err(invalid)?;
    let keys = flags
        .since
        .read_ledger(&source, &checkpoint, |index, entry| compiler.take(index, entry))?;
    let (report, entries) = compiler.finish(&checkpoint);
    if report.totals.entries == 0 {
        return Err(nothing(&subject));
    }
    let count = entries.len();
    let mut contents = vec![
        (NDJSON.to_owned(), files::ndjson(&source, &checkpoint, &report, entries)?),
        (CHECKPOINT.to_owned(), note.to_string()),
        (POLICY.to_owned(), flags.trust.text()?),
    ];
    for (format, name) in [(FileFormat::Csv, CSV), (FileFormat::Html, HTML)] {
        if flags.files.contains(&format) {
            contents.push((name.to_owned(), files::rendered(name, &report).unwrap_or_default()));
        }
    }
    contents.extend(keys.prove(&source)?);
    let files = evidence::write(directory, FORM, subject, contents)?;
    let unreported = report.totals.unreported.iter();
    let written = Written {
        directory: directory.display().to_string(),
        files,
        registration: report.subject.registration.as_ref().map(ToString::to_string),
        period: period.to_string(),
        entries: count,
        unreported: unreported.map(|node| node.node.to_string()).collect(),
    };
    flags.output.print(&written, text)
}

fn text(written: &Written) -> String {
    let Written { directory, files, registration: _, period, entries, unreported } = written;
    let files = files.join(", ");
    let missing = match unreported.len() {
        0 => String::new(),
        count => format!(
            "{count} nodes have not reported up to the end of {period}, such as {}: write the report again \
             once they have.\n",
            unreported[0]
        ),
    };
    format!(
        "Wrote the report of {period}, with {entries} entries that prove it, to {directory}: {files}.\n\
         {missing}Verify it with `daylight report verify {directory} --policy FILE`.\n"
    )
}

fn nothing(subject: &Subject) -> CommandError {
    let error = |what: String| {
        CommandError::new(format!("The ledger has nothing of {what} in {}", subject.period))
            .code(ErrorCode::NotFound)
    };
    match &subject.registration {
        Some(registration) => error(format!("registration {registration}"))
            .remedy("Name another --period, or the --pseudonym-key of the ledger"),
        None => error("the site".to_owned()).remedy("Name another --period"),
    }
}

fn invalid(error: crate::reporting::PeriodError) -> CommandError {
    CommandError::new("The report has no period").because(error).code(ErrorCode::Invalid)
}

#[cfg(test)]
mod tests;
