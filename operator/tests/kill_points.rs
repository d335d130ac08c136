//! Kills the auditor at every durable write, and checks that it loses no lease on record, counts none
//! twice, and closes its books.
//!
//! A site of two nodes runs through the same day again and again. Each time the disk fails at another
//! write, of which it completes nothing, a half, or all without reporting it. A new auditor opens the
//! disk, receives the state that the API server has, and continues.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use daylight::auditor::batch::Batch;
use daylight::auditor::journal::{Disk, Journal};
use daylight::auditor::pseudonyms::Pseudonyms;
use daylight::entries::{EntryVerifier, EntryWriter};
use daylight_base::{Name, Timestamp};
use daylight_ledger::{Checkpoint, LogVerifier, Note, SigningKey};
use daylight_meter::{
    Account, Config, Entry, Facts, Meter, Moment, ObservedDevice, ObservedLease, Reading, Requested,
};
use rustc_hash::FxHashSet;

fn key() -> SigningKey {
    SigningKey::from_seed("example.com/ledger", [7; 32]).unwrap()
}

/// A disk that fails at a chosen write.
#[derive(Clone, Debug, Default)]
struct Mortal {
    files: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    writes: Rc<Cell<usize>>,
    dies_at: Rc<Cell<Option<usize>>>,
    /// The completed part of the last write, in quarters.
    quarters: Rc<Cell<usize>>,
}

impl Mortal {
    /// Returns how many bytes of a write are completed, and whether it is the last.
    fn write(&self, bytes: usize) -> io::Result<(usize, bool)> {
        let dead = || io::Error::from(io::ErrorKind::BrokenPipe);
        let write = self.writes.get() + 1;
        match self.dies_at.get() {
            Some(last) if write > last => Err(dead()),
            Some(last) if write == last => {
                self.writes.set(write);
                Ok((bytes * self.quarters.get() / 4, true))
            }
            _ => {
                self.writes.set(write);
                Ok((bytes, false))
            }
        }
    }
}

fn result(dies: bool) -> io::Result<()> {
    if dies { Err(io::Error::from(io::ErrorKind::BrokenPipe)) } else { Ok(()) }
}

impl Disk for Mortal {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.borrow().get(path).cloned())
    }

    fn extend(&mut self, path: &str, keep: u64, bytes: &[u8]) -> io::Result<()> {
        let (done, dies) = self.write(bytes.len())?;
        let mut files = self.files.borrow_mut();
        let file = files.entry(path.to_owned()).or_default();
        file.truncate(usize::try_from(keep).unwrap());
        file.extend_from_slice(&bytes[..done]);
        result(dies)
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let (done, dies) = self.write(bytes.len())?;
        // A file is renamed into place whole or not at all.
        if done == bytes.len() {
            self.files.borrow_mut().insert(path.to_owned(), bytes.to_vec());
        }
        result(dies)
    }

    fn sync(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let (_, dies) = self.write(0)?;
        self.files.borrow_mut().remove(path);
        result(dies)
    }
}

/// The work that every pod reports.
const WORK: Facts = Facts { shares_accepted: 1, shares_rejected: 0, hashes: 1_000, seen: true };

/// A pod as the API server has it.
struct Pod {
    uid: Name,
    node: u32,
    bound: i64,
    ended: Option<i64>,
    /// Its finalizer is gone, and with it the pod.
    released: bool,
}

const BEGIN: i64 = 1_750_000_000_000;
const NODES: u32 = 2;
const DEVICES: u32 = 2;
const SECONDS: i64 = 80;
const QUIET_EVERY: Duration = Duration::from_secs(10);

/// The seconds at which a pod of each slot is bound: each runs for 17 seconds.
fn is_bound_at(second: i64, slot: i64) -> bool {
    (second + slot * 7) % 29 == 0
}

struct Site {
    pods: Vec<Pod>,
    meter: Meter,
    journal: Journal<Mortal>,
    disk: Mortal,
    writer: EntryWriter,
    unwritten: Batch,
    closed: FxHashSet<Name>,
    deaths: usize,
    entries: usize,
}

fn node(number: u32) -> Name {
    format!("n{number}").into()
}

fn at(second: i64) -> Timestamp {
    Timestamp(BEGIN + second * 1000)
}

fn config() -> Config {
    Config { refresh_ms: 1000, book_every_ms: 5000, ..Config::default() }
}

