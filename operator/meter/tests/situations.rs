//! The books in situations that every site meets sooner or later.
//!
//! Each test is one story of a node `n`: devices draw whole watts and exporters are read at whole
//! seconds, so that the figures can be checked by hand. Times are in seconds since the story began,
//! energy is in joules.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_meter::{
    Account, Bounded, Config, Entry, Gap, GapKind, Meter, Method, Moment, NodeEntry,
    ObservedDevice, ObservedLease, Period, PoolEntry, Reading, Requested, Usage, Use,
};
use rustc_hash::FxHashSet;

const BEGIN: Timestamp = Timestamp(1_700_000_000_000);
const NODE: &str = "n";

/// Power limit of every device, in watts.
const LIMIT: u64 = 700;

const fn seconds(number: u64) -> u64 {
    number
}

const fn minutes(number: u64) -> u64 {
    60 * number
}

const fn hours(number: u64) -> u64 {
    60 * minutes(number)
}

const fn kilojoules(number: u64) -> u64 {
    1000 * number
}

/// Energy of a device at its limit, in joules.
const fn at_limit(seconds: u64) -> u64 {
    LIMIT * seconds
}

/// Seconds to milliseconds, or joules to millijoules.
const fn milli(number: u64) -> u64 {
    1000 * number
}

/// Time in a story.
fn time(seconds: u64) -> Timestamp {
    BEGIN.plus_millis(milli(seconds))
}

fn name(text: &str) -> Name {
    text.into()
}

/// The tenant of a pod: `mine` of `mine-0`.
fn tenant(pod: &str) -> &str {
    pod.split('-').next().unwrap()
}

fn registration(tenant: &str) -> Name {
    format!("{tenant}/reg").into()
}

fn account(tenant: &str) -> Account {
    Account {
        class: Some("pow-mining".into()),
        registration: Some(registration(tenant)),
        namespace: tenant.into(),
    }
}

/// Whole seconds or joules in the books, with their bounds.
#[derive(Debug, PartialEq, Eq)]
struct Amount {
    at_least: u64,
    booked: u64,
    at_most: u64,
}

impl Amount {
    fn joules(mj: Bounded) -> Self {
        let (at_least, at_most) = (mj.lower() / 1000, mj.upper().div_ceil(1000));
        Self { at_least, booked: mj.value / 1000, at_most }
    }

    fn seconds(ms: Bounded) -> Self {
        Self { at_least: ms.lower() / 1000, booked: ms.value / 1000, at_most: ms.upper() / 1000 }
    }

    fn allows(&self, truth: u64) -> bool {
        (self.at_least..=self.at_most).contains(&truth)
    }
}

fn exactly(amount: u64) -> Amount {
    Amount { at_least: amount, booked: amount, at_most: amount }
}

/// A site of one pool whose exporters refresh every second.
struct Site {
    /// Seconds since the story began.
    now: u64,
    /// Time when the pod of each tenant was bound, in seconds.
    bound: BTreeMap<String, u64>,
    meter: Meter,
    durable: Vec<Entry>,
}

fn config() -> Config {
    Config { refresh_ms: 1000, limit_mw: milli(LIMIT), idle_mw: 100_000, ..Config::default() }
}

impl Site {
    fn new() -> Self {
        let meter = Meter::new(config());
        Self { now: 0, bound: BTreeMap::new(), meter, durable: Vec::new() }
    }

    /// The node offers each of these devices once.
    fn with(devices: &[&str]) -> Self {
        let mut site = Self::new();
        site.devices(devices, devices.len() as u32);
        site
    }

