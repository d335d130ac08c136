//! Witnesses: they see that a log only grows, and cosign that, by C2SP `tlog-witness`.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::checkpoint::Checkpoint;
use crate::cosignature::CosignError;
use crate::decimal;
use crate::hash::Hash;
use crate::key::{CosigningKey, VerifierKey};
use crate::note::{Note, NoteError};
use crate::proof::{MAX_PROOF, ProofError, verify_consistency};

/// Request to cosign a checkpoint. It is displayed as the body of `POST /add-checkpoint`, and parsed
/// from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the witness cosigned last.
    pub old: u64,
    /// Proof that the tree of the checkpoint continues that one.
    pub proof: Vec<Hash>,
    /// Checkpoint, signed by the log.
    pub checkpoint: Note,
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, proof, checkpoint } = self;
        writeln!(f, "old {old}")?;
        proof.iter().try_for_each(|hash| writeln!(f, "{}", hash.to_base64()))?;
        write!(f, "\n{checkpoint}")
    }
}

impl FromStr for AddCheckpoint {
    type Err = Refusal;

    fn from_str(body: &str) -> Result<Self, Refusal> {
        let malformed = |why: &str| Refusal::Malformed(why.to_owned());
        let (head, note) = body
            .split_once("\n\n")
            .ok_or_else(|| malformed("there is no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| decimal::parse(line.strip_prefix("old ")?));
        let old = old.ok_or_else(|| malformed("the first line is not `old SIZE`"))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == MAX_PROOF {
                return Err(malformed("the proof has more than 63 hashes"));
            }
            proof.push(
                Hash::from_base64(line)
                    .ok_or_else(|| malformed("a line of the proof is not a hash"))?,
            );
        }
        let checkpoint =
            Note::parse(note).map_err(|error| Refusal::Malformed(error.to_string()))?;
        Ok(Self { old, proof, checkpoint })
    }
}

/// Witness: its keys, and the logs that it knows. What it cosigned last is the caller's to store.
///
/// For each request, while no other one for the same origin is answered:
///
/// 1. [`Witness::receive`] parses the body and verifies the log's signature.
/// 2. [`Witness::cosign`] compares the checkpoint with the one that was cosigned last for
///    [`Received::origin`], and cosigns it.
/// 3. [`Cosigned::checkpoint`] is made durable, in place of that one.
/// 4. [`Cosigned::answer`] is sent, with status 200.
///
/// A [`Refusal`] in 1 or 2 is sent instead, and changes nothing.
#[derive(Clone, Debug)]
pub struct Witness {
    keys: Vec<CosigningKey>,
    /// Keys of each log by its origin.
    logs: BTreeMap<String, Vec<VerifierKey>>,
}

/// Request with a checkpoint that its log signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    request: AddCheckpoint,
    checkpoint: Checkpoint,
}

/// Checkpoint that was cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// Checkpoint with the verified signatures of the log and those of the witness: what it serves
    /// at [`monitoring_path`], and compares the next one with.
    pub checkpoint: Note,
    /// Body of the answer: the lines of the witness's signatures.
    pub answer: String,
}

/// Answer to a request that is refused. It is displayed as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body cannot be read.
    #[error("the request cannot be read: {0}")]
    Malformed(String),
    /// The old size exceeds that of the checkpoint.
    #[error("the old size {old} exceeds the size {size} of the checkpoint")]
    Smaller { old: u64, size: u64 },
    /// The log is not known.
    #[error("the log {0:?} is not known to this witness")]
    UnknownLog(String),
    /// The log did not sign the checkpoint.
    #[error("the signature of the log is missing or wrong: {0}")]
    Signature(NoteError),
    /// The witness cosigned a checkpoint of another size last.
    #[error("the checkpoint that was cosigned last has {0} entries")]
    Conflict(u64),
    /// The tree does not continue the one that was cosigned last.
    #[error("the checkpoint does not continue the one that was cosigned last: {0}")]
    Inconsistent(ProofError),
    /// The empty tree does not have this root.
    #[error("the root hash of the empty checkpoint is not that of the empty tree")]
    Empty,
    /// What was stored as cosigned last is not a checkpoint of this log.
    #[error("the checkpoint that this witness stored for {0:?} cannot be read; restore it")]
    Stored(String),
    /// A key cannot sign the checkpoint.
    #[error(transparent)]
    Cosign(#[from] CosignError),
}

