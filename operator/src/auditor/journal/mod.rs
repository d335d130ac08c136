//! The journal: what the auditor has found, one entry after another, durable and never changed;
//! and the state that the auditor goes on from, which is its own.
//!
//! Entries are numbered from 0. They lie in bundles of 256, each entry behind its length in two
//! bytes (big-endian), at the paths that C2SP `tlog-tiles` gives entry bundles; so a Merkle log
//! can be built over them as they are. The state lies in one file, a line after another, until a
//! new one begins that says all by itself. The file `commit` says how much of both counts, and holds
//! a hash over each; it is replaced after they are on disk, and they count only from then on,
//! entries and state together. What lies behind the committed end, as a crash leaves it, is
//! overwritten.
//!
//! ```text
//! commit                  {"size":"612","head":"9f…","end":"18211","state":"3",…}
//! tile/entries/000        entries 0 to 255
//! tile/entries/001        256 to 511
//! tile/entries/002        512 to 611
//! state/3                 what the auditor goes on from
//! ```

mod disk;

use std::fmt::{self, Write as _};
use std::io;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use disk::{Directory, Disk};

/// The most bytes of one entry, as C2SP `tlog-tiles` has it.
pub const MAX_ENTRY: usize = 65_535;

/// Entries in a full bundle.
const BUNDLE: u64 = 256;

const COMMIT: &str = "commit";

/// The version of the journal's form.
const VERSION: u32 = 1;

/// A journal that is open for writing.
#[derive(Debug)]
pub struct Journal<D> {
    disk: D,
    commit: Commit,
}

/// How much counts. Numbers are written as strings: JSON's are doubles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Commit {
    version: u32,
    /// How many entries count.
    #[serde(with = "daylight_meter::decimal")]
    size: u64,
    /// The hash over all of them.
    head: Head,
    /// Bytes that count of the last bundle.
    #[serde(with = "daylight_meter::decimal")]
    end: u64,
    /// The hash over the entries before that bundle.
    bundle_head: Head,
    /// The number of the state's file; 0 is none.
    #[serde(with = "daylight_meter::decimal")]
    state: u64,
    /// Bytes that count of it.
    #[serde(with = "daylight_meter::decimal")]
    state_end: u64,
    /// The hash over its lines.
    state_head: Head,
}

/// A hash over a row of entries or lines: SHA-256 of the hash over those before, and of the leaf
/// hash of this one as RFC 6962 has it. Of none: zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head([u8; 32]);

impl Head {
    fn and(self, entry: &[u8]) -> Self {
        let leaf = Sha256::new().chain_update([0]).chain_update(entry).finalize();
        Self(Sha256::new().chain_update(self.0).chain_update(leaf).finalize().into())
    }
}

/// Why a journal cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk does not do as it should; what was committed stays.
    #[error(
        "the journal cannot be written to {path} ({error}); free space there, or mend the volume"
    )]
    Disk {
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// It is not what was written.
    #[error(
        "the journal is damaged: {0}; restore the volume from a backup, or begin a new journal in an empty directory"
    )]
    Damaged(String),
    /// An entry is too long. A bug: entries are to be split before.
    #[error("an entry of {0} bytes is longer than the {MAX_ENTRY} that a journal takes")]
    TooLong(usize),
    /// A later version of Daylight wrote it.
    #[error(
        "the journal has form {0}, and this version reads form {VERSION}: use the version that wrote it, or a later one"
    )]
    Version(u32),
}

impl Default for Commit {
    fn default() -> Self {
        Self {
            version: VERSION,
            size: 0,
            head: Head::default(),
            end: 0,
            bundle_head: Head::default(),
            state: 0,
            state_end: 0,
            state_head: Head::default(),
        }
    }
}