    /// The next events happen at this time.
    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = seconds;
        self
    }

    fn devices(&mut self, devices: &[&str], offered: u32) {
        self.devices_of_watts(LIMIT, devices, offered);
    }

    fn devices_of_watts(&mut self, limit: u64, devices: &[&str], offered: u32) {
        let limit_mw = Some(milli(limit));
        let devices: Vec<ObservedDevice> = devices
            .iter()
            .map(|id| ObservedDevice { id: name(id), model: None, limit_mw })
            .collect();
        self.meter.devices(&name(NODE), Some(&name("hall")), offered, &devices, time(self.now));
    }

    fn boot(&mut self, id: &str) {
        self.meter.boot(&name(NODE), &name(id), time(self.now));
    }

    fn pod(&self, node: &str, pod: &str) -> ObservedLease {
        ObservedLease {
            uid: format!("uid-{pod}").into(),
            pod: format!("{pod}/pod").into(),
            node: name(node),
            gpus: 1,
            requested: Requested::default(),
            account: account(tenant(pod)),
            watts: 400,
            bound: Moment::exactly(time(self.bound[pod])),
            started: None,
            owed: true,
        }
    }

    /// A pod is bound to the node with one GPU and 400 declared watts.
    fn bind(&mut self, pod: &str) {
        self.bound.insert(pod.into(), self.now);
        self.meter.lease(self.pod(NODE, pod), time(self.now));
    }

    fn end(&mut self, pod: &str) {
        self.report_end(pod, self.now);
    }

    /// The cluster reports now that a pod ended at an earlier time.
    fn report_end(&mut self, pod: &str, ended: u64) {
        let ended = Moment::exactly(time(ended));
        self.meter.ended(self.pod(NODE, pod), ended, None, time(self.now));
    }

    /// The exporter reports these counters, in joules.
    fn read_all(&mut self, counters: &[(&str, Option<u64>)]) {
        let readings: Vec<Reading> = counters
            .iter()
            .map(|(device, joules)| Reading {
                device: name(device),
                counter_mj: joules.map(milli),
                ..Reading::default()
            })
            .collect();
        self.readings(&readings);
    }

    fn readings(&mut self, readings: &[Reading]) {
        self.meter.readings(&name(NODE), Moment::exactly(time(self.now)), readings);
    }

    /// The exporter reports the counter of `GPU-a`, in joules.
    fn read(&mut self, joules: u64) {
        self.read_all(&[("GPU-a", Some(joules))]);
    }

    /// The exporter reports `GPU-a` without a counter.
    fn read_blank(&mut self) {
        self.read_all(&[("GPU-a", None)]);
    }

    /// Books everything until now.
    fn book(&mut self) {
        self.meter.advance(time(self.now));
        self.durable.extend(self.meter.take_entries());
        assert_eq!(self.meter.check(), Ok(()));
    }

    /// The auditor is killed and continues from what is durable.
    fn restart(&mut self) {
        let entries = self
            .durable
            .iter()
            .map(|entry| serde_json::from_str(&serde_json::to_string(entry).unwrap()).unwrap());
        self.meter = Meter::restore(config(), entries).unwrap();
    }

    fn flush(&mut self) {
        self.meter.flush();
        self.durable.extend(self.meter.take_entries());
    }

    fn node_entries(&self) -> impl Iterator<Item = &NodeEntry> {
        self.durable
            .iter()
            .filter_map(|entry| if let Entry::Node(entry) = entry { Some(&**entry) } else { None })
    }

    fn gaps(&mut self) -> Vec<Gap> {
        self.flush();
        self.node_entries().flat_map(|entry| entry.gaps.clone()).collect()
    }

    fn gap_kinds(&mut self) -> Vec<GapKind> {
        self.gaps().iter().map(|gap| gap.kind).collect()
    }

    /// Energy of a tenant, in joules.
    fn energy(&self, tenant: &str) -> Amount {
        let usage = Use::Lease(account(tenant));
        Amount::joules(self.meter.books().energy_where(|key, _| key.usage == usage))
    }

    /// Energy by one method, in joules.
    fn energy_by(&self, method: Method) -> u64 {
        self.meter.books().energy_where(|_, one| one == method).value / 1000
    }

    /// Time of a use, in seconds.
    fn time_of(&self, usage: &Use) -> Amount {
        let books = self.meter.books();
        let mut sum = Bounded::default();
        for (_, ms) in books.time.iter().filter(|(key, _)| key.usage == *usage) {
            sum.add(*ms);
        }
        Amount::seconds(sum)
    }

    /// Time of a tenant, in seconds.
    fn leased(&self, tenant: &str) -> Amount {
        self.time_of(&Use::Lease(account(tenant)))
    }

    /// Sum over all pools of the books.
    fn total(&self, of: impl Fn(&PoolEntry) -> u64) -> u64 {
        self.meter.books().pools.values().map(of).sum()
    }

    /// Device-milliseconds.
    fn capacity(&self) -> u64 {
        self.total(|pool| pool.capacity_ms)
    }

    /// Energy by which the counters moved, in joules.
    fn moved(&self) -> u64 {
        self.total(|pool| pool.moved_mj) / 1000
    }

    /// Usage of a tenant since the story began.
    fn usage(&self, tenant: &str) -> Usage {
        self.usage_since(tenant, BEGIN)
    }

    fn usage_since(&self, tenant: &str, start: Timestamp) -> Usage {
        self.meter.usage(&registration(tenant), start)
    }

    /// A period of a tenant begins.
    fn begin_period(&mut self, tenant: &str, start: u64, end: u64) {
        let (registration, owner) = (registration(tenant), None);
        let period = Period { registration, owner, start: time(start), end: time(end) };
        self.meter.begin_periods([period]);
    }

    fn metered_until(&self, tenant: &str) -> Timestamp {
        self.usage(tenant).metered_until.unwrap()
    }
}

/// A miner at 500 W is displaced by an AI pod at 300 W, 40 s into a minute between two readings.
/// The counter has only the sum of their 26 kJ.
#[test]
fn a_miner_displaced_between_two_readings() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    site.read(kilojoules(1));
    site.at(seconds(30)).read(kilojoules(16));
    site.at(minutes(1)).read(kilojoules(31));
    site.at(seconds(100)).end("mine");
    site.bind("ai");
    site.at(minutes(2)).read(kilojoules(57));
    site.at(minutes(3)).read(kilojoules(75));
    site.at(seconds(200)).book();

    let (mine, ai) = (site.energy("mine"), site.energy("ai"));
    // Time is exact, and so is the sum.
    assert_eq!(site.leased("mine"), exactly(seconds(100)));
    assert_eq!(site.leased("ai"), exactly(seconds(100)));
    assert_eq!(mine.booked + ai.booked, kilojoules(74));
    assert_eq!(site.moved(), kilojoules(74));
    // Two thirds of the minute get two thirds of its energy; the truth, 50 kJ, is within the
    // bounds. (An exporter that refreshes every second is read half a second late, on average.)
    assert!(mine.booked.abs_diff(kilojoules(30) + kilojoules(26) * 2 / 3) < 300, "{mine:?}");
    assert!(mine.allows(kilojoules(50)), "{mine:?}");
    assert!(ai.allows(kilojoules(24)), "{ai:?}");
    // In 20 s the AI pod cannot have drawn more than 14 kJ of them at 700 W; a second of doubt is
    // added at each end for the times of pods, and one for the exporter's.
    assert!(mine.at_least >= kilojoules(30) + kilojoules(26) - at_limit(seconds(23)), "{mine:?}");
    // The upper bound counts against the miner's limit.
    let usage = site.usage("mine");
    assert!(usage.millijoules >= milli(kilojoules(50)), "{usage:?}");
    // Its power is measured where it was alone from one reading to the next.
    assert!((480..=500).contains(&usage.peak_watts), "{usage:?}");
}

