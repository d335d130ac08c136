//! The journal: what the auditor has found, one entry after another, durable and never changed.
//!
//! Entries are numbered from 0. They lie in bundles of 256, each entry behind its length in two
//! bytes (big-endian), at the paths that C2SP `tlog-tiles` gives entry bundles; so a Merkle log
//! can be built over them as they are. The file `commit` says how many entries count, and holds a
//! hash over all of them; it is replaced after the entries are on disk, and an entry counts only
//! from then on. What lies behind the committed end, as a crash leaves it, is overwritten.
//!
//! ```text
//! commit                  {"size":"612","head":"9f…","end":"18211","snapshot":"590",…}
//! tile/entries/000        entries 0 to 255
//! tile/entries/001        256 to 511
//! tile/entries/002        512 to 611
//! ```

mod disk;

use std::fmt::Write as _;
use std::io;
use std::ops::Range;

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

/// What was read of a journal when it was opened.
#[derive(Debug, Default)]
pub struct Tail {
    /// The number of the first entry.
    pub from: u64,
    /// The entries from the last snapshot on, or all where there is none.
    pub entries: Vec<Vec<u8>>,
}

/// Which entries count. Numbers are written as strings: JSON's are doubles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Commit {
    version: u32,
    /// How many entries count.
    #[serde(with = "text")]
    size: u64,
    /// The hash over all of them.
    head: Head,
    /// Bytes that count of the last bundle.
    #[serde(with = "text")]
    end: u64,
    /// The number of the last snapshot; 0 is the beginning.
    #[serde(with = "text")]
    snapshot: u64,
    /// Where it begins in its bundle.
    #[serde(with = "text")]
    snapshot_at: u64,
    /// The hash over what is before it.
    snapshot_head: Head,
}

/// A hash over a row of entries: SHA-256 of the hash over those before, and of the entry's leaf
/// hash as RFC 6962 has it. Of no entries: zeros.
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
        /// The file.
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
            snapshot: 0,
            snapshot_at: 0,
            snapshot_head: Head::default(),
        }
    }
}

impl<D: Disk> Journal<D> {
    /// Opens the journal that lies there, or begins one, and reads it from its last snapshot on.
    ///
    /// # Errors
    ///
    /// It cannot be read, or what is read is not what was written.
    pub fn open(disk: D) -> Result<(Self, Tail), JournalError> {
        let commit = match read(&disk, COMMIT)? {
            Some(text) => serde_json::from_slice::<Commit>(&text).map_err(|error| {
                JournalError::Damaged(format!("{COMMIT} is unreadable: {error}"))
            })?,
            None => Commit::default(),
        };
        if commit.version != VERSION {
            return Err(JournalError::Version(commit.version));
        }
        let journal = Self { disk, commit };
        let tail = journal.tail()?;
        Ok((journal, tail))
    }

    /// How many entries count.
    pub fn size(&self) -> u64 {
        self.commit.size
    }

    /// Appends entries and makes them durable: all of them count afterwards, or, after an error,
    /// none. `snapshot` is the place among them of one that alone says what all before it say.
    ///
    /// # Errors
    ///
    /// The disk is full, read-only or broken. What counted before still does, and the same
    /// entries may be appended again.
    pub fn append(
        &mut self,
        entries: &[impl AsRef<[u8]>],
        snapshot: Option<usize>,
    ) -> Result<(), JournalError> {
        let mut commit = self.commit.clone();
        let mut chunk = Vec::new();
        let mut chunk_at = commit.end;
        for (at, entry) in entries.iter().enumerate() {
            let entry = entry.as_ref();
            let length =
                u16::try_from(entry.len()).map_err(|_| JournalError::TooLong(entry.len()))?;
            if commit.size.is_multiple_of(BUNDLE) {
                self.extend(commit.size, chunk_at, &chunk)?;
                chunk.clear();
                (chunk_at, commit.end) = (0, 0);
            }
            if snapshot == Some(at) {
                commit.snapshot = commit.size;
                commit.snapshot_at = commit.end;
                commit.snapshot_head = commit.head;
            }
            chunk.extend_from_slice(&length.to_be_bytes());
            chunk.extend_from_slice(entry);
            commit.head = commit.head.and(entry);
            commit.size += 1;
            commit.end += 2 + u64::from(length);
        }
        self.extend(commit.size, chunk_at, &chunk)?;
        let text = serde_json::to_vec(&commit).unwrap_or_default();
        self.disk.replace(COMMIT, &text).map_err(|error| failed(COMMIT, error))?;
        self.commit = commit;
        Ok(())
    }

    /// Writes to the bundle that ends before entry `before`.
    fn extend(&mut self, before: u64, keep: u64, bytes: &[u8]) -> Result<(), JournalError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let path = bundle_path((before - 1) / BUNDLE);
        self.disk.extend(&path, keep, bytes).map_err(|error| failed(&path, error))
    }

    /// Where it lies, for files beside it.
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    fn tail(&self) -> Result<Tail, JournalError> {
        let Commit { size, snapshot, snapshot_at, .. } = self.commit;
        let mut tail = Tail { from: snapshot, entries: Vec::new() };
        let mut head = self.commit.snapshot_head;
        let mut number = snapshot;
        let mut at = snapshot_at;
        while number < size {
            let bundle = number / BUNDLE;
            let path = bundle_path(bundle);
            let bytes = read(&self.disk, &path)?
                .ok_or_else(|| JournalError::Damaged(format!("{path} is missing")))?;
            let last = size.min((bundle + 1) * BUNDLE);
            let mut rest = bytes.get(usize_of(at)..).unwrap_or_default();
            for entry in number..last {
                let (bytes, after) = split(rest).ok_or_else(|| {
                    JournalError::Damaged(format!("{path} ends within entry {entry}"))
                })?;
                head = head.and(bytes);
                tail.entries.push(bytes.to_vec());
                rest = after;
            }
            (number, at) = (last, 0);
        }
        if head != self.commit.head {
            let Range { start, end } = snapshot..size;
            return Err(JournalError::Damaged(format!(
                "entries {start} to {end} are not those that were committed"
            )));
        }
        Ok(tail)
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

impl Serialize for Head {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
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

/// Whole numbers as strings.
mod text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
