//! Property: whatever an exporter does wrong, the truth lies within the bounds.
//!
//! A node with two devices is read every 30 s. A miner holds one device all the time, and pods take
//! turns on the other. The exporter leaves values out, repeats them, shows a zero, goes back a little
//! or begins again.

#![allow(clippy::unwrap_used)]

use daylight_base::{Name, Timestamp};
use daylight_meter::{
    Account, Config, Meter, Moment, ObservedDevice, ObservedLease, Reading, Requested, Use,
};
use proptest::prelude::*;

const DEVICES: [&str; 2] = ["a", "b"];
const LIMIT: u64 = 750;
const REFRESH: u64 = 30;

/// What the exporter does at a refresh, for one device.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// No counter.
    Blank,
    /// The counter of the refresh before.
    Repeats,
    Zero,
    /// The counter continues from less than before, by joules.
    StepsBack(u64),
    /// The counter begins again, without a boot.
    BeginsAgain,
}

#[derive(Clone, Debug)]
struct Round {
    /// Watts of each device until the refresh.
    watts: [u64; 2],
    faults: [Fault; 2],
    /// Times for which each fault lasts.
    repeat: usize,
    answers: bool,
    /// The pod on the second device ends, and another begins.
    turn: bool,
    restart: bool,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        8 => Just(Fault::None),
        2 => Just(Fault::Blank),
        2 => Just(Fault::Repeats),
        1 => Just(Fault::Zero),
        1 => (1..5_000_u64).prop_map(Fault::StepsBack),
        1 => Just(Fault::BeginsAgain),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    (
        [60..LIMIT, 60..LIMIT],
        [fault(), fault()],
        prop_oneof![6 => Just(1_usize), 2 => 2..4_usize, 1 => 5..30_usize],
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.05),
    )
        .prop_map(|(watts, faults, repeat, answers, turn, restart)| Round {
            watts,
            faults,
            repeat,
            answers,
            turn,
            restart,
        })
}

fn time(seconds: u64) -> Timestamp {
    Timestamp(1_700_000_000_000).plus_millis(1000 * seconds)
}

fn account(tenant: &str) -> Account {
    let registration = Some(format!("{tenant}/reg").into());
    Account { class: Some("pow-mining".into()), registration, namespace: tenant.into() }
}

struct World {
    now: u64,
    meter: Meter,
    power: bool,
    labels: bool,
    /// True energy of each device, and what its counter lacks of it (or has more), in joules.
    drawn: [u64; 2],
    offset: [u64; 2],
    shown: [Option<u64>; 2],
    /// Number of the pod on the second device, and when it was bound.
    turn: u64,
    bound: u64,
    truth: [u64; 2],
}

impl World {
    fn new(power: bool, labels: bool) -> Self {
        let mut world = Self {
            now: 0,
            meter: Meter::new(Config::default()),
            power,
            labels,
            drawn: [5_000_000, 7_000_000],
            offset: [0; 2],
            shown: [None; 2],
            turn: 0,
            bound: 0,
            truth: [0; 2],
        };
        world.devices();
        world.meter.lease(World::pod("mine", 0, 0), time(0));
        world.meter.lease(World::pod("turn", 0, 0), time(0));
        world.read(&[Fault::None; 2]);
        world
    }

    fn devices(&mut self) {
        let limit_mw = Some(LIMIT * 1000);
        let devices = DEVICES.map(|id| ObservedDevice { id: id.into(), model: None, limit_mw });
        self.meter.devices(&"n".into(), Some(&"hall".into()), 2, &devices, time(self.now));
    }

    fn pod(tenant: &str, turn: u64, bound: u64) -> ObservedLease {
        ObservedLease {
            uid: format!("{tenant}-{turn}").into(),
            pod: format!("{tenant}/pod-{turn}").into(),
            node: "n".into(),
            gpus: 1,
            requested: Requested::default(),
            account: account(tenant),
            watts: 400,
            bound: Moment::exactly(time(bound)),
            started: None,
            owed: false,
        }
    }

    fn take_turn(&mut self) {
        let ended = Moment::exactly(time(self.now));
        let pod = Self::pod("turn", self.turn, self.bound);
        self.meter.ended(pod, ended, None, time(self.now));
        (self.turn, self.bound) = (self.turn + 1, self.now);
        self.meter.lease(Self::pod("turn", self.turn, self.bound), time(self.now));
    }

