//! What the books say in situations that every site meets sooner or later.
//!
//! Each test is one story: devices draw whole watts, exporters are read at whole seconds, and the
//! figures can be checked by hand (watts × milliseconds are millijoules).

#![allow(clippy::unwrap_used, missing_docs)]

use daylight_base::{Name, Timestamp};
use daylight_meter::{
    Account, Books, Bounded, Config, DeviceSeen, Entry, Gap, GapKind, LeaseSeen, Meter, Method,
    Moment, Reading, Use,
};
use rustc_hash::FxHashSet;

const BEGIN: Timestamp = Timestamp(1_700_000_000_000);
const LIMIT_MW: u64 = 700_000;

fn name(text: &str) -> Name {
    text.into()
}

/// So many seconds after the story began.
fn second(s: u64) -> Timestamp {
    BEGIN.plus_millis(s * 1000)
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

/// A site of one pool whose exporters refresh every second.
struct Site {
    meter: Meter,
    durable: Vec<Entry>,
}

fn config() -> Config {
    Config { refresh_ms: 1000, limit_mw: LIMIT_MW, idle_mw: 100_000, ..Config::default() }
}

impl Site {
    fn new() -> Self {
        Self { meter: Meter::new(config()), durable: Vec::new() }
    }

    fn devices(&mut self, node: &str, devices: &[&str], usable: u32, s: u64) {
        let devices: Vec<DeviceSeen> = devices
            .iter()
            .map(|id| DeviceSeen { id: name(id), model: None, limit_mw: Some(LIMIT_MW) })
            .collect();
        self.meter.devices(&name(node), Some(&name("hall")), usable, &devices, second(s));
    }

    fn pod(node: &str, tenant: &str, gpus: u32, s: u64) -> LeaseSeen {
        LeaseSeen {
            uid: format!("uid-{tenant}").into(),
            pod: format!("{tenant}/pod").into(),
            node: name(node),
            gpus,
            account: account(tenant),
            watts: 400,
            bound: Moment::exactly(second(s)),
            started: None,
            owed: true,
        }
    }

    fn bind(&mut self, node: &str, tenant: &str, gpus: u32, s: u64) {
        self.meter.lease(Self::pod(node, tenant, gpus, s), second(s));
    }

    fn end(&mut self, node: &str, tenant: &str, gpus: u32, bound: u64, s: u64) {
        let seen = Self::pod(node, tenant, gpus, bound);
        self.meter.ended(seen, Moment::exactly(second(s)), None, second(s));
    }

    /// The exporter is asked and answers at once: counters in joules.
    fn read(&mut self, node: &str, s: u64, counters: &[(&str, Option<u64>)]) {
        let readings: Vec<Reading> = counters
            .iter()
            .map(|(device, joules)| Reading {
                device: name(device),
                counter_mj: joules.map(|joules| joules * 1000),
                ..Reading::default()
            })
            .collect();
        self.meter.readings(&name(node), Moment::exactly(second(s)), &readings);
    }

    fn advance(&mut self, s: u64) {
        self.meter.advance(second(s));
        self.durable.extend(self.meter.take_entries());
        assert_eq!(self.meter.check(), Ok(()));
    }

    /// The auditor is killed and goes on from what is durable.
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

    fn gaps(&mut self) -> Vec<Gap> {
        self.flush();
        let entries = self.durable.iter();
        entries
            .filter_map(|entry| if let Entry::Node(entry) = entry { Some(entry) } else { None })
            .flat_map(|entry| entry.gaps.clone())
            .collect()
    }

    fn gap_kinds(&mut self) -> Vec<GapKind> {
        self.gaps().iter().map(|gap| gap.kind).collect()
    }

    fn joules(&self, tenant: &str) -> Joules {
        let usage = Use::Lease(account(tenant));
        self.meter.books().energy_where(|key, _| key.usage == usage).into()
    }

    fn seconds(&self, usage: &Use) -> (u64, u64, u64) {
        let books = self.meter.books();
        let mut sum = Bounded::default();
        for (key, ms) in &books.time {
            if key.usage == *usage {
                sum.add(*ms);
            }
        }
        (sum.lower() / 1000, sum.value / 1000, sum.upper() / 1000)
    }

    fn leased(&self, tenant: &str) -> (u64, u64, u64) {
        self.seconds(&Use::Lease(account(tenant)))
    }
}

/// Joules, at least, booked, and at most.
#[derive(Debug, PartialEq, Eq)]
struct Joules(u64, u64, u64);

impl From<Bounded> for Joules {
    fn from(mj: Bounded) -> Self {
        Self(mj.lower() / 1000, mj.value / 1000, mj.upper().div_ceil(1000))
    }
}

fn moved(books: &Books) -> u64 {
    books.pools.values().map(|pool| pool.moved_mj).sum::<u64>() / 1000
}

fn of_method(books: &Books, method: Method) -> u64 {
    books.energy_where(|_, one| one == method).value / 1000
}

/// A miner at 500 W is displaced by an AI pod at 300 W, 40 s into a minute between two readings.
/// Nobody can tell who drew which of the 26 kJ: the counter says only the sum.
#[test]
fn a_miner_displaced_between_two_readings() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    for (s, joules) in [(0, 1000), (30, 16_000), (60, 31_000)] {
        site.read("n", s, &[("GPU-a", Some(joules))]);
    }
    site.end("n", "mine", 1, 0, 100);
    site.bind("n", "ai", 1, 100);
    site.read("n", 120, &[("GPU-a", Some(57_000))]);
    site.read("n", 180, &[("GPU-a", Some(75_000))]);
    site.advance(200);

    let (mine, ai) = (site.joules("mine"), site.joules("ai"));
    // Time is exact, and so is the sum.
    assert_eq!((site.leased("mine"), site.leased("ai")), ((100, 100, 100), (100, 100, 100)));
    assert_eq!(mine.1 + ai.1, 74_000);
    assert_eq!(moved(&site.meter.books()), 74_000);
    // Two thirds of the minute, two thirds of its energy; the truth, 50 kJ, is within the bounds.
    // (An exporter that refreshes every second was read half a second late, on average.)
    assert!(mine.1.abs_diff(30_000 + 26_000 * 2 / 3) < 300, "{mine:?}");
    assert!(mine.0 <= 50_000 && 50_000 <= mine.2, "{mine:?}");
    assert!(ai.0 <= 24_000 && 24_000 <= ai.2, "{ai:?}");
    // An AI pod of 20 s cannot have drawn more than 14 kJ of them at 700 W; a second of doubt is
    // added at each end for pods' times and one for the exporter's.
    assert!(mine.0 >= 30_000 + 26_000 - 23 * 700, "{mine:?}");
    // What counts against the miner's limit is the upper bound.
    let usage = site.meter.usage(&registration("mine"));
    assert!(usage.millijoules >= 50_000_000, "{usage:?}");
    // Its power is measured where it was alone from one reading to the next.
    assert!((500..=520).contains(&usage.peak_watts), "{usage:?}");
}

