//! Duration of one round of a large site: 10,000 nodes with 8 devices each are read, and a minute
//! of all of them is booked and turned into entries.
//!
//! Every node has three leases, of 4, 2 and 1 GPUs, under 50 registrations in 5 pools, and one free
//! device. The exporters' answers are made outside the measurement.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use daylight_base::{Name, Timestamp};
use daylight_meter::{
    Account, Config, Entry, Meter, Moment, NodeEntry, NodesEntry, ObservedDevice, ObservedLease,
    Reading, Requested,
};

const NODES: u64 = 10_000;
const DEVICES: u64 = 8;
const POOLS: u64 = 5;
const REGISTRATIONS: u64 = 50;
const MINUTE: u64 = 60_000;
const WATTS: u64 = 450;
const BEGIN: Timestamp = Timestamp(1_782_907_200_000);

/// Site with the next answers of its exporters.
struct Site {
    meter: Meter,
    nodes: Vec<Name>,
    readings: Vec<Vec<Reading>>,
    minute: u64,
    /// Entries of the last round.
    entries: Vec<Entry>,
}

fn device(node: u64, number: u64) -> Name {
    format!("GPU-{node:08x}-{number}").into()
}

fn lease(node: &Name, number: u64, gpus: u32, at: Timestamp) -> ObservedLease {
    let registration = number % REGISTRATIONS;
    let namespace = format!("team-{registration}");
    ObservedLease {
        uid: format!("uid-{node}-{gpus}").into(),
        pod: format!("{namespace}/{node}-{gpus}").into(),
        node: node.clone(),
        gpus,
        requested: Requested::default(),
        account: Account {
            class: Some("pow-mining".into()),
            registration: Some(format!("{namespace}/registration").into()),
            namespace: namespace.into(),
        },
        watts: WATTS,
        bound: Moment::exactly(at),
        started: None,
        owed: true,
    }
}

impl Site {
    fn new() -> Self {
        let mut meter = Meter::new(Config::default());
        let mut nodes = Vec::new();
        let mut readings = Vec::new();
        for number in 0..NODES {
            let node: Name = format!("node-{number:05}").into();
            let pool: Name = format!("pool-{}", number % POOLS).into();
            let devices: Vec<ObservedDevice> = (0..DEVICES)
                .map(|one| ObservedDevice {
                    id: device(number, one),
                    model: Some("H100".into()),
                    limit_mw: Some(700_000),
                })
                .collect();
            meter.devices(&node, Some(&pool), DEVICES as u32, &devices, BEGIN);
            for gpus in [4, 2, 1] {
                meter.lease(lease(&node, number + u64::from(gpus), gpus, BEGIN), BEGIN);
            }
            let of_node = (0..DEVICES).map(|one| Reading {
                device: device(number, one),
                counter_mj: Some(1_000_000 * (one + 1)),
                ..Reading::default()
            });
            readings.push(of_node.collect());
            nodes.push(node);
        }
        let mut site = Self { meter, nodes, readings, minute: 0, entries: Vec::new() };
        for _ in 0..2 {
            site.round();
        }
        site
    }

    /// Lets a minute pass and returns the time that the meter needs for it.
    fn round(&mut self) -> Duration {
        for reading in self.readings.iter_mut().flatten() {
            let counter = reading.counter_mj.get_or_insert_default();
            *counter += WATTS * MINUTE;
        }
        self.minute += 1;
        let now = BEGIN.plus_millis(self.minute * MINUTE);
        let began = Instant::now();
        for (node, readings) in self.nodes.iter().zip(&self.readings) {
            self.meter.readings(node, Moment::exactly(now), readings);
        }
        self.meter.advance(now);
        let entries = self.meter.take_entries();
        let took = began.elapsed();
        // In the first round, registrations begin to operate.
        let nodes = entries.iter().filter(|entry| matches!(entry, Entry::Node(_)));
        assert_eq!(nodes.count() as u64, NODES);
        self.entries = black_box(entries);
        took
    }

    /// Mean length of an entry in JSON, with the node's state and without.
    fn bytes(&self) -> [u64; 2] {
        let mut sums = [0; 2];
        for entry in &self.entries {
            let Entry::Node(node) = entry else { continue };
            let bare = Entry::Node(Box::new(NodeEntry { state: None, ..(**node).clone() }));
            for (sum, entry) in sums.iter_mut().zip([entry, &bare]) {
                *sum += serde_json::to_vec(entry).map_or(0, |bytes| bytes.len() as u64);
            }
        }
        sums.map(|sum| sum / NODES)
    }

    /// Length of the entry that some nodes share in the log, in JSON.
    fn shared_bytes(&self, nodes: usize) -> usize {
        let bare = self.entries.iter().filter_map(|entry| match entry {
            Entry::Node(node) => Some(NodeEntry { state: None, ..(**node).clone() }),
            _ => None,
        });
        let shared = Entry::Nodes(Box::new(NodesEntry::of(&bare.take(nodes).collect::<Vec<_>>())));
        serde_json::to_vec(&shared).map_or(0, |bytes| bytes.len())
    }
}

fn rounds(criterion: &mut Criterion) {
    let mut site = Site::new();
    let [whole, bare] = site.bytes();
    println!("an entry of a node has {whole} bytes, {bare} of them without the node's state");
    for nodes in [1, 10, 100] {
        let bytes = site.shared_bytes(nodes);
        println!(
            "{nodes} quiet nodes have {bytes} bytes in the log, every ten minutes: {:.2} MB a day and node",
            (bytes * 144) as f64 / nodes as f64 / 1e6
        );
    }
    let mut group = criterion.benchmark_group("10,000 nodes with 8 devices");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.bench_function("a round of readings and a minute's books", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| site.round()).sum());
    });
    group.bench_function("check that the books close", |bencher| {
        bencher.iter(|| black_box(&site.meter).check());
    });
    group.finish();
    assert_eq!(site.meter.check(), Ok(()));
}

criterion_group!(benches, rounds);
criterion_main!(benches);
