//! Parsers on texts that are almost right, as the fuzz targets try them for longer.

mod round_trips;

use daylight_ledger::{
    AddCheckpoint, Checkpoint, CosigningKey, Hash, Note, SigningKey, TlogProof, Witness, push_entry,
};
use proptest::prelude::*;

const ORIGIN: &str = "example.com/ledger";

fn log() -> SigningKey {
    SigningKey::from_seed(ORIGIN, [1; 32]).expect("a name")
}

fn witness() -> CosigningKey {
    CosigningKey::ed25519("example.com/w", [2; 32]).expect("a name")
}

fn signed() -> Note {
    let checkpoint = Checkpoint::new(ORIGIN, 3, Hash::leaf(b"root"));
    let mut note = checkpoint.sign(&[&log()]).expect("a note");
    note.add([witness().cosign(&checkpoint, 1).expect("a short origin")]).expect("one more");
    note
}

fn policy() -> String {
    let (log, witness) = (log().verifier(), witness().verifier());
    format!(
        "# Comment\nlog {log} https://example.com/\nwitness w {witness}\ngroup g any w\nquorum g\n"
    )
}

fn proof() -> String {
    let hashes = vec![Hash::leaf(b"a"), Hash::leaf(b"b")];
    TlogProof { extra: Some(vec![1]), index: 2, hashes, checkpoint: signed() }.to_string()
}

fn request() -> String {
    AddCheckpoint { old: 0, proof: vec![], checkpoint: signed() }.to_string()
}

/// A text with up to three edits: characters replaced, inserted or removed, lines repeated or exchanged.
fn edited(text: String) -> impl Strategy<Value = String> {
    let edit =
        (0..5_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ -~\n\t\r—é]");
    prop::collection::vec(edit, 0..4).prop_map(move |edits| {
        let mut text: Vec<char> = text.chars().collect();
        for (kind, at, other, new) in edits {
            let at = at.index(text.len() + 1);
            match kind {
                0 if at < text.len() => text.splice(at..=at, new.chars()).for_each(drop),
                1 => text.splice(at..at, new.chars()).for_each(drop),
                2 if at < text.len() => drop(text.remove(at)),
                _ => {
                    let whole: String = text.iter().collect();
                    let mut lines: Vec<&str> = whole.split_inclusive('\n').collect();
                    let (from, to) = (at % lines.len().max(1), other.index(lines.len() + 1));
                    match kind {
                        3 if !lines.is_empty() => lines.insert(to, lines[from]),
                        4 if to < lines.len() => lines.swap(from, to),
                        _ => {}
                    }
                    text = lines.concat().chars().collect();
                }
            }
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn checkpoints(text in edited(signed().text().to_owned())) {
        round_trips::checkpoint(&text);
    }

    #[test]
    fn notes(text in edited(signed().to_string())) {
        round_trips::note(&text);
        round_trips::note(text.rsplit("\n\n").next().unwrap_or_default());
    }

    #[test]
    fn keys(
        public in edited(log().verifier().to_string()),
        private in edited(log().to_secret_text()),
        cosigner in edited(witness().to_secret_text()),
    ) {
        round_trips::key(&public);
        round_trips::key(&private);
        round_trips::key(&cosigner);
    }

    #[test]
    fn tile_paths(
        hashes in edited("tile/1/x001/234.p/56".to_owned()),
        entries in edited("tile/entries/007".to_owned()),
    ) {
        round_trips::tile_path(&hashes);
        round_trips::tile_path(&entries);
    }

    #[test]
    fn proofs(text in edited(proof())) {
        round_trips::proof(&text);
    }

    #[test]
    fn policies(text in edited(policy())) {
        round_trips::policy(&text, &signed());
    }

    #[test]
    fn requests(text in edited(request())) {
        round_trips::request(text.as_bytes(), &Witness::new(vec![witness()]).with_log(log().verifier()));
    }

    #[test]
    fn bundles(
        entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bundle = Vec::new();
        entries.iter().for_each(|entry| push_entry(&mut bundle, entry).unwrap());
        bundle.truncate(cut.index(bundle.len() + 1));
        round_trips::bundle(&bundle);
    }
}

#[test]
fn what_is_edited_was_right() {
    assert!(Checkpoint::parse(signed().text()).is_ok());
    assert!(proof().parse::<TlogProof>().is_ok());
    let policy: daylight_ledger::Policy = policy().parse().unwrap();
    assert!(policy.verify(&signed()).is_ok());
    let witness = Witness::new(vec![witness()]).with_log(log().verifier());
    let received = witness.receive(request().as_bytes()).unwrap();
    assert!(witness.cosign(received, None, 1).is_ok());
}