impl Site {
    fn open(disk: &Mortal) -> (Journal<Mortal>, EntryWriter, Meter) {
        let (journal, state) = Journal::open(disk.clone(), key()).unwrap();
        let pseudonyms = Pseudonyms::new(b"key");
        let (writer, entries) =
            EntryWriter::restore(pseudonyms, journal.size(), QUIET_EVERY, &state).unwrap();
        let meter = Meter::restore(config(), entries).unwrap();
        (journal, writer, meter)
    }

    fn new(dies_at: usize, quarters: usize) -> Self {
        let disk = Mortal::default();
        disk.dies_at.set(Some(dies_at));
        disk.quarters.set(quarters);
        let (journal, writer, meter) = Self::open(&disk);
        Self {
            pods: Vec::new(),
            meter,
            journal,
            disk,
            writer,
            unwritten: Batch::default(),
            closed: FxHashSet::default(),
            deaths: 0,
            entries: 0,
        }
    }

    fn seen(pod: &Pod) -> ObservedLease {
        ObservedLease {
            uid: pod.uid.clone(),
            pod: format!("team-a/{}", pod.uid).into(),
            node: node(pod.node),
            gpus: 1,
            requested: Requested::default(),
            account: Account {
                class: Some("pow-mining".into()),
                registration: Some("team-a/reg".into()),
                namespace: "team-a".into(),
            },
            watts: 300,
            bound: Moment::exactly(at(pod.bound)),
            started: None,
            owed: true,
        }
    }

    /// Sends the whole state to the meter, as after a list.
    fn send_all(&mut self, now: i64) {
        for number in 0..NODES {
            let name = node(number);
            let devices: Vec<ObservedDevice> = (0..DEVICES)
                .map(|one| ObservedDevice {
                    id: format!("GPU-{number}-{one}").into(),
                    model: None,
                    limit_mw: Some(700_000),
                })
                .collect();
            self.meter.devices(&name, Some(&"hall".into()), DEVICES, &devices, at(now));
        }
        let present = self.pods.iter().filter(|pod| !pod.released).map(|pod| pod.uid.clone());
        let present: FxHashSet<Name> = present.collect();
        for place in 0..self.pods.len() {
            self.send(place, now);
        }
        self.meter.vanished(&present, at(now));
    }

    fn send(&mut self, place: usize, now: i64) {
        let pod = &self.pods[place];
        if pod.released {
            return;
        }
        let seen = Self::seen(pod);
        match pod.ended {
            Some(ended) => self.meter.ended(seen, Moment::exactly(at(ended)), Some(WORK), at(now)),
            None => self.meter.lease(seen, at(now)),
        }
    }

    /// Runs one second of the site.
    fn second(&mut self, now: i64) {
        for slot in 0..i64::from(NODES * DEVICES) {
            if is_bound_at(now, slot) {
                self.pods.push(Pod {
                    uid: format!("pod-{now}-{slot}").into(),
                    node: slot as u32 % NODES,
                    bound: now,
                    ended: None,
                    released: false,
                });
                self.send(self.pods.len() - 1, now);
            }
        }
        for place in 0..self.pods.len() {
            if self.pods[place].ended.is_none() && self.pods[place].bound + 17 == now {
                self.pods[place].ended = Some(now);
                self.send(place, now);
            }
        }
        for number in 0..NODES {
            let readings: Vec<Reading> = (0..DEVICES)
                .map(|one| Reading {
                    device: format!("GPU-{number}-{one}").into(),
                    counter_mj: Some(now as u64 * 250_000 + u64::from(one)),
                    power_mw: None,
                    holder: None,
                })
                .collect();
            self.meter.readings(&node(number), Moment::exactly(at(now)), &readings);
        }
        self.meter.advance(at(now - 2));
        let entries =
            if now % 60 == 59 { self.meter.snapshot() } else { self.meter.take_entries() };
        self.unwritten.add(entries, &mut self.writer);
        if now % 20 == 19 {
            self.unwritten.add_quiet(&mut self.writer);
            let closing = self.writer.close(self.meter.booked_until()).unwrap();
            self.unwritten.add(vec![Entry::Closing(closing)], &mut self.writer);
        }
        self.write(now);
        for pod in &mut self.pods {
            pod.released |= pod.ended.is_some() && self.closed.contains(&pod.uid);
        }
    }

