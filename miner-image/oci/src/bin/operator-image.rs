//! Builds the operator's image, as `cargo operator-image`. `docs/release.md` is its manual.

use std::process::ExitCode;

use daylight_oci::build::{OPERATOR, command};

fn main() -> ExitCode {
    command::main(&OPERATOR)
}
