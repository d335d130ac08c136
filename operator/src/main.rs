//! The binary `daylight`, which is `kubectl-daylight` too.

use std::process::ExitCode;

fn main() -> ExitCode {
    daylight::cli::main(std::env::args_os())
}
