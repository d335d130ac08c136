//! Requests for cosignatures: witnesses cosign the ledger's checkpoints, apart from the main loop, which
//! never waits for them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daylight_base::Timestamp;
use daylight_ledger::{
    Hash, Note, Policy, PolicyViolation, TileHashes, VerifierKey, prove_consistency,
};
use futures::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::journal::Published;
use crate::clock;
use crate::files;
use crate::ledger_files::COSIGNED;
use crate::witness_client::WitnessClient;

/// Time until all witnesses are requested again, if too few cosigned.
const RETRY: Duration = Duration::from_mins(5);

/// Witnesses that cosign the ledger's checkpoints.
#[derive(Clone, Debug)]
pub struct CosigningSettings {
    /// The witnesses, and the quorum of them that makes a checkpoint count.
    pub policy: Policy,
    /// Names of the site's own witnesses.
    pub own: Vec<String>,
    /// Time between two requests to each witness.
    pub every: Duration,
    /// Time between two requests to the site's own.
    pub own_every: Duration,
}

/// Error of settings that do not fit the ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosigningError {
    #[error("the policy of witnesses names no witness; add a line `witness NAME KEY URL`")]
    NoWitness,
    #[error("the policy of witnesses names other ledgers, but not {0}; add it as a line `log KEY`")]
    OtherLog(String),
    #[error(
        "the policy has no witness {0}, which --own-witness names; add it, or correct the name"
    )]
    NoOwn(String),
    #[error("a witness of the policy cannot be requested: {0}")]
    Address(String),
}

/// What witnesses cosigned in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// Number of entries in the checkpoint.
    pub(super) size: u64,
    /// Names of the witnesses that cosigned it.
    pub(super) by: Vec<String>,
    /// Whether they are enough for the policy.
    pub(super) is_enough: bool,
    pub(super) at: Timestamp,
}

/// Has the last checkpoint cosigned by the witnesses of a policy.
pub(super) struct Cosigning {
    latest: watch::Sender<Option<Published>>,
    rounds: mpsc::Receiver<Round>,
    /// Ends with it.
    _task: JoinSet<()>,
}

impl Cosigning {
    /// Starts to request cosignatures for the ledger in a directory, which `key` signs. Without settings,
    /// no witness is requested.
    ///
    /// # Errors
    ///
    /// The policy does not fit the ledger.
    pub(super) fn start(
        settings: Option<CosigningSettings>,
        key: &VerifierKey,
        directory: &Path,
    ) -> Result<Self, CosigningError> {
        let (latest, follow) = watch::channel(None);
        // Rounds are rare.
        let (send, rounds) = mpsc::channel(8);
        let mut tasks = JoinSet::new();
        match settings {
            Some(settings) => {
                let task = Task::new(settings, key, directory, follow)?;
                let last = last_round(directory, Some(&task.policy));
                let _ = send.try_send(last.unwrap_or_else(Round::none));
                tasks.spawn(task.run(send));
            }
            None => drop(last_round(directory, None)),
        }
        Ok(Self { latest, rounds, _task: tasks })
    }

    /// Takes the checkpoint that the next round is about.
    pub(super) fn follow(&self, checkpoint: Option<&Published>) {
        if let Some(checkpoint) = checkpoint {
            self.latest.send_if_modified(|latest| {
                let is_new = latest.as_ref() != Some(checkpoint);
                if is_new {
                    *latest = Some(checkpoint.clone());
                }
                is_new
            });
        }
    }

    /// Waits for the end of a round. Cancel-safe.
    pub(super) async fn next(&mut self) -> Round {
        match self.rounds.recv().await {
            Some(round) => round,
            None => std::future::pending().await,
        }
    }
}

/// Reads what was cosigned last, before this process started. What the policy does not accept, or no policy
/// is there to accept, is removed: it would be handed out instead of the newest checkpoint.
fn last_round(directory: &Path, policy: Option<&Policy>) -> Option<Round> {
    let path = directory.join(COSIGNED);
    let text = std::fs::read_to_string(&path).ok()?;
    let accepted = policy.and_then(|policy| {
        let note = Note::parse(&text).ok()?;
        let accepted = policy.verify(&note).ok()?;
        let by = accepted.witnesses.iter().map(|(by, _)| by.name.clone()).collect();
        let at = accepted.witnesses.iter().map(|(_, time)| *time).max()?;
        let at = Timestamp(i64::try_from(at).ok()?.saturating_mul(1000));
        Some(Round { size: accepted.checkpoint.size, by, is_enough: true, at })
    });
    if accepted.is_none()
        && let Err(error) = std::fs::remove_file(&path)
    {
        tracing::warn!(%error, "Cannot remove {COSIGNED} of the ledger, which no policy accepts.");
    }
    accepted
}

