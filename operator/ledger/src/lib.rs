//! Transparency logs as C2SP specifies them, without clock, files or network.
//!
//! A log is a numbered sequence of entries with a Merkle tree (RFC 6962) over them. It is stored as
//! files, which a web server can serve as they are (`tlog-tiles`):
//!
//! | path | holds |
//! |---|---|
//! | `tile/entries/000` | entries 0 to 255, each after its length in two bytes |
//! | `tile/0/000` | the hashes of these entries |
//! | `tile/1/000` | the hashes of 256 complete tiles of level 0, and so on upwards |
//! | `checkpoint` | name, size and root hash of the log, signed |
//!
//! [`Tree`] appends and states which bytes belong at the end of which tile. [`Checkpoint`] is signed
//! by a [`SigningKey`] and travels as a [`Note`], which [`VerifierKey`]s verify. A [`Witness`] cosigns
//! what continues the checkpoint that it cosigned before. A [`Policy`] states which logs and witnesses
//! count, and a [`TlogProof`] shows that an entry is in a log. A [`LogVerifier`] reads all of a log out
//! of its [`Files`]. A [`SumTree`] shows each account of a total its own amounts, and no others.
//!
//! ```
//! use daylight_ledger::{Checkpoint, Hash, Note, SigningKey, Tree};
//!
//! let mut tree = Tree::new();
//! tree.append(Hash::leaf(b"first entry"));
//! tree.append(Hash::leaf(b"second entry"));
//! for write in tree.take_writes() {
//!     assert_eq!((write.path.whole_name().as_str(), write.offset), ("tile/0/000", 0));
//!     assert_eq!(write.bytes.len(), 2 * 32);
//! }
//!
//! let key = SigningKey::from_seed("example.com/ledger", [7; 32])?;
//! let checkpoint = Checkpoint::new("example.com/ledger", tree.size(), tree.root());
//! let text = checkpoint.sign(&[&key])?.to_string();
//!
//! let note = Note::parse(&text)?;
//! note.verify(&[key.verifier()])?;
//! assert_eq!(Checkpoint::parse(note.text())?, checkpoint);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod compare;
mod cosignature;
mod decimal;
mod files;
mod hash;
mod key;
mod note;
mod policy;
mod proof;
mod sum_tree;
mod tile;
mod tlog_proof;
mod tree;
mod verify;
mod witness;

pub use checkpoint::{Checkpoint, CheckpointError, MAX_SIZE};
pub use compare::{GrowthError, first_difference, verify_growth};
pub use cosignature::CosignError;
pub use files::{CHECKPOINT, Files, FoundTile, bundle_bytes, read_tile, serve};
pub use hash::{Hash, ParseHashError};
pub use key::{CosigningKey, KeyError, SigningKey, VerifierKey};
pub use note::{Note, NoteError, Signature, Verified, is_key_name};
pub use policy::{Accepted, Policy, PolicyError, PolicyLog, PolicyViolation, PolicyWitness};
pub use proof::{
    Hashes, ProofError, TileHashes, TileHashesError, prove_consistency, prove_inclusion, root_at,
    verify_consistency, verify_inclusion,
};
pub use sum_tree::{SumNode, SumOverflow, SumPath, SumProof, SumProofError, SumTree};
pub use tile::{
    BundleError, Entries, MAX_ENTRY, TILE_WIDTH, TileKind, TilePath, TilePathError, push_entry,
};
pub use tlog_proof::{TlogProof, TlogProofError, TlogProofViolation};
pub use tree::{Frontier, ResumeError, TileHash, Tree, Write};
pub use verify::{Disagreement, LogVerifier};
pub use witness::{AddCheckpoint, Cosigned, Received, Refusal, Witness, monitoring_path};
