//! The agent logged in at a pool: for a built-in engine, and between the pool and a program.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use daylight_stratum::loopback::{Dialect, Event, LoopbackPool, Setup};
use daylight_stratum::{Difficulty, Endpoint};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::run::{ENGINE, Run, Site};

/// A pool that verifies every share, on a runtime of its own.
pub(crate) struct Pool {
    runtime: Runtime,
    pub(crate) pool: LoopbackPool,
}

impl Pool {
    pub(crate) fn new(setup: Setup) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let pool = runtime.block_on(LoopbackPool::start(setup)).expect("a pool");
        Self { runtime, pool }
    }

    /// A pool for this user, with a share in some 43,000 hashes.
    fn of(user: &str) -> Self {
        let difficulty = Difficulty::new(1e-5).expect("a difficulty");
        Self::new(Setup { user: Some(user.into()), difficulty, ..Setup::new(Dialect::V1) })
    }

    pub(crate) fn endpoint(&self) -> String {
        let Endpoint { host, port, .. } = self.pool.endpoint();
        format!("{host}:{port}")
    }

    /// Waits until it has accepted `least` shares; returns all of its events.
    fn accepted(&self, least: usize) -> Vec<Event> {
        let enough = |events: &[Event]| accepted(events) >= least;
        self.runtime.block_on(async {
            let wait = tokio::time::timeout(Duration::from_secs(40), self.pool.until(enough));
            wait.await.expect("shares")
        })
    }
}

pub(crate) fn accepted(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Accepted { .. })).count()
}

fn rejected(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Rejected(_))).count()
}

fn shares(run: &Run, result: &str) -> Option<f64> {
    run.metric(&format!("shares_total{{result=\"{result}\"}}"))
}

#[test]
fn the_record_of_a_built_in_engine_matches_the_pool() {
    let pool = Pool::of("49wallet.rig-1");
    let mut site = Site::built_in("sha256d", &pool.endpoint());
    site.add("pool.worker = \"rig-1\"");
    let mut run = site.run();
    run.wait("it is ready", |run| run.get("/readyz").0 == 200);
    pool.accepted(20);
    assert!(run.metric("hashrate{algorithm=\"sha256d\"}").is_some_and(|rate| rate > 0.0));
    assert_eq!(run.metric("pool_connected"), Some(1.0));
    assert!(shares(&run, "accepted").is_some_and(|shares| shares > 0.0));

    assert_eq!(run.stop(), 0);
    let record = run.record();
    let events = pool.accepted(20);
    // To the last share, including those found while it was stopping.
    assert_eq!(record["sharesAccepted"], accepted(&events).to_string());
    assert_eq!(record["sharesRejected"], rejected(&events).to_string());
    assert_eq!((&record["evidence"], &record["reason"]), (&"seen".into(), &"Drained".into()));
    let hashes: f64 = record["hashes"].as_str().and_then(|text| text.parse().ok()).expect("hashes");
    let stand_for = accepted(&events) as f64 * 42950.0;
    assert!((0.2..5.0).contains(&(hashes / stand_for)), "{hashes} for {stand_for}");
}

