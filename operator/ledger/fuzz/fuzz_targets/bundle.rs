//! The entries of a bundle are written as they were read, and no bundle confuses the verifier.

#![no_main]

#[path = "../../tests/parsers/round_trips.rs"]
#[allow(dead_code)]
mod round_trips;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| round_trips::bundle(bytes));