/// The exporter refreshes every second and is read every second, now just before and now just after.
/// Between two such readings lies more or less than a second of energy, which is no power.
#[test]
fn readings_close_together_are_no_measure_of_power() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    for second in 0..60 {
        let age_ms = if second % 2 == 0 { 900 } else { 100 };
        site.at(second).read(1000 + (350 * (1000 * second + 1000 - age_ms)) / 1000);
    }
    site.book();
    let peak = site.usage("mine").peak_watts;
    assert!((350 * 5 / 6..=350).contains(&peak), "{peak}");
}

/// A machine boots twice between two answers, so that the reading after them is expected twice. An
/// answer that repeats its value may be the same reading: it says nothing about when it was taken.
#[test]
fn two_boots_between_two_answers_do_not_raise_the_power() {
    let mut site = Site::new();
    site.meter = Meter::new(Config { refresh_ms: milli(30), ..config() });
    site.boot("boot-1");
    site.devices(&["GPU-a"], 1);
    site.bind("mine");
    site.read(kilojoules(5));
    site.at(seconds(1)).book();
    site.at(seconds(5)).boot("boot-2");
    // The exporter starts with the machine, and refreshes at each half minute. The pod draws 300 W.
    site.at(seconds(10)).boot("boot-3");
    site.at(seconds(20)).read(0);
    site.at(seconds(28)).read(0);
    for half_minute in 1..=8 {
        let before = 300 * (30 * (half_minute - 1_u64)).saturating_sub(10);
        site.at(30 * half_minute - 1).read(before);
        site.at(30 * half_minute).read(300 * (30 * half_minute - 10));
    }
    site.at(minutes(5)).book();
    let peak = site.usage("mine").peak_watts;
    assert!((250..=300).contains(&peak), "{peak}");
}

/// Two pods hold one instance each of a partitioned device. The device counts once.
#[test]
fn instances_of_a_partitioned_device_are_one_device() {
    let mut site = Site::new();
    site.devices(&["GPU-a"], 2);
    site.bind("one");
    site.bind("two");
    site.read(0);
    site.at(seconds(100)).read(kilojoules(40));
    site.book();

    assert_eq!(site.capacity(), milli(seconds(100)));
    assert_eq!(site.total(|pool| pool.overcommitted_ms), milli(seconds(100)));
    assert_eq!((site.leased("one").booked, site.leased("two").booked), (50, 50));
    let (one, two) = (site.energy("one"), site.energy("two"));
    assert_eq!((one.booked, two.booked), (kilojoules(20), kilojoules(20)));
    assert_eq!(site.energy_by(Method::Shared), kilojoules(40));
    // One of them may have drawn all of it.
    assert_eq!((one.at_least, one.at_most), (0, kilojoules(40)));
}

/// A device is offered four times, and one pod holds one of the four slices. No other pod holds the
/// device, so that all its energy is the pod's.
#[test]
fn one_slice_of_a_time_sliced_device_has_all_of_it() {
    let mut site = Site::new();
    site.devices(&["GPU-a"], 4);
    site.bind("one");
    site.read(0);
    site.at(seconds(100)).read(kilojoules(40));
    site.book();

    assert_eq!(site.capacity(), milli(seconds(100)));
    assert_eq!(site.total(|pool| pool.overcommitted_ms), 0);
    assert_eq!(site.leased("one").booked, seconds(100));
    assert_eq!(site.energy("one"), exactly(kilojoules(40)));
    assert_eq!(site.energy_by(Method::Counter), kilojoules(40));
}

/// A leased device is replaced by another one with its own counter. The old one's energy after its
/// last reading is bounded, and the new one's count from before is ignored.
#[test]
fn a_replaced_device() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    site.read(kilojoules(1));
    site.at(minutes(1)).read(kilojoules(31));
    site.at(seconds(80)).devices(&["GPU-b"], 1);
    site.at(seconds(90)).read_all(&[("GPU-b", Some(kilojoules(900)))]);
    site.at(minutes(2)).read_all(&[("GPU-b", Some(kilojoules(915)))]);
    site.at(seconds(150)).book();

    assert_eq!(site.moved(), kilojoules(45));
    let mine = site.energy("mine");
    // 20 s of the old one and 10 s of the new one were never read: 15 kJ more are the truth.
    assert_eq!(mine.booked, kilojoules(45));
    assert!(mine.at_most >= kilojoules(60), "{mine:?}");
    assert!(mine.at_most <= kilojoules(45) + at_limit(seconds(33)), "{mine:?}");
    assert_eq!(site.capacity(), milli(seconds(150)));
    assert_eq!(site.gap_kinds(), [GapKind::Left, GapKind::First]);
    let devices = |joined: bool| -> Vec<Name> {
        let devices = site.node_entries().flat_map(|entry| &entry.devices);
        let some = devices.filter(|one| one.joined == joined);
        some.map(|one| one.device.id.clone()).collect()
    };
    assert_eq!(devices(true), [name("GPU-a"), name("GPU-b")]);
    assert_eq!(devices(false), [name("GPU-a")]);
}

