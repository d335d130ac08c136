//! A witness answers any request, and one that is read is written as it was.

#![no_main]

use std::sync::LazyLock;

use daylight_ledger::{CosigningKey, SigningKey, Witness};

#[path = "../../tests/parsers/round_trips.rs"]
#[allow(dead_code)]
mod round_trips;

static WITNESS: LazyLock<Witness> = LazyLock::new(|| {
    let log = SigningKey::from_seed("example.com/ledger", [1; 32]).unwrap();
    let key = CosigningKey::ed25519("example.com/w", [2; 32]).unwrap();
    Witness::new(vec![key]).with_log(log.verifier())
});

libfuzzer_sys::fuzz_target!(|body: &[u8]| round_trips::request(body, &WITNESS));
