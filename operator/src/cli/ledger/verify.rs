//! `daylight ledger verify`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use daylight_ledger::{Checkpoint, LogVerifier, Note};
use serde::Serialize;

use super::key_sequence::{KeySequence, ledger_keys};
use super::source::Source;
use super::trust::{Trust, Vouched, signatures, vouch};
use crate::auditor::journal::continued::Continued;
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::{self, Format, Output};
use crate::entries::EntryVerifier;

/// Disagreements that are printed.
const PRINTED: usize = 5;

/// Contradictions of entries that are counted.
const MOST_VIOLATIONS: usize = 100;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the ledger, or its address
    source: Source,
    #[command(flatten)]
    trust: Trust,
    /// Checkpoint to verify in place of the ledger's latest, such as one that witnesses cosigned
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Older checkpoint of the ledger, which it must continue; may be repeated
    #[arg(long, value_name = "FILE")]
    since: Vec<PathBuf>,
    /// Print the entries, one per line
    #[arg(long, conflicts_with = "format")]
    print: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Ledger that is as it was signed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    source: String,
    origin: String,
    entries: u64,
    /// The root hash, in hexadecimal.
    root: String,
    /// The key whose signature was verified; `None` if none was named.
    signed_by: Option<String>,
    cosigned_by: Vec<String>,
    /// Sizes of the older checkpoints that it continues.
    continues: Vec<u64>,
    /// Registrations whose entries are numbered without a gap.
    registrations: usize,
    /// Closings whose sums are those of the entries.
    closings: u64,
    /// Entries that are not of Daylight.
    foreign: u64,
    /// The ledger that it continues under another name, by its first entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    continued: Option<ContinuedLedger>,
}

/// Ledger that another one continues.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContinuedLedger {
    origin: String,
    /// Entries in its last known checkpoint.
    entries: u64,
    /// Entries whose books are continued.
    books: u64,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let policy = flags.trust.policy()?;
    let source = flags.source.open()?;
    let note = match &flags.checkpoint {
        Some(path) => read_note(path)?,
        None => source.checkpoint()?,
    };
    let mut keys = flags.trust.key().cloned().map(KeySequence::new);
    // A checkpoint that a later key signed counts if entries name that key: which ones, is not known yet.
    let mut vouched_for = |note: &Note| match (vouch(policy.as_ref(), note), &mut keys) {
        (Ok(vouched), keys) => {
            keys.iter_mut().for_each(|keys| keys.add(note, &vouched.checkpoint));
            Ok(vouched)
        }
        (Err(error), Some(keys)) if !flags.since.is_empty() => {
            let checkpoint = vouch(None, note)?.checkpoint;
            keys.add_later(note, &checkpoint, error);
            Ok(Vouched { checkpoint, signed_by: None, cosigned_by: Vec::new() })
        }
        (Err(error), _) => Err(error),
    };
    let mut vouched = vouched_for(&note)?;
    let mut older = Vec::new();
    for path in &flags.since {
        let name = format!("checkpoint in {}", path.display());
        older.push((vouched_for(&read_note(path)?)?.checkpoint, name));
    }
    let mut verifier = LogVerifier::new(&vouched.checkpoint);
    for (checkpoint, name) in &older {
        verifier = verifier.continues(checkpoint, name);
    }
    let mut out = std::io::stdout().lock();
    let mut unwritten = None;
    let (mut entries, mut violations) = (EntryVerifier::default(), Vec::new());
    let mut continued = None;
    let disagreements = verifier.verify(&source, |index, entry| {
        if index == 0 {
            continued = Continued::parse(entry);
        }
        if let Some(keys) = &mut keys {
            keys.name(index, ledger_keys(entry));
        }
        if violations.len() < MOST_VIOLATIONS {
            violations.extend(entries.take(index, entry));
        }
        // The rest is verified even if it cannot be printed.
        if flags.print && unwritten.is_none() {
            unwritten = out.write_all(entry).and_then(|()| out.write_all(b"\n")).err();
        }
    })?;
    drop(out);
    if !disagreements.is_empty() {
        return Err(source.invalid("is not what was signed").because(some(&disagreements)));
    }
    if let Some(keys) = keys {
        vouched.signed_by = Some(keys.last()?.to_string());
    }
    if !violations.is_empty() {
        return Err(source
            .invalid("is as it was signed, but contradicts itself")
            .because(some(&violations)));
    }
    if let Some(error) = unwritten {
        return Err(output::failed(error));
    }
    let verified = Verified {
        source: flags.source.to_string(),
        origin: vouched.checkpoint.origin.clone(),
        entries: vouched.checkpoint.size,
        root: vouched.checkpoint.root.to_string(),
        signed_by: vouched.signed_by,
        cosigned_by: vouched.cosigned_by,
        continues: older.iter().map(|(checkpoint, _)| checkpoint.size).collect(),
        registrations: entries.registrations(),
        closings: entries.closings(),
        foreign: entries.foreign(),
        continued: continued.and_then(|continued| {
            let Checkpoint { origin, size, .. } = continued.checkpoint()?;
            Some(ContinuedLedger { origin, entries: size, books: continued.entries })
        }),
    };
    // Standard output has the entries, or nothing but the JSON.
    match flags.output.format {
        Format::Text if flags.print => eprint!("{}", text(&verified)),
        _ => flags.output.print(&verified, text)?,
    }
    Ok(())
}

