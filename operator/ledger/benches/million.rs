//! A log of 1,000,000 entries: appended in memory, and verified as a whole.
//!
//! An entry has 600 bytes, about what the entry of a quiet node has. Files are in memory, so that the
//! figures are those of hashing and comparing. Signatures are made and verified one at a time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use daylight_ledger::{
    Checkpoint, CosigningKey, Hash, LogVerifier, Policy, SigningKey, TileHashes, TileKind,
    TilePath, Tree, prove_inclusion, push_entry, verify_inclusion,
};

const ENTRIES: u64 = 1_000_000;

/// Entries of one write: 100 ms at 10,000 a second.
const BATCH: u64 = 1000;

fn entry(number: u64) -> Vec<u8> {
    format!(r#"{{"at":"{number}","padding":"{}"}}"#, "x".repeat(570)).into_bytes()
}

fn append(mut each_write: impl FnMut(String, &[u8])) -> Tree {
    let mut tree = Tree::new();
    let mut bundle = Vec::new();
    for number in 0..ENTRIES {
        let entry = entry(number);
        push_entry(&mut bundle, &entry).expect("short");
        tree.append(Hash::leaf(&entry));
        if tree.size().is_multiple_of(256) || tree.size() == ENTRIES {
            let path = TilePath::full(TileKind::Entries, number / 256);
            each_write(path.to_string(), &bundle);
            bundle.clear();
        }
        if tree.size().is_multiple_of(BATCH) {
            for write in tree.take_writes() {
                each_write(write.path.whole_name(), &write.bytes);
            }
        }
    }
    tree
}

fn million(criterion: &mut Criterion) {
    let mut files: HashMap<String, Vec<u8>> = HashMap::new();
    let tree = append(|path, bytes| files.entry(path).or_default().extend_from_slice(bytes));
    let checkpoint = Checkpoint::new("example.com/ledger", tree.size(), tree.root());
    let files = |path: &str| Ok::<_, Infallible>(files.get(path).cloned());

    let mut group = criterion.benchmark_group("million");
    group.sample_size(10).throughput(Throughput::Elements(ENTRIES));
    group.bench_function("append", |bencher| {
        bencher.iter(|| append(|path, bytes| drop(black_box((path, bytes)))).root());
    });
    group.bench_function("verify", |bencher| {
        bencher.iter(|| {
            let mut bytes = 0;
            let found =
                LogVerifier::new(&checkpoint).verify(&files, |_, entry| bytes += entry.len());
            assert_eq!(found, Ok(vec![]));
            bytes
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("single");
    let mut index = 0;
    group.bench_function("prove and verify an entry", |bencher| {
        bencher.iter(|| {
            index = (index + 7_919) % ENTRIES;
            let proof = prove_inclusion(&mut TileHashes::new(&files, ENTRIES), index, ENTRIES);
            let leaf = Hash::leaf(&entry(index));
            let proof = proof.expect("tiles");
            verify_inclusion(leaf, index, ENTRIES, checkpoint.root, &proof).expect("a proof");
        });
    });
    let log = SigningKey::from_seed("example.com/ledger", [1; 32]).expect("a key");
    group.bench_function("sign a checkpoint", |bencher| {
        bencher.iter(|| checkpoint.sign(&[&log]));
    });
    for (name, witness) in [
        ("Ed25519", CosigningKey::ed25519("example.com/w", [2; 32]).expect("a key")),
        ("ML-DSA-44", CosigningKey::ml_dsa_44("example.com/w", [2; 32]).expect("a key")),
    ] {
        group.bench_function(format!("cosign by {name}"), |bencher| {
            bencher.iter(|| witness.cosign(&checkpoint, 1_800_000_000));
        });
        let mut note = checkpoint.sign(&[&log]).expect("a note");
        note.add([witness.cosign(&checkpoint, 1_800_000_000).expect("signed")]).expect("one more");
        let policy =
            format!("log {}\nwitness w {}\nquorum w\n", log.verifier(), witness.verifier());
        let policy: Policy = policy.parse().expect("a policy");
        group.bench_function(format!("verify log and cosignature by {name}"), |bencher| {
            bencher.iter(|| policy.verify(&note).expect("accepted").witnesses.len());
        });
    }
    group.finish();
}

criterion_group!(benches, million);
criterion_main!(benches);
