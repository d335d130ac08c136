//! `daylight ledger …`: verify, prove and copy a ledger, with nothing but its files and a public key.

mod check;
mod cosign;
mod diff;
mod evidence;
mod key_sequence;
mod keygen;
mod mirror;
mod prove;
pub(super) mod receipt;
mod registration_proof;
mod replaced_keys;
pub(super) mod report;
mod restore;
#[cfg(test)]
mod sample;
mod show;
mod source;
mod trust;
mod verify;
mod web;

use clap::{Args, Subcommand};

pub(super) use self::trust::read_policy;

use super::error::CommandError;
use super::output::Format;

#[derive(Debug, Args)]
pub(super) struct Ledger {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify a whole ledger: every entry, every hash, the signature, and that it continues older
    /// checkpoints
    Verify(verify::Flags),
    /// Print entries, one per line
    Show(show::Flags),
    /// Write a proof that an entry is in a ledger, or of what a registration used, which anyone can check
    /// offline
    Prove(prove::Flags),
    /// Check a proof, offline
    Check(check::Flags),
    /// Compare two copies of a ledger, or the ledgers of two auditors of one cluster, and name what differs
    Diff(diff::Flags),
    /// Copy what is new in a ledger into a directory, after verifying it
    Mirror(mirror::Flags),
    /// Make a data directory for the auditor out of a copy with its secrets, after verifying it
    Restore(restore::Flags),
    /// Have witnesses cosign the checkpoint, each of which sees that the ledger only grew
    Cosign(cosign::Flags),
    /// Make a key that signs a ledger
    Keygen(keygen::Flags),
}

impl Ledger {
    /// The format of the command's output, and of its error.
    pub(super) fn format(&self) -> Format {
        match &self.command {
            Command::Verify(flags) => flags.output.format,
            Command::Check(flags) => flags.output.format,
            Command::Diff(flags) => flags.output.format,
            Command::Mirror(flags) => flags.output.format,
            Command::Restore(flags) => flags.output.format,
            Command::Cosign(flags) => flags.output.format,
            Command::Show(_) | Command::Prove(_) | Command::Keygen(_) => Format::Text,
        }
    }
}

pub(super) fn run(ledger: &Ledger) -> Result<(), CommandError> {
    match &ledger.command {
        Command::Verify(flags) => verify::run(flags),
        Command::Show(flags) => show::run(flags),
        Command::Prove(flags) => prove::run(flags),
        Command::Check(flags) => check::run(flags),
        Command::Diff(flags) => diff::run(flags),
        Command::Mirror(flags) => mirror::run(flags),
        Command::Restore(flags) => restore::run(flags),
        Command::Cosign(flags) => cosign::run(flags),
        Command::Keygen(flags) => keygen::run(flags),
    }
}

#[cfg(test)]
mod tests;
