//! `daylight ledger keygen`.

use std::path::PathBuf;

use clap::Args;
use daylight_ledger::SigningKey;

use crate::cli::error::{CommandError, ErrorCode};
use crate::files;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Name of the ledger for ever, such as `example.com/daylight`
    name: String,
    /// File for the private key, which must not exist; the public key is printed
    #[arg(long, value_name = "FILE", default_value = "ledger.key")]
    key_file: PathBuf,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let mut seed = [0_u8; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| CommandError::new("Cannot make a key").because(error))?;
    let key = SigningKey::from_seed(&flags.name, seed).map_err(|error| {
        CommandError::new("Cannot make a key").because(error).code(ErrorCode::Invalid)
    })?;
    let text = format!("{}\n", key.to_secret_text());
    files::create_secret(&flags.key_file, &text).map_err(|error| {
        CommandError::new(format!("Cannot write the key to {}", flags.key_file.display()))
            .because(error)
    })?;
    println!("{}", key.verifier());
    Ok(())
}
