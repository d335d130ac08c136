//! Verifies what a ledger's entries state about each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use daylight_base::{Name, Timestamp};
use daylight_meter::ClosingEntry;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::numbering::{Last, Numbering};
use super::sums::{self, Amounts};
use super::{Link, VERSION};

/// What an entry contradicts.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// It is not a JSON object as entries are.
    #[error("entry {index} cannot be read: {error}")]
    Unreadable { index: u64, error: serde_json::Error },
    /// It is of a later version of the format, which the entries before it were not.
    #[error("entry {index} has version {found} of the format; verify it with a later Daylight")]
    Version { index: u64, found: u32 },
    /// It is of an earlier version than an entry before it.
    #[error("entry {index} has version {found} of the format, after entries of version {before}")]
    EarlierVersion { index: u64, found: u32, before: u32 },
    /// It names other registrations than it has numbers for.
    #[error(
        "entry {index} has no number of registration {registration}, or one that it does not concern"
    )]
    Chain { index: u64, registration: Name },
    /// An entry of a registration is missing, or is there twice.
    #[error(
        "entry {index} is number {found} of registration {registration}, and the one before it was \
         {before}: entries were left out or repeated"
    )]
    Number { index: u64, registration: Name, found: u64, before: u64 },
    /// It names another entry as the one before.
    #[error("entry {index} of registration {registration} does not follow entry {before}")]
    Previous { index: u64, registration: Name, before: At },
    /// A node's time is in two entries.
    #[error("entry {index} has time of node {node} that an entry before it has, too")]
    Twice { index: u64, node: Name },
    /// A closing is not the next one.
    #[error(
        "the closing in entry {index} has number {found} and begins with entry {first}, instead of {expected} and {from}"
    )]
    Closing { index: u64, found: u64, first: u64, expected: u64, from: u64 },
    /// A closing has other sums than the entries before it.
    #[error(
        "the closing in entry {index} has other sums than the entries from {first} on: {what} of all \
         accounts are {sum}, not {found}"
    )]
    Sums { index: u64, first: u64, what: &'static str, sum: u64, found: u64 },
    /// A closing has the right sums of other accounts.
    #[error("the closing in entry {index} is of other accounts than the entries from {first} on")]
    Accounts { index: u64, first: u64 },
    /// The amounts of all accounts are not those of the pools' devices.
    #[error(
        "the entries from {first} to {index} do not add up: the accounts have {found} {what}, and the \
         devices {devices}"
    )]
    Open { index: u64, first: u64, what: &'static str, found: u64, devices: u64 },
    /// Amounts that no device can have.
    #[error("the amounts of the entries from {first} to {index} do not fit into 64 bits")]
    Overflow { index: u64, first: u64 },
}

/// Index of an entry, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(index) => index.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// Verifies entries in order. It keeps the last entry of each registration and node, and the amounts
/// since the last closing.
#[derive(Debug, Default)]
pub struct EntryVerifier {
    /// Version of the last entry; 0 before the first one.
    version: u32,
    /// Entries before the first one that has a version.
    foreign: u64,
    numbering: Numbering,
    /// End of each node's time, as far as it is in entries.
    booked: BTreeMap<Name, Timestamp>,
    /// Number of the last closing.
    closings: u64,
    /// Index of the first entry since then; `None` before the first entry of this version.
    first: Option<u64>,
    /// Amounts since then, by use in the form of the entries.
    open: BTreeMap<Vec<u8>, Amounts>,
    /// Device-milliseconds and measured millijoules of the pools since then.
    devices: [u64; 2],
    overflowed: bool,
    /// The last closing with the accounts of which it has the sums, unless that contradicts them.
    closed: Option<Closed>,
}

/// Closing with its accounts.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    /// Index of its entry.
    pub(crate) index: u64,
    pub(crate) closing: ClosingEntry,
    /// Amounts by the account's name in the tree.
    pub(crate) accounts: BTreeMap<Vec<u8>, Amounts>,
}

/// Entry, as far as it is verified.
#[derive(Deserialize)]
struct Leaf<'a> {
    v: u32,
    kind: &'a str,
    #[serde(default)]
    chain: Vec<Link>,
    #[serde(borrow)]
    node: Option<&'a str>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    /// Of `nodes`.
    #[serde(borrow, default)]
    stretches: Vec<Stretch<'a>>,
    #[serde(borrow, default)]
    time: Vec<Amount<'a>>,
    #[serde(borrow, default)]
    energy: Vec<Amount<'a>>,
    #[serde(borrow, default)]
    operated: Vec<Operated<'a>>,
    #[serde(default)]
    pools: Vec<Pool>,
    #[serde(default)]
    used: Vec<Registered>,
    #[serde(default)]
    closed: Vec<Ended>,
    /// Of `period`.
    registration: Option<Name>,
    /// Of `object`.
    #[serde(borrow)]
    object: Option<&'a str>,
    name: Option<Name>,
}