    fn read(&mut self, faults: &[Fault; 2]) {
        let holders: [Name; 2] = ["mine/pod-0".into(), format!("turn/pod-{}", self.turn).into()];
        let mut readings = Vec::new();
        for (at, fault) in faults.iter().enumerate() {
            let shown = self.shown[at].unwrap_or_default();
            match fault {
                // Where the counter is not less than it was shown, no meter can know.
                Fault::StepsBack(joules) if *joules <= shown => {
                    self.offset[at] = self.drawn[at] - (shown - joules);
                }
                Fault::BeginsAgain if shown > 0 => self.offset[at] = self.drawn[at],
                _ => {}
            }
            let counter = match fault {
                Fault::Blank => None,
                Fault::Zero => Some(0),
                Fault::Repeats => Some(shown),
                _ => Some(self.drawn[at] - self.offset[at]),
            };
            if *fault != Fault::Zero {
                self.shown[at] = counter.or(self.shown[at]);
            }
            readings.push(Reading {
                device: DEVICES[at].into(),
                counter_mj: counter.map(|joules| 1000 * joules),
                power_mw: self.power.then_some(LIMIT * 500 + self.now),
                holder: self.labels.then(|| holders[at].clone()),
            });
        }
        self.meter.readings(&"n".into(), Moment::exactly(time(self.now)), &readings);
    }

    fn pass(&mut self, watts: [u64; 2]) {
        self.now += REFRESH;
        for (at, watts) in watts.into_iter().enumerate() {
            self.drawn[at] += watts * REFRESH;
            self.truth[at] += watts * REFRESH;
        }
    }

    fn restart(&mut self) {
        let entries = self.meter.snapshot();
        let entries = entries
            .iter()
            .map(|entry| serde_json::from_str(&serde_json::to_string(entry).unwrap()).unwrap());
        self.meter = Meter::restore(Config::default(), entries).unwrap();
        self.devices();
        self.meter.lease(Self::pod("mine", 0, 0), time(self.now));
        self.meter.lease(Self::pod("turn", self.turn, self.bound), time(self.now));
    }

    /// At least and at most of a tenant, in joules.
    fn bounds(&self, tenant: &str) -> (u64, u64) {
        let usage = Use::Lease(account(tenant));
        let mj = self.meter.books().energy_where(|key, _| key.usage == usage);
        (mj.lower() / 1000, mj.upper().div_ceil(1000))
    }
}

proptest! {
    #[test]
    fn the_truth_is_within_the_bounds_whatever_the_exporter_does(
        power in any::<bool>(),
        labels in any::<bool>(),
        rounds in prop::collection::vec(round(), 1..25),
    ) {
        let mut world = World::new(power, labels);
        for round in &rounds {
            if round.turn {
                world.take_turn();
            }
            for time in 0..round.repeat {
                world.pass(round.watts);
                // What begins again or goes back does so once.
                let lasts = |fault: Fault| match fault {
                    Fault::StepsBack(_) | Fault::BeginsAgain if time > 0 => Fault::None,
                    fault => fault,
                };
                if round.answers {
                    world.read(&round.faults.map(lasts));
                }
                let now = crate::time(world.now);
                world.meter.advance(now);
                prop_assert_eq!(world.meter.check(), Ok(()));
            }
            if round.restart {
                world.restart();
            }
        }
        // In the end it does what it should.
        for _ in 0..8 {
            world.pass([300, 300]);
            world.read(&[Fault::None; 2]);
            world.meter.advance(time(world.now));
        }
        let end = world.now + 2 * REFRESH;
        world.meter.advance(time(end));
        prop_assert_eq!(world.meter.check(), Ok(()));
        for (at, tenant) in ["mine", "turn"].into_iter().enumerate() {
            // What is drawn since the last reading is not booked yet.
            let (least, most) = world.bounds(tenant);
            let truth = world.truth[at];
            prop_assert!(least <= truth, "{tenant} drew {truth}, at least {least}");
            prop_assert!(truth <= most, "{tenant} drew {truth}, at most {most}");
        }
    }
}
