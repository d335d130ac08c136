//! `daylight witness`: flags and start of the witness.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use daylight_ledger::VerifierKey;

use super::error::CommandError;
use super::serve::shutdown;
use crate::witness::{self, Settings};

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the witness's keys and of the checkpoints that it cosigned last; no other witness may
    /// use it, and it must not be restored from a backup
    #[arg(long, env = "DAYLIGHT_WITNESS_DIR", value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// Name of the witness, such as `regulator.example/witness`, for keys that are made at the first start
    #[arg(long, env = "DAYLIGHT_WITNESS_NAME")]
    name: String,
    /// Public keys of the ledgers that it cosigns, with commas or the flag again
    #[arg(
        long,
        env = "DAYLIGHT_WITNESS_LOGS",
        value_name = "KEYS",
        value_delimiter = ',',
        required = true
    )]
    log: Vec<VerifierKey>,
    /// Address that serves /add-checkpoint and the last checkpoint of each ledger
    #[arg(long, env = "DAYLIGHT_WITNESS_LISTEN", default_value = "127.0.0.1:8082")]
    listen: SocketAddr,
}

pub(super) async fn run(flags: Flags) -> Result<(), CommandError> {
    let settings = Settings {
        data_dir: flags.data_dir,
        name: flags.name,
        logs: flags.log,
        listen: flags.listen,
    };
    witness::run(settings, shutdown()?)
        .await
        .map_err(|error| CommandError::new("The witness stopped").because(error))
}