/// An exporter is restarted: no answer for a while, then its devices without values, then as
/// before. The counter is the device's own and continued: no energy is lost and no bound grows.
#[test]
fn an_exporter_that_restarts() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    site.read(kilojoules(1));
    site.book();
    site.at(minutes(3)).read_blank();
    site.book();
    assert_eq!(site.usage("mine").millijoules, 0);
    assert!(site.metered_until("mine") <= time(0));
    site.at(minutes(4)).read(kilojoules(121));
    site.book();

    assert_eq!(site.energy("mine"), exactly(kilojoules(120)));
    assert_eq!(site.gap_kinds(), [GapKind::Unread]);
}

/// A node boots again and its counter starts at 0. Its count between the last reading and the boot
/// is lost: it is bounded by what the device can draw.
#[test]
fn a_reboot_that_resets_the_counter() {
    let mut site = Site::new();
    site.boot("boot-1");
    site.devices(&["GPU-a"], 1);
    site.bind("mine");
    site.read(kilojoules(5));
    site.at(minutes(1)).read(kilojoules(35));
    site.at(seconds(70)).book();
    site.at(seconds(90)).boot("boot-2");
    site.at(minutes(2)).read(kilojoules(10));
    site.at(seconds(130)).book();

    let mine = site.energy("mine");
    assert_eq!(mine.booked, kilojoules(30) + kilojoules(10));
    assert!(mine.at_least >= kilojoules(40), "{mine:?}");
    assert!(mine.at_most >= kilojoules(30) + at_limit(minutes(1)), "{mine:?}");
    assert!(mine.at_most <= kilojoules(30) + at_limit(seconds(63)), "{mine:?}");
    let gaps = site.gaps();
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].kind, gaps[0].millijoules), (GapKind::Reset, milli(kilojoules(10))));
}

/// After a boot the counter was reset, even if it has passed its old value when it is read again.
#[test]
fn a_reboot_that_the_counter_does_not_show() {
    let mut site = Site::new();
    site.boot("boot-1");
    site.devices(&["GPU-a"], 1);
    site.bind("mine");
    site.read(5);
    site.at(seconds(10)).book();
    site.at(seconds(20)).boot("boot-2");
    site.at(minutes(1)).read(kilojoules(20));
    site.at(seconds(70)).book();

    assert_eq!(site.energy("mine").booked, kilojoules(20));
    assert_eq!(site.gap_kinds(), [GapKind::Reset]);
}

/// A counter that is missing once proves nothing. Its next value covers the time.
#[test]
fn a_blank_is_bridged() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    site.read(0);
    site.at(minutes(1)).read_blank();
    site.at(minutes(2)).read(kilojoules(60));
    site.at(seconds(130)).book();

    assert_eq!(site.energy("mine"), exactly(kilojoules(60)));
    assert_eq!(site.gap_kinds(), []);
}

/// While the auditor was down, a node joined, a lease on it ended, and the node left. The
/// controller's record is booked in the pool that it names, though nothing else is known.
#[test]
fn a_lease_of_a_node_that_is_gone_is_booked_in_its_pool() {
    let mut site = Site::new();
    site.at(seconds(1000)).book();
    let (gone, pool) = (name("gone"), name("hall"));
    site.meter.was_of_pool(&gone, &pool, time(seconds(1010)));
    site.bound.insert("mine".into(), seconds(100));
    let ended = time(seconds(900));
    site.meter.ended(site.pod("gone", "mine"), Moment::exactly(ended), None, ended);
    site.at(seconds(1100)).book();

    let books = site.meter.books();
    let of_pool: Vec<_> = books.time.keys().map(|key| key.pool.clone()).collect();
    assert!(!of_pool.is_empty() && of_pool.iter().all(|of| of.as_ref() == Some(&pool)));
    let mine = site.leased("mine");
    assert_eq!((mine.at_least, mine.booked), (0, 0));
    assert!(mine.at_most >= seconds(800), "{mine:?}");
}

/// The exporter is down for an hour. The energy of that hour is booked, and the hour is recorded as
/// a gap.
#[test]
fn an_hour_without_a_reading_is_a_gap() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    site.read(0);
    site.at(hours(1)).read(kilojoules(1440));
    site.at(hours(1) + seconds(10)).book();

    assert_eq!(site.energy("mine"), exactly(kilojoules(1440)));
    let gaps = site.gaps();
    assert_eq!((gaps[0].kind, gaps[0].millijoules), (GapKind::Unread, milli(kilojoules(1440))));
    assert_eq!((gaps.len(), gaps[0].between.width() / milli(minutes(1))), (1, 60));
}

/// An exporter repeats an old value for an hour. However recent its answers are, nothing is metered
/// since the value changed: an energy limit waits until it changes again.
#[test]
fn an_exporter_that_repeats_itself() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    site.read(0);
    site.at(minutes(1)).read(kilojoules(30));
    for minute in 2..=60 {
        site.at(minutes(minute)).read(kilojoules(30));
        site.book();
    }
    assert_eq!(site.usage("mine").millijoules, milli(kilojoules(30)));
    assert!(site.metered_until("mine") <= time(minutes(1)), "{:?}", site.usage("mine"));

    site.at(minutes(61)).read(kilojoules(1830));
    site.book();
    assert_eq!(site.energy("mine"), exactly(kilojoules(1830)));
    assert!(site.metered_until("mine") >= time(minutes(61) - seconds(2)));
}

