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

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use daylight_ledger::{Checkpoint, LogVerifier};
use serde::Serialize;

use self::content::{Compiler, Subject};
use self::files::{CHECKPOINT, CSV, FORM, HTML, ListedFile, MANIFEST, Manifest, NDJSON, POLICY};
use self::presets::Preset;
use super::registration_proof;
use super::source::{Opened, Source};
use super::trust::{Trust, vouch};
use super::verify::{read_note, some};
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::{Format, Output};
use crate::entries::EntryVerifier;
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
    if directory.join(MANIFEST).exists() {
        return Err(CommandError::new(format!("{} has a report", directory.display()))
            .code(ErrorCode::Conflict)
            .remedy("Name another directory: a correction does not replace what was filed"));
    }
    let policy = flags.trust.policy()?.ok_or_else(untrusted)?;
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
    read(&source, &checkpoint, None, |index, entry| compiler.take(index, entry))?;
    let (report, entries) = compiler.finish(&checkpoint);
    if report.totals.entries == 0 {
        return Err(nothing(&subject));
    }
    let count = entries.len();
    let mut contents = vec![
        (NDJSON, files::ndjson(&source, &checkpoint, &report, entries)?),
        (CHECKPOINT, note.to_string()),
        (POLICY, flags.trust.text()?),
    ];
    for (format, name) in [(FileFormat::Csv, CSV), (FileFormat::Html, HTML)] {
        if flags.files.contains(&format) {
            contents.push((name, files::rendered(name, &report).unwrap_or_default()));
        }
    }
    let listed = contents.iter().map(|(name, text)| ListedFile::new(name, text.as_bytes()));
    let manifest = Manifest {
        form: FORM.to_owned(),
        version: report.version.clone(),
        subject,
        files: listed.collect(),
    };
    let json = serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n";
    // The manifest is last: without it, there is no report.
    contents.push((MANIFEST, json));
    fs::create_dir_all(directory).map_err(|error| unwritten(directory, error))?;
    for (name, text) in &contents {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| unwritten(&path, error))?;
    }
    let unreported = report.totals.unreported.iter();
    let written = Written {
        directory: directory.display().to_string(),
        files: contents.iter().map(|(name, _)| (*name).to_owned()).collect(),
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

fn untrusted() -> CommandError {
    CommandError::new("A report holds only under a key that you trust")
        .code(ErrorCode::Invalid)
        .remedy("Name the ledger's key with --key, or a --policy")
}

fn invalid(error: crate::reporting::PeriodError) -> CommandError {
    CommandError::new("The report has no period").because(error).code(ErrorCode::Invalid)
}

fn unwritten(path: &Path, error: std::io::Error) -> CommandError {
    CommandError::new(format!("Cannot write {}", path.display())).because(error)
}

/// Reads a whole ledger, and verifies it meanwhile: every hash, and what its entries state about each
/// other.
fn read(
    source: &Opened<'_>,
    checkpoint: &Checkpoint,
    older: Option<&Checkpoint>,
    mut take: impl FnMut(u64, &[u8]),
) -> Result<(), CommandError> {
    let (mut verifier, mut violations) = (EntryVerifier::default(), Vec::new());
    let mut log = LogVerifier::new(checkpoint);
    if let Some(older) = older {
        log = log.continues(older, "the report's checkpoint");
    }
    let disagreements = log.verify(source, |index, entry| {
        if violations.len() < 100 {
            violations.extend(verifier.take(index, entry));
        }
        take(index, entry);
    })?;
    if !disagreements.is_empty() {
        return Err(source.invalid("is not what was signed").because(some(&disagreements)));
    }
    if !violations.is_empty() {
        return Err(source
            .invalid("is as it was signed, but contradicts itself")
            .because(some(&violations)));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
