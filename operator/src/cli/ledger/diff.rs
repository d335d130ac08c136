//! `daylight ledger diff`.

use clap::Args;
use daylight_ledger::{TileHashes, first_difference};
use serde::Serialize;

use super::source::Source;
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of a ledger, or its address
    one: Source,
    /// Directory of another, or its address
    other: Source,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Ledgers of which one continues the other, or both are the same.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Same {
    /// Entries that both have.
    common: u64,
    /// Entries of each.
    entries: [u64; 2],
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let (one, other) = (flags.one.open()?, flags.other.open()?);
    let sizes = [one.size()?, other.size()?];
    let common = sizes[0].min(sizes[1]);
    let difference = first_difference(
        &mut TileHashes::new(&one, sizes[0]),
        &mut TileHashes::new(&other, sizes[1]),
        common,
    )
    .map_err(|error| {
        CommandError::new("Cannot compare the ledgers")
            .because(error.to_string())
            .code(ErrorCode::LedgerInvalid)
    })?;
    if let Some(entry) = difference {
        return Err(CommandError::new(format!(
            "The ledgers differ from entry {entry} on, of {common} that both have"
        ))
        .code(ErrorCode::LedgersDiffer)
        .remedy(format!("Compare `daylight ledger show {} {entry}` with the other", flags.one)));
    }
    let same = Same { common, entries: sizes };
    flags.output.print(&same, |same| {
        let [one, other] = same.entries;
        match one == other {
            true => format!("The ledgers have the same {one} entries.\n"),
            false => format!(
                "The ledgers have the same first {} entries, and {one} and {other} altogether.\n",
                same.common
            ),
        }
    })
}