/// Two pods have an instance each of one partitioned device. The device counts once.
#[test]
fn instances_of_a_partitioned_device_are_one_device() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 2, 0);
    site.bind("n", "one", 1, 0);
    site.bind("n", "two", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(0))]);
    site.read("n", 100, &[("GPU-a", Some(40_000))]);
    site.advance(100);

    let books = site.meter.books();
    assert_eq!(books.pools.values().map(|pool| pool.capacity_ms).sum::<u64>(), 100_000);
    assert_eq!(books.pools.values().map(|pool| pool.overcommitted_ms).sum::<u64>(), 100_000);
    assert_eq!((site.leased("one").1, site.leased("two").1), (50, 50));
    assert_eq!((site.joules("one").1, site.joules("two").1), (20_000, 20_000));
    assert_eq!(of_method(&books, Method::Shared), 40_000);
    // One of them may have drawn all of it.
    assert_eq!((site.joules("one").0, site.joules("one").2), (0, 40_000));
}

/// A device is offered four times over, and one pod holds one of the four slices: nobody else has
/// the device, so that its energy is the pod's.
#[test]
fn one_slice_of_a_time_sliced_device_has_all_of_it() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 4, 0);
    site.bind("n", "one", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(0))]);
    site.read("n", 100, &[("GPU-a", Some(40_000))]);
    site.advance(100);

    let books = site.meter.books();
    assert_eq!(books.pools.values().map(|pool| pool.capacity_ms).sum::<u64>(), 100_000);
    assert_eq!(books.pools.values().map(|pool| pool.overcommitted_ms).sum::<u64>(), 0);
    assert_eq!(site.leased("one").1, 100);
    assert_eq!(site.joules("one"), Joules(40_000, 40_000, 40_000));
    assert_eq!(of_method(&books, Method::Counter), 40_000);
}

