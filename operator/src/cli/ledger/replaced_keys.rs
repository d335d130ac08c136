//! Proofs, in the directory of a report or a receipt, that the key of a ledger replaced the one that a reader
//! knows.
//!
//! While both keys sign, an entry `settings` names both. A file has that entry, and another one the proof
//! that a checkpoint of that time has it. So a reader who trusts the old key trusts the new one, too.

use std::path::{Path, PathBuf};

use clap::Args;
use daylight_ledger::{Checkpoint, Hash, Note, Policy, TileHashes, TlogProof, VerifierKey};

use super::evidence::{ListedFile, content, read_ledger};
use super::key_sequence::ledger_keys;
use super::prove::inclusion;
use super::source::Opened;
use super::trust::{Trust, Vouched, vouch};
use super::verify::read_note;
use crate::cli::error::{CommandError, ErrorCode};

#[derive(Debug, Args)]
pub(super) struct Since {
    /// Checkpoint from the time in which an old and a new key signed, to prove that the one replaced the
    /// other; may be repeated, the oldest first
    #[arg(long, value_name = "FILE")]
    since: Vec<PathBuf>,
}

/// Checkpoints that are to prove keys, and the entries that name keys.
pub(super) struct ReplacedKeys {
    checkpoints: Vec<(PathBuf, Note, Checkpoint)>,
    named: Vec<(u64, Vec<u8>)>,
}

/// Names of the files: the entry that names a new key, and its proof.
fn files(number: usize) -> [String; 2] {
    [format!("keys-{number}.json"), format!("keys-{number}.tlog-proof")]
}

impl Since {
    /// Reads a ledger, which must continue these checkpoints, with [`read_ledger`].
    pub(super) fn read_ledger(
        &self,
        source: &Opened<'_>,
        checkpoint: &Checkpoint,
        mut take: impl FnMut(u64, &[u8]),
    ) -> Result<ReplacedKeys, CommandError> {
        let checkpoints = self.checkpoints()?;
        let mut named = Vec::new();
        let older = checkpoints.iter().map(|(path, _, older)| {
            let name = format!("checkpoint in {}", path.display());
            (older, name)
        });
        read_ledger(source, checkpoint, &older.collect::<Vec<_>>(), |index, entry| {
            if !checkpoints.is_empty() && !ledger_keys(entry).is_empty() {
                named.push((index, entry.to_vec()));
            }
            take(index, entry);
        })?;
        Ok(ReplacedKeys { checkpoints, named })
    }

    fn checkpoints(&self) -> Result<Vec<(PathBuf, Note, Checkpoint)>, CommandError> {
        let mut checkpoints = Vec::new();
        for path in &self.since {
            let note = read_note(path)?;
            // The ledger shows whether it is its own: it must continue it.
            let checkpoint = vouch(None, &note)?.checkpoint;
            checkpoints.push((path.clone(), note, checkpoint));
        }
        Ok(checkpoints)
    }
}

impl ReplacedKeys {
    /// Returns the files that prove the keys.
    pub(super) fn prove(&self, source: &Opened<'_>) -> Result<Vec<(String, String)>, CommandError> {
        let mut written = Vec::new();
        for (at, (path, note, checkpoint)) in self.checkpoints.iter().enumerate() {
            let before = self.named.iter().rfind(|(index, _)| *index < checkpoint.size);
            let (index, entry) = before.ok_or_else(|| {
                CommandError::new(format!("No entry before {} names a key", path.display()))
                    .code(ErrorCode::Invalid)
                    .remedy("Name a checkpoint from the time in which both keys signed")
            })?;
            let mut hashes = TileHashes::new(source, checkpoint.size);
            let hashes = inclusion(source, &mut hashes, checkpoint, *index, entry)?;
            let proof = TlogProof { extra: None, index: *index, hashes, checkpoint: note.clone() };
            let [entry_file, proof_file] = files(at + 1);
            let entry = String::from_utf8_lossy(entry).into_owned();
            written.extend([(entry_file, entry), (proof_file, proof.to_string())]);
        }
        Ok(written)
    }
}

/// Verifies who signed a checkpoint: the trusted policy, or a key that replaced the trusted one by the proofs
/// in a directory. Returns the policy that accepts it. `wrong` makes the error.
pub(super) fn vouch_in(
    directory: &Path,
    listed: &[ListedFile],
    trust: &Trust,
    policy: Policy,
    note: &Note,
    wrong: impl Fn(&str) -> CommandError,
) -> Result<(Policy, Vouched), CommandError> {
    let untrusted = match (vouch(Some(&policy), note), trust.key()) {
        (Ok(vouched), _) => return Ok((policy, vouched)),
        // A policy names its keys and witnesses itself.
        (Err(error), None) => return Err(error),
        (Err(error), Some(_)) => error,
    };
    let mut trusted: Vec<VerifierKey> = trust.key().into_iter().cloned().collect();
    for number in 1.. {
        let [entry_file, proof_file] = files(number);
        if ![&entry_file, &proof_file].iter().all(|name| listed.iter().any(|it| it.name == **name))
        {
            break;
        }
        let entry = content(directory, &entry_file)?;
        let proof = String::from_utf8_lossy(&content(directory, &proof_file)?).into_owned();
        let proof: Option<TlogProof> = proof.parse().ok();
        let leaf = Hash::leaf(&entry);
        let is_proved = proof.is_some_and(|proof| {
            trusted.iter().any(|key| proof.verify(leaf, &Policy::of_log(key.clone())).is_ok())
        });
        if !is_proved {
            return Err(wrong(&format!("no trusted key signed what {entry_file} names")));
        }
        let named = ledger_keys(&entry).into_iter();
        trusted.extend(named.filter(|key| trust.key().is_some_and(|it| it.name() == key.name())));
    }
    for key in trusted.into_iter().skip(1) {
        let policy = Policy::of_log(key);
        if let Ok(vouched) = vouch(Some(&policy), note) {
            return Ok((policy, vouched));
        }
    }
    Err(untrusted)
}
