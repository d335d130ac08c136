//! Batches of what is written to the journal together: entries, which are published, and lines of
//! state, from which the auditor itself continues.
//!
//! A line of state is an entry of the meter as it is. An entry of the journal is the same without
//! the node's state and with pseudonyms in place of names; a snapshot is state alone.

use daylight_base::Name;
use daylight_meter::Entry;
use serde::Serialize;

use super::journal::MAX_ENTRY;
use super::pseudonyms::Pseudonyms;

/// Version of the entries' format.
const VERSION: u32 = 1;

/// Entry in the form that the journal holds.
#[derive(Serialize)]
struct Leaf<'a> {
    v: u32,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// Entries and lines of state that are written together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Entries of the journal.
    pub leaves: Vec<Vec<u8>>,
    pub state: Vec<Vec<u8>>,
    /// `true` if these lines replace the state before.
    pub replaces_state: bool,
    /// UIDs of leases whose end is among the entries.
    pub closed: Vec<Name>,
    /// Number of entries of the meter.
    pub count: u64,
}

impl Batch {
    /// Adds the meter's entries. A snapshot among them must be complete.
    pub fn add(&mut self, entries: Vec<Entry>, pseudonyms: &mut Pseudonyms) {
        let mut is_snapshot = false;
        for mut entry in entries {
            self.count += 1;
            if matches!(entry, Entry::SnapshotBegin) {
                self.state.clear();
                (self.replaces_state, is_snapshot) = (true, true);
            }
            self.state.push(json(&entry));
            if is_snapshot {
                is_snapshot = !matches!(entry, Entry::SnapshotEnd);
                continue;
            }
            if let Entry::Node(node) = &mut entry {
                self.closed.extend(node.closed.iter().map(|closed| closed.lease.uid.clone()));
                node.state = None;
            }
            self.add_leaf(&entry, pseudonyms);
        }
        debug_assert!(!is_snapshot, "a_snapshot_is_complete");
    }

    fn add_leaf(&mut self, entry: &Entry, pseudonyms: &mut Pseudonyms) {
        let mut leaf = serde_json::to_value(Leaf { v: VERSION, entry }).unwrap_or_default();
        pseudonyms.hide(&mut leaf);
        // RFC 8785, so that anyone who has the values can compute the same bytes.
        let bytes = serde_json_canonicalizer::to_vec(&leaf).unwrap_or_default();
        if bytes.len() > MAX_ENTRY
            && let Entry::Node(node) = entry
            && let Some(halves) = node.halves()
        {
            for half in halves {
                self.add_leaf(&Entry::Node(Box::new(half)), pseudonyms);
            }
            return;
        }
        self.leaves.push(bytes);
    }

    /// Adds a later batch.
    pub fn append(&mut self, later: Self) {
        let Self { leaves, state, replaces_state, closed, count } = later;
        self.leaves.extend(leaves);
        self.closed.extend(closed);
        self.count += count;
        if replaces_state {
            self.state.clear();
            self.replaces_state = true;
        }
        self.state.extend(state);
    }

    /// Number of bytes to be written.
    pub fn bytes(&self) -> usize {
        self.leaves.iter().chain(&self.state).map(Vec::len).sum()
    }

    /// Returns `true` if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Entries consist of strings, whole numbers, lists and maps: this cannot fail.
fn json(entry: &Entry) -> Vec<u8> {
    serde_json::to_vec(entry).unwrap_or_default()
}
