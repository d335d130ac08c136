//! Property: whatever the clock does, and however devices are shared, the books close and a limit
//! counts at least the energy that was drawn.
//!
//! One node has two devices, each offered twice, without labels. A pod draws from one of them. True
//! time passes while the clock is set forward and back, also between two readings.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_meter::{
    Account, Config, Entry, Meter, Method, Moment, NodeEntry, ObservedDevice, ObservedLease,
    Reading, Requested, Use,
};
use proptest::prelude::*;

const BEGIN: Timestamp = Timestamp(1_700_000_000_000);
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
/// Resolution of the simulation, in milliseconds.
const TICK: u64 = 100;
/// Interval at which the exporter reads the devices.
const REFRESH: u64 = SECOND;
const LIMIT_MW: u64 = 700_000;
const IDLE_WATTS: u64 = 60;
/// GPUs that the node offers.
const SLOTS: u32 = 4;
const IDS: [&str; 2] = ["GPU-a", "GPU-b"];

#[derive(Clone, Debug)]
enum Step {
    Bind {
        gpus: u32,
        device: usize,
        watts: u64,
    },
    End {
        which: usize,
    },
    Read,
    /// The exporter answers without counters.
    ReadBlank,
    SetClock {
        by_ms: i64,
    },
    /// The node moves to another pool.
    ChangePool,
    /// The auditor is killed, restored from what is durable, and observes the cluster again.
    Restart,
}

/// A step, and the milliseconds before it.
fn step() -> impl Strategy<Value = (u64, Step)> {
    let step = prop_oneof![
        5 => (1..3_u32, 0..2_usize, 50..150_u64)
            .prop_map(|(gpus, device, watts)| Step::Bind { gpus, device, watts }),
        4 => (0..8_usize).prop_map(|which| Step::End { which }),
        8 => Just(Step::Read),
        1 => Just(Step::ReadBlank),
        2 => (-5 * MINUTE.cast_signed()..100 * SECOND.cast_signed())
            .prop_map(|by_ms| Step::SetClock { by_ms }),
        1 => Just(Step::ChangePool),
        1 => Just(Step::Restart),
    ];
    (1..40 * SECOND, step)
}

#[derive(Clone, Debug)]
struct Pod {
    gpus: u32,
    device: usize,
    watts: u64,
    bound: Timestamp,
    ended: Option<Timestamp>,
    drawn_mj: u64,
}

struct World {
    /// True time since the beginning.
    passed_ms: u64,
    /// Error of the clock.
    ahead_ms: i64,
    /// Latest time that the clock has shown.
    latest: Timestamp,
    /// True counters of the devices, in millijoules.
    counters: [u64; 2],
    /// Counters at the exporter's last refresh.
    shown: [u64; 2],
    /// Counters in the first answer and in the last one.
    first: [u64; 2],
    read: [u64; 2],
    pool_changes: u32,
    pods: Vec<Pod>,
    meter: Meter,
    durable: Vec<Entry>,
}

fn registration(pod: usize) -> Name {
    format!("team-{pod}/reg").into()
}

fn config() -> Config {
    Config { refresh_ms: REFRESH, limit_mw: LIMIT_MW, ..Config::default() }
}

/// Returns whether an entry closes by itself: then so do the books of every node and of every
/// period that is made of entries.
fn closes(entry: &NodeEntry) -> bool {
    let mut time: BTreeMap<&Option<Name>, i128> = BTreeMap::new();
    let mut energy = time.clone();
    for pool in &entry.pools {
        *time.entry(&pool.pool).or_default() -= i128::from(pool.capacity_ms);
        *energy.entry(&pool.pool).or_default() -= i128::from(pool.moved_mj);
    }
    for booked in &entry.time {
        *time.entry(&booked.key.pool).or_default() += i128::from(booked.ms.value);
    }
    for booked in entry.energy.iter().filter(|booked| booked.method != Method::Declared) {
        *energy.entry(&booked.key.pool).or_default() += i128::from(booked.mj.value);
    }
    time.values().chain(energy.values()).all(|off| *off == 0) && entry.from <= entry.until
}

impl World {
    fn new() -> Self {
        let counters = [5_000_000, 9_000_000];
        let mut world = Self {
            passed_ms: 0,
            ahead_ms: 0,
            latest: BEGIN,
            counters,
            shown: counters,
            first: counters,
            read: counters,
            pool_changes: 0,
            pods: Vec::new(),
            meter: Meter::new(config()),
            durable: Vec::new(),
        };
        world.devices();
        world.read(false);
        world.book();
        world
    }

    /// Time by the clock.
    fn now(&self) -> Timestamp {
        Timestamp(BEGIN.0 + self.passed_ms.cast_signed() + self.ahead_ms)
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..=(ms / TICK) {
            self.passed_ms += TICK;
            // Watts × milliseconds are millijoules.
            self.counters.iter_mut().for_each(|counter| *counter += IDLE_WATTS * TICK);
            for pod in self.pods.iter_mut().filter(|pod| pod.ended.is_none()) {
                pod.drawn_mj += pod.watts * TICK;
                self.counters[pod.device] += pod.watts * TICK;
            }
            if self.passed_ms.is_multiple_of(REFRESH) {
                self.shown = self.counters;
            }
            if self.passed_ms.is_multiple_of(SECOND) {
                // The auditor books every second: that is how it notices that the clock was set back.
                self.meter.advance(self.now());
            }
        }
        self.latest = self.latest.max(self.now());
    }

