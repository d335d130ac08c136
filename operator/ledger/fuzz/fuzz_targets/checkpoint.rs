//! A checkpoint that is read is written as it was.

#![no_main]

#[path = "../../tests/parsers/round_trips.rs"]
#[allow(dead_code)]
mod round_trips;

libfuzzer_sys::fuzz_target!(|text: &str| round_trips::checkpoint(text));
