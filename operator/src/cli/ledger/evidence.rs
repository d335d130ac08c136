//! Directories of files that prove figures: a manifest with their hashes, which is written last.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use daylight_ledger::{Checkpoint, Hash, LogVerifier, Note, Policy, TileHashes, verify_inclusion};
use daylight_meter::decimal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::prove::inclusion;
use super::replaced_keys::vouch_in;
use super::source::Opened;
use super::trust::{Trust, Vouched};
use super::verify::{read_note, some};
use crate::cli::error::{CommandError, ErrorCode};
use crate::entries::EntryVerifier;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const POLICY: &str = "policy";

/// List of the files.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest<S> {
    pub(super) form: String,
    /// Version of Daylight that wrote it.
    pub(super) version: String,
    #[serde(flatten)]
    pub(super) subject: S,
    pub(super) files: Vec<ListedFile>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListedFile {
    pub(super) name: String,
    #[serde(with = "decimal")]
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl ListedFile {
    pub(super) fn new(name: &str, content: &[u8]) -> Self {
        let sha256 = hex::encode(Sha256::digest(content));
        Self { name: name.to_owned(), bytes: content.len() as u64, sha256 }
    }
}

/// Entry of the ledger with the hashes that prove it, as a C2SP tlog-proof has them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProvedEntry {
    #[serde(with = "decimal")]
    pub(super) index: u64,
    /// Byte for byte.
    pub(super) entry: String,
    pub(super) hashes: Vec<Hash>,
}

impl ProvedEntry {
    /// Verifies that the ledger has the entry. `wrong` makes the error.
    pub(super) fn verify(
        &self,
        checkpoint: &Checkpoint,
        wrong: impl Fn(&str) -> CommandError,
    ) -> Result<(), CommandError> {
        let Self { index, entry, hashes } = self;
        let leaf = Hash::leaf(entry.as_bytes());
        verify_inclusion(leaf, *index, checkpoint.size, checkpoint.root, hashes)
            .map_err(|error| wrong(&format!("entry {index} is not in the ledger")).because(error))
    }
}

/// Fails if a directory has a manifest.
pub(super) fn refuse_existing(directory: &Path, what: &str) -> Result<(), CommandError> {
    if !directory.join(MANIFEST).exists() {
        return Ok(());
    }
    Err(CommandError::new(format!("{} has a {what}", directory.display()))
        .code(ErrorCode::Conflict)
        .remedy("Name another directory: a correction does not replace what was filed"))
}

/// Writes files and their manifest into a directory. Returns their names.
pub(super) fn write<S: Serialize>(
    directory: &Path,
    form: &str,
    subject: S,
    mut contents: Vec<(String, String)>,
) -> Result<Vec<String>, CommandError> {
    let listed = contents.iter().map(|(name, text)| ListedFile::new(name, text.as_bytes()));
    let manifest = Manifest {
        form: form.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        subject,
        files: listed.collect(),
    };
    let json = serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n";
    // The manifest is last: without it, there is nothing to be verified.
    contents.push((MANIFEST.to_owned(), json));
    fs::create_dir_all(directory).map_err(|error| unwritten(directory, error))?;
    for (name, text) in &contents {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| unwritten(&path, error))?;
    }
    Ok(contents.into_iter().map(|(name, _)| name).collect())
}

/// Proves entries, each with the bytes that were read.
pub(super) fn prove_all(
    source: &Opened<'_>,
    checkpoint: &Checkpoint,
    entries: BTreeMap<u64, Vec<u8>>,
) -> Result<Vec<ProvedEntry>, CommandError> {
    let mut hashes = TileHashes::new(source, checkpoint.size);
    let mut proved = Vec::with_capacity(entries.len());
    for (index, entry) in entries {
        let path = inclusion(source, &mut hashes, checkpoint, index, &entry)?;
        let entry = String::from_utf8(entry).map_err(|error| {
            source.invalid(&format!("has no text in entry {index}")).because(error)
        })?;
        proved.push(ProvedEntry { index, entry, hashes: path });
    }
    Ok(proved)
}

fn unwritten(path: &Path, error: std::io::Error) -> CommandError {
    CommandError::new(format!("Cannot write {}", path.display())).because(error)
}

