//! The files of a report, and the manifest with their hashes.

use std::collections::BTreeMap;

use daylight_ledger::{Checkpoint, Hash, TileHashes, prove_inclusion, verify_inclusion};
use daylight_meter::decimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::content::{Report, Subject};
use super::csv::csv;
use super::html::html;
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::ledger::source::Opened;

/// Form of the manifest.
pub(super) const FORM: &str = "daylight.dev/report-manifest/v1";
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const NDJSON: &str = "report.ndjson";
pub(super) const CSV: &str = "report.csv";
pub(super) const HTML: &str = "report.html";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const POLICY: &str = "policy";

/// Line of [`NDJSON`]: the report first, then the entries that it is computed from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(super) enum Line {
    Report(Box<Report>),
    Entry(ProvedEntry),
}

/// Entry of the ledger with the hashes that prove it, as a C2SP tlog-proof has them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProvedEntry {
    #[serde(with = "decimal")]
    pub(super) index: u64,
    /// Byte for byte.
    pub(super) entry: String,
    pub(super) hashes: Vec<Hash>,
}

/// List of a report's files.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) form: String,
    /// Version of Daylight that wrote it.
    pub(super) version: String,
    #[serde(flatten)]
    pub(super) subject: Subject,
    pub(super) files: Vec<ListedFile>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListedFile {
    pub(super) name: String,
    #[serde(with = "decimal")]
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// Proves entries of a ledger, and returns the lines of a report with them.
pub(super) fn ndjson(
    source: &Opened<'_>,
    checkpoint: &Checkpoint,
    report: &Report,
    entries: BTreeMap<u64, Vec<u8>>,
) -> Result<String, CommandError> {
    let unproved = || source.invalid("cannot prove an entry");
    let mut hashes = TileHashes::new(source, checkpoint.size);
    let mut lines = vec![line(&Line::Report(Box::new(report.clone())))];
    for (index, entry) in entries {
        let path = prove_inclusion(&mut hashes, index, checkpoint.size)
            .map_err(|error| unproved().because(error.to_string()))?;
        verify_inclusion(Hash::leaf(&entry), index, checkpoint.size, checkpoint.root, &path)
            .map_err(|error| unproved().because(error))?;
        let entry = String::from_utf8(entry).map_err(|error| unproved().because(error))?;
        lines.push(line(&Line::Entry(ProvedEntry { index, entry, hashes: path })));
    }
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

impl ListedFile {
    pub(super) fn new(name: &str, content: &[u8]) -> Self {
        let sha256 = hex::encode(Sha256::digest(content));
        Self { name: name.to_owned(), bytes: content.len() as u64, sha256 }
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
