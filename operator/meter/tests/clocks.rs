//! Whatever the clock does, and however devices are shared, the books close and what counts
//! against a limit is no less than what was drawn.
//!
//! One node with two devices, each offered twice over, without labels. Pods draw from one of them.
//! Time really passes; the clock is set forward and back, also between two readings.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_meter::{
    Account, Config, DeviceSeen, Entry, LeaseSeen, Meter, Method, Moment, NodeEntry, Reading, Use,
};
use proptest::prelude::*;

const BEGIN: Timestamp = Timestamp(1_700_000_000_000);
const REFRESH: u64 = 1000;
const LIMIT_MW: u64 = 700_000;
const IDLE_WATTS: u64 = 60;
const SLOTS: u32 = 4;

#[derive(Clone, Debug)]
enum Happens {
    Bind {
        gpus: u32,
        device: usize,
        watts: u64,
    },
    End {
        which: usize,
    },
    Read,
    Blank,
    /// The clock is set forward or back, in milliseconds.
    Clock {
        by: i64,
    },
    /// The node is now of another pool.
    Pool,
    /// Killed, and told the world again.
    Restart,
}

fn happens() -> impl Strategy<Value = (u64, Happens)> {
    let kind = prop_oneof![
        5 => (1..3_u32, 0..2_usize, 50..150_u64)
            .prop_map(|(gpus, device, watts)| Happens::Bind { gpus, device, watts }),
        4 => (0..8_usize).prop_map(|which| Happens::End { which }),
        8 => Just(Happens::Read),
        1 => Just(Happens::Blank),
        2 => (-300_000..100_000_i64).prop_map(|by| Happens::Clock { by }),
        1 => Just(Happens::Pool),
        1 => Just(Happens::Restart),
    ];
    (1..40_000_u64, kind)
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
    /// What really passed, in milliseconds.
    passed: u64,
    /// How far the clock is from it.
    ahead: i64,
    latest: Timestamp,
    counters: [u64; 2],
    shown: [u64; 2],
    first: [u64; 2],
    read: [u64; 2],
    pools: u32,
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

/// Whether an entry alone closes: with that, the books of every node and of every stretch of time
/// that entries make up do.
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
        let mut world = Self {
            passed: 0,
            ahead: 0,
            latest: BEGIN,
            counters: [5_000_000, 9_000_000],
            shown: [5_000_000, 9_000_000],
            first: [5_000_000, 9_000_000],
            read: [5_000_000, 9_000_000],
            pools: 0,
            pods: Vec::new(),
            meter: Meter::new(config()),
            durable: Vec::new(),
        };
        world.devices();
        world.read(false);
        world.book();
        world
    }

    /// What the clock says.
    fn now(&self) -> Timestamp {
        Timestamp(BEGIN.0 + self.passed.cast_signed() + self.ahead)
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..=(ms / 100) {
            self.passed += 100;
            // Watts × milliseconds are millijoules.
            self.counters.iter_mut().for_each(|counter| *counter += IDLE_WATTS * 100);
            for pod in self.pods.iter_mut().filter(|pod| pod.ended.is_none()) {
                pod.drawn_mj += pod.watts * 100;
                self.counters[pod.device] += pod.watts * 100;
            }
            if self.passed.is_multiple_of(REFRESH) {
                self.shown = self.counters;
            }
            if self.passed.is_multiple_of(1000) {
                // The auditor books every second, and so notices the clock.
                self.meter.advance(self.now());
            }
        }
        self.latest = self.latest.max(self.now());
    }

    fn devices(&mut self) {
        let devices = ["GPU-a", "GPU-b"].map(|id| DeviceSeen {
            id: id.into(),
            model: None,
            limit_mw: Some(LIMIT_MW),
        });
        let pool: Name = format!("hall-{}", self.pools % 2).into();
        self.meter.devices(&"n".into(), Some(&pool), SLOTS, &devices, self.now());
    }

    fn read(&mut self, is_blank: bool) {
        let readings =
            [("GPU-a", self.shown[0]), ("GPU-b", self.shown[1])].map(|(id, counter)| Reading {
                device: id.into(),
                counter_mj: (!is_blank).then_some(counter),
                ..Reading::default()
            });
        if !is_blank {
            self.read = self.shown;
        }
        self.meter.readings(&"n".into(), Moment::exactly(self.now()), &readings);
    }

    fn seen(&self, number: usize) -> LeaseSeen {
        let pod = &self.pods[number];
        LeaseSeen {
            uid: format!("uid-{number}").into(),
            pod: format!("team-{number}/pod").into(),
            node: "n".into(),
            gpus: pod.gpus,
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
        self.tell(number);
    }

    fn tell(&mut self, number: usize) {
        let seen = self.seen(number);
        match self.pods[number].ended {
            Some(at) => self.meter.ended(seen, Moment::exactly(at), None, self.now()),
            None => self.meter.lease(seen, self.now()),
        }
    }

    fn happen(&mut self, what: &Happens) {
        let running: Vec<usize> =
            (0..self.pods.len()).filter(|pod| self.pods[*pod].ended.is_none()).collect();
        match what {
            Happens::Bind { gpus, device, watts } => {
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
                    self.tell(self.pods.len() - 1);
                }
            }
            Happens::End { which } => {
                if let Some(number) = running.get(which % running.len().max(1)) {
                    self.end(*number);
                }
            }
            Happens::Read => self.read(false),
            Happens::Blank => self.read(true),
            Happens::Clock { by } => self.ahead += by,
            Happens::Pool => {
                self.pools += 1;
                self.devices();
            }
            Happens::Restart => {
                self.meter = Meter::restore(config(), self.durable.iter().cloned()).unwrap();
                self.devices();
                (0..self.pods.len()).for_each(|number| self.tell(number));
            }
        }
    }

    /// Books, and makes it durable.
    fn book(&mut self) {
        self.meter.advance(self.now());
        self.meter.flush();
        self.durable.extend(self.meter.take_entries());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn limits_hold_whatever_the_clock_does(history in prop::collection::vec(happens(), 1..40)) {
        let mut world = World::new();
        for (after, what) in &history {
            world.pass(*after);
            world.happen(what);
            world.book();
            prop_assert_eq!(world.meter.check(), Ok(()), "after {:?}", what);
        }
        for number in 0..world.pods.len() {
            if world.pods[number].ended.is_none() {
                world.end(number);
            }
        }
        // Until the clock has caught up, and everything was read.
        let behind = world.latest.millis_since(world.now());
        for ms in [behind, 5_000, 5_000, 5_000] {
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
            let usage = world.meter.usage(&registration(number));
            prop_assert!(usage.millijoules >= pod.drawn_mj, "{usage:?} of {pod:?}");
            prop_assert_eq!(closed.get(&world.seen(number).uid), Some(&1), "{:?}", pod);
        }
        // All that the counters moved is booked, though part of it may be left as not believed.
        let moved: u64 = (0..2).map(|device| world.read[device] - world.first[device]).sum();
        prop_assert_eq!(books.pools.values().map(|pool| pool.moved_mj).sum::<u64>(), moved);
        let restored = Meter::restore(config(), world.durable.iter().cloned()).unwrap();
        prop_assert_eq!(restored.books(), books);
    }
}
