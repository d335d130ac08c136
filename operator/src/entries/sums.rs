//! Sums of all accounts over the entries from one closing to the next.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_ledger::{SumOverflow, SumTree};
use daylight_meter::{ClosingEntry, EnergyEntry, Method, OperatedEntry, TimeEntry, Use};
use serde_json::Value;

/// Amounts of an account: device-milliseconds, measured millijoules, declared millijoules,
/// pod-milliseconds.
pub(crate) type Amounts = [u64; 4];

/// The name of a use in the tree: its canonical JSON, with pseudonyms.
pub(crate) fn account_name(usage: &Value) -> Vec<u8> {
    // Strings in objects: this cannot fail.
    serde_json_canonicalizer::to_vec(usage).unwrap_or_default()
}

/// The tree of some accounts with their names. Its seed is the index of the first entry.
pub(crate) fn tree(
    first: u64,
    sums: &BTreeMap<Vec<u8>, Amounts>,
) -> Result<SumTree<4>, SumOverflow> {
    SumTree::new(first, sums.iter().map(|(name, amounts)| (&**name, *amounts)))
}

/// Returns the entry that closes the entries from `first` on.
pub(crate) fn closing(
    number: u64,
    first: u64,
    until: Timestamp,
    sums: &BTreeMap<Vec<u8>, Amounts>,
) -> Result<ClosingEntry, SumOverflow> {
    let root = tree(first, sums)?.root();
    let [device_ms, millijoules, declared_millijoules, pod_ms] = root.sums;
    Ok(ClosingEntry {
        number,
        first,
        until,
        accounts: sums.len() as u64,
        device_ms,
        millijoules,
        declared_millijoules,
        pod_ms,
        root: Name::from(root.hash.to_string()),
    })
}

/// Adds up an entry's amounts by use. Saturates: what a device can draw in a billion years fits.
pub(crate) fn add(
    sums: &mut BTreeMap<Use, Amounts>,
    time: &[TimeEntry],
    energy: &[EnergyEntry],
    operated: &[OperatedEntry],
) {
    let mut add = |usage: &Use, at: usize, amount: u64| {
        if amount > 0 {
            let sums = match sums.get_mut(usage) {
                Some(sums) => sums,
                None => sums.entry(usage.clone()).or_default(),
            };
            sums[at] = sums[at].saturating_add(amount);
        }
    };
    for time in time {
        add(&time.key.usage, 0, time.ms.value);
    }
    for energy in energy {
        let at = if energy.method == Method::Declared { 2 } else { 1 };
        add(&energy.key.usage, at, energy.mj.value);
    }
    for OperatedEntry { pool: _, account, operated } in operated {
        add(&Use::Pod(account.clone()), 3, operated.pod_ms.value);
    }
}
