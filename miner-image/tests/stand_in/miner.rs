//! A miner that hashes nothing: its shares are made up, and it behaves as badly as engines do.

use std::fs;
use std::io;
use std::path::Path;
use std::process::exit;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::select;
use tokio::time::{Instant, sleep, sleep_until};

use crate::random::Random;

/// Protocol of the agent's port.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    StratumV1,
    Monero,
}

/// Mines at the agent's port, then ends the process or hangs. `starts` is a file with the number of
/// earlier starts: each has random numbers of its own.
pub(crate) async fn mine(pool: String, dialect: Dialect, seed: u64, starts: Option<&Path>) {
    let earlier = starts.and_then(|file| fs::read_to_string(file).ok());
    let earlier: u64 = earlier.and_then(|text| text.parse().ok()).unwrap_or(0);
    if let Some(file) = starts {
        fs::write(file, (earlier + 1).to_string()).expect("the file of starts");
    }
    let mut random = Random::new(seed, earlier << 8);
    let rigs: Vec<_> = (1..=1 + random.below(3))
        .map(|rig| {
            let (pool, random) = (pool.clone(), Random::new(seed, earlier << 8 | rig));
            tokio::spawn(work(pool, dialect, random))
        })
        .collect();
    sleep(random.between(20_000, 150_000)).await;
    match random.below(3) {
        0 => exit(0),
        1 => exit(3),
        _ => {
            println!("the stand-in hangs");
            // The connections stay open: a hung engine does not close them either.
            rigs.iter().for_each(tokio::task::JoinHandle::abort);
            std::future::pending::<()>().await;
        }
    }
}

async fn work(pool: String, dialect: Dialect, mut random: Random) {
    loop {
        if let Ok(stream) = TcpStream::connect(&pool).await {
            // Why a session ended does not matter: another follows.
            let _ = session(stream, dialect, &mut random).await;
        }
        sleep(random.between(100, 5_000)).await;
    }
}

async fn session(stream: TcpStream, dialect: Dialect, random: &mut Random) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let opening: &[u8] = match dialect {
        Dialect::StratumV1 => b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"stand-in\"]}\n{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"rig\",\"x\"]}\n",
        Dialect::Monero => b"{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"login\",\"params\":{\"login\":\"rig\"}}\n",
    };
    write.write_all(opening).await?;
    let longest = if random.chance(20) { 2_000 } else { 60_000 };
    let end = Instant::now() + random.between(200, longest);
    let mut next = Instant::now();
    let mut jobs: Vec<String> = vec![];
    let (mut extranonce2, mut id) = (4, 10);
    loop {
        let wanted = jobs.last().is_some_and(|job| !job.contains("quiet"));
        select! {
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let message: Value = serde_json::from_str(&line).unwrap_or_default();
                if message["id"] == 1 && dialect == Dialect::StratumV1 {
                    extranonce2 = message["result"][2].as_u64().unwrap_or(4) as usize;
                }
                let job = match dialect {
                    Dialect::StratumV1 if message["method"] == "mining.notify" => &message["params"][0],
                    Dialect::StratumV1 => &Value::Null,
                    Dialect::Monero if message["method"] == "job" => &message["params"]["job_id"],
                    Dialect::Monero => &message["result"]["job"]["job_id"],
                };
                jobs.extend(job.as_str().map(str::to_owned));
            }
            () = sleep_until(next), if wanted => {
                next = Instant::now() + random.between(200, 1_500);
                let shares = if random.chance(5) { 10 } else { 1 };
                for _ in 0..shares {
                    id += 1;
                    let job = match random.below(20) {
                        0 => "ffff-1",
                        1 => random.one_of(&jobs).as_str(),
                        _ => jobs.last().map_or("", String::as_str),
                    };
                    let (nonce, long) = (random.next() as u32, "ab".repeat(32));
                    let share = match dialect {
                        Dialect::StratumV1 => json!({"id": id, "method": "mining.submit", "params":
                            ["rig", job, "00".repeat(extranonce2), "665f1a2b", format!("{nonce:08x}")]}),
                        Dialect::Monero => json!({"id": id, "jsonrpc": "2.0", "method": "submit", "params":
                            {"id": "s", "job_id": job, "nonce": format!("{nonce:08x}"), "result": long}}),
                    };
                    write.write_all(format!("{share}\n").as_bytes()).await?;
                }
                match random.below(100) {
                    0..2 => write.write_all(b"{\"id\":7,\"method\":\"mining.unknown\",\"params\":[]}\n").await?,
                    2 => write.write_all(b"{\"id\":null,\"method\":\"mining.unknown\",\"params\":[]}\n").await?,
                    3 => write.write_all(b"garbage\n").await?,
                    // It reads nothing meanwhile.
                    4 => sleep(Duration::from_secs(8)).await,
                    _ => {}
                }
            }
            () = sleep_until(end) => {
                if random.chance(50) {
                    write.shutdown().await?;
                    while lines.next_line().await?.is_some() {}
                }
                return Ok(());
            }
        }
    }
}