/// A device is replaced by another one with a counter of its own, under a lease. What the old one
/// drew after its last reading is bounded, and the new one's count from before is nobody's.
#[test]
fn a_replaced_device() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(1000))]);
    site.read("n", 60, &[("GPU-a", Some(31_000))]);
    site.devices("n", &["GPU-b"], 1, 80);
    site.read("n", 90, &[("GPU-b", Some(900_000))]);
    site.read("n", 120, &[("GPU-b", Some(915_000))]);
    site.advance(150);

    let books = site.meter.books();
    assert_eq!(moved(&books), 45_000);
    let mine = site.joules("mine");
    // 20 s of the old one and 10 s of the new one were never read: 15 kJ more are the truth.
    assert_eq!(mine.1, 45_000);
    assert!(mine.2 >= 60_000 && mine.2 <= 45_000 + 33 * 700, "{mine:?}");
    assert_eq!(books.pools.values().map(|pool| pool.capacity_ms).sum::<u64>(), 150_000);
    assert_eq!(site.gap_kinds(), [GapKind::Left, GapKind::First]);
    let devices = |joined: bool, site: &Site| -> Vec<Name> {
        let nodes = site.durable.iter().filter_map(|entry| match entry {
            Entry::Node(entry) => Some(&entry.devices),
            _ => None,
        });
        let some = nodes.flatten().filter(|one| one.joined == joined);
        some.map(|one| one.device.id.clone()).collect()
    };
    assert_eq!(devices(true, &site), [name("GPU-a"), name("GPU-b")]);
    assert_eq!(devices(false, &site), [name("GPU-a")]);
}

/// An exporter is restarted: no answer for a while, then its devices without figures, then as
/// before. The counter is the device's and went on: nothing is lost, and no bound grows.
#[test]
fn an_exporter_that_restarts() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(1000))]);
    site.advance(0);
    site.read("n", 180, &[("GPU-a", None)]);
    site.advance(180);
    assert_eq!(site.meter.usage(&registration("mine")).millijoules, 0);
    assert!(site.meter.usage(&registration("mine")).metered_until.unwrap() <= second(0));
    site.read("n", 240, &[("GPU-a", Some(121_000))]);
    site.advance(240);

    assert_eq!(site.joules("mine"), Joules(120_000, 120_000, 120_000));
    assert_eq!(site.gap_kinds(), [GapKind::Unread]);
}

/// A node boots again and its counter begins at 0. What it counted before the boot and after the
/// last reading is lost: bounded by what the device can draw.
#[test]
fn a_reboot_that_resets_the_counter() {
    let mut site = Site::new();
    site.meter.boot(&name("n"), &name("boot-1"), second(0));
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(5000))]);
    site.read("n", 60, &[("GPU-a", Some(35_000))]);
    site.advance(70);
    site.meter.boot(&name("n"), &name("boot-2"), second(90));
    site.read("n", 120, &[("GPU-a", Some(10_000))]);
    site.advance(130);

    let mine = site.joules("mine");
    assert_eq!(mine.1, 30_000 + 10_000);
    assert!(mine.0 >= 40_000, "{mine:?}");
    assert!(mine.2 >= 30_000 + 60 * 700 && mine.2 <= 30_000 + 63 * 700, "{mine:?}");
    let gaps = site.gaps();
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].kind, gaps[0].millijoules), (GapKind::Reset, 10_000_000));
}

/// A counter that is past its old value when it is read again did begin again, if the machine did.
#[test]
fn a_reboot_that_the_counter_does_not_show() {
    let mut site = Site::new();
    site.meter.boot(&name("n"), &name("boot-1"), second(0));
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(5))]);
    site.advance(10);
    site.meter.boot(&name("n"), &name("boot-2"), second(20));
    site.read("n", 60, &[("GPU-a", Some(20_000))]);
    site.advance(70);

    assert_eq!(site.joules("mine").1, 20_000);
    assert_eq!(site.gap_kinds(), [GapKind::Reset]);
}