    fn devices(&mut self) {
        let devices =
            IDS.map(|id| ObservedDevice { id: id.into(), model: None, limit_mw: Some(LIMIT_MW) });
        let pool: Name = format!("hall-{}", self.pool_changes % 2).into();
        self.meter.devices(&"n".into(), Some(&pool), SLOTS, &devices, self.now());
    }

    fn read(&mut self, is_blank: bool) {
        let readings = [0, 1].map(|device| Reading {
            device: IDS[device].into(),
            counter_mj: (!is_blank).then_some(self.shown[device]),
            ..Reading::default()
        });
        if !is_blank {
            self.read = self.shown;
        }
        self.meter.readings(&"n".into(), Moment::exactly(self.now()), &readings);
    }

    fn seen(&self, number: usize) -> ObservedLease {
        let pod = &self.pods[number];
        ObservedLease {
            uid: format!("uid-{number}").into(),
            pod: format!("team-{number}/pod").into(),
            node: "n".into(),
            gpus: pod.gpus,
            requested: Requested::default(),
            account: Account {
                class: None,
                registration: Some(registration(number)),
                namespace: format!("team-{number}").into(),
            },
            watts: pod.watts,
            bound: Moment::exactly(pod.bound),
            started: None,
            owed: true,
        }
    }

    fn end(&mut self, number: usize) {
        self.pods[number].ended = Some(self.now());
        self.report(number);
    }

    /// Reports a pod to the meter, as the watch does.
    fn report(&mut self, number: usize) {
        let seen = self.seen(number);
        match self.pods[number].ended {
            Some(at) => self.meter.ended(seen, Moment::exactly(at), None, self.now()),
            None => self.meter.lease(seen, self.now()),
        }
    }

    fn take(&mut self, step: &Step) {
        let running: Vec<usize> =
            (0..self.pods.len()).filter(|pod| self.pods[*pod].ended.is_none()).collect();
        match step {
            Step::Bind { gpus, device, watts } => {
                let held: u32 = running.iter().map(|pod| self.pods[*pod].gpus).sum();
                if held + gpus <= SLOTS {
                    self.pods.push(Pod {
                        gpus: *gpus,
                        device: *device,
                        watts: *watts,
                        bound: self.now(),
                        ended: None,
                        drawn_mj: 0,
                    });
                    self.report(self.pods.len() - 1);
                }
            }
            Step::End { which } => {
                if let Some(number) = running.get(which % running.len().max(1)) {
                    self.end(*number);
                }
            }
            Step::Read => self.read(false),
            Step::ReadBlank => self.read(true),
            Step::SetClock { by_ms } => self.ahead_ms += by_ms,
            Step::ChangePool => {
                self.pool_changes += 1;
                self.devices();
            }
            Step::Restart => {
                self.meter = Meter::restore(config(), self.durable.iter().cloned()).unwrap();
                self.devices();
                (0..self.pods.len()).for_each(|number| self.report(number));
            }
        }
    }

    /// Books everything until now and makes it durable.
    fn book(&mut self) {
        self.meter.advance(self.now());
        self.meter.flush();
        self.durable.extend(self.meter.take_entries());
    }
}

/// Runs 1000 cases, or `PROPTEST_CASES` if that is more.
fn proptest_config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(1000), ..default }
}

proptest! {
    #![proptest_config(proptest_config())]

    #[test]
    fn limits_hold_whatever_the_clock_does(history in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for (after_ms, step) in &history {
            world.pass(*after_ms);
            world.take(step);
            world.book();
            prop_assert_eq!(world.meter.check(), Ok(()), "after {:?}", step);
        }
        for number in 0..world.pods.len() {
            if world.pods[number].ended.is_none() {
                world.end(number);
            }
        }
        // Until the clock has caught up and everything is read.
        let behind = world.latest.millis_since(world.now());
        for ms in [behind, 5 * SECOND, 5 * SECOND, 5 * SECOND] {
            world.pass(ms);
            world.read(false);
            world.book();
        }

        let mut closed: BTreeMap<Name, u32> = BTreeMap::new();
        for entry in &world.durable {
            if let Entry::Node(entry) = entry {
                prop_assert!(closes(entry), "{:?}", entry);
                for one in &entry.closed {
                    *closed.entry(one.lease.uid.clone()).or_default() += 1;
                }
            }
        }
        let books = world.meter.books();
        for (number, pod) in world.pods.iter().enumerate() {
            let account = world.seen(number).account;
            let of = Use::Lease(account);
            let drawn = books.energy_where(|key, _| key.usage == of);
            prop_assert!(drawn.upper() >= pod.drawn_mj, "{drawn:?} of {pod:?}");
            prop_assert!(drawn.lower() <= pod.drawn_mj, "{drawn:?} of {pod:?}");
            let usage = world.meter.usage(&registration(number), Timestamp(0));
            prop_assert!(usage.millijoules >= pod.drawn_mj, "{usage:?} of {pod:?}");
            prop_assert_eq!(closed.get(&world.seen(number).uid), Some(&1), "{:?}", pod);
        }
        // All movement of the counters is booked.
        let moved: u64 = (0..2).map(|device| world.read[device] - world.first[device]).sum();
        prop_assert_eq!(books.pools.values().map(|pool| pool.moved_mj).sum::<u64>(), moved);
        let restored = Meter::restore(config(), world.durable.iter().cloned()).unwrap();
        prop_assert_eq!(restored.books(), books);
    }
}
