//! `docs/verify_ledger.py`, which was written from `docs/ledger.md` alone: it accepts what this crate
//! writes, and refuses what was changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use daylight_ledger::{
    Checkpoint, CosigningKey, Hash, Note, SigningKey, TileHashes, TileKind, TilePath, TlogProof,
    Tree, prove_inclusion, push_entry,
};
use tempfile::TempDir;

const ORIGIN: &str = "example.com/ledger";

fn log() -> SigningKey {
    SigningKey::from_seed(ORIGIN, [1; 32]).expect("a name")
}

fn witness(seed: u8) -> CosigningKey {
    CosigningKey::ed25519(&format!("example.com/w{seed}"), [seed; 32]).expect("a name")
}

fn policy() -> String {
    let key = |seed| witness(seed).verifier();
    format!(
        "# Two of three\nlog {} https://example.com/\nwitness a {}\nwitness b {}\nwitness c {}\n\
         group two 2 a b c\nquorum two\n",
        log().verifier(),
        key(11),
        key(12),
        key(13)
    )
}

fn sign(checkpoint: &Checkpoint, witnesses: &[u8]) -> Note {
    let mut note = checkpoint.sign(&[&log()]).expect("a note");
    note.add(
        witnesses
            .iter()
            .map(|seed| witness(*seed).cosign(checkpoint, 1_800_000_000).expect("a short origin")),
    )
    .expect("few signatures");
    // Python ignores it.
    let other = CosigningKey::ml_dsa_44("example.com/w", [9; 32]).expect("a name");
    note.add([other.cosign(checkpoint, 1_800_000_000).expect("a short origin")])
        .expect("few signatures");
    note
}

fn entry(number: u64) -> String {
    format!(r#"{{"kind":"test","number":"{number}","tenant":"é"}}"#)
}

/// Directory with a ledger whose last tiles grow in place, and with `policy`.
fn ledger(entries: impl Iterator<Item = String>) -> (TempDir, Checkpoint) {
    let directory = TempDir::new().expect("a directory");
    let mut tree = Tree::new();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for entry in entries {
        let path = TilePath::full(TileKind::Entries, tree.size() / 256);
        push_entry(files.entry(path.to_string()).or_default(), entry.as_bytes()).expect("short");
        tree.append(Hash::leaf(entry.as_bytes()));
    }
    for write in tree.take_writes() {
        files.insert(write.path.whole_name(), write.bytes);
    }
    let checkpoint = Checkpoint::new(ORIGIN, tree.size(), tree.root());
    files.insert("checkpoint".into(), sign(&checkpoint, &[11, 13]).to_string().into_bytes());
    files.insert("policy".into(), policy().into_bytes());
    for (path, bytes) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().expect("not the root")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    }
    (directory, checkpoint)
}

/// Returns what the verifier prints if it accepts, and its sentence if it does not.
fn python(arguments: &[&Path]) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify_ledger.py");
    let output = Command::new("python3").arg(script).args(arguments).output();
    let output = output.expect("this test needs python3");
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Some(1) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        other => panic!("{other:?}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn verify(directory: &TempDir, older: Option<&Path>) -> Result<String, String> {
    let policy = directory.path().join("policy");
    let mut arguments = vec![policy.as_path(), directory.path()];
    arguments.extend(older);
    python(&arguments)
}

#[test]
fn it_has_at_most_200_lines() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/verify_ledger.py");
    assert!(fs::read_to_string(script).unwrap().lines().count() <= 200);
}

#[test]
fn it_accepts_a_ledger_and_names_what_was_changed() {
    let (directory, checkpoint) = ledger((0..700).map(entry));
    let root = checkpoint.root;
    assert_eq!(
        verify(&directory, None).unwrap(),
        format!("Verified 700 entries of {ORIGIN}. Their root hash is {root}.\n")
    );
    let older = directory.path().join("older");
    let write_older = |size, fork| {
        let changed = |number| if number == fork { entry(9999) } else { entry(number) };
        fs::write(
            &older,
            fs::read(ledger((0..size).map(changed)).0.path().join("checkpoint")).unwrap(),
        )
    };
    write_older(300, u64::MAX).unwrap();
    assert!(verify(&directory, Some(&older)).is_ok());
    let older_error = |size, fork| {
        write_older(size, fork).unwrap();
        verify(&directory, Some(&older)).unwrap_err()
    };
    assert_eq!(
        older_error(300, 7),
        "Not verified: the first 300 entries do not have the signed root hash\n"
    );
    assert_eq!(
        older_error(701, u64::MAX),
        "Not verified: there were 701 entries before, and 700 are left\n"
    );

    for (path, at, sentence) in [
        ("tile/entries/001", 12, "tile/0/001 does not have the hashes of what is below it"),
        ("tile/0/002", 40, "tile/0/002 does not have the hashes of what is below it"),
        ("tile/1/000", 40, "tile/1/000 does not have the hashes of what is below it"),
        ("checkpoint", 20, "the signature of example.com/ledger is wrong"),
    ] {
        let (directory, _) = ledger((0..700).map(entry));
        let path = directory.path().join(path);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
        assert_eq!(verify(&directory, None).unwrap_err(), format!("Not verified: {sentence}\n"));
    }
    // Written again, with all hashes, but with the checkpoint that was signed.
    let mut swapped: Vec<u64> = (0..700).collect();
    swapped.swap(3, 600);
    for entries in [swapped, (0..699).chain([9999]).collect()] {
        let (other, _) = ledger(entries.into_iter().map(entry));
        fs::copy(directory.path().join("checkpoint"), other.path().join("checkpoint")).unwrap();
        assert_eq!(
            verify(&other, None).unwrap_err(),
            "Not verified: the first 700 entries do not have the signed root hash\n"
        );
    }
    let note = sign(&checkpoint, &[12]).to_string();
    fs::write(directory.path().join("checkpoint"), note).unwrap();
    assert_eq!(
        verify(&directory, None).unwrap_err(),
        "Not verified: too few witnesses cosigned: two must have\n"
    );
}

#[test]
fn it_accepts_proofs_of_entries() {
    let (directory, checkpoint) = ledger((0..700).map(entry));
    let files = |path: &str| fs::read(directory.path().join(path)).map(Some).or(Ok::<_, ()>(None));
    let place = |name: &str| directory.path().join(name);
    let prove = |index| TlogProof {
        extra: None,
        index,
        hashes: prove_inclusion(&mut TileHashes::new(&files, 700), index, 700).unwrap(),
        checkpoint: sign(&checkpoint, &[11, 12]),
    };
    let check = |proof: &TlogProof, number| {
        fs::write(place("proof"), proof.to_string()).unwrap();
        fs::write(place("entry"), entry(number)).unwrap();
        python(&[&place("policy"), Path::new("--proof"), &place("proof"), &place("entry")])
    };
    for index in [0, 511, 699] {
        let proof = TlogProof { extra: Some(b"extra".into()), ..prove(index) };
        assert_eq!(
            check(&proof, index).unwrap(),
            format!("Verified: entry {index} of {ORIGIN}, which has 700 entries.\n")
        );
    }
    assert_eq!(
        check(&prove(699), 698).unwrap_err(),
        format!("Not verified: this is not entry 699 of {ORIGIN}\n")
    );
}
