//! A note, or signature lines, that are read are written as they were.

#![no_main]

#[path = "../../tests/parsers/round_trips.rs"]
#[allow(dead_code)]
mod round_trips;

libfuzzer_sys::fuzz_target!(|text: &str| round_trips::note(text));
