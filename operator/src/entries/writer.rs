//! Composes the entries of a ledger.

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};
use daylight_ledger::{MAX_ENTRY, SumOverflow};
use daylight_meter::{ClosingEntry, Entry, Use};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::numbering::{Last, Numbering};
use super::sums::{self, Amounts};
use super::{Leaf, VERSION};
use crate::auditor::pseudonyms::Pseudonyms;

/// First bytes of a line of state that is the writer's own; all others are entries of the meter.
const OWN: &[u8] = br#"{"kind":"ledger""#;

/// Items in one line of a whole state.
const PER_LINE: usize = 1000;

/// Composes entries in the form that the ledger has: with pseudonyms, numbered, and closed.
///
/// The entries that it composed are to be appended in this order, from the index on with which it began.
/// Its state consists of lines that belong with the entries: [`EntryWriter::take_changes`] after each
/// batch, or [`EntryWriter::whole_state`] in their place.
#[derive(Debug)]
pub struct EntryWriter {
    pseudonyms: Pseudonyms,
    /// Index of the next entry.
    next: u64,
    numbering: Numbering,
    /// Registrations whose last entry is not yet in the state.
    changed: BTreeSet<Name>,
    open: Open,
    /// `true` if `open` is not yet in the state.
    opened: bool,
    /// Amounts since `open.first`. The meter's entries in the state have them, too.
    sums: BTreeMap<Use, Amounts>,
}

/// Entries that no closing has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    /// Number of the closing that will have them, from 1.
    #[serde(with = "daylight_meter::decimal")]
    number: u64,
    /// Index of the first of them.
    #[serde(with = "daylight_meter::decimal")]
    first: u64,
    /// End of the closing before; of the first one, time since when there are closings.
    since: Option<Timestamp>,
}

/// Line of state.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Line {
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Open>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    last: Vec<(Name, Last)>,
    /// Amounts in whole numbers, of the entries before the state began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sums: Vec<(Use, Amounts)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Ledger,
}

/// Error of a state that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of its state cannot be read ({error})")]
pub struct StateError {
    line: usize,
    error: serde_json::Error,
}

impl EntryWriter {
    /// Continues after the lines of a state, in a ledger of `size` entries. Returns the entries of the
    /// meter that are among the lines.
    ///
    /// # Errors
    ///
    /// A line cannot be read.
    pub fn restore(
        pseudonyms: Pseudonyms,
        size: u64,
        lines: &[impl AsRef<[u8]>],
    ) -> Result<(Self, Vec<Entry>), StateError> {
        let mut writer = Self {
            pseudonyms,
            next: size,
            numbering: Numbering::default(),
            changed: BTreeSet::new(),
            // A journal of an earlier version has neither numbers nor closings: they begin here.
            open: Open { number: 1, first: size, since: None },
            opened: true,
            sums: BTreeMap::new(),
        };
        let mut entries = Vec::with_capacity(lines.len());
        for (number, line) in lines.iter().enumerate() {
            let line = line.as_ref();
            let failed = |error| StateError { line: number + 1, error };
            if line.starts_with(OWN) {
                let Line { kind: Kind::Ledger, open, last, sums } =
                    serde_json::from_slice(line).map_err(failed)?;
                if let Some(open) = open {
                    if open.number != writer.open.number {
                        writer.sums.clear();
                    }
                    (writer.open, writer.opened) = (open, false);
                }
                for (registration, last) in last {
                    writer.numbering.take(&registration, last);
                }
                writer.sums.extend(sums);
                continue;
            }
            let entry: Entry = serde_json::from_slice(line).map_err(failed)?;
            // Entries before the first closing began have no number, and no closing has them.
            if let Entry::Node(node) = &entry
                && !writer.opened
            {
                sums::add(&mut writer.sums, node);
            }
            entries.push(entry);
        }
        Ok((writer, entries))
    }

