//! What counts of a journal's files.

use daylight_ledger::Hash;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::disk::Disk;
use super::error::{self, JournalError};

/// File of the commit.
pub(super) const COMMIT: &str = "commit";

/// Version of the journal's format.
pub(super) const VERSION: u32 = 2;

/// Committed ends and hashes. Numbers are strings, since many readers of JSON numbers keep only 53 bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Commit {
    version: u32,
    /// Number of entries.
    #[serde(with = "daylight_meter::decimal")]
    pub(super) size: u64,
    /// Root hash of the tree over all entries.
    pub(super) root: Hash,
    /// Bytes of the last bundle that count.
    #[serde(with = "daylight_meter::decimal")]
    pub(super) end: u64,
    /// Number of the state's file; 0 if there is none.
    #[serde(with = "daylight_meter::decimal")]
    pub(super) state: u64,
    /// Bytes of it that count.
    #[serde(with = "daylight_meter::decimal")]
    pub(super) state_end: u64,
    /// Hash over its lines.
    pub(super) state_head: Head,
}

impl Default for Commit {
    fn default() -> Self {
        Self {
            version: VERSION,
            size: 0,
            root: Hash::empty(),
            end: 0,
            state: 0,
            state_end: 0,
            state_head: Head::default(),
        }
    }
}

/// Commit of format 1, as far as it is needed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EarlierCommit {
    #[serde(with = "daylight_meter::decimal")]
    pub(super) size: u64,
    /// Hash over all entries.
    pub(super) head: Head,
    #[serde(with = "daylight_meter::decimal")]
    pub(super) end: u64,
    #[serde(with = "daylight_meter::decimal")]
    pub(super) state: u64,
    #[serde(with = "daylight_meter::decimal")]
    pub(super) state_end: u64,
    pub(super) state_head: Head,
}

/// Commit on a disk.
pub(super) enum Found {
    /// No journal was begun there.
    Nothing,
    /// One of an earlier version of Daylight.
    Earlier(EarlierCommit),
    Commit(Commit),
}

/// Reads the commit on a disk.
///
/// # Errors
///
/// It cannot be read, or a later version of Daylight wrote it.
pub(super) fn read(disk: &impl Disk) -> Result<Found, JournalError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Some(text) = error::read(disk, COMMIT)? else { return Ok(Found::Nothing) };
    let parse = || -> serde_json::Result<Result<Found, u32>> {
        Ok(Ok(match serde_json::from_slice::<Version>(&text)?.version {
            1 => Found::Earlier(serde_json::from_slice(&text)?),
            VERSION => Found::Commit(serde_json::from_slice(&text)?),
            other => return Ok(Err(other)),
        }))
    };
    parse()
        .map_err(|error| JournalError::Damaged(format!("{COMMIT} cannot be read ({error})")))?
        .map_err(|found| JournalError::Version { found, known: VERSION })
}

/// Hash over a sequence of lines: SHA-256 of the hash over all but the last, followed by the leaf hash
/// of the last by RFC 6962. It is zero for the empty sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Head(Hash);

impl Default for Head {
    fn default() -> Self {
        Self(Hash([0; Hash::BYTES]))
    }
}

impl Head {
    pub(super) fn and(self, line: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(self.0.0).chain_update(Hash::leaf(line).0);
        Self(Hash(hash.finalize().into()))
    }
}