impl<D: Disk> Journal<D> {
    /// Opens the journal that lies there, or begins one. Gives the lines of the state.
    ///
    /// # Errors
    ///
    /// It cannot be read, or the state or the last bundle is not what was written.
    pub fn open(disk: D) -> Result<(Self, Vec<Vec<u8>>), JournalError> {
        let commit = committed(&disk)?.unwrap_or_default();
        let journal = Self { disk, commit };
        if journal.commit.size > 0 {
            let last = (journal.commit.size - 1) / BUNDLE;
            journal.verify_bundles(last, journal.commit.bundle_head, &mut |_| {})?;
        }
        let state = journal.state()?;
        Ok((journal, state))
    }

    /// The journal that lies there, to be read.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read.
    pub fn look_at(disk: D) -> Result<Self, JournalError> {
        let commit = committed(&disk)?
            .ok_or_else(|| JournalError::Damaged(format!("{COMMIT} is missing")))?;
        Ok(Self { disk, commit })
    }

    /// How many entries count.
    pub fn size(&self) -> u64 {
        self.commit.size
    }

    /// How many bytes of state count.
    pub fn state_bytes(&self) -> u64 {
        self.commit.state_end
    }

    /// The hash over all entries, in hexadecimal.
    pub fn head(&self) -> String {
        self.commit.head.to_string()
    }

    /// Where it lies, for files beside it.
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Appends entries and lines of state, and makes them durable: all of them count afterwards,
    /// or, after an error, none. With `anew` these lines alone are the state from then on.
    ///
    /// # Errors
    ///
    /// The disk is full, read-only or broken. What counted before still does, and the same may be
    /// appended again.
    pub fn append(
        &mut self,
        entries: &[impl AsRef<[u8]>],
        state: &[impl AsRef<[u8]>],
        anew: bool,
    ) -> Result<(), JournalError> {
        let mut commit = self.commit.clone();
        self.append_entries(&mut commit, entries)?;
        self.append_state(&mut commit, state, anew)?;
        let text = serde_json::to_vec(&commit).unwrap_or_default();
        self.disk.replace(COMMIT, &text).map_err(|error| failed(COMMIT, error))?;
        let before = std::mem::replace(&mut self.commit, commit).state;
        if before != 0 && before != self.commit.state {
            // One that is left is in nobody's way.
            let _ = self.disk.remove(&state_path(before));
        }
        Ok(())
    }

    fn append_entries(
        &mut self,
        commit: &mut Commit,
        entries: &[impl AsRef<[u8]>],
    ) -> Result<(), JournalError> {
        let mut chunk = Vec::new();
        let mut chunk_at = commit.end;
        for entry in entries {
            let entry = entry.as_ref();
            let length =
                u16::try_from(entry.len()).map_err(|_| JournalError::TooLong(entry.len()))?;
            if commit.size.is_multiple_of(BUNDLE) {
                self.extend(commit.size, chunk_at, &chunk)?;
                chunk.clear();
                (chunk_at, commit.end) = (0, 0);
                commit.bundle_head = commit.head;
            }
            chunk.extend_from_slice(&length.to_be_bytes());
            chunk.extend_from_slice(entry);
            commit.head = commit.head.and(entry);
            commit.size += 1;
            commit.end += 2 + u64::from(length);
        }
        self.extend(commit.size, chunk_at, &chunk)
    }

