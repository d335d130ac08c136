//! The journal: the auditor's observations as entries, durable and never changed, and the state
//! from which the auditor itself continues.
//!
//! Entries are numbered from 0 and stored as a transparency log by C2SP `tlog-tiles`, with its
//! `checkpoint` signed. The last bundle, and the last tile of hashes of each level, grow in place
//! under the name that they have when they are full. The state is one file of lines, until a
//! complete new state replaces it. The file `commit` states how much of all of them counts. It is
//! replaced after they are on disk, and only then do they count, together. What a crash leaves after
//! the committed end is overwritten. The checkpoint follows the commit, so nothing that was signed
//! is ever undone.
//!
//! ```text
//! commit                  {"size":"612","root":"9f…","end":"18211","state":"3",…}
//! checkpoint              name, size and root hash, signed
//! tile/entries/000        entries 0 to 255
//! tile/entries/001        256 to 511
//! tile/entries/002        512 to 611
//! tile/0/000              the hashes of entries 0 to 255
//! …
//! tile/1/000              the hashes of tile/0/000 and tile/0/001
//! state/3                 the state
//! ```

mod backup;
mod commit;
pub mod continued;
mod disk;
mod earlier;
mod error;
mod tiles;

use std::io;
use std::sync::Arc;

use daylight_ledger::{
    BundleError, CHECKPOINT, Checkpoint, Hash, Note, SigningKey, TILE_WIDTH, TileKind, Tree,
    push_entry,
};

use self::commit::{COMMIT, Commit, Found, Head};
use self::error::{failed, read};
use self::tiles::{tree_of, verify_bundle, whole_name, write_tiles};

pub use backup::Backup;
pub use daylight_ledger::MAX_ENTRY;
pub use disk::{Directory, Disk};
pub use error::JournalError;

/// Journal that is open for writing.
#[derive(Debug)]
pub struct Journal<D> {
    disk: D,
    key: SigningKey,
    /// Key that will replace it, and signs as well.
    next_key: Option<SigningKey>,
    commit: Commit,
    /// Tree over the entries that count.
    tree: Tree,
    /// The checkpoint on the disk; `None` if there is none.
    published: Option<Published>,
}

/// Checkpoint as it is stored and served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Number of entries that it vouches for.
    pub size: u64,
    /// The signed note.
    pub note: Arc<str>,
}

impl<D: Disk> Journal<D> {
    /// Opens the journal on a disk, or starts one. Returns the lines of the state.
    ///
    /// Only the last bundle, the last tiles and the state are read: a start must not take longer each
    /// year. `daylight ledger verify` reads all.
    ///
    /// # Errors
    ///
    /// It cannot be read, or the state or the last bundle differs from what was committed, or the
    /// checkpoint is not one of this log.
    pub fn open(mut disk: D, key: SigningKey) -> Result<(Self, Vec<Vec<u8>>), JournalError> {
        let commit = match commit::read(&disk)? {
            Found::Nothing => Commit::default(),
            Found::Earlier(old) => earlier::take_over(&mut disk, &old)?,
            Found::Commit(commit) => {
                // What it counts may be acted on, so it must not vanish with the power.
                disk.sync(COMMIT).map_err(|error| failed(COMMIT, error))?;
                commit
            }
        };
        let tree = tree_of(&disk, commit.size)?;
        if tree.root() != commit.root {
            let end = commit.size;
            return Err(JournalError::Damaged(format!(
                "the hashes of its {end} entries differ from what was committed"
            )));
        }
        let mut journal = Self { disk, key, next_key: None, commit, tree, published: None };
        if let Some(last) = journal.commit.size.checked_sub(1) {
            verify_bundle(&journal.disk, last / TILE_WIDTH, journal.commit.size)?;
        }
        journal.published = journal.verify_checkpoint()?;
        let state = read_state(&journal.disk, &journal.commit)?;
        Ok((journal, state))
    }

    /// Signs with the key that will replace this one as well, so that readers may know either.
    pub fn set_next_key(&mut self, key: SigningKey) {
        self.next_key = Some(key);
    }

    /// Verifies that the checkpoint is of this log, and that the entries are still those that it
    /// vouches for. Returns it; `None` if there is no checkpoint.
    fn verify_checkpoint(&self) -> Result<Option<Published>, JournalError> {
        let Some(text) = read(&self.disk, CHECKPOINT)? else { return Ok(None) };
        let damaged = |why: &dyn std::fmt::Display| {
            JournalError::Damaged(format!("{CHECKPOINT} cannot be read ({why})"))
        };
        let text = String::from_utf8(text).map_err(|error| damaged(&error))?;
        let note = Note::parse(&text).map_err(|error| damaged(&error))?;
        if note.verify(&[self.key.verifier()]).is_err() {
            let signer = note.signatures().first().map(|by| by.name().to_owned());
            return Err(JournalError::OtherKey {
                signer: signer.unwrap_or_default(),
                key: self.key.verifier().to_string(),
            });
        }
        let signed = Checkpoint::parse(note.text()).map_err(|error| damaged(&error))?;
        match self.contradiction(&signed)? {
            None => Ok(Some(Published { size: signed.size, note: text.into() })),
            Some(difference) => Err(JournalError::Damaged(difference)),
        }
    }

