//! `daylight report verify`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use daylight_ledger::Checkpoint;
use serde::{Deserialize, Serialize};

use super::content::{Compiler, Report, Subject};
use super::files::{self, FORM, NDJSON};
use super::invalid;
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::ledger::evidence::{self, Evidence, ProvedEntry, content, read_ledger};
use crate::cli::ledger::source::Source;
use crate::cli::ledger::trust::{Trust, signatures, vouch};
use crate::cli::output::Output;
use crate::entries::Link;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the report
    directory: PathBuf,
    /// Ledger from which the figures are computed, too: its directory or address
    source: Option<Source>,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Report whose figures are those of the entries.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    registration: Option<String>,
    period: String,
    origin: String,
    /// Entries from which the figures were computed again.
    entries: usize,
    /// Files that are what their manifest lists.
    files: Vec<String>,
    /// Files of another version, which were not computed again.
    not_compared: Vec<String>,
    /// `true` if the whole ledger was read.
    with_ledger: bool,
    /// `true` if later entries of the ledger change a figure.
    superseded: bool,
    /// Filings of the period that the ledger has since then.
    later_filings: usize,
    unreported: usize,
    signed_by: String,
    cosigned_by: Vec<String>,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let directory = &flags.directory;
    let Evidence::<Subject> { manifest, note: _, policy, vouched } =
        evidence::open(directory, "report", FORM, NDJSON, &flags.trust, wrong)?;
    let text = String::from_utf8_lossy(&content(directory, NDJSON)?).into_owned();
    let (report, entries) = files::parse(&text)?;
    if report.subject != manifest.subject {
        return Err(wrong("its manifest is of another report"));
    }
    verify_entries(&report, &entries, &vouched.checkpoint)?;
    let mut compiler = Compiler::new(report.subject.clone()).map_err(invalid)?;
    for ProvedEntry { index, entry, hashes: _ } in &entries {
        compiler.take(*index, entry.as_bytes());
    }
    let mut computed = compiler.finish(&vouched.checkpoint).0;
    // Only the whole ledger shows which nodes there are.
    computed.totals.unreported.clone_from(&report.totals.unreported);
    compare(&report, computed, "its entries")?;
    let mut not_compared = Vec::new();
    for listed in &manifest.files {
        let Some(rendered) = files::rendered(&listed.name, &report) else { continue };
        if report.version != env!("CARGO_PKG_VERSION") {
            not_compared.push(listed.name.clone());
        } else if rendered.as_bytes() != content(directory, &listed.name)? {
            return Err(wrong(&format!("{} has other figures than {NDJSON}", listed.name)));
        }
    }
    let (mut superseded, mut later_filings) = (false, 0);
    if let Some(source) = &flags.source {
        let source = source.open()?;
        let latest = vouch(Some(&policy), &source.checkpoint()?)?.checkpoint;
        let [mut then, mut now] = [(); 2].map(|()| Compiler::new(report.subject.clone()));
        let older = [(&vouched.checkpoint, "the report's checkpoint".to_owned())];
        read_ledger(&source, &latest, &older, |index, entry| {
            if index < vouched.checkpoint.size
                && let Ok(then) = &mut then
            {
                then.take(index, entry);
            }
            if let Ok(now) = &mut now {
                now.take(index, entry);
            }
        })?;
        let (then, now) = (then.map_err(invalid)?, now.map_err(invalid)?);
        compare(&report, then.finish(&vouched.checkpoint).0, "the ledger")?;
        let now = now.finish(&vouched.checkpoint).0;
        superseded = now.totals != report.totals;
        later_filings = now.filings.len().saturating_sub(report.filings.len());
    }
    let verified = Verified {
        registration: report.subject.registration.as_ref().map(ToString::to_string),
        period: report.subject.period.to_string(),
        origin: report.origin.clone(),
        entries: entries.len(),
        files: manifest.files.into_iter().map(|listed| listed.name).collect(),
        not_compared,
        with_ledger: flags.source.is_some(),
        superseded,
        later_filings,
        unreported: report.totals.unreported.len(),
        signed_by: vouched.signed_by.unwrap_or_default(),
        cosigned_by: vouched.cosigned_by,
    };
    flags.output.print(&verified, text_of)
}

