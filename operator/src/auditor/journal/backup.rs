//! What an auditor continues from in addition to the entries: copied with them, or a lost volume could not
//! be replaced.

use std::io;
use std::path::{Path, PathBuf};

use daylight_ledger::Hash;

use super::commit::{self, COMMIT, Commit, Found};
use super::disk::Disk;
use super::error::{JournalError, failed};
use super::{read_state, state_path};
use crate::auditor::pseudonyms;
use crate::files;

/// State of an auditor and the key of its pseudonyms. Both are secret: they have, or show, the real names.
#[derive(Debug)]
pub struct Backup {
    commit: Commit,
    state: Vec<u8>,
    pseudonym_key: Vec<u8>,
}

impl Backup {
    /// Reads it from a directory, which an auditor may be writing; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// It cannot be read, is damaged, or a journal of an earlier version.
    pub fn read(directory: &Path) -> Result<Option<Self>, JournalError> {
        let disk = ReadOnly(directory.to_owned());
        let mut last = None;
        // An auditor may replace the state after the commit was read, which then names the former one.
        for _ in 0..3 {
            match Self::read_once(&disk) {
                Err(error) => last = Some(error),
                read => return read,
            }
        }
        last.map_or(Ok(None), Err)
    }

    fn read_once(disk: &ReadOnly) -> Result<Option<Self>, JournalError> {
        let Found::Commit(commit) = commit::read(disk)? else { return Ok(None) };
        let mut state = Vec::new();
        for line in read_state(disk, &commit)? {
            state.extend_from_slice(&line);
            state.push(b'\n');
        }
        let Some(pseudonym_key) = pseudonyms::read_key(disk)? else { return Ok(None) };
        Ok(Some(Self { commit, state, pseudonym_key }))
    }

    /// Number of entries that the state includes.
    pub fn size(&self) -> u64 {
        self.commit.size
    }

    /// Root hash of the tree over them.
    pub fn root(&self) -> Hash {
        self.commit.root
    }

    /// Writes it to a disk that has the entries: afterwards, an auditor can continue there.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, disk: &mut impl Disk) -> Result<(), JournalError> {
        let former = match commit::read(disk)? {
            Found::Commit(former) => former.state,
            _ => 0,
        };
        pseudonyms::write_key(disk, &self.pseudonym_key)?;
        let path = state_path(self.commit.state);
        disk.extend(&path, 0, &self.state).map_err(|error| failed(&path, error))?;
        let text = serde_json::to_vec(&self.commit).unwrap_or_default();
        disk.replace(COMMIT, &text).map_err(|error| failed(COMMIT, error))?;
        if former != 0 && former != self.commit.state {
            let _ = disk.remove(&state_path(former));
        }
        Ok(())
    }
}

/// Directory that another process may write.
#[derive(Debug)]
struct ReadOnly(PathBuf);

impl Disk for ReadOnly {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        files::read(&self.0.join(path))
    }

    fn extend(&mut self, _: &str, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn replace(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
