//! The last signed checkpoint, kept outside of the journal's volume. The journal alone cannot show that
//! it was cut back to an older state: with this checkpoint, the next start finds it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use daylight_ledger::{Checkpoint, CheckpointError, Note, NoteError, VerifierKey};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinHandle;

use super::cluster_writes::MANAGER;
use super::journal::{Disk, Journal, JournalError, Published};
use super::ledger_key::LedgerKeyPlace;
use crate::failure::chain;
use crate::files;

/// Item of the `ConfigMap` with the checkpoint.
const ITEM: &str = "checkpoint";

/// Time between two writes. Who may write the volume can cut off no more than the entries of this time.
const EVERY: Duration = Duration::from_secs(10);

/// Time that a write may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Place of the checkpoint. A text is a `ConfigMap` if it begins with `configmap/`, and otherwise the
/// path of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointPlace {
    /// Name of a `ConfigMap` in Daylight's namespace.
    ConfigMap(String),
    File(PathBuf),
}

impl CheckpointPlace {
    /// The place for a ledger whose key is in this place: the chart's `ConfigMap`, or a file next to
    /// the file with the key.
    pub fn of(key: &LedgerKeyPlace) -> Self {
        match key {
            LedgerKeyPlace::Secret(_) => Self::ConfigMap("daylight-ledger".to_owned()),
            LedgerKeyPlace::File(key) => {
                let mut name = key.file_name().unwrap_or_default().to_owned();
                name.push(".checkpoint");
                Self::File(key.with_file_name(name))
            }
        }
    }
}

impl FromStr for CheckpointPlace {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix("configmap/") {
            Some(name) => Self::ConfigMap(name.to_owned()),
            None => Self::File(text.into()),
        })
    }
}

impl fmt::Display for CheckpointPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMap(name) => write!(f, "ConfigMap {name}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Error of a checkpoint that cannot be read, or that the journal does not continue.
#[derive(Debug, thiserror::Error)]
pub enum KeptCheckpointError {
    #[error(
        "cannot read {0} with the ledger's last checkpoint ({1}); permit the auditor to, or name another \
         place with --ledger-checkpoint"
    )]
    File(CheckpointPlace, io::Error),
    #[error(
        "cannot read {0} with the ledger's last checkpoint ({1}); permit the auditor to get, create and \
         patch it, or name another place with --ledger-checkpoint"
    )]
    ConfigMap(CheckpointPlace, Box<kube::Error>),
    #[error("{0} does not have a checkpoint ({1}); name another place with --ledger-checkpoint")]
    Note(CheckpointPlace, NoteError),
    #[error("{0} does not have a checkpoint ({1}); name another place with --ledger-checkpoint")]
    Checkpoint(CheckpointPlace, CheckpointError),
    #[error(
        "{place} keeps the checkpoint of another ledger, signed by the key {signer}, but the ledger's key \
         is {key}; name the key that signed it, or another place with --ledger-checkpoint"
    )]
    OtherKey { place: CheckpointPlace, signer: String, key: String },
    /// The journal is older, or another one.
    #[error(
        "the journal does not continue the checkpoint that {place} keeps: {difference}; restore the \
         newest copy of the data directory"
    )]
    Contradicted { place: CheckpointPlace, difference: String },
}

/// Keeps the last checkpoint.
///
/// 1. [`KeptCheckpoint::read`] before the journal is opened, and [`KeptCheckpoint::verify`] before
///    anything is written to it.
/// 2. [`KeptCheckpoint::start`] writes what is due, and [`KeptCheckpoint::next`] returns when it is
///    written.
/// 3. [`KeptCheckpoint::finish`] writes the last one.
#[derive(Debug)]
pub(super) struct KeptCheckpoint {
    place: CheckpointPlace,
    maps: Api<ConfigMap>,
    /// The note that was read at the start.
    found: Option<String>,
    /// Number of entries in the checkpoint that is kept, and its note as far as this process wrote it.
    kept: Option<Published>,
    writing: Option<JoinHandle<Option<Published>>>,
    due: Option<Instant>,
}