impl Round {
    /// Nothing was cosigned yet.
    fn none() -> Self {
        Self { size: 0, by: Vec::new(), is_enough: true, at: Timestamp(0) }
    }
}

struct Task {
    policy: Policy,
    clients: Vec<Requested>,
    every: Duration,
    own_every: Duration,
    directory: PathBuf,
    latest: watch::Receiver<Option<Published>>,
}

/// Witness, and what is known of it.
struct Requested {
    client: WitnessClient,
    is_own: bool,
    /// The reason that it did not cosign the last time.
    failure: Option<String>,
}

impl Task {
    fn new(
        settings: CosigningSettings,
        key: &VerifierKey,
        directory: &Path,
        latest: watch::Receiver<Option<Published>>,
    ) -> Result<Self, CosigningError> {
        let CosigningSettings { policy, own, every, own_every } = settings;
        if policy.witnesses().is_empty() {
            return Err(CosigningError::NoWitness);
        }
        if !policy.logs().is_empty() && !policy.logs().iter().any(|log| log.key == *key) {
            return Err(CosigningError::OtherLog(key.to_string()));
        }
        let is_known = |name: &&String| policy.witnesses().iter().any(|by| by.name == **name);
        if let Some(unknown) = own.iter().find(|name| !is_known(name)) {
            return Err(CosigningError::NoOwn(unknown.clone()));
        }
        let (clients, errors) = WitnessClient::of(&policy);
        if let Some(error) = errors.into_iter().next() {
            return Err(CosigningError::Address(error));
        }
        let clients = clients.into_iter().map(|client| {
            let is_own = client.names.iter().any(|name| own.contains(name));
            Requested { client, is_own, failure: None }
        });
        Ok(Self {
            clients: clients.collect(),
            policy: policy.with_log(key.clone()),
            every,
            own_every,
            directory: directory.to_owned(),
            latest,
        })
    }

    async fn run(mut self, rounds: mpsc::Sender<Round>) {
        let has_own = self.clients.iter().any(|witness| witness.is_own);
        let (mut all_due, mut own_due) = (Instant::now(), Instant::now());
        let mut cosigned_by_own = None;
        while self.latest.wait_for(Option::is_some).await.is_ok() {
            let due = if has_own { all_due.min(own_due) } else { all_due };
            sleep_until(due).await;
            let Some(checkpoint) = self.latest.borrow().clone() else { continue };
            let all = Instant::now() >= all_due;
            own_due = Instant::now() + self.own_every;
            if all {
                all_due = Instant::now() + RETRY.min(self.every);
            } else if cosigned_by_own.as_ref() == Some(&checkpoint) {
                continue;
            }
            let Some(round) = self.round(&checkpoint, all).await else { continue };
            if all && round.is_enough {
                all_due = Instant::now() + self.every;
            }
            cosigned_by_own = Some(checkpoint);
            if rounds.send(round).await.is_err() {
                break;
            }
        }
    }

    /// Has a checkpoint cosigned by all witnesses, or by the site's own.
    async fn round(&mut self, checkpoint: &Published, all: bool) -> Option<Round> {
        let mut note = Note::parse(&checkpoint.note).ok()?;
        let (size, directory) = (checkpoint.size, &self.directory);
        let mut answers = Vec::new();
        for witness in self.clients.iter_mut().filter(|witness| all || witness.is_own) {
            let note = note.clone();
            answers.push(async move {
                let prove = |old| prove(directory.clone(), old, size);
                let answer = witness.client.cosign(&note, size, prove).await;
                witness.note(answer.as_ref().err());
                answer.ok()
            });
        }
        for cosigned in join_all(answers).await.into_iter().flatten() {
            if let Err(error) = note.add(cosigned.signatures().iter().cloned()) {
                tracing::warn!(%error, "A cosignature is left out.");
            }
        }
        let verified = self.policy.verify(&note);
        let mut is_enough = verified.is_ok();
        let by = match &verified {
            Ok(accepted) => accepted.witnesses.iter().map(|(by, _)| by.name.clone()).collect(),
            Err(PolicyViolation::Quorum { cosigned, .. }) => cosigned.clone(),
            Err(_) => Vec::new(),
        };
        if let (true, Err(error)) = (all, &verified) {
            tracing::warn!(%error, "The checkpoint is not cosigned by enough witnesses.");
        }
        if is_enough && !by.is_empty() {
            let (path, text) = (self.directory.join(COSIGNED), note.to_string());
            let replace = move || files::replace(&path, text.as_bytes());
            let replaced = tokio::task::spawn_blocking(replace).await;
            if let Err(error) = replaced.unwrap_or_else(|error| Err(io::Error::other(error))) {
                tracing::warn!(%error, "Cannot write {COSIGNED} of the ledger.");
                is_enough = false;
            }
        }
        Some(Round { size, by, is_enough, at: clock::wall_clock() })
    }
}

