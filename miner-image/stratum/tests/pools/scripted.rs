//! A pool that plays a script, connection after connection.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daylight_stratum::{Endpoint, Tls};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// A script has one step a line:
///
/// - `> METHOD` waits for a request of this method; others before it are passed over;
/// - `< LINE` sends a line, in which `ID` stands for the number of the last request waited for;
/// - `wait MS` waits, while requests are not read;
/// - `close` closes the connection;
/// - `again` begins the script for the next connection; the last one is played for all that follow;
/// - `login v1` and `login monero` stand for an accepted login with a first job, and
///   `login v1 without job` for one without;
/// - `BLOB` in a line stands for a blob as Monero has them.
///
/// Where the script of a connection ends, it stays open, and nothing is answered.
pub(crate) struct ScriptedPool {
    pub(crate) endpoint: Endpoint,
    connections: Arc<AtomicUsize>,
    open: watch::Sender<usize>,
    requests: watch::Sender<Vec<String>>,
}

impl ScriptedPool {
    pub(crate) async fn start(script: &str) -> Self {
        Self::start_on(script, 0).await
    }

    pub(crate) async fn start_on(script: &str, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint { host: "127.0.0.1".into(), port, tls: Tls::Off };
        let parts: Vec<String> = script.split("again\n").map(expanded).collect();
        let pool = Self {
            endpoint,
            connections: Arc::default(),
            open: watch::channel(0).0,
            requests: watch::channel(vec![]).0,
        };
        let (connections, open, requests) =
            (pool.connections.clone(), pool.open.clone(), pool.requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::Relaxed);
                let part = parts[number.min(parts.len() - 1)].clone();
                let (open, requests) = (open.clone(), requests.clone());
                tokio::spawn(async move {
                    open.send_modify(|open| *open += 1);
                    let _ = play(&part, stream, &requests).await;
                    open.send_modify(|open| *open -= 1);
                });
            }
        });
        pool
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Waits until as many connections are open.
    pub(crate) async fn until_open(&self, count: usize) {
        self.open.subscribe().wait_for(|open| *open == count).await.unwrap();
    }

    /// Waits until the requests so far, as lines, are enough.
    pub(crate) async fn until(&self, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        self.requests.subscribe().wait_for(|requests| enough(requests)).await.unwrap().clone()
    }
}

fn expanded(part: &str) -> String {
    part.replace("login v1 without job", V1_LOGIN)
        .replace("login v1", &format!("{V1_LOGIN}\n{V1_JOB}"))
        .replace("login monero", MONERO_LOGIN)
        .replace("BLOB", &blob("00"))
}

/// The blob of a Monero job, with the last byte of its nonce.
pub(crate) fn blob(last: &str) -> String {
    format!("1010{}000000{last}{}", "ab".repeat(37), "cd".repeat(33))
}

async fn play(
    script: &str,
    stream: TcpStream,
    requests: &watch::Sender<Vec<String>>,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut id = String::new();
    let seen = |line: &str| {
        let line = line.to_owned();
        requests.send_modify(|requests| requests.push(line));
    };
    for step in script.lines().map(str::trim).filter(|step| !step.is_empty()) {
        if let Some(method) = step.strip_prefix("> ") {
            loop {
                let Some(line) = lines.next_line().await? else { return Ok(()) };
                seen(&line);
                let request: serde_json::Value = serde_json::from_str(&line).unwrap();
                if request["method"] == method {
                    id = request["id"].to_string();
                    break;
                }
            }
        } else if let Some(line) = step.strip_prefix("< ") {
            write.write_all(format!("{}\n", line.replace("ID", &id)).as_bytes()).await?;
        } else if let Some(time) = step.strip_prefix("wait ") {
            sleep(Duration::from_millis(time.parse().unwrap())).await;
        } else if step == "close" {
            return Ok(());
        } else {
            panic!("not a step: {step}");
        }
    }
    while let Some(line) = lines.next_line().await? {
        seen(&line);
    }
    Ok(())
}

const V1_LOGIN: &str = r#"> mining.configure
    < {"id":ID,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}
    > mining.subscribe
    < {"id":ID,"result":[[],"08000002",4],"error":null}
    > mining.authorize
    < {"id":ID,"result":true,"error":null}"#;

const V1_JOB: &str = r#"< {"id":null,"method":"mining.set_difficulty","params":[0.000001]}
    < {"id":null,"method":"mining.notify","params":["1","2222222222222222222222222222222222222222222222222222222222222222","0100000001","ffffffff",[],"20000000","1d00ffff","665f1a2b",false]}"#;

const MONERO_LOGIN: &str = r#"> login
    < {"id":ID,"jsonrpc":"2.0","error":null,"result":{"id":"s1","status":"OK","job":{"job_id":"12","blob":"BLOB","target":"b88d0600","height":3100000,"seed_hash":"1111111111111111111111111111111111111111111111111111111111111111"}}}"#;