impl KeptCheckpoint {
    /// Reads the checkpoint that is kept in a place; there is none before the first start.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(super) async fn read(
        place: CheckpointPlace,
        client: &Client,
        namespace: &str,
    ) -> Result<Self, KeptCheckpointError> {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let found = match &place {
            CheckpointPlace::File(path) => files::read(path)
                .map_err(|error| KeptCheckpointError::File(place.clone(), error))?
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            CheckpointPlace::ConfigMap(name) => maps
                .get_opt(name)
                .await
                .map_err(|error| KeptCheckpointError::ConfigMap(place.clone(), Box::new(error)))?
                .map(|map| map.data.and_then(|mut data| data.remove(ITEM)).unwrap_or_default()),
        };
        Ok(Self { place, maps, found, kept: None, writing: None, due: None })
    }

    /// Verifies that a journal continues the checkpoint. Without one, the journal is taken as it is.
    ///
    /// # Errors
    ///
    /// The journal is older, or another one; or the checkpoint is not one of this key.
    pub(super) fn verify(
        &mut self,
        journal: &Journal<impl Disk>,
        key: &VerifierKey,
    ) -> Result<(), JournalError> {
        let place = || self.place.clone();
        let Some(found) = self.found.take() else {
            if journal.size() > 0 {
                tracing::warn!(
                    place = %self.place, entries = journal.size(),
                    "No checkpoint is kept outside of the journal's volume, so an older journal would \
                     not be noticed. This is expected once, after an upgrade from a version without it."
                );
            }
            return Ok(());
        };
        let note =
            Note::parse(&found).map_err(|error| KeptCheckpointError::Note(place(), error))?;
        if note.verify(std::slice::from_ref(key)).is_err() {
            if is_of_continued(&note, journal)? {
                return Ok(());
            }
            let signer = note.signatures().first().map(|by| by.name().to_owned());
            return Err(KeptCheckpointError::OtherKey {
                place: place(),
                signer: signer.unwrap_or_default(),
                key: key.to_string(),
            }
            .into());
        }
        let signed = Checkpoint::parse(note.text())
            .map_err(|error| KeptCheckpointError::Checkpoint(place(), error))?;
        if let Some(difference) = journal.contradiction(&signed)? {
            return Err(KeptCheckpointError::Contradicted { place: place(), difference }.into());
        }
        self.kept = Some(Published { size: signed.size, note: found.into() });
        Ok(())
    }

    /// The note that was read, and not yet verified.
    pub(super) fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// Number of entries in the checkpoint that is kept.
    pub(super) fn size(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.size)
    }

    /// Starts to write a checkpoint, unless it is kept, or another one was written or tried just now.
    pub(super) fn start(&mut self, checkpoint: Option<&Published>, now: Instant) {
        let Some(checkpoint) = checkpoint.filter(|new| Some(*new) != self.kept.as_ref()) else {
            return;
        };
        if self.writing.is_some() || self.due.is_some_and(|due| now < due) {
            return;
        }
        self.due = Some(now + EVERY);
        let write = write(self.place.clone(), self.maps.clone(), checkpoint.clone());
        self.writing = Some(tokio::spawn(write));
    }

    /// Waits until a write ends; never returns while there is none. Cancel-safe.
    pub(super) async fn next(&mut self) {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let written = writing.await;
        self.writing = None;
        if let Ok(Some(kept)) = written {
            self.kept = Some(kept);
        }
    }

    /// Writes the last checkpoint before the process ends.
    pub(super) async fn finish(&mut self, checkpoint: Option<&Published>) {
        if self.writing.is_some() {
            self.next().await;
        }
        self.due = None;
        self.start(checkpoint, Instant::now());
        if self.writing.is_some() {
            self.next().await;
        }
    }
}

/// Returns `true` if a note is a checkpoint of the ledger that the journal continues under another name. The
/// first entry has that checkpoint, or a later one.
fn is_of_continued(note: &Note, journal: &Journal<impl Disk>) -> Result<bool, JournalError> {
    let kept = Checkpoint::parse(note.text()).ok();
    let known = journal.continued()?.and_then(|continued| continued.checkpoint());
    Ok(kept.zip(known).is_some_and(|(kept, known)| {
        kept.origin == known.origin && (kept.size < known.size || kept == known)
    }))
}