impl Requested {
    /// Logs why it does not cosign, and that it does again.
    fn note(&mut self, failure: Option<&String>) {
        let witness = self.client.names.join(", ");
        match (failure, &self.failure) {
            (Some(reason), last) if last.as_ref() != Some(reason) => {
                tracing::warn!(
                    witness,
                    reason,
                    "A witness does not cosign; it is requested again."
                );
            }
            (None, Some(_)) => tracing::info!(witness, "A witness cosigns again."),
            _ => {}
        }
        self.failure = failure.cloned();
    }
}

/// Proves that the ledger in a directory continues its first `old` entries.
async fn prove(directory: PathBuf, old: u64, size: u64) -> Result<Vec<Hash>, String> {
    let prove = move || {
        let files = |path: &str| files::read(&directory.join(path));
        prove_consistency(&mut TileHashes::new(&files, size), old, size)
            .map_err(|error| error.to_string())
    };
    // The disk is synchronous.
    let proved = tokio::task::spawn_blocking(prove).await;
    proved.unwrap_or_else(|error| Err(error.to_string()))
}

#[cfg(test)]
mod tests {
    use daylight_ledger::{CosigningKey, SigningKey};
    use daylight_peers::LiteWitness;
    use tempfile::TempDir;

    use super::*;
    use crate::auditor::journal::{Directory, Journal};
    use crate::ledger_files;
    use crate::witness;

    fn key() -> SigningKey {
        SigningKey::from_seed("example.com/ledger", [7; 32]).unwrap()
    }

    fn settings(policy: &str, own: &[&str]) -> CosigningSettings {
        CosigningSettings {
            policy: policy.parse().unwrap(),
            own: own.iter().map(|name| (*name).to_owned()).collect(),
            every: Duration::from_hours(1),
            own_every: Duration::from_millis(20),
        }
    }

    /// Ledger that grows while witnesses cosign it.
    struct Ledger {
        directory: TempDir,
        journal: Journal<Directory>,
    }

    impl Ledger {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (journal, _) =
                Journal::open(Directory::take(directory.path()).unwrap(), key()).unwrap();
            Self { directory, journal }
        }

        fn start(&self, settings: Option<CosigningSettings>) -> Cosigning {
            Cosigning::start(settings, &key().verifier(), self.directory.path()).unwrap()
        }

        /// Appends entries, signs them, and waits for the next round.
        async fn grow(&mut self, entries: usize, cosigning: &mut Cosigning) -> Round {
            let none: [&[u8]; 0] = [];
            self.journal.append(&vec!["entry"; entries], &none, false).unwrap();
            self.journal.publish().unwrap();
            cosigning.follow(self.journal.checkpoint());
            cosigning.next().await
        }

