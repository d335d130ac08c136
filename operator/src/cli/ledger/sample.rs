//! Ledgers for tests.

use std::fs;
use std::path::Path;

use daylight_ledger::SigningKey;
use tempfile::TempDir;

use crate::auditor::journal::{Directory, Journal};

pub(super) fn key() -> SigningKey {
    SigningKey::from_seed("example.com/ledger", [7; 32]).unwrap()
}

/// A ledger with these entries, and its key for pseudonyms.
pub(super) fn ledger(entries: &[Vec<u8>]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    append(directory.path(), entries);
    fs::write(directory.path().join("pseudonym.key"), "secret\n").unwrap();
    directory
}

/// Continues the ledger in a directory with those of these entries that it lacks.
pub(super) fn append(directory: &Path, entries: &[Vec<u8>]) {
    let (mut journal, _) = Journal::open(Directory::take(directory).unwrap(), key()).unwrap();
    let new: Vec<String> = entries[usize::try_from(journal.size()).unwrap()..]
        .iter()
        .map(|entry| String::from_utf8(entry.clone()).unwrap())
        .collect();
    journal.append(&new, &["state"], false).unwrap();
    journal.publish().unwrap();
}

pub(super) fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}
