//! Proofs that can be handed on and checked offline, by C2SP `tlog-proof`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::decimal;
use crate::hash::Hash;
use crate::note::{Note, NoteError};
use crate::policy::{Accepted, Policy, PolicyViolation};
use crate::proof::{MAX_PROOF, ProofError, verify_inclusion};

const FORMAT: &str = "c2sp.org/tlog-proof@v1";

/// Proof that an entry is in a log. It is displayed as a `.tlog-proof` file and parsed from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Data that goes with the proof, and that nothing signs.
    pub extra: Option<Vec<u8>>,
    /// Number of the entry, from 0.
    pub index: u64,
    /// Hashes from the leaf's sibling up to the root's child.
    pub hashes: Vec<Hash>,
    /// Checkpoint of the log, signed and cosigned.
    pub checkpoint: Note,
}

/// Error of a text that is not a proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// The first line is another one.
    #[error("the proof does not begin with the line {FORMAT}")]
    Format,
    /// A line is missing or is not what belongs there.
    #[error("{0:?} is not a line that belongs there in a proof")]
    Line(String),
    /// It has more hashes than the largest tree needs.
    #[error("the proof has more than {MAX_PROOF} hashes")]
    TooLong,
    /// The checkpoint is not a note.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// Error of a proof that does not hold.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlogProofViolation {
    /// The policy does not accept the checkpoint.
    #[error(transparent)]
    Policy(#[from] PolicyViolation),
    /// The entry is not in the tree.
    #[error(transparent)]
    Inclusion(#[from] ProofError),
    /// What was signed is not a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl TlogProof {
    /// Verifies that the policy accepts the checkpoint, and that the entry with hash `leaf` is in its
    /// tree, at [`TlogProof::index`].
    ///
    /// # Errors
    ///
    /// One of them is not so.
    pub fn verify<'a>(
        &'a self,
        leaf: Hash,
        policy: &'a Policy,
    ) -> Result<Accepted<'a>, TlogProofViolation> {
        let accepted = policy.verify(&self.checkpoint)?;
        let Checkpoint { size, root, .. } = accepted.checkpoint;
        verify_inclusion(leaf, self.index, size, root, &self.hashes)?;
        Ok(accepted)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { extra, index, hashes, checkpoint } = self;
        writeln!(f, "{FORMAT}")?;
        if let Some(extra) = extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {index}")?;
        hashes.iter().try_for_each(|hash| writeln!(f, "{}", hash.to_base64()))?;
        write!(f, "\n{checkpoint}")
    }
}

impl FromStr for TlogProof {
    type Err = TlogProofError;

    fn from_str(text: &str) -> Result<Self, TlogProofError> {
        let (format, mut rest) = text.split_once('\n').ok_or(TlogProofError::Format)?;
        if format != FORMAT {
            return Err(TlogProofError::Format);
        }
        let mut line = || {
            let (line, after) = rest.split_once('\n')?;
            rest = after;
            Some(line)
        };
        let wrong = |line: &str| TlogProofError::Line(line.chars().take(100).collect());

        let mut next = line().ok_or_else(|| wrong(""))?;
        let extra = match next.strip_prefix("extra ") {
            Some(extra) => {
                let extra = STANDARD.decode(extra).map_err(|_| wrong(next))?;
                next = line().ok_or_else(|| wrong(""))?;
                Some(extra)
            }
            None => None,
        };
        let index = next.strip_prefix("index ").and_then(decimal::parse);
        let index = index.ok_or_else(|| wrong(next))?;
        let mut hashes = Vec::new();
        loop {
            match line().ok_or_else(|| wrong(""))? {
                "" => break,
                _ if hashes.len() == MAX_PROOF => return Err(TlogProofError::TooLong),
                hash => hashes.push(Hash::from_base64(hash).ok_or_else(|| wrong(hash))?),
            }
        }
        Ok(Self { extra, index, hashes, checkpoint: Note::parse(rest)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{CosigningKey, SigningKey};
    use crate::proof::{TileHashes, prove_inclusion};
    use crate::tree::Tree;

    fn example() -> (TlogProof, Policy) {
        let mut tree = Tree::new();
        for number in 0..300_u64 {
            tree.append(Hash::leaf(&number.to_be_bytes()));
        }
        let tiles = tree.take_writes();
        let files = |path: &str| {
            let tile = tiles.iter().find(|write| write.path.to_string() == path);
            Ok::<_, ()>(tile.map(|write| write.bytes.clone()))
        };
        let mut hashes = TileHashes::new(&files, 300);
        let log = SigningKey::from_seed("example.com/log", [1; 32]).unwrap();
        let witness = CosigningKey::ml_dsa_44("example.com/w", [1; 32]).unwrap();
        let checkpoint = Checkpoint::new("example.com/log", 300, tree.root());
        let mut note = checkpoint.sign(&[&log]).unwrap();
        note.add([witness.cosign(&checkpoint, 1_800_000_000).unwrap()]).unwrap();
        let proof = TlogProof {
            extra: Some(b"extra".to_vec()),
            index: 17,
            hashes: prove_inclusion(&mut hashes, 17, 300).unwrap(),
            checkpoint: note,
        };
        let policy =
            format!("log {}\nwitness w {}\nquorum w\n", log.verifier(), witness.verifier());
        (proof, policy.parse().unwrap())
    }

    #[test]
    fn a_proof_is_read_back_and_verifies() {
        let (proof, policy) = example();
        let text = proof.to_string();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra ZXh0cmE=\nindex 17\n"), "{text}");
        let read: TlogProof = text.parse().unwrap();
        assert_eq!(read, proof);
        let leaf = Hash::leaf(&17_u64.to_be_bytes());
        let accepted = read.verify(leaf, &policy).unwrap();
        assert_eq!(accepted.checkpoint.origin, "example.com/log");
        assert_eq!(accepted.witnesses.len(), 1);

        let other = Hash::leaf(&18_u64.to_be_bytes());
        assert_eq!(
            read.verify(other, &policy),
            Err(TlogProofViolation::Inclusion(ProofError::Root))
        );
        let moved = TlogProof { index: 18, ..read.clone() };
        assert!(moved.verify(leaf, &policy).is_err());
        let changed: TlogProof = text.replace("\n300\n", "\n301\n").parse().unwrap();
        assert!(matches!(changed.verify(leaf, &policy), Err(TlogProofViolation::Policy(_))));
        let without = TlogProof { extra: None, ..read };
        assert_eq!(without.to_string().parse(), Ok(without));
    }

    #[test]
    fn what_is_not_a_proof_is_refused() {
        let text = example().0.to_string();
        let wrong =
            |from: &str, to: &str| text.replacen(from, to, 1).parse::<TlogProof>().unwrap_err();
        let line = |line: &str| TlogProofError::Line(line.into());
        assert_eq!(wrong("@v1", "@v2"), TlogProofError::Format);
        assert_eq!(wrong("extra Z", "extra _"), line("extra _Xh0cmE="));
        assert_eq!(wrong("extra", "other"), line("other ZXh0cmE="));
        assert_eq!(wrong("index 17", "index 017"), line("index 017"));
        assert_eq!(wrong("=\n\n", "=\n"), line("example.com/log"));
        assert_eq!(
            wrong(
                "index 17\n",
                &format!("index 17\n{}", format!("{}\n", Hash::empty().to_base64()).repeat(63))
            ),
            TlogProofError::TooLong
        );
        assert_eq!(text.split("\n\n").next().unwrap().parse::<TlogProof>(), Err(line("")),);
        assert_eq!("".parse::<TlogProof>(), Err(TlogProofError::Format));
    }
}
