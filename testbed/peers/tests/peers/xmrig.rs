//! `XMRig` under the agent, on monerod.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daylight_peers::{Monerod, Rpc, bridge};
use daylight_testbed::Scratch;
use daylight_testbed::trials::{Outcome, apply, trial};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::sleep;

/// Names `XMRig`'s program.
const XMRIG: &str = "XMRIG";
/// Names the agent's program.
const AGENT: &str = "DAYLIGHT_MINER";
/// Set in the namespace.
const INSIDE: &str = "DAYLIGHT_PEERS_INSIDE";
/// User and group of the agent in its image.
const UNPRIVILEGED: u32 = 65532;

/// Every tenth share is a block.
const BLOCK: NonZeroU64 = NonZeroU64::new(40).expect("above 0");
const SHARE: NonZeroU64 = NonZeroU64::new(4).expect("above 0");

/// Starts this program again in a network namespace with the loopback interface only, where `XMRig` is
/// named.
pub(crate) fn isolate() -> io::Result<()> {
    if std::env::var_os(XMRIG).is_none() || std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let inside = "ip link set lo up && exec \"$@\"";
    Err(Command::new("unshare")
        .args(["--net", "--", "sh", "-c", inside, "sh"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec())
}

/// The doc comment of `xmrig_mines_behind_the_agent` in `miner-image/tests/agent/others` says how to get
/// `XMRig`. Then, as root:
///
/// ```sh
/// cargo build -p daylight-miner
/// export DAYLIGHT_MINER=$PWD/target/debug/daylight-miner
/// cargo test -p daylight-peers -- --ignored xmrig
/// ```
#[apply(trial!)]
#[ignore = "requires XMRig"]
async fn monerod_takes_what_xmrig_mines_behind_the_agent() -> Outcome {
    let mut node = Monerod::start(BLOCK).await?;
    let pool = bridge::monero::start(&node, SHARE, "127.0.0.1:0".parse()?).await?;
    let mut agent = Agent::start(pool.address(), "")?;
    pool.until(|books| books.blocks.len() >= 3).await;
    // The agent and XMRig stay connected, and continue.
    node.restart().await?;
    let before = pool.accepted_blocks().len();
    pool.until(|books| books.blocks.len() >= before + 2).await;
    assert_eq!(agent.metric("pool_logins_total")?, 1);
    let began = Instant::now();
    let record = agent.stop().await?;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");

    let blocks = pool.accepted_blocks();
    assert_eq!(node.blocks().await?, blocks.len() as u64 + 1);
    assert_eq!(last_hash(node.rpc()).await?, json!(blocks[blocks.len() - 1].hash));
    let shares = pool.shares()[Monerod::WALLET];
    assert_eq!(record["sharesAccepted"], shares.accepted.to_string());
    // Those that came too late, and were not sent, are with the agent only.
    let unpaid: u64 = record["sharesRejected"].as_str().ok_or("a number")?.parse()?;
    assert!(shares.rejected <= unpaid, "{shares:?}, {record}");
    assert_eq!((&record["evidence"], &record["reason"]), (&json!("seen"), &json!("Drained")));
    println!("{} blocks, {shares:?}, {unpaid} unpaid, drained in {took:.2?}", blocks.len());
    Ok(())
}

/// The hash of the last block of the node's chain.
pub(crate) async fn last_hash(rpc: &Rpc) -> Outcome<Value> {
    let last = rpc.call("get_last_block_header", json!({})).await?;
    Ok(last["block_header"]["hash"].clone())
}

/// The agent with `XMRig`. Dropping it kills the agent, whose end ends `XMRig`.
pub(crate) struct Agent {
    child: Child,
    port: u16,
    /// Last, so that it is removed after the process has ended.
    scratch: Scratch,
}

impl Agent {
    /// Starts it at a pool, with more settings.
    pub(crate) fn start(pool: SocketAddr, settings: &str) -> Outcome<Self> {
        let program = |name| std::env::var_os(name).map(PathBuf::from).ok_or(format!("set {name}"));
        let scratch = Scratch::new()?;
        let here = scratch.path();
        chown(here, Some(UNPRIVILEGED), Some(UNPRIVILEGED))?;
        let copied = |name: &str, program: &Path| -> Outcome<PathBuf> {
            let copy = here.join(name);
            fs::copy(program, &copy)?;
            Ok(copy)
        };
        let xmrig = copied("xmrig", &program(XMRIG)?)?;
        let agent = copied("daylight-miner", &program(AGENT)?)?;
        let place = here.display();
        let [port, api] = [9735, 14067]; // Nothing else listens in the namespace.
        fs::write(here.join("wallet"), Monerod::WALLET)?;
        let config = format!(
            "engine.name = \"xmrig\"
engine.command = [\"{}\"]
engine.args = [\"--randomx-mode=light\", \"--threads=1\"]
engine.api_port = {api}
pool.endpoints = [\"{}\"]
pool.wallet_file = \"{place}/wallet\"
http.listen = \"127.0.0.1:{port}\"
agent.run_dir = \"{place}/run\"
record.file = \"{place}/record\"
",
            xmrig.display(),
            pool
        ) + settings;
        fs::write(here.join("miner.toml"), config)?;
        let log = File::create(here.join("log"))?;
        let child = Command::new(agent)
            .arg("run")
            .arg("--config")
            .arg(here.join("miner.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .uid(UNPRIVILEGED)
            .gid(UNPRIVILEGED)
            .spawn()?;
        Ok(Self { child, port, scratch })
    }

    /// Returns a whole number of its metrics.
    pub(crate) fn metric(&self, name: &str) -> Outcome<u64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: agent\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let start = format!("daylight_miner_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&start));
        Ok(value.ok_or(format!("no {name} in {text}"))?.parse::<f64>()? as u64)
    }

    /// Stops it as the kubelet does. Returns the record of work.
    pub(crate) async fn stop(&mut self) -> Outcome<Value> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None => sleep(Duration::from_millis(20)).await,
            }
        };
        let read = |name| fs::read_to_string(self.scratch.path().join(name));
        assert!(status.success(), "{status}: {}", read("log")?);
        Ok(serde_json::from_str(&read("record")?)?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Each fails only if it has ended. It ends its engine in good order only on SIGTERM.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