/// A counter moves by more than its device can draw. The difference is recorded but not booked; the
/// bound is what the device can have drawn.
#[test]
fn a_jump_is_not_believed() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    site.read(0);
    site.at(minutes(1)).read(kilojoules(9000));
    site.at(minutes(2)).read(kilojoules(9030));
    site.at(seconds(130)).book();

    let mine = site.energy("mine");
    assert_eq!(mine.booked, kilojoules(30));
    assert!(mine.at_most >= kilojoules(30) + at_limit(minutes(1)), "{mine:?}");
    assert!(mine.at_most <= kilojoules(30) + at_limit(seconds(63)), "{mine:?}");
    let gaps = site.gaps();
    assert_eq!((gaps[0].kind, gaps[0].millijoules), (GapKind::Jump, milli(kilojoules(9000))));
}

/// A node with a miner is lost. It was last known after a minute and is given up after six: the
/// lease ended somewhere in between, and so did its energy.
#[test]
fn a_node_that_is_lost() {
    let (last_known, given_up) = (minutes(1), minutes(6));
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    site.read(0);
    site.at(last_known).read(kilojoules(30));
    site.book();
    site.meter.node_gone(&name(NODE), time(given_up));
    site.at(given_up + seconds(1)).book();
    site.at(seconds(1000)).book();

    let leased = site.leased("mine");
    assert!(leased.at_least <= last_known && leased.at_most >= given_up, "{leased:?}");
    let mine = site.energy("mine");
    assert!(mine.at_least <= kilojoules(30), "{mine:?}");
    assert!(mine.at_most >= kilojoules(30) + at_limit(given_up - last_known), "{mine:?}");
    assert!(mine.at_most <= kilojoules(30) + at_limit(seconds(305)), "{mine:?}");
    let usage = site.usage("mine");
    let most = milli(kilojoules(30) + at_limit(given_up - last_known));
    assert!(usage.millijoules >= most, "{usage:?}");
    let gaps = site.gaps();
    let unseen = gaps.iter().find(|gap| gap.kind == GapKind::Unseen).unwrap();
    assert_eq!(unseen.between, Moment::between(time(last_known), time(given_up)));
    // Its device left with it: there is no capacity after it was given up.
    assert_eq!(site.capacity(), milli(given_up));
}

/// The auditor is down for an hour. The lease of a pod that waits for it is booked to the
/// millisecond, that of a pod without a trace as an interval; the counters cover the hour.
#[test]
fn an_hour_without_the_auditor() {
    let mut site = Site::with(&["GPU-a", "GPU-b"]);
    site.bind("ours");
    site.bind("foreign");
    site.read_all(&[("GPU-a", Some(0)), ("GPU-b", Some(0))]);
    site.at(minutes(1)).book();
    site.restart();

    // Both ended after half an hour.
    site.at(minutes(61)).devices(&["GPU-a", "GPU-b"], 2);
    site.report_end("ours", minutes(30));
    let present: FxHashSet<Name> = [site.pod(NODE, "ours").uid].into_iter().collect();
    site.meter.vanished(&present, time(site.now));
    site.read_all(&[("GPU-a", Some(kilojoules(900))), ("GPU-b", Some(kilojoules(540)))]);
    site.at(minutes(61) + seconds(10)).book();

    assert_eq!(site.leased("ours"), exactly(minutes(30)));
    let leased = site.leased("foreign");
    assert!(leased.at_least <= minutes(1) && leased.at_most >= minutes(61), "{leased:?}");
    // All that the counters moved is booked, and neither drew more than all of it.
    assert_eq!(site.moved(), kilojoules(1440));
    let (ours, foreign) = (site.energy("ours"), site.energy("foreign"));
    assert!(ours.allows(kilojoules(900)) && ours.at_most <= kilojoules(1440), "{ours:?}");
    assert!(foreign.at_most >= kilojoules(540), "{foreign:?}");
    assert!(foreign.at_most <= kilojoules(1440), "{foreign:?}");

    // Repeating the observation has no effect.
    site.report_end("ours", minutes(30));
    site.at(minutes(61) + seconds(20)).book();
    assert_eq!(site.leased("ours"), exactly(minutes(30)));
}

/// The clock is set back by ten minutes during a lease. No time is booked twice and none is
/// negative, and the energy in between still counts against the limit.
#[test]
fn a_clock_that_is_set_back() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    site.read(0);
    site.at(minutes(10)).read(kilojoules(300));
    site.book();
    // A minute later the clock shows one minute, then two, and so on.
    for minute in 1..=12 {
        site.at(minutes(minute)).read(kilojoules(300 + 30 * minute));
        site.book();
    }
    // The lease has lasted 21 minutes and more, of which the clock counted twelve.
    let mine = site.leased("mine");
    assert_eq!((mine.at_least, mine.booked), (minutes(12), minutes(12)));
    assert!(mine.at_most >= minutes(21), "{mine:?}");
    assert_eq!(site.capacity(), milli(minutes(12)));
    assert_eq!(site.gap_kinds(), [GapKind::Unread, GapKind::Backwards]);
    let usage = site.usage("mine");
    assert!(usage.millijoules >= milli(kilojoules(660)), "{usage:?}");
    // The energy of 22 minutes over twelve minutes of clock time is not a power.
    assert!(usage.peak_watts <= 520, "{usage:?}");
}