/// Reads the manifest of a directory, and verifies that its files are those that it lists. `wrong` makes
/// the error.
fn read_manifest<S: DeserializeOwned>(
    directory: &Path,
    form: &str,
    required: &[&str],
    wrong: impl Fn(&str) -> CommandError,
) -> Result<Manifest<S>, CommandError> {
    let manifest: Manifest<S> = serde_json::from_slice(&content(directory, MANIFEST)?)
        .map_err(|error| wrong("its manifest cannot be read").because(error))?;
    if manifest.form != form {
        return Err(
            wrong("its manifest has another form").remedy("Use another version of Daylight")
        );
    }
    for listed in &manifest.files {
        // Names with a path could be of any file.
        let is_name = Path::new(&listed.name).file_name() == Some(listed.name.as_ref());
        if !is_name || ListedFile::new(&listed.name, &content(directory, &listed.name)?) != *listed
        {
            return Err(wrong(&format!("{} is not the file that the manifest lists", listed.name)));
        }
    }
    let is_listed = |name: &&&str| manifest.files.iter().any(|listed| listed.name == **name);
    if let Some(missing) = required.iter().find(|name| !is_listed(name)) {
        return Err(wrong(&format!("its manifest lists no {missing}")));
    }
    Ok(manifest)
}

/// Directory whose files are those of its manifest, with a checkpoint that a trusted key signed.
pub(super) struct Evidence<S> {
    pub(super) manifest: Manifest<S>,
    pub(super) note: Note,
    /// Policy that accepts the checkpoint.
    pub(super) policy: Policy,
    pub(super) vouched: Vouched,
}

/// Opens the directory of a `what`. `wrong` makes the error.
pub(super) fn open<S: DeserializeOwned>(
    directory: &Path,
    what: &str,
    form: &str,
    required: &str,
    trust: &Trust,
    wrong: impl Fn(&str) -> CommandError,
) -> Result<Evidence<S>, CommandError> {
    let policy = trust.policy()?.ok_or_else(|| untrusted(what))?;
    let manifest: Manifest<S> = read_manifest(directory, form, &[required, CHECKPOINT], &wrong)?;
    let note = read_note(&directory.join(CHECKPOINT))?;
    let (policy, vouched) = vouch_in(directory, &manifest.files, trust, policy, &note, &wrong)?;
    Ok(Evidence { manifest, note, policy, vouched })
}

/// Returns the first field in which one object differs from another.
pub(super) fn difference(found: &impl Serialize, expected: &impl Serialize) -> Option<String> {
    let found = serde_json::to_value(found).unwrap_or_default();
    let expected = serde_json::to_value(expected).unwrap_or_default();
    let mut fields = found.as_object()?.iter();
    let differs = fields.find(|(field, value)| expected.get(field.as_str()) != Some(*value));
    differs.map(|(field, _)| field.clone())
}

pub(super) fn content(directory: &Path, name: &str) -> Result<Vec<u8>, CommandError> {
    let path = directory.join(name);
    fs::read(&path).map_err(|error| {
        CommandError::new(format!("Cannot read {}", path.display())).because(error)
    })
}

pub(super) fn untrusted(what: &str) -> CommandError {
    CommandError::new(format!("A {what} holds only under a key that you trust"))
        .code(ErrorCode::Invalid)
        .remedy("Name the ledger's key with --key, or a --policy")
}

/// Reads a whole ledger, and verifies it meanwhile: every hash, that it continues older checkpoints, and
/// what its entries state about each other.
pub(super) fn read_ledger(
    source: &Opened<'_>,
    checkpoint: &Checkpoint,
    older: &[(&Checkpoint, String)],
    mut take: impl FnMut(u64, &[u8]),
) -> Result<(), CommandError> {
    let (mut verifier, mut violations) = (EntryVerifier::default(), Vec::new());
    let mut log = LogVerifier::new(checkpoint);
    for (older, name) in older {
        log = log.continues(older, name);
    }
    let disagreements = log.verify(source, |index, entry| {
        if violations.len() < 100 {
            violations.extend(verifier.take(index, entry));
        }
        take(index, entry);
    })?;
    if !disagreements.is_empty() {
        return Err(source.invalid("is not what was signed").because(some(&disagreements)));
    }
    if !violations.is_empty() {
        return Err(source
            .invalid("is as it was signed, but contradicts itself")
            .because(some(&violations)));
    }
    Ok(())
}
