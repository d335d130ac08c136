//! A scripted engine that the tests run in place of a mining program. It exits after a minute, so that
//! no test can leave it behind.

mod miner;
#[path = "../agent/soak/random.rs"]
mod random;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use miner::Dialect;

/// Behaviour of the engine.
#[derive(Clone, Parser)]
struct Engine {
    /// Prints this line
    #[arg(long)]
    print: Vec<String>,
    /// Prints the content of this file
    #[arg(long)]
    print_file: Option<String>,
    /// Prints this number of long lines at once
    #[arg(long, default_value_t = 0)]
    flood: u32,
    /// Serves its figures on this loopback port
    #[arg(long)]
    figures: Option<u16>,
    /// Serves the content of this file instead of its figures
    #[arg(long)]
    answer: Option<String>,
    /// Reads the port for its figures from a file such as xmrig's, and prints that file
    #[arg(long)]
    config: Option<String>,
    /// Hangs without any figures, whatever the file says
    #[arg(long)]
    hang: Option<Hang>,
    /// Logs in at this pool as miners of Ethash do, submits one share, and prints the replies
    #[arg(long)]
    ethproxy: Option<String>,
    /// Closes the connection to the pool after this time, and logs in again, for ever
    #[arg(long)]
    again_after_ms: Option<u64>,
    /// Mines at this address, with made-up shares, for some minutes at most
    #[arg(long)]
    mine: Option<String>,
    /// Protocol of that address
    #[arg(long, default_value = "stratum-v1")]
    dialect: Dialect,
    /// Chooses how it misbehaves there
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Counts its starts in this file
    #[arg(long)]
    starts: Option<PathBuf>,
    /// Reports that it is not connected to a pool
    #[arg(long)]
    offline: bool,
    /// Starts to hash after this time
    #[arg(long, default_value_t = 0)]
    slow_start_ms: u64,
    /// Exits after this time
    #[arg(long)]
    end_after_ms: Option<u64>,
    /// Exit code of that
    #[arg(long, default_value_t = 0)]
    code: u8,
    /// Takes this time to exit on SIGTERM
    #[arg(long, default_value_t = 0)]
    slow_stop_ms: u64,
    /// Ignores SIGTERM
    #[arg(long)]
    stubborn: bool,
    /// Starts a child that ignores SIGTERM, in a process group of its own
    #[arg(long)]
    child: bool,
    /// Writes the child's process id into this file
    #[arg(long)]
    child_file: Option<String>,
}

/// When an engine hangs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Hang {
    /// After it has logged in at the file's first pool, in Monero's dialect.
    LoggedIn,
    /// Before it connects to any pool.
    Unconnected,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut engine = Engine::parse();
    if let Some(file) = &engine.config {
        let text = fs::read_to_string(file).expect("a configuration");
        let config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        engine.figures = config["http"]["port"].as_u64().and_then(|port| port.try_into().ok());
        if engine.hang == Some(Hang::LoggedIn) {
            let pool = config["pools"][0]["url"].as_str().expect("a pool").to_owned();
            tokio::spawn(log_in(pool, engine.again_after_ms));
        }
        if engine.hang.is_some() {
            engine.figures = None;
        }
        engine.print.push(text);
    }
    if let Some(pool) = engine.ethproxy.clone() {
        tokio::spawn(submit_by_ethproxy(pool));
    }
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    let mut hangup = signal(SignalKind::hangup()).expect("a signal handler");
    for line in &engine.print {
        println!("{line}");
    }
    if let Some(file) = &engine.print_file {
        println!("{}", fs::read_to_string(file).expect("a file to print"));
    }
    for _ in 0..engine.flood {
        println!("{}", "flood ".repeat(1000));
    }
    if engine.child {
        let this = std::env::current_exe().expect("the stand-in's own path");
        let child = Command::new(this).arg("--stubborn").process_group(0).spawn().expect("a child");
        if let Some(file) = &engine.child_file {
            fs::write(file, child.id().unwrap_or(0).to_string()).expect("the child's file");
        }
    }
    if let Some(port) = engine.figures {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        tokio::spawn(serve_figures(listener, engine.clone()));
    }
    if let Some(pool) = engine.mine.clone() {
        engine.end_after_ms = Some(600_000);
        let Engine { dialect, seed, starts, .. } = engine.clone();
        tokio::spawn(async move { miner::mine(pool, dialect, seed, starts.as_deref()).await });
    }
    println!("stand-in is up");
    let end = sleep(Duration::from_millis(engine.end_after_ms.unwrap_or(60_000)));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return ExitCode::from(engine.code),
            _ = hangup.recv() => println!("stand-in received SIGHUP"),
            _ = terminate.recv() => {
                println!("stand-in received SIGTERM");
                if engine.stubborn {
                    continue;
                }
                sleep(Duration::from_millis(engine.slow_stop_ms)).await;
                println!("stand-in ends");
                std::io::stdout().flush().expect("standard output");
                return ExitCode::SUCCESS;
            }
        }
    }
}

/// Logs in at a pool, once or again and again.
async fn log_in(pool: String, again_after_ms: Option<u64>) {
    loop {
        let mut stream = TcpStream::connect(&pool).await.expect("the agent's port");
        let login = r#"{"id":1,"jsonrpc":"2.0","method":"login","params":{"login":"rig"}}"#;
        let _ = stream.write_all(format!("{login}\n").as_bytes()).await;
        match again_after_ms {
            Some(time) => sleep(Duration::from_millis(time)).await,
            None => std::future::pending().await,
        }
    }
}

/// Submits a share for the first job, and stays connected.
async fn submit_by_ethproxy(pool: String) {
    let mut stream = BufReader::new(TcpStream::connect(&pool).await.expect("the agent's port"));
    let mut header = String::new();
    for (id, method, params) in [
        (1, "eth_submitLogin", json!(["rig", "x"])),
        (2, "eth_getWork", json!([])),
        (3, "eth_submitWork", json!(["0x0123456789abcdef", "HEADER", format!("0x{:064}", 0)])),
    ] {
        let request = json!({"id": id, "jsonrpc": "2.0", "method": method, "params": params});
        let request = format!("{request}\n").replace("HEADER", &header);
        stream.write_all(request.as_bytes()).await.expect("the agent's port");
        let mut reply = String::new();
        stream.read_line(&mut reply).await.expect("a reply");
        print!("{reply}");
        let reply: serde_json::Value = serde_json::from_str(&reply).expect("JSON");
        reply["result"][0].as_str().unwrap_or_default().clone_into(&mut header);
    }
    std::future::pending::<()>().await;
}

/// Serves figures that grow by a thousand hashes and one share every tenth of a second.
async fn serve_figures(listener: TcpListener, engine: Engine) {
    let slow = Duration::from_millis(engine.slow_start_ms);
    let began = Instant::now();
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let ticks = began.elapsed().saturating_sub(slow).as_millis() / 100;
        let rate = if ticks > 0 && !engine.offline { 10_000 } else { 0 };
        let counted = format!(
            r#"{{"hashrate":{rate},"hashes":{},"accepted":{ticks},"rejected":1,"connected":{}}}"#,
            ticks * 1000,
            !engine.offline
        );
        let recorded = engine.answer.as_ref().map(fs::read_to_string);
        let body = recorded.map_or(counted, |text| text.expect("an answer"));
        answer(&mut stream, &body).await;
    }
}

async fn answer(stream: &mut TcpStream, body: &str) {
    let mut request = [0; 1024];
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length";
    let answer = format!("{head}: {}\r\n\r\n{body}", body.len());
    // The client may have disconnected.
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(answer.as_bytes()).await;
}