    /// Writes to the bundle that ends before entry `before`.
    fn extend(&mut self, before: u64, keep: u64, bytes: &[u8]) -> Result<(), JournalError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let path = bundle_path((before - 1) / BUNDLE);
        self.disk.extend(&path, keep, bytes).map_err(|error| failed(&path, error))
    }

    fn append_state(
        &mut self,
        commit: &mut Commit,
        state: &[impl AsRef<[u8]>],
        anew: bool,
    ) -> Result<(), JournalError> {
        if anew || commit.state == 0 {
            commit.state += 1;
            (commit.state_end, commit.state_head) = (0, Head::default());
        }
        let mut chunk = Vec::new();
        for line in state {
            commit.state_head = commit.state_head.and(line.as_ref());
            chunk.extend_from_slice(line.as_ref());
            chunk.push(b'\n');
        }
        let path = state_path(commit.state);
        self.disk.extend(&path, commit.state_end, &chunk).map_err(|error| failed(&path, error))?;
        commit.state_end += chunk.len() as u64;
        Ok(())
    }

    fn state(&self) -> Result<Vec<Vec<u8>>, JournalError> {
        let Commit { state, state_end, state_head, .. } = self.commit;
        if state == 0 {
            return Ok(Vec::new());
        }
        let path = state_path(state);
        let damaged = |what| JournalError::Damaged(format!("{path} {what}"));
        let bytes = read(&self.disk, &path)?.ok_or_else(|| damaged("is missing"))?;
        let bytes = bytes.get(..usize_of(state_end)).ok_or_else(|| damaged("is too short"))?;
        let mut lines: Vec<Vec<u8>> =
            bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.pop();
        let head = lines.iter().fold(Head::default(), |head, line| head.and(line));
        if head == state_head { Ok(lines) } else { Err(damaged("is not what was committed")) }
    }

    /// Reads all entries, in order, and finds out whether they are what was committed.
    ///
    /// # Errors
    ///
    /// They cannot be read, or are not.
    pub fn verify(&self, mut entry: impl FnMut(&[u8])) -> Result<(), JournalError> {
        self.verify_bundles(0, Head::default(), &mut entry)
    }

    /// The same from a bundle on, `head` being the hash over what is before it.
    fn verify_bundles(
        &self,
        first: u64,
        mut head: Head,
        each: &mut impl FnMut(&[u8]),
    ) -> Result<(), JournalError> {
        let Commit { size, .. } = self.commit;
        for bundle in first..size.div_ceil(BUNDLE) {
            let path = bundle_path(bundle);
            let bytes = read(&self.disk, &path)?
                .ok_or_else(|| JournalError::Damaged(format!("{path} is missing")))?;
            let mut rest = &bytes[..];
            for number in bundle * BUNDLE..size.min((bundle + 1) * BUNDLE) {
                let (entry, after) = split(rest).ok_or_else(|| {
                    JournalError::Damaged(format!("{path} ends within entry {number}"))
                })?;
                head = head.and(entry);
                each(entry);
                rest = after;
            }
        }
        if head == self.commit.head {
            return Ok(());
        }
        Err(JournalError::Damaged(format!(
            "entries {} to {} are not those that were committed",
            first * BUNDLE,
            size - 1
        )))
    }
}

fn committed(disk: &impl Disk) -> Result<Option<Commit>, JournalError> {
    let Some(text) = read(disk, COMMIT)? else { return Ok(None) };
    let commit: Commit = serde_json::from_slice(&text)
        .map_err(|error| JournalError::Damaged(format!("{COMMIT} is unreadable: {error}")))?;
    if commit.version == VERSION {
        Ok(Some(commit))
    } else {
        Err(JournalError::Version(commit.version))
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The first entry of a bundle's rest, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn read(disk: &impl Disk, path: &str) -> Result<Option<Vec<u8>>, JournalError> {
    disk.read(path).map_err(|error| failed(path, error))
}

fn failed(path: &str, error: io::Error) -> JournalError {
    JournalError::Disk { path: path.into(), error }
}

fn state_path(number: u64) -> String {
    format!("state/{number}")
}

/// The path of a bundle: its number in groups of three digits, all but the last behind an `x`.
fn bundle_path(number: u64) -> String {
    let mut path = String::from("tile/entries/");
    let digits = format!("{number:03}");
    let digits = format!("{digits:0>width$}", width = digits.len().div_ceil(3) * 3);
    for at in (0..digits.len()).step_by(3) {
        let last = at + 3 == digits.len();
        let _ = write!(
            path,
            "{}{}{}",
            if last { "" } else { "x" },
            &digits[at..at + 3],
            if last { "" } else { "/" }
        );
    }
    path
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Head {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut head = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(serde::de::Error::custom("a hash is 64 hexadecimal digits"));
        }
        for (at, byte) in head.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16)
                .map_err(serde::de::Error::custom)?;
        }
        Ok(Self(head))
    }
}

#[cfg(test)]
mod tests;
