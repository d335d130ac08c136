//! Keys that replaced each other: a reader who knows the first one follows them through the ledger.
//!
//! An entry `settings` names the keys of the ledger. Once a checkpoint that a trusted key signed has that
//! entry, the keys in it are trusted, too. So a reader needs a checkpoint from the time in which both keys
//! signed.

use daylight_ledger::{Checkpoint, Note, VerifierKey};
use serde::Deserialize;

use crate::cli::error::CommandError;

/// The checkpoints that are to be verified, and the keys that entries name.
#[derive(Debug)]
pub(super) struct KeySequence {
    first: VerifierKey,
    checkpoints: Vec<Signed>,
    /// Keys with the entries that name them.
    named: Vec<(u64, VerifierKey)>,
}

#[derive(Debug)]
struct Signed {
    size: u64,
    note: Note,
    /// Error if none of the later keys signed it; `None` if the first one did.
    error: Option<CommandError>,
}

impl KeySequence {
    pub(super) fn new(first: VerifierKey) -> Self {
        Self { first, checkpoints: Vec::new(), named: Vec::new() }
    }

    /// Adds a checkpoint that the first key signed.
    pub(super) fn add(&mut self, note: &Note, checkpoint: &Checkpoint) {
        let (size, note) = (checkpoint.size, note.clone());
        self.checkpoints.push(Signed { size, note, error: None });
    }

    /// Adds a checkpoint that a later key must have signed, or that error holds.
    pub(super) fn add_later(&mut self, note: &Note, checkpoint: &Checkpoint, error: CommandError) {
        let (size, note) = (checkpoint.size, note.clone());
        self.checkpoints.push(Signed { size, note, error: Some(error) });
    }

    /// Takes the keys that an entry names.
    pub(super) fn name(&mut self, index: u64, keys: Vec<VerifierKey>) {
        let own = keys.into_iter().filter(|key| key.name() == self.first.name());
        self.named.extend(own.map(|key| (index, key)));
    }

    /// Returns the key that signed the latest checkpoint, which was added first, after all were verified. The entries must
    /// be those of the checkpoints.
    pub(super) fn last(mut self) -> Result<VerifierKey, CommandError> {
        // The first one that was added is the latest, of those of one size, too.
        self.checkpoints.reverse();
        self.checkpoints.sort_by_key(|signed| signed.size);
        let mut trusted = vec![self.first.clone()];
        let mut last = self.first;
        for Signed { size, note, error } in self.checkpoints {
            let signer = trusted.iter().find(|key| note.verify(std::slice::from_ref(*key)).is_ok());
            match (signer, error) {
                (Some(signer), _) => last = signer.clone(),
                (None, Some(error)) => return Err(error),
                // The first key signed it, and is always trusted.
                (None, None) => {}
            }
            let named = self.named.iter().filter(|(index, _)| *index < size);
            trusted.extend(named.map(|(_, key)| key.clone()));
        }
        Ok(last)
    }
}

/// The keys of the ledger that an entry `settings` names.
pub(super) fn ledger_keys(entry: &[u8]) -> Vec<VerifierKey> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Settings {
        #[serde(default)]
        ledger_keys: Vec<String>,
    }
    const FIELD: &[u8] = br#""kind":"settings""#;
    // Few entries are: the others need not be parsed for it.
    if !entry.windows(FIELD.len()).any(|window| window == FIELD) {
        return Vec::new();
    }
    let settings = serde_json::from_slice::<Settings>(entry);
    let keys = settings.map(|settings| settings.ledger_keys).unwrap_or_default();
    keys.iter().filter_map(|key| key.parse().ok()).collect()
}
