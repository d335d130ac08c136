//! Histories of a small site, for tests: what the meter writes of them, and what a ledger has.

use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_meter::{
    Account, Config, Entry, Facts, Meter, Moment, ObservedDevice, ObservedLease, Reading, Requested,
};

use crate::auditor::batch::Batch;
use crate::auditor::pseudonyms::Pseudonyms;
use crate::entries::EntryWriter;

pub(crate) const MINUTE: i64 = 60_000;
const QUARTER: i64 = 15 * MINUTE;

/// Start of the histories: a full hour.
pub(crate) fn at(minute: i64) -> Timestamp {
    Timestamp(472_223 * 4 * QUARTER + minute * MINUTE)
}

/// One site with three nodes of two devices, which draw 300 W each.
pub(crate) struct History {
    pub(crate) meter: Meter,
    pub(crate) writer: EntryWriter,
    pub(crate) batch: Batch,
    /// As the meter wrote them, with the nodes' states.
    pub(crate) entries: Vec<Entry>,
    /// Class of each tenant's work.
    pub(crate) classes: [&'static str; 3],
    held: Vec<ObservedLease>,
    pods: u32,
    pub(crate) now: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Begin { node: usize, gpus: u32, tenant: usize },
    End { which: usize },
    Scrape,
}

pub(crate) fn node(number: usize) -> Name {
    format!("n{number}").into()
}

pub(crate) fn device(node: usize, number: usize) -> Name {
    format!("GPU-{node}-{number}").into()
}

pub(crate) fn registration(tenant: usize) -> Name {
    format!("t{tenant}/night").into()
}

impl History {
    pub(crate) fn new() -> Self {
        let mut meter = Meter::new(Config::default());
        let pseudonyms = Pseudonyms::new(b"secret");
        let quiet = Duration::from_mins(10);
        let (writer, _) = EntryWriter::restore(pseudonyms, 0, quiet, &[[]; 0]).unwrap();
        for number in 0..3 {
            let devices: Vec<_> = (0..2)
                .map(|one| ObservedDevice {
                    id: device(number, one),
                    model: None,
                    limit_mw: Some(700_000),
                })
                .collect();
            meter.devices(&node(number), Some(&"hall".into()), 2, &devices, at(0));
        }
        meter.advance(at(0));
        let (entries, batch) = (Vec::new(), Batch::default());
        let classes = ["pow-mining"; 3];
        Self { meter, writer, batch, entries, classes, held: Vec::new(), pods: 0, now: at(0) }
    }

    pub(crate) fn run(steps: &[(i64, Step)]) -> Self {
        let mut history = Self::new();
        history.take(Step::Scrape);
        for (ms, step) in steps {
            history.wait(*ms);
            history.take(*step);
        }
        history.settle();
        history
    }

    pub(crate) fn wait(&mut self, ms: i64) {
        self.now = Timestamp(self.now.0 + ms);
    }

    /// Ends everything a quarter of an hour later, and writes what is left.
    pub(crate) fn settle(&mut self) {
        self.wait(QUARTER);
        for lease in std::mem::take(&mut self.held) {
            self.end_lease(lease);
        }
        self.take(Step::Scrape);
        self.flush();
    }

    /// Writes what is left.
    pub(crate) fn flush(&mut self) {
        self.meter.flush();
        self.write();
        self.batch.add_quiet(&mut self.writer);
    }

    pub(crate) fn take(&mut self, step: Step) {
        let now = self.now;
        self.meter.advance(now);
        match step {
            Step::Begin { node: number, gpus, tenant } => {
                self.pods += 1;
                let lease = ObservedLease {
                    uid: format!("uid-{}", self.pods).into(),
                    pod: format!("t{tenant}/pod-{}", self.pods).into(),
                    node: node(number),
                    gpus,
                    requested: Requested { millicores: 500, memory_mib: 64, storage_mib: 1 },
                    account: Account {
                        class: Some(self.classes[tenant].into()),
                        registration: Some(registration(tenant)),
                        namespace: format!("t{tenant}").into(),
                    },
                    watts: 300 * u64::from(gpus),
                    bound: Moment::exactly(now),
                    started: None,
                    owed: true,
                };
                self.meter.lease(lease.clone(), now);
                self.held.push(lease);
            }
            Step::End { which } if !self.held.is_empty() => {
                let lease = self.held.swap_remove(which % self.held.len());
                self.end_lease(lease);
            }
            Step::End { .. } => {}
            Step::Scrape => {
                let counter = now.millis_since(at(0)) * 300 + 7;
                for number in 0..3 {
                    let readings = [0, 1].map(|one| Reading {
                        device: device(number, one),
                        counter_mj: Some(counter),
                        power_mw: Some(300_000),
                        holder: None,
                    });
                    self.meter.readings(&node(number), Moment::exactly(now), &readings);
                }
            }
        }
        self.write();
    }

    fn end_lease(&mut self, lease: ObservedLease) {
        let facts = Facts { shares_accepted: 3, hashes: 1000, seen: true, ..Facts::default() };
        self.meter.ended(lease, Moment::exactly(self.now), Some(facts), self.now);
    }

    pub(crate) fn write(&mut self) {
        let entries = self.meter.take_entries();
        self.entries.extend(entries.iter().cloned());
        self.batch.add(entries, &mut self.writer);
    }

    /// Adds an entry that is not of a node.
    pub(crate) fn add(&mut self, entry: Entry) {
        self.batch.add(vec![entry], &mut self.writer);
    }

    /// The entries of the ledger.
    pub(crate) fn ledger(&self) -> Vec<Entry> {
        self.batch.leaves.iter().map(|leaf| serde_json::from_slice(leaf).unwrap()).collect()
    }
}

pub(crate) fn pseudonym_of(registration: &Name) -> Name {
    let mut named = serde_json::json!({ "registration": **registration });
    Pseudonyms::new(b"secret").hide(&mut named);
    named["registration"].as_str().unwrap().into()
}
