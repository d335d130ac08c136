//! The binary `daylight`, which is also the kubectl plugin `kubectl-daylight`.

use std::process::ExitCode;

fn main() -> ExitCode {
    daylight::cli::main(std::env::args_os())
}
