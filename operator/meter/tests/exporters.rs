//! The books with exporters that do not do what they should.
//!
//! Each test reads one node `n` whose devices can draw 750 W. Times are in seconds since the story
//! began, energy is in joules; the exporters refresh every 30 s.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use daylight_base::{Name, Timestamp};
use daylight_meter::{
    Account, Bounded, Config, Entry, Gap, GapKind, Meter, Method, Moment, NodeEntry,
    ObservedDevice, ObservedLease, Reading, Requested, UnreadCause, Use,
};

const LIMIT: u64 = 750;
const HOUR: u64 = 3600;

fn time(seconds: u64) -> Timestamp {
    Timestamp(1_700_000_000_000).plus_millis(1000 * seconds)
}

fn registration(tenant: &str) -> Name {
    format!("{tenant}/reg").into()
}

fn account(tenant: &str) -> Account {
    let registration = Some(registration(tenant));
    Account { class: Some("pow-mining".into()), registration, namespace: tenant.into() }
}

struct Site {
    meter: Meter,
    durable: Vec<Entry>,
}

impl Site {
    /// A node with these devices, which offers a number of GPUs.
    fn new(devices: &[&str], offered: u32) -> Self {
        let mut site = Self { meter: Meter::new(Config::default()), durable: Vec::new() };
        site.node("n", devices, offered);
        site
    }

    fn node(&mut self, node: &str, devices: &[&str], offered: u32) {
        let limit_mw = Some(LIMIT * 1000);
        let devices: Vec<ObservedDevice> = devices
            .iter()
            .map(|id| ObservedDevice { id: (*id).into(), model: None, limit_mw })
            .collect();
        self.meter.devices(&node.into(), Some(&"hall".into()), offered, &devices, time(0));
    }

    fn pod(node: &str, tenant: &str, bound: u64) -> ObservedLease {
        ObservedLease {
            uid: format!("uid-{tenant}-{node}").into(),
            pod: format!("{tenant}/pod").into(),
            node: node.into(),
            gpus: 1,
            requested: Requested::default(),
            account: account(tenant),
            watts: 400,
            bound: Moment::exactly(time(bound)),
            started: None,
            owed: true,
        }
    }

    fn bind(&mut self, node: &str, tenant: &str, at: u64) {
        self.meter.lease(Self::pod(node, tenant, at), time(at));
    }

    fn end(&mut self, node: &str, tenant: &str, bound: u64, at: u64) {
        let ended = Moment::exactly(time(at));
        self.meter.ended(Self::pod(node, tenant, bound), ended, None, time(at));
    }

    /// An answer on a node: joules and watts of a device.
    fn read_on(
        &mut self,
        node: &str,
        at: u64,
        device: &str,
        joules: Option<u64>,
        watts: Option<u64>,
    ) {
        let reading = Reading {
            device: device.into(),
            counter_mj: joules.map(|joules| joules * 1000),
            power_mw: watts.map(|watts| watts * 1000),
            holder: None,
        };
        self.meter.readings(&node.into(), Moment::exactly(time(at)), &[reading]);
        self.book(at);
    }

    /// An answer with joules and watts of the device `a`.
    fn read(&mut self, at: u64, joules: Option<u64>, watts: Option<u64>) {
        self.read_on("n", at, "a", joules, watts);
    }

    fn book(&mut self, at: u64) {
        self.meter.advance(time(at));
        self.durable.extend(self.meter.take_entries());
        assert_eq!(self.meter.check(), Ok(()));
    }

    fn restart(&mut self) {
        self.meter.flush();
        self.durable.extend(self.meter.take_entries());
        let entries = self
            .durable
            .iter()
            .map(|entry| serde_json::from_str(&serde_json::to_string(entry).unwrap()).unwrap());
        self.meter = Meter::restore(Config::default(), entries).unwrap();
    }

    fn node_entries(&mut self) -> impl Iterator<Item = &NodeEntry> {
        self.meter.flush();
        self.durable.extend(self.meter.take_entries());
        self.durable.iter().filter_map(|entry| match entry {
            Entry::Node(entry) => Some(&**entry),
            _ => None,
        })
    }

    fn gaps(&mut self) -> Vec<Gap> {
        self.node_entries().flat_map(|entry| entry.gaps.clone()).collect()
    }