#[test]
fn an_engine_behind_the_agent_is_counted_by_the_pool_and_gets_no_wallet() {
    let pool = Pool::of("49wallet");
    // The agent itself serves as the engine: it logs in at the outer agent's port under another name.
    let miner = env!("CARGO_BIN_EXE_daylight-miner");
    let mut site = Site::with_command(&[miner, "run", "--config", "DIR/inner.toml", "--pool"]);
    site.add("engine.args = [\"{host}:{port}\", \"--record\", \"/dev/null\"]");
    site.add("pool.protocol = \"stratum-v1\"");
    site.add(&format!("pool.endpoints = [\"{}\"]", pool.endpoint()));
    let wallet = site.file("wallet", "49wallet");
    site.add(&format!("pool.wallet_file = \"{}\"", wallet.display()));
    let dummy = site.file("dummy", "another-user");
    let inner = format!(
        "engine.name = \"sha256d\"\nengine.threads = 1\npool.wallet_file = \"{}\"\nhttp.listen = \"127.0.0.1:{}\"\n",
        dummy.display(),
        site.figures
    );
    site.file("inner.toml", &inner);
    let mut run = site.run();
    pool.accepted(10);
    run.wait("it is ready", |run| run.get("/readyz").0 == 200);

    assert_eq!(run.stop(), 0);
    let record = run.record();
    let events = pool.accepted(10);
    assert_eq!(record["sharesAccepted"], accepted(&events).to_string());
    assert_eq!(record["evidence"], "seen");
    assert_eq!(record["engine"], "command");
    let users: Vec<_> = events.iter().filter(|event| matches!(event, Event::LoggedIn(_))).collect();
    assert_eq!(users, [&Event::LoggedIn("49wallet".into())]);
}

/// Answers an `EthProxy` miner's login, request for work and share; returns its lines, once it has left.
fn ethproxy_pool() -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("ethproxy+tcp://{}", listener.local_addr().expect("an address"));
    let serve = move || {
        let (mut stream, _) = listener.accept().expect("a miner");
        let lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
        let mut seen = vec![];
        for line in lines.map_while(Result::ok) {
            let request: Value = serde_json::from_str(&line).expect("JSON");
            let result = match request["method"].as_str() {
                Some("eth_getWork") => {
                    json!(["64", "ab", "0f"].map(|byte| format!("0x{}", byte.repeat(32))))
                }
                _ => json!(true),
            };
            let reply = json!({"id": request["id"], "jsonrpc": "2.0", "result": result});
            stream.write_all(format!("{reply}\n").as_bytes()).expect("a miner that reads");
            seen.push(line);
        }
        seen
    };
    (endpoint, spawn(serve))
}

#[test]
fn shares_of_an_ethash_engine_are_seen() {
    let (endpoint, pool) = ethproxy_pool();
    let mut site = Site::with_command(&[ENGINE, "--ethproxy"]);
    let wallet = site.file("wallet", "0x49wallet\n");
    site.add(&format!(
        "engine.args = [\"{{host}}:{{port}}\"]\npool.protocol = \"ethproxy\"\npool.worker = \"rig-1\"\npool.endpoints = [\"{endpoint}\"]\npool.wallet_file = \"{}\"",
        wallet.display()
    ));
    let mut run = site.run();
    run.wait("the share", |run| shares(run, "accepted") == Some(1.0));
    run.wait("it is ready", |run| run.get("/readyz").0 == 200);
    assert_eq!(run.stop(), 0);
    let record = run.record();
    assert_eq!((&record["sharesAccepted"], &record["evidence"]), (&"1".into(), &"seen".into()));
    // A share reaches the target 0f0f…, some 17 hashes.
    assert_eq!(record["hashes"], "17");
    assert!(run.log().contains("\"result\":true"), "{}", run.log());
    assert!(!run.log().contains("0x49wallet"), "{}", run.log());
    let seen = pool.join().expect("a pool");
    let login: Value = serde_json::from_str(&seen[0]).expect("JSON");
    assert_eq!(
        (&login["params"], &login["worker"]),
        (&json!(["0x49wallet", "x"]), &"rig-1".into())
    );
    assert!(seen.iter().any(|line| line.contains("eth_submitWork")), "{seen:?}");
}

/// On any Vulkan device, such as lavapipe, which runs on processors.
#[cfg(feature = "gpu")]
#[test]
fn the_record_of_a_gpu_matches_the_pool() {
    if daylight_gpu::devices().is_empty() {
        eprintln!("skipped: there is no Vulkan driver here");
        return;
    }
    let pool = Pool::of("49wallet");
    let mut site = Site::built_in("sha256d-gpu", &pool.endpoint());
    site.add("engine.devices = [0]");
    let mut run = site.run();
    run.wait("it is ready", |run| run.get("/readyz").0 == 200);
    pool.accepted(5);
    assert!(run.metric("device_hashrate{device=\"0\"}").is_some_and(|rate| rate > 0.0));
    assert_eq!(run.stop(), 0);
    let events = pool.accepted(5);
    let record = run.record();
    assert_eq!(record["sharesAccepted"], accepted(&events).to_string());
    assert_eq!((&record["evidence"], &record["engine"]), (&"seen".into(), &"sha256d-gpu".into()));
}