    /// Returns how the entries differ from those that a checkpoint vouches for; `None` if they continue
    /// it.
    ///
    /// # Errors
    ///
    /// The tiles cannot be read.
    pub fn contradiction(&self, signed: &Checkpoint) -> Result<Option<String>, JournalError> {
        let size = self.commit.size;
        if signed.size > size {
            return Ok(Some(format!(
                "it has {size} entries, but {} were signed: it is an old copy",
                signed.size
            )));
        }
        let root = match signed.size == size {
            true => self.commit.root,
            false => tree_of(&self.disk, signed.size)?.root(),
        };
        Ok((root != signed.root)
            .then(|| format!("its first {} entries are not those that were signed", signed.size)))
    }

    /// Signs the entries that count, for everyone to see.
    ///
    /// # Errors
    ///
    /// The checkpoint cannot be written. The entries count all the same.
    pub fn publish(&mut self) -> Result<(), JournalError> {
        let size = self.commit.size;
        if self.published() == Some(size) {
            return Ok(());
        }
        let checkpoint = Checkpoint::new(self.key.name(), size, self.commit.root);
        let keys: Vec<&SigningKey> = [&self.key].into_iter().chain(&self.next_key).collect();
        let note =
            checkpoint.sign(&keys).map_err(|error| failed(CHECKPOINT, io::Error::other(error)))?;
        let note = note.to_string();
        self.disk
            .replace(CHECKPOINT, note.as_bytes())
            .map_err(|error| failed(CHECKPOINT, error))?;
        self.published = Some(Published { size, note: note.into() });
        Ok(())
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.commit.size
    }

    /// Number of entries that the checkpoint on the disk vouches for; `None` if there is none.
    pub fn published(&self) -> Option<u64> {
        self.published.as_ref().map(|published| published.size)
    }

    /// The checkpoint on the disk; `None` if there is none.
    pub fn checkpoint(&self) -> Option<&Published> {
        self.published.as_ref()
    }

    /// Bytes of the state.
    pub fn state_bytes(&self) -> u64 {
        self.commit.state_end
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
        let (mut commit, mut tree) = (self.commit.clone(), self.tree.clone());
        self.append_entries(&mut commit, &mut tree, entries)?;
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
        self.tree = tree;
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
        tree: &mut Tree,
        entries: &[impl AsRef<[u8]>],
    ) -> Result<(), JournalError> {
        let mut chunk = Vec::new();
        let mut chunk_at = commit.end;
        for entry in entries {
            let entry = entry.as_ref();
            if commit.size.is_multiple_of(TILE_WIDTH) {
                self.extend(commit.size, chunk_at, &chunk)?;
                chunk.clear();
                chunk_at = 0;
            }
            push_entry(&mut chunk, entry).map_err(|error| match error {
                BundleError::TooLong(bytes) => JournalError::TooLong(bytes),
                error @ BundleError::Truncated(_) => JournalError::Damaged(error.to_string()),
            })?;
            tree.append(Hash::leaf(entry));
            commit.size += 1;
            commit.end = chunk_at + chunk.len() as u64;
        }
        self.extend(commit.size, chunk_at, &chunk)?;
        write_tiles(&mut self.disk, tree)?;
        commit.root = tree.root();
        Ok(())
    }

    /// Writes to the bundle that holds entry `before - 1`.
    fn extend(&mut self, before: u64, keep: u64, bytes: &[u8]) -> Result<(), JournalError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let path = whole_name(TileKind::Entries, (before - 1) / TILE_WIDTH);
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
}

/// Reads the lines of the state.
fn read_state(disk: &impl Disk, commit: &Commit) -> Result<Vec<Vec<u8>>, JournalError> {
    let Commit { state, state_end, state_head, .. } = *commit;
    if state == 0 {
        return Ok(Vec::new());
    }
    let path = state_path(state);
    let damaged = |how| JournalError::Damaged(format!("{path} {how}"));
    let bytes = read(disk, &path)?.ok_or_else(|| damaged("is missing"))?;
    let bytes = bytes.get(..usize_of(state_end)).ok_or_else(|| damaged("is too short"))?;
    let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.pop();
    let head = lines.iter().fold(Head::default(), |head, line| head.and(line));
    if head == state_head { Ok(lines) } else { Err(damaged("differs from what was committed")) }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn state_path(number: u64) -> String {
    format!("state/{number}")
}

#[cfg(test)]
mod tests;