/// A counter that is blank for once says nothing. The next one bridges it.
#[test]
fn a_blank_is_bridged() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(0))]);
    site.read("n", 60, &[("GPU-a", None)]);
    site.read("n", 120, &[("GPU-a", Some(60_000))]);
    site.advance(130);

    assert_eq!(site.joules("mine"), Joules(60_000, 60_000, 60_000));
    assert_eq!(site.gap_kinds(), []);
}

/// The auditor was away while a node came, a lease on it ended, and the node went. What the
/// controller wrote down is booked in the pool that it names, though nothing else is known.
#[test]
fn a_lease_of_a_node_that_is_gone_is_booked_in_its_pool() {
    let mut site = Site::new();
    site.advance(1_000);
    let (gone, pool) = (name("gone"), name("hall"));
    site.meter.was_of_pool(&gone, &pool, second(1_010));
    site.end("gone", "mine", 1, 100, 900);
    site.advance(1_100);

    let books = site.meter.books();
    let of_pool: Vec<_> = books.time.keys().map(|key| key.pool.clone()).collect();
    assert!(!of_pool.is_empty() && of_pool.iter().all(|of| of.as_ref() == Some(&pool)));
    let (least, booked, most) = site.leased("mine");
    assert!((least, booked) == (0, 0) && most >= 800, "{most}");
}

/// Its exporter is away for an hour: what the counter moved meanwhile is booked, and that nobody
/// looked is on record.
#[test]
fn an_hour_without_a_reading_is_a_gap() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(0))]);
    site.read("n", 3_600, &[("GPU-a", Some(1_440_000))]);
    site.advance(3_610);

    assert_eq!(site.joules("mine"), Joules(1_440_000, 1_440_000, 1_440_000));
    let gaps = site.gaps();
    assert_eq!((gaps[0].kind, gaps[0].millijoules), (GapKind::Unread, 1_440_000_000));
    assert_eq!((gaps.len(), gaps[0].between.width() / 60_000), (1, 60));
}

/// An exporter repeats an old value for an hour. Whatever its answers say of the time, nothing is
/// metered since the value changed: a limit on energy waits, until it changes again.
#[test]
fn an_exporter_that_repeats_itself() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(0))]);
    site.read("n", 60, &[("GPU-a", Some(30_000))]);
    for minute in 2..=60 {
        site.read("n", minute * 60, &[("GPU-a", Some(30_000))]);
        site.advance(minute * 60);
    }
    let usage = site.meter.usage(&registration("mine"));
    assert_eq!(usage.millijoules, 30_000_000);
    assert!(usage.metered_until.unwrap() <= second(60), "{usage:?}");

    site.read("n", 3660, &[("GPU-a", Some(1_830_000))]);
    site.advance(3660);
    assert_eq!(site.joules("mine"), Joules(1_830_000, 1_830_000, 1_830_000));
    assert!(site.meter.usage(&registration("mine")).metered_until.unwrap() >= second(3658));
}

/// A counter moves more than its device can draw. That is not believed: it is on record, and what
/// the device can have drawn is the bound.
#[test]
fn a_jump_is_not_believed() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(0))]);
    site.read("n", 60, &[("GPU-a", Some(9_000_000))]);
    site.read("n", 120, &[("GPU-a", Some(9_030_000))]);
    site.advance(130);

    let mine = site.joules("mine");
    assert_eq!(mine.1, 30_000);
    assert!(mine.2 >= 30_000 + 60 * 700 && mine.2 <= 30_000 + 63 * 700, "{mine:?}");
    let gaps = site.gaps();
    assert_eq!((gaps[0].kind, gaps[0].millijoules), (GapKind::Jump, 9_000_000_000));
}

