//! Batches of what is written to the journal together: entries, which are published, and lines of
//! state, from which the auditor itself continues.
//!
//! A line of state is an entry of the meter as it is, or one of the [`EntryWriter`]'s. An entry of the
//! journal is what the writer composes of the meter's without the node's state; a snapshot is state
//! alone.

use daylight_base::Name;
use daylight_meter::Entry;

use crate::entries::EntryWriter;

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
    pub fn add(&mut self, entries: Vec<Entry>, writer: &mut EntryWriter) {
        // Its first lines of all go before the entries, which count only after them.
        self.state.extend(writer.take_changes());
        let mut is_snapshot = false;
        for mut entry in entries {
            self.count += 1;
            match &entry {
                // The time that follows may be before theirs.
                Entry::Clock { .. } => self.add_quiet(writer),
                Entry::Node(node) if writer.is_due_before(node) => self.add_quiet(writer),
                Entry::SnapshotBegin => {
                    self.add_quiet(writer);
                    self.state.clear();
                    (self.replaces_state, is_snapshot) = (true, true);
                }
                _ => {}
            }
            self.state.push(json(&entry));
            match &mut entry {
                _ if is_snapshot => {
                    if matches!(entry, Entry::SnapshotEnd) {
                        self.state.extend(writer.whole_state());
                        is_snapshot = false;
                    }
                }
                Entry::Node(node) => {
                    self.closed.extend(node.closed.iter().map(|closed| closed.lease.uid.clone()));
                    node.state = None;
                    writer.compose_node(std::mem::take(&mut **node), &mut self.leaves);
                }
                // The leases in the ledger have it.
                Entry::Operating { .. } => {}
                _ => writer.compose(entry, &mut self.leaves),
            }
        }
        writer.compose_due(&mut self.leaves);
        self.state.extend(writer.take_changes());
        debug_assert!(!is_snapshot, "a_snapshot_is_complete");
    }

    /// Adds the entries of quiet nodes, which wait otherwise.
    pub fn add_quiet(&mut self, writer: &mut EntryWriter) {
        writer.compose_quiet(&mut self.leaves);
        self.state.extend(writer.take_changes());
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
        self.count == 0 && self.leaves.is_empty() && self.state.is_empty()
    }
}

