//! Ledgers that continue another one under a new name, since its key was lost or its volume has only an
//! old copy. The first entry holds the last checkpoint of the other, so that readers see what is missing.

use daylight_base::Timestamp;
use daylight_ledger::{CHECKPOINT, Checkpoint, Entries, Note, SigningKey, TileKind};
use serde::{Deserialize, Serialize};

use super::commit::{self, Found};
use super::disk::Disk;
use super::error::{JournalError, read};
use super::tiles::whole_name;
use super::{Journal, read_state};
use crate::auditor::pseudonyms;
use crate::entries;

/// Version of the entry's form. Numbers and closings, which version 2 has, begin after it.
const BEFORE_NUMBERS: u32 = 1;

/// First entry of a ledger that continues another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continued {
    v: u32,
    kind: Kind,
    pub at: Timestamp,
    /// Number of entries of the other ledger whose books this one continues.
    #[serde(with = "daylight_meter::decimal")]
    pub entries: u64,
    /// Last known checkpoint of the other ledger, a signed note. It may have more entries.
    pub checkpoint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Continued,
}

impl Continued {
    /// Reads the first entry of a ledger; `None` if it does not continue another.
    pub fn parse(entry: &[u8]) -> Option<Self> {
        serde_json::from_slice(entry).ok()
    }

    /// Checkpoint of the other ledger. Who signed it is not looked at here.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        parse(&self.checkpoint)
    }
}

fn parse(note: &str) -> Option<Checkpoint> {
    Checkpoint::parse(Note::parse(note).ok()?.text()).ok()
}

/// Returns `true` if a journal was begun on a disk.
///
/// # Errors
///
/// It cannot be read.
pub fn is_begun(disk: &impl Disk) -> Result<bool, JournalError> {
    Ok(!matches!(commit::read(disk)?, Found::Nothing))
}

/// Begins a journal on an empty disk that continues the one on another. `kept` is the checkpoint that is
/// kept outside of the volume.
///
/// # Errors
///
/// There is no journal to continue, it is damaged, no checkpoint of it is known, or it is one of this key.
pub fn begin<D: Disk>(
    disk: &mut D,
    key: &SigningKey,
    other: &impl Disk,
    kept: Option<&str>,
    at: Timestamp,
) -> Result<(), JournalError> {
    let Found::Commit(commit) = commit::read(other)? else {
        return Err(JournalError::Continued("there is no journal of this version"));
    };
    let own = read(other, CHECKPOINT)?.map(|text| String::from_utf8_lossy(&text).into_owned());
    let known = own.as_deref().into_iter().chain(kept);
    let known = known.filter_map(|note| Some((parse(note)?, note)));
    let known = known.filter(|(checkpoint, _)| checkpoint.origin != key.name());
    let Some((_, note)) = known.max_by_key(|(checkpoint, _)| checkpoint.size) else {
        return Err(JournalError::Continued(
            "it has no checkpoint, or one of the same name as the new key",
        ));
    };
    let entry = Continued {
        v: BEFORE_NUMBERS,
        kind: Kind::Continued,
        at,
        entries: commit.size,
        checkpoint: note.to_owned(),
    };
    let entry = serde_json_canonicalizer::to_vec(&entry).unwrap_or_default();
    let mut state = read_state(other, &commit)?;
    state.retain(|line| !entries::is_own(line));
    pseudonyms::copy_key(other, disk)?;
    let (mut journal, _) = Journal::open(disk, key.clone())?;
    journal.append(&[entry], &state, true)
}

impl<D: Disk> Journal<D> {
    /// Returns what the first entry states of the ledger that this one continues; `None` if it continues
    /// no other.
    ///
    /// # Errors
    ///
    /// The first bundle cannot be read.
    pub fn continued(&self) -> Result<Option<Continued>, JournalError> {
        if self.size() == 0 {
            return Ok(None);
        }
        let bundle = read(&self.disk, &whole_name(TileKind::Entries, 0))?.unwrap_or_default();
        let first = Entries::new(&bundle).next().and_then(Result::ok);
        Ok(first.and_then(Continued::parse))
    }
}
