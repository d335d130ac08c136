//! `cargo bench -p daylight --bench ledger`: the ledger as a whole, on a disk. It writes batches of
//! entries durably, and has tessera's POSIX storage do the same; verifies 1,000,000 entries with what
//! they state; and opens journals of 10,000 and 1,000,000 entries, each in a process of its own.
//! `ENTRIES` is 1,000,000 and `ROUNDS` is 5 unless set; of the rounds it prints the shortest and the
//! longest.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daylight::auditor::journal::{Directory, Journal};
use daylight::auditor::pseudonyms::Pseudonyms;
use daylight::entries::EntryWriter;
use daylight_base::{Name, Timestamp};
use daylight_ledger::{SigningKey, SumTree};
use daylight_meter::{
    Account, Bounded, Config, EnergyEntry, Entry, Gap, GapKind, Key, Meter, Method, Moment,
    NodeEntry, ObservedDevice, ObservedLease, PoolEntry, Requested, TimeEntry, Use,
};
use daylight_peers::Tessera;
use tokio::runtime::Runtime;

/// Variable with a journal to open, in a process that does nothing else.
const OPEN: &str = "BENCH_OPEN";

const NODES: u64 = 100;
const REGISTRATIONS: u64 = 50;
const BEGIN: Timestamp = Timestamp(1_782_907_200_000);

/// Entries in one write: 100 ms at 10,000 a second.
const BATCH: u64 = 1000;
const PERIOD: Duration = Duration::from_millis(100);
/// Writes of one round.
const BATCHES: u32 = 100;

const QUIET: Duration = Duration::from_mins(10);

fn main() {
    if let Ok(directory) = std::env::var(OPEN) {
        return open(Path::new(&directory));
    }
    // `cargo test --benches` only wants to see that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let entries = number("ENTRIES", 1_000_000);
    let rounds = number("ROUNDS", 5) as u32;
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    println!("load average {}", load.trim());

    appends(root.path(), rounds);
    sum_tree(rounds);
    let (small, large) = (root.path().join("small"), root.path().join("large"));
    write(&small, entries / 100);
    write(&large, entries);
    verify(&large, entries, rounds);
    for (directory, entries) in [(&small, entries / 100), (&large, entries)] {
        opened(directory, entries, rounds);
    }
}

fn number(variable: &str, value: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(value)
}

fn key() -> SigningKey {
    SigningKey::from_seed("example.com/ledger", [7; 32]).unwrap()
}

