//! Entries of nodes on which nothing happens, which wait for those of others.

use std::collections::BTreeMap;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_meter::NodeEntry;

/// Quiet entries that are not in the ledger yet. The auditor's state has them, so nothing is lost with
/// the process.
#[derive(Debug)]
pub(super) struct QuietNodes {
    /// They are due at its multiples, in milliseconds.
    every: u64,
    waiting: BTreeMap<Name, NodeEntry>,
}

impl QuietNodes {
    pub(super) fn new(every: Duration) -> Self {
        let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
        Self { every, waiting: BTreeMap::new() }
    }

    /// Takes the entry of a node without its state. Returns it, with what waits of that node, if
    /// something happened on it.
    pub(super) fn hold(&mut self, mut node: NodeEntry) -> Option<NodeEntry> {
        if let Some(before) = self.waiting.remove(&node.node) {
            node.absorb(&before);
        }
        if !node.is_quiet() {
            return Some(node);
        }
        self.waiting.insert(node.node.clone(), node);
        None
    }

    /// Returns `true` if an entry reaches over one of the times at which they are due.
    pub(super) fn is_due(&self) -> bool {
        let turn = |at: Timestamp| at.millis_since(Timestamp::default()) / self.every;
        self.waiting.values().any(|node| turn(node.until) > turn(node.from))
    }

    /// Takes all entries.
    pub(super) fn take(&mut self) -> Vec<NodeEntry> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
