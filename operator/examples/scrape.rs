//! How long one scrape of `/metrics` takes on a large site, and how many series it shows, for the
//! controller and the auditor.
//!
//! ```text
//! cargo run --release -p daylight --example scrape
//! ```
//!
//! The site has 10,000 nodes with 8 GPUs, all of them held by 80,000 pods, 1,000 approved
//! registrations with every limit there is, 50 classes and 5 pools. Each process' metrics are set
//! from it as they are in its main loop, and read over HTTP from the server that it has.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use daylight::auditor;
use daylight::controller::events::Events;
use daylight::controller::state::State;
use daylight::controller::{metrics::Metrics, gauges};
use daylight::serving::{self, Health, Whole};
use daylight::view::{View, digest};
use daylight_base::{Name, Timestamp};
use daylight_cluster::{Change, Event, Round};
use daylight_crds::GpuPool;
use daylight_meter::{Account, Config, Meter, Moment, ObservedDevice, ObservedLease, Reading};
use daylight_planner::Planner;
use daylight_planner::model::Snapshot;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const NODES: usize = 10_000;
const GPUS: usize = 8;
/// GPUs of each node that mine; the others do AI work.
const MINING: usize = 6;
const REGISTRATIONS: usize = 1_000;
const CLASSES: usize = 50;
/// Classes that mine; the others are AI's.
const MINING_CLASSES: usize = 10;
const POOLS: usize = 5;
const SCRAPES: usize = 20;
const VERSION: u64 = 1_000_000;

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let site = controller()?;
    read("controller", site.metrics.registry()).await?;
    drop(site);
    let metrics = auditor()?;
    read("auditor", metrics.registry()).await
}

/// The controller's metrics, as they are after a plan.
fn controller() -> Result<State, Error> {
    let now = Timestamp(jiff::Timestamp::now().as_millisecond());
    let mut view = View::new(now);
    let mut deltas = Vec::new();
    for event in objects()?.into_iter().chain(listed()) {
        view.apply(event, now, &mut deltas);
    }
    let mut planner = Planner::new(Snapshot::default());
    for delta in deltas {
        planner.apply(delta);
    }
    let plan = planner.plan(now);
    let site = State::new(view, Events::new("example"), Metrics::new()?);
    let set = median((0..SCRAPES).map(|_| took(|| gauges::set(&plan, &site))).collect());
    println!("the controller's metrics are set in {set:.1?}");
    Ok(site)
}

/// The auditor's metrics, after two rounds of readings.
fn auditor() -> Result<auditor::metrics::Metrics, Error> {
    const BEGIN: daylight_base::Timestamp = daylight_base::Timestamp(1_782_907_200_000);
    const MINUTE: u64 = 60_000;
    let mut meter = Meter::new(Config::default());
    let nodes: Vec<Name> = (0..NODES).map(|number| node_name(number).into()).collect();
    let device = |number: usize, one: usize| Name::from(format!("GPU-{number:08x}-{one}"));
    for (number, node) in nodes.iter().enumerate() {
        let seen = |one| ObservedDevice { id: device(number, one), model: None, limit_mw: None };
        let devices: Vec<ObservedDevice> = (0..GPUS).map(seen).collect();
        let pool = Name::from(pool_of(number));
        meter.devices(node, Some(&pool), GPUS as u32, &devices, BEGIN);
        for slot in 0..GPUS {
            let holder = Holder::of(number, slot);
            let registration = holder.registration.map(|name| format!("{}/{name}", holder.team));
            let account = Account {
                class: Some(holder.class.into()),
                registration: registration.map(Name::from),
                namespace: holder.team.into(),
            };
            let lease = ObservedLease {
                uid: format!("{number}-{slot}").into(),
                pod: format!("{}/{number}-{slot}", account.namespace).into(),
                node: node.clone(),
                gpus: 1,
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
            // Of half of the nodes no exporter says who has which device.
            let holder = |one| {
                let holder = Holder::of(number, one);
                (number % 2 == 0).then(|| Name::from(format!("{}/{number}-{one}", holder.team)))
            };
            let readings: Vec<Reading> = (0..GPUS)
                .map(|one| Reading {
                    device: device(number, one),
                    counter_mj: Some(minute * 350 * MINUTE),
                    power_mw: None,
                    holder: holder(one),
                })
                .collect();
            meter.readings(node, Moment::exactly(now), &readings);
        }
        meter.advance(now);
        meter.take_entries();
    }
    meter.check()?;
    let metrics = auditor::metrics::Metrics::new()?;
    let set = median((0..SCRAPES).map(|_| took(|| metrics.set_books(&meter.books()))).collect());
    println!("the auditor's metrics are set in {set:.1?}");
    Ok(metrics)
}

/// Reads `/metrics` some times.
async fn read(process: &str, registry: &Registry) -> Result<(), Error> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let server = tokio::spawn(serving::start(
        Some(address),
        registry,
        &Whole::default(),
        &Health::default(),
    ));
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
    let most = times.iter().max().copied().unwrap_or_default();
    let series = answer.lines().filter(|line| line.starts_with("daylight_")).count();
    println!(
        "a scrape of the {process} takes {:.1?} at the median of {SCRAPES}, {most:.1?} at most, and \
         {each:.1?} of processor time: {series} series, {} KB",
        median(times),
        answer.len() / 1000,
    );
    Ok(())
}

