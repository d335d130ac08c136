//! Composes the entries of a ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_ledger::{MAX_ENTRY, SumOverflow};
use daylight_meter::{ClosingEntry, Entry, NodeEntry, NodesEntry, Use};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::numbering::{Last, Numbering};
use super::quiet_nodes::QuietNodes;
use super::sums::{self, Amounts};
use super::{Leaf, VERSION};
use crate::auditor::pseudonyms::Pseudonyms;

/// First bytes of a line of state that is the writer's own; all others are entries of the meter.
const OWN: &[u8] = br#"{"kind":"ledger""#;

/// Returns `true` for a line of state that is the writer's own: it is about the indices of one ledger.
pub(crate) fn is_own(line: &[u8]) -> bool {
    line.starts_with(OWN)
}

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
    quiet: QuietNodes,
    /// `true` if all quiet nodes were composed, and the state does not have that yet.
    flushed: bool,
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
    /// `true` if the entries of all quiet nodes are in the ledger.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    flushed: bool,
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
    /// meter that are among the lines. Quiet nodes have an entry at the multiples of `quiet_every`.
    ///
    /// # Errors
    ///
    /// A line cannot be read.
    pub fn restore(
        pseudonyms: Pseudonyms,
        size: u64,
        quiet_every: Duration,
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
            quiet: QuietNodes::new(quiet_every),
            flushed: false,
        };
        let mut entries = Vec::with_capacity(lines.len());
        for (number, line) in lines.iter().enumerate() {
            let line = line.as_ref();
            let failed = |error| StateError { line: number + 1, error };
            if is_own(line) {
                let line = serde_json::from_slice(line).map_err(failed)?;
                writer.apply(line);
                continue;
            }
            let entry: Entry = serde_json::from_slice(line).map_err(failed)?;
            // Entries before the first closing began have no number, and no closing has them.
            if let Entry::Node(node) = &entry
                && !writer.opened
                && let Some(NodeEntry { time, energy, operated, .. }) =
                    writer.quiet.hold(bare(node))
            {
                sums::add(&mut writer.sums, &time, &energy, &operated);
            }
            entries.push(entry);
        }
        Ok((writer, entries))
    }

    fn apply(&mut self, Line { kind: Kind::Ledger, open, last, sums, flushed }: Line) {
        if flushed {
            for NodeEntry { time, energy, operated, .. } in self.quiet.take() {
                sums::add(&mut self.sums, &time, &energy, &operated);
            }
        }
        if let Some(open) = open {
            if open.number != self.open.number {
                self.sums.clear();
            }
            (self.open, self.opened) = (open, false);
        }
        for (registration, last) in last {
            self.numbering.take(&registration, last);
        }
        self.sums.extend(sums);
    }

    /// Returns the name that the entries have for a registration.
    pub(crate) fn pseudonym_of(&mut self, registration: &Name) -> Name {
        self.pseudonyms.of_registration(registration)
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

    /// Composes the entry of a node, without its state, unless it waits for those of others.
    pub(crate) fn compose_node(&mut self, node: NodeEntry, leaves: &mut Vec<Vec<u8>>) {
        if let Some(node) = self.quiet.hold(node) {
            self.compose(Entry::Node(Box::new(node)), leaves);
        }
    }

    /// Returns `true` if the quiet entry of a node that waits must be in the ledger before this one.
    pub(crate) fn is_due_before(&self, node: &NodeEntry) -> bool {
        self.quiet.is_due_before(node)
    }

    /// Composes the entries of quiet nodes that are due.
    pub(crate) fn compose_due(&mut self, leaves: &mut Vec<Vec<u8>>) {
        if self.quiet.is_due() {
            self.compose_quiet(leaves);
        }
    }

    /// Composes the entries of all quiet nodes.
    pub fn compose_quiet(&mut self, leaves: &mut Vec<Vec<u8>>) {
        let nodes = self.quiet.take();
        self.flushed |= !nodes.is_empty();
        self.compose_shared(nodes, leaves);
    }

    /// Composes the entries of nodes as one, unless it would be too long.
    fn compose_shared(&mut self, mut nodes: Vec<NodeEntry>, leaves: &mut Vec<Vec<u8>>) {
        let entry = match nodes.len() {
            0 => return,
            1 => nodes.pop().map(|node| Entry::Node(Box::new(node))),
            _ => Some(Entry::Nodes(Box::new(NodesEntry::of(&nodes)))),
        };
        let Some(entry) = entry else { return };
        if nodes.len() > 1 && self.json(&entry).len() > MAX_ENTRY {
            let second = nodes.split_off(nodes.len() / 2);
            self.compose_shared(nodes, leaves);
            self.compose_shared(second, leaves);
        } else {
            self.compose(entry, leaves);
        }
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
        match entry {
            Entry::Node(node) => {
                sums::add(&mut self.sums, &node.time, &node.energy, &node.operated);
            }
            Entry::Nodes(nodes) => {
                sums::add(&mut self.sums, &nodes.time, &nodes.energy, &nodes.operated);
            }
            _ => {}
        }
        self.next += 1;
    }

    /// Time since when there has been no closing; the first call sets it where there was none yet.
    pub fn open_since(&mut self, now: Timestamp) -> Timestamp {
        self.opened |= self.open.since.is_none();
        *self.open.since.get_or_insert(now)
    }

    /// Composes the closing of all entries so far. Those of quiet nodes are to be composed before.
    ///
    /// # Errors
    ///
    /// The amounts add up to more than 64 bits hold.
    pub fn close(&mut self, until: Timestamp) -> Result<ClosingEntry, SumOverflow> {
        debug_assert!(self.quiet.is_empty(), "a_closing_has_all_entries");
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
        let flushed = std::mem::take(&mut self.flushed);
        if open.is_none() && last.is_empty() && !flushed {
            return Vec::new();
        }
        vec![line(&Line { open, last, flushed, ..Line::default() })]
    }

    /// Returns the lines of the whole state, which has no quiet nodes: they are to be composed before.
    pub fn whole_state(&mut self) -> Vec<Vec<u8>> {
        debug_assert!(self.quiet.is_empty(), "the_state_has_no_entries_that_wait");
        self.changed.clear();
        (self.opened, self.flushed) = (false, false);
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

/// The entry of a node without its state, as the ledger has it.
pub(crate) fn bare(node: &NodeEntry) -> NodeEntry {
    NodeEntry { state: None, ..node.clone() }
}

fn line(line: &Line) -> Vec<u8> {
    let bytes = serde_json::to_vec(line).unwrap_or_default();
    debug_assert!(bytes.starts_with(OWN), "own_lines_begin_with_their_kind");
    bytes
}

#[cfg(test)]
mod tests {
    use daylight_meter::{Account, Bounded, GapKind, Key, Moment, PoolEntry, TimeEntry};
    use proptest::prelude::*;

    use super::*;
    use crate::auditor::batch::Batch;
    use crate::entries::EntryVerifier;

    const QUIET_EVERY: Duration = Duration::from_secs(5);

    #[derive(Clone, Debug)]
    enum Step {
        /// A second of some nodes with this registration passes; on a node something happens.
        Nodes {
            nodes: Vec<u8>,
            registration: u8,
            happens: Option<u8>,
        },
        ClockSetBack,
        Snapshot,
        Closing,
    }

    fn step() -> impl Strategy<Value = Step> {
        let nodes = (prop::collection::vec(0..4_u8, 1..4), 0..3_u8, prop::option::of(0..4_u8));
        let nodes = nodes.prop_map(|(nodes, registration, happens)| Step::Nodes {
            nodes,
            registration,
            happens,
        });
        prop_oneof![
            12 => nodes,
            1 => Just(Step::ClockSetBack),
            1 => Just(Step::Snapshot),
            2 => Just(Step::Closing),
        ]
    }

    /// The entries of steps, by step.
    fn entries(steps: &[Step]) -> Vec<(Step, Vec<Entry>)> {
        let mut now = [1_700_000_000_000; 4];
        let entries = |step: &Step| match step {
            Step::Nodes { nodes, registration, happens } => {
                let node = |node: &u8| {
                    let from = Timestamp(now[usize::from(*node)]);
                    now[usize::from(*node)] += 1000;
                    let usage = Use::Lease(Account {
                        class: None,
                        registration: Some(format!("a/{registration}").into()),
                        namespace: "a".into(),
                    });
                    let key = Key { pool: None, usage };
                    let gap = daylight_meter::Gap {
                        kind: GapKind::Late,
                        device: None,
                        between: Moment::exactly(from),
                        millijoules: 0,
                    };
                    Entry::Node(Box::new(NodeEntry {
                        node: format!("n{node}").into(),
                        from,
                        until: from.plus_millis(1000),
                        time: vec![TimeEntry { key, ms: Bounded::exactly(1000) }],
                        pools: vec![PoolEntry { capacity_ms: 1000, ..PoolEntry::default() }],
                        gaps: happens
                            .iter()
                            .filter(|at| *at == node)
                            .map(|_| gap.clone())
                            .collect(),
                        ..NodeEntry::default()
                    }))
                };
                nodes.iter().map(node).collect()
            }
            Step::ClockSetBack => {
                now = now.map(|at| at - 3000);
                vec![Entry::Clock { at: Timestamp(now[0]), back_ms: 3000 }]
            }
            Step::Snapshot => vec![Entry::SnapshotBegin, Entry::SnapshotEnd],
            Step::Closing => Vec::new(),
        };
        let pairs: Vec<_> = steps.iter().map(entries).collect();
        steps.iter().cloned().zip(pairs).collect()
    }

    /// Writes the entries, and begins again from the state after each step whose number is among these.
    fn written(steps: &[(Step, Vec<Entry>)], restarts: impl Fn(usize) -> bool) -> Vec<Vec<u8>> {
        let open = |leaves: &[Vec<u8>], state: &[Vec<u8>]| {
            let pseudonyms = Pseudonyms::new(b"a secret of sixteen bytes");
            let size = leaves.len() as u64;
            EntryWriter::restore(pseudonyms, size, QUIET_EVERY, state).unwrap().0
        };
        let (mut leaves, mut state) = (Vec::new(), Vec::new());
        let mut writer = open(&leaves, &state);
        for (number, (step, entries)) in steps.iter().enumerate() {
            let mut batch = Batch::default();
            batch.add(entries.clone(), &mut writer);
            if matches!(step, Step::Closing) {
                batch.add_quiet(&mut writer);
                let closing = writer.close(Timestamp(0)).unwrap();
                batch.add(vec![Entry::Closing(closing)], &mut writer);
            }
            if batch.replaces_state {
                state.clear();
            }
            leaves.extend(batch.leaves);
            state.extend(batch.state);
            if restarts(number) {
                writer = open(&leaves, &state);
            }
        }
        let mut batch = Batch::default();
        batch.add_quiet(&mut writer);
        leaves.extend(batch.leaves);
        leaves
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_entries_do_not_depend_on_restarts_and_verify(
            steps in prop::collection::vec(step(), 1..40),
            restarts in any::<u64>(),
        ) {
            let steps = entries(&steps);
            let leaves = written(&steps, |_| false);
            let again = written(&steps, |number| restarts >> (number % 64) & 1 == 1);
            let text = |leaves: &[Vec<u8>]| -> Vec<String> {
                leaves.iter().map(|leaf| String::from_utf8_lossy(leaf).into_owned()).collect()
            };
            prop_assert_eq!(text(&leaves), text(&again));
            let mut verifier = EntryVerifier::default();
            for (index, leaf) in leaves.iter().enumerate() {
                let violations = verifier.take(index as u64, leaf);
                prop_assert!(violations.is_empty(), "{:?}", violations);
            }
        }
    }
}