/// Entries consist of strings, whole numbers, lists and maps: this cannot fail.
fn json(entry: &Entry) -> Vec<u8> {
    serde_json::to_vec(entry).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::collections::BTreeMap;

    use daylight_base::Timestamp;
    use daylight_meter::{
        Account, Books, Bounded, Config, DeviceEntry, Key, Meter, Moment, NodeEntry,
        ObservedDevice, ObservedLease, PoolEntry, Requested, TimeEntry, Use,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::auditor::journal::MAX_ENTRY;
    use crate::auditor::pseudonyms::Pseudonyms;

    fn pseudonyms() -> Pseudonyms {
        Pseudonyms::new(b"a secret of sixteen bytes")
    }

    /// Adds entries, and returns what the leaves say, each of which fits.
    fn leaves(entries: Vec<Entry>) -> Vec<Entry> {
        let mut batch = Batch::default();
        let state: [&[u8]; 0] = [];
        let (mut writer, _) =
            EntryWriter::restore(pseudonyms(), 0, Duration::ZERO, &state).unwrap();
        batch.add(entries, &mut writer);
        batch.add_quiet(&mut writer);
        for leaf in &batch.leaves {
            assert!(leaf.len() <= MAX_ENTRY, "{}", leaf.len());
        }
        batch.leaves.iter().map(|leaf| serde_json::from_slice(leaf).unwrap()).collect()
    }

    /// The totals of leaves, as an auditor of the journal adds them up, without what the state alone has.
    fn totals(entries: Vec<Entry>) -> Books {
        let books = Meter::restore(Config::default(), entries).unwrap().written().clone();
        Books { operating: BTreeMap::new(), written_until: Timestamp::default(), ..books }
    }

    /// Entries with pseudonyms in place of names, as they are before they are divided.
    fn hidden(entries: &[Entry]) -> Vec<Entry> {
        let mut pseudonyms = pseudonyms();
        let hide = |entry: &Entry| {
            let mut value = serde_json::to_value(entry).unwrap();
            pseudonyms.hide(&mut value);
            serde_json::from_value(value).unwrap()
        };
        entries.iter().map(hide).collect()
    }

    /// Pods of as many accounts, each of which has one GPU of the same node for a moment.
    fn entries_of(accounts: u32) -> Vec<Entry> {
        let mut meter = Meter::new(Config::default());
        let at = |ms: i64| Timestamp(1_700_000_000_000 + ms);
        let node: Name = "n".into();
        let device = |number: u32| ObservedDevice {
            id: format!("GPU-{number}").into(),
            model: None,
            limit_mw: None,
        };
        let devices: Vec<_> = (0..8).map(device).collect();
        meter.devices(&node, Some(&"hall".into()), 8, &devices, at(0));
        for number in 0..accounts {
            let bound = at(1000 * i64::from(number));
            let lease = ObservedLease {
                uid: format!("uid-{number}").into(),
                pod: format!("team/pod-{number}").into(),
                node: node.clone(),
                gpus: 1,
                requested: Requested::default(),
                account: Account {
                    class: Some(format!("{number:a>63}").into()),
                    registration: Some(format!("team/{number:b>63}").into()),
                    namespace: format!("{number:c>63}").into(),
                },
                watts: 300,
                bound: Moment::exactly(bound),
                started: None,
                owed: true,
            };
            meter.lease(lease.clone(), bound);
            meter.ended(lease, Moment::exactly(bound.plus_millis(900)), None, bound);
        }
        meter.advance(at(1000 * i64::from(accounts)));
        meter.flush();
        meter.take_entries()
    }

    #[test]
    fn an_entry_of_many_accounts_is_divided_and_adds_up() {
        let entries = entries_of(400);
        let whole = totals(hidden(&entries));
        assert_eq!((whole.time.len(), whole.operated.len()), (401, 400));
        let leaves = leaves(entries.clone());
        let of_nodes = entries.iter().filter(|entry| matches!(entry, Entry::Node(_)));
        assert!(leaves.len() > of_nodes.count());
        assert_eq!(totals(leaves), whole);
    }

    #[test]
    fn what_is_indivisible_and_too_long_is_omitted_by_name() {
        let device = |model: usize| DeviceEntry {
            device: ObservedDevice {
                id: "GPU-1".into(),
                model: Some("m".repeat(model).into()),
                limit_mw: None,
            },
            at: Timestamp(0),
            joined: true,
        };
        let devices = vec![device(1), device(MAX_ENTRY), device(2)];
        let entry = NodeEntry { node: "n".into(), devices, ..NodeEntry::default() };
        let leaves = leaves(vec![Entry::Node(Box::new(entry))]);
        let omitted: Vec<_> = leaves
            .iter()
            .filter_map(|leaf| match leaf {
                Entry::Omitted { of, bytes, digest } => Some((&**of, *bytes, digest.len())),
                _ => None,
            })
            .collect();
        let [("node", bytes, 71)] = omitted[..] else { panic!("{omitted:?}") };
        assert!(bytes > MAX_ENTRY as u64);
        assert_eq!(leaves.len(), 3, "the other devices are on record");
    }

    /// Entry of a minute of a node with as many pods as Kubernetes puts on one, none of which has a GPU.
    fn minute_without_gpus(accounts: u64) -> Vec<Entry> {
        let mut meter = Meter::new(Config::default());
        let at = |ms: u64| Timestamp(1_700_000_000_000).plus_millis(ms);
        for number in 0..110 {
            let account = number % accounts;
            let lease = ObservedLease {
                uid: format!("5f0c4e1a-7b1d-4c55-9d39-{number:012}").into(),
                pod: format!("team/validator-{number}").into(),
                node: "n".into(),
                gpus: 0,
                requested: Requested { millicores: 1500, memory_mib: 2048, storage_mib: 10_240 },
                account: Account {
                    class: Some("pos-validator".into()),
                    registration: Some(format!("team-{account}/validators-2026").into()),
                    namespace: format!("team-{account}").into(),
                },
                watts: 40,
                bound: Moment::exactly(at(0)),
                started: None,
                owed: false,
            };
            meter.lease(lease, at(0));
        }
        meter.advance(at(1));
        meter.take_entries();
        meter.advance(at(60_001));
        meter.take_entries()
    }

    #[test]
    fn a_node_full_of_pods_without_gpus_needs_few_leaves() {
        for (accounts, most) in [(1, 1), (110, 3)] {
            let entries = minute_without_gpus(accounts);
            let state = serde_json::to_vec(&entries[0]).unwrap().len();
            let leaves = leaves(entries.clone());
            let bytes = leaves.iter().map(|leaf| serde_json::to_vec(leaf).unwrap().len());
            let bytes: usize = bytes.sum();
            println!("{accounts} accounts: {bytes} bytes in leaves, {state} with the state");
            assert!(leaves.len() <= most, "{}", leaves.len());
            assert_eq!(totals(leaves), totals(hidden(&entries)));
        }
    }

    fn time_entry() -> impl Strategy<Value = TimeEntry> {
        (0..5_usize, "[a-z]{1,63}", "[a-z]{1,63}", any::<u32>()).prop_map(
            |(pool, class, namespace, ms)| TimeEntry {
                key: Key {
                    pool: Some(format!("pool-{pool}").into()),
                    usage: Use::Lease(Account {
                        class: Some(class.into()),
                        registration: None,
                        namespace: namespace.into(),
                    }),
                },
                ms: Bounded { value: ms.into(), below: 1, above: 2 },
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn random_books_fit_into_leaves_and_add_up(
            time in prop::collection::vec(time_entry(), 0..900),
            pools in 0..300_u64,
            gaps in 0..3_usize,
        ) {
            let pools = (0..pools).map(|number| PoolEntry {
                pool: Some(format!("{number:x>63}").into()),
                capacity_ms: number,
                ..PoolEntry::default()
            });
            let gap = daylight_meter::Gap {
                kind: daylight_meter::GapKind::Late,
                device: None,
                between: Moment::exactly(Timestamp(0)),
                millijoules: 1,
            };
            let entry = NodeEntry {
                node: "n".into(),
                time,
                pools: pools.collect(),
                gaps: vec![gap; gaps],
                ..NodeEntry::default()
            };
            let entries = vec![Entry::Node(Box::new(entry))];
            let whole = totals(hidden(&entries));
            let leaves = leaves(entries);
            let found = leaves.iter().map(|leaf| match leaf {
                Entry::Node(node) => node.gaps.len(),
                _ => 0,
            });
            prop_assert_eq!(found.sum::<usize>(), gaps);
            prop_assert_eq!(totals(leaves), whole);
        }
    }
}