/// The first few causes, and how many more there are.
pub(super) fn some(causes: &[impl ToString]) -> String {
    let mut some: Vec<String> = causes.iter().take(PRINTED).map(ToString::to_string).collect();
    if let more @ 1.. = causes.len().saturating_sub(PRINTED) {
        some.push(format!("and {more} more"));
    }
    some.join("; ")
}

pub(super) fn read_note(path: &Path) -> Result<Note, CommandError> {
    let unread = || CommandError::new(format!("Cannot read the checkpoint {}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unread().because(error))?;
    Note::parse(&text).map_err(|error| unread().because(error).code(ErrorCode::Invalid))
}

fn text(verified: &Verified) -> String {
    let Verified {
        source: _,
        origin,
        entries,
        root,
        signed_by,
        cosigned_by,
        continues,
        registrations,
        closings,
        foreign,
        continued,
    } = verified;
    let counted = format!(
        "Verified {entries} entries of {origin}: none was changed, moved or left out. Root hash {root}.\n"
    );
    let continues =
        continues.iter().map(|size| format!("Continues the checkpoint of {size} entries.\n"));
    let continues: Vec<String> = continues.collect();
    let content = match foreign {
        0 => format!(
            "The entries of {registrations} registrations have no gap, and {closings} closings add up.\n"
        ),
        _ => {
            format!("{foreign} entries are not of Daylight, so only their hashes were verified.\n")
        }
    };
    let continued = continued.as_ref().map(|ContinuedLedger { origin, entries, books }| {
        format!(
            "It continues the books of the first {books} entries of {origin}, whose last known checkpoint \
             has {entries}.\n"
        )
    });
    counted
        + &content
        + &signatures(signed_by.as_ref(), cosigned_by)
        + &continues.concat()
        + &continued.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_verified_is_said() {
        let mut verified = Verified {
            source: "/journal".into(),
            origin: "example.com/ledger".into(),
            entries: 612,
            root: "9f41".into(),
            signed_by: None,
            cosigned_by: Vec::new(),
            continues: vec![600],
            registrations: 3,
            closings: 2,
            foreign: 0,
            continued: None,
        };
        assert_eq!(
            text(&verified),
            "Verified 612 entries of example.com/ledger: none was changed, moved or left out. Root \
             hash 9f41.\nThe entries of 3 registrations have no gap, and 2 closings add up.\nThe signature was not verified: name the ledger's key with --key, or a \
             --policy.\nContinues the checkpoint of 600 entries.\n"
        );
        verified.continued = Some(ContinuedLedger { origin: "old".into(), entries: 9, books: 7 });
        let continued = "It continues the books of the first 7 entries of old, whose last known \
                         checkpoint has 9.\n";
        assert!(text(&verified).ends_with(continued));
        verified.continued = None;
        verified.signed_by = Some("example.com/ledger+0+A".into());
        verified.cosigned_by = vec!["w1".into(), "w2".into()];
        assert!(
            text(&verified).contains("Signed by example.com/ledger+0+A.\nCosigned by w1, w2.\n")
        );
        assert_eq!(
            serde_json::to_string(&verified).unwrap(),
            r#"{"source":"/journal","origin":"example.com/ledger","entries":612,"root":"9f41","signedBy":"example.com/ledger+0+A","cosignedBy":["w1","w2"],"continues":[600],"registrations":3,"closings":2,"foreign":0}"#
        );
    }
}