        /// The checkpoint that is handed out.
        fn served(&self) -> Note {
            let file = ledger_files::read(self.directory.path(), "checkpoint").unwrap().unwrap();
            Note::parse(&String::from_utf8(file.bytes).unwrap()).unwrap()
        }
    }

    #[tokio::test]
    async fn witnesses_cosign_what_is_served_and_own_ones_more_often() {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [own, own_pq] = witness::start(directories[0].path(), "own", key().verifier()).await;
        let [far, _] = witness::start(directories[1].path(), "far", key().verifier()).await;
        let both = format!("{own}{own_pq}{far}group both all own own-pq far\nquorum both\n");
        let mut ledger = Ledger::new();
        let mut cosigning = ledger.start(Some(settings(&both, &["own"])));
        assert_eq!(cosigning.next().await, Round::none());
        let first = ledger.grow(300, &mut cosigning).await;
        assert_eq!((first.size, first.is_enough), (300, true));
        assert_eq!(first.by, ["own", "own-pq", "far"]);
        let trusted = format!("log {}\n{both}", key().verifier()).parse::<Policy>().unwrap();
        assert_eq!(trusted.verify(&ledger.served()).unwrap().checkpoint.size, 300);

        // Only the site's own witness is requested again.
        let second = ledger.grow(300, &mut cosigning).await;
        assert_eq!((second.size, second.is_enough), (600, false));
        assert_eq!(second.by, ["own", "own-pq"]);
        assert_eq!(trusted.verify(&ledger.served()).unwrap().checkpoint.size, 300);

        // The next process knows, and has all of them cosign.
        drop(cosigning);
        let mut cosigning = ledger.start(Some(settings(&both, &["own"])));
        let known = cosigning.next().await;
        assert_eq!((known.size, known.by, known.is_enough), (300, first.by, true));
        let third = ledger.grow(1, &mut cosigning).await;
        assert_eq!((third.size, third.is_enough), (601, true));
        drop(cosigning);

        // An older journal, another history and one that is gone are not cosigned; the rest is.
        let gone = far.replace(far.rsplit(' ').next().unwrap(), "http://127.0.0.1:1/\n");
        let any = format!("{own}{gone}group any any own far\nquorum any\n");
        let mut old = Ledger::new();
        let mut cosigning = old.start(Some(settings(&any, &[])));
        cosigning.next().await;
        let refused = old.grow(600, &mut cosigning).await;
        assert_eq!((refused.by, refused.is_enough), (Vec::<String>::new(), false));
        let mut cosigning = ledger.start(Some(settings(&any, &[])));
        cosigning.next().await;
        let partly = ledger.grow(1, &mut cosigning).await;
        assert_eq!((partly.by, partly.is_enough), (vec!["own".to_owned()], true));
        assert_eq!(ledger.served().signatures().len(), 2);

        // Without a policy, the newest checkpoint is handed out.
        drop(cosigning);
        ledger.start(None);
        assert_eq!(ledger.served().signatures().len(), 1);
    }

    #[tokio::test]
    #[ignore = "builds litewitness, which takes two minutes"]
    async fn litewitness_cosigns_what_is_served() {
        let cosigner = CosigningKey::ed25519("example.com/witness", [5; 32]).unwrap();
        let log = key().verifier().to_string();
        let witness = LiteWitness::start(cosigner.name(), [5; 32], &log).await.unwrap();
        let line = format!("witness lite {} http://{}/", cosigner.verifier(), witness.address());
        let policy = format!("log {log}\n{line}\nquorum lite\n");
        let mut ledger = Ledger::new();
        let mut cosigning = ledger.start(Some(settings(&policy, &["lite"])));
        cosigning.next().await;
        for (entries, size) in [(1, 1), (299, 300), (700, 1000)] {
            let round = ledger.grow(entries, &mut cosigning).await;
            assert_eq!((round.size, round.is_enough), (size, true));
        }
        let trusted: Policy = policy.parse().unwrap();
        assert_eq!(trusted.verify(&ledger.served()).unwrap().checkpoint.size, 1000);
        // It names the size that it cosigned last.
        let mut cosigning = ledger.start(Some(settings(&policy, &[])));
        cosigning.next().await;
        assert_eq!(ledger.grow(1, &mut cosigning).await.by, ["lite"]);
    }

    #[tokio::test]
    async fn a_policy_that_does_not_fit_is_refused() {
        let witness = CosigningKey::ed25519("w", [1; 32]).unwrap().verifier();
        let other = SigningKey::from_seed("other", [7; 32]).unwrap().verifier();
        let line = format!("witness w {witness} http://127.0.0.1:1/\n");
        let ledger = Ledger::new();
        for (policy, own, sentence) in [
            ("quorum none\n".to_owned(), "", "names no witness"),
            (format!("log {other}\n{line}quorum w\n"), "", "names other ledgers"),
            (format!("{line}quorum w\n"), "x", "no witness x"),
            (format!("witness w {witness}\nquorum w\n"), "", "w: the policy has no address of it"),
        ] {
            let own = if own.is_empty() { vec![] } else { vec![own] };
            let settings = Some(settings(&policy, &own));
            let key = key().verifier();
            let error = Cosigning::start(settings, &key, ledger.directory.path()).err().unwrap();
            assert!(error.to_string().contains(sentence), "{error}");
        }
    }
}
