//! Duration of one scrape of `/metrics` on a large site, and its number of series, for the
//! controller and the auditor.
//!
//! ```text
//! cargo run --release -p daylight --example scrape
//! ```
//!
//! The site has 10,000 nodes with 8 GPUs, 80,000 pods that hold all of them, 1,000 approved
//! registrations with every kind of limit, 50 classes and 5 pools. The metrics of each process are
//! set from it as in its main loop, and read over HTTP from the server of the process.

mod large_site;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use daylight::auditor;
use daylight::controller::events::Events;
use daylight::controller::mirrors::Mirrors;
use daylight::controller::state::State;
use daylight::controller::{gauges, metrics::Metrics};
use daylight::serving::{self, Health, ScrapeLock, Served};
use daylight::view::View;
use daylight_base::{Name, Timestamp};
use daylight_cluster::{Change, Event, Kind, Round};
use daylight_meter::{
    Account, Config, Meter, Moment, ObservedDevice, ObservedLease, Reading, Requested,
};
use daylight_planner::Planner;
use daylight_planner::model::Snapshot;
use prometheus::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use large_site::{Error, GPUS, NODES, Shape, Site, VERSION, median_and_longest, node_name};

const SCRAPES: usize = 20;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let site = Site::new(Shape {
        ai_pods: 20_000,
        pools: 5,
        mining_classes: 10,
        ai_classes: 40,
        registrations: 1_000,
        miners: 1_000,
        every_limit: true,
    })?;
    let state = controller(&site)?;
    scrape("controller", state.metrics.registry()).await?;
    drop(state);
    let metrics = auditor(&site)?;
    scrape("auditor", metrics.registry()).await
}

/// Returns the controller's state with its metrics as after a plan.
fn controller(site: &Site) -> Result<State, Error> {
    let now = Timestamp(jiff::Timestamp::now().as_millisecond());
    let mut view = View::new(now);
    let mut deltas = Vec::new();
    macro_rules! list {
        ($($kind:ident)*) => {$(
            // Without Miner objects, as the published figures were measured.
            let count = if Kind::$kind == Kind::Miner { 0 } else { site.count(Kind::$kind) };
            for number in 0..count {
                let object = serde_json::from_value(site.object(Kind::$kind, number))?;
                view.apply(Event::$kind(Change::Item(object)), now, &mut deltas);
            }
            let listed = Change::Listed { version: VERSION, round: Round(0) };
            view.apply(Event::$kind(listed), now, &mut deltas);
        )*};
    }
    list!(
        GpuPool ActivityClass Registration Node Pod Namespace BatchJob Miner AiJob EmergencyStop
        RegistrationMirror ClassMirror AuthorityKeys Workload
    );
    let mut planner = Planner::new(Snapshot::default());
    for delta in deltas {
        planner.apply(delta);
    }
    let plan = planner.plan(now);
    let state = State::new(view, Events::new("example"), Metrics::new()?);
    let mirrors = Mirrors::new("daylight-system");
    let set = || assert!(gauges::set(&plan, &state, &mirrors), "no scrape is under way");
    let times = (0..SCRAPES).map(|_| took(set)).collect();
    println!("the controller's metrics are set in {:.1?}", median_and_longest(times).0);
    Ok(state)
}

/// Returns the auditor's metrics after two rounds of readings.
fn auditor(site: &Site) -> Result<auditor::metrics::Metrics, Error> {
    const BEGIN: Timestamp = Timestamp(1_782_907_200_000);
    const MINUTE: u64 = 60_000;
    let mut meter = Meter::new(Config::default());
    let nodes: Vec<Name> = (0..NODES).map(|number| node_name(number).into()).collect();
    let device = |number: usize, slot: usize| Name::from(format!("GPU-{number:08x}-{slot}"));
    for (number, node) in nodes.iter().enumerate() {
        let devices: Vec<ObservedDevice> = (0..GPUS)
            .map(|slot| ObservedDevice { id: device(number, slot), model: None, limit_mw: None })
            .collect();
        let pool = Name::from(site.pool_of(number));
        meter.devices(node, Some(&pool), GPUS as u32, &devices, BEGIN);
        for slot in 0..GPUS {
            let holder = site.holder(number, slot);
            let namespace = holder.namespace;
            let registration = holder.registration.map(|name| format!("{namespace}/{name}"));
            let account = Account {
                class: Some(holder.class.into()),
                registration: registration.map(Name::from),
                namespace: namespace.into(),
            };
            let lease = ObservedLease {
                uid: format!("{number}-{slot}").into(),
                pod: format!("{}/{number}-{slot}", account.namespace).into(),
                node: node.clone(),
                gpus: 1,
                requested: Requested::default(),
                account,
                watts: 350,
                bound: Moment::exactly(BEGIN),
                started: None,
                owed: false,
            };
            meter.lease(lease, BEGIN);
        }
    }
    for minute in 1..=2 {
        let now = BEGIN.plus_millis(minute * MINUTE);
        for (number, node) in nodes.iter().enumerate() {
            // The exporters of every other node do not report which pod holds a device.
            let pod_of = |slot| {
                let namespace = site.holder(number, slot).namespace;
                (number % 2 == 0).then(|| Name::from(format!("{namespace}/{number}-{slot}")))
            };
            let readings: Vec<Reading> = (0..GPUS)
                .map(|slot| Reading {
                    device: device(number, slot),
                    counter_mj: Some(minute * 350 * MINUTE),
                    power_mw: None,
                    holder: pod_of(slot),
                })
                .collect();
            meter.readings(node, Moment::exactly(now), &readings);
        }
        meter.advance(now);
        meter.take_entries();
    }
    meter.check()?;
    let metrics = auditor::metrics::Metrics::new()?;
    let times = (0..SCRAPES).map(|_| took(|| metrics.set_books(&meter.books()))).collect();
    println!("the auditor's metrics are set in {:.1?}", median_and_longest(times).0);
    Ok(metrics)
}

/// Scrapes `/metrics` of a process repeatedly and prints the times and the size.
async fn scrape(process: &str, registry: &Registry) -> Result<(), Error> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let served = Served {
        registry: registry.clone(),
        lock: ScrapeLock::default(),
        health: Health::default(),
        ledger: None,
    };
    let server = tokio::spawn(serving::start(Some(address), served));
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut times, mut answer) = (Vec::new(), String::new());
    let before = processor_time()?;
    for _ in 0..SCRAPES {
        let began = Instant::now();
        answer = get(address).await?;
        times.push(began.elapsed());
    }
    let each = processor_time()?.saturating_sub(before) / SCRAPES as u32;
    server.abort();
    let (median, longest) = median_and_longest(times);
    let series = answer.lines().filter(|line| line.starts_with("daylight_")).count();
    println!(
        "a scrape of the {process} takes {median:.1?} at the median of {SCRAPES}, {longest:.1?} at most, \
         and {each:.1?} of processor time: {series} series, {} KB",
        answer.len() / 1000,
    );
    Ok(())
}

/// Returns the processor time of this process, which also reads the answers.
fn processor_time() -> Result<Duration, Error> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // User and system time are fields 14 and 15, in hundredths; the name in field 2 may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
    Ok(Duration::from_millis(ticks * 10))
}

fn took(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

async fn get(address: SocketAddr) -> Result<String, Error> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