#[derive(Deserialize)]
struct Stretch<'a> {
    from: Timestamp,
    until: Timestamp,
    #[serde(borrow)]
    nodes: Vec<&'a str>,
}

#[derive(Deserialize)]
struct Amount<'a> {
    #[serde(borrow)]
    usage: &'a RawValue,
    #[serde(borrow)]
    method: Option<&'a str>,
    ms: Option<Amounted>,
    mj: Option<Amounted>,
}

#[derive(Deserialize)]
struct Amounted {
    #[serde(with = "daylight_meter::decimal")]
    value: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pool {
    #[serde(with = "daylight_meter::decimal")]
    capacity_ms: u64,
    #[serde(with = "daylight_meter::decimal")]
    moved_mj: u64,
}

#[derive(Deserialize)]
struct Registered {
    registration: Option<Name>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operated<'a> {
    #[serde(borrow)]
    account: &'a RawValue,
    pod_ms: Option<Amounted>,
}

#[derive(Deserialize)]
struct Ended {
    lease: Lease,
}

#[derive(Deserialize)]
struct Lease {
    account: Registered,
}

/// A use, as far as it names a registration.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum LeaseUse {
    Lease(Registered),
    Pod(Registered),
}

impl EntryVerifier {
    /// Verifies the next entry, and returns what it contradicts: the first contradiction of each kind.
    pub fn take(&mut self, index: u64, entry: &[u8]) -> Vec<Violation> {
        let leaf: Leaf<'_> = match serde_json::from_slice(entry) {
            Ok(leaf) => leaf,
            // The logs of others are verified, too, and nothing is known about their entries.
            Err(_) if self.version == 0 => {
                self.foreign += 1;
                return Vec::new();
            }
            Err(error) => return vec![Violation::Unreadable { index, error }],
        };
        let (found, before) = (leaf.v, self.version);
        if found > VERSION {
            return vec![Violation::Version { index, found }];
        }
        if found < before {
            return vec![Violation::EarlierVersion { index, found, before }];
        }
        self.version = found;
        let mut violations = Vec::new();
        if let (Some(node), Some(from), Some(until)) = (leaf.node, leaf.from, leaf.until)
            && leaf.kind == "node"
        {
            violations.extend(self.node(index, node, from, until));
        }
        for Stretch { from, until, nodes } in &leaf.stretches {
            let nodes = nodes.iter();
            let twice: Vec<_> =
                nodes.filter_map(|node| self.node(index, node, *from, *until)).collect();
            violations.extend(twice.into_iter().next());
        }
        // Its time begins again where the clock was set back to.
        if leaf.kind == "clock" {
            self.booked.clear();
        }
        // Version 1 had neither numbers nor closings.
        if found < 2 {
            return violations;
        }
        self.first.get_or_insert(index);
        violations.extend(self.chain(index, &leaf));
        if leaf.kind == "closing" {
            violations.extend(self.closing(index, entry));
        }
        if self.add(&leaf).is_none() {
            self.overflowed = true;
        }
        violations
    }

    fn node(
        &mut self,
        index: u64,
        node: &str,
        from: Timestamp,
        until: Timestamp,
    ) -> Option<Violation> {
        let name = Name::from(node);
        let booked = self.booked.insert(name.clone(), until);
        booked.filter(|booked| from < *booked).map(|_| Violation::Twice { index, node: name })
    }

    fn chain(&mut self, index: u64, leaf: &Leaf<'_>) -> Option<Violation> {
        let concerned = concerned(leaf);
        let linked: BTreeSet<&Name> = leaf.chain.iter().map(|link| &link.registration).collect();
        if let Some(registration) = concerned.iter().find(|one| !linked.contains(one)) {
            return Some(Violation::Chain { index, registration: registration.clone() });
        }
        if let Some(registration) = linked.iter().find(|one| !concerned.contains(**one)) {
            return Some(Violation::Chain { index, registration: (*registration).clone() });
        }
        let mut violation = None;
        for Link { registration, number, previous } in &leaf.chain {
            let expected = self.numbering.next(registration);
            let (registration, number) = (registration.clone(), *number);
            self.numbering.take(&registration, Last { number, index });
            if number != expected.number {
                let before = expected.number - 1;
                violation.get_or_insert(Violation::Number {
                    index,
                    registration,
                    found: number,
                    before,
                });
            } else if *previous != expected.previous {
                let before = At(expected.previous);
                violation.get_or_insert(Violation::Previous { index, registration, before });
            }
        }
        violation
    }

    /// Adds the amounts of an entry; `None` if they do not fit.
    fn add(&mut self, leaf: &Leaf<'_>) -> Option<()> {
        for (at, amount) in { leaf.time.iter().map(|time| (0, time)) }
            .chain(leaf.energy.iter().map(|energy| (energy_at(energy), energy)))
        {
            let value = amount.ms.as_ref().or(amount.mj.as_ref()).map_or(0, |one| one.value);
            if value == 0 {
                continue;
            }
            // The entry is canonical, and so is this part of it.
            self.add_to(amount.usage.get().as_bytes(), at, value)?;
        }
        for Operated { account, pod_ms } in &leaf.operated {
            if let Some(Amounted { value: value @ 1.. }) = pod_ms {
                let name = format!("{{\"pod\":{}}}", account.get());
                self.add_to(name.as_bytes(), 3, *value)?;
            }
        }
        for Pool { capacity_ms, moved_mj } in &leaf.pools {
            self.devices[0] = self.devices[0].checked_add(*capacity_ms)?;
            self.devices[1] = self.devices[1].checked_add(*moved_mj)?;
        }
        Some(())
    }

    fn add_to(&mut self, name: &[u8], at: usize, value: u64) -> Option<()> {
        let sums = match self.open.get_mut(name) {
            Some(sums) => sums,
            None => self.open.entry(name.to_vec()).or_default(),
        };
        sums[at] = sums[at].checked_add(value)?;
        Some(())
    }

    fn closing(&mut self, index: u64, entry: &[u8]) -> Option<Violation> {
        let closing: ClosingEntry = match serde_json::from_slice(entry) {
            Ok(closing) => closing,
            Err(error) => return Some(Violation::Unreadable { index, error }),
        };
        let open = std::mem::take(&mut self.open);
        let [device_ms, moved_mj] = std::mem::take(&mut self.devices);
        let from = self.first.replace(index).unwrap_or_default();
        let expected = self.closings + 1;
        self.closings = closing.number;
        let ClosingEntry { number: found, first, .. } = closing;
        if (found, first) != (expected, from) {
            return Some(Violation::Closing { index, found, first, expected, from });
        }
        let computed = sums::closing(found, first, closing.until, &open);
        let (Ok(computed), false) = (computed, std::mem::take(&mut self.overflowed)) else {
            return Some(Violation::Overflow { index, first });
        };
        let sums = [
            ("device-milliseconds", closing.device_ms, computed.device_ms, Some(device_ms)),
            ("millijoules", closing.millijoules, computed.millijoules, Some(moved_mj)),
            (
                "declared millijoules",
                closing.declared_millijoules,
                computed.declared_millijoules,
                None,
            ),
            ("pod-milliseconds", closing.pod_ms, computed.pod_ms, None),
        ];
        for (what, found, sum, devices) in sums {
            if found != sum {
                return Some(Violation::Sums { index, first, what, sum, found });
            }
            if let Some(devices) = devices.filter(|devices| *devices != sum) {
                return Some(Violation::Open { index, first, what, found, devices });
            }
        }
        if closing != computed {
            return Some(Violation::Accounts { index, first });
        }
        self.closed = Some(Closed { index, closing, accounts: open });
        None
    }

    /// Takes the last closing, unless an entry contradicted it.
    pub(crate) fn take_closed(&mut self) -> Option<Closed> {
        self.closed.take()
    }

    /// Number of entries that are not those of Daylight, before the first one that is.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Number of closings.
    pub fn closings(&self) -> u64 {
        self.closings
    }

    /// Number of registrations that have entries with numbers.
    pub fn registrations(&self) -> usize {
        self.numbering.iter().count()
    }
}

