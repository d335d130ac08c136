//! `cargo bench -p daylight-miner`: time of a drain, from SIGTERM to the agent's exit, and the agent's
//! own use of memory and CPU while its engine is idle. `DRAINS` is 200 unless set.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use daylight_stratum::Difficulty;
use daylight_stratum::loopback::{Dialect, LoopbackPool, Setup};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

const AGENT: &str = env!("CARGO_BIN_EXE_daylight-miner");
const STAND_IN: &str = env!("CARGO_BIN_EXE_stand-in");

/// Time over which the agent's own use is measured.
const IDLE: Duration = Duration::from_secs(30);

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let drains = std::env::var("DRAINS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let runtime = Runtime::new().unwrap();
    // About a share a second of one thread.
    let difficulty = Difficulty::new(0.005).unwrap();
    let setup = Setup { difficulty, ..Setup::new(Dialect::V1) };
    let pool = runtime.block_on(LoopbackPool::start(setup)).unwrap();
    let directory = tempfile::tempdir().unwrap();

    let mut took: Vec<Duration> = (0..drains)
        .map(|_| {
            let endpoint = format!("127.0.0.1:{}", pool.endpoint().port);
            let mut agent = Agent::hashing(directory.path(), &endpoint);
            agent.ready();
            agent.drain()
        })
        .collect();
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    println!("sha256d, one thread, logged in at a pool, {drains} drains:");
    println!("  p50 {:.1?}, p99 {:.1?}, longest {:.1?}", at(50), at(99), at(100));

    let mut agent = Agent::with_idle_engine(directory.path());
    agent.ready();
    sleep(Duration::from_secs(2));
    let before = agent.processor();
    sleep(IDLE);
    let share = (agent.processor() - before) / IDLE.as_secs_f64() * 100.0;
    println!("the agent itself, with an engine whose figures are read every 10 s, for {IDLE:?}:");
    println!("  {:.1} MB resident, {share:.3} % of a core", agent.resident() / 1e6);
    agent.drain();
    println!("load {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
}

/// A running agent.
struct Agent {
    child: Child,
    port: u16,
}

impl Agent {
    fn hashing(directory: &Path, endpoint: &str) -> Self {
        let wallet = directory.join("wallet");
        fs::write(&wallet, "49wallet").unwrap();
        let engine = format!(
            "engine.name = \"sha256d\"\nengine.threads = 1\npool.endpoints = [\"{endpoint}\"]\npool.wallet_file = \"{}\"",
            wallet.display()
        );
        Self::start(directory, &engine)
    }

    fn with_idle_engine(directory: &Path) -> Self {
        let port = free_port();
        let engine = format!(
            r#"engine.command = ["{STAND_IN}", "--figures", "{port}"]
[engine.figures]
address = "http://127.0.0.1:{port}/"
format = "json"
hashrate = "/hashrate"
"#
        );
        Self::start(directory, &engine)
    }

    fn start(directory: &Path, engine: &str) -> Self {
        let (port, file) = (free_port(), directory.join("miner.toml"));
        let here = directory.display();
        let config = format!(
            "agent.run_dir = \"{here}/run\"\nrecord.file = \"{here}/record\"\nhttp.listen = \"127.0.0.1:{port}\"\n{engine}"
        );
        fs::write(&file, config).unwrap();
        let mut command = Command::new(AGENT);
        command.args(["run", "--config"]).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), port }
    }

    fn ready(&mut self) {
        let begun = Instant::now();
        while !self.is_ready() {
            assert!(begun.elapsed() < Duration::from_mins(1), "it is not ready");
            sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&self) -> bool {
        let answer = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            write!(stream, "GET /readyz HTTP/1.1\r\nhost: agent\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        answer().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    fn drain(mut self) -> Duration {
        let begun = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        begun.elapsed()
    }

    /// Returns its CPU time in seconds, without its children's.
    fn processor(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks =
            |at: usize| -> f64 { fields.split_whitespace().nth(at).unwrap().parse().unwrap() };
        // User and system time, in ticks of 10 ms.
        (ticks(11) + ticks(12)) / 100.0
    }

    /// Returns its resident memory in bytes.
    fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() * 1024.0
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Fails if it has ended, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