#[cfg(feature = "randomx")]
#[test]
fn randomx_hashes_and_drains() {
    // Its shares are verified in the engine's own tests; this pool does not know RandomX and rejects them.
    let difficulty = Difficulty::new(1e-9).expect("a difficulty");
    let pool = Pool::new(Setup { difficulty, ..Setup::new(Dialect::Monero(|_| [0xff; 32])) });
    let mut run = Site::built_in("randomx", &pool.endpoint()).run();
    run.wait_log("RandomX is preparing its memory");
    run.wait("it is ready", |run| run.get("/readyz").0 == 200);
    assert!(run.metric("hashes_total{algorithm=\"rx/0\"}").is_some_and(|hashes| hashes > 0.0));
    assert_eq!(run.stop(), 0);
    let record = run.record();
    assert_eq!((&record["reason"], &record["sharesAccepted"]), (&"Drained".into(), &"0".into()));
}

#[test]
fn a_login_that_every_pool_refuses_ends_the_run() {
    let pool = Pool::of("another-user");
    let mut run = Site::built_in("sha256d", &pool.endpoint()).run();
    assert_eq!(run.code(), 13);
    let record = run.record();
    assert_eq!(record["reason"], "LoginRefused");
    let message = record["message"].as_str().expect("a message");
    assert!(message.contains("refused the login"), "{message}");
    assert!(!run.log().contains("49wallet"), "{}", run.log());
}

/// A run of a stand-in for `XMRig` behind the agent's port.
fn behind_the_port(args: &[&str], endpoint: &str) -> Site {
    let mut words = vec![ENGINE];
    words.extend(args);
    let mut site = Site::with_command(&words);
    let wallet = site.file("wallet", "49wallet\n");
    let api = site.figures;
    site.add(&format!(
        "engine.name = \"xmrig\"\nengine.api_port = {api}\npool.endpoints = [\"{endpoint}\"]\npool.wallet_file = \"{}\"",
        wallet.display()
    ));
    site
}

#[test]
fn a_login_that_is_refused_behind_the_port_ends_the_run() {
    let refuses =
        Setup { user: Some("another-user".into()), ..Setup::new(Dialect::Monero(|_| [0xff; 32])) };
    let pool = Pool::new(refuses);
    let mut run =
        behind_the_port(&["--hang", "logged-in", "--again-after-ms", "200"], &pool.endpoint())
            .run();
    assert_eq!(run.code(), 13);
    assert_eq!(run.record()["reason"], "LoginRefused");
    assert!(!run.log().contains("49wallet"), "{}", run.log());
}

#[test]
fn an_engine_that_hangs_behind_the_port_is_restarted() {
    let pool = Pool::new(Setup::new(Dialect::Monero(|_| [0xff; 32])));
    for (when, reason) in [("logged-in", "NoFigures"), ("unconnected", "EngineNotConnected")] {
        let mut site = behind_the_port(&["--hang", when], &pool.endpoint());
        site.add("engine.start_within = \"1s\"\nengine.stalled_after = \"1s\"");
        let mut run = site.run();
        run.wait("the reason", |run| {
            run.metric(&format!("not_ready{{reason=\"{reason}\"}}")) == Some(1.0)
        });
        run.wait_log(
            "the engine did not hash for 1s (engine.start_within) and was killed; restarting it",
        );
    }
}

