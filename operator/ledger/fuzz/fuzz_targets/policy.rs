//! Any policy that is read can be applied to a checkpoint.

#![no_main]

use std::sync::LazyLock;

use daylight_ledger::{Checkpoint, Hash, Note, SigningKey};

#[path = "../../tests/parsers/round_trips.rs"]
#[allow(dead_code)]
mod round_trips;

static SIGNED: LazyLock<Note> = LazyLock::new(|| {
    let key = SigningKey::from_seed("example.com/ledger", [1; 32]).unwrap();
    Checkpoint::new("example.com/ledger", 3, Hash::leaf(b"root")).sign(&[&key]).unwrap()
});

libfuzzer_sys::fuzz_target!(|text: &str| round_trips::policy(text, &SIGNED));
