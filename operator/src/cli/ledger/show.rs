//! `daylight ledger show`.

use std::io::Write as _;

use clap::Args;
use daylight_ledger::{Entries, TILE_WIDTH, TileKind, TilePath, read_tile};

use super::source::{Opened, Source};
use crate::cli::error::{CommandError, ErrorCode};
use crate::cli::output;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory of the ledger, or its address
    source: Source,
    /// Number of the first entry, from 0
    entry: u64,
    /// Number of entries
    #[arg(long, default_value_t = 1)]
    count: u64,
}

pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let source = flags.source.open()?;
    let size = source.size()?;
    let mut out = std::io::stdout().lock();
    let end = flags.entry.saturating_add(flags.count);
    let mut at = flags.entry;
    while at < end {
        let bundle = bundle(&source, at, size)?;
        for entry in entries(&bundle, at)?.take((end - at) as usize) {
            out.write_all(&entry).and_then(|()| out.write_all(b"\n")).map_err(output::failed)?;
            at += 1;
        }
        if at == size {
            break;
        }
    }
    Ok(())
}

/// Reads the bundle with an entry, as far as it is signed.
pub(super) fn bundle(source: &Opened<'_>, entry: u64, size: u64) -> Result<Vec<u8>, CommandError> {
    let path =
        TilePath::at_size(TileKind::Entries, entry / TILE_WIDTH, size).filter(|_| entry < size);
    let path = path.ok_or_else(|| {
        CommandError::new(format!("The ledger has {size} entries, and none with number {entry}"))
            .code(ErrorCode::NotFound)
    })?;
    let found = read_tile(source, path)?;
    let found = found.ok_or_else(|| source.invalid(&format!("lacks {path}")))?;
    let length = daylight_ledger::bundle_bytes(&found.bytes, path.width());
    let length =
        length.ok_or_else(|| source.invalid(&format!("has too few entries in {}", found.file)))?;
    Ok(found.bytes[..length].to_vec())
}

/// The entries of a bundle from the one with this number on.
pub(super) fn entries(
    bundle: &[u8],
    from: u64,
) -> Result<impl Iterator<Item = Vec<u8>>, CommandError> {
    let all: Result<Vec<&[u8]>, _> = Entries::new(bundle).collect();
    let all = all.map_err(|error| {
        CommandError::new("An entry bundle cannot be read")
            .because(error)
            .code(ErrorCode::LedgerInvalid)
    })?;
    let rest = all.into_iter().skip((from % TILE_WIDTH) as usize);
    Ok(rest.map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter())
}
