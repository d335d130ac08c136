//! The journal: the auditor's observations as entries, durable and never changed, and the state
//! from which the auditor itself continues.
//!
//! Entries are numbered from 0. They are stored in bundles of 256, each entry after its length in
//! two bytes (big-endian), at the paths of entry bundles in C2SP `tlog-tiles`. So a Merkle log can be
//! built over them as they are. The state is one file of lines, until a complete new state replaces
//! it. The file `commit` states how much of both counts, with a hash over each. It is replaced after
//! both are on disk, and only then do they count, together. What a crash leaves after the committed
//! end is overwritten.
//!
//! ```text
//! commit                  {"size":"612","head":"9f…","end":"18211","state":"3",…}
//! tile/entries/000        entries 0 to 255
//! tile/entries/001        256 to 511
//! tile/entries/002        512 to 611
//! state/3                 the state
//! ```

mod disk;

use std::fmt::{self, Write as _};
use std::io;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use disk::{Directory, Disk};

/// Most bytes of an entry: what its length in two bytes allows, by C2SP `tlog-tiles`.
pub const MAX_ENTRY: usize = 65_535;

/// Entries in a full bundle, by C2SP `tlog-tiles`.
const BUNDLE: u64 = 256;

const COMMIT: &str = "commit";

/// Version of the journal's format.
const VERSION: u32 = 1;

/// Open journal.
#[derive(Debug)]
pub struct Journal<D> {
    disk: D,
    commit: Commit,
}

/// Committed ends and hashes. Numbers are strings, since many readers of JSON numbers keep only 53 bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Commit {
    version: u32,
    /// Number of entries.
    #[serde(with = "daylight_meter::decimal")]
    size: u64,
    /// Hash over all entries.
    head: Head,
    /// Bytes of the last bundle that count.
    #[serde(with = "daylight_meter::decimal")]
    end: u64,
    /// Hash over the entries before that bundle.
    bundle_head: Head,
    /// Number of the state's file; 0 if there is none.
    #[serde(with = "daylight_meter::decimal")]
    state: u64,
    /// Bytes of it that count.
    #[serde(with = "daylight_meter::decimal")]
    state_end: u64,
    /// Hash over its lines.
    state_head: Head,
}

/// Hash over a sequence of entries or lines: SHA-256 of the hash over all but the last, followed by
/// the leaf hash of the last by RFC 6962. It is zero for the empty sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head([u8; 32]);

impl Head {
    fn and(self, entry: &[u8]) -> Self {
        let leaf = Sha256::new().chain_update([0]).chain_update(entry).finalize();
        Self(Sha256::new().chain_update(self.0).chain_update(leaf).finalize().into())
    }
}