/// Times of the rounds, from the shortest to the longest.
fn in_order(mut times: Vec<Duration>) -> Vec<Duration> {
    times.sort_unstable();
    times
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

/// Writes batches with the journal and with tessera, in turns: one each 100 ms, and one after the other.
fn appends(root: &Path, rounds: u32) {
    let runtime = Runtime::new().unwrap();
    let tessera = runtime.block_on(Tessera::find()).unwrap();
    let private = key().to_secret_text();
    for round in 1..=rounds {
        for (name, period) in [("one each 100 ms", PERIOD), ("one after the other", Duration::ZERO)]
        {
            let directory = root.join("append");
            let (times, took) = append(&directory, period);
            let rate = f64::from(BATCHES) * BATCH as f64 / took.as_secs_f64();
            println!(
                "round {round}, {BATCHES} batches of {BATCH} entries, {name}: journal {rate:.0} entries/s, \
                 a batch is durable and signed after {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
                percentile(&times, 50),
                percentile(&times, 99),
                percentile(&times, 100),
            );
            fs::remove_dir_all(&directory).unwrap();
            let measured = tessera.rate(&directory, &private, BATCHES, BATCH as u32, period);
            println!("  tessera {}", runtime.block_on(measured).unwrap().trim());
            fs::remove_dir_all(&directory).unwrap();
        }
    }
}

/// Appends batches to a new journal. Returns how long each took, in ascending order, and all of it.
fn append(directory: &Path, period: Duration) -> (Vec<Duration>, Duration) {
    let (mut journal, _) = Journal::open(Directory::take(directory).unwrap(), key()).unwrap();
    let none: [&[u8]; 0] = [];
    let batch: Vec<Vec<u8>> = (0..BATCH)
        .map(|number| {
            format!(r#"{{"at":"{number}","padding":"{}"}}"#, "x".repeat(570)).into_bytes()
        })
        .collect();
    let began = Instant::now();
    let times = (0..BATCHES).map(|number| {
        let due = period * number;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let since = if period.is_zero() { Instant::now() } else { began + due };
        journal.append(&batch, &none, false).unwrap();
        journal.publish().unwrap();
        since.elapsed()
    });
    let times = in_order(times.collect());
    (times, began.elapsed())
}

fn sum_tree(rounds: u32) {
    let names: Vec<Vec<u8>> = (0..100_000)
        .map(|number| {
            format!(
                r#"{{"lease":{{"class":"pow-mining","namespace":"{number:032x}","registration":"{number:032x}/{number:032x}"}}}}"#
            )
            .into_bytes()
        })
        .collect();
    let build = || {
        let amounts = |number: usize| [number as u64 * 86_400_000, number as u64 * 1000, 0, 7];
        let accounts = names.iter().enumerate().map(|(number, name)| (&**name, amounts(number)));
        let began = Instant::now();
        black_box(SumTree::new(1, accounts).unwrap().root());
        began.elapsed()
    };
    let times = in_order((0..rounds).map(|_| build()).collect());
    println!(
        "sum tree of 100,000 accounts: {:.0} to {:.0} ms",
        percentile(&times, 0),
        percentile(&times, 100)
    );
}

fn account(registration: u64) -> Account {
    Account {
        class: Some("pow-mining".into()),
        registration: Some(format!("team-{registration}/registration").into()),
        namespace: format!("team-{registration}").into(),
    }
}

/// Entry of a node on which something happened in a minute: 8 devices of which one registration has 6.
fn entry(number: u64) -> Entry {
    let minute = number / NODES;
    let from = BEGIN.plus_millis(minute * 60_000);
    let key = |usage| Key { pool: Some("frankfurt".into()), usage };
    let (lease, idle) = (Use::Lease(account(number % REGISTRATIONS)), Use::Idle);
    let bounded = |value| Bounded { value, below: 17_041, above: 23_977 };
    let energy =
        |usage, value| EnergyEntry { key: key(usage), method: Method::Counter, mj: bounded(value) };
    Entry::Node(Box::new(NodeEntry {
        node: format!("gpu-node-{:05}", number % NODES).into(),
        from,
        until: from.plus_millis(60_000),
        time: vec![
            TimeEntry { key: key(lease.clone()), ms: Bounded::exactly(360_000) },
            TimeEntry { key: key(idle.clone()), ms: Bounded::exactly(120_000) },
        ],
        energy: vec![energy(lease, 162_000_000 + number), energy(idle, 8_400_000)],
        pools: vec![PoolEntry {
            pool: Some("frankfurt".into()),
            capacity_ms: 480_000,
            moved_mj: 170_400_000 + number,
            ..PoolEntry::default()
        }],
        gaps: vec![Gap {
            kind: GapKind::Unread,
            device: Some("GPU-00000000-0000-0000-0000-000000000000".into()),
            between: Moment::exactly(from),
            millijoules: 0,
        }],
        ..NodeEntry::default()
    }))
}

/// The state of a site with these nodes.
fn state() -> Vec<Vec<u8>> {
    let mut meter = Meter::new(Config::default());
    for number in 0..NODES {
        let node: Name = format!("gpu-node-{number:05}").into();
        let device = |one| ObservedDevice {
            id: format!("GPU-{number:08x}-{one}").into(),
            model: Some("H100".into()),
            limit_mw: Some(700_000),
        };
        let devices: Vec<_> = (0..8).map(device).collect();
        meter.devices(&node, Some(&"frankfurt".into()), 8, &devices, BEGIN);
        let lease = ObservedLease {
            uid: format!("uid-{number}").into(),
            pod: format!("team/{number}").into(),
            node,
            gpus: 6,
            requested: Requested::default(),
            account: account(number % REGISTRATIONS),
            watts: 450,
            bound: Moment::exactly(BEGIN),
            started: None,
            owed: true,
        };
        meter.lease(lease, BEGIN);
    }
    meter.advance(BEGIN.plus_millis(60_000));
    meter.flush();
    meter.take_entries();
    meter.snapshot().iter().map(|entry| serde_json::to_vec(entry).unwrap()).collect()
}

/// Writes a ledger with this many entries, of which each 10,000 are closed.
fn write(directory: &Path, entries: u64) {
    let (mut journal, _) = Journal::open(Directory::take(directory).unwrap(), key()).unwrap();
    let lines: [&[u8]; 0] = [];
    let pseudonyms = || Pseudonyms::new(b"a secret of sixteen bytes");
    let (mut writer, _) = EntryWriter::restore(pseudonyms(), 0, QUIET, &lines).unwrap();
    let (mut leaves, mut bytes) = (Vec::new(), 0);
    for number in 0..entries {
        if number % 10_000 == 9_999 {
            let closing = writer.close(BEGIN.plus_millis(number / NODES * 60_000)).unwrap();
            writer.compose(Entry::Closing(closing), &mut leaves);
        } else {
            writer.compose(entry(number), &mut leaves);
        }
        if leaves.len() == 10_000 || number + 1 == entries {
            bytes += leaves.iter().map(Vec::len).sum::<usize>();
            journal.append(&leaves, &lines, false).unwrap();
            leaves.clear();
        }
    }
    let state: Vec<_> = state().into_iter().chain(writer.whole_state()).collect();
    journal.append(&leaves, &state, true).unwrap();
    journal.publish().unwrap();
    let state: usize = state.iter().map(Vec::len).sum();
    println!("a journal of {entries} entries, {bytes} bytes, and a state of {state}");
}

/// Runs a program to its end. Returns its output, how long it took, and the most memory that it had.
fn run(command: &mut Command) -> (String, Duration, u64) {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        // It only grows, so the last look before the end misses little.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(kilobytes.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = began.elapsed();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    (String::from_utf8(output.stdout).unwrap(), took, most)
}

fn verify(directory: &Path, entries: u64, rounds: u32) {
    let (mut times, mut most) = (Vec::new(), 0);
    for _ in 0..rounds {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daylight"));
        command.args(["ledger", "verify", "--key", &key().verifier().to_string()]);
        let (output, took, memory) = run(command.arg(directory));
        let sums = format!("{} closings add up", entries / 10_000);
        assert!(output.contains(&sums), "{output}");
        times.push(took);
        most = most.max(memory);
    }
    let times = in_order(times);
    println!(
        "daylight ledger verify, {entries} entries: {:.2} to {:.2} s, {:.1} MB resident",
        percentile(&times, 0) / 1e3,
        percentile(&times, 100) / 1e3,
        most as f64 / 1e3
    );
}

fn opened(directory: &Path, entries: u64, rounds: u32) {
    let (mut times, mut most) = (Vec::new(), 0);
    for _ in 0..rounds {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let (output, ..) = run(command.env(OPEN, directory));
        let (micros, kilobytes) = output.trim().split_once(' ').unwrap();
        times.push(Duration::from_micros(micros.parse().unwrap()));
        most = most.max(kilobytes.parse::<u64>().unwrap());
    }
    let times = in_order(times);
    println!(
        "opening a journal of {entries} entries: {:.1} to {:.1} ms, {:.1} MB resident",
        percentile(&times, 0),
        percentile(&times, 100),
        most as f64 / 1e3
    );
}

/// Opens a journal, restores all that the auditor does, and prints the time and the memory.
fn open(directory: &Path) {
    let began = Instant::now();
    let (journal, state) = Journal::open(Directory::take(directory).unwrap(), key()).unwrap();
    let pseudonyms = Pseudonyms::new(b"a secret of sixteen bytes");
    let (writer, entries) =
        EntryWriter::restore(pseudonyms, journal.size(), QUIET, &state).unwrap();
    let meter = Meter::restore(Config::default(), entries).unwrap();
    let took = began.elapsed();
    black_box((writer, meter));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("{} {}", took.as_micros(), peak.trim().trim_end_matches(" kB"));
}
