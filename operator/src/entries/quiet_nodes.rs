//! Entries of nodes on which nothing happens, which wait for those of others.

use std::collections::BTreeMap;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_meter::{NodeEntry, next_cut};

/// The cut while nothing waits.
const NEVER: Timestamp = Timestamp(i64::MAX);

/// Quiet entries that are not in the ledger yet. The auditor's state has them, so nothing is lost with
/// the process.
#[derive(Debug)]
pub(super) struct QuietNodes {
    /// They are due at its multiples, in milliseconds, and where the meter cuts all entries.
    every: u64,
    waiting: BTreeMap<Name, NodeEntry>,
    /// First cut after the begin of what waits: no entry with time after it may join.
    cut: Timestamp,
}

impl QuietNodes {
    pub(super) fn new(every: Duration) -> Self {
        let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
        Self { every, waiting: BTreeMap::new(), cut: NEVER }
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
        self.cut = self.cut.min(next_cut(node.from));
        self.waiting.insert(node.node.clone(), node);
        None
    }

    /// Returns `true` if an entry reaches one of the times at which they are due.
    pub(super) fn is_due(&self) -> bool {
        self.waiting.values().any(|node| self.is_full(node))
    }

    /// Returns `true` if the entry of a node must not be added to those that wait: neither to that of the
    /// same node, nor to those of others, which would have time before and after a cut together.
    pub(super) fn is_due_before(&self, node: &NodeEntry) -> bool {
        node.from >= self.cut
            || self.waiting.get(&node.node).is_some_and(|before| self.is_full(before))
    }

    fn is_full(&self, node: &NodeEntry) -> bool {
        let turn = |at: Timestamp| at.millis_since(Timestamp::default()) / self.every;
        turn(node.until) > turn(node.from) || node.until >= next_cut(node.from)
    }

    /// Takes all entries.
    pub(super) fn take(&mut self) -> Vec<NodeEntry> {
        self.cut = NEVER;
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(from: i64, until: i64) -> NodeEntry {
        minutes_of("n", from, until)
    }

    fn minutes_of(node: &str, from: i64, until: i64) -> NodeEntry {
        let at = |minute: i64| Timestamp(60_000 * minute);
        NodeEntry { node: node.into(), from: at(from), until: at(until), ..NodeEntry::default() }
    }

    #[test]
    fn nodes_share_no_entry_over_a_quarter_of_an_hour() {
        let mut quiet = QuietNodes::new(Duration::from_mins(10));
        // One that is gone has no entry up to the quarter.
        for (from, until) in [(11, 14), (11, 15)] {
            quiet.hold(minutes_of("gone", from, until));
            assert!(!quiet.is_due_before(&minutes_of("other", 13, 15)));
            assert!(quiet.is_due_before(&minutes_of("other", 15, 16)), "{until}");
            assert_eq!(quiet.take().len(), 1);
            assert!(!quiet.is_due_before(&minutes_of("other", 15, 16)), "{until}");
        }
    }

    #[test]
    fn an_entry_is_due_at_each_quarter_of_an_hour_too() {
        let mut quiet = QuietNodes::new(Duration::from_mins(10));
        for (from, until, is_due) in [(1, 2, false), (2, 10, true)] {
            assert_eq!(quiet.hold(minutes(from, until)), None);
            assert_eq!(quiet.is_due(), is_due, "{until}");
        }
        assert_eq!(quiet.take().len(), 1);
        assert_eq!(quiet.hold(minutes(10, 14)), None);
        assert!(!quiet.is_due_before(&minutes(14, 15)));
        assert_eq!(quiet.hold(minutes(14, 15)), None);
        assert!(quiet.is_due_before(&minutes(15, 16)), "it would reach over the quarter");
        assert_eq!(quiet.take(), [minutes(10, 15)]);
    }
}
