//! Builds the miner's image, as `cargo miner-image`. `miner-image/README.md` is its manual.

use std::process::ExitCode;

use daylight_oci::build::{MINER, command};

fn main() -> ExitCode {
    command::main(&MINER)
}
