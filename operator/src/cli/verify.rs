//! `daylight verify`: verifies that a journal is what the auditor wrote.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::error::{CommandError, ErrorCode};
use super::output::{self, Format, Output};
use crate::auditor::journal::{Directory, Journal, JournalError};

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the journal, which has `commit` and `tile`
    directory: PathBuf,
    /// Print the entries, one per line
    #[arg(long, conflicts_with = "format")]
    print: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

/// A journal that is what was written.
#[derive(Debug, Serialize)]
struct Verified {
    directory: PathBuf,
    entries: u64,
    /// The hash over all entries, in hexadecimal.
    hash: String,
}

/// Reads all entries of a journal, also of one that an auditor is writing.
pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let directory = flags.directory.display();
    let invalid = |error: JournalError| {
        CommandError::new(format!("Verification of the journal in {directory} failed"))
            .because(error)
            .code(ErrorCode::JournalInvalid)
    };
    let disk = Directory::open_read_only(&flags.directory)
        .map_err(|error| absent(&flags.directory).because(error))?;
    // Where one of them is left, a journal was there, and is damaged.
    if !["commit", "tile"].iter().any(|name| flags.directory.join(name).exists()) {
        return Err(absent(&flags.directory));
    }
    let journal = Journal::open_read_only(disk).map_err(invalid)?;
    let mut out = std::io::stdout().lock();
    let mut unwritten = None;
    journal
        .verify(|entry| {
            // The rest is verified even if it cannot be printed.
            if flags.print && unwritten.is_none() {
                unwritten = out.write_all(entry).and_then(|()| out.write_all(b"\n")).err();
            }
        })
        .map_err(invalid)?;
    drop(out);
    if let Some(error) = unwritten {
        return Err(output::failed(error));
    }
    let verified = Verified {
        directory: flags.directory.clone(),
        entries: journal.size(),
        hash: journal.head(),
    };
    // Standard output has the entries, or nothing but the JSON.
    match flags.output.format {
        Format::Text => eprint!("{}", text(&verified)),
        Format::Json => flags.output.print(&verified, text)?,
    }
    Ok(())
}

fn absent(directory: &Path) -> CommandError {
    CommandError::new(format!("There is no journal in {}", directory.display()))
        .code(ErrorCode::NoJournal)
        .remedy("Name the auditor's data directory, which contains `commit` and `tile`")
}

fn text(verified: &Verified) -> String {
    let Verified { directory: _, entries, hash } = verified;
    format!("Verified {entries} entries, unchanged to the last byte. Their hash is {hash}.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_journal_is_not_a_damaged_one() {
        let directory = tempfile::tempdir().unwrap();
        let verify = || {
            let output = Output { format: Format::Text };
            let flags = Flags { directory: directory.path().into(), print: false, output };
            run(&flags).unwrap_err().json()
        };
        assert!(verify().contains(r#""code":"NoJournal""#), "{}", verify());
        // The commit is lost, the entries are there.
        std::fs::create_dir(directory.path().join("tile")).unwrap();
        assert!(verify().contains(r#""code":"JournalInvalid""#), "{}", verify());
    }

    #[test]
    fn json_has_the_count_and_the_hash() {
        let verified = Verified { directory: "/journal".into(), entries: 612, hash: "9f41".into() };
        assert_eq!(
            text(&verified),
            "Verified 612 entries, unchanged to the last byte. Their hash is 9f41.\n"
        );
        let json = serde_json::to_string(&verified).unwrap();
        assert_eq!(json, r#"{"directory":"/journal","entries":612,"hash":"9f41"}"#);
    }
}