    /// Composes an entry in as many parts as it needs, and appends them to `leaves`. Each of them can be
    /// written: one that cannot would stop the ledger for good.
    pub fn compose(&mut self, entry: Entry, leaves: &mut Vec<Vec<u8>>) {
        let bytes = self.json(&entry);
        if bytes.len() <= MAX_ENTRY {
            self.take(&entry);
            leaves.push(bytes);
            return;
        }
        let of = <&str>::from(&entry);
        let halves = match entry {
            Entry::Node(node) => node.halves(),
            _ => None,
        };
        if let Some(halves) = halves {
            for half in halves {
                self.compose(Entry::Node(Box::new(half)), leaves);
            }
            return;
        }
        let length = bytes.len();
        tracing::error!(
            of,
            length,
            "An entry is too long for the journal, which records that it \
            is omitted."
        );
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
        let omitted = Entry::Omitted { of: of.into(), bytes: length as u64, digest: digest.into() };
        self.compose(omitted, leaves);
    }

    /// The entry in canonical JSON (RFC 8785), so that anyone who has the values can compute the same
    /// bytes.
    fn json(&mut self, entry: &Entry) -> Vec<u8> {
        let chain = entry.registrations().into_iter().map(|one| self.numbering.next(one)).collect();
        let leaf = Leaf { v: VERSION, chain, entry };
        let mut leaf = serde_json::to_value(leaf).unwrap_or_default();
        self.pseudonyms.hide(&mut leaf);
        serde_json_canonicalizer::to_vec(&leaf).unwrap_or_default()
    }

    /// Takes an entry as the next one.
    fn take(&mut self, entry: &Entry) {
        let index = self.next;
        for registration in entry.registrations() {
            let number = self.numbering.next(registration).number;
            self.numbering.take(registration, Last { number, index });
            self.changed.insert(registration.clone());
        }
        if let Entry::Node(node) = entry {
            sums::add(&mut self.sums, node);
        }
        self.next += 1;
    }

    /// Time since when there has been no closing; the first call sets it where there was none yet.
    pub fn open_since(&mut self, now: Timestamp) -> Timestamp {
        self.opened |= self.open.since.is_none();
        *self.open.since.get_or_insert(now)
    }

    /// Composes the closing of all entries so far.
    ///
    /// # Errors
    ///
    /// The amounts add up to more than 64 bits hold.
    pub fn close(&mut self, until: Timestamp) -> Result<ClosingEntry, SumOverflow> {
        let pseudonyms = &mut self.pseudonyms;
        let mut hide = |usage: &Use| {
            let mut usage = serde_json::to_value(usage).unwrap_or_default();
            pseudonyms.hide(&mut usage);
            sums::account_name(&usage)
        };
        let sums = self.sums.iter().map(|(usage, amounts)| (hide(usage), *amounts)).collect();
        let Open { number, first, .. } = self.open;
        let closing = sums::closing(number, first, until, &sums)?;
        // The closing itself is the next entry, and the first one that it does not have.
        self.open = Open { number: number + 1, first: self.next, since: Some(until) };
        self.opened = true;
        self.sums.clear();
        Ok(closing)
    }

    /// Returns the lines that continue the state.
    pub fn take_changes(&mut self) -> Vec<Vec<u8>> {
        let changed = std::mem::take(&mut self.changed);
        let last =
            self.numbering.iter().filter(|(registration, _)| changed.contains(*registration));
        let last: Vec<_> = last.map(|(registration, last)| (registration.clone(), last)).collect();
        let open = std::mem::take(&mut self.opened).then_some(self.open);
        if open.is_none() && last.is_empty() {
            return Vec::new();
        }
        vec![line(&Line { open, last, ..Line::default() })]
    }

    /// Returns the lines of the whole state.
    pub fn whole_state(&mut self) -> Vec<Vec<u8>> {
        self.changed.clear();
        self.opened = false;
        let mut lines = vec![line(&Line { open: Some(self.open), ..Line::default() })];
        let last: Vec<_> = self.numbering.iter().map(|(name, last)| (name.clone(), last)).collect();
        let of_last = |last: &[_]| line(&Line { last: last.to_vec(), ..Line::default() });
        lines.extend(last.chunks(PER_LINE).map(of_last));
        let sums: Vec<_> = self.sums.iter().map(|(name, sums)| (name.clone(), *sums)).collect();
        let of_sums = |sums: &[_]| line(&Line { sums: sums.to_vec(), ..Line::default() });
        lines.extend(sums.chunks(PER_LINE).map(of_sums));
        lines
    }
}

fn line(line: &Line) -> Vec<u8> {
    let bytes = serde_json::to_vec(line).unwrap_or_default();
    debug_assert!(bytes.starts_with(OWN), "own_lines_begin_with_their_kind");
    bytes
}