    fn gap_kinds(&mut self) -> Vec<GapKind> {
        self.gaps().iter().map(|gap| gap.kind).collect()
    }

    /// At least, booked, and at most for a tenant, in joules.
    fn energy(&self, tenant: &str) -> (u64, u64, u64) {
        let usage = Use::Lease(account(tenant));
        let mj: Bounded = self.meter.books().energy_where(|key, _| key.usage == usage);
        (mj.lower() / 1000, mj.value / 1000, mj.upper().div_ceil(1000))
    }

    fn energy_by(&self, method: Method) -> u64 {
        self.meter.books().energy_where(|_, one| one == method).value / 1000
    }

    fn metered_until(&self, tenant: &str) -> Option<u64> {
        let until = self.meter.usage(&registration(tenant), time(0)).metered_until?;
        Some(until.millis_since(time(0)) / 1000)
    }

    fn used(&self, tenant: &str) -> u64 {
        self.meter.usage(&registration(tenant), time(0)).millijoules / 1000
    }

    fn unread(&self) -> Vec<UnreadCause> {
        self.meter.unread_devices("n").into_iter().map(|device| device.cause).collect()
    }
}

/// A miner that has had the device `a` all the time.
fn mining() -> Site {
    let mut site = Site::new(&["a"], 1);
    site.bind("n", "mine", 0);
    site
}

/// An AMD counter of microjoules passes 2^47 on the way. It is one number like any other.
#[test]
fn a_large_counter_is_booked_step_by_step() {
    let mut site = mining();
    let start = 140_737_488 - 30_000;
    for step in 0..10 {
        site.read(30 * step, Some(start + 22_500 * step), Some(750));
    }
    site.book(280);
    let (least, booked, most) = site.energy("mine");
    assert_eq!((least, booked), (9 * 22_500, 9 * 22_500));
    assert!(most <= booked + LIMIT * 60, "{most}");
}

/// One value that is less by a little, as that of an instance of the device that was not refreshed.
#[test]
fn a_value_that_is_a_little_less_for_one_reading_is_no_reset() {
    let mut site = mining();
    site.read(0, Some(126_272_106), None);
    site.read(15, Some(126_272_101), None);
    site.read(30, Some(126_273_751), None);
    site.book(40);
    assert_eq!(site.gap_kinds(), []);
    let (least, booked, most) = site.energy("mine");
    assert_eq!((least, booked), (1645, 1645));
    assert!(most >= 1650, "it may have been a step back: {most}");
}

#[test]
fn a_counter_that_is_zero_for_one_reading_is_no_reset() {
    for zeros in [1, 3] {
        let mut site = mining();
        site.read(0, Some(5_000_000), Some(300));
        for zero in 1..=zeros {
            site.read(30 * zero, Some(0), Some(300));
        }
        let at = 30 * (zeros + 1);
        site.read(at, Some(5_000_000 + 300 * at), Some(300));
        site.book(at + 5);
        assert_eq!(site.gap_kinds(), []);
        assert_eq!(site.energy("mine").1, 300 * at);
    }
}

/// A step back that stays: one interval is not known, and no more than the device can draw.
#[test]
fn a_counter_that_steps_back_a_little_costs_one_interval() {
    let mut site = mining();
    let counters = [71_254_400, 71_263_400, 71_054_100, 71_063_100, 71_072_100];
    for (step, counter) in counters.into_iter().enumerate() {
        site.read(30 * step as u64, Some(counter), Some(300));
    }
    site.book(160);
    assert_eq!(site.gap_kinds(), [GapKind::Reset]);
    let (least, booked, most) = site.energy("mine");
    assert_eq!((least, booked), (27_000, 27_000), "three of four intervals are exact");
    assert!((36_000..=27_000 + 60 * LIMIT).contains(&most), "{most}");
}

/// With a small counter the value after the step could be a count since a reset. It is not believed.
#[test]
fn a_small_counter_that_steps_back_a_little_has_not_counted_from_zero() {
    let mut site = mining();
    let counters = [20_000, 29_000, 28_791, 37_791, 46_791];
    for (step, counter) in counters.into_iter().enumerate() {
        site.read(30 * step as u64, Some(counter), None);
    }
    site.book(160);
    let (least, _, most) = site.energy("mine");
    assert_eq!(least, 18_000, "the first interval and the last");
    assert!(most >= 36_000, "{most}");
}