fn energy_at(energy: &Amount<'_>) -> usize {
    if energy.method == Some("declared") { 2 } else { 1 }
}

/// The registrations that an entry concerns.
fn concerned(leaf: &Leaf<'_>) -> BTreeSet<Name> {
    let of_use = |amount: &Amount<'_>| match serde_json::from_str(amount.usage.get()).ok()? {
        LeaseUse::Lease(account) | LeaseUse::Pod(account) => account.registration,
    };
    match leaf.kind {
        "node" | "nodes" => {
            let amounts = leaf.time.iter().chain(&leaf.energy).filter_map(of_use);
            let used = leaf.used.iter().filter_map(|used| used.registration.clone());
            let closed = leaf.closed.iter();
            let closed = closed.filter_map(|closed| closed.lease.account.registration.clone());
            let operated = leaf.operated.iter();
            let registered = |one: &Operated<'_>| {
                serde_json::from_str::<Registered>(one.account.get()).ok()?.registration
            };
            let operated = operated.filter_map(registered);
            amounts.chain(used).chain(closed).chain(operated).collect()
        }
        "period" => leaf.registration.iter().cloned().collect(),
        "object" if leaf.object == Some("Registration") => leaf.name.iter().cloned().collect(),
        _ => BTreeSet::new(),
    }
}