    fn write(&mut self, now: i64) {
        if self.unwritten.is_empty() {
            return;
        }
        let Batch { leaves, state, replaces_state, .. } = &self.unwritten;
        if self.journal.append(leaves, state, *replaces_state).is_ok() {
            self.entries += leaves.len();
            self.closed.extend(std::mem::take(&mut self.unwritten).closed);
            if self.journal.publish().is_ok() {
                return;
            }
        }
        self.die(now);
    }

    /// Ends the process, and starts a new one on the same disk.
    fn die(&mut self, now: i64) {
        self.deaths += 1;
        self.disk.dies_at.set(None);
        let (journal, writer, meter) = Self::open(&self.disk);
        self.journal = journal;
        self.writer = writer;
        self.closed = meter.closed().cloned().collect();
        self.meter = meter;
        self.unwritten = Batch::default();
        self.send_all(now);
    }

    /// All entries of the journal, from the first.
    fn all(&self) -> Vec<Vec<u8>> {
        let (mut journal, _) = Journal::open(self.disk.clone(), key()).unwrap();
        journal.publish().unwrap();
        let note = Note::parse(&journal.checkpoint().unwrap().note).unwrap();
        let checkpoint = Checkpoint::parse(note.text()).unwrap();
        let files = |path: &str| self.disk.read(path);
        let mut entries = Vec::new();
        let read = |_: u64, entry: &[u8]| entries.push(entry.to_vec());
        let disagreements = LogVerifier::new(&checkpoint).verify(&files, read).unwrap();
        assert!(disagreements.is_empty(), "{disagreements:?}");
        entries
    }
}

/// Runs through the day, and returns the site at its end.
fn live(dies_at: usize, quarters: usize) -> Site {
    let mut site = Site::new(dies_at, quarters);
    site.send_all(0);
    for now in 1..SECONDS {
        site.second(now);
    }
    site.meter.advance(at(SECONDS));
    site.meter.flush();
    site.unwritten.add(site.meter.take_entries(), &mut site.writer);
    site.write(SECONDS);
    site
}

fn check(site: &Site, point: &str) {
    site.meter.check().unwrap();
    let mut verifier = EntryVerifier::default();
    let entries = site.all();
    for (index, entry) in (0..).zip(&entries) {
        let violations = verifier.take(index, entry);
        assert!(violations.is_empty(), "{point}: {violations:?}");
    }
    // The process may have been killed before it wrote one of four.
    assert_eq!(verifier.registrations(), 1, "{point}");
    assert!(verifier.closings() >= 3, "{point}");
    let mut closed: BTreeMap<Name, u32> = BTreeMap::new();
    for entry in &entries {
        if let Entry::Node(entry) = serde_json::from_slice(entry).unwrap() {
            for one in &entry.closed {
                *closed.entry(one.lease.uid.clone()).or_default() += 1;
            }
        }
    }
    let ended: BTreeSet<&Name> =
        site.pods.iter().filter(|pod| pod.ended.is_some()).map(|pod| &pod.uid).collect();
    for uid in &ended {
        assert_eq!(closed.get(*uid), Some(&1), "{point}: {uid}");
    }
    assert_eq!(closed.len(), ended.len(), "{point}");
    let released = site.pods.iter().filter(|pod| pod.released);
    for pod in released {
        assert!(closed.contains_key(&pod.uid), "{point}: {} was released unrecorded", pod.uid);
    }
    // The work that each reported counts once, too.
    let hashes: u64 = site.meter.books().work.values().map(|work| work.hashes).sum();
    assert_eq!(hashes, WORK.hashes * ended.len() as u64, "{point}");
    // The books on the disk are those of the process.
    let (_, _, restored) = Site::open(&site.disk);
    assert_eq!(restored.books(), site.meter.books(), "{point}");
}

#[test]
fn killed_at_any_durable_write_nothing_is_lost_or_counted_twice() {
    let whole = live(usize::MAX, 4);
    assert_eq!(whole.deaths, 0);
    check(&whole, "never killed");
    let writes = whole.disk.writes.get();
    let mut points = 0;
    for dies_at in 1..=writes {
        // Two of three in turns: a batch makes five writes, so each of them fails in each way.
        for turn in 0..2 {
            let quarters = [0, 2, 4][(dies_at + turn) % 3];
            let site = live(dies_at, quarters);
            let point = format!("killed at write {dies_at}, {quarters}/4 of it done");
            assert_eq!(site.deaths, 1, "{point}");
            check(&site, &point);
            points += 1;
        }
    }
    println!("{points} kill points over {writes} writes and {} entries", whole.entries);
    assert!(points >= 200, "{points} kill points are too few");
}