/// A single zero of a counter that is small enough to have begun again: both may be true.
#[test]
fn a_small_counter_after_a_zero_is_doubted() {
    let mut site = mining();
    for (step, counter) in [5_000, 0, 9_000, 18_000].into_iter().enumerate() {
        site.read(30 * step as u64, Some(counter), None);
    }
    site.book(120);
    let (least, _, most) = site.energy("mine");
    // 4,000 J if the zero was no value, up to what the device can draw if the counter began again.
    assert_eq!(least, 9_000);
    assert!(most >= 9_000 + 45_000, "{most}");
}

#[test]
fn a_driver_that_is_loaded_again_is_a_reset() {
    let mut site = mining();
    for (step, counter) in [900_000, 909_000, 3_000, 12_000, 21_000].into_iter().enumerate() {
        site.read(30 * step as u64, Some(counter), None);
    }
    site.book(160);
    assert_eq!(site.gap_kinds(), [GapKind::Reset]);
    let (least, booked, most) = site.energy("mine");
    assert_eq!((least, booked), (27_000, 30_000));
    assert!((36_000..=27_000 + 60 * LIMIT).contains(&most), "{most}");
}

/// The counter never moves, the power does.
#[test]
fn a_counter_that_is_frozen_gives_way_to_power() {
    let mut site = mining();
    for step in 0..=40 {
        site.read(15 * step, Some(5_000_000), Some(500 + step % 3));
    }
    site.book(605);
    assert_eq!(site.unread(), [UnreadCause::Stopped]);
    assert!(site.metered_until("mine").unwrap() >= 570, "limits do not wait");
    let (least, booked, most) = site.energy("mine");
    assert_eq!(least, 0);
    assert!(booked.abs_diff(500 * 590) < 10_000, "{booked}");
    assert!(most >= 500 * 600, "{most}");
    assert!(site.used("mine") >= 500 * 570);
    assert_eq!(site.gap_kinds(), [GapKind::Unread], "once, when it was given up");
    assert_eq!(site.energy_by(Method::Counter), 0);

    // The same after a restart. Then it counts again.
    site.restart();
    site.read(615, Some(5_000_000), Some(501));
    assert_eq!(site.metered_until("mine"), Some(585));
    for step in 42..=46 {
        site.read(15 * step, Some(6_000_000 + 7500 * step), Some(500));
    }
    site.book(700);
    assert_eq!(site.unread(), []);
    assert_eq!(site.energy_by(Method::Counter), 4 * 7500);
}

/// An exporter that repeats itself proves nothing: limits wait, as the next value covers all.
#[test]
fn an_exporter_that_does_not_refresh_is_not_believed() {
    let mut site = mining();
    site.read(0, Some(5_000_000), Some(500));
    for step in 1..=40 {
        site.read(15 * step, Some(5_000_000), Some(500));
    }
    assert_eq!(site.metered_until("mine"), Some(0));
    assert!(matches!(site.unread()[..], [UnreadCause::Since(_)]));
    site.read(615, Some(5_300_000), Some(500));
    site.book(620);
    assert_eq!(site.energy("mine").1, 300_000);
    assert_eq!(site.gap_kinds(), [GapKind::Unread]);
    assert_eq!(site.unread(), []);
}

#[test]
fn a_counter_that_is_blank_gives_way_to_power_after_minutes() {
    let mut site = mining();
    site.read(0, Some(5_000_000), Some(500));
    site.read(30, None, Some(500));
    site.read(60, Some(5_030_000), Some(500));
    site.book(70);
    assert_eq!((site.gap_kinds(), site.energy("mine").1), (vec![], 30_000));
    for step in 5..=40 {
        site.read(15 * step, None, Some(500));
    }
    assert!(site.metered_until("mine").unwrap() >= 570);
    assert_eq!(site.unread(), [UnreadCause::Stopped]);
    let (least, booked, most) = site.energy("mine");
    assert_eq!(least, 30_000);
    assert!(booked.abs_diff(300_000) < 10_000 && most >= 300_000, "{booked}, {most}");
    // It comes back with a value that says nothing of the time between.
    site.read(615, Some(5_040_000), Some(500));
    site.read(645, Some(5_055_000), Some(500));
    site.book(660);
    assert_eq!(site.unread(), []);
    let (least, _, most) = site.energy("mine");
    assert!(least <= 45_000 && most >= 320_000, "{least}, {most}");
}

