//! Proxies for pools, between the agent and a pool that verifies each share.

use std::fs::File;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use daylight_stratum::Difficulty;
use daylight_stratum::loopback::{Dialect, Setup};

use super::{PATIENCE, in_a_namespace, logins, patiently};
use crate::pools::{Pool, accepted};
use crate::run::{Run, Site, free_ports};

/// A running proxy. Dropping it ends it.
struct Proxy(Child);

impl Proxy {
    /// Starts it, and waits until it listens.
    fn start(mut command: Command, port: u16, log: File) -> Self {
        let output = log.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(output).stderr(log);
        let proxy = Self(command.spawn().expect("a proxy"));
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "the proxy does not listen");
            sleep(Duration::from_millis(100));
        }
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Each fails only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pool() -> Pool {
    let difficulty = Difficulty::new(1e-3).expect("a difficulty");
    Pool::new(Setup { difficulty, ..Setup::new(Dialect::V1) })
}

/// Mines until the pool has seen jobs and connections change, and compares the books.
fn mines(mut run: Run, pool: &Pool) {
    let more = |run: &mut Run| {
        let before = accepted(&pool.pool.events());
        patiently(run, "shares", |_| accepted(&pool.pool.events()) >= before + 5);
    };
    more(&mut run);
    patiently(&mut run, "it is ready", |run| run.get("/readyz").0 == 200);
    for clean in [false, true] {
        pool.pool.new_job(clean);
        more(&mut run);
    }
    let before = logins(&pool.pool.events());
    pool.pool.disconnect();
    patiently(&mut run, "another login", |_| logins(&pool.pool.events()) > before);
    more(&mut run);
    assert_eq!(run.stop(), 0);
    let (record, events) = (run.record(), pool.pool.events());
    assert_eq!(record["sharesAccepted"], accepted(&events).to_string());
    assert_eq!(record["reason"], "Drained");
}

/// `BIT_BYTE_BLOCK` is the path of the script of the Python package bit-byte-block, a proxy for
/// solo pools that passes on what it gets:
///
/// ```sh
/// python3 -m venv venv && venv/bin/pip install bit-byte-block==0.1.1
/// export BIT_BYTE_BLOCK=$PWD/venv/bin/bit-byte-block
/// cargo test -p daylight-miner --test agent -- --ignored bit_byte_block
/// ```
#[test]
#[ignore = "requires bit-byte-block"]
fn shares_pass_through_bit_byte_block() {
    let test = "others::proxies::shares_pass_through_bit_byte_block";
    let Some(program) = in_a_namespace(test, "BIT_BYTE_BLOCK") else { return };
    let (pool, [port, _]) = (pool(), free_ports());
    let site = Site::built_in("sha256d", &format!("127.0.0.1:{port}"));
    let endpoint = pool.endpoint();
    let (host, upstream) = endpoint.split_once(':').expect("a port");
    let mut command = Command::new(program);
    command.args(["proxy", "--bind-host", "127.0.0.1", "--bind-port", &port.to_string()]);
    command.args(["--upstream-host", host, "--upstream-port", upstream]);
    let log = File::create(site.path("proxy.log")).expect("a log");
    let _proxy = Proxy::start(command, port, log);
    mines(site.run(), &pool);
}

/// `AIOSTRATUM_PROXY` is the path of the script of the Python package aiostratum-proxy, which logs in at
/// the pool itself. It needs an old `PyYAML`:
///
/// ```sh
/// python3 -m venv venv && venv/bin/pip install --no-deps aiostratum-proxy==1.1 aiojsonrpc2==1.0.0
/// venv/bin/pip install PyYAML==5.3.1
/// export AIOSTRATUM_PROXY=$PWD/venv/bin/aiostratum-proxy
/// cargo test -p daylight-miner --test agent -- --ignored aiostratum
/// ```
///
/// It serves one miner here. For several it takes a byte of the extranonce, and forwards shares of
/// Bitcoin's dialect without that byte, so that every pool rejects them.
#[test]
#[ignore = "requires aiostratum-proxy"]
fn shares_pass_through_aiostratum_proxy() {
    let test = "others::proxies::shares_pass_through_aiostratum_proxy";
    let Some(program) = in_a_namespace(test, "AIOSTRATUM_PROXY") else { return };
    let (pool, [port, _]) = (pool(), free_ports());
    let site = Site::built_in("sha256d", &format!("127.0.0.1:{port}"));
    let endpoint = pool.endpoint();
    let (host, upstream) = endpoint.split_once(':').expect("a port");
    let config = format!(
        "proxies:
- max_workers: 1
  worker_class: aiostratum_proxy.protocols.stratum.StratumWorkerProtocol
  pool_class: aiostratum_proxy.protocols.stratum.StratumPoolProtocol
  listen: [{{host: 127.0.0.1, port: {port}}}]
  pools: [{{name: pool, host: {host}, port: {upstream}, account_name: acct, account_password: x}}]
"
    );
    let mut command = Command::new(program);
    command.arg("--config").arg(site.file("proxy.yaml", &config));
    let log = File::create(site.path("proxy.log")).expect("a log");
    let _proxy = Proxy::start(command, port, log);
    mines(site.run(), &pool);
}