/// Of this process, which reads the answers, too.
fn processor_time() -> Result<Duration, Error> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // User and system time are fields 14 and 15, in hundredths; the name in field 2 may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
    Ok(Duration::from_millis(ticks * 10))
}

fn took(what: impl FnOnce()) -> Duration {
    let began = Instant::now();
    what();
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn get(address: SocketAddr) -> Result<String, Error> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Who holds a GPU.
struct Holder {
    team: String,
    class: String,
    registration: Option<String>,
}

impl Holder {
    fn of(node: usize, slot: usize) -> Self {
        let number = (node * MINING + slot) % REGISTRATIONS;
        let mines = slot < MINING;
        Self {
            team: if mines { format!("team-{number}") } else { format!("lab-{}", node % 100) },
            class: if mines { mining_class(number) } else { ai_class(node) },
            registration: mines.then(|| format!("registration-{number}")),
        }
    }
}

fn mining_class(number: usize) -> String {
    format!("mining-{}", number % MINING_CLASSES)
}

fn ai_class(number: usize) -> String {
    format!("ai-{}", number % (CLASSES - MINING_CLASSES))
}

fn node_name(number: usize) -> String {
    format!("node-{number:05}")
}

fn pool_of(node: usize) -> String {
    format!("pool-{}", node % POOLS)
}

fn objects() -> Result<Vec<Event>, Error> {
    let mut events = Vec::new();
    for number in 0..POOLS {
        events.push(Event::GpuPool(Change::Item(serde_json::from_value(pool(number))?)));
    }
    for number in 0..CLASSES {
        events.push(Event::ActivityClass(Change::Item(serde_json::from_value(class(number))?)));
    }
    for number in 0..REGISTRATIONS {
        let object = approved(number)?;
        events.push(Event::Registration(Change::Item(serde_json::from_value(object)?)));
    }
    for number in 0..NODES {
        events.push(Event::Node(Change::Item(serde_json::from_value(node(number))?)));
        for slot in 0..GPUS {
            events.push(Event::Pod(Change::Item(serde_json::from_value(pod(number, slot))?)));
        }
    }
    Ok(events)
}

/// All kinds are listed.
fn listed() -> [Event; 13] {
    macro_rules! listed {
        ($($kind:ident),*) => {
            [$(Event::$kind(Change::Listed { version: VERSION, round: Round(0) })),*]
        };
    }
    listed![
        Pod,
        Node,
        Namespace,
        BatchJob,
        GpuPool,
        ActivityClass,
        Registration,
        Miner,
        AiJob,
        EmergencyStop,
        RegistrationMirror,
        ClassMirror,
        AuthorityKeys
    ]
}

fn metadata(name: &str, namespace: &str) -> Value {
    json!({
        "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"), "generation": 1,
        "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z",
    })
}