/// 5 W by the counter, 500 W by the power.
#[test]
fn a_counter_that_is_wrong_by_a_factor_is_bounded_by_what_the_device_can_draw() {
    let mut site = mining();
    for step in 0..=10 {
        site.read(30 * step, Some(5_000_000 + 150 * step), Some(500));
    }
    site.book(310);
    let (least, booked, most) = site.energy("mine");
    assert_eq!((least, booked), (0, 1500), "the books are those of the counter");
    assert!(most >= 150_000, "{most}");
    assert!(site.gap_kinds().iter().all(|kind| *kind == GapKind::Mismatch));
    assert_eq!(site.gaps().len(), 10);
    assert!(matches!(site.unread()[..], [UnreadCause::Mismatch(_)]));
    // A hundred times too much is a contradiction, too.
    let mut site = mining();
    for step in 0..=4 {
        site.read(30 * step, Some(5_000_000 + 18_000 * step), Some(6));
    }
    site.book(130);
    assert_eq!(site.energy("mine").0, 0);
    // A load that changes is none.
    let mut site = mining();
    for step in 0..=10 {
        site.read(
            30 * step,
            Some(5_000_000 + 6_000 * step),
            Some(if step % 2 == 0 { 70 } else { 600 }),
        );
    }
    site.book(310);
    assert_eq!((site.gap_kinds(), site.energy("mine").0), (vec![], 60_000));
}

/// A device of 750 W that draws 2,000 W.
#[test]
fn a_power_limit_that_a_device_exceeds_is_not_its_limit() {
    let mut site = mining();
    for step in 0..=10 {
        site.read(30 * step, Some(5_000_000 + 60_000 * step), Some(2000));
    }
    site.book(310);
    assert_eq!((site.gap_kinds(), site.unread()), (vec![], vec![]));
    assert_eq!(site.energy("mine").0, 600_000);
    // Without its power, either may be wrong: it is named.
    let mut site = mining();
    for step in 0..=10 {
        site.read(30 * step, Some(5_000_000 + 60_000 * step), None);
    }
    site.book(310);
    assert!(site.gap_kinds().iter().all(|kind| *kind == GapKind::Jump));
    assert!(matches!(site.unread()[..], [UnreadCause::Mismatch(_)]));
}

/// One device that reports nothing, on one of two nodes.
#[test]
fn a_device_without_news_is_bounded_and_stalls_no_other_node() {
    let mut site = Site::new(&["a", "b"], 2);
    site.node("m", &["c"], 1);
    site.bind("n", "mine", 0);
    site.bind("m", "mine", 0);
    let read = |site: &mut Site, at: u64, blank: bool| {
        site.read_on("n", at, "a", Some(1000 + 300 * at), None);
        site.read_on("n", at, "b", Some(1000 + 70 * at).filter(|_| !blank), None);
        site.read_on("m", at, "c", Some(1000 + 300 * at), None);
    };
    read(&mut site, 0, false);
    site.end("n", "mine", 0, 60);
    for step in 1..=20 {
        read(&mut site, 30 * step, true);
    }
    assert!(matches!(site.unread()[..], [UnreadCause::Since(_)]), "{:?}", site.unread());
    // The other node is read. On this one, the lease is taken to draw the limit until its end.
    assert!(site.metered_until("mine").unwrap() >= 570);
    assert!(site.used("mine") >= 300 * 570 + 60 * 300, "{}", site.used("mine"));
    assert!(site.used("mine") <= 300 * 600 + 90 * 2 * LIMIT, "{}", site.used("mine"));

    for step in 21..=130 {
        read(&mut site, 30 * step, true);
    }
    assert_eq!(site.unread(), [UnreadCause::GivenUp]);
    let state = site.node_entries().filter_map(|entry| entry.state.as_ref()).last().unwrap();
    assert_eq!((state.leases.len(), state.spans.len()), (1, 1), "m's; nothing waits on n");
    assert!(site.gap_kinds().contains(&GapKind::Unread));
    let leases = site.node_entries().filter(|entry| &*entry.node == "n").last().unwrap();
    assert_eq!(leases.state.as_ref().unwrap().leases, []);
}

