//! The files of a report, and the manifest with their hashes.

use std::collections::BTreeMap;

use daylight_ledger::Checkpoint;
use serde::{Deserialize, Serialize};

use super::content::Report;
use super::csv::csv;
use super::html::html;
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::ledger::evidence::{self, ProvedEntry};
use crate::cli::ledger::source::Opened;

/// Form of the manifest.
pub(super) const FORM: &str = "daylight.dev/report-manifest/v1";
pub(super) const NDJSON: &str = "report.ndjson";
pub(super) const CSV: &str = "report.csv";
pub(super) const HTML: &str = "report.html";

/// Line of [`NDJSON`]: the report first, then the entries that it is computed from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(super) enum Line {
    Report(Box<Report>),
    Entry(ProvedEntry),
}

/// Proves entries of a ledger, and returns the lines of a report with them.
pub(super) fn ndjson(
    source: &Opened<'_>,
    checkpoint: &Checkpoint,
    report: &Report,
    entries: BTreeMap<u64, Vec<u8>>,
) -> Result<String, CommandError> {
    let mut lines = vec![line(&Line::Report(Box::new(report.clone())))];
    let entries = evidence::prove_all(source, checkpoint, entries)?;
    lines.extend(entries.into_iter().map(|entry| line(&Line::Entry(entry))));
    Ok(lines.concat())
}

fn line(line: &Line) -> String {
    serde_json::to_string(line).unwrap_or_default() + "\n"
}

/// Returns a file that is computed from the report alone; `None` if it is another.
pub(super) fn rendered(name: &str, report: &Report) -> Option<String> {
    match name {
        CSV => Some(csv(report)),
        HTML => Some(html(report)),
        _ => None,
    }
}

/// Reads the lines of a report.
pub(super) fn parse(text: &str) -> Result<(Report, Vec<ProvedEntry>), CommandError> {
    let wrong = || {
        CommandError::new(format!("{NDJSON} does not have the lines of a report"))
            .code(ErrorCode::Invalid)
    };
    let mut report = None;
    let mut entries = Vec::new();
    for line in text.lines() {
        match serde_json::from_str(line).map_err(|error| wrong().because(error))? {
            Line::Report(found) if report.is_none() && entries.is_empty() => report = Some(*found),
            Line::Report(_) => return Err(wrong().because("it has two reports")),
            Line::Entry(entry) => entries.push(entry),
        }
    }
    Ok((report.ok_or_else(|| wrong().because("it has no report"))?, entries))
}
