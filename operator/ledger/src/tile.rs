//! Paths of tiles, and bundles of entries, by C2SP `tlog-tiles`.

use std::fmt;
use std::str::FromStr;

use crate::decimal;

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;

/// Most bytes of an entry: what its length in two bytes allows.
pub const MAX_ENTRY: usize = 65_535;

/// Highest level that a path may name. A tree of less than 2^64 entries has none above 7.
const MAX_LEVEL: u8 = 63;

/// Sequence to which a tile belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Bundles of entries.
    Entries,
    /// Tiles of hashes: of entries at level 0, of full tiles of the level below at the others.
    Hashes(u8),
}

impl TileKind {
    /// Entries that one element of such a tile stands for; `None` if that exceeds 2^63.
    fn span(self) -> Option<u64> {
        match self {
            Self::Entries => Some(1),
            Self::Hashes(level) => 1_u64.checked_shl(8 * u32::from(level)),
        }
    }

    /// Returns the number of elements that a tree of `size` entries has in all tiles of this kind.
    pub fn elements(self, size: u64) -> u64 {
        self.span().map_or(0, |span| size / span)
    }
}

/// Path of one tile or bundle, full or partial, relative to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    /// 1 to 256.
    width: u16,
}

impl TilePath {
    /// Names a full tile.
    pub fn full(kind: TileKind, index: u64) -> Self {
        Self { kind, index, width: TILE_WIDTH as u16 }
    }

    /// Names a tile of 1 to 256 hashes or entries; `None` if the width is another one.
    pub fn of_width(kind: TileKind, index: u64, width: u64) -> Option<Self> {
        (1..=TILE_WIDTH).contains(&width).then_some(Self { kind, index, width: width as u16 })
    }

    /// Names the tile as a tree of `size` entries has it: full, partial, or `None` if it has no
    /// element.
    pub fn at_size(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let before = index.checked_mul(TILE_WIDTH)?;
        let width = kind.elements(size).checked_sub(before)?.min(TILE_WIDTH);
        Self::of_width(kind, index, width)
    }

    /// Returns the paths of all tiles of a kind in a tree of `size` entries, in order.
    pub fn all(kind: TileKind, size: u64) -> impl Iterator<Item = Self> {
        let tiles = kind.elements(size).div_ceil(TILE_WIDTH);
        (0..tiles).filter_map(move |index| Self::at_size(kind, index, size))
    }

    /// Sequence to which it belongs.
    pub fn kind(self) -> TileKind {
        self.kind
    }

    /// Place in its sequence, from 0.
    pub fn index(self) -> u64 {
        self.index
    }

    /// Number of hashes or entries in it, 1 to 256.
    pub fn width(self) -> u64 {
        u64::from(self.width)
    }

    /// Returns `true` if it has 256 hashes or entries, and so never changes.
    pub fn is_full(self) -> bool {
        self.width() == TILE_WIDTH
    }