#[test]
fn the_agent_waits_for_an_unreachable_pool() {
    let pool = Pool::of("49wallet");
    let endpoint = pool.endpoint();
    drop(pool);
    let mut run = Site::built_in("sha256d", &endpoint).run();
    run.wait("the reason as a metric", |run| {
        run.metric("not_ready{reason=\"PoolUnreachable\"}") == Some(1.0)
    });
    run.wait("the reason as a sentence", |run| {
        let (code, text) = run.get("/readyz");
        code == 503 && text.contains(&format!("pool {endpoint} cannot be reached"))
    });
    assert_eq!(run.get("/livez").0, 200);
    assert_eq!(run.stop(), 0);
    assert_eq!(run.record()["reason"], "Drained");
}

/// A DNS server that never answers. The system's resolver blocks for half a minute then, which nothing
/// can stop. None where this user may not listen on port 53.
fn dead_dns_server(address: &str) -> Option<UdpSocket> {
    let server = UdpSocket::bind((address, 53)).ok();
    if server.is_none() {
        eprintln!("skipped: only root may listen on port 53");
    }
    server
}

/// Starts an agent whose names that server resolves, as Kubernetes sets it up.
fn run_with_dead_dns(address: &str, mut site: Site) -> Run {
    site.add("drain.grace = \"5s\"");
    let names = format!(
        "nameserver {address}\nsearch a.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    );
    let names = site.file("resolv.conf", &names);
    site.run_with_names(&names)
}

/// Returns the time that the agent takes to end.
fn drained(mut run: Run) -> Duration {
    let began = Instant::now();
    assert_eq!(run.stop(), 0, "{}", run.log());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}: {}", run.log());
    assert_eq!(run.record()["reason"], "Drained");
    took
}

#[test]
fn a_dead_dns_server_holds_neither_the_hashing_nor_the_exit() {
    let address = "127.0.0.77";
    let Some(_server) = dead_dns_server(address) else { return };
    let mut run = run_with_dead_dns(address, Site::built_in("sha256d", "pool.test:3333"));
    // The login is given up; the look-up is not.
    run.wait("the reason", |run| {
        run.get("/readyz").1.contains("its name is not resolved: the DNS servers do not answer")
    });
    drained(run);
}

/// Each at another moment of its life, and every other one with an engine behind the agent's port.
#[test]
#[ignore = "takes five minutes"]
fn two_hundred_drains_with_a_dead_dns_server() {
    let address = "127.0.0.78";
    let Some(_server) = dead_dns_server(address) else { return };
    let mut took = vec![];
    for number in 0..200_u64 {
        let site = match number % 2 {
            0 => Site::built_in("sha256d", "pool.test:3333"),
            _ => behind_the_port(&[], "pool.test:3333"),
        };
        let mut run = run_with_dead_dns(address, site);
        run.wait("an agent", |run| run.get("/livez").0 == 200);
        std::thread::sleep(Duration::from_millis(number * 37 % 1500));
        took.push(drained(run));
    }
    took.sort();
    println!("median {:?}, longest {:?}", took[100], took[199]);
}

#[test]
fn nothing_runs_for_another_wallet_than_the_registered_one() {
    let pool = Pool::of("49wallet");
    let mut site = Site::built_in("sha256d", &pool.endpoint());
    site.env("WALLET_COMMITMENT", &format!("sha256:{}", "0".repeat(64)));
    let mut run = site.run();
    assert_eq!(run.code(), 16);
    assert_eq!(run.record()["reason"], "WrongWallet");
    assert_eq!(pool.pool.events(), []);
}

#[test]
fn a_setting_for_programs_is_a_mistake_for_a_built_in_engine() {
    let mut site = Site::built_in("sha256d", "pool.example.com:3333");
    site.add("engine.args = [\"--fast\"]\nengine.algorithm = \"scrypt\"");
    let output = site.command("check").output().expect("an agent");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(12));
    assert!(text.contains("engine.args: it is for programs"), "{text}");
    assert!(text.contains("engine.algorithm: sha256d computes sha256d"), "{text}");
}