/// Writes a checkpoint, and returns it if that succeeded.
async fn write(
    place: CheckpointPlace,
    maps: Api<ConfigMap>,
    checkpoint: Published,
) -> Option<Published> {
    let note = checkpoint.note.clone();
    let written = match &place {
        CheckpointPlace::File(path) => {
            let path = path.clone();
            let replaced =
                tokio::task::spawn_blocking(move || files::replace(&path, note.as_bytes()));
            replaced
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(|error| chain(&error))
        }
        CheckpointPlace::ConfigMap(name) => {
            match tokio::time::timeout(TIMEOUT, patch(&maps, name, &note)).await {
                Ok(written) => written.map_err(|error| chain(&error)),
                Err(elapsed) => Err(elapsed.to_string()),
            }
        }
    };
    match written {
        Ok(()) => Some(checkpoint),
        Err(error) => {
            tracing::warn!(
                %place, error,
                "Cannot keep the ledger's checkpoint outside of its volume; it will be retried."
            );
            None
        }
    }
}

/// Writes the item of the `ConfigMap`, or creates it.
async fn patch(maps: &Api<ConfigMap>, name: &str, note: &str) -> kube::Result<()> {
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let change = Patch::Merge(json!({"data": {ITEM: note}}));
    match maps.patch(name, &params, &change).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let map = ConfigMap {
                metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
                data: Some(BTreeMap::from([(ITEM.to_owned(), note.to_owned())])),
                ..ConfigMap::default()
            };
            maps.create(&PostParams::default(), &map).await.map(|_| ())
        }
        patched => patched.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use daylight_ledger::SigningKey;

    use super::*;
    use crate::auditor::journal::{Directory, continued};

    fn client() -> Client {
        // Not used for files.
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(io::Error::other("no server"))
        });
        Client::new(service, "default")
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed("example.com/ledger", [seed; 32]).unwrap()
    }

    /// Directory of a journal, and a place outside of it.
    struct Site {
        root: tempfile::TempDir,
        place: CheckpointPlace,
    }

    impl Site {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let key = LedgerKeyPlace::File(root.path().join("ledger.key"));
            Self { place: CheckpointPlace::of(&key), root }
        }

        async fn open(
            &self,
            journal: &str,
        ) -> Result<(Journal<Directory>, KeptCheckpoint), JournalError> {
            let directory = Directory::take(&self.root.path().join(journal)).unwrap();
            let mut kept = KeptCheckpoint::read(self.place.clone(), &client(), "n").await.unwrap();
            let (journal, _) = Journal::open(directory, key(1))?;
            kept.verify(&journal, &key(1).verifier())?;
            Ok((journal, kept))
        }

        async fn error(&self, journal: &str) -> String {
            self.open(journal).await.map(|_| ()).unwrap_err().to_string()
        }

        fn keep(&self, note: &str) {
            std::fs::write(self.root.path().join("ledger.key.checkpoint"), note).unwrap();
        }
    }

    #[tokio::test]
    async fn a_journal_that_was_cut_back_or_forged_is_refused_without_its_own_checkpoint() {
        let site = Site::new();
        let none: [&[u8]; 0] = [];
        // The same beginning, which went on in another way.
        for (journal, entries) in [
            ("honest", &["a", "b", "c"][..]),
            ("old", &["a", "b"]),
            ("forged", &["a", "x", "c", "d"]),
        ] {
            let (mut journal, _) = site.open(journal).await.unwrap();
            journal.append(entries, &none, false).unwrap();
        }
        let (mut journal, mut kept) = site.open("honest").await.unwrap();
        assert_eq!(kept.size(), 0);
        journal.publish().unwrap();
        kept.finish(journal.checkpoint()).await;
        assert_eq!(kept.size(), 3);
        drop(journal);

        let error = site.error("old").await;
        let expected = "ledger.key.checkpoint keeps: it has 2 entries, but 3 were signed: it is an old copy; \
                        restore the newest copy of the data directory";
        assert!(error.contains(expected), "{error}");
        let error = site.error("forged").await;
        assert!(error.contains("its first 3 entries are not those that were signed"), "{error}");
        let error = site.error("empty").await;
        assert!(error.contains("it has 0 entries, but 3 were signed"), "{error}");

        // The honest one continues, also past what is kept.
        let (mut journal, kept) = site.open("honest").await.unwrap();
        assert_eq!(kept.size(), 3);
        journal.append(&["d"], &none, false).unwrap();
        drop(journal);
        assert_eq!(site.open("honest").await.unwrap().0.size(), 4);
    }

    /// An old backup, and later a lost key: the books continue in a ledger of another name, which has the
    /// last checkpoint of the old one.
    #[tokio::test]
    async fn a_journal_is_continued_under_another_name_with_its_last_checkpoint() {
        let site = Site::new();
        let at = daylight_base::Timestamp(7);
        // Both begin before a checkpoint is kept.
        let (mut backup, _) = site.open("backup").await.unwrap();
        backup.append(&["a", "b"], &["state"], false).unwrap();
        drop(backup);
        let (mut honest, mut kept) = site.open("honest").await.unwrap();
        honest.append(&["a", "b", "c"], &["state"], false).unwrap();
        honest.publish().unwrap();
        kept.finish(honest.checkpoint()).await;
        drop(honest);
        assert!(site.open("backup").await.is_err());
        let path = |name: &str| site.root.path().join(name);
        std::fs::write(path("backup").join("pseudonym.key"), "the key of the pseudonyms").unwrap();
        let new = SigningKey::from_seed("example.com/ledger-2", [2; 32]).unwrap();
        let take = |name: &str| Directory::take(&path(name)).unwrap();
        let read = async || KeptCheckpoint::read(site.place.clone(), &client(), "n").await.unwrap();

        let mut kept = read().await;
        let error = continued::begin(&mut take("new"), &key(1), &take("backup"), kept.found(), at);
        assert!(error.unwrap_err().to_string().contains("of the same name as the new key"));
        let error = continued::begin(&mut take("new"), &new, &take("none"), kept.found(), at);
        assert!(error.unwrap_err().to_string().contains("there is no journal"));
        assert!(!continued::is_begun(&take("new")).unwrap());
        continued::begin(&mut take("new"), &new, &take("backup"), kept.found(), at).unwrap();
        assert!(continued::is_begun(&take("new")).unwrap());
        let pseudonyms = std::fs::read_to_string(path("new").join("pseudonym.key")).unwrap();
        assert_eq!(pseudonyms, "the key of the pseudonyms");

        let (mut journal, state) = Journal::open(take("new"), new.clone()).unwrap();
        assert_eq!(state, [b"state".to_vec()]);
        let first = journal.continued().unwrap().unwrap();
        let known = first.checkpoint().unwrap();
        assert_eq!((first.entries, known.size, first.at), (2, 3, at));
        assert_eq!(known.origin, "example.com/ledger");
        kept.verify(&journal, &new.verifier()).unwrap();
        journal.publish().unwrap();
        kept.finish(journal.checkpoint()).await;
        drop(journal);
        let (journal, _) = Journal::open(take("new"), new.clone()).unwrap();
        let mut kept = read().await;
        kept.verify(&journal, &new.verifier()).unwrap();
        assert_eq!(kept.size(), 1);

        // Another ledger that does not continue it is refused, as before.
        let (stranger, _) = Journal::open(take("stranger"), key(3)).unwrap();
        let error = read().await.verify(&stranger, &key(3).verifier()).unwrap_err();
        assert!(error.to_string().contains("keeps the checkpoint of another ledger"), "{error}");
    }

    #[tokio::test]
    async fn what_is_not_a_checkpoint_of_the_key_is_refused() {
        let site = Site::new();
        let sign = |key: &SigningKey| {
            let empty = Checkpoint::new("example.com/ledger", 0, daylight_ledger::Hash::empty());
            empty.sign(&[key]).unwrap().to_string()
        };
        site.keep(&sign(&key(2)));
        let error = site.error("journal").await;
        assert!(error.contains("keeps the checkpoint of another ledger"), "{error}");
        for text in ["", "example.com/ledger\n"] {
            site.keep(text);
            let error = site.error("journal").await;
            assert!(error.contains("does not have a checkpoint"), "{error}");
        }
        site.keep(&sign(&key(1)));
        assert_eq!(site.open("journal").await.unwrap().1.size(), 0);
    }

    #[test]
    fn a_place_is_a_config_map_or_a_file() {
        let place = |text: &str| text.parse::<CheckpointPlace>().unwrap();
        assert_eq!(place("configmap/a"), CheckpointPlace::ConfigMap("a".into()));
        assert_eq!(place("/etc/a"), CheckpointPlace::File("/etc/a".into()));
        let of = |key: &str| CheckpointPlace::of(&key.parse().unwrap());
        assert_eq!(of("secret/key"), CheckpointPlace::ConfigMap("daylight-ledger".into()));
        assert_eq!(of("/keys/k"), CheckpointPlace::File("/keys/k.checkpoint".into()));
    }
}
