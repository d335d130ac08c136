//! `daylight ledger diff`: two copies of one ledger, or what two auditors of one cluster recorded.

use std::time::Duration;

use clap::Args;
use daylight_base::duration;
use daylight_ledger::{Checkpoint, LogVerifier, TileHashes, first_difference};
use serde::Serialize;

use super::source::{Opened, Source};
use super::verify::some;
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output::Output;
use crate::entries::{Difference, Observations, Sums, Tolerance, Watch, compare_leases};

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of a ledger, or its address
    one: Source,
    /// Directory of another, or its address
    other: Source,
    /// Of two auditors' ledgers: time after which each has booked what happened
    #[arg(long, default_value = "2m", value_parser = duration::parse)]
    margin: Duration,
    /// Of two auditors' ledgers: difference that their clocks may have
    #[arg(long, default_value = "1s", value_parser = duration::parse)]
    clocks: Duration,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Ledgers that do not contradict each other.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Same {
    /// Entries of each.
    entries: [u64; 2],
    /// Entries that both have, of one ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    common: Option<u64>,
    /// Ended leases of each that were compared, of two auditors.
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<[usize; 2]>,
    /// Milliseconds that both watched, and over which sums were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    watched_ms: Option<u64>,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let (one, other) = (flags.one.open()?, flags.other.open()?);
    let checkpoints = [one.parsed_checkpoint()?, other.parsed_checkpoint()?];
    let same = match checkpoints[0].origin == checkpoints[1].origin {
        true => same_entries(flags, [&one, &other], checkpoints.map(|it| it.size))?,
        false => same_books(flags, [&one, &other], &checkpoints)?,
    };
    flags.output.print(&same, text)
}

/// Compares the entries of two copies of one ledger, by their hashes.
fn same_entries(
    flags: &Flags,
    [one, other]: [&Opened<'_>; 2],
    sizes: [u64; 2],
) -> Result<Same, CommandError> {
    let common = sizes[0].min(sizes[1]);
    let difference = first_difference(
        &mut TileHashes::new(one, sizes[0]),
        &mut TileHashes::new(other, sizes[1]),
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
    Ok(Same { entries: sizes, common: Some(common), leases: None, watched_ms: None })
}

/// Compares what two auditors recorded.
fn same_books(
    flags: &Flags,
    sources: [&Opened<'_>; 2],
    checkpoints: &[Checkpoint; 2],
) -> Result<Same, CommandError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let tolerance = Tolerance { margin_ms: millis(flags.margin), clocks_ms: millis(flags.clocks) };
    let mut observed = [Observations::default(), Observations::default()];
    for at in 0..2 {
        each_entry(sources[at], &checkpoints[at], |index, entry| observed[at].take(index, entry))?;
    }
    let [one, other] = &observed;
    let mut differences = compare_leases(one, other, tolerance);
    let watches = one.watched_by_both(other, tolerance);
    let mut sums = [(); 2].map(|()| Sums::over(&watches, tolerance));
    for at in 0..2 {
        each_entry(sources[at], &checkpoints[at], |_, entry| sums[at].take(entry))?;
    }
    differences.extend(sums[0].compare(&sums[1]));
    if !differences.is_empty() {
        return Err(differ(flags, &differences));
    }
    Ok(Same {
        entries: [checkpoints[0].size, checkpoints[1].size],
        common: None,
        leases: Some([one.leases(), other.leases()]),
        watched_ms: Some(watches.iter().map(Watch::millis).sum()),
    })
}

fn differ(flags: &Flags, differences: &[Difference]) -> CommandError {
    CommandError::new(format!("The auditors of {} and {} disagree", flags.one, flags.other))
        .because(some(differences))
        .code(ErrorCode::LedgersDiffer)
        .remedy(
            "Keep both ledgers as evidence, and compare the entries with `daylight ledger show`",
        )
}

/// Hands out the entries of a ledger, which must be those of its checkpoint.
fn each_entry(
    source: &Opened<'_>,
    checkpoint: &Checkpoint,
    each: impl FnMut(u64, &[u8]),
) -> Result<(), CommandError> {
    let disagreements = LogVerifier::new(checkpoint).verify(source, each)?;
    match disagreements.is_empty() {
        true => Ok(()),
        false => Err(source.invalid("is not what was signed").because(some(&disagreements))),
    }
}

fn text(same: &Same) -> String {
    let Same { entries: [one, other], common, leases, watched_ms } = same;
    match (common, leases, watched_ms) {
        (_, Some([ended, others]), Some(ms)) => format!(
            "The auditors agree, within the bounds of what each recorded: {ended} and {others} ended \
             leases, and the sums of {} seconds that both watched.\n",
            ms / 1000
        ),
        _ if one == other => format!("The ledgers have the same {one} entries.\n"),
        _ => format!(
            "The ledgers have the same first {} entries, and {one} and {other} altogether.\n",
            common.unwrap_or_default()
        ),
    }
}
