//! What is written to the journal together: entries, which are for others to read, and lines of
//! state, from which the auditor itself goes on.
//!
//! A line of state is an entry of the meter as it is. An entry of the journal is the same without
//! how a node stands, with pseudonyms in the place of names; snapshots are state alone.

use daylight_base::Name;
use daylight_meter::Entry;
use serde::Serialize;

use super::journal::MAX_ENTRY;
use super::pseudonyms::Pseudonyms;

/// The version of the entries' form.
const VERSION: u32 = 1;

/// An entry as it lies in the journal.
#[derive(Serialize)]
struct Leaf<'a> {
    v: u32,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// Entries that are to be written together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Entries of the journal.
    pub leaves: Vec<Vec<u8>>,
    pub state: Vec<Vec<u8>>,
    /// Whether these lines alone are the state.
    pub anew: bool,
    /// Leases that they close, by UID.
    pub closed: Vec<Name>,
    /// How many entries of the meter are in it.
    pub count: u64,
}

impl Batch {
    /// Adds what the meter gave, in which a snapshot is whole.
    pub fn add(&mut self, entries: Vec<Entry>, pseudonyms: &mut Pseudonyms) {
        let mut is_snapshot = false;
        for mut entry in entries {
            self.count += 1;
            if matches!(entry, Entry::SnapshotBegin) {
                self.state.clear();
                (self.anew, is_snapshot) = (true, true);
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
            self.put(&entry, pseudonyms);
        }
    }

    fn put(&mut self, entry: &Entry, pseudonyms: &mut Pseudonyms) {
        let mut leaf = serde_json::to_value(Leaf { v: VERSION, entry }).unwrap_or_default();
        pseudonyms.hide(&mut leaf);
        let bytes = serde_json_canonicalizer::to_vec(&leaf).unwrap_or_default();
        if bytes.len() > MAX_ENTRY
            && let Entry::Node(node) = entry
            && let Some(halves) = node.halves()
        {
            for half in halves {
                self.put(&Entry::Node(Box::new(half)), pseudonyms);
            }
            return;
        }
        self.leaves.push(bytes);
    }

    /// Adds what comes after it.
    pub fn append(&mut self, later: Self) {
        self.leaves.extend(later.leaves);
        self.closed.extend(later.closed);
        self.count += later.count;
        if later.anew {
            self.state.clear();
            self.anew = true;
        }
        self.state.extend(later.state);
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.leaves.iter().chain(&self.state).map(Vec::len).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Entries are of strings, whole numbers, lists and maps: that cannot fail.
fn json(entry: &Entry) -> Vec<u8> {
    serde_json::to_vec(entry).unwrap_or_default()
}