    /// Returns the path without `.p/W`: the name of the full tile, and of the file that grows in
    /// place until the tile is full.
    pub fn whole_name(self) -> String {
        Self::full(self.kind, self.index).to_string()
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        // Groups of three digits, each but the last after an `x`.
        let groups = self.index.checked_ilog(1000).unwrap_or(0);
        for above in (1..=groups).rev() {
            write!(f, "x{:03}/", self.index / 1000_u64.pow(above) % 1000)?;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// Error of a text that is not the path of a tile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the path of a tile or of an entry bundle, such as tile/0/x001/234.p/56")]
pub struct TilePathError(String);

impl FromStr for TilePath {
    type Err = TilePathError;

    fn from_str(text: &str) -> Result<Self, TilePathError> {
        // A path has one form only: what is displayed in another way was not a path.
        parse(text)
            .filter(|path| path.to_string() == text)
            .ok_or_else(|| TilePathError(text.chars().take(100).collect()))
    }
}

fn parse(text: &str) -> Option<TilePath> {
    let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
    let kind = match kind {
        "entries" => TileKind::Entries,
        level => TileKind::Hashes(
            decimal::parse(level)?.try_into().ok().filter(|level| *level <= MAX_LEVEL)?,
        ),
    };
    let (groups, width) = match rest.split_once(".p/") {
        Some((groups, width)) => (groups, decimal::parse(width)?),
        None => (rest, TILE_WIDTH),
    };
    let mut index = 0_u64;
    for group in groups.split('/') {
        let group = group.strip_prefix('x').unwrap_or(group);
        if group.len() != 3 || !group.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(group.parse().ok()?)?;
    }
    TilePath::of_width(kind, index, width)
}

/// Error of a bundle, or of an entry that no bundle can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The entry is longer than [`MAX_ENTRY`].
    #[error("an entry of {0} bytes exceeds the limit of {MAX_ENTRY}")]
    TooLong(usize),
    /// The bytes end within an entry.
    #[error("the bundle ends within its entry {0}")]
    Truncated(u64),
}

/// Appends an entry to a bundle: its length in two bytes (big-endian), then the entry.
///
/// # Errors
///
/// The entry is too long. The bundle is unchanged then.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), BundleError> {
    let length = u16::try_from(entry.len()).map_err(|_| BundleError::TooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Iterator over the entries of a bundle. After an error it ends.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    number: u64,
}

impl<'a> Entries<'a> {
    /// Iterates over the entries of a bundle.
    pub fn new(bundle: &'a [u8]) -> Self {
        Self { rest: bundle, number: 0 }
    }

    /// Returns the bytes after the entries that were returned.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], BundleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let split = self.rest.split_first_chunk::<2>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        });
        let Some((entry, rest)) = split else {
            self.rest = &[];
            return Some(Err(BundleError::Truncated(self.number)));
        };
        self.rest = rest;
        self.number += 1;
        Some(Ok(entry))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_written_as_in_the_specification() {
        let path = |kind, index, size| TilePath::at_size(kind, index, size).map(|p| p.to_string());
        assert_eq!(
            TilePath::full(TileKind::Hashes(0), 1_234_067).to_string(),
            "tile/0/x001/x234/067"
        );
        assert_eq!(TilePath::full(TileKind::Entries, 999).to_string(), "tile/entries/999");
        assert_eq!(TilePath::full(TileKind::Entries, 1000).to_string(), "tile/entries/x001/000");
        // The example of a tree of 70,000 entries.
        assert_eq!(path(TileKind::Hashes(0), 272, 70_000).as_deref(), Some("tile/0/272"));
        assert_eq!(path(TileKind::Hashes(0), 273, 70_000).as_deref(), Some("tile/0/273.p/112"));
        assert_eq!(path(TileKind::Hashes(0), 274, 70_000), None);
        assert_eq!(path(TileKind::Hashes(1), 0, 70_000).as_deref(), Some("tile/1/000"));
        assert_eq!(path(TileKind::Hashes(1), 1, 70_000).as_deref(), Some("tile/1/001.p/17"));
        assert_eq!(path(TileKind::Hashes(2), 0, 70_000).as_deref(), Some("tile/2/000.p/1"));
        assert_eq!(path(TileKind::Hashes(3), 0, 70_000), None);
        assert_eq!(TilePath::all(TileKind::Hashes(0), 70_000).count(), 274);
        assert_eq!(TilePath::all(TileKind::Hashes(63), u64::MAX).count(), 0);
        assert_eq!(path(TileKind::Hashes(0), 0, 256).as_deref(), Some("tile/0/000"));
        assert_eq!(path(TileKind::Hashes(1), 0, 256).as_deref(), Some("tile/1/000.p/1"));
    }

    #[test]
    fn what_is_not_a_path_is_refused() {
        for wrong in [
            "",
            "tile/0",
            "tile/0/",
            "tile//000",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/x000",
            "tile/0/x000/001",
            "tile/0/001/001",
            "tile/0/x001/x001",
            "tile/0/000.p/0",
            "tile/0/000.p/01",
            "tile/0/000.p/256",
            "tile/0/000.p/",
            "tile/0/000.p/1.p/1",
            "tile/0/000/",
            "/tile/0/000",
            "tile/0/../000",
            "tile/entry/000",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert!(wrong.parse::<TilePath>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_bundle_that_ends_within_an_entry_is_noticed() {
        let mut bundle = Vec::new();
        push_entry(&mut bundle, b"first").unwrap();
        push_entry(&mut bundle, b"").unwrap();
        let whole: Result<Vec<_>, _> = Entries::new(&bundle).collect();
        assert_eq!(whole, Ok(vec![&b"first"[..], b""]));
        for cut in [1, 2, 6, bundle.len() - 1] {
            let last = Entries::new(&bundle[..cut]).last().unwrap();
            assert_eq!(last, Err(BundleError::Truncated(u64::from(cut > 7))), "{cut}");
        }
        assert_eq!(
            push_entry(&mut bundle, &vec![0; MAX_ENTRY + 1]),
            Err(BundleError::TooLong(MAX_ENTRY + 1))
        );
        push_entry(&mut bundle, &vec![0; MAX_ENTRY]).unwrap();
    }

    proptest! {
        #[test]
        fn a_path_is_read_back(level in 0_u8..=64, index: u64, width in 1_u16..=256) {
            let kind = if level == 64 { TileKind::Entries } else { TileKind::Hashes(level) };
            let path = TilePath { kind, index, width };
            prop_assert_eq!(path.to_string().parse(), Ok(path));
        }
    }
}