fn pool(number: usize) -> Value {
    let name = format!("pool-{number}");
    json!({
        "metadata": metadata(&name, ""),
        "spec": {
            "nodeSelector": {"matchLabels": {"pool": name}}, "resource": "nvidia.com/gpu",
            "site": {"name": "oslo"}, "mining": {"policy": "Fill"},
        },
    })
}

fn class(number: usize) -> Value {
    let (name, category, assignment, registration) = if number < MINING_CLASSES {
        (mining_class(number), "Declared", "IdleOnly", "Required")
    } else {
        (ai_class(number - MINING_CLASSES), "DataIndustry", "Guaranteed", "NotRequired")
    };
    json!({
        "metadata": metadata(&name, ""),
        "spec": {"category": category, "assignment": assignment, "registration": registration},
    })
}

/// A registration with its approval and what it has used.
fn approved(number: usize) -> Result<Value, Error> {
    let limits =
        json!({"gpus": 200, "watts": 100_000, "energy": {"kwh": 1_000_000, "period": "Year"}});
    let pools: Vec<String> = (0..POOLS).map(|number| format!("pool-{number}")).collect();
    let mut registration = json!({
        "metadata": metadata(&format!("registration-{number}"), &format!("team-{number}")),
        "spec": {
            "operator": {"name": "Tenant", "ownerPseudonym": format!("{number:064x}")},
            "submittedBy": "tenant@example.com",
            "activityClass": mining_class(number), "site": "oslo", "pools": pools,
            "validFrom": "2020-01-01T00:00:00Z", "validUntil": "2099-01-01T00:00:00Z",
            "limits": limits, "ownerLimits": limits,
        },
    });
    let subject = serde_json::from_value(registration.clone())?;
    let class = serde_json::from_value(class(number % MINING_CLASSES))?;
    let pools: Vec<GpuPool> =
        (0..POOLS).map(|number| serde_json::from_value(pool(number))).collect::<Result<_, _>>()?;
    let of_name =
        |name: &str| pools.iter().find(|pool| pool.metadata.name.as_deref() == Some(name));
    registration["status"] = json!({
        "approval": {
            "state": "Approved", "by": "officer", "at": "2026-11-01T00:00:00Z", "generation": 1,
            "specDigest": digest::spec_digest(&subject, Some(&class), of_name),
            "digestVersion": digest::VERSION,
        },
        "usage": {
            "meteredUntil": jiff::Timestamp::now().to_string(),
            "periodStart": "2026-01-01T00:00:00Z", "millijoules": "1000000000000", "peakWatts": 400,
        },
    });
    Ok(registration)
}

fn node(number: usize) -> Value {
    let mut metadata = metadata(&node_name(number), "");
    metadata["labels"] = json!({"pool": pool_of(number)});
    json!({
        "metadata": metadata,
        "status": {
            "allocatable": {"cpu": "190", "memory": "2Ti", "pods": "110", "nvidia.com/gpu": "8"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

fn pod(number: usize, slot: usize) -> Value {
    let holder = Holder::of(number, slot);
    let mut metadata = metadata(&format!("{number}-{slot}"), &holder.team);
    metadata["labels"] = match &holder.registration {
        Some(registration) => json!({
            "app.kubernetes.io/managed-by": "daylight", "daylight.dev/activity": holder.class,
            "daylight.dev/miner": "miner", "daylight.dev/registration": registration,
            "daylight.dev/pool": pool_of(number), "daylight.dev/slot": slot.to_string(),
            "daylight.dev/epoch": "0", "daylight.dev/revision": "0", "daylight.dev/watts": "350",
        }),
        None => json!({"daylight.dev/activity": holder.class}),
    };
    json!({
        "metadata": metadata,
        "spec": {
            "nodeName": node_name(number),
            "containers": [{"resources": {"requests": {
                "cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1",
            }}}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{
                "type": "PodScheduled", "status": "True",
                "lastTransitionTime": "2026-11-24T06:00:00Z",
            }],
        },
    })
}