/// A node is lost with a miner on it. It was last known at 60 s and is given up at 360 s: the
/// lease ended somewhere between, and so did what it drew.
#[test]
fn a_node_that_is_lost() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(0))]);
    site.read("n", 60, &[("GPU-a", Some(30_000))]);
    site.advance(60);
    site.meter.node_gone(&name("n"), second(360));
    site.advance(361);
    site.advance(1000);

    let (least, _, most) = site.leased("mine");
    assert!(least <= 60 && most >= 360, "{least} to {most} s");
    let mine = site.joules("mine");
    assert!(mine.0 <= 30_000 && mine.2 >= 30_000 + 300 * 700, "{mine:?}");
    assert!(mine.2 <= 30_000 + 305 * 700, "{mine:?}");
    let usage = site.meter.usage(&registration("mine"));
    assert!(usage.millijoules >= 30_000_000 + 300 * 700_000, "{usage:?}");
    let gaps = site.gaps();
    let unseen = gaps.iter().find(|gap| gap.kind == GapKind::Unseen).unwrap();
    assert_eq!(unseen.between, Moment::between(second(60), second(360)));
    // Its device left with it: there is no capacity after it was given up.
    assert_eq!(
        site.meter.books().pools.values().map(|pool| pool.capacity_ms).sum::<u64>(),
        360_000
    );
}

/// The auditor is down for an hour. A miner whose pod waits for it is booked to the millisecond,
/// one that is gone without a trace of its end as an interval; the counter bridges the hour.
#[test]
fn an_hour_without_the_auditor() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a", "GPU-b"], 2, 0);
    site.bind("n", "ours", 1, 0);
    site.bind("n", "foreign", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(0)), ("GPU-b", Some(0))]);
    site.advance(60);
    site.restart();

    // 1800 s in, both had ended.
    let now = 3660;
    site.devices("n", &["GPU-a", "GPU-b"], 2, now);
    let ours = Site::pod("n", "ours", 1, 0);
    let present: FxHashSet<Name> = [ours.uid.clone()].into_iter().collect();
    site.meter.ended(ours, Moment::exactly(second(1800)), None, second(now));
    site.meter.vanished(&present, second(now));
    site.read("n", now, &[("GPU-a", Some(900_000)), ("GPU-b", Some(540_000))]);
    site.advance(now + 10);

    assert_eq!(site.leased("ours"), (1800, 1800, 1800));
    let (least, _, most) = site.leased("foreign");
    assert!(least <= 60 && most >= 3660, "{least} to {most} s");
    // All of what the counters moved is booked, and neither drew more than all of it.
    let books = site.meter.books();
    assert_eq!(moved(&books), 1_440_000);
    let (ours, foreign) = (site.joules("ours"), site.joules("foreign"));
    assert!(ours.0 <= 900_000 && 900_000 <= ours.2 && ours.2 <= 1_440_000, "{ours:?}");
    assert!(foreign.2 >= 540_000 && foreign.2 <= 1_440_000, "{foreign:?}");

    // To hear all of it again changes nothing.
    site.end("n", "ours", 1, 0, 1800);
    site.advance(now + 20);
    assert_eq!(site.leased("ours"), (1800, 1800, 1800));
}

/// The clock is set back by ten minutes in the middle of a lease. Time is never booked twice nor
/// negative, and what the counter moved meanwhile still counts against the limit.
#[test]
fn a_clock_that_is_set_back() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.read("n", 0, &[("GPU-a", Some(0))]);
    site.read("n", 600, &[("GPU-a", Some(300_000))]);
    site.advance(600);
    // 60 s later it is 60 s, and so on.
    for minute in 1..=12 {
        site.read("n", minute * 60, &[("GPU-a", Some(300_000 + minute * 30_000))]);
        site.advance(minute * 60);
    }
    // It was there for 1260 s, of which the clock told 720.
    let (least, booked, most) = site.leased("mine");
    assert_eq!((least, booked), (720, 720));
    assert!(most >= 1260, "{most}");
    assert_eq!(
        site.meter.books().pools.values().map(|pool| pool.capacity_ms).sum::<u64>(),
        720_000
    );
    assert_eq!(site.gap_kinds(), [GapKind::Unread, GapKind::Backwards]);
    let usage = site.meter.usage(&registration("mine"));
    assert!(usage.millijoules >= 660_000_000, "{usage:?}");
    // Twenty-two minutes' energy in twelve minutes' time is no one's power.
    assert!(usage.peak_watts <= 520, "{usage:?}");
}