impl Refusal {
    /// Status of the HTTP response.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::Smaller { .. } | Self::Cosign(_) => 400,
            Self::Signature(_) => 403,
            Self::UnknownLog(_) => 404,
            Self::Conflict(_) => 409,
            Self::Inconsistent(_) | Self::Empty => 422,
            Self::Stored(_) => 500,
        }
    }

    /// Content type of the HTTP response.
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "text/x.tlog.size",
            _ => "text/plain; charset=utf-8",
        }
    }

    /// Body of the HTTP response.
    pub fn body(&self) -> String {
        match self {
            Self::Conflict(size) => format!("{size}\n"),
            other => format!("{other}\n"),
        }
    }
}

impl Witness {
    /// Describes a witness that cosigns with each of its keys.
    pub fn new(keys: Vec<CosigningKey>) -> Self {
        Self { keys, logs: BTreeMap::new() }
    }

    /// Adds a key of a log; the key's name is the log's origin.
    #[must_use]
    pub fn with_log(mut self, key: VerifierKey) -> Self {
        self.logs.entry(key.name().to_owned()).or_default().push(key);
        self
    }

    /// Origins of the logs that it knows.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.logs.keys().map(String::as_str)
    }

    /// Parses the body of a request and verifies that the log signed the checkpoint.
    ///
    /// # Errors
    ///
    /// The body cannot be read, the log is not known, or did not sign.
    pub fn receive(&self, body: &[u8]) -> Result<Received, Refusal> {
        let body =
            str::from_utf8(body).map_err(|_| Refusal::Malformed("it is not UTF-8".to_owned()))?;
        let request: AddCheckpoint = body.parse()?;
        let checkpoint = Checkpoint::parse(request.checkpoint.text())
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let keys = self
            .logs
            .get(&checkpoint.origin)
            .ok_or_else(|| Refusal::UnknownLog(checkpoint.origin.clone()))?;
        let verified = request.checkpoint.verify(keys).map_err(Refusal::Signature)?;
        // Signatures that were not verified are not handed on with this witness's own.
        let signatures = verified.into_iter().map(|verified| verified.signature.clone()).collect();
        let note = Note::new(request.checkpoint.text().to_owned(), signatures)
            .map_err(Refusal::Signature)?;
        let AddCheckpoint { old, proof, checkpoint: _ } = request;
        if old > checkpoint.size {
            return Err(Refusal::Smaller { old, size: checkpoint.size });
        }
        Ok(Received { request: AddCheckpoint { old, proof, checkpoint: note }, checkpoint })
    }

    /// Cosigns a checkpoint at a time in seconds since 1970. `last` is the checkpoint that was cosigned
    /// last for this origin.
    ///
    /// # Errors
    ///
    /// The checkpoint does not continue that one, or the request does not show it.
    pub fn cosign(
        &self,
        received: Received,
        last: Option<&Note>,
        time: u64,
    ) -> Result<Cosigned, Refusal> {
        let Received { request: AddCheckpoint { old, proof, checkpoint: mut note }, checkpoint } =
            received;
        let stored = || Refusal::Stored(checkpoint.origin.clone());
        let (last_size, last_root) = match last {
            None => (0, Hash::empty()),
            Some(last) => Checkpoint::parse(last.text())
                .ok()
                .filter(|last| last.origin == checkpoint.origin)
                .map(|last| (last.size, last.root))
                .ok_or_else(stored)?,
        };
        if old != last_size {
            return Err(Refusal::Conflict(last_size));
        }
        if checkpoint.size == 0 && checkpoint.root != Hash::empty() {
            return Err(Refusal::Empty);
        }
        verify_consistency(old, last_root, checkpoint.size, checkpoint.root, &proof)
            .map_err(Refusal::Inconsistent)?;
        let signatures = self
            .keys
            .iter()
            .map(|key| key.cosign(&checkpoint, time))
            .collect::<Result<Vec<_>, _>>()?;
        let mut answer = String::new();
        for signature in &signatures {
            let _ = writeln!(answer, "{signature}");
        }
        note.add(signatures).map_err(|error| Refusal::Malformed(error.to_string()))?;
        Ok(Cosigned { checkpoint: note, answer })
    }
}