/// Verifies that the ledger has the entries, and that none of the registration is missing between them.
fn verify_entries(
    report: &Report,
    entries: &[ProvedEntry],
    checkpoint: &Checkpoint,
) -> Result<(), CommandError> {
    let mut before: Option<u64> = None;
    let mut linked = Vec::new();
    for proved in entries {
        let ProvedEntry { index, entry, hashes: _ } = proved;
        if before.is_some_and(|before| before >= *index) {
            return Err(wrong(&format!("entry {index} is not in its order")));
        }
        before = Some(*index);
        proved.verify(checkpoint, wrong)?;
        let chain: Chain = serde_json::from_str(entry).unwrap_or_default();
        let of_it = |link: &&Link| Some(&link.registration) == report.subject.registration.as_ref();
        if let Some(link) = chain.chain.iter().find(of_it) {
            linked.push((*index, link.number, link.previous));
        }
    }
    // Entries of older versions have no numbers.
    let first = linked.iter().position(|(index, ..)| Some(*index) == report.totals.first);
    let Some(first) = first else { return Ok(()) };
    let missing =
        |at: u64| wrong(&format!("an entry of the registration before entry {at} is missing"));
    let (at, number, previous) = linked[first];
    if number > 1 && (first == 0 || Some(linked[first - 1].0) != previous) {
        return Err(missing(at));
    }
    for two in linked[first..].windows(2) {
        let [(one, number, _), (other, next, previous)] = two else { continue };
        if *next != number + 1 || *previous != Some(*one) {
            return Err(missing(*other));
        }
    }
    Ok(())
}

#[derive(Default, Deserialize)]
struct Chain {
    #[serde(default)]
    chain: Vec<Link>,
}

/// Compares a report with one that was computed again.
fn compare(report: &Report, mut computed: Report, from: &str) -> Result<(), CommandError> {
    computed.version.clone_from(&report.version);
    if computed == *report {
        return Ok(());
    }
    if computed.tzdata != report.tzdata && computed.totals.interval != report.totals.interval {
        return Err(wrong("its time zone begins the period at another time by another database"));
    }
    computed.tzdata.clone_from(&report.tzdata);
    match evidence::difference(report, &computed) {
        Some(key) => Err(wrong(&format!("{key} is not what {from} add up to"))),
        // Nothing but the version of the time zone database.
        None if computed == *report => Ok(()),
        None => Err(wrong(&format!("it is not what {from} add up to"))),
    }
}

fn wrong(what: &str) -> CommandError {
    CommandError::new(format!("The report does not hold: {what}")).code(ErrorCode::LedgerInvalid)
}

fn text_of(verified: &Verified) -> String {
    let Verified {
        registration,
        period,
        origin,
        entries,
        files,
        not_compared,
        with_ledger,
        superseded,
        later_filings,
        unreported,
        signed_by,
        cosigned_by,
    } = verified;
    let of = match registration {
        Some(registration) => format!("registration {registration}"),
        None => "the whole site".to_owned(),
    };
    let mut text = format!(
        "Verified the report of {of} in {period}: all figures are those of {entries} entries of {origin}.\n\
         {} are the files of the manifest.\n",
        files.join(", ")
    );
    if !not_compared.is_empty() {
        let files = not_compared.join(", ");
        let _ = writeln!(
            text,
            "Another version wrote {files}: only their hashes were compared. Verify with that version."
        );
    }
    text += match (with_ledger, registration.is_some()) {
        (true, _) => "The whole ledger has the same figures.\n",
        (false, true) => {
            "No entry of the registration between the first and the last is missing. Name a copy of the \
             ledger to find later ones, and nodes that have not reported.\n"
        }
        (false, false) => {
            "Name a copy of the ledger to verify that no entry of the site is missing.\n"
        }
    };
    if *superseded {
        text +=
            "Later entries of the ledger change its figures: write it again, as a correction.\n";
    }
    if *later_filings > 0 {
        let _ = writeln!(text, "The ledger has {later_filings} later filings of the period.");
    }
    if *unreported > 0 {
        let _ = writeln!(text, "{unreported} nodes had not reported up to the end of the period.");
    }
    text + &signatures(Some(signed_by), cosigned_by)
}
