//! `daylight verify`: whether a journal is what the auditor wrote.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::Failed;
use crate::auditor::journal::{Directory, Journal, JournalError};

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the journal, which has `commit` and `tile`
    directory: PathBuf,
    /// Print the entries, one per line
    #[arg(long)]
    print: bool,
}

/// Reads all entries of a journal, which an auditor may be writing.
pub(super) fn run(flags: &Flags) -> Result<(), Failed> {
    let failed = |error: JournalError| {
        Failed::new(format!("{} does not hold: {error}.", flags.directory.display()))
    };
    let directory = Directory::look_at(&flags.directory).map_err(|error| {
        Failed::new(format!("There is no journal in {} ({error}).", flags.directory.display()))
    })?;
    let journal = Journal::look_at(directory).map_err(failed)?;
    let mut out = std::io::stdout().lock();
    let mut broken = None;
    journal
        .verify(|entry| {
            if flags.print && broken.is_none() {
                broken = out.write_all(entry).and_then(|()| out.write_all(b"\n")).err();
            }
        })
        .map_err(failed)?;
    if let Some(error) = broken {
        return Err(Failed::new(format!("The entries cannot be printed ({error}).")));
    }
    eprintln!(
        "{} entries are what was committed, to the last byte; the hash over them is {}.",
        journal.size(),
        journal.head()
    );
    Ok(())
}