impl Received {
    /// Origin of the checkpoint's log.
    pub fn origin(&self) -> &str {
        &self.checkpoint.origin
    }
}

/// Returns the path at which a witness serves its last checkpoint of a log, below its monitoring prefix.
pub fn monitoring_path(origin: &str) -> String {
    format!("{}/checkpoint", Hash(Sha256::digest(origin).into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::files::Files;
    use crate::key::SigningKey;
    use crate::proof::{TileHashes, prove_consistency, root_at};
    use crate::tree::{Tree, Write as TileWrite};

    const ORIGIN: &str = "example.com/log";

    fn log_key() -> SigningKey {
        SigningKey::from_seed(ORIGIN, [1; 32]).unwrap()
    }

    fn witness() -> Witness {
        let keys = vec![CosigningKey::ed25519("example.com/w", [2; 32]).unwrap()];
        Witness::new(keys).with_log(log_key().verifier())
    }

    /// Log of up to 600 entries, with a second history that differs from an entry on.
    struct Log {
        tiles: Vec<TileWrite>,
    }

    impl Log {
        fn new(fork_at: u64) -> Self {
            let mut tree = Tree::new();
            for number in 0..600_u64 {
                let entry = (number, number >= fork_at);
                tree.append(Hash::leaf(format!("{entry:?}").as_bytes()));
            }
            Self { tiles: tree.take_writes() }
        }

        fn files(&self) -> impl Files<Error = ()> {
            |path: &str| {
                let tile = self.tiles.iter().find(|write| write.path.to_string() == path);
                Ok(tile.map(|write| write.bytes.clone()))
            }
        }

        fn checkpoint(&self, size: u64) -> Checkpoint {
            let root = root_at(&mut TileHashes::new(&self.files(), 600), size).unwrap();
            Checkpoint::new(ORIGIN, size, root)
        }

        fn request(&self, old: u64, size: u64) -> AddCheckpoint {
            let proof =
                prove_consistency(&mut TileHashes::new(&self.files(), 600), old, size).unwrap();
            let checkpoint = self.checkpoint(size).sign(&[&log_key()]).unwrap();
            AddCheckpoint { old, proof, checkpoint }
        }
    }

    fn answer(
        witness: &Witness,
        last: Option<&Note>,
        request: &AddCheckpoint,
    ) -> Result<Cosigned, Refusal> {
        witness.cosign(witness.receive(request.to_string().as_bytes())?, last, 1_800_000_000)
    }

    #[test]
    fn a_growing_log_is_cosigned() {
        let (witness, log) = (witness(), Log::new(u64::MAX));
        let keys = [witness.keys[0].verifier()];
        let mut last = None;
        let mut old = 0;
        for size in [0, 1, 1, 255, 256, 300, 600, 600] {
            let mut request = log.request(old, size);
            let cosigned = answer(&witness, last.as_ref(), &request).unwrap();
            assert_eq!(request.checkpoint.add_lines(&cosigned.answer, &keys), Ok(1));
            assert_eq!(request.checkpoint, cosigned.checkpoint);
            (last, old) = (Some(cosigned.checkpoint), size);
        }
        assert_eq!(monitoring_path(ORIGIN).len(), 64 + "/checkpoint".len());
    }

    #[test]
    fn each_refusal_has_the_status_of_the_specification() {
        let (witness, log) = (witness(), Log::new(u64::MAX));
        let first = answer(&witness, None, &log.request(0, 100)).unwrap().checkpoint;
        let status = |last: Option<&Note>, request: &AddCheckpoint| {
            answer(&witness, last, request).map_or_else(|refusal| refusal.status(), |_| 200)
        };
        let good = log.request(100, 300);
        assert_eq!(status(Some(&first), &good), 200);

        let refusal = answer(&witness, Some(&first), &log.request(0, 300)).unwrap_err();
        assert_eq!((refusal.status(), refusal.body().as_str()), (409, "100\n"));
        assert_eq!(refusal.content_type(), "text/x.tlog.size");
        assert_eq!(status(None, &good), 409);

        let older = AddCheckpoint { old: 301, ..good.clone() };
        assert_eq!(status(Some(&first), &older), 400);
        let without = AddCheckpoint { proof: vec![], ..good.clone() };
        assert_eq!(status(Some(&first), &without), 422);
        let superfluous = AddCheckpoint { proof: good.proof.clone(), ..log.request(0, 300) };
        assert_eq!(status(None, &superfluous), 422);
        assert_eq!(status(Some(&first), &Log::new(50).request(100, 300)), 422);
        assert_eq!(status(Some(&first), &Log::new(50).request(100, 100)), 422);
        assert_eq!(status(Some(&first), &log.request(100, 100)), 200);

        let sign = |checkpoint: Checkpoint, key: &SigningKey| AddCheckpoint {
            old: 0,
            proof: vec![],
            checkpoint: checkpoint.sign(&[key]).unwrap(),
        };
        let empty = Checkpoint::new(ORIGIN, 0, Hash::leaf(b""));
        assert_eq!(status(None, &sign(empty, &log_key())), 422);
        let unknown = Checkpoint::new("example.com/other", 1, Hash::leaf(b""));
        assert_eq!(status(None, &sign(unknown, &log_key())), 404);
        let other = SigningKey::from_seed(ORIGIN, [9; 32]).unwrap();
        assert_eq!(status(None, &sign(log.checkpoint(1), &other)), 403);
        let changed = log.request(0, 5).to_string().replace("\n5\n", "\n6\n");
        assert_eq!(witness.receive(changed.as_bytes()).unwrap_err().status(), 403);

        let good = good.to_string();
        for (from, to) in [
            ("old 100", "old 0100"),
            ("old 100", "new 100"),
            ("\n\n", "\n"),
            ("=\n", "\n"),
            ("old 100\n", "old 100\n\n"),
            ("example.com/log\n300", "example.com/log\n0300"),
        ] {
            let body = good.replacen(from, to, 1);
            assert_eq!(witness.receive(body.as_bytes()).unwrap_err().status(), 400, "{body}");
        }
        let long = good.replacen(
            '\n',
            &format!("\n{}", format!("{}\n", Hash::empty().to_base64()).repeat(63)),
            1,
        );
        assert_eq!(witness.receive(long.as_bytes()).unwrap_err().status(), 400);
        assert_eq!(witness.receive(b"\xff").unwrap_err().status(), 400);
        let of_other = Checkpoint::new("x", 100, Hash::empty()).sign(&[&log_key()]).unwrap();
        let received = witness.receive(good.as_bytes()).unwrap();
        assert_eq!(witness.cosign(received, Some(&of_other), 1).unwrap_err().status(), 500);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn no_two_cosigned_checkpoints_contradict(
            fork_at in 0_u64..300,
            requests in prop::collection::vec((any::<bool>(), 0_u64..400, 0_u64..400), 1..12)
        ) {
            let witness = witness();
            let logs = [Log::new(u64::MAX), Log::new(fork_at)];
            let mut last: Option<Note> = None;
            for (fork, old, size) in requests {
                let log = &logs[usize::from(fork)];
                // What it cosigned last is known to all, so that more than few are cosigned.
                let known = last.as_ref().map(|last| Checkpoint::parse(last.text()).unwrap());
                let old = known.as_ref().map_or(old, |known| if old % 4 == 0 { old } else { known.size });
                let request = AddCheckpoint { old, ..log.request(old.min(size), size) };
                let Ok(cosigned) = answer(&witness, last.as_ref(), &request) else { continue };
                prop_assert_eq!(old, known.as_ref().map_or(0, |known| known.size));
                prop_assert!(size >= old);
                if let Some(known) = known {
                    prop_assert_eq!(log.checkpoint(known.size).root, known.root);
                }
                last = Some(cosigned.checkpoint);
            }
        }
    }
}