/// A pod without GPUs is booked up to when it was observed, ahead of the horizon. The clock of an
/// auditor that starts again at once was not set back.
#[test]
fn a_restart_within_the_lag_is_no_step_of_the_clock() {
    let mut site = Site::with(&["GPU-a"]);
    site.read(0);
    site.at(10).book();
    site.at(11).bound.insert("light".into(), 10);
    let mut light = site.pod("elsewhere", "light");
    light.gpus = 0;
    light.bound = Moment { earliest: time(10), latest: time(11) };
    site.meter.lease(light, time(11));
    site.at(10).book();
    site.flush();
    site.restart();
    site.at(10).book();
    let clocks = site.durable.iter().filter(|entry| matches!(entry, Entry::Clock { .. }));
    assert_eq!(clocks.count(), 0);
    assert_eq!(site.gaps(), []);
}

/// No lease holds the device. Its energy is idle up to that of an idle device, and unexplained
/// above.
#[test]
fn a_device_that_works_without_a_lease() {
    let mut site = Site::with(&["GPU-a"]);
    site.read(0);
    site.at(seconds(100)).read(kilojoules(45));
    site.at(seconds(110)).book();

    // The exporter's values are half a second old on average: that lies before the device joined.
    let (idle, unexplained) =
        (site.energy_by(Method::Counter), site.energy_by(Method::Unexplained));
    assert_eq!(site.moved(), kilojoules(45));
    assert!(idle.abs_diff(kilojoules(10)) <= 100, "{idle}");
    assert!(unexplained.abs_diff(kilojoules(35)) <= 100, "{unexplained}");
    assert_eq!(site.time_of(&Use::Idle).booked, seconds(110));
}

/// A device that its node has but does not offer is neither idle nor lost.
#[test]
fn a_device_that_its_node_does_not_offer() {
    let mut site = Site::new();
    site.devices(&["GPU-a", "GPU-b"], 1);
    site.bind("mine");
    site.at(seconds(100)).book();
    assert_eq!(site.leased("mine").booked, seconds(100));
    assert_eq!(site.time_of(&Use::Unavailable).booked, seconds(100));
    assert_eq!(site.time_of(&Use::Idle).booked, 0);
}

/// Without an exporter, declared energy is booked and marked as such. An energy limit counts what
/// the device can draw.
#[test]
fn no_exporter_at_all() {
    let mut site = Site::with(&["n/0"]);
    site.bind("mine");
    site.at(seconds(100)).book();
    assert_eq!(site.energy_by(Method::Declared), kilojoules(40));
    // The declaration may be wrong in both directions.
    let mine = site.energy("mine");
    assert_eq!((mine.at_least, mine.booked), (0, kilojoules(40)));
    assert_eq!(mine.at_most, at_limit(seconds(100)));
    assert_eq!(site.moved(), 0);
    let usage = site.usage("mine");
    assert_eq!(usage.millijoules, milli(at_limit(seconds(100))));
    assert_eq!(usage.metered_until, Some(time(seconds(100))));
}

/// The exporter is switched on after a while. What was declared until then is neither a gap nor
/// counted again.
#[test]
fn an_exporter_that_is_switched_on_later() {
    let mut site = Site::with(&["n/0", "n/1"]);
    site.bind("mine-0");
    site.bind("mine-1");
    site.at(minutes(60)).book();
    let before = site.usage("mine").millijoules;
    assert_eq!(before, milli(at_limit(2 * minutes(60))));

    site.devices(&["GPU-a", "GPU-b"], 2);
    site.read_all(&[("GPU-a", Some(9)), ("GPU-b", Some(9))]);
    site.at(minutes(61));
    site.read_all(&[("GPU-a", Some(9 + 27_000)), ("GPU-b", Some(9 + 27_000))]);
    site.at(minutes(62)).book();
    assert_eq!(site.gap_kinds(), []);
    assert_eq!(site.energy_by(Method::Declared), 2 * 400 * minutes(60));
    assert_eq!(site.moved(), 2 * 27_000);
    assert_eq!(site.usage("mine").millijoules, before + milli(2 * 27_000));
    let mine = site.energy("mine");
    assert_eq!(mine.at_most, at_limit(2 * minutes(60)) + 2 * 27_000);
}

/// A tenant edits the period of its limit, waits, and takes the edit back. The count of the first
/// period never stopped.
#[test]
fn a_period_there_and_back() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    let (year, month) = (seconds(0), seconds(50));
    site.begin_period("mine", year, hours(9000));
    site.read(0);
    site.at(minutes(1)).read(kilojoules(30));
    site.book();
    let used = site.usage_since("mine", time(year)).millijoules;
    assert_eq!(used, milli(kilojoules(30)));
    site.begin_period("mine", month, hours(700));
    assert_eq!(site.usage_since("mine", time(month)).millijoules, 0);
    site.at(minutes(2)).read(kilojoules(50));
    site.at(seconds(130)).book();
    site.begin_period("mine", year, hours(9000));
    for _ in 0..2 {
        assert_eq!(site.usage_since("mine", time(year)).millijoules, milli(kilojoules(50)));
        assert_eq!(site.usage_since("mine", time(month)).millijoules, milli(kilojoules(20)));
        site.flush();
        site.durable.extend(site.meter.snapshot());
        site.restart();
    }
}

/// Counters of eight devices that draw 350 W each, with labels that name these pods.
fn read_eight(site: &mut Site, at: u64, pods: Option<&[&str; 8]>) {
    let readings: Vec<Reading> = (0..8)
        .map(|number| Reading {
            device: EIGHT[number].into(),
            counter_mj: Some(milli(350 * at)),
            power_mw: None,
            holder: pods.map(|pods| format!("{}/pod", pods[number]).into()),
        })
        .collect();
    site.at(at).readings(&readings);
}