/// Error of a journal that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk failed. What was committed is still committed.
    #[error(
        "cannot read or write {path} of the journal ({error}); free space on its volume, or repair it"
    )]
    Disk { path: String, error: io::Error },
    /// The files differ from what was written.
    #[error(
        "the journal is damaged: {0}; restore the data directory from a backup, or start a new journal in an empty directory"
    )]
    Damaged(String),
    /// The key of the pseudonyms is too short.
    #[error(
        "{path}, the key of the journal's pseudonyms, has {bytes} bytes, with which names could be \
         guessed; write {fewest} or more random bytes into it, and begin a new journal with it"
    )]
    ShortKey { path: &'static str, bytes: usize, fewest: usize },
    /// It may or may not be committed: the directory could not be made durable after `commit` was
    /// replaced. Writing again could destroy what is committed, so the journal must be opened again.
    #[error(
        "cannot make {path} of the journal durable ({error}); check its volume; the auditor opens \
         the journal again"
    )]
    Uncertain { path: String, error: io::Error },
    /// An entry was not divided as it should have been.
    #[error("an entry of {0} bytes exceeds the journal's limit of {MAX_ENTRY}; this is a bug")]
    TooLong(usize),
    /// A later version of Daylight wrote it.
    #[error(
        "the journal has format {0}, but this version reads format {VERSION}; use the version that wrote it, or a later one"
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
    /// Opens the journal on a disk, or starts one. Returns the lines of the state.
    ///
    /// # Errors
    ///
    /// It cannot be read, or the state or the last bundle differs from what was committed.
    pub fn open(mut disk: D) -> Result<(Self, Vec<Vec<u8>>), JournalError> {
        let commit = committed(&disk)?;
        if commit.is_some() {
            // What it counts may be acted on, so it must not vanish with the power.
            disk.sync(COMMIT).map_err(|error| failed(COMMIT, error))?;
        }
        let commit = commit.unwrap_or_default();
        let journal = Self { disk, commit };
        // Only the last bundle and the state are read: a start must not take longer each year.
        // `daylight verify` reads all.
        if journal.commit.size > 0 {
            let last = (journal.commit.size - 1) / BUNDLE;
            journal.verify_bundles(last, journal.commit.bundle_head, &mut |_| {})?;
        }
        let state = journal.state()?;
        Ok((journal, state))
    }

    /// Opens the journal on a disk only to read it.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read.
    pub fn open_read_only(disk: D) -> Result<Self, JournalError> {
        let commit = committed(&disk)?
            .ok_or_else(|| JournalError::Damaged(format!("{COMMIT} is missing")))?;
        Ok(Self { disk, commit })
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.commit.size
    }

    /// Bytes of the state.
    pub fn state_bytes(&self) -> u64 {
        self.commit.state_end
    }

    /// Hash over all entries, in hexadecimal.
    pub fn head(&self) -> String {
        self.commit.head.to_string()
    }

    /// The disk, for other files of the same directory.
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Appends entries and lines of state, and makes them durable: afterwards all of them count, or
    /// none after an error. With `replaces_state`, these lines become the whole state.
    ///
    /// # Errors
    ///
    /// The disk is full, read-only or broken. What counted before still counts, and the same may be
    /// appended again. After [`JournalError::Uncertain`] it may count already: open the journal again.
    pub fn append(
        &mut self,
        entries: &[impl AsRef<[u8]>],
        state: &[impl AsRef<[u8]>],
        replaces_state: bool,
    ) -> Result<(), JournalError> {
        // The commit in memory changes last. After an error it still has the old ends, from which
        // the next attempt overwrites what this one left.
        let mut commit = self.commit.clone();
        self.append_entries(&mut commit, entries)?;
        self.append_state(&mut commit, state, replaces_state)?;
        let text = serde_json::to_vec(&commit).unwrap_or_default();
        if let Err(error) = self.disk.replace(COMMIT, &text) {
            // The old one or the new one is in place. With the new one, the old ends in memory are
            // wrong: the next attempt would overwrite what it counts, and a crash damage it.
            let is_old = self.disk.read(COMMIT).is_ok_and(|there| there.as_deref() != Some(&*text));
            return Err(match is_old {
                true => failed(COMMIT, error),
                false => JournalError::Uncertain { path: COMMIT.into(), error },
            });
        }
        let before = std::mem::replace(&mut self.commit, commit).state;
        if before != 0 && before != self.commit.state {
            // If this fails, or a crash prevents it, the old file stays and is never read again.
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

    /// Writes to the bundle that holds entry `before - 1`.
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
        replaces_state: bool,
    ) -> Result<(), JournalError> {
        // A new file, so that the old state is intact until the commit.
        if replaces_state || commit.state == 0 {
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
        let damaged = |how| JournalError::Damaged(format!("{path} {how}"));
        let bytes = read(&self.disk, &path)?.ok_or_else(|| damaged("is missing"))?;
        let bytes = bytes.get(..usize_of(state_end)).ok_or_else(|| damaged("is too short"))?;
        let mut lines: Vec<Vec<u8>> =
            bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.pop();
        let head = lines.iter().fold(Head::default(), |head, line| head.and(line));
        if head == state_head { Ok(lines) } else { Err(damaged("differs from what was committed")) }
    }

    /// Reads all entries in order, and checks that they are those that were committed.
    ///
    /// # Errors
    ///
    /// They cannot be read, or differ. The entries before were handed out nevertheless.
    pub fn verify(&self, mut entry: impl FnMut(&[u8])) -> Result<(), JournalError> {
        self.verify_bundles(0, Head::default(), &mut entry)
    }

    /// Like [`Journal::verify`] from a bundle on; `head` is the hash over the entries before it.
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
            "entries {} to {} differ from what was committed",
            first * BUNDLE,
            size - 1
        )))
    }
}

fn committed(disk: &impl Disk) -> Result<Option<Commit>, JournalError> {
    let Some(text) = read(disk, COMMIT)? else { return Ok(None) };
    let commit: Commit = serde_json::from_slice(&text)
        .map_err(|error| JournalError::Damaged(format!("{COMMIT} cannot be read ({error})")))?;
    if commit.version == VERSION {
        Ok(Some(commit))
    } else {
        Err(JournalError::Version(commit.version))
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Splits off the first entry; `None` if the bytes end before it does.
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

/// Path of a bundle: its number in groups of three digits, each but the last after an `x`.
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
