//! What each parser holds for any input: what it accepts is written as it was read. The fuzz targets and
//! the property tests share this.

use daylight_ledger::{
    AddCheckpoint, Checkpoint, CosigningKey, Entries, Hash, LogVerifier, Note, Policy, Signature,
    SigningKey, TilePath, TlogProof, VerifierKey, Witness, bundle_bytes, push_entry,
};

pub(crate) fn checkpoint(text: &str) {
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.to_string(), text);
    }
}

pub(crate) fn note(text: &str) {
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_string(), text);
        assert!(note.signatures().iter().all(|signature| !signature.bytes().is_empty()));
        let again = Note::new(note.text().to_owned(), note.signatures().to_vec());
        assert_eq!(again, Ok(note));
    }
    if let Ok(signatures) = Signature::parse_lines(text) {
        let lines: String =
            signatures.iter().map(|signature| signature.to_string() + "\n").collect();
        assert_eq!(lines, text);
    }
}

pub(crate) fn key(text: &str) {
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = SigningKey::parse(text) {
        assert_eq!(key.to_secret_text(), text);
    }
    if let Ok(key) = CosigningKey::parse(text) {
        assert_eq!(key.to_secret_text(), text);
    }
}

pub(crate) fn tile_path(text: &str) {
    if let Ok(path) = text.parse::<TilePath>() {
        assert_eq!(path.to_string(), text);
        assert!((1..=256).contains(&path.width()));
        assert!(path.whole_name().parse::<TilePath>().is_ok_and(TilePath::is_full));
    }
}

pub(crate) fn bundle(bytes: &[u8]) {
    let entries: Vec<_> = Entries::new(bytes).take_while(Result::is_ok).flatten().collect();
    let mut again = Vec::new();
    for entry in &entries {
        push_entry(&mut again, entry).expect("it was in a bundle");
    }
    assert!(bytes.starts_with(&again));
    assert_eq!(bundle_bytes(bytes, entries.len() as u64), Some(again.len()));
    assert_eq!(bundle_bytes(bytes, entries.len() as u64 + 1), None);
    // As the only file of a log that has hashes for none of them.
    let files = |_: &str| Ok::<_, ()>(Some(bytes.to_vec()));
    let checkpoint = Checkpoint::new("example.com/ledger", 300, Hash::empty());
    let found = LogVerifier::new(&checkpoint).verify(&files, |_, _| ()).expect("no file fails");
    assert!(!found.is_empty());
}

pub(crate) fn proof(text: &str) {
    if let Ok(proof) = text.parse::<TlogProof>() {
        assert_eq!(proof.to_string(), text);
        assert!(proof.verify(Hash::empty(), &Policy::default()).is_err());
    }
}

/// `signed` is a checkpoint that a log of the policy may have signed.
pub(crate) fn policy(text: &str, signed: &Note) {
    if let Ok(policy) = text.parse::<Policy>() {
        match policy.verify(signed) {
            Ok(accepted) => assert!(policy.logs().contains(accepted.log)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// `witness` knows the log that may have signed the request.
pub(crate) fn request(body: &[u8], witness: &Witness) {
    if let Ok(text) = str::from_utf8(body)
        && let Ok(request) = text.parse::<AddCheckpoint>()
    {
        assert_eq!(request.to_string(), text);
    }
    match witness.receive(body).and_then(|received| witness.cosign(received, None, 1)) {
        Ok(cosigned) => assert!(Note::parse(&cosigned.checkpoint.to_string()).is_ok()),
        Err(refusal) => assert!((400..500).contains(&refusal.status())),
    }
}