const EIGHT: [&str; 8] = ["GPU-0", "GPU-1", "GPU-2", "GPU-3", "GPU-4", "GPU-5", "GPU-6", "GPU-7"];

/// Eight pods of one tenant hold eight devices. One of them is replaced by a pod between two
/// readings that are 30 s apart.
fn one_of_eight_replaced(by: &str, has_labels: bool) -> Site {
    let before = ["mine-0", "mine-1", "mine-2", "mine-3", "mine-4", "mine-5", "mine-6", "mine-7"];
    let mut after = before;
    after[0] = by;
    let labels = |pods| has_labels.then_some(pods);
    let mut site = Site::new();
    site.devices_of_watts(1500, &EIGHT, 8);
    before.iter().for_each(|pod| site.bind(pod));
    for at in [0, 129, 130] {
        read_eight(&mut site, at, labels(&before));
    }
    site.at(seconds(145)).end("mine-0");
    site.bind(by);
    for at in [160, 161, 190] {
        read_eight(&mut site, at, labels(&after));
    }
    site.at(seconds(191)).book();
    assert_eq!(site.moved(), 8 * 350 * 190);
    site
}

/// Between two pods of one tenant nothing is in doubt, whichever of them had the device.
#[test]
fn one_of_eight_is_replaced_by_a_pod_of_the_same_tenant() {
    for has_labels in [true, false] {
        let site = one_of_eight_replaced("mine-8", has_labels);
        assert_eq!(site.energy("mine"), exactly(8 * 350 * 190), "labels: {has_labels}");
        assert_eq!(site.usage("mine").millijoules, milli(8 * 350 * 190));
        assert_eq!(site.energy_by(Method::Shared), 0);
    }
}

/// Between pods of two tenants, what one device drew from one reading to the next is in doubt. The
/// others are not: labels name their holders, or else each pod has one device at most.
#[test]
fn one_of_eight_is_replaced_by_a_pod_of_another_tenant() {
    for has_labels in [true, false] {
        let site = one_of_eight_replaced("other", has_labels);
        let (mine, other) = (site.energy("mine"), site.energy("other"));
        // Of the 30 s, the other had the device for 14.5 s.
        let step = 350 * 30;
        assert_eq!(mine.at_most, mine.booked + 5_075, "labels: {has_labels}, {mine:?}");
        assert_eq!(mine.at_least, mine.booked - 5_425, "labels: {has_labels}, {mine:?}");
        assert_eq!(other.at_most - other.at_least, step, "labels: {has_labels}, {other:?}");
        assert_eq!(mine.at_most + other.at_least, 8 * 350 * 190);
    }
}

/// A device passes from one pod to the next of the same tenant, between two readings.
#[test]
fn one_device_passes_to_a_pod_of_the_same_tenant() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine-0");
    site.read(1000);
    site.at(seconds(2)).read(1700);
    site.at(seconds(31)).end("mine-0");
    site.bind("mine-1");
    site.at(seconds(62)).read(1000 + 21_700);
    site.at(seconds(70)).book();
    assert_eq!(site.energy("mine"), exactly(21_700));
}

/// Eight devices are first read five seconds after they joined with eight pods of one tenant. They
/// cannot have drawn more than at their limit, however many pods may have had each of them.
#[test]
fn a_first_reading_of_eight_devices() {
    let mut site = Site::new();
    site.devices_of_watts(1500, &EIGHT, 8);
    for number in 0..8 {
        site.bind(&format!("mine-{number}"));
    }
    read_eight(&mut site, seconds(5), None);
    site.at(seconds(6)).book();
    let mine = site.energy("mine");
    assert_eq!((mine.at_least, mine.booked), (0, 0));
    assert!(mine.at_most <= 8 * 1500 * 5, "{mine:?}");
}

/// Labels of a device that is offered twice name one of its pods at a time, now this one and now
/// that one. They prove nothing.
#[test]
fn labels_of_a_time_sliced_device_name_one_pod_at_a_time() {
    let mut site = Site::new();
    site.devices(&["GPU-a"], 2);
    site.bind("night");
    site.bind("serve");
    for (at, pod) in [(100, "serve"), (130, "night"), (160, "serve"), (190, "serve")] {
        let reading = Reading {
            device: name("GPU-a"),
            counter_mj: Some(milli(200 * at)),
            power_mw: None,
            holder: Some(format!("{pod}/pod").into()),
        };
        site.at(at).readings(&[reading]);
        site.book();
    }
    site.at(seconds(200)).book();
    for tenant in ["night", "serve"] {
        let energy = site.energy(tenant);
        assert_eq!((energy.at_least, energy.booked), (0, 9_000), "{tenant}");
        assert!(energy.at_most >= 18_000, "{tenant}: {energy:?}");
    }
    assert_eq!(site.energy_by(Method::Shared), 18_000);
}