/// Nobody has the device. Up to what an idle one draws it is idle, what is above is unexplained.
#[test]
fn a_device_that_works_for_nobody() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.read("n", 0, &[("GPU-a", Some(0))]);
    site.read("n", 100, &[("GPU-a", Some(45_000))]);
    site.advance(110);

    let books = site.meter.books();
    // Half a second of the exporter's age lies before the device joined.
    let (idle, unexplained) =
        (of_method(&books, Method::Counter), of_method(&books, Method::Unexplained));
    assert_eq!(moved(&books), 45_000);
    assert!(idle.abs_diff(10_000) <= 100, "{idle}");
    assert!(unexplained.abs_diff(35_000) <= 100, "{unexplained}");
    assert_eq!(site.seconds(&Use::Idle).1, 110);
}

/// A device that a node has and does not offer is neither idle nor lost.
#[test]
fn a_device_that_its_node_does_not_offer() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a", "GPU-b"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.advance(100);
    assert_eq!(site.leased("mine").1, 100);
    assert_eq!(site.seconds(&Use::Unavailable).1, 100);
    assert_eq!(site.seconds(&Use::Idle).1, 0);
}

/// Without any exporter, what is declared is booked, and said to be so; a limit on energy has no
/// meter to go by.
#[test]
fn no_exporter_at_all() {
    let mut site = Site::new();
    site.devices("n", &["n/0"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.advance(100);
    let books = site.meter.books();
    assert_eq!(of_method(&books, Method::Declared), 40_000);
    // It may be no more than a declaration.
    assert_eq!(site.joules("mine"), Joules(0, 40_000, 70_000));
    assert_eq!(moved(&books), 0);
    assert_eq!(site.meter.usage(&registration("mine")).metered_until, None);
}

/// Labels of the exporter say which device is whose.
#[test]
fn labels_tell_two_pods_apart() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a", "GPU-b"], 2, 0);
    site.bind("n", "mine", 1, 0);
    site.bind("n", "ai", 1, 0);
    // Since when each has its own is known from the second reading on.
    for (s, one, other) in [(0, 0, 0), (10, 5000, 2000), (110, 55_000, 22_000)] {
        let reading = |device: &str, joules: u64, tenant: &str| Reading {
            device: name(device),
            counter_mj: Some(joules * 1000),
            power_mw: None,
            holder: Some(format!("{tenant}/pod").into()),
        };
        let readings = [reading("GPU-a", one, "mine"), reading("GPU-b", other, "ai")];
        site.meter.readings(&name("n"), Moment::exactly(second(s)), &readings);
    }
    site.advance(120);
    assert_eq!(site.joules("mine"), Joules(50_000, 55_000, 57_000));
    assert_eq!(site.joules("ai"), Joules(20_000, 22_000, 27_000));
    assert_eq!(of_method(&site.meter.books(), Method::Shared), 0);
}

/// Without a counter, the trapezoid of the power; what it really drew is not known.
#[test]
fn power_where_there_is_no_counter() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    for (s, watts) in [(0, 400), (60, 500)] {
        let reading =
            Reading { device: name("GPU-a"), power_mw: Some(watts * 1000), ..Reading::default() };
        site.meter.readings(&name("n"), Moment::exactly(second(s)), &[reading]);
    }
    site.advance(70);
    assert_eq!(of_method(&site.meter.books(), Method::Power), 27_000);
    let mine = site.joules("mine");
    assert_eq!(mine.0, 0);
    assert!(mine.2 >= 60 * 700, "{mine:?}");
}

/// When a calendar period begins, what was used before counts no more, and the books go on.
#[test]
fn a_period_begins() {
    let mut site = Site::new();
    site.devices("n", &["GPU-a"], 1, 0);
    site.bind("n", "mine", 1, 0);
    site.meter.begin_periods([(registration("mine"), second(0))]);
    site.read("n", 0, &[("GPU-a", Some(0))]);
    site.read("n", 60, &[("GPU-a", Some(30_000))]);
    site.advance(60);
    site.meter.begin_periods([(registration("mine"), second(60))]);
    site.read("n", 120, &[("GPU-a", Some(50_000))]);
    site.advance(130);

    let usage = site.meter.usage(&registration("mine"));
    assert_eq!(usage.start, second(60));
    // The half second in which the reading at 60 s may really be is counted on either side.
    assert!((20_000_000..=22_000_000).contains(&usage.millijoules), "{usage:?}");
    assert_eq!(site.joules("mine").1, 50_000);
    site.flush();
    site.restart();
    assert_eq!(site.meter.usage(&registration("mine")).millijoules, usage.millijoules);
}