/// Leases of ten minutes for a day, on a node with a device that reports nothing.
#[test]
fn the_state_of_a_node_does_not_grow_with_a_device_that_reports_nothing() {
    let mut site = Site::new(&["a", "b"], 2);
    site.read_on("n", 0, "b", Some(1), None);
    for lease in 0..144 {
        let from = 600 * lease;
        let tenant = format!("t{lease}");
        site.bind("n", &tenant, from);
        for step in 1..=20 {
            let at = from + 30 * step;
            site.read_on("n", at, "a", Some(1000 + 300 * at), None);
        }
        site.end("n", &tenant, from, from + 599);
    }
    let largest = site.node_entries().filter_map(|entry| entry.state.as_ref());
    let largest = largest.map(|state| state.leases.len() + state.spans.len()).max().unwrap();
    assert!(largest < 40, "{largest}");
}

/// Limits wait where nothing at all of a registration is read, and the next reading covers it.
#[test]
fn an_exporter_that_is_away_holds_limits_and_loses_nothing() {
    let mut site = mining();
    site.read(0, Some(1000), None);
    site.read(30, Some(10_000), None);
    for at in (60..=1200).step_by(60) {
        site.book(at);
    }
    assert_eq!(site.metered_until("mine"), Some(0));
    site.read(1230, Some(370_000), None);
    site.book(1240);
    assert_eq!(site.energy("mine").1, 369_000);
    assert!(site.metered_until("mine").unwrap() >= 1200);
    // An absence of the auditor is not one of the exporter.
    site.restart();
    site.book(10 * HOUR);
    site.read(10 * HOUR, Some(10_740_000), None);
    site.book(10 * HOUR + 5);
    assert_eq!(site.energy("mine").1, 10_739_000);
}

/// A month ends in Kathmandu at 18:15 of UTC, and while the auditor is away.
#[test]
fn no_entry_has_time_of_two_quarters_of_an_hour() {
    let mut site = mining();
    site.read(0, Some(1000), None);
    for at in (30..=4 * 900).step_by(70) {
        site.read(at, Some(1000 + 300 * at), None);
        site.book(at);
    }
    site.restart();
    site.read(9 * 900 + 10, Some(1000 + 300 * (9 * 900 + 10)), None);
    site.book(9 * 900 + 20);
    let quarter = |at: Timestamp| at.0.div_euclid(900_000);
    let stretches: Vec<_> = site.node_entries().map(|entry| (entry.from, entry.until)).collect();
    let mut quarters = BTreeSet::new();
    for (from, until) in stretches {
        if from < until {
            assert_eq!(quarter(from), quarter(Timestamp(until.0 - 1)), "{from} {until}");
            quarters.insert(quarter(from));
        }
    }
    assert_eq!(quarters.len(), 10);
}

/// A time-sliced device is labelled with one pod at a time.
#[test]
fn labels_on_a_divided_device_give_no_pod_all_of_it() {
    let mut site = Site::new(&["a"], 4);
    site.bind("n", "night", 0);
    site.bind("n", "serve", 0);
    for (step, holder) in ["night", "night", "serve", "serve", "night"].into_iter().enumerate() {
        let reading = Reading {
            device: "a".into(),
            counter_mj: Some(1_000_000 + 6_000_000 * step as u64),
            power_mw: None,
            holder: Some(format!("{holder}/pod").into()),
        };
        let at = 100 + 30 * step as u64;
        site.meter.readings(&"n".into(), Moment::exactly(time(at)), &[reading]);
        site.book(at);
    }
    site.book(230);
    let (night, serve) = (site.energy("night"), site.energy("serve"));
    assert_eq!(night.1 + serve.1, 24_000);
    assert_eq!((night.0, serve.0), (0, 0));
    assert!(night.2 >= 24_000 && serve.2 >= 24_000, "{night:?} {serve:?}");
    assert_eq!(site.energy_by(Method::Counter), 0);
}