/// Labels of the exporter name the holder of each device.
#[test]
fn labels_tell_two_pods_apart() {
    let mut site = Site::with(&["GPU-a", "GPU-b"]);
    site.bind("mine");
    site.bind("ai");
    let reading = |device: &str, joules: u64, tenant: &str| Reading {
        device: name(device),
        counter_mj: Some(milli(joules)),
        power_mw: None,
        holder: Some(format!("{tenant}/pod").into()),
    };
    for (time, mine, ai) in [(0, 0, 0), (10, 5, 2), (110, 55, 22)] {
        site.at(seconds(time)).readings(&[
            reading("GPU-a", kilojoules(mine), "mine"),
            reading("GPU-b", kilojoules(ai), "ai"),
        ]);
    }
    site.at(minutes(2)).book();
    assert_eq!(site.energy("mine"), exactly(kilojoules(55)));
    assert_eq!(site.energy("ai"), exactly(kilojoules(22)));
    assert_eq!(site.energy_by(Method::Shared), 0);
}

/// Without a counter, the trapezoid of the power is booked; the true energy is unknown.
#[test]
fn power_where_there_is_no_counter() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    for (time, watts) in [(0, 400), (60, 500)] {
        let power_mw = Some(milli(watts));
        let reading = Reading { device: name("GPU-a"), power_mw, ..Reading::default() };
        site.at(seconds(time)).readings(&[reading]);
    }
    site.at(seconds(70)).book();
    assert_eq!(site.energy_by(Method::Power), kilojoules(27));
    let mine = site.energy("mine");
    assert_eq!(mine.at_least, 0);
    assert!(mine.at_most >= at_limit(minutes(1)), "{mine:?}");
}

/// A calendar period begins: earlier usage no longer counts, and the books continue.
#[test]
fn a_period_begins() {
    let mut site = Site::with(&["GPU-a"]);
    site.bind("mine");
    site.begin_period("mine", 0, minutes(1));
    site.read(0);
    site.at(minutes(1)).read(kilojoules(30));
    site.book();
    site.begin_period("mine", minutes(1), minutes(2));
    site.at(minutes(2)).read(kilojoules(50));
    site.at(seconds(130)).book();

    let usage = site.usage_since("mine", time(minutes(1)));
    // The reading at one minute may be up to a second old: that second counts to both periods.
    let counted = milli(kilojoules(20))..=milli(kilojoules(22));
    assert!(counted.contains(&usage.millijoules), "{usage:?}");
    assert_eq!(site.energy("mine").booked, kilojoules(50));
    site.flush();
    site.restart();
    assert_eq!(site.usage_since("mine", time(minutes(1))), usage);
}

/// A machine boots twice, the first time before its devices are in the books. Each boot is a reset.
#[test]
fn two_boots_of_a_node_that_has_just_joined() {
    let mut site = Site::new();
    site.boot("boot-1");
    site.devices(&["GPU-a"], 1);
    site.bind("mine");
    site.read(kilojoules(5));
    site.at(seconds(1)).boot("boot-2");
    site.at(seconds(2)).book();
    site.at(minutes(1)).read(kilojoules(10));
    site.boot("boot-3");
    site.at(seconds(70)).book();
    // Its counter has passed the one before.
    site.at(minutes(2)).read(kilojoules(20));
    site.at(seconds(130)).book();
    assert_eq!(site.gap_kinds(), [GapKind::Reset, GapKind::Reset]);
    assert_eq!(site.energy("mine").booked, kilojoules(10) + kilojoules(20));
}

/// The end of a lease on a node that is gone is reported again until it is durable and released, also
/// after a restart. It counts once.
#[test]
fn an_end_on_a_node_that_is_gone_is_reported_again() {
    let mut site = Site::new();
    site.bound.insert("mine".into(), 0);
    site.at(seconds(20)).report_end("mine", seconds(10));
    let closed = |site: &Site| site.node_entries().map(|entry| entry.closed.len()).sum::<usize>();
    for second in 21..25 {
        site.at(seconds(second)).book();
        site.report_end("mine", seconds(10));
    }
    assert_eq!(closed(&site), 1);
    site.restart();
    site.at(seconds(30)).report_end("mine", seconds(10));
    site.book();
    assert_eq!(closed(&site), 1);
    // Nothing refers to it any more.
    site.meter.forget("uid-mine");
    site.at(minutes(3)).book();
    assert_eq!(site.meter.nodes().count(), 0);
    assert_eq!(closed(&site), 1);
}

/// Two pods of a registration overlap, and the auditor is killed between them. The registration operated
/// for the union of their times.
#[test]
fn a_registration_operates_while_one_of_its_pods_runs() {
    let mut site = Site::with(&["GPU-a", "GPU-b"]);
    let operated = |site: &Site| {
        let books = site.meter.written();
        let operating = books.operating.get(&registration("mine")).copied().unwrap_or_default();
        (operating.until(books.written_until) / 1000, operating.since.is_some())
    };
    site.at(seconds(10)).bind("mine-0");
    site.at(seconds(20)).book();
    site.at(seconds(30)).bind("mine-1");
    site.at(seconds(40)).end("mine-0");
    site.at(minutes(1)).book();
    site.flush();
    assert_eq!(operated(&site), (50, true));
    site.restart();
    assert_eq!(operated(&site), (50, true));
    site.at(minutes(2)).devices(&["GPU-a", "GPU-b"], 2);
    site.meter.lease(site.pod(NODE, "mine-1"), time(site.now));
    site.report_end("mine-1", seconds(100));
    site.book();
    assert_eq!(operated(&site), (90, false));
    site.at(minutes(5)).bind("mine-2");
    site.at(minutes(6)).end("mine-2");
    site.at(minutes(7)).book();
    let entries = site.meter.snapshot();
    site.meter = Meter::restore(config(), entries).unwrap();
    assert_eq!(operated(&site), (150, false));
}
